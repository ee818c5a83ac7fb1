//! Raft: the `raft` crate behind etcd's log entries and messages.
//!
//! The crate decides; this module translates. What goes to the WAL, to peers and to apply are etcd's own types
//! ([`proto::raftpb`]); the crate's protobuf types never leave this folder.
//!
//! ```text
//!  propose / step / tick --> RawNode --> poll_ready: Ready { entries + hard state to persist, messages, committed }
//!                               ^                         |
//!                               +--- on_persisted(number) +   (in order, when the disk says so)
//! ```
//!
//! Invariants:
//! - entries are readable from [`LogStorage`] before the disk has them (asynchronous persistence);
//! - messages in [`Ready::after_persist`] leave only once the same ready is persisted;
//! - one proposal batch is one `MsgPropose`: stepping them one by one costs several times more.
//!
//! Lives on the log shard, inside [`crate::node::Node`].

mod entry;
mod message;
mod storage;

use crate::random::SplitMix64;
use proto::raftpb;
use raft::eraftpb;
use raft::{RawNode, StateRole};

pub use entry::{Committed, Payload};
use storage::LogStorage;
pub use storage::LogTail;

/// What one raft participant is told at birth.
#[derive(Clone, Debug)]
pub struct ConsensusOptions {
    /// Own member id; never 0.
    pub id: u64,
    /// Ticks without a leader before an election, at least.
    pub election_ticks: usize,
    /// Ticks between two heartbeats.
    pub heartbeat_ticks: usize,
    pub pre_vote: bool,
    /// Source of election timeouts; the crate's own source is global and would make runs irreproducible.
    pub seed: u64,
    /// Entries kept in memory behind the applied index for followers that lag.
    pub catch_up_entry_count: usize,
    /// Bytes those entries may take at most.
    pub catch_up_size_bytes: usize,
}

/// The state of the log that a member starts from: everything up to `hard_state.commit` was already applied.
#[derive(Debug, Default)]
pub struct LogStart {
    pub hard_state: raftpb::HardState,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    pub tail: LogTail,
}

/// Bytes of entries that one ready hands to apply at most; bounds what is decoded ahead of apply.
const COMMITTED_SIZE_PER_READY_BYTES_MAX: u64 = 4 << 20;
/// Bytes of entries in one message to a peer; etcd's value.
const MESSAGE_SIZE_BYTES_MAX: u64 = 1 << 20;
/// Messages in flight to one peer; etcd's value.
const INFLIGHT_MESSAGE_COUNT_MAX: usize = 512;

/// Upper end of the crate's own draws of an election timeout; see [`Consensus::redraw_timeout`].
const CRATE_TIMEOUT_TICKS_MAX: usize = 1 << 50;

/// The role of this member and the leader it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// 0 when none is known.
    pub leader_id: u64,
    pub is_leader: bool,
}

/// One step's worth of work that raft asks for; see the picture above.
#[derive(Debug, Default)]
pub struct Ready {
    /// Hand it back to [`Consensus::on_persisted`] once the parts to persist are durable.
    pub number: u64,
    pub entries: Vec<raftpb::Entry>,
    pub hard_state: Option<raftpb::HardState>,
    /// Entries, or a changed term or vote: must be durable before `after_persist` is sent.
    pub must_sync: bool,
    pub messages: Vec<raftpb::Message>,
    pub after_persist: Vec<raftpb::Message>,
    pub committed: Vec<Committed>,
    /// `(request context, read index)` of read-index rounds that ended.
    pub read_states: Vec<(Vec<u8>, u64)>,
}

/// Why raft did not take something; nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// No leader is known, or leadership is being handed over. A later try can help.
    #[error("raft dropped the proposal: no leader")]
    Dropped,
    /// The log that was recovered contradicts itself. The member cannot start.
    #[error("raft refuses the recovered log: {0}")]
    BadStart(raft::Error),
    /// The commit index of the hard state is not in the recovered log. The member cannot start.
    #[error("commit index {commit} is outside the recovered log {first}..={last}")]
    CommitOutsideLog { commit: u64, first: u64, last: u64 },
    /// Raft met a state that it calls impossible. The member must stop.
    #[error("raft failed: {0}")]
    Fatal(raft::Error),
}

