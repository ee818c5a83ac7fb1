//! One pinned state and what can be read from it.

use std::cell::OnceCell;

use proto::etcdserverpb::{RangeRequest, TxnRequest, TxnResponse};

use super::note::{self, AlarmFlags, Number};
use super::raft_facts::RaftFacts;
use crate::backend::{KeyChange, PairCursor, PairRef, Pairs, StoreFile, StoreSide};
use crate::index::IndexSnapshot;
use crate::mvcc::{self, RangeAnswer, RangeRun, Reader, RequestError};
use crate::store::Tree;
use crate::tail::{TailGuard, TailPosition, TailReader};
use crate::types::{Budget, LogIndex, Revision, Term};

/// The newest whole state at the time of the pin. None of it changes while this lives.
#[derive(Debug)]
pub struct PinnedView<'a> {
    facts: RaftFacts,
    pages: IndexSnapshot<'a>,
    tail: &'a TailReader,
    /// Loaded when it is first needed.
    tail_guard: OnceCell<TailGuard>,
    store: &'a StoreFile,
}

impl<'a> PinnedView<'a> {
    pub(super) fn new(
        facts: RaftFacts,
        pages: IndexSnapshot<'a>,
        tail: &'a TailReader,
        store: &'a StoreFile,
    ) -> Self {
        PinnedView {
            facts,
            pages,
            tail,
            tail_guard: OnceCell::new(),
            store,
        }
    }

    fn number(&self, place: Number) -> u64 {
        note::number(self.pages.note(), place)
    }

    /// Newest revision.
    pub fn revision(&self) -> i64 {
        self.number(Number::Revision) as i64
    }

    /// Reads below it are refused; -1 if nothing was compacted yet.
    pub fn compact_revision(&self) -> i64 {
        self.number(Number::CompactRevision) as i64
    }

    /// Revision of the last compaction whose sweep is done.
    pub fn finished_compact_revision(&self) -> Option<i64> {
        match self.number(Number::FinishedCompactRevision) as i64 {
            0 => None,
            revision => Some(revision),
        }
    }

    /// The last entry that this state has.
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.number(Number::AppliedIndex))
    }

    /// That entry's term.
    pub fn applied_term(&self) -> Term {
        Term(self.number(Number::AppliedTerm))
    }

    /// Bytes that the database file takes, as quota, Status and metrics count them.
    pub fn db_size(&self) -> u64 {
        self.number(Number::DbSize)
    }

    /// Bytes of the database file that hold something.
    pub fn db_size_in_use(&self) -> u64 {
        self.number(Number::DbSizeInUse)
    }

    /// Keys that live now.
    pub fn key_count(&self) -> usize {
        self.pages.reading().live_count() as usize
    }

    /// Which kinds of alarms are up.
    pub fn alarms(&self) -> AlarmFlags {
        note::alarms(self.pages.note())
    }

    /// 0 when none is known. As of shortly before the pin, like everything else of raft.
    pub fn leader_id(&self) -> u64 {
        self.facts.leader_id
    }

    pub fn raft_term(&self) -> u64 {
        self.facts.term
    }

    /// True if a linearizable read may use this state as it is; else it takes a read-index round.
    pub fn is_linearizable(&self) -> bool {
        self.facts.is_linearizable
    }

    pub fn is_learner(&self) -> bool {
        self.facts.is_learner
    }

    fn pairs(&self) -> Pairs<'_> {
        let guard = self.tail_guard.get_or_init(|| self.tail.load());
        let position = |place| TailPosition(self.number(place));
        let tail = guard.view(position(Number::TailFirst), position(Number::TailEnd));
        let tree = [Number::StoreTree, Number::StoreTreeRest].map(|place| self.number(place));
        StoreSide::new(self.store, Tree::from_words(tree)).pairs(tail)
    }

    /// The key space, for runs that take slices ([`RangeRun`], [`mvcc::RangeStream`], [`mvcc::HashRun`]).
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            index: self.pages.reading(),
            pairs: self.pairs(),
            revision: self.revision(),
            compact_revision: self.compact_revision(),
        }
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

    /// Answers a transaction of ranges ([`mvcc::check::is_read_only`]) at once.
    ///
    /// # Errors
    /// [`RequestError::FutureRev`], [`RequestError::Compacted`]; [`RequestError::Unsupported`] if it writes.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, RequestError> {
        mvcc::read_only(request, self.reader())
    }

    /// The encoded pair of `key` at main revision `revision`, if it lived then and that can still be told: a watch
    /// event's previous pair.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub fn pair_at(&self, key: &[u8], revision: i64) -> Result<Option<PairRef<'_>>, RequestError> {
        self.reader().pair_at(key, revision)
    }

    /// The changes of keys from main revision `from` on, in order.
    ///
    /// Complete if `from` is not below the compact revision.
    pub fn changes(&self, from: i64) -> Changes<'_> {
        self.changes_after(Revision::new(from.max(0), 0))
    }

    /// The same from within a revision: from `from` on, that one included.
    pub fn changes_after(&self, from: Revision) -> Changes<'_> {
        Changes::new(self.reader(), from)
    }

    /// Whether [`PinnedView::changes`] has all changes from main revision `from` on. It may still have those of revisions
    /// that are compacted, since those in the tail stay there until they go with a checkpoint.
    pub fn has_changes_from(&self, from: i64) -> bool {
        from >= self.compact_revision() || self.pairs().all_in_tail(Revision::new(from, 0))
    }
}

/// The changes of keys in order; only those of whole entries. Each is an error if the store's file is damaged.
#[derive(Debug)]
pub struct Changes<'a> {
    pairs: PairCursor<'a>,
    newest: i64,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(reader: Reader<'a>, from: Revision) -> Self {
        Changes {
            pairs: reader.walk(from),
            newest: reader.revision,
        }
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<KeyChange<'a>, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.pairs.next().transpose()?;
        // Behind the newest whole entry may stand one that is being applied.
        match found {
            Ok(change) if change.revision.main > self.newest => None,
            found => Some(found),
        }
    }
}
