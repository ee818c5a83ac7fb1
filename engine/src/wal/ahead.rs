//! Work ahead of need: the next segment's space and zeros.
//!
//! ```text
//! Absent -- Claim --> Claiming --> Ready: Zero pieces, then one Sync --> taken by a cut
//!   ^                     | failed     | failed: Discard
//!   `---- retry ------ Refused <-------'
//! ```
//! Claimed space reads as zeros already. Zeroing it by real writes only makes the later overwrite
//! cheap, so a segment may be taken before that is finished, once a lead is zeroed; the rest is
//! zeroed in front of the writer, no nearer than the lead, so that groups do not wait for it.

use super::io::{BLOCK_BYTES, FileNo, WalFile, WalOp};
use super::writer::WalOptions;
use std::ops::Range;

/// Ticks between two attempts to claim space. At etcd's usual tick of 100 ms: one second.
const CLAIM_RETRY_TICKS: u32 = 10;

/// A claimed file, not yet part of the log.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) file: FileNo,
    pub(super) name: WalFile,
    pub(super) len: u64,
    /// Not yet overwritten with zeros.
    pub(super) unzeroed: Range<u64>,
    is_synced: bool,
}

#[derive(Debug, Default)]
enum Next {
    #[default]
    Absent,
    Claiming(Claimed),
    Ready(Claimed),
    /// There was no space. Counts down to the next attempt.
    Refused {
        ticks_left: u32,
    },
}

/// Keeps one segment claimed ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    next: Next,
    /// One operation on `next` is under way.
    is_busy: bool,
    /// The last attempt to claim failed, and none has succeeded since.
    is_refused: bool,
    /// How many segments were taken so far: they are `0.tmp` and `1.tmp` in turn, since the one
    /// taken last may not yet be renamed.
    taken_count: u64,
    /// A file given up, to be removed.
    discarded: Option<(FileNo, WalFile)>,
}

impl Ahead {
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// The next operation. With `is_urgent` a group waits for the segment: no more zeroing then.
    pub(super) fn poll(
        &mut self,
        options: &WalOptions,
        is_urgent: bool,
        new_file: impl FnOnce() -> FileNo,
    ) -> Option<WalOp> {
        if self.is_busy {
            return None;
        }
        if let Some((file, name)) = self.discarded.take() {
            self.is_busy = true;
            return Some(WalOp::Discard { file, name });
        }
        let op = match &mut self.next {
            Next::Absent => self.claim(options, new_file()),
            Next::Ready(claimed) if !(is_urgent && claimed.is_usable(options)) => {
                claimed.poll(options)?
            }
            Next::Ready(_) | Next::Claiming(_) | Next::Refused { .. } => return None,
        };
        self.is_busy = true;
        Some(op)
    }

    fn claim(&mut self, options: &WalOptions, file: FileNo) -> WalOp {
        let name = WalFile::Next((self.taken_count % 2) as u8);
        let len = options.segment_bytes;
        self.next = Next::Claiming(Claimed {
            file,
            name,
            len,
            unzeroed: 0..len,
            is_synced: false,
        });
        WalOp::Claim { file, name, len }
    }

    /// Input: the operation that `poll` gave has ended.
    pub(super) fn on_done(&mut self, is_ok: bool) {
        assert!(self.is_busy, "an end without an operation");
        self.is_busy = false;
        let next = std::mem::take(&mut self.next);
        self.next = match (next, is_ok) {
            (Next::Claiming(claimed), true) => {
                self.is_refused = false;
                Next::Ready(claimed)
            }
            // Also when zeroing failed: the file is not part of the log, so nothing is lost.
            (Next::Claiming(claimed) | Next::Ready(claimed), false) => self.refuse(claimed),
            (unchanged, _) => unchanged,
        };
    }

    fn refuse(&mut self, claimed: Claimed) -> Next {
        self.is_refused = true;
        self.discarded = Some((claimed.file, claimed.name));
        Next::Refused {
            ticks_left: CLAIM_RETRY_TICKS,
        }
    }

