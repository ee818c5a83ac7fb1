//! The replicated state of one member: applies entries, answers reads.
//!
//! ```text
//!   start(index, term, request)   one entry begins
//!   work(&mut budget)             More ... More, Done(Applied { result, effects })
//!   publish()                     shows the whole entries so far to readers on other threads: views()
//!   view()                        the log shard's own look
//!   sweep(&mut budget)            frees what compactions and revocations left, when there is time
//! ```
//!
//! Deterministic: the same entries give the same state and the same results on every member, whatever the budgets. Two
//! things are a member's own: the quota's verdict (its database file has its own size; an entry that passes the quota
//! at apply is executed all the same, only its proposer hears NoSpace) and how far sweeps got, which nobody can see.
//!
//! Whether an entry is refused is decided in etcd's order: CORRUPT alarm, NOSPACE alarm, auth, the request itself.
//!
//! Invariants:
//! - entries come in order of their index, one at a time;
//! - a refused entry has changed nothing but the applied index;
//! - between two steps of one entry readers see the state before it.
//!
//! Owned by [`crate::node`] on the log shard. Left out: who proposed what, members (the effects say what to do about
//! them), time.

mod apply;
mod gate;
#[cfg(test)]
mod hash_script;
#[cfg(test)]
mod model;
mod op;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod view;

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb;

pub use crate::mvcc::RequestError;
pub use crate::view::{Changes, KeyChange};
pub use view::{LeaseTimeToLive, View};

use crate::alarm::Alarms;
use crate::lease::Leases;
use crate::mvcc::Kv;
use crate::tail::{Bucket, Mutation, Tail};
use crate::types::{Budget, LeaseId, LogIndex, Term};
use crate::view::{AlarmFlags, Note, Views};
use apply::Running;

/// Bytes that a database may take if nothing else is configured.
const QUOTA_DEFAULT_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Choices of the cluster that applying depends on.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// Shorter grants are raised to it; in seconds. etcd: ceil(3 x election ticks / 2 x heartbeat).
    pub lease_ttl_min: i64,
    /// `None`: no quota.
    pub quota_bytes: Option<u64>,
    /// Store checkpointed TTLs also while the cluster version is below 3.6.
    pub lease_checkpoint_persist: bool,
}

impl Default for StateOptions {
    fn default() -> Self {
        StateOptions {
            lease_ttl_min: 2,
            quota_bytes: Some(QUOTA_DEFAULT_BYTES),
            lease_checkpoint_persist: false,
        }
    }
}

/// What an applied entry answers. Headers carry the revision; the rest of them is the server's to fill.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compaction(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseCheckpoint(pb::LeaseCheckpointResponse),
    Alarm(pb::AlarmResponse),
    /// A leader's first entry, and cluster requests.
    Empty,
}

/// What an applied entry means for parts of the member that are not in this state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ApplyEffect {
    LeaseGranted {
        id: LeaseId,
        ttl: i64,
    },
    LeaseRevoked {
        id: LeaseId,
    },
    LeaseCheckpointed {
        id: LeaseId,
        remaining_ttl: i64,
    },
    /// A sweep up to this revision is due; `physical` answers wait for [`View::finished_compact_revision`].
    CompactionScheduled {
        revision: i64,
    },
    /// Alarms were raised or disarmed.
    AlarmsChanged,
    /// For the membership; the version is already stored in bucket `cluster`.
    ClusterVersionSet {
        version: String,
    },
    /// For the membership, which also stores it.
    MemberAttributesSet {
        member_id: u64,
        attributes: membershippb::Attributes,
    },
    /// Already stored in bucket `cluster`.
    DowngradeInfoSet {
        enabled: bool,
        target: String,
    },
}

/// One entry, applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub index: LogIndex,
    pub term: Term,
    pub result: Result<Response, RequestError>,
    pub effects: Vec<ApplyEffect>,
    /// Newest revision after the entry.
    pub revision: i64,
}

/// How far a resumable step got.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<T> {
    /// The budget is spent and there is more to do.
    More,
    Done(T),
}

/// A version of the cluster: major and minor; the patch is always 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    pub major: u32,
    pub minor: u32,
}

impl ClusterVersion {
    /// Reads `X.Y.Z` (a suffix of Z is passed over).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch = parts.next()?;
        patch
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(ClusterVersion { major, minor })
    }
}

/// The replicated state of one member. See the module text.
#[derive(Debug)]
pub struct State {
    options: StateOptions,
    tail: Tail,
    kv: Kv,
    leases: Leases,
    alarms: Alarms,
    cluster_version: Option<ClusterVersion>,
    /// The last entry that was applied wholly: etcd's consistent index and term.
    applied: (LogIndex, Term),
    running: Option<Running>,
    views: Views,
    /// False: something changed since the last publication.
    is_published: bool,
}

