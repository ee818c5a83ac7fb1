//! A defragmentation: what lies far behind in the file is moved to the front by ordinary checkpoints, then the file is cut.
//!
//! ```text
//!   passes over all trees, in slices between checkpoints; each checkpoint has what they found rewritten: some high leaves;
//!             new pages are the lowest that are free
//!   draining: checkpoints without moves, until what left the trees is free and no meta page leads to it; each cuts the file
//! ```
//!
//! So nobody waits, no second file is needed, and a crash leaves a checkpoint as at any other time. Readers of older states
//! keep their pages, and with them the file's end; what they hold back is cut the next time.

use std::collections::VecDeque;

use super::Damage;
use super::ahead::{Ahead, Reach};
use crate::store::{BUCKETS, HighPages, Store};
use crate::tail::Bucket;
use crate::types::Budget;

/// Leaves that one checkpoint moves: its pages wait in memory to be written, some ten megabytes.
const MOVED_COUNT_MAX: usize = 2000;
/// Passes over all trees. What one pass moves leaves room for the next one; more is no use.
const PASSES_MAX: usize = 3;
/// Checkpoints until no meta page leads to what the last pass has moved, and one more that cuts the file.
const DRAINING_CHECKPOINTS: usize = 4;

/// Keys whose leaves are to be rewritten, ascending within a bucket.
pub(super) type Moves = VecDeque<(Bucket, Vec<u8>)>;

#[derive(Debug, Default)]
pub(super) struct Mover {
    /// Position in [`BUCKETS`].
    bucket: usize,
    /// All before this key was looked at there.
    from: Vec<u8>,
    passes: usize,
    /// This pass has found something.
    has_moved: bool,
    /// For the next checkpoint.
    moves: Moves,
    /// The end of a pass: what it found is moved before the next one looks.
    is_pass_over: bool,
    /// Checkpoints without moves so far.
    drained: usize,
}

impl Mover {
    /// Does a slice of looking for what the next checkpoint is to move, until [`Mover::is_ready`] or while `ahead` loads.
    ///
    /// # Errors
    /// [`Damage`] of the file.
    pub(super) fn search(
        &mut self,
        store: &Store,
        ahead: &mut Ahead,
        budget: &mut Budget,
    ) -> Result<(), Damage> {
        while !self.is_ready() && !budget.is_spent() {
            let Some(&bucket) = BUCKETS.get(self.bucket) else {
                self.end_pass();
                continue;
            };
            budget.spend(1);
            let room = MOVED_COUNT_MAX - self.moves.len();
            // Of the branches above leaves; leaves are not read.
            let Reach::Until(until) = ahead.reach(store, bucket, 1, &self.from)? else {
                return Ok(());
            };
            let (from, until) = (&self.from, until.as_deref());
            let HighPages { keys, rest } = store.high_pages(bucket, from, until, room, budget)?;
            self.has_moved |= !keys.is_empty();
            self.moves.extend(keys.into_iter().map(|key| (bucket, key)));
            self.bucket += usize::from(rest.is_none());
            self.from = rest.unwrap_or_default();
        }
        Ok(())
    }

    /// A checkpoint is wanted: there is enough to move, or nothing more.
    pub(super) fn is_ready(&self) -> bool {
        self.is_pass_over || self.passes >= PASSES_MAX || self.moves.len() >= MOVED_COUNT_MAX
    }

    /// What the checkpoint that begins is to move.
    pub(super) fn take(&mut self) -> Moves {
        let moves = std::mem::take(&mut self.moves);
        self.is_pass_over = false;
        if moves.is_empty() && self.passes >= PASSES_MAX {
            self.drained += 1;
        }
        moves
    }

    fn end_pass(&mut self) {
        self.bucket = 0;
        self.passes += 1;
        self.is_pass_over = !self.moves.is_empty();
        if !std::mem::take(&mut self.has_moved) {
            self.passes = PASSES_MAX;
        }
    }

    /// The last checkpoint that was asked for has ended it.
    pub(super) fn is_done(&self) -> bool {
        self.drained >= DRAINING_CHECKPOINTS
    }
}
