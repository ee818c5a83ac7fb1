//! Multi-version keys: puts, deletes, ranges and transactions over the index and the tail.
//!
//! ```text
//!   check      pure validation of requests, before they are proposed
//!   Reader     one revision of the key space: ranges, compares
//!   Writer     the next revision, while an entry is applied: puts, deletes
//!   TxnRun     a transaction: plan (branches), check, execute
//!   Compactor  logical compaction at once, the sweep in slices afterwards
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

pub use compaction::{CompactionHash, Compactor};
pub use error::RequestError;
pub use hash::{HashKv, HashRun};
pub use hold::Hold;
pub(crate) use hold::HoldTable;
pub use pair::{Pair, decode, key_of, value_of};
pub(crate) use range::DecodeRun;
pub use range::{RangeAnswer, RangeRun, RangeSize, RangeStream};
pub(crate) use txn::{TxnRun, read_only};
pub(crate) use write::{Change, DeleteRun, Writer};

use bytes::Bytes;

use crate::index::{Index, Reading, Version};
use crate::tail::{Bucket, Mutation, Tail, TailView, meta};
use crate::types::{Budget, Revision};

/// What `holds.rs` synchronizes with. Its model test compiles that file with shuttle's types in this place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// Revision of a store that nothing was written to.
const FIRST_REVISION: i64 = 1;

/// Compact revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// The key space of one member, but for the pairs, which are in the tail.
#[derive(Debug)]
pub struct Kv {
    index: Index,
    /// Newest main revision that readers see.
    revision: i64,
    /// Reads below it are refused; [`NEVER_COMPACTED`] at first.
    compact_revision: i64,
    compactor: Compactor,
}

impl Default for Kv {
    fn default() -> Self {
        Kv {
            index: Index::new(),
            revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
            compactor: Compactor::default(),
        }
    }
}

impl Kv {
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
    pub fn reader<'a>(&'a self, tail: &'a Tail) -> Reader<'a> {
        Reader {
            index: self.index.reading(),
            tail: tail.view(),
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
        put_meta_revision(tail, meta::SCHEDULED_COMPACT_REV, revision);
        Ok(())
    }

    /// Does a slice of the compactions that are pending, leaving what `holds` asks for.
    ///
    /// The compact revision must be published, and known to the holds, before.
    pub(crate) fn sweep(&mut self, tail: &mut Tail, holds: &HoldTable, budget: &mut Budget) {
        if let Some(finished) = self.compactor.step(&mut self.index, tail, holds, budget) {
            put_meta_revision(tail, meta::FINISHED_COMPACT_REV, finished);
        }
    }

    /// True if a sweep is pending and can go on now: not if it waits for readers to leave former states.
    pub(crate) fn can_sweep(&self) -> bool {
        self.compactor.can_step(&self.index)
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

fn put_meta_revision(tail: &mut Tail, key: &'static [u8], revision: i64) {
    let value = Revision::new(revision, 0).to_bucket_key(false);
    tail.push(Mutation::put(
        Bucket::Meta,
        Bytes::from_static(key),
        Bytes::copy_from_slice(value.as_bytes()),
    ));
}

/// One revision of the key space, for reading. Never held across a wait.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub(crate) index: Reading<'a>,
    pub(crate) tail: TailView<'a>,
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
    pub fn pair(&self, version: &Version) -> &'a Bytes {
        pair_of(self.tail, version)
    }

    /// The encoded pair of `key` at main revision `revision`, if it lived then and that can still be told.
    pub fn pair_at(&self, key: &[u8], revision: i64) -> Option<&'a Bytes> {
        let readable = (self.compact_revision..=self.revision).contains(&revision);
        let version = self.index.get_live(key, revision).filter(|_| readable)?;
        Some(self.pair(&version))
    }
}

fn pair_of<'a>(tail: TailView<'a>, version: &Version) -> &'a Bytes {
    tail.pair(version.position)
        .expect("a version in the index has its pair in the tail")
}
