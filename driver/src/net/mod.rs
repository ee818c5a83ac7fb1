//! Sockets: listeners and connected streams, of TCP and in the file system.

mod handoff;
mod listener;
mod stream;
mod unix;

pub use handoff::DetachedStream;
pub use listener::{ListenOptions, Listener};
pub use stream::Stream;
pub use unix::UnixListener;
