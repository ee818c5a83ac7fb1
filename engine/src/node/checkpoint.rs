//! When the state goes to the store, and when the log may be released.
//!
//! ```text
//!   due (size, age, compaction, close) -> state record with commit >= applied, synced   --.
//!                                      -> store: pages ........................... only then handed out
//!   durable at C -> C - S > snapshot_count -> .snap of C -> WAL snapshot record, synced -> release
//! ```
//!
//! Invariants:
//! - nothing of a checkpoint reaches the file before the log says durably that its entries are committed: a start that
//!   finds a database ahead of the log's commit would have to trust the one or the other;
//! - a segment is released only once the snapshot record that replaces it is durable.

use bytes::Bytes;
use proto::{raftpb, walpb};

use super::{Node, NodeFailure};
use crate::backend::{Checkpoint, Seal, StoreImage};
use crate::boot::Position;
use crate::boot::meta::encode_conf_state;
use crate::membership::Membership;
use crate::snap::{SnapFile, SnapIo, SnapOp, SnapTicket, v2_store_json};
use crate::state::{ApplyEffect, ClusterVersion};
use crate::store::{CommitState, Extent, StoreIo, StoreTicket};
use crate::types::{Budget, LogIndex};
use crate::wal::{Durability, GroupNo, IoFault};

/// When a checkpoint is due.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointOptions {
    /// So many bytes of changes wait for one.
    pub unsaved_bytes_max: u64,
    /// The oldest of them has waited so many ticks.
    pub unsaved_ticks_max: u64,
}

/// Few enough bytes to be written in some ten milliseconds and to be held twice, many enough that the syncs of a busy
/// member are rare; a second, if a tick is 100 ms.
impl Default for CheckpointOptions {
    fn default() -> Self {
        CheckpointOptions {
            unsaved_bytes_max: 8 << 20,
            unsaved_ticks_max: 10,
        }
    }
}

/// Memory that changes may take which are not in the store, or are and can still be reached in memory. Past it new
/// proposals wait until the disk has caught up.
pub(super) const TAIL_BYTES_MAX: u64 = 96 << 20;
/// Ticks between two tries to claim space for the store.
const CLAIM_RETRY_TICKS: u64 = 5;
/// From this cluster version on the database says whose schema it has.
const STORAGE_VERSION_SINCE: ClusterVersion = ClusterVersion { major: 3, minor: 6 };

/// What is under way; see the module text.
#[derive(Debug)]
pub(super) struct Saving {
    /// The group whose state record covers the checkpoint in progress.
    covered_by: GroupNo,
    /// Tick at which the oldest change that no checkpoint has was noticed.
    unsaved_since: Option<u64>,
    /// The newest checkpoint, as it was last looked at.
    seen: Checkpoint,
    /// Something was applied between the last two ticks.
    is_busy: bool,
    /// Up to where, at the last tick.
    applied: LogIndex,
    /// No tick has passed since the last checkpoint ended.
    has_just_ended: bool,
    /// What a snapshot of the checkpoint in progress, or of the newest one, says of the members.
    sealed: SealedMembers,
    is_closing: bool,
    /// Somebody waits until the store has this entry.
    wanted: LogIndex,
    /// A checkpoint was begun since then: the last one, if nothing is applied any more.
    is_closed: bool,
    snapshot: Snapshot,
    /// The next checkpoint is followed by a snapshot, however few entries it has.
    wants_snapshot: bool,
    /// The newest snapshot that the log vouches for.
    last_snapshot: Position,
    next_ticket: u64,
    /// Says why the store gives up.
    fault: IoFault,
}

/// The members at a checkpoint. They may change before it is durable.
#[derive(Debug, Default)]
struct SealedMembers {
    conf_state: raftpb::ConfState,
    /// For etcd 3.6 and older; empty if no snapshot was due.
    v2_store: Bytes,
}

/// How far a snapshot got.
#[derive(Debug)]
enum Snapshot {
    None,
    /// To be handed out.
    Due(SnapIo, raftpb::ConfState),
    Writing(SnapTicket, raftpb::ConfState),
    /// The log's record is on its way to the disk.
    Recording(GroupNo),
    /// To be handed out.
    Releasing(SnapIo),
    Releases(SnapTicket),
}

impl Saving {
    pub(super) fn new(seen: Checkpoint, last_snapshot: Position) -> Self {
        Saving {
            covered_by: GroupNo(0),
            unsaved_since: None,
            seen,
            is_busy: false,
            applied: seen.index,
            has_just_ended: false,
            sealed: SealedMembers::default(),
            is_closing: false,
            wanted: LogIndex(0),
            is_closed: false,
            snapshot: Snapshot::None,
            wants_snapshot: false,
            last_snapshot,
            next_ticket: 0,
            fault: IoFault { os_error: None },
        }
    }

    /// Input: time passed; so much is applied.
    pub(super) fn on_tick(&mut self, applied: LogIndex) {
        self.is_busy = applied != self.applied;
        self.applied = applied;
        self.has_just_ended = false;
    }