impl State {
    /// The state of a new cluster, before its first entry. It is published.
    pub fn new(options: StateOptions) -> Self {
        let (tail, kv) = (Tail::new(), Kv::default());
        let views = Views::new(kv.index().readers(), tail.reader());
        let mut state = State {
            options,
            tail,
            kv,
            leases: Leases::default(),
            alarms: Alarms::default(),
            cluster_version: None,
            applied: (LogIndex(0), Term(0)),
            running: None,
            views,
            is_published: false,
        };
        state.publish();
        state
    }

    /// Where readers on other threads come from.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// Shows all whole entries so far to readers on other threads.
    ///
    /// # Panics
    /// If an entry is half applied: it must not be seen.
    pub fn publish(&mut self) {
        assert!(self.running.is_none(), "a half-applied entry is not shown");
        if self.is_published {
            return;
        }
        let note = Note {
            revision: self.kv.revision(),
            compact_revision: self.kv.compact_revision(),
            finished_compact_revision: self.kv.compactor().finished(),
            applied_index: self.applied.0.0,
            applied_term: self.applied.1.0,
            db_size: self.tail.db_size(),
            db_size_in_use: self.tail.db_size_in_use(),
            tail_end: self.tail.end().0,
            alarms: AlarmFlags::of(&self.alarms),
        };
        self.kv.show(&note.encode());
        self.views.holds().on_compacted(note.compact_revision);
        self.is_published = true;
    }

    /// Plants a bug.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, sabotage: crate::view::Sabotage) {
        match sabotage {
            crate::view::Sabotage::ReusePinnedPages => self.kv.index_mut().reuse_pinned_pages(),
        }
    }

    /// Begins to apply one entry; `None` is a leader's first one, which asks for nothing.
    ///
    /// # Panics
    /// If an entry is being applied, or this one was applied before: the caller has lost its place in the log.
    pub fn start(&mut self, index: LogIndex, term: Term, request: Option<InternalRaftRequest>) {
        assert!(
            self.running.is_none(),
            "entry {} begins inside another one",
            index.0
        );
        assert!(
            index > self.applied.0,
            "entry {} after entry {}",
            index.0,
            self.applied.0.0
        );
        self.is_published = false;
        self.running = Some(self.begin(index, term, request));
    }

    /// True between [`State::start`] and the [`Progress::Done`] of [`State::work`].
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Goes on with the entry that was started.
    ///
    /// # Panics
    /// If none was.
    pub fn work(&mut self, budget: &mut Budget) -> Progress<Applied> {
        let mut running = self
            .running
            .take()
            .expect("work is called between start and done");
        match self.proceed(&mut running, budget) {
            Some(applied) => Progress::Done(applied),
            None => {
                self.running = Some(running);
                Progress::More
            }
        }
    }

    /// Applies one entry at once, however long it takes.
    pub fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        request: Option<InternalRaftRequest>,
    ) -> Applied {
        self.start(index, term, request);
        loop {
            if let Progress::Done(applied) = self.work(&mut Budget::unlimited()) {
                return applied;
            }
        }
    }

    /// Notes that an entry was applied elsewhere: a configuration change.
    pub fn skip(&mut self, index: LogIndex, term: Term) {
        assert!(
            self.running.is_none(),
            "entry {} is skipped inside another one",
            index.0
        );
        assert!(
            index > self.applied.0,
            "entry {} after entry {}",
            index.0,
            self.applied.0.0
        );
        self.applied = (index, term);
        self.is_published = false;
    }

    /// Does some of the work that can wait: compaction's sweep, freeing. True while there is more that can be done now;
    /// a sweep may have to wait for readers, and goes on when it is called later.
    ///
    /// A sweep publishes: what it removes must not be reached from a newest state that is not compacted yet, and what
    /// it removed is to be seen before its pairs are forgotten.
    pub fn sweep(&mut self, budget: &mut Budget) -> bool {
        if self.kv.compactor().is_pending() {
            self.publish();
            if self.kv.can_sweep() {
                self.kv.sweep(&mut self.tail, self.views.holds(), budget);
                self.is_published = false;
                self.publish();
            }
        }
        self.leases.collect_garbage(budget.left()) || self.kv.can_sweep()
    }

    /// The state as it is now, for the log shard itself.
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    pub fn applied_index(&self) -> LogIndex {
        self.applied.0
    }

    pub fn applied_term(&self) -> Term {
        self.applied.1
    }

    /// All backend mutations in order, as watches and checkpoints read them.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Records a mutation of a part of the state that lives elsewhere: members, confState. `None` deletes.
    pub fn record(&mut self, bucket: Bucket, key: Bytes, value: Option<Bytes>) {
        self.tail.push(match value {
            Some(value) => Mutation::put(bucket, key, value),
            None => Mutation::delete(bucket, key),
        });
        self.is_published = false;
    }

    /// Gives back the space that deletions left in the database file.
    pub fn defragment(&mut self) {
        self.tail.defragment();
        self.is_published = false;
    }

    /// Whether a request of this cost still fits; see [`crate::mvcc::quota`]. One without cost always does.
    pub fn has_room(&self, cost: u64) -> bool {
        let Some(quota) = self.options.quota_bytes else {
            return true;
        };
        cost == 0 || self.tail.db_size().saturating_add(cost) < quota
    }
}
