//! TCP: listeners and connected streams.

mod listener;
mod stream;

pub use listener::{ListenOptions, Listener};
pub use stream::Stream;