    /// A sweep takes many checkpoints, and each keeps the disk busy for some ten milliseconds. Where others need it, the
    /// next one waits for a tick.
    fn lets_others_write(&self) -> bool {
        self.is_busy && self.has_just_ended && !self.is_closing
    }

    /// A start in the middle of a downgrade cannot tell whether its snapshot was taken.
    pub(super) fn begin_with(&mut self, membership: &Membership) {
        self.wants_snapshot = membership.downgrade_target().is_some();
    }

    fn io(&mut self, op: SnapOp) -> SnapIo {
        let ticket = SnapTicket(self.next_ticket);
        self.next_ticket += 1;
        SnapIo { ticket, op }
    }
}

impl Node {
    /// Does what can wait, between two entries; true while there is more without any new input.
    pub(super) fn keep_up(&mut self, budget: &mut Budget) -> Result<bool, NodeFailure> {
        let more = self.state.tend(budget)?;
        if self.state.commit_state() == CommitState::Failed {
            return Err(NodeFailure::Store(self.saving.fault));
        }
        self.answer_compactions();
        if self.state.checkpoint() != self.saving.seen {
            self.saving.seen = self.state.checkpoint();
            self.saving.has_just_ended = true;
            self.consider_snapshot();
        }
        self.go_on_with_snapshot();
        let begins = self.state.is_checkpoint_idle() && self.is_checkpoint_due();
        if begins {
            self.begin_checkpoint();
        }
        Ok(more || begins)
    }

    /// Tries now and then to claim the space that the store was refused.
    pub(super) fn retry_store_claim(&mut self) {
        let is_refused = self.state.commit_state() == CommitState::ClaimFailed;
        if is_refused && self.tick_count.is_multiple_of(CLAIM_RETRY_TICKS) {
            self.state.retry_store_claim();
        }
    }

    fn is_checkpoint_due(&mut self) -> bool {
        let options = self.options.checkpoints;
        let unsaved = self.state.applied_index() > self.state.checkpoint().index;
        let since = &mut self.saving.unsaved_since;
        match (unsaved, &since) {
            (true, None) => *since = Some(self.tick_count),
            (false, Some(_)) => *since = None,
            _ => {}
        }
        let is_old =
            since.is_some_and(|since| self.tick_count >= since + options.unsaved_ticks_max);
        let is_closing = self.saving.is_closing && (unsaved || !self.saving.is_closed);
        let is_wanted = self.state.checkpoint().index < self.saving.wanted;
        is_old
            || (self.state.is_ready_to_move() && !self.saving.is_closing)
            || is_wanted
            || is_closing
            || self.state.unsaved_bytes() >= options.unsaved_bytes_max
            || (self.state.wants_checkpoint() && !self.saving.lets_others_write())
    }

    fn begin_checkpoint(&mut self) {
        let (voters, learners) = self.membership.conf_state();
        let conf_state = raftpb::ConfState {
            voters,
            learners,
            auto_leave: Some(false),
            ..raftpb::ConfState::default()
        };
        self.wal.append_state(&raftpb::HardState {
            term: Some(self.consensus.term()),
            vote: Some(self.consensus.vote()),
            commit: Some(self.consensus.commit_index()),
        });
        self.saving.covered_by = self.wal.seal(Durability::Sync);
        self.has_lazy_record = false;
        let seal = Seal {
            index: self.state.applied_index(),
            term: self.state.applied_term(),
            conf_state: encode_conf_state(&conf_state),
            storage_version: self.storage_version(),
        };
        let v2_store = match self.is_snapshot_due(seal.index) {
            true => v2_store_json(
                self.membership.members(),
                self.membership.removed(),
                self.membership.cluster_version(),
            ),
            false => Bytes::new(),
        };
        self.saving.sealed = SealedMembers {
            conf_state,
            v2_store,
        };
        self.saving.unsaved_since = None;
        self.saving.is_closed = self.saving.is_closing;
        self.state.begin_checkpoint(seal, self.saving.is_closing);
    }

    /// The database has the schema of the cluster's version, as in etcd.
    fn storage_version(&self) -> Option<Bytes> {
        let text = self.membership.cluster_version()?;
        let version = ClusterVersion::parse(text)?;
        (version >= STORAGE_VERSION_SINCE).then(|| Bytes::copy_from_slice(text.as_bytes()))
    }

    fn is_snapshot_due(&self, index: LogIndex) -> bool {
        let since = index.0.saturating_sub(self.saving.last_snapshot.index);
        let is_forced = self.saving.wants_snapshot && since > 0;
        (is_forced || since > self.options.snapshot_count)
            && matches!(self.saving.snapshot, Snapshot::None)
    }

    /// A cluster's version that changes has its entries put behind a snapshot, as in etcd: a member of a lower version
    /// that takes over this directory reads the log from there, and would end at the entry that set the higher one.
    pub(super) fn consider_forced_snapshot(&mut self, effect: &ApplyEffect) {
        if let ApplyEffect::ClusterVersionSet { version } = effect {
            let former = self.membership.cluster_version();
            self.saving.wants_snapshot |= former.is_some_and(|former| former != version);
        }
    }

