//! The start of a node: from nothing, or from what store and WAL gave back.
//!
//! Committed entries are applied here, without raft: what was committed stays committed, and a log of a million
//! entries need not pass through messages. Raft begins at the commit index with the entries behind it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::InternalRaftRequest;
use proto::raftpb;

use super::apply::{bad_entry, check_applicable};
use super::backlog::Backlog;
use super::checkpoint::{CheckpointOptions, Saving};
use super::{Node, NodeFailure, RequestIds};
use crate::boot::{Position, StartPlan};
use crate::bump::Bump;
use crate::consensus::{
    Consensus, ConsensusError, ConsensusOptions, Leadership, LogStart, LogTail, Payload,
};
use crate::lease::{Expiry, ExpiryOptions};
use crate::membership::{ConfChange, Membership};
use crate::state::{RestoreError, State, StateOptions, Stored};
use crate::store::Store;
use crate::types::{LogIndex, Term};
use crate::wal::{Durability, IoFault, Wal};

/// What a node is told at birth.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub member_id: u64,
    pub cluster_id: u64,
    /// Largest encoded request that the log takes.
    pub max_request_bytes: usize,
    pub consensus: ConsensusOptions,
    pub state: StateOptions,
    /// Wall clock at start, for ids that no other run of this member gives out.
    pub started_unix_ms: u64,
    pub max_learners: usize,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    pub checkpoints: CheckpointOptions,
    pub leases: ExpiryOptions,
    /// Length of one tick: the heartbeat interval.
    pub tick: Duration,
}

/// Why a member cannot start from its log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What the database holds cannot be used.
    #[error("member/snap/db: {0}")]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error(transparent)]
    Entry(#[from] NodeFailure),
}

impl Node {
    /// Starts the first time: `entries` and `hard_state` are the bootstrap's and still have to reach the WAL; the store is
    /// empty.
    ///
    /// # Errors
    /// [`StartError`] if they contradict each other, which those of [`super::bootstrap_log`] do not.
    pub fn bootstrap(
        options: NodeOptions,
        mut wal: Wal,
        entries: Vec<raftpb::Entry>,
        hard_state: raftpb::HardState,
        store: Store,
    ) -> Result<Node, StartError> {
        for entry in &entries {
            wal.append_entry(entry);
        }
        wal.append_state(&hard_state);
        wal.seal(Durability::Sync);
        let from = From {
            replay: Replay::of_nothing(&options, store),
            hard_state,
            offset: Position::default(),
            snapshot: Position::default(),
            entries,
        };
        Node::start(options, wal, from)
    }

    /// Starts as a new member of a cluster that runs: with a store and a log without anything, waiting to be sent all.
    ///
    /// # Errors
    /// None that an empty log can cause.
    pub fn join(options: NodeOptions, wal: Wal, store: Store) -> Result<Node, StartError> {
        let from = From {
            replay: Replay::of_nothing(&options, store),
            hard_state: raftpb::HardState::default(),
            offset: Position::default(),
            snapshot: Position::default(),
            entries: Vec::new(),
        };
        Node::start(options, wal, from)
    }

