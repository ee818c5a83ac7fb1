//! The state as the log shard itself reads it.

use bytes::Bytes;
use proto::etcdserverpb::{AlarmMember, RangeRequest, TxnRequest, TxnResponse};

use super::{RequestError, State};
use crate::backend::PairRef;
use crate::lease::Leases;
use crate::mvcc::{self, CompactionHash, HashKv, HashRun, RangeAnswer, RangeRun, Reader};
use crate::types::{Budget, LeaseId, LogIndex, Revision};
use crate::view::Changes;

/// The state, borrowed: with what is not published to other threads, and with what is not published yet. Whoever
/// answers a client takes a [`crate::view::PinnedView`] instead.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    state: &'a State,
}

/// What is replicated about a lease; its remaining time is the leader's to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// In seconds.
    pub granted_ttl: i64,
    /// Attached keys, ascending; empty unless asked for.
    pub keys: Vec<Bytes>,
}

impl<'a> View<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        View { state }
    }

    /// Newest revision.
    pub fn revision(&self) -> i64 {
        self.state.kv.revision()
    }

    /// Reads below it are refused; -1 if nothing was compacted yet.
    pub fn compact_revision(&self) -> i64 {
        self.state.kv.compact_revision()
    }

    /// Revision of the last compaction whose sweep is done.
    pub fn finished_compact_revision(&self) -> Option<i64> {
        self.state.kv.compactor().finished()
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> LogIndex {
        self.state.applied_index()
    }

    /// The key space, for runs that take slices ([`RangeRun`], [`HashRun`]).
    pub fn reader(&self) -> Reader<'a> {
        self.state.reader()
    }

    /// Answers a range at once.
    ///
    /// # Errors
    /// [`RequestError::FutureRev`], [`RequestError::Compacted`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, RequestError> {
        let mut run = RangeRun::new(request, self.reader())?;
        let answer = run.step(self.reader(), &mut Budget::unlimited())?;
        Ok(answer.unwrap_or_default())
    }

    /// The encoded pair of `key` at main revision `revision`, if it lived then and that can still be told: a watch
    /// event's previous pair.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub fn pair_at(&self, key: &[u8], revision: i64) -> Result<Option<PairRef<'a>>, RequestError> {
        self.reader().pair_at(key, revision)
    }

    /// The changes of keys from main revision `from` on, in order; only those of whole entries.
    ///
    /// Complete if `from` is not below the compact revision.
    pub fn changes(&self, from: i64) -> Changes<'a> {
        Changes::new(self.reader(), Revision::new(from.max(0), 0))
    }

    /// Answers a transaction of ranges ([`mvcc::check::is_read_only`]) at once.
    ///
    /// # Errors
    /// [`RequestError::FutureRev`], [`RequestError::Compacted`]; [`RequestError::Unsupported`] if it writes.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, RequestError> {
        mvcc::read_only(request, self.reader())
    }

    /// The hash of the key space at `revision` (0: newest) at once; one of a remembered compaction if it was there.
    ///
    /// # Errors
    /// [`RequestError::FutureRev`], [`RequestError::Compacted`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, RequestError> {
        if let Some(hash) = self.remembered_hash(revision) {
            return Ok(hash);
        }
        let mut run = HashRun::new(revision, self.reader())?;
        loop {
            if let Some(hash) = run.step(self.reader(), &mut Budget::unlimited())? {
                return Ok(hash);
            }
        }
    }

    /// The hash of a compaction to exactly `revision`, to be asked before a [`HashRun`].
    pub fn remembered_hash(&self, revision: i64) -> Option<HashKv> {
        self.state.kv.remembered_hash(revision)
    }

    /// Hashes of the last finished compactions, oldest first.
    pub fn compaction_hashes(&self) -> impl DoubleEndedIterator<Item = &'a CompactionHash> {
        self.state.kv.compactor().hashes()
    }

    /// What is replicated about a lease; `None` if it is unknown.
    pub fn lease(&self, id: LeaseId, with_keys: bool) -> Option<LeaseTimeToLive> {
        let lease = self.state.leases.get(id)?;
        let reader = self.reader();
        let attached = |key: &&[u8]| reader.get(key).is_some_and(|version| version.lease == id);
        let keys = match with_keys {
            true => lease
                .keys()
                .filter(attached)
                .map(Bytes::copy_from_slice)
                .collect(),
            false => Vec::new(),
        };
        Some(LeaseTimeToLive {
            granted_ttl: lease.ttl(),
            keys,
        })
    }

    /// All leases, for [`crate::lease::Expiry`].
    pub fn leases(&self) -> &'a Leases {
        &self.state.leases
    }

    /// Alarms of one type, all of them for `NONE` (0).
    pub fn alarms(&self, alarm: i32) -> Vec<AlarmMember> {
        self.state.alarms.list(alarm)
    }

    /// How often users and roles changed, counted from 1.
    pub fn auth_revision(&self) -> u64 {
        self.state.auth_revision
    }

    /// Keys that live now.
    pub fn key_count(&self) -> usize {
        self.state.kv.index().live_count()
    }

    /// Bytes of the keys and values that were put since the process began.
    pub fn put_size_bytes(&self) -> u64 {
        self.state.kv.put_size_bytes()
    }

    /// Bytes that the database file takes, as quota, Status and metrics count them.
    pub fn db_size(&self) -> u64 {
        self.state.backend.db_size(&self.state.tail)
    }

    /// Bytes of the database file that hold something.
    pub fn db_size_in_use(&self) -> u64 {
        self.state.backend.db_size_in_use(&self.state.tail)
    }
}