    fn consider_snapshot(&mut self) {
        let Checkpoint { index, term } = self.saving.seen;
        let SealedMembers {
            conf_state,
            v2_store,
        } = std::mem::take(&mut self.saving.sealed);
        // One that became due since the seal, because the one before ended meanwhile, waits for the next checkpoint.
        if v2_store.is_empty() || !self.is_snapshot_due(index) {
            return;
        }
        let file = SnapFile {
            term: term.0,
            index: index.0,
            conf_state: conf_state.clone(),
            data: v2_store,
        };
        self.saving.wants_snapshot = false;
        self.saving.last_snapshot = Position {
            index: index.0,
            term: term.0,
        };
        let io = self.saving.io(SnapOp::Write {
            term: term.0,
            index: index.0,
            bytes: file.encode(),
        });
        self.saving.snapshot = Snapshot::Due(io, conf_state);
    }

    fn go_on_with_snapshot(&mut self) {
        if let Snapshot::Recording(group) = self.saving.snapshot
            && self.wal.durable() >= group
        {
            let index = self.saving.last_snapshot.index;
            let io = self.saving.io(SnapOp::Release { index });
            self.saving.snapshot = Snapshot::Releasing(io);
        }
    }

    /// Output: the next operation on the store's file.
    pub fn poll_store_io(&mut self) -> Option<StoreIo> {
        if self.wal.durable() < self.saving.covered_by {
            return None;
        }
        self.state.poll_store_io()
    }

    /// Input: an operation on the store's file ended.
    pub fn on_store_io_done(&mut self, ticket: StoreTicket, result: Result<(), IoFault>) {
        if let Err(fault) = result {
            self.saving.fault = fault;
        }
        self.state.on_store_io_done(ticket, result);
    }

    /// Output: parts of the store's file that are to be brought into memory before slow work goes on: all of them at once, on
    /// another thread than this one. Reading them without that would be right, and would wait for the disk.
    pub fn poll_store_load(&mut self) -> Option<Vec<Extent>> {
        self.state.poll_store_load()
    }

    /// Input: they are, or cannot be.
    pub fn on_store_loaded(&mut self) {
        self.state.on_store_loaded();
    }

    /// Output: the next operation on snapshot files.
    pub fn poll_snap_io(&mut self) -> Option<SnapIo> {
        match std::mem::replace(&mut self.saving.snapshot, Snapshot::None) {
            Snapshot::Due(io, conf_state) => {
                self.saving.snapshot = Snapshot::Writing(io.ticket, conf_state);
                Some(io)
            }
            Snapshot::Releasing(io) => {
                self.saving.snapshot = Snapshot::Releases(io.ticket);
                Some(io)
            }
            other => {
                self.saving.snapshot = other;
                None
            }
        }
    }

    /// Input: an operation on snapshot files ended. One that failed costs space only: the log is kept, and the next
    /// snapshot is tried in its turn.
    pub fn on_snap_io_done(&mut self, ticket: SnapTicket, result: Result<(), IoFault>) {
        match std::mem::replace(&mut self.saving.snapshot, Snapshot::None) {
            Snapshot::Writing(expected, conf_state) if expected == ticket && result.is_ok() => {
                let at = self.saving.last_snapshot;
                self.wal.append_snapshot(&walpb::Snapshot {
                    index: Some(at.index),
                    term: Some(at.term),
                    conf_state: Some(conf_state),
                });
                let group = self.wal.seal(Durability::Sync);
                self.saving.snapshot = Snapshot::Recording(group);
            }
            Snapshot::Writing(expected, _) | Snapshot::Releases(expected) if expected == ticket => {
            }
            other => self.saving.snapshot = other,
        }
    }

    /// True if everything is in the store and nothing of it under way; or if the store has no space for it, and the log
    /// has it.
    pub(super) fn is_saved(&self) -> bool {
        let is_done = self.saving.is_closed
            && self.state.is_checkpoint_idle()
            && self.state.applied_index() == self.state.checkpoint().index;
        (is_done && matches!(self.saving.snapshot, Snapshot::None))
            || self.state.commit_state() == CommitState::ClaimFailed
    }

    /// The index for the next start, once the node has closed: see [`State::save_index`](crate::state::State::save_index).
    pub fn save_index(&self) -> Option<Vec<u8>> {
        self.state.save_index()
    }

    /// Command: everything that is applied now is to be in the store soon: when [`Node::checkpoint_index`] is at the
    /// answer.
    pub fn want_checkpoint(&mut self) -> u64 {
        self.saving.wanted = self.state.applied_index();
        self.saving.wanted.0
    }

    /// Command: moves what lies far behind in the store's file to the front and cuts the file, in checkpoints that follow each
    /// other; until [`Node::is_defragmenting`] is false.
    pub fn defragment(&mut self) {
        self.state.defragment();
    }

    pub fn is_defragmenting(&self) -> bool {
        self.state.is_defragmenting()
    }

    /// The store as the newest checkpoint left it, kept as long as the answer lives; `None` before the first.
    pub fn store_image(&mut self) -> Option<StoreImage> {
        self.state.store_image()
    }

    /// Begins the last checkpoint.
    pub(super) fn close_store(&mut self) {
        self.saving.is_closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.saving.is_closing
    }
}
