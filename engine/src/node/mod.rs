//! One member as one deterministic machine: raft, the WAL and the replicated state.
//!
//! ```text
//!   propose, read_index, on_tick, on_message, on_io_done
//!        |
//!        v
//!   work(budget):  proposals -> raft -> WAL groups -> (durable) -> committed -> apply, in slices
//!        |
//!        v
//!   poll_io: what the disk does next      poll_event: replies, reads that may go, leadership
//!   poll_message: what peers are sent     views(): what readers on any core see
//! ```
//!
//! Nothing here reads a clock, opens a file or draws a random number that was not seeded. The shell (`server`, or a
//! simulator) performs the outputs and reports their ends.
//!
//! Invariants:
//! - a reply is an event only after its entry was applied whole, and an entry is applied only once a quorum has it
//!   durably; with a sole voter that is this member's own disk;
//! - a message that promises durability leaves only after the group it depends on is durable;
//! - readers never see a half-applied entry, and see a whole one before any reply to it can be polled;
//! - what is proposed but not applied is bounded in entries and bytes.
//!
//! Lives on the log shard. Source of the limits: contract `semantics.md` sections 9 and 13.

mod apply;
mod backlog;
mod bootstrap;
mod checkpoint;
mod leases;
mod length;
mod reads;
mod request_id;
mod start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use prost::Message;
use proto::etcdserverpb::{self as pb, InternalRaftRequest};
use proto::raftpb;

use crate::backend::Damage;
use crate::bump::Bump;
use crate::consensus::{Committed, Consensus, ConsensusError, Leadership, Payload, Ready};
use crate::lease::Expiry;
use crate::membership::{ChangeError, Membership};
use crate::state::{Applied, State, View};
use crate::store::CommitState;
use crate::types::{Budget, LeaseId, LogIndex};
use crate::view::{RaftFacts, Views};
use crate::wal::{Durability, GroupNo, Health, IoFault, IoTicket, Wal, WalIo};
use backlog::Backlog;
use checkpoint::{Saving, TAIL_BYTES_MAX};

pub use bootstrap::bootstrap_log;
pub use checkpoint::CheckpointOptions;
pub use leases::{LeaseCursor, LeaseTime, Renewal};
pub use request_id::RequestIds;
pub use start::{NodeOptions, StartError};

/// Entries that may be committed and not yet applied before new proposals are refused; etcd's number.
const APPLY_LAG_ENTRY_COUNT_MAX: u64 = 5000;
/// Bytes that may be proposed and not yet applied before new proposals are refused.
const UNAPPLIED_SIZE_BYTES_MAX: usize = 64 << 20;

/// Why a proposal was not taken; nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Too much waits to be applied. A later try can help.
    #[error("too much waits to be applied")]
    TooManyRequests,
    /// The encoded request is larger than `max-request-bytes`.
    #[error("request of {size_bytes} bytes is larger than the limit of {limit_bytes}")]
    TooLarge {
        size_bytes: usize,
        limit_bytes: usize,
    },
    /// No space could be claimed for the log or the database. The member recovers when there is space again.
    #[error("no space for the write-ahead log or the database")]
    NoSpace,
}

