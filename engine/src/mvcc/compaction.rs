//! Compaction: logical at once, the freeing of memory in slices afterwards.
//!
//! ```text
//!   Compact(r) applied:  compact revision = r, sweep queued
//!   sweep, stage 1:      index, key by key: drops versions that nobody can read any more, held revisions included
//!   sweep, stage 2:      waits until no pinned state reaches what stage 1 dropped
//!   sweep, stage 3:      tail, position by position up to r: forgets pairs that the index dropped, hashing all of them
//!   done:                finishedCompactRev = r, hash remembered
//! ```
//!
//! The sweep changes nothing that a reader at or above the compact revision could see, so how far it got has no part
//! in the results of requests, nor has what holds kept. Sweeps run in the order of their compactions, one at a time.
//! What a hold kept goes with the next compaction's sweep.

use std::collections::VecDeque;

use super::hash::KvHasher;
use super::hold::HoldTable;
use super::pair::key_of;
use crate::index::Index;
use crate::tail::{Mutation, Tail, TailPosition};
use crate::types::{Budget, Revision};

/// How many finished compactions' hashes are remembered, as in etcd.
const HASHES_MAX: usize = 10;

/// What thinning out a chunk of the tail counts for.
const FORGET_COST: usize = 64;

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

    /// True if a slice would do something now.
    pub(super) fn can_step(&self, index: &Index) -> bool {
        let sweep = self.pending.front();
        sweep.is_some_and(|sweep| sweep.stage.can_go_on(index))
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
        holds: &HoldTable,
        budget: &mut Budget,
    ) -> Option<i64> {
        let sweep = self.pending.front_mut()?;
        let hash = sweep.step(index, tail, holds, budget)?;
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
    /// The index is swept; the states before that are to be left by their readers first.
    Leaving {
        /// The version that the swept index is published as.
        version: u64,
    },
    Tail(TailSweep),
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Index { after: None }
    }
}

impl Stage {
    fn can_go_on(&self, index: &Index) -> bool {
        match self {
            Stage::Leaving { version } => index.is_out_of_reach(*version),
            Stage::Index { .. } | Stage::Tail(_) => true,
        }
    }
}

impl Sweep {
    /// Does a slice; gives the hash at the end.
    fn step(
        &mut self,
        index: &mut Index,
        tail: &mut Tail,
        holds: &HoldTable,
        budget: &mut Budget,
    ) -> Option<u32> {
        match &mut self.stage {
            Stage::Index { after } => {
                let limit = budget.left().max(1);
                let held = holds.held_below(self.revision);
                let last = index.compact(after.as_deref(), self.revision, &held, limit);
                budget.spend(limit.min(index.len() + 1));
                match last {
                    Some(_) => *after = last,
                    None => {
                        let version = index.next_version();
                        self.stage = Stage::Leaving { version };
                    }
                }
                None
            }
            Stage::Leaving { version } => {
                if index.is_out_of_reach(*version) {
                    self.stage = Stage::Tail(TailSweep::new(self.former, self.revision));
                }
                None
            }
            Stage::Tail(sweep) => sweep.step(index, tail, budget),
        }
    }
}

/// The last stage: tail and hash.
#[derive(Debug)]
struct TailSweep {
    former: i64,
    revision: i64,
    next: TailPosition,
    /// Positions of the chunk in progress that nobody reads any more.
    dead: Vec<TailPosition>,
    hasher: KvHasher,
}

impl TailSweep {
    fn new(former: i64, revision: i64) -> Self {
        TailSweep {
            former,
            revision,
            next: TailPosition::default(),
            dead: Vec::new(),
            hasher: KvHasher::new(),
        }
    }

    /// Does a slice; gives the hash at the end.
    fn step(&mut self, index: &Index, tail: &mut Tail, budget: &mut Budget) -> Option<u32> {
        while let Some((position, mutation)) = tail.view().next_from(self.next) {
            self.next = TailPosition(position.0 + 1);
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
                let key = key_of(pair);
                let is_there = index.holds(&key, *revision);
                if revision.main > self.former
                    || (is_there && self.keeps(index, &key, *revision, *tombstone))
                {
                    self.hasher.write(*revision, *tombstone, pair);
                }
                if !is_there {
                    self.on_dead(position, tail, budget);
                }
            }
            if budget.is_spent() {
                return None;
            }
        }
        self.forget(tail, budget);
        Some(self.hasher.finish())
    }

    /// True if the compaction by itself would keep the version: no hold may be seen in the hash. Of what is there above
    /// the former compaction etcd counts all that it passes over, below it what is kept.
    fn keeps(&self, index: &Index, key: &[u8], revision: Revision, tombstone: bool) -> bool {
        let newest = index.get(key, self.revision);
        let is_newest = newest.is_some_and(|newest| newest.revision == revision);
        is_newest && !(tombstone && revision.main < self.revision)
    }

    fn on_dead(&mut self, position: TailPosition, tail: &mut Tail, budget: &mut Budget) {
        let first = self.dead.first().copied();
        if first.is_some_and(|first| !Tail::share_chunk(first, position)) {
            self.forget(tail, budget);
        }
        self.dead.push(position);
    }

    fn forget(&mut self, tail: &mut Tail, budget: &mut Budget) {
        if !self.dead.is_empty() {
            tail.forget(&self.dead);
            self.dead.clear();
            budget.spend(FORGET_COST);
        }
    }
}
