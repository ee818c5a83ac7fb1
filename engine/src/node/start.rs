//! The start of a node: from nothing, or from what the WAL gave back.
//!
//! Committed entries are applied here, without raft: what was committed stays committed, and a log of a million
//! entries need not pass through messages. Raft begins at the commit index with the entries behind it.

use std::collections::VecDeque;
use std::time::Duration;

use prost::Message;
use proto::etcdserverpb::InternalRaftRequest;
use proto::raftpb;

use super::apply::{bad_entry, check_applicable};
use super::backlog::Backlog;
use super::{Node, NodeFailure, RequestIds};
use crate::consensus::{
    Consensus, ConsensusError, ConsensusOptions, Leadership, LogStart, LogTail, Payload,
};
use crate::lease::{Expiry, ExpiryOptions};
use crate::membership::{ConfChange, Membership};
use crate::state::{State, StateOptions};
use crate::types::{Budget, LogIndex, Term};
use crate::wal::{Durability, IoFault, LogGap, Recovered, Wal};

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
    /// Length of one tick: the heartbeat interval.
    pub tick: Duration,
}

/// Why a member cannot start from its log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Older segments are gone, and what they held is only in a database file, which this version does not read.
    #[error(
        "{0}; starting from a database file is not supported by this version: restore the older WAL segments, \
         or export the data with the etcd that wrote them"
    )]
    LogBeginsLate(#[from] LogGap),
    /// The log's own promise of what is committed is not in it: segments are missing at its end.
    #[error(
        "the log ends at entry {last} but declares entry {commit} committed; its last segments are missing"
    )]
    CommitMissing { commit: u64, last: u64 },
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error(transparent)]
    Entry(#[from] NodeFailure),
}

impl Node {
    /// Starts the first time: `entries` and `hard_state` are the bootstrap's and still have to reach the WAL.
    ///
    /// # Errors
    /// [`StartError`] if they contradict each other, which those of [`super::bootstrap_log`] do not.
    pub fn bootstrap(
        options: NodeOptions,
        mut wal: Wal,
        entries: Vec<raftpb::Entry>,
        hard_state: raftpb::HardState,
    ) -> Result<Node, StartError> {
        for entry in &entries {
            wal.append_entry(entry);
        }
        wal.append_state(&hard_state);
        wal.seal(Durability::Sync);
        Node::start(options, wal, entries, hard_state)
    }

    /// Starts again from what the WAL gave back.
    ///
    /// # Errors
    /// [`StartError`]: the log does not begin at its beginning, or an entry cannot be applied.
    pub fn restart(
        options: NodeOptions,
        wal: Wal,
        mut recovered: Recovered,
    ) -> Result<Node, StartError> {
        let entries = recovered.take_entries_after(0)?;
        Node::start(options, wal, entries, recovered.hard_state)
    }

    fn start(
        options: NodeOptions,
        wal: Wal,
        entries: Vec<raftpb::Entry>,
        hard_state: raftpb::HardState,
    ) -> Result<Node, StartError> {
        let commit = hard_state.commit.unwrap_or(0);
        let last = entries.len() as u64;
        if commit > last {
            return Err(StartError::CommitMissing { commit, last });
        }
        let mut replay = Replay {
            state: State::new(options.state),
            membership: Membership::new(options.max_learners),
        };
        let mut applied_term = 0;
        // Nobody reads yet; one publication at the end copies no page twice.
        for entry in &entries[..commit as usize] {
            replay.apply(entry)?;
            applied_term = entry.term.unwrap_or(0);
        }
        let mut backlog = Backlog::default();
        for entry in &entries[commit as usize..] {
            backlog.on_logged(entry);
        }
        let (voters, learners) = replay.membership.conf_state();
        let tail = tail_of(
            entries,
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
            expiry: Expiry::new(ExpiryOptions::default()),
            options,
            consensus,
            wal,
            wal_fault: IoFault { os_error: None },
            state: replay.state,
            membership: replay.membership,
            proposals: Vec::new(),
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
            is_space_alarm_proposed: false,
            sweeping: VecDeque::new(),
            now: Duration::ZERO,
            tick_count: 0,
        };
        node.state.publish();
        node.show_raft_facts(true);
        Ok(node)
    }
}

/// The state while committed entries are applied to it at start.
struct Replay {
    state: State,
    membership: Membership,
}

impl Replay {
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
        while self.state.sweep(&mut Budget::unlimited()) {}
        Ok(())
    }
}

/// What raft keeps of the log: everything not committed, and some entries before that for followers.
fn tail_of(mut entries: Vec<raftpb::Entry>, commit: u64, keep_count: u64) -> LogTail {
    // At least one committed entry stays: its term is what the next one builds on.
    let offset_index = commit.saturating_sub(keep_count.max(1));
    let tail = entries.split_off(offset_index as usize);
    let offset_term = entries.last().and_then(|entry| entry.term).unwrap_or(0);
    LogTail {
        offset_index,
        offset_term,
        entries: tail,
    }
}
