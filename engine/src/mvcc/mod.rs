//! Multi-version keys: puts, deletes, ranges and transactions over the index and the tail.
//!
//! ```text
//!   check      pure validation of requests, before they are proposed
//!   Reader     one revision of the key space: ranges, compares
//!   Writer     the next revision, while an entry is applied: puts, deletes
//!   TxnRun     a transaction: plan (branches), check, execute
//!   Compactor  logical compaction at once, the sweep of index and store in slices afterwards
//!   HashRun    HashKV, byte for byte etcd's
//!   Hold       keeps one old revision readable while compactions go on
//! ```
//!
//! Anything that may touch many keys is a *run*: it takes a [`Budget`], does a slice and is called again. A run holds no
//! borrow between slices, only where it got to.
//!
//! Invariants:
//! - every applied entry that changes a key makes exactly one new main revision; its changes are 0, 1, 2, ... in the
//!   order in which they are executed;
//! - versions above [`Kv::revision`] belong to the entry being applied and no reader sees them;
//! - a transaction is checked wholly before its first change, so it never has to be undone.
//!
//! Owned by [`crate::state::State`]. Left out: leases' time, alarms, auth, and everything about the log.

mod auto_compaction;
pub mod check;
mod compaction;
mod compare;
mod error;
mod hash;
mod hold;
mod holds;
mod intervals;
mod pair;
pub mod quota;
mod range;
mod txn;
mod txn_plan;
mod write;

pub use auto_compaction::{AutoCompaction, Retention};
pub use compaction::{CompactionHash, Compactor};
pub(crate) use compaction::{StoreSweep, Swept};
pub use error::RequestError;
pub use hash::{HashKv, HashRun};
pub use hold::Hold;
pub(crate) use hold::HoldTable;
pub use pair::{Pair, decode, key_in, key_of, value_in, value_of};
pub(crate) use range::DecodeRun;
pub use range::{RangeAnswer, RangeRun, RangeSize, RangeStream};
pub(crate) use txn::{TxnRun, read_only};
pub(crate) use write::{Change, DeleteRun, Writer};

use bytes::Bytes;

use crate::backend::{PairCursor, PairRef, Pairs, StoreSide};
use crate::index::{Index, Reading, Version};
use crate::tail::{Bucket, Mutation, Tail, meta};
use crate::types::{Budget, Revision};

/// What `holds.rs` synchronizes with. Its model test compiles that file with shuttle's types in this place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// Revision of a store that nothing was written to.
const FIRST_REVISION: i64 = 1;

/// Compact revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// The key space of one member, but for the pairs, which are in the tail and in the store.
#[derive(Debug)]
pub struct Kv {
    index: Index,
    /// Newest main revision that readers see.
    revision: i64,
    /// Reads below it are refused; [`NEVER_COMPACTED`] at first.
    compact_revision: i64,
    compactor: Compactor,
    /// Bytes of keys and values that were put in this life.
    put_size_bytes: u64,
}

impl Default for Kv {
    fn default() -> Self {
        Kv {
            index: Index::new(),
            revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
            compactor: Compactor::default(),
            put_size_bytes: 0,
        }
    }
}

impl Kv {
    /// A key space as a store gave it back.
    pub(crate) fn restored(
        index: Index,
        revision: i64,
        compact_revision: i64,
        compactor: Compactor,
    ) -> Self {
        Kv {
            index,
            revision: revision.max(FIRST_REVISION),
            compact_revision,
            compactor,
            put_size_bytes: 0,
        }
    }

    /// Bytes of the keys and values that were put since the process began.
    pub fn put_size_bytes(&self) -> u64 {
        self.put_size_bytes
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn compactor(&self) -> &Compactor {
        &self.compactor
    }

    /// The published revision, for reading.
    pub(crate) fn reader<'a>(&'a self, tail: &'a Tail, store: StoreSide<'a>) -> Reader<'a> {
        Reader {
            index: self.index.reading(),
            pairs: store.pairs(tail.view()),
            revision: self.revision,
            compact_revision: self.compact_revision,
        }
    }

    /// Makes the changes of a whole entry visible.
    pub(crate) fn publish(&mut self, change: &Change) {
        assert_eq!(
            change.begin(),
            self.revision,
            "an entry applies on the revision it began at"
        );
        self.revision = change.revision();
    }

    /// Compacts logically: from now on reads below `revision` fail. The sweep that frees them is left to
    /// [`Kv::sweep`].
    pub(crate) fn compact(&mut self, revision: i64, tail: &mut Tail) -> Result<(), RequestError> {
        if revision <= self.compact_revision {
            return Err(RequestError::Compacted);
        }
        if revision > self.revision {
            return Err(RequestError::FutureRev);
        }
        self.compactor.schedule(self.compact_revision, revision);
        self.compact_revision = revision;
        let key = Bytes::from_static(meta::SCHEDULED_COMPACT_REV);
        tail.push(Mutation::put(Bucket::Meta, key, meta_revision(revision)));
        Ok(())
    }

    /// Does a slice of the index's part of the compaction that is due, leaving what `holds` asks for.
    ///
    /// The compact revision must be published, and known to the holds, before.
    pub(crate) fn sweep_index(&mut self, holds: &HoldTable, budget: &mut Budget) {
        self.compactor.sweep_index(&mut self.index, holds, budget);
    }

    /// The store's part of the compaction that is due, and the index that says what goes.
    pub(crate) fn store_sweep(&mut self) -> Option<(&mut StoreSweep, &Index)> {
        Some((self.compactor.store_sweep()?, &self.index))
    }

    pub(crate) fn compactor_mut(&mut self) -> &mut Compactor {
        &mut self.compactor
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn index_mut(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Shows all changes to readers on other threads, and a note with them.
    pub(crate) fn show(&mut self, note: &[u8]) {
        self.index.publish(note);
    }
}

/// How bucket `meta` keeps a revision.
pub(crate) fn meta_revision(revision: i64) -> Bytes {
    let value = Revision::new(revision, 0).to_bucket_key(false);
    Bytes::copy_from_slice(value.as_bytes())
}

/// One revision of the key space, for reading. Never held across a wait.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub(crate) index: Reading<'a>,
    pub(crate) pairs: Pairs<'a>,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

impl<'a> Reader<'a> {
    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The version of `key` that lives at this reader's revision.
    pub fn get(&self, key: &[u8]) -> Option<Version> {
        self.index.get_live(key, self.revision)
    }

    /// The encoded pair of a version.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub fn pair(&self, version: &Version) -> Result<PairRef<'a>, RequestError> {
        self.pairs.get(version)
    }

    /// The encoded pair of `key` at main revision `revision`, if it lived then and that can still be told.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub fn pair_at(&self, key: &[u8], revision: i64) -> Result<Option<PairRef<'a>>, RequestError> {
        let readable = (self.compact_revision..=self.revision).contains(&revision);
        let version = self.index.get_live(key, revision).filter(|_| readable);
        version.map(|version| self.pair(&version)).transpose()
    }

    /// All stored pairs from `revision` on, in order, whether or not anybody can still read them.
    pub(crate) fn walk(&self, revision: Revision) -> PairCursor<'a> {
        self.pairs.walk(revision)
    }
}