/// What this member can no longer survive; it stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeFailure {
    /// A write or sync of the log failed: what reached the disk is unknown.
    #[error(
        "a write or sync of the write-ahead log failed ({0}); what reached the disk is unknown, so this member stops: check the disk, then start it again"
    )]
    Wal(IoFault),
    /// A write or sync of the database failed: what reached the disk is unknown.
    #[error(
        "a write or sync of the database file failed ({0}); what reached the disk is unknown, so this member stops: check the disk, then start it again"
    )]
    Store(IoFault),
    /// The database does not hold what was written to it.
    #[error(
        "the database file is damaged ({0}); this member stops: check the disk, then restore the member from a snapshot, or remove it and add it anew"
    )]
    Damaged(#[from] Damage),
    /// A committed entry holds what this version cannot apply; passing over it would make this member diverge.
    #[error("log entry {index} cannot be applied: {reason}")]
    BadEntry { index: u64, reason: String },
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

/// Facts that somebody waits for.
#[derive(Debug)]
pub enum NodeEvent {
    /// A request was applied, here or first at another member; `id` is the one that [`Node::propose`] gave out.
    Applied { id: u64, applied: Applied },
    /// A physical compaction was applied: `Applied` follows when its sweep has ended, however long that takes.
    Sweeping { id: u64 },
    /// A configuration change was applied or refused.
    ConfChanged {
        id: u64,
        result: Result<(), ChangeError>,
    },
    /// Reads that asked for this id may use the newest View from now on.
    ReadReady { id: u64 },
    /// The role or the known leader changed.
    Leadership(Leadership),
}

/// A read-index round: asked, then known, then reached by apply.
struct PendingRead {
    id: u64,
    index: Option<u64>,
}

/// A ready whose disk work is under way.
struct Persisting {
    /// The WAL group that must be durable; `None`: nothing to wait for but the readies before it.
    group: Option<GroupNo>,
    number: u64,
    /// Sent only then.
    messages: Vec<raftpb::Message>,
}

/// The machine; see the module text.
pub struct Node {
    options: NodeOptions,
    consensus: Consensus,
    wal: Wal,
    /// The newest failure of the disk; says why when the WAL gives up.
    wal_fault: IoFault,
    state: State,
    membership: Membership,
    ids: RequestIds,
    /// Of encoded proposals, until their entries are trimmed from the log in memory.
    requests: Bump,
    /// Encoded requests not yet handed to raft.
    proposals: Vec<Payload>,
    /// The id and size of each of these.
    proposed: Vec<(u64, usize)>,
    backlog: Backlog,
    persisting: VecDeque<Persisting>,
    committed: VecDeque<Committed>,
    /// The entry that apply is in the middle of.
    applying: Option<Applying>,
    applied_index: u64,
    applied_term: u64,
    /// What goes to the store, and what of the log is released.
    saving: Saving,
    /// Answers of physical compactions, until the sweep up to their revision is done.
    sweeping: VecDeque<(i64, NodeEvent)>,
    /// Deadlines of leases while this member leads.
    expiry: Expiry,
    /// Ids of the proposals that revoke expired leases and are not applied.
    revoking: BTreeSet<u64>,
    /// Leases that this member had revoked because they ran out, in this life.
    expired_count: u64,
    leadership: Leadership,
    reads: VecDeque<PendingRead>,
    events: VecDeque<NodeEvent>,
    messages: VecDeque<raftpb::Message>,
    /// True while a state record was appended that no sync group has carried to the disk yet.
    has_lazy_record: bool,
    /// True from the proposal of this member's NOSPACE alarm until it is applied.
    is_space_alarm_proposed: bool,
    /// The clock at the last turn or tick.
    now: Duration,
    tick_count: u64,
    /// See [`Node::rest`].
    rests: bool,
}

/// What must be remembered of an entry until it is whole.
#[derive(Clone, Copy)]
struct Applying {
    index: u64,
    term: u64,
    request_id: u64,
    /// A compaction whose answer waits for the sweep.
    is_physical: bool,
    /// Applied in one piece.
    is_short: bool,
}

/// What a turn does of what can wait: twice what it applied, since the store must keep up with the log; at least half of its
/// budget, so that a sweep goes on beside single writes, unless that rests.
fn keep_up_steps(budget: usize, applied: usize, rests: bool) -> usize {
    let least = if rests { 1 } else { budget / 2 };
    applied.saturating_mul(2).max(least).max(1)
}

/// Ticks between two tries of a read index that raft dropped; etcd's 500 ms at its default heartbeat.
const READ_RETRY_TICKS: u64 = 5;

impl Node {
    /// Command: proposes a request; its header id is set here and returned. [`NodeEvent::Applied`] answers.
    ///
    /// # Errors
    /// A [`ProposeError`], in etcd's order: overload, then size.
    pub fn propose(&mut self, mut request: InternalRaftRequest) -> Result<u64, ProposeError> {
        let lag = self
            .consensus
            .commit_index()
            .saturating_sub(self.applied_index);
        if lag > APPLY_LAG_ENTRY_COUNT_MAX || self.backlog.size_bytes() > UNAPPLIED_SIZE_BYTES_MAX {
            return Err(ProposeError::TooManyRequests);
        }
        let has_no_space = self.wal.health() == Health::ClaimFailed
            || self.state.commit_state() == CommitState::ClaimFailed;
        if has_no_space {
            return Err(ProposeError::NoSpace);
        }
        let id = self.ids.next_id();
        request.header = Some(pb::RequestHeader {
            id,
            ..pb::RequestHeader::default()
        });
        let size_bytes = request.encoded_len();
        let limit_bytes = self.options.max_request_bytes;
        if size_bytes > limit_bytes {
            return Err(ProposeError::TooLarge {
                size_bytes,
                limit_bytes,
            });
        }
        self.backlog.on_proposed(size_bytes);
        self.proposed.push((id, size_bytes));
        self.proposals
            .push(Payload::Request(self.requests.make(size_bytes, |out| {
                let encoded = request.encode(out);
                debug_assert!(encoded.is_ok(), "there is room");
            })));
        Ok(id)
    }

    /// Command: takes back those of these proposals that raft was never given, because there was no leader all the time, or
    /// the store was behind. Nobody waits for them any more, and what a client has long written anew must not be written
    /// later. Returns which ones they were.
    pub fn withdraw(&mut self, ids: &BTreeSet<u64>) -> BTreeSet<u64> {
        let proposals = std::mem::take(&mut self.proposals).into_iter();
        let mut withdrawn = BTreeSet::new();
        for (payload, (id, size_bytes)) in proposals.zip(std::mem::take(&mut self.proposed)) {
            if ids.contains(&id) {
                self.backlog.on_withdrawn(size_bytes);
                withdrawn.insert(id);
            } else {
                self.proposals.push(payload);
                self.proposed.push((id, size_bytes));
            }
        }
        withdrawn
    }

    /// Command: asks for a point in the log that is no older than this call. [`NodeEvent::ReadReady`] answers.
    pub fn read_index(&mut self) -> u64 {
        let id = self.ids.next_id();
        self.reads.push_back(PendingRead { id, index: None });
        self.consensus.read_index(id.to_be_bytes().to_vec());
        id
    }

    /// True if the newest View is linearizable as it is: a sole voter that leads and has applied an entry of its
    /// term. No round is needed, because a write is answered only after its View is there.
    pub fn is_view_linearizable(&self) -> bool {
        self.leadership.is_leader
            && self.applied_term == self.consensus.term()
            && self.consensus.is_sole_voter()
    }

    /// Input: the time, before a turn. The leases that are granted in it, and all of them if this member begins to lead in
    /// it, have their time from then on. From the last tick on it would be too short: by a tick, after a stop of the process
    /// by that, and at a start, when a sole voter leads before its first tick, by all that the start took.
    pub fn on_time(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// True if this member alone is the quorum.
    pub fn is_sole_voter(&self) -> bool {
        self.consensus.is_sole_voter()
    }

    /// Input: one tick (the heartbeat interval) passed; `now` is a monotonic clock.
    pub fn on_tick(&mut self, now: Duration) {
        self.now = now;
        self.tick_count += 1;
        self.consensus.on_tick();
        self.wal.on_tick();
        self.retry_store_claim();
        self.saving.on_tick(LogIndex(self.applied_index));
        if self.has_lazy_record {
            self.wal.flush();
            self.has_lazy_record = false;
        }
        if self.tick_count.is_multiple_of(READ_RETRY_TICKS) {
            self.retry_reads();
        }
        self.forget_lost_revocations();
        self.checkpoint_leases();
    }

    /// Input: a peer's message. What makes no sense here is dropped, as raft does.
    pub fn on_message(&mut self, message: raftpb::Message) {
        self.consensus.on_message(message);
    }

    /// Input: a message to this member got lost, or it cannot be reached.
    pub fn on_unreachable(&mut self, member_id: u64) {
        self.consensus.on_unreachable(member_id);
    }

    /// True while so much waits to be applied, or to reach the store, that peers' entries must wait in their stream: a
    /// follower must take what it is sent, so it reads later.
    pub fn is_congested(&self) -> bool {
        self.backlog.size_bytes() > UNAPPLIED_SIZE_BYTES_MAX || self.is_tail_full()
    }

    /// True while memory holds as much as it may of what the store has not.
    fn is_tail_full(&self) -> bool {
        self.state.tail_bytes() > TAIL_BYTES_MAX
    }

    /// Whether proposals wait for the store, so that writers are as fast as the disk and not refused. Without space they
    /// would wait in vain.
    fn holds_proposals(&self) -> bool {
        self.is_tail_full() && self.state.commit_state() != CommitState::ClaimFailed
    }

    /// Input: the disk work with this ticket ended.
    pub fn on_io_done(&mut self, ticket: IoTicket, result: Result<(), IoFault>) {
        if let Err(fault) = result {
            self.wal_fault = fault;
        }
        self.wal.on_io_done(ticket, result);
    }

    /// Command: does what can be done now, within the budget. True if there is more to do without any new input.
    ///
    /// # Errors
    /// A [`NodeFailure`]: the member must stop.
    pub fn work(&mut self, budget: &mut Budget) -> Result<bool, NodeFailure> {
        let worked = self.turn(budget);
        self.show_raft_facts(worked.is_ok());
        worked
    }

    /// Command: until it is taken back, turns do of what can wait only as much as the store needs to keep up with the log.
    /// For a shell in which others wait for the core.
    pub fn rest(&mut self, rests: bool) {
        self.rests = rests;
    }

    /// Whether the store has so much to catch up with that what can wait must not rest, or proposals would have to wait.
    pub fn is_store_behind(&self) -> bool {
        self.state.tail_bytes() > TAIL_BYTES_MAX / 4
    }

    /// Whether more is to be done at once, and not only what can wait.
    pub fn has_urgent_work(&self) -> bool {
        self.applying.is_some() || !self.committed.is_empty() || self.has_expired()
    }

    fn turn(&mut self, budget: &mut Budget) -> Result<bool, NodeFailure> {
        if self.wal.health() == Health::Failed {
            return Err(NodeFailure::Wal(self.wal_fault));
        }
        self.revoke_expired();
        let given = budget.left();
        self.step_proposals()?;
        self.release_durable();
        while let Some(ready) = self.consensus.poll_ready() {
            self.take_ready(ready);
            self.release_durable();
        }
        let applied = self.apply_committed(budget);
        // If an entry is half applied, those before it were shown before it began.
        if self.applying.is_none() {
            self.state.publish();
        }
        applied?;
        self.answer_reads();
        if self.applying.is_some() {
            return Ok(true);
        }
        let is_behind = self.is_store_behind();
        let steps = keep_up_steps(given, budget.spent(), self.rests && !is_behind);
        // Proposals that had to wait for the store would wait for longer than a turn.
        let mut own = match is_behind {
            true => Budget::new(steps),
            false => budget.anew(steps),
        };
        let more = self.keep_up(&mut own)?;
        Ok(more || self.has_urgent_work())
    }

    /// Tells all readers what raft says, at the end of a turn: replies and messages that depend on it are polled after
    /// that, and what is applied was published before. A member that must stop promises nothing any more.
    fn show_raft_facts(&self, goes_on: bool) {
        let own = self.membership.member(self.options.member_id);
        self.state.views().set_raft_facts(&RaftFacts {
            leader_id: self.leadership.leader_id,
            term: self.consensus.term(),
            is_linearizable: goes_on && self.is_view_linearizable(),
            is_learner: own.is_some_and(|member| member.is_learner),
        });
    }

    /// Output: the next write, sync or claim for the disk.
    pub fn poll_io(&mut self) -> Option<WalIo> {
        self.wal.poll_io()
    }

    /// Whether the write just handed out may be performed together with its sync; see [`Wal::sync_follows`].
    pub fn sync_follows(&self, ticket: IoTicket) -> bool {
        self.wal.sync_follows(ticket)
    }

    /// Output: the next fact that somebody waits for.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// Output: the next message for a peer; its `to` says for whom.
    pub fn poll_message(&mut self) -> Option<raftpb::Message> {
        self.messages.pop_front()
    }

    /// Plants a bug, for the simulator.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, sabotage: crate::view::Sabotage) {
        self.state.sabotage(sabotage);
    }

    /// Where readers come from, on this thread and all others: they see the state after a whole entry, and every entry
    /// that was replied to.
    pub fn views(&self) -> &Views {
        self.state.views()
    }

    /// The state as the log shard itself looks at it. Not to be held across a wait.
    pub fn view(&self) -> View<'_> {
        self.state.view()
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    pub fn term(&self) -> u64 {
        self.consensus.term()
    }

    pub fn commit_index(&self) -> u64 {
        self.consensus.commit_index()
    }

    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The last entry whose effects are durable in the store.
    pub fn checkpoint_index(&self) -> u64 {
        self.state.checkpoint().index.0
    }

    /// Whether the backend has room for a request of this cost; see [`crate::mvcc::quota`].
    pub fn has_room(&self, cost_bytes: u64) -> bool {
        self.state.has_room(cost_bytes)
    }

    /// Command: raises this member's NOSPACE alarm, unless that is under way. Nobody is answered.
    pub fn raise_space_alarm(&mut self) {
        if self.is_space_alarm_proposed {
            return;
        }
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate as i32,
            member_id: self.options.member_id,
            alarm: pb::AlarmType::Nospace as i32,
        };
        let request = InternalRaftRequest {
            alarm: Some(alarm),
            ..InternalRaftRequest::default()
        };
        self.is_space_alarm_proposed = self.propose(request).is_ok();
    }

    /// Command: the member ends: writes what no sync group has carried yet, and the last checkpoint. [`Self::is_quiet`]
    /// tells when it is done.
    pub fn close(&mut self) {
        if self.leadership.leader_id == 0 {
            // Nobody is there to take them, and nothing else would end the wait for it.
            self.proposals.clear();
            self.proposed.clear();
            self.backlog.on_stepped();
        }
        self.wal.flush();
        self.has_lazy_record = false;
        self.close_store();
    }

    /// True if nothing is proposed, half applied or under way to the log; once it closes, also if all is in the store.
    pub fn is_quiet(&self) -> bool {
        self.proposals.is_empty()
            && self.persisting.is_empty()
            && self.applying.is_none()
            && self.committed.is_empty()
            && self.wal.is_settled()
            && (!self.is_closing() || self.is_saved())
    }

    pub fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// Proposals taken and not applied yet, here or in the log.
    pub fn pending_proposal_count(&self) -> u64 {
        self.consensus
            .last_index()
            .saturating_sub(self.applied_index)
            + self.proposals.len() as u64
    }

    /// A lease id that no lease has.
    pub fn fresh_lease_id(&mut self) -> i64 {
        loop {
            let id = self.ids.next_lease_id();
            if id != 0 && !self.state.view().leases().contains(LeaseId(id)) {
                return id;
            }
        }
    }

    fn step_proposals(&mut self) -> Result<(), NodeFailure> {
        if self.proposals.is_empty() || self.leadership.leader_id == 0 || self.holds_proposals() {
            return Ok(());
        }
        self.backlog.on_stepped();
        self.proposed.clear();
        match self.consensus.propose(std::mem::take(&mut self.proposals)) {
            Ok(()) => Ok(()),
            // Raft lost its leader within this very step. Whoever waits for these runs into the deadline, as in etcd.
            Err(ConsensusError::Dropped) => Ok(()),
            Err(fatal) => Err(fatal.into()),
        }
    }

    /// Puts a ready's entries and state into the WAL and remembers what waits for them.
    fn take_ready(&mut self, ready: Ready) {
        for entry in &ready.entries {
            self.wal.append_entry(entry);
            self.backlog.on_logged(entry);
        }
        if let Some(hard_state) = &ready.hard_state {
            self.wal.append_state(hard_state);
        }
        let group = if ready.must_sync {
            self.has_lazy_record = false;
            Some(self.wal.seal(Durability::Sync))
        } else {
            if ready.hard_state.is_some() {
                self.wal.seal(Durability::Lazy);
                self.has_lazy_record = true;
            }
            None
        };
        self.messages.extend(ready.messages);
        let (number, messages) = (ready.number, ready.after_persist);
        self.persisting.push_back(Persisting {
            group,
            number,
            messages,
        });
        self.committed.extend(ready.committed);
        for (context, index) in ready.read_states {
            self.on_read_state(&context, index);
        }
        self.observe_leadership();
    }

    /// Tells raft which readies the disk has, in order.
    fn release_durable(&mut self) {
        // The log of the last life may lie in the page cache only: nothing is promised about it before it is synced.
        if !self.wal.is_ready() {
            return;
        }
        let durable = self.wal.durable();
        let mut newest = None;
        while let Some(front) = self.persisting.front() {
            if front.group.is_some_and(|group| group > durable) {
                break;
            }
            newest = Some(front.number);
            if let Some(done) = self.persisting.pop_front() {
                self.messages.extend(done.messages);
            }
        }
        if let Some(number) = newest {
            self.consensus.on_persisted(number);
        }
    }

    fn observe_leadership(&mut self) {
        let now = self.consensus.leadership();
        if now != self.leadership {
            self.leadership = now;
            if now.is_leader {
                self.promote_leases();
            } else {
                self.expiry.demote();
                self.revoking.clear();
            }
            self.events.push_back(NodeEvent::Leadership(now));
        }
    }
}
