//! HTTP/2 (RFC 9113) as a state machine, for servers and clients.
//!
//! ```text
//!  bytes in                     Connection<X>                                 bytes out
//!  poll_input(&mut &[u8]) --> frames --> Event (Head, Data, Reset, …)
//!                               |  settings, windows, pings answer themselves
//!                send_head, send_data, send_end, reset --> queues of streams --> poll_transmit
//! ```
//!
//! - `input` cuts bytes into frames. DATA is passed on in the pieces in which it arrives and never gathered here, other
//!   frames are at most 16 KiB. `requests` joins header blocks, `head` decodes and checks them, `flow` counts windows,
//!   `room` opens ours, `streams` finds streams, `output` shares the connection among them.
//! - A layer above keeps what it needs for each stream in the stream (`X`), so there is one table.
//! - Where RFC 9113 dropped rules of RFC 7540 that peers still test (a stream that depends on itself), the old rule is
//!   kept. Priorities are otherwise read and ignored, as RFC 9113 §5.3.2 asks.
//! - Whatever a peer sends, the connection stays in a defined state: a fault ends a stream (RST_STREAM) or the
//!   connection (GOAWAY), and everything a peer can make us keep has a bound in [`crate::Limits`].
//!
//! Tested by scripts of frames at the foot of the files, by `ServerConnection` and `ClientConnection` talking to each
//! other through arbitrary cuts, by the h2 crate as a foreign client, and by h2spec.

mod closed;
pub(crate) mod connection;
mod flow;
mod frame;
mod head;
mod input;
mod output;
mod requests;
mod room;
mod settings;
mod stream;
mod streams;

pub(crate) use connection::{Connection, Event, Role};
pub use frame::ErrorCode;
pub(crate) use frame::PREFACE;
pub(crate) use head::Head;
pub(crate) use stream::{FixedFields, Key};
