//! The replicated state of one member: applies entries, answers reads.
//!
//! ```text
//!   start(index, term, request)   one entry begins
//!   work(&mut budget)             More ... More, Done(Applied { result, effects })
//!   publish()                     shows the whole entries so far to readers on other threads: views()
//!   view()                        the log shard's own look
//!   begin_checkpoint(seal)        everything so far goes to the store; poll_store_io, on_store_io_done
//!   tend(&mut budget)             goes on with checkpoints and compactions and frees what nobody needs, when there is time
//! ```
//!
//! Deterministic: the same entries give the same state and the same results on every member, whatever the budgets. Two
//! things are a member's own: the quota's verdict (its database file has its own size; an entry that passes the quota
//! at apply is executed all the same, only its proposer hears NoSpace) and how far sweeps and checkpoints got, which
//! nobody can see.
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
mod downgrade;
mod gate;
#[cfg(test)]
mod hash_script;
#[cfg(test)]
mod model;
mod op;
#[cfg(test)]
mod properties;
mod restore;
mod saved;
#[cfg(test)]
mod tests;
mod view;

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb;

pub use crate::backend::KeyChange;
pub use crate::mvcc::RequestError;
pub use crate::view::Changes;
pub use restore::{RestoreError, Restored, db_facts};
pub use saved::Stored;
pub use view::{LeaseTimeToLive, View};

use crate::alarm::Alarms;
use crate::backend::{Backend, Checkpoint, Damage, Seal, StoreImage};
use crate::lease::Leases;
use crate::mvcc::Kv;
use crate::store::{CommitState, Extent, Store, StoreIo, StoreTicket};
use crate::tail::{Bucket, Mutation, Tail};
use crate::types::{Budget, LeaseId, LogIndex, Term};
use crate::view::{AlarmFlags, Note, Views};
use crate::wal::IoFault;
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
    /// For the membership; it is already stored in bucket `cluster`.
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

    /// The version that a cluster of this one can be downgraded to.
    pub fn before(self) -> Option<Self> {
        Some(ClusterVersion {
            minor: self.minor.checked_sub(1)?,
            ..self
        })
    }
}

/// As it is stored.
impl std::fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

/// What a state is made of when it begins.
struct Parts {
    options: StateOptions,
    tail: Tail,
    backend: Backend,
    kv: Kv,
    leases: Leases,
    alarms: Alarms,
    cluster_version: Option<ClusterVersion>,
    auth_revision: u64,
}

/// The replicated state of one member. See the module text.
#[derive(Debug)]
pub struct State {
    options: StateOptions,
    tail: Tail,
    backend: Backend,
    kv: Kv,
    leases: Leases,
    alarms: Alarms,
    cluster_version: Option<ClusterVersion>,
    /// How often users and roles changed, counted from 1. Entries that change them are not supported.
    auth_revision: u64,
    /// The last entry that was applied wholly: etcd's consistent index and term.
    applied: (LogIndex, Term),
    running: Option<Running>,
    views: Views,
    /// False: something changed since the last publication.
    is_published: bool,
}

impl State {
    /// The state of a new cluster, before its first entry, over a store without anything. It is published.
    pub fn new(options: StateOptions, store: Store) -> Self {
        let kv = Kv::default();
        let checkpoint = Checkpoint {
            index: LogIndex(0),
            term: Term(0),
        };
        State::over(Parts {
            options,
            tail: Tail::new(),
            backend: Backend::new(store, checkpoint, kv.revision()),
            kv,
            leases: Leases::default(),
            alarms: Alarms::default(),
            cluster_version: None,
            auth_revision: restore::AUTH_REVISION_FIRST,
        })
    }

