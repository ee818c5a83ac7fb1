//! The last streams that were closed, and how: it decides what a late frame means (RFC 9113 §5.1, "closed").

use std::collections::VecDeque;

/// Enough for everything one round trip can carry to a stream after it was closed, if streams are small; for the rest
/// the answer is a harmless RST_STREAM.
const REMEMBERED_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Both sides sent END_STREAM: nothing may follow.
    Ended,
    /// We sent RST_STREAM: the peer may not know yet, so what follows is ignored.
    ResetByUs,
    /// The peer sent RST_STREAM: nothing may follow.
    ResetByPeer,
}

#[derive(Debug, Default)]
pub(super) struct Closed(VecDeque<(u32, How)>);

impl Closed {
    pub(super) fn push(&mut self, id: u32, how: How) {
        if self.0.len() == REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, how));
    }

    /// `None`: too long ago, or the id was skipped.
    pub(super) fn how(&self, id: u32) -> Option<How> {
        let found = self.0.iter().rev().find(|(closed, _)| *closed == id);
        found.map(|(_, how)| *how)
    }
}
