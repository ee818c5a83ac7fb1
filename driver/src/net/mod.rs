//! TCP: listeners and connected streams.

mod handoff;
mod listener;
mod stream;

pub use handoff::DetachedStream;
pub use listener::{ListenOptions, Listener};
pub use stream::Stream;