    pub(super) fn on_tick(&mut self) {
        if let Next::Refused { ticks_left } = &mut self.next {
            *ticks_left -= 1;
            if *ticks_left == 0 {
                self.next = Next::Absent;
            }
        }
    }

    /// Tries again now.
    pub(super) fn retry(&mut self) {
        if matches!(self.next, Next::Refused { .. }) {
            self.next = Next::Absent;
        }
    }

    /// Takes the claimed segment, unless it is not yet usable or an operation on it is under way.
    pub(super) fn take(&mut self, options: &WalOptions) -> Option<Claimed> {
        match &self.next {
            Next::Ready(claimed) if !self.is_busy && claimed.is_usable(options) => {
                let claimed = claimed.clone();
                self.next = Next::Absent;
                self.taken_count += 1;
                Some(claimed)
            }
            _ => None,
        }
    }
}

impl Claimed {
    fn is_usable(&self, options: &WalOptions) -> bool {
        self.unzeroed.is_empty() || self.unzeroed.start >= options.zero_lead_bytes
    }

    fn poll(&mut self, options: &WalOptions) -> Option<WalOp> {
        if let Some(op) = take_zero_piece(self.file, &mut self.unzeroed, options) {
            return Some(op);
        }
        if self.is_synced {
            return None;
        }
        self.is_synced = true;
        Some(WalOp::Sync { file: self.file })
    }
}

/// Cuts the next piece off the front of `unzeroed`, which is whole blocks.
pub(super) fn take_zero_piece(
    file: FileNo,
    unzeroed: &mut Range<u64>,
    options: &WalOptions,
) -> Option<WalOp> {
    if unzeroed.is_empty() {
        return None;
    }
    let offset = unzeroed.start;
    assert!(
        offset.is_multiple_of(BLOCK_BYTES),
        "unaligned zeros at {offset}"
    );
    let len = options.zero_piece_bytes.min(unzeroed.end - offset);
    unzeroed.start += len;
    Some(WalOp::Zero { file, offset, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> WalOptions {
        WalOptions {
            segment_bytes: 8192,
            zero_piece_bytes: 4096,
            ..WalOptions::default()
        }
    }

    fn poll(ahead: &mut Ahead) -> Option<WalOp> {
        ahead.poll(&options(), false, || FileNo(7))
    }

    #[test]
    fn a_segment_is_claimed_zeroed_and_synced() {
        let mut ahead = Ahead::default();
        let mut ops = Vec::new();
        while let Some(op) = poll(&mut ahead) {
            assert!(poll(&mut ahead).is_none(), "one at a time");
            assert!(ahead.take(&options()).is_none(), "not while busy");
            ahead.on_done(true);
            ops.push(op);
        }
        let file = FileNo(7);
        let len = 4096;
        assert_eq!(
            ops,
            [
                WalOp::Claim {
                    file,
                    name: WalFile::Next(0),
                    len: 2 * len
                },
                WalOp::Zero {
                    file,
                    offset: 0,
                    len
                },
                WalOp::Zero {
                    file,
                    offset: len,
                    len
                },
                WalOp::Sync { file },
            ]
        );
        assert!(ahead.take(&options()).is_some());
        assert!(ahead.take(&options()).is_none());
    }

    #[test]
    fn a_refused_claim_is_removed_and_tried_again_later() {
        let mut ahead = Ahead::default();
        for failing_op in 0..3 {
            for op_no in 0..=failing_op {
                assert!(poll(&mut ahead).is_some());
                ahead.on_done(op_no < failing_op);
            }
            assert!(ahead.is_refused());
            assert!(matches!(poll(&mut ahead), Some(WalOp::Discard { .. })));
            ahead.on_done(true);
            assert!(poll(&mut ahead).is_none());
            for _ in 0..CLAIM_RETRY_TICKS {
                assert!(poll(&mut ahead).is_none());
                ahead.on_tick();
            }
        }
        assert!(poll(&mut ahead).is_some());
        ahead.on_done(true);
        assert!(!ahead.is_refused());
    }
}
