//! Compaction: logical at once, the freeing of space in slices afterwards.
//!
//! ```text
//!   Compact(r) applied:  compact revision = r, sweep queued
//!   sweep, stage 1:      index, key by key: drops versions that nobody can read any more, held revisions included
//!   sweep, stage 2:      waits until a checkpoint has brought everything up to r into the store
//!   sweep, stage 3:      store, pair by pair up to r, a stretch in each commit: deletes what the index dropped, hashing
//!                        all of them
//!   done:                with the commit of the last deletions: finishedCompactRev = r, hash remembered
//! ```
//!
//! The sweep changes nothing that a reader at or above the compact revision could see, so how far it got has no part
//! in the results of requests, nor has what holds kept. Sweeps run in the order of their compactions, one at a time.
//! What a hold kept goes with the next compaction's sweep. Readers that pinned a state from before the sweep read a
//! store from before it, so nobody waits for them.
//!
//! After a crash the sweep begins again; what it deleted before is missing in its hash, which is not remembered then.

use std::collections::VecDeque;

use super::hash::KvHasher;
use super::hold::HoldTable;
use super::pair;
use crate::backend::{Ahead, Damage, Reach, revision_of};
use crate::index::Index;
use crate::store::{Store, TreeReader};
use crate::tail::Bucket;
use crate::types::{BucketKey, Budget, Revision};

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
    /// That of a store whose last finished compaction is known.
    pub(crate) fn restored(finished: Option<i64>) -> Self {
        Compactor {
            finished,
            ..Compactor::default()
        }
    }

    pub(super) fn schedule(&mut self, former: i64, revision: i64) {
        // A hash is worth remembering only if it covers all from the former compaction on.
        let remember = self.pending.is_empty();
        self.push(former, revision, remember);
    }

    /// Takes up a compaction that an earlier run of this member had not finished.
    pub(crate) fn resume(&mut self, former: i64, revision: i64) {
        self.push(former, revision, false);
    }

    fn push(&mut self, former: i64, revision: i64, remember: bool) {
        self.pending.push_back(Sweep {
            revision,
            remember,
            stage: Stage::Index { after: None },
            store: StoreSweep::new(former, revision),
        });
    }

    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// True if the index is yet to be swept.
    pub(crate) fn is_in_index(&self) -> bool {
        let sweep = self.pending.front();
        sweep.is_some_and(|sweep| matches!(sweep.stage, Stage::Index { .. }))
    }

    /// The revision of the compaction whose index is swept and whose store is next.
    pub(crate) fn wants_store(&self) -> Option<i64> {
        let sweep = self.pending.front()?;
        matches!(sweep.stage, Stage::Store).then_some(sweep.revision)
    }

    /// The sweep of the store that is due.
    pub(crate) fn store_sweep(&mut self) -> Option<&mut StoreSweep> {
        let sweep = self.pending.front_mut()?;
        matches!(sweep.stage, Stage::Store).then_some(&mut sweep.store)
    }

    /// The revision of the last compaction whose sweep is done.
    pub fn finished(&self) -> Option<i64> {
        self.finished
    }

    /// Hashes of the last finished compactions, oldest first.
    pub fn hashes(&self) -> impl DoubleEndedIterator<Item = &CompactionHash> {
        self.hashes.iter()
    }

    /// Does a slice of the index's sweep.
    pub(super) fn sweep_index(
        &mut self,
        index: &mut Index,
        holds: &HoldTable,
        budget: &mut Budget,
    ) {
        let Some(sweep) = self.pending.front_mut() else {
            return;
        };
        let Stage::Index { after } = &mut sweep.stage else {
            return;
        };
        let limit = budget.left().max(1);
        let held = holds.held_below(sweep.revision);
        let last = index.compact(after.as_deref(), sweep.revision, &held, limit);
        budget.spend(limit.min(index.len() + 1));
        match last {
            Some(_) => *after = last,
            None => sweep.stage = Stage::Store,
        }
    }

    /// The commit with the last deletions of the sweep in progress is durable.
    pub(crate) fn on_swept(&mut self) {
        let Some(done) = self.pending.pop_front() else {
            return;
        };
        if done.remember {
            self.hashes.push_back(CompactionHash {
                hash: done.store.hasher.finish(),
                compact_revision: done.store.former,
                revision: done.revision,
            });
            if self.hashes.len() > HASHES_MAX {
                self.hashes.pop_front();
            }
        }
        self.finished = Some(done.revision);
    }
}

#[derive(Debug)]
struct Sweep {
    revision: i64,
    remember: bool,
    stage: Stage,
    store: StoreSweep,
}

#[derive(Debug)]
enum Stage {
    Index { after: Option<Box<[u8]>> },
    Store,
}

/// The last stage: store and hash. It goes on from commit to commit.
#[derive(Debug)]
pub(crate) struct StoreSweep {
    former: i64,
    revision: i64,
    /// Where to go on.
    next: BucketKey,
    hasher: KvHasher,
}

/// What became of a slice of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swept {
    Some,
    /// Goes on when pages were loaded.
    Waits,
    /// All up to the revision were looked at.
    All,
}

impl StoreSweep {
    fn new(former: i64, revision: i64) -> Self {
        StoreSweep {
            former,
            revision,
            next: Revision::default().to_bucket_key(false),
            hasher: KvHasher::new(),
        }
    }

    /// The revision compacted to.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Deletes, in the commit that is open and while the budget lasts, what nobody reads.
    ///
    /// # Errors
    /// [`Damage`] of the file.
    pub(crate) fn step(
        &mut self,
        index: &Index,
        store: &mut Store,
        ahead: &mut Ahead,
        budget: &mut Budget,
    ) -> Result<Swept, Damage> {
        let first = self.next;
        let Reach::Until(until) = ahead.reach(store, Bucket::Key, 0, first.as_bytes())? else {
            return Ok(Swept::Waits);
        };
        let pages = std::sync::Arc::clone(store.pages());
        let tree = TreeReader::new(&*pages, store.page_size(), store.tree(Bucket::Key));
        let mut cursor = tree.seek(first.as_bytes())?;
        while let Some((stored_key, pair)) = cursor.next()? {
            let (revision, tombstone) = revision_of(stored_key)?;
            if revision.main > self.revision {
                return Ok(Swept::All);
            }
            if until.as_deref().is_some_and(|until| until <= stored_key) {
                self.next = revision.to_bucket_key(tombstone);
                return Ok(Swept::Some);
            }
            budget.spend(1);
            let key = pair::key_in(pair).unwrap_or_default();
            let is_there = index.holds(key, revision);
            if revision.main > self.former
                || (is_there && self.keeps(index, key, revision, tombstone))
            {
                self.hasher.write(revision, tombstone, pair);
            }
            if !is_there {
                store.delete(Bucket::Key, stored_key)?;
            }
            self.next = Revision::new(revision.main, revision.sub + 1).to_bucket_key(false);
            if budget.is_spent() {
                return Ok(Swept::Some);
            }
        }
        Ok(Swept::All)
    }

    /// True if the compaction by itself would keep the version: no hold may be seen in the hash. Of what is there above
    /// the former compaction etcd counts all that it passes over, below it what is kept.
    fn keeps(&self, index: &Index, key: &[u8], revision: Revision, tombstone: bool) -> bool {
        let newest = index.get(key, self.revision);
        let is_newest = newest.is_some_and(|newest| newest.revision == revision);
        is_newest && !(tombstone && revision.main < self.revision)
    }
}
