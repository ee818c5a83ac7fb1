//! What members send each other on their streams: raft's messages in etcd's two framings.
//!
//! ```text
//!  message stream   | u64 length | Message |  again and again
//!  append stream    | 0 |                                                        the link lives
//!  (msgappv2)       | 1 | u64 count | count x (u64 length | Entry) | u64 commit | goes on where the last append ended
//!                   | 2 | u64 length | Message |                                  an append of another place or term
//! ```
//! Numbers are big-endian. Both ends of an append stream remember term and index of the last append, so that one which goes
//! on there need not repeat them. A heartbeat of the link is a type byte on one stream, an empty `MsgHeartbeat` of nobody to
//! nobody on the other; the decoders pass over both.
//!
//! Invariants:
//! - a decoder never panics, and keeps no more than it was given: a length is a promise and allocates nothing;
//! - a message is handed out once it is whole, in the order of the stream, however the bytes were cut;
//! - after an error a decoder reads nothing more: where the next message begins is unknown.
//!
//! Whether a message makes sense is for [`crate::consensus`] to decide. Sans-io; `server` owns one decoder or encoder for each
//! stream. Tested at the foot of the files with runs of random messages, and by the fuzz target `peer`.
//!
//! Source: contract `storage.md` section 6.

mod append;
mod frame;
mod message;
#[cfg(test)]
mod testing;

use proto::raftpb;

pub use append::{AppendDecoder, AppendEncoder};
pub use message::{MessageDecoder, encode_link_heartbeat, encode_message};

/// Why a stream cannot be read any further. The other end is at fault; a new stream can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// One message is larger than this member takes.
    #[error("message of {size_bytes} bytes is larger than the limit of {limit_bytes}")]
    TooLarge { size_bytes: u64, limit_bytes: usize },
    /// Bytes that are no message.
    #[error("malformed message")]
    Malformed,
    /// An append of a kind that is not known.
    #[error("unknown type {0} of an append")]
    UnknownType(u8),
}

/// True for an append that may go by the append stream.
pub fn is_append(message: &raftpb::Message) -> bool {
    message.r#type == Some(raftpb::MessageType::MsgApp as i32)
}

/// True for the word that only says that the link lives.
pub fn is_link_heartbeat(message: &raftpb::Message) -> bool {
    message.r#type == Some(raftpb::MessageType::MsgHeartbeat as i32)
        && message.from.unwrap_or(0) == 0
        && message.to.unwrap_or(0) == 0
}
