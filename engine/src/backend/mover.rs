//! A defragmentation: what lies far behind in the file is moved to the front by ordinary checkpoints, then the file is cut.
//!
//! ```text
//!   passes over all trees: each checkpoint has some high leaves rewritten; new pages are the lowest that are free
//!   draining: checkpoints without moves, until what left the trees is free and no meta page leads to it; each cuts the file
//! ```
//!
//! So nobody waits, no second file is needed, and a crash leaves a checkpoint as at any other time. Readers of older states
//! keep their pages, and with them the file's end; what they hold back is cut the next time.

use std::collections::VecDeque;

use super::Damage;
use crate::store::{BUCKETS, Store};
use crate::tail::Bucket;

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
    /// The last key that was looked at there.
    after: Vec<u8>,
    passes: usize,
    has_moved: bool,
    /// Checkpoints without moves so far.
    drained: usize,
}

impl Mover {
    /// What the checkpoint that begins is to move.
    ///
    /// # Errors
    /// [`Damage`] of the file.
    pub(super) fn next(&mut self, store: &Store) -> Result<Moves, Damage> {
        let mut moves = Moves::new();
        while self.passes < PASSES_MAX {
            let Some(&bucket) = BUCKETS.get(self.bucket) else {
                self.end_pass();
                if moves.is_empty() {
                    continue;
                }
                break;
            };
            let room = MOVED_COUNT_MAX - moves.len();
            let keys = store.high_pages(bucket, &self.after, room)?;
            let is_full = keys.len() == room;
            if let Some(last) = keys.last() {
                self.has_moved = true;
                self.after.clone_from(last);
            }
            moves.extend(keys.into_iter().map(|key| (bucket, key)));
            if is_full {
                break;
            }
            self.bucket += 1;
            self.after.clear();
        }
        if moves.is_empty() {
            self.drained += 1;
        }
        Ok(moves)
    }

    fn end_pass(&mut self) {
        self.bucket = 0;
        self.passes += 1;
        if !std::mem::take(&mut self.has_moved) {
            self.passes = PASSES_MAX;
        }
    }

    /// The last checkpoint that was asked for has ended it.
    pub(super) fn is_done(&self) -> bool {
        self.drained >= DRAINING_CHECKPOINTS
    }
}
