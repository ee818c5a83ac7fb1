//! Held revisions: how many readers and one sweeper agree on which old versions must stay.
//!
//! ```text
//!   reader, hold:     slot = revision;  fence;  is compacted <= revision?  else slot = free, too late
//!   reader, release:  slot = free
//!   writer, compact:  compacted = r;  fence;  sweep what no read at r or at a held revision needs
//! ```
//!
//! Why that is enough: either the writer's look at the slots sees the hold, or the fences say that the reader's look at
//! `compacted` comes after the writer's store, and the reader gives up. A hold at or above the compact revision that the
//! sweep works for needs nothing: such reads are what a sweep keeps anyway.
//!
//! Nothing here knows what a revision is good for. No locks, no unsafe code; a model test (`tests/holds_model.rs`)
//! compiles this very file with shuttle's atomics.

use super::sync::{AtomicU64, Ordering, fence};

/// A slot that holds nothing.
const FREE: u64 = u64::MAX;

/// The words that writer and readers share.
#[derive(Debug)]
pub(super) struct Holds {
    /// Reads below it are refused.
    compacted: AtomicU64,
    slots: Box<[AtomicU64]>,
}

/// A place in the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HoldNo(usize);

impl Holds {
    /// At most `holds_max` holds at a time.
    pub(super) fn new(holds_max: usize) -> Self {
        Holds {
            compacted: AtomicU64::new(0),
            slots: (0..holds_max).map(|_| AtomicU64::new(FREE)).collect(),
        }
    }

    /// Holds a revision; `None` if it is compacted, or if all places are taken.
    pub(super) fn hold(&self, revision: u64) -> Option<HoldNo> {
        let taken = self.slots.iter().position(|slot| {
            slot.load(Ordering::Relaxed) == FREE
                && slot
                    .compare_exchange(FREE, revision, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok()
        })?;
        fence(Ordering::SeqCst);
        if self.compacted.load(Ordering::SeqCst) > revision {
            self.release(&HoldNo(taken));
            return None;
        }
        Some(HoldNo(taken))
    }

    /// What was held is not read any more.
    pub(super) fn release(&self, hold: &HoldNo) {
        self.slots[hold.0].store(FREE, Ordering::Release);
    }

    /// The writer's: reads below `revision` are refused from now on.
    pub(super) fn on_compacted(&self, revision: u64) {
        self.compacted.store(revision, Ordering::SeqCst);
    }

    /// The writer's: the revisions held below `revision`, which [`Holds::on_compacted`] told before; ascending.
    pub(super) fn held_below(&self, revision: u64) -> Vec<i64> {
        fence(Ordering::SeqCst);
        let held = self.slots.iter().map(|slot| slot.load(Ordering::SeqCst));
        let mut held: Vec<i64> = held
            .filter(|held| *held < revision)
            .filter_map(|held| i64::try_from(held).ok())
            .collect();
        held.sort_unstable();
        held.dedup();
        held
    }
}
