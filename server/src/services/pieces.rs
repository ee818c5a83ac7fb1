//! A message of pairs, handed to a connection in pieces of a sensible size.

use bytes::Bytes;

use super::respond;
use crate::shard::{Gone, StreamReply};

/// Small fields gather into pieces of about this length.
const PIECE_LEN: usize = 32 * 1024;
/// A pair of this length or more is a piece of its own and not copied.
const OWN_PIECE_LEN_MIN: usize = 8 * 1024;

/// One message in the making.
pub(super) struct Pieces<'a> {
    out: &'a StreamReply,
    gathered: Vec<u8>,
}

impl<'a> Pieces<'a> {
    /// Begins a message of `len` bytes.
    pub(super) fn start(out: &'a StreamReply, len: usize) -> Result<Self, Gone> {
        out.start_message(len)?;
        Ok(Pieces {
            out,
            gathered: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.gathered.capacity() == 0 {
            self.gathered.reserve_exact(PIECE_LEN + OWN_PIECE_LEN_MIN);
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() < PIECE_LEN {
            return Ok(());
        }
        self.flush()
    }

    /// Adds one `kvs` field of a `RangeResponse`.
    pub(super) fn push_pair(&mut self, pair: &Bytes) -> Result<(), Gone> {
        let (prefix, prefix_len) = respond::pair_prefix(pair.len());
        self.push(&prefix[..prefix_len])?;
        if pair.len() < OWN_PIECE_LEN_MIN {
            return self.push(pair);
        }
        self.flush()?;
        self.out.push(pair.clone())
    }

    /// Hands over what has gathered.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        self.out.push(std::mem::take(&mut self.gathered).into())
    }
}
