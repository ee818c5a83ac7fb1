//! Compaction: logical at once, the freeing of memory in slices afterwards.
//!
//! ```text
//!   Compact(r) applied:  compact revision = r, sweep queued
//!   sweep, stage 1:      index, key by key: drops versions that nobody can read any more
//!   sweep, stage 2:      tail, position by position up to r: forgets pairs that the index dropped, hashing all of them
//!   done:                finishedCompactRev = r, hash remembered
//! ```
//!
//! The sweep changes nothing that a reader at or above the compact revision could see, so how far it got has no part
//! in the results of requests. Sweeps run in the order of their compactions, one at a time.

use std::collections::VecDeque;

use super::hash::KvHasher;
use super::pair::key_of;
use crate::index::Index;
use crate::tail::{Mutation, Tail, TailPosition};
use crate::types::Budget;

/// How many finished compactions' hashes are remembered, as in etcd.
const HASHES_MAX: usize = 10;

/// The hash of all pairs that a compaction passed over, to be compared between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionHash {
    pub hash: u32,
    /// Compact revision before this compaction.
    pub compact_revision: i64,
    /// Revision compacted to.
    pub revision: i64,
}

/// Compactions that are pending, and hashes of those that are done.
#[derive(Debug, Default)]
pub struct Compactor {
    pending: VecDeque<Sweep>,
    /// Ascending by revision.
    hashes: VecDeque<CompactionHash>,
    finished: Option<i64>,
}

impl Compactor {
    pub(super) fn schedule(&mut self, former: i64, revision: i64) {
        // A hash is worth remembering only if it covers all from the former compaction on.
        let remember = self.pending.is_empty();
        self.pending.push_back(Sweep {
            former,
            revision,
            remember,
            stage: Stage::default(),
        });
    }

    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The revision of the last compaction whose sweep is done.
    pub fn finished(&self) -> Option<i64> {
        self.finished
    }

    /// Hashes of the last finished compactions, oldest first.
    pub fn hashes(&self) -> impl DoubleEndedIterator<Item = &CompactionHash> {
        self.hashes.iter()
    }

    /// Does a slice; answers a revision when its sweep is done.
    pub(super) fn step(
        &mut self,
        index: &mut Index,
        tail: &mut Tail,
        budget: &mut Budget,
    ) -> Option<i64> {
        let sweep = self.pending.front_mut()?;
        let hash = sweep.step(index, tail, budget)?;
        let done = self.pending.pop_front()?;
        if done.remember {
            self.hashes.push_back(CompactionHash {
                hash,
                compact_revision: done.former,
                revision: done.revision,
            });
            if self.hashes.len() > HASHES_MAX {
                self.hashes.pop_front();
            }
        }
        self.finished = Some(done.revision);
        Some(done.revision)
    }
}

#[derive(Debug)]
struct Sweep {
    former: i64,
    revision: i64,
    remember: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Index {
        after: Option<Box<[u8]>>,
    },
    Tail {
        next: TailPosition,
        hasher: KvHasher,
    },
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Index { after: None }
    }
}

impl Sweep {
    /// Does a slice; gives the hash at the end.
    fn step(&mut self, index: &mut Index, tail: &mut Tail, budget: &mut Budget) -> Option<u32> {
        if let Stage::Index { after } = &mut self.stage {
            let limit = budget.left().max(1);
            let last = index.compact(after.as_deref(), self.revision, limit);
            budget.spend(limit.min(index.len() + 1));
            match last {
                Some(_) => *after = last,
                None => {
                    let next = TailPosition::default();
                    self.stage = Stage::Tail {
                        next,
                        hasher: KvHasher::new(),
                    };
                }
            }
            if budget.is_spent() {
                return None;
            }
        }
        self.sweep_tail(index, tail, budget)
    }

    fn sweep_tail(&mut self, index: &Index, tail: &mut Tail, budget: &mut Budget) -> Option<u32> {
        let Stage::Tail { next, hasher } = &mut self.stage else {
            return None;
        };
        while let Some((position, mutation)) = tail.next_from(*next) {
            *next = TailPosition(position.0 + 1);
            budget.spend(1);
            if let Mutation::Pair {
                revision,
                tombstone,
                pair,
            } = mutation
            {
                if revision.main > self.revision {
                    break;
                }
                let keep = index.holds(&key_of(pair), *revision);
                // etcd counts all that it passes over above the former compaction, and below it what is kept.
                if keep || revision.main > self.former {
                    hasher.write(*revision, *tombstone, pair);
                }
                if !keep {
                    tail.forget(position);
                }
            }
            if budget.is_spent() {
                return None;
            }
        }
        Some(hasher.finish())
    }
}