/// One raft participant; decides, performs nothing.
pub struct Consensus {
    raw: RawNode<LogStorage>,
    random: SplitMix64,
    election_ticks: usize,
}

impl Consensus {
    /// Starts from a recovered (or bootstrapped) log.
    ///
    /// # Errors
    /// [`ConsensusError::BadStart`] if commit lies outside the log.
    pub fn new(options: &ConsensusOptions, start: LogStart) -> Result<Self, ConsensusError> {
        let applied = start.hard_state.commit.unwrap_or(0);
        let (first, last) = (start.tail.offset_index, start.tail.last_index());
        if !(first..=last).contains(&applied) {
            return Err(ConsensusError::CommitOutsideLog {
                commit: applied,
                first,
                last,
            });
        }
        let config = raft::Config {
            id: options.id,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied,
            max_size_per_msg: MESSAGE_SIZE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGE_COUNT_MAX,
            max_election_tick: CRATE_TIMEOUT_TICKS_MAX,
            check_quorum: true,
            pre_vote: options.pre_vote,
            max_committed_size_per_ready: COMMITTED_SIZE_PER_READY_BYTES_MAX,
            ..raft::Config::default()
        };
        let storage = LogStorage::new(
            start,
            options.catch_up_entry_count,
            options.catch_up_size_bytes,
        );
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, storage, &logger).map_err(ConsensusError::BadStart)?;
        let mut consensus = Consensus {
            raw,
            random: SplitMix64(options.seed),
            election_ticks: options.election_ticks,
        };
        consensus.redraw_timeout();
        Ok(consensus)
    }

    /// Input: one tick of the logical clock passed.
    pub fn on_tick(&mut self) {
        self.raw.tick();
        self.redraw_timeout();
    }

    /// Command: stand for election now. A sole voter does so at start instead of waiting for a timeout.
    pub fn campaign(&mut self) {
        // The only error is a proposal error of the new leader's empty entry, which cannot be dropped.
        let _ = self.raw.campaign();
        self.redraw_timeout();
    }

    /// Command: proposes these entries, in order, as one message.
    ///
    /// # Errors
    /// [`ConsensusError::Dropped`] when there is no leader to take them.
    pub fn propose(&mut self, payloads: Vec<Payload>) -> Result<(), ConsensusError> {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(eraftpb::MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        let entries: Vec<eraftpb::Entry> = payloads.into_iter().map(Payload::into_crate).collect();
        message.set_entries(entries.into());
        match self.raw.raft.step(message) {
            Ok(()) => Ok(()),
            Err(raft::Error::ProposalDropped) => Err(ConsensusError::Dropped),
            Err(other) => Err(ConsensusError::Fatal(other)),
        }
    }

    /// Input: a message from a peer. Messages that make no sense here are dropped, as raft does.
    pub fn on_message(&mut self, message: raftpb::Message) {
        let Some(message) = message::from_peer(message) else {
            return;
        };
        if self.contradicts_log(&message) {
            return;
        }
        // Every error of `step` for a network message means "ignored": unknown peer, no leader, stale term.
        let _ = self.raw.step(message);
        self.redraw_timeout();
    }

    /// Input: what was sent to this member got lost, or cannot be sent. A leader sends less until it hears of it again.
    pub fn on_unreachable(&mut self, id: u64) {
        self.raw.report_unreachable(id);
    }

    /// True for what can only come of a lost log, here or there, or of a peer that means ill: raft would end the process.
    /// Passing over it is safe, as it is to lose a message.
    fn contradicts_log(&self, message: &eraftpb::Message) -> bool {
        use eraftpb::MessageType as Kind;
        let log = &self.raw.raft.raft_log;
        match message.get_msg_type() {
            // A leader tells a follower no commit that this one has not acknowledged.
            Kind::MsgHeartbeat => message.commit > log.last_index(),
            // Nobody acknowledges what was not sent.
            Kind::MsgAppendResponse => message.index > log.last_index(),
            Kind::MsgAppend => {
                let committed = log.committed;
                let is_other = |(index, term): (u64, u64)| {
                    index <= committed && log.term(index).is_ok_and(|own| own != term)
                };
                let mut entries = message.get_entries().iter().map(|e| (e.index, e.term));
                // Terms never fall, so what stands behind the commit is no older than what is committed.
                let is_older = message.index >= committed
                    && log.term(committed).is_ok_and(|own| message.log_term < own);
                is_older || entries.any(is_other)
            }
            _ => false,
        }
    }

    /// Command: starts a read-index round; its end arrives in [`Ready::read_states`].
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.raw.read_index(context);
    }

    /// Output: the next work, already visible to raft's own reads of the log.
    pub fn poll_ready(&mut self) -> Option<Ready> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let work = Ready {
            number: ready.number(),
            entries: ready.entries().iter().map(entry::to_log).collect(),
            hard_state: ready.hs().map(entry::hard_state_to_log),
            must_sync: ready.must_sync(),
            messages: ready
                .take_messages()
                .into_iter()
                .map(message::to_peer)
                .collect(),
            after_persist: ready
                .take_persisted_messages()
                .into_iter()
                .map(message::to_peer)
                .collect(),
            committed: ready
                .take_committed_entries()
                .into_iter()
                .map(Committed::from)
                .collect(),
            read_states: ready
                .take_read_states()
                .into_iter()
                .map(|state| (state.request_ctx, state.index))
                .collect(),
        };
        let store = self.raw.mut_store();
        store.append(ready.entries());
        if let Some(hard_state) = ready.hs() {
            store.set_hard_state(hard_state.clone());
        }
        self.raw.advance_append_async(ready);
        self.redraw_timeout();
        Some(work)
    }

    /// Input: the ready with this number, and all before it, are durable.
    pub fn on_persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
    }

    /// Input: everything up to and including `index` was applied.
    pub fn on_applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
        self.raw.mut_store().trim(index);
    }

    /// Input: a configuration change was applied, or refused (then `change` is [`entry::refused_change`]).
    ///
    /// # Errors
    /// [`ConsensusError::Fatal`] if raft cannot take the change, which membership's own checks rule out.
    pub fn on_conf_change(
        &mut self,
        change: Option<&raftpb::ConfChange>,
    ) -> Result<(), ConsensusError> {
        let change = change.map_or_else(entry::refused_change, entry::change_to_crate);
        let conf_state = self
            .raw
            .apply_conf_change(&change)
            .map_err(ConsensusError::Fatal)?;
        self.raw.mut_store().set_conf_state(conf_state);
        Ok(())
    }

    /// The newest soft state.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            leader_id: self.raw.raft.leader_id,
            is_leader: self.raw.raft.state == StateRole::Leader,
        }
    }

    /// The term this member is in.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The member voted for in this term; 0 for none.
    pub fn vote(&self) -> u64 {
        self.raw.raft.vote
    }

    /// The newest log index known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The newest log index in memory.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// True if this member alone is the quorum.
    pub fn is_sole_voter(&self) -> bool {
        let voters = self.raw.raft.prs().conf().voters();
        voters.contains(self.raw.raft.id) && voters.ids().len() == 1
    }

    /// Replaces what the crate drew at a reset by a timeout from our own source. The crate draws from so wide a
    /// range that its draws are told from ours.
    fn redraw_timeout(&mut self) {
        if self.raw.raft.randomized_election_timeout() >= 2 * self.election_ticks {
            let span = self.election_ticks.max(1) as u64;
            let drawn = self.election_ticks + (self.random.next() % span) as usize;
            self.raw.raft.set_randomized_election_timeout(drawn);
        }
    }
}

#[cfg(test)]
mod tests;