    /// A state around its parts, as they were at the backend's checkpoint.
    fn over(parts: Parts) -> Self {
        let Parts {
            options,
            tail,
            backend,
            kv,
            leases,
            alarms,
            cluster_version,
            auth_revision,
        } = parts;
        let file = std::sync::Arc::clone(backend.file());
        let views = Views::new(kv.index().readers(), tail.reader(), file);
        let Checkpoint { index, term } = backend.checkpoint();
        let mut state = State {
            options,
            tail,
            backend,
            kv,
            leases,
            alarms,
            cluster_version,
            auth_revision,
            applied: (index, term),
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
            db_size: self.backend.db_size(&self.tail),
            db_size_in_use: self.backend.db_size_in_use(&self.tail),
            tail_first: self.tail.view().first().0,
            tail_end: self.tail.end().0,
            store_tree: self.backend.tree().to_words(),
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
            crate::view::Sabotage::ForgetLease => self.leases.forget_one(),
            store => self.backend.sabotage(store),
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

    /// Does some of the work that can wait: checkpoints, compaction's sweep, freeing. True while there is more that can be
    /// done now; a checkpoint may have to wait for the disk, freeing for readers, and they go on when it is called later.
    ///
    /// It publishes: what a sweep removes must not be reached from a newest state that is not compacted yet, and a
    /// checkpoint is of use only once readers see it.
    ///
    /// # Errors
    /// [`Damage`] of the store's file: the member must stop.
    ///
    /// # Panics
    /// If an entry is half applied.
    pub fn tend(&mut self, budget: &mut Budget) -> Result<bool, Damage> {
        assert!(
            self.running.is_none(),
            "an entry is whole before what can wait"
        );
        if let Some(damage) = self.backend.file().damage() {
            return Err(damage.clone());
        }
        let version = self.kv.index().next_version();
        if self.backend.install(&mut self.kv, &mut self.tail, version) {
            self.is_published = false;
            self.publish();
        }
        if self.kv.compactor().is_in_index() {
            self.publish();
            self.kv.sweep_index(self.views.holds(), budget);
            self.is_published = false;
            self.publish();
        }
        let feeds = self.backend.feed(&mut self.kv, &self.tail, budget)?;
        let frees = self.backend.tend(&self.kv, &mut self.tail, budget);
        let collects = self.leases.collect_garbage(budget.left());
        Ok(feeds || frees || collects || self.kv.compactor().is_in_index())
    }

    /// Begins a checkpoint of everything so far. With `stores_freelist` the next start need not look for free pages.
    ///
    /// # Panics
    /// If one is under way, or an entry is half applied.
    pub fn begin_checkpoint(&mut self, seal: Seal, stores_freelist: bool) {
        assert!(self.running.is_none(), "a checkpoint is of whole entries");
        self.backend
            .begin(seal, &self.kv, &self.tail, stores_freelist);
    }

    /// True if no checkpoint is under way.
    pub fn is_checkpoint_idle(&self) -> bool {
        self.backend.is_idle()
    }

    /// The newest checkpoint that is durable.
    pub fn checkpoint(&self) -> Checkpoint {
        self.backend.checkpoint()
    }

    /// True if a compaction waits for a checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        self.kv.compactor().wants_store().is_some()
    }

    /// Bytes of memory that changes take which no checkpoint has.
    pub fn unsaved_bytes(&self) -> u64 {
        self.backend.unsaved_bytes(&self.tail)
    }

    /// Bytes of memory that the tail takes: also what is stored and may still be read there.
    pub fn tail_bytes(&self) -> u64 {
        self.backend.tail_bytes(&self.tail)
    }

    /// Output: the next operation on the store's file.
    pub fn poll_store_io(&mut self) -> Option<StoreIo> {
        self.backend.poll_io()
    }

    /// Input: an operation on the store's file ended.
    pub fn on_store_io_done(&mut self, ticket: StoreTicket, result: Result<(), IoFault>) {
        self.backend.on_io_done(ticket, result);
    }

    /// Output: parts of the store's file that are to be brought into memory before slow work goes on.
    pub fn poll_store_load(&mut self) -> Option<Vec<Extent>> {
        self.backend.poll_load()
    }

    /// Input: they are, or cannot be.
    pub fn on_store_loaded(&mut self) {
        self.backend.on_loaded();
    }

    /// What the commit that is under way is up to.
    pub fn commit_state(&self) -> CommitState {
        self.backend.commit_state()
    }

    /// Tries again to claim space for the store.
    pub fn retry_store_claim(&mut self) {
        self.backend.retry_claim();
    }

    /// Begins a defragmentation of the store; see [`State::is_defragmenting`].
    pub fn defragment(&mut self) {
        self.backend.defragment();
    }

    /// True if a checkpoint is wanted for a defragmentation.
    pub fn is_ready_to_move(&self) -> bool {
        self.backend.is_ready_to_move()
    }

    /// True until the last checkpoint of a defragmentation is installed.
    pub fn is_defragmenting(&self) -> bool {
        self.backend.is_defragmenting()
    }

    /// The newest durable commit of the store, kept as long as the answer lives; `None` before the first.
    pub fn store_image(&mut self) -> Option<StoreImage> {
        self.backend.image()
    }

    /// The store, as it was committed last.
    pub fn store(&self) -> &Store {
        self.backend.store()
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

    /// The backend mutations that are not in the store, in order, as watches and checkpoints read them.
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

    /// Whether a request of this cost still fits; see [`crate::mvcc::quota`]. One without cost always does.
    pub fn has_room(&self, cost: u64) -> bool {
        let Some(quota) = self.options.quota_bytes else {
            return true;
        };
        cost == 0 || self.backend.db_size(&self.tail).saturating_add(cost) < quota
    }
}