    /// Goes on as `plan` says: the store holds the state at the plan's `applied`, `entries` are what the plan takes of the
    /// log. While the store is read, `progress` is told now and then how many pairs were.
    ///
    /// # Errors
    /// [`StartError`]: the database is damaged, or an entry cannot be applied.
    pub fn restart(
        options: NodeOptions,
        wal: Wal,
        plan: StartPlan,
        entries: Vec<raftpb::Entry>,
        stored: impl Into<Stored>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Node, StartError> {
        let stored = stored.into();
        let replay = match plan.applied.index {
            0 => Replay::of_nothing(&options, stored.into_store()),
            _ => Replay::of_store(&options, stored, progress)?,
        };
        let from = From {
            replay,
            hard_state: plan.hard_state,
            offset: plan.offset,
            snapshot: plan.snapshot,
            entries,
        };
        Node::start(options, wal, from)
    }

    fn start(options: NodeOptions, wal: Wal, from: From) -> Result<Node, StartError> {
        let From {
            mut replay,
            hard_state,
            offset,
            snapshot,
            entries,
        } = from;
        let commit = hard_state.commit.unwrap_or(0);
        let checkpoint = replay.state.checkpoint();
        let mut saving = Saving::new(checkpoint, snapshot);
        // Nobody reads yet; one publication at the end copies no page twice.
        let applied = replay.state.applied_index().0;
        for entry in entries
            .iter()
            .filter(|e| (applied + 1..=commit).contains(&e.index()))
        {
            replay.apply(entry)?;
        }
        saving.begin_with(&replay.membership);
        let applied_term = replay.state.applied_term().0;
        let mut backlog = Backlog::default();
        for entry in entries.iter().filter(|entry| entry.index() > commit) {
            backlog.on_logged(entry);
        }
        let (voters, learners) = replay.membership.conf_state();
        let tail = tail_of(
            entries,
            offset,
            commit,
            options.consensus.catch_up_entry_count as u64,
        );
        let log = LogStart {
            hard_state,
            voters,
            learners,
            tail,
        };
        let mut consensus = Consensus::new(&options.consensus, log)?;
        if consensus.is_sole_voter() {
            consensus.campaign();
        }
        let mut node = Node {
            ids: RequestIds::new(options.member_id, options.started_unix_ms),
            requests: Bump::default(),
            expiry: Expiry::new(options.leases),
            revoking: BTreeSet::new(),
            expired_count: 0,
            options,
            consensus,
            wal,
            wal_fault: IoFault { os_error: None },
            state: replay.state,
            membership: replay.membership,
            proposals: Vec::new(),
            proposed: Vec::new(),
            backlog,
            persisting: VecDeque::new(),
            committed: VecDeque::new(),
            applying: None,
            applied_index: commit,
            applied_term,
            leadership: Leadership {
                leader_id: 0,
                is_leader: false,
            },
            reads: VecDeque::new(),
            events: VecDeque::new(),
            messages: VecDeque::new(),
            has_lazy_record: false,
            saving,
            is_space_alarm_proposed: false,
            sweeping: VecDeque::new(),
            now: Duration::ZERO,
            tick_count: 0,
            rests: false,
        };
        node.state.publish();
        node.show_raft_facts(true);
        Ok(node)
    }
}

/// What a node starts from.
struct From {
    replay: Replay,
    hard_state: raftpb::HardState,
    /// What stands before the first of `entries`.
    offset: Position,
    /// The newest snapshot that the log vouches for.
    snapshot: Position,
    entries: Vec<raftpb::Entry>,
}

/// The state while committed entries are applied to it at start.
struct Replay {
    state: State,
    membership: Membership,
}

impl Replay {
    fn of_nothing(options: &NodeOptions, store: Store) -> Self {
        let mut state = State::new(options.state, store);
        state.begin_auth();
        Replay {
            state,
            membership: Membership::new(options.max_learners),
        }
    }

    fn of_store(
        options: &NodeOptions,
        stored: Stored,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, RestoreError> {
        let mut restored = State::restore(options.state, stored, progress)?;
        if !restored.has_auth_revision {
            restored.state.begin_auth();
        }
        let membership = Membership::restored(
            &restored.members,
            &restored.removed_members,
            restored.cluster_version,
            restored.downgrade_target,
            options.max_learners,
        )?;
        Ok(Replay {
            state: restored.state,
            membership,
        })
    }

    fn apply(&mut self, entry: &raftpb::Entry) -> Result<(), NodeFailure> {
        let index = entry.index.unwrap_or(0);
        let position = (LogIndex(index), Term(entry.term.unwrap_or(0)));
        let request = match Payload::of_log(entry) {
            Payload::Empty => None,
            Payload::ConfChange(data) => {
                let raw = raftpb::ConfChange::decode(data).map_err(|e| bad_entry(index, &e))?;
                // A refused change was refused when it was first applied, too.
                if let Ok(change) = ConfChange::parse(&raw) {
                    let outcome = self.membership.apply(&change);
                    self.membership
                        .record(&change, outcome.is_ok(), &mut self.state);
                }
                self.state.skip(position.0, position.1);
                return Ok(());
            }
            Payload::Request(data) => {
                Some(InternalRaftRequest::decode(data).map_err(|e| bad_entry(index, &e))?)
            }
        };
        let applied = self.state.apply(position.0, position.1, request);
        check_applicable(index, &applied)?;
        for effect in &applied.effects {
            self.membership.on_effect(effect, &mut self.state);
        }
        Ok(())
    }
}

/// What raft keeps of the log: everything not committed, and some entries before that for followers. `offset` stands
/// before the first of `entries`.
fn tail_of(
    mut entries: Vec<raftpb::Entry>,
    offset: Position,
    commit: u64,
    keep_count: u64,
) -> LogTail {
    // At least one committed entry stays: its term is what the next one builds on.
    let from = commit.saturating_sub(keep_count.max(1)).max(offset.index);
    let dropped = entries.partition_point(|entry| entry.index() <= from);
    let mut tail = entries.split_off(dropped);
    // Copies: these few must not keep the segments that they were read from in memory.
    for data in tail.iter_mut().filter_map(|entry| entry.data.as_mut()) {
        *data = Bytes::copy_from_slice(data);
    }
    let offset_term = entries.last().map_or(offset.term, raftpb::Entry::term);
    LogTail {
        offset_index: from,
        offset_term,
        entries: tail,
    }
}
