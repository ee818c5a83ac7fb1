//! The log shard: the one place that drives the [`Node`].
//!
//! One task turns the node: it works while there is something to do, starts the disk work that the node asks for,
//! hands out what the node tells, and sleeps until somebody wakes it. A turn ends after a bounded amount of apply work
//! so that connections on the same core get theirs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::Notify;
use engine::mvcc::{AutoCompaction, RequestError};
use engine::node::{Node, NodeEvent, NodeFailure, ProposeError};
use engine::snap::SnapOp;
use engine::state::ApplyEffect;
use engine::view::Views;
use engine::wal::{IoFault, IoTicket, WalIo};
use proto::etcdserverpb::{AlarmType, CompactionRequest, InternalRaftRequest, ResponseHeader};
use proto::raftpb;

use super::count::{alarm_label, count_applied, set_cluster_version};
use super::images::{ImageWaiter, ImageWaiters};
use super::lone::Lone;
use super::pace::Pace;
use super::renewals::{RenewalWaiter, Renewals};
use super::space_alarm::SpaceAlarm;
use super::stretches::Stretches;
use super::waiter::{Fresh, FreshWaiter, Waiter, Waiters};
use crate::config::Config;
use crate::errors::FrontError;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::shard::NodeReply;
use crate::storage::{SnapDisk, StoreDisk, WalDisk};

/// Facts handed out in one turn; most are answers to proposals, some microsecond each.
const EVENTS_MAX: usize = 256;
/// While no more proposals than this wait, a group of the log is written in the way that is quickest for one by itself.
const LONE_COUNT_MAX: usize = 4;

/// When the next turn is due.
enum Next {
    Now,
    /// What is left can wait for others.
    Sometime,
    OnceWoken,
}

/// What performs the node's work on files.
pub(crate) struct Disks {
    pub(crate) wal: WalDisk,
    pub(crate) store: StoreDisk,
    pub(crate) snapshots: SnapDisk,
}

/// The node and everybody who waits for it.
pub(crate) struct LogShard {
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    /// Those of all shards, this one's first; for a scrape.
    all_metrics: Vec<Arc<Metrics>>,
    node: RefCell<Node>,
    disks: Disks,
    waiters: RefCell<Waiters>,
    /// Reads by the id of their read-index round, and when they give up.
    reads: RefCell<BTreeMap<u64, (Duration, FreshWaiter)>>,
    /// Keep-alives of leases that are on their way out, or in.
    renewals: RefCell<Vec<Renewals>>,
    images: RefCell<ImageWaiters>,
    /// Who waits for the end of a defragmentation.
    defragmenting: RefCell<Vec<NodeReply>>,
    stretches: Stretches,
    pub(super) space_alarm: SpaceAlarm,
    auto_compaction: RefCell<Option<AutoCompaction>>,
    wake: Notify,
    pace: Pace,
    lone: Lone,
    is_stopping: Cell<bool>,
    /// Alarms that the metrics have a series for.
    noted_alarms: RefCell<BTreeSet<(u64, i32)>>,
    /// Called when there are changes that watches may have to hear of.
    new_view: RefCell<Option<Box<dyn Fn()>>>,
    /// The newest revision that was told of.
    told_revision: Cell<i64>,
    /// A downgrade was called off; see `versions.rs`.
    pub(super) raises_version: Cell<bool>,
    pub(super) is_version_asked: Cell<bool>,
    peers: RefCell<Option<PeerHooks>>,
}

/// What other members have to do with this one.
struct PeerHooks {
    /// Takes a message that raft wants sent.
    send: Rc<dyn Fn(raftpb::Message)>,
    /// Called when the members may have changed.
    follow_membership: Rc<dyn Fn()>,
}

impl LogShard {
    pub(crate) fn new(
        config: Arc<Config>,
        all_metrics: Vec<Arc<Metrics>>,
        node: Node,
        disks: Disks,
    ) -> Rc<Self> {
        let patience = config.request_timeout();
        let metrics = all_metrics.first().cloned().unwrap_or_default();
        metrics.defrag_inflight.set_bool(false);
        let revision = node.view().revision();
        let auto_compaction = config
            .auto_compaction
            .map(|retention| AutoCompaction::new(retention, driver::now(), revision));
        let shard = Rc::new(LogShard {
            config,
            metrics,
            all_metrics,
            node: RefCell::new(node),
            disks,
            waiters: RefCell::new(Waiters::new(patience)),
            reads: RefCell::new(BTreeMap::new()),
            renewals: RefCell::default(),
            images: RefCell::default(),
            defragmenting: RefCell::default(),
            stretches: Stretches::default(),
            space_alarm: SpaceAlarm::default(),
            auto_compaction: RefCell::new(auto_compaction),
            wake: Notify::new(),
            pace: Pace::new(),
            lone: Lone::default(),
            is_stopping: Cell::new(false),
            noted_alarms: RefCell::default(),
            new_view: RefCell::default(),
            told_revision: Cell::new(0),
            raises_version: Cell::new(false),
            is_version_asked: Cell::new(false),
            peers: RefCell::default(),
        });
        shard.note_alarms();
        if let Some(version) = shard.node.borrow().membership().cluster_version() {
            set_cluster_version(&shard.metrics, version);
        }
        shard
    }

    /// Looks at the node; never across an await.
    pub(crate) fn with_node<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&self.node.borrow())
    }

    /// Changes the node and lets it work on the change.
    pub(crate) fn with_node_mut<T>(&self, change: impl FnOnce(&mut Node) -> T) -> T {
        let result = change(&mut self.node.borrow_mut());
        self.wake.notify();
        result
    }

    /// Proposes a request; `waiter` learns the outcome. A lease that was given no id gets one that is free.
    ///
    /// # Errors
    /// What the node refused, before anything happened; the waiter is dropped then.
    pub(crate) fn propose(
        &self,
        mut request: InternalRaftRequest,
        waiter: Waiter,
    ) -> Result<(), FrontError> {
        if self.is_stopping.get() {
            return Err(FrontError::Stopped);
        }
        if let Some(grant) = &mut request.lease_grant
            && grant.id == 0
        {
            grant.id = self.node.borrow_mut().fresh_lease_id();
        }
        let id = self.node.borrow_mut().propose(request).map_err(|error| {
            match error {
                // What is refused before is no proposal that failed.
                ProposeError::TooManyRequests => FrontError::TooManyRequests,
                ProposeError::TooLarge { .. } => FrontError::RequestTooLarge,
                _ => {
                    self.metrics.proposals_failed.inc();
                    FrontError::NoSpace
                }
            }
        })?;
        let now = driver::now();
        self.waiters.borrow_mut().insert(id, waiter, now);
        self.pace.on_proposal(now);
        self.wake.notify();
        Ok(())
    }

    /// Proposes a request on behalf of a call, or answers why not.
    pub(crate) fn propose_for(&self, request: InternalRaftRequest, reply: NodeReply) {
        if let Err(error) = self.propose(request, Waiter::Reply(reply.clone())) {
            reply.finish(Err(error.status()));
        }
    }

    /// Refuses what the backend has no room for, and raises the alarm that keeps all members from growing.
    ///
    /// # Errors
    /// [`FrontError::NoSpace`].
    pub(crate) fn claim(&self, cost_bytes: u64) -> Result<(), FrontError> {
        if self.node.borrow().has_room(cost_bytes) {
            return Ok(());
        }
        self.raise_space_alarm();
        Err(FrontError::NoSpace)
    }

    pub(super) fn raise_space_alarm(&self) {
        self.with_node_mut(Node::raise_space_alarm);
    }

    /// Calls a node service back once the newest state is no older than this call. With `is_local` any will do.
    pub(crate) fn when_fresh(&self, is_local: bool, then: impl FnOnce(Fresh) + 'static) {
        if is_local || self.node.borrow().is_view_linearizable() {
            return then(Ok(()));
        }
        self.wait_fresh(FreshWaiter::Then(Box::new(then)));
    }

    /// Waits until the newest View is linearizable, within the request timeout.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn freshness(&self) -> Fresh {
        let (sender, told) = driver::oneshot();
        // Nobody listens any more: the task was dropped with its connection.
        self.when_fresh(false, |fresh| {
            let _ = sender.send(fresh);
        });
        told.await.unwrap_or(Err(FrontError::Stopped))
    }

    /// The same.
    ///
    /// # Errors
    /// The text that a client would see.
    pub(crate) async fn wait_linearizable(&self) -> Result<(), String> {
        let fresh = self.freshness().await;
        fresh.map_err(|error| error.status().message.into_owned())
    }

    /// Tells the waiter when the newest View is no older than this call, after a read-index round.
    pub(super) fn wait_fresh(&self, waiter: FreshWaiter) {
        let id = self.node.borrow_mut().read_index();
        let deadline = driver::now() + self.config.request_timeout();
        self.reads.borrow_mut().insert(id, (deadline, waiter));
        self.wake.notify();
    }

    /// Renews leases; `waiter` is told their times to live.
    pub(super) fn renew(self: &Rc<Self>, ids: Vec<i64>, waiter: RenewalWaiter) {
        if self.is_stopping.get() {
            return waiter.finish(Err(FrontError::Stopped));
        }
        let now = driver::now();
        let granted_by = self.node.borrow().commit_index();
        let deadline = now + self.config.request_timeout();
        let renewals = Renewals::new(ids, granted_by, deadline, waiter);
        // A leader renews only while it is sure to be one.
        let shard = Rc::clone(self);
        self.when_fresh(false, move |fresh| match fresh {
            // Its clock alone counts, and nobody hands keep-alives on to it yet.
            Ok(()) if !shard.node.borrow().leadership().is_leader => {
                renewals.refuse(FrontError::NotLeader);
            }
            Ok(()) => shard.try_renewals(renewals),
            Err(error) => renewals.refuse(error),
        });
    }

    fn try_renewals(&self, renewals: Renewals) {
        let renewed = &self.metrics.lease_renewed;
        let mut node = self.node.borrow_mut();
        let before = node.pending_proposal_count();
        let left = renewals.try_all(&mut node, driver::now(), renewed);
        // A renewal may have proposed something; as a rule it is nothing but a deadline that moves.
        if node.pending_proposal_count() != before {
            self.wake.notify();
        }
        self.renewals.borrow_mut().extend(left);
    }

    /// Tells `waiter` an image of the store, once a checkpoint has all that is applied now.
    pub(super) fn image(&self, waiter: ImageWaiter) {
        if self.is_stopping.get() {
            return waiter.finish(Err(FrontError::Stopped));
        }
        let deadline = driver::now() + self.config.request_timeout();
        let mut images = self.images.borrow_mut();
        images.add(&mut self.node.borrow_mut(), deadline, waiter);
        self.wake.notify();
    }

    /// Defragments the store and answers when that is done. Who asks meanwhile waits for the same.
    pub(crate) fn defragment(&self, reply: NodeReply) {
        self.with_node_mut(Node::defragment);
        self.stretches.on_defragment(&self.metrics, driver::now());
        self.defragmenting.borrow_mut().push(reply);
    }

    fn answer_defragmented(&self) {
        if self.defragmenting.borrow().is_empty() || self.node.borrow().is_defragmenting() {
            return;
        }
        self.stretches.on_defragmented(&self.metrics, driver::now());
        for reply in self.defragmenting.take() {
            reply.finish(Ok(Bytes::new()));
        }
    }

    fn answer_images(&self) {
        if self.images.borrow().is_empty() {
            return;
        }
        let now = driver::now();
        let ready = {
            let mut images = self.images.borrow_mut();
            images.take_ready(&mut self.node.borrow_mut(), now)
        };
        for (waiter, image) in ready {
            waiter.finish(image);
        }
    }

    /// The state for readers on any executor.
    pub(crate) fn views(&self) -> Views {
        self.node.borrow().views().clone()
    }

    /// Has `tell` called after each View with a new revision was published.
    pub(super) fn on_new_view(&self, tell: impl Fn() + 'static) {
        *self.new_view.borrow_mut() = Some(Box::new(tell));
    }

    /// Has messages of the node sent by `send`, and `follow_membership` called when a configuration change was applied.
    pub(crate) fn set_peers(
        &self,
        send: impl Fn(raftpb::Message) + 'static,
        follow_membership: impl Fn() + 'static,
    ) {
        *self.peers.borrow_mut() = Some(PeerHooks {
            send: Rc::new(send),
            follow_membership: Rc::new(follow_membership),
        });
    }

    fn send_messages(&self) {
        let send = self
            .peers
            .borrow()
            .as_ref()
            .map(|peers| Rc::clone(&peers.send));
        let Some(send) = send else { return };
        loop {
            let message = self.node.borrow_mut().poll_message();
            match message {
                Some(message) => send(message),
                None => return,
            }
        }
    }

    fn tell_new_view(&self) {
        // At the end of a turn all whole entries are published.
        let revision = self.node.borrow().view().revision();
        if self.told_revision.replace(revision) != revision
            && let Some(tell) = &*self.new_view.borrow()
        {
            tell();
        }
    }

    /// Who this member is.
    pub(crate) fn identity(&self) -> Identity {
        let node = self.node.borrow();
        Identity {
            member_id: node.options().member_id,
            cluster_id: node.options().cluster_id,
        }
    }

    /// All shards' metrics, this one's first.
    pub(crate) fn all_metrics(&self) -> &[Arc<Metrics>] {
        &self.all_metrics
    }

    /// The header of a response at `revision`; 0 leaves the revision out.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        let node = self.node.borrow();
        ResponseHeader {
            cluster_id: node.options().cluster_id,
            member_id: node.options().member_id,
            revision,
            raft_term: node.term(),
        }
    }

    /// Turns the node until it stops or fails.
    ///
    /// # Errors
    /// The failure that the member cannot survive.
    pub(crate) async fn run(self: &Rc<Self>) -> Result<(), NodeFailure> {
        loop {
            let next = self.turn()?;
            if self.is_stopping.get() && self.is_idle() {
                return Ok(());
            }
            let rest = self.pace.rest(driver::now());
            match (next, rest) {
                (Next::OnceWoken, _) => self.wake.notified().await,
                // Whether it was woken or has rested, it goes on.
                (Next::Sometime, Some(rest)) => {
                    let _ = driver::timeout(rest, self.wake.notified()).await;
                }
                (Next::Sometime | Next::Now, _) => driver::yield_now().await,
            }
        }
    }

    /// One bounded piece of work.
    fn turn(self: &Rc<Self>) -> Result<Next, NodeFailure> {
        let mut budget = Pace::budget();
        let start = driver::now();
        let more = {
            let mut node = self.node.borrow_mut();
            node.on_time(start);
            node.rest(self.pace.rest(start).is_some());
            node.work(&mut budget)?
        };
        self.pace.on_turn(start, driver::now(), more);
        self.start_disk_work();
        self.send_messages();
        self.answer_images();
        self.tell_new_view();
        self.answer_defragmented();
        for _ in 0..EVENTS_MAX {
            let event = self.node.borrow_mut().poll_event();
            match event {
                Some(event) => self.on_event(event),
                None if !more => return Ok(Next::OnceWoken),
                None => {
                    let node = self.node.borrow();
                    return Ok(match node.has_urgent_work() || node.is_store_behind() {
                        true => Next::Now,
                        false => Next::Sometime,
                    });
                }
            }
        }
        Ok(Next::Now)
    }

    fn start_disk_work(self: &Rc<Self>) {
        self.start_log_work();
        self.start_store_work();
        self.start_snapshot_work();
    }

    fn start_store_work(self: &Rc<Self>) {
        let is_behind = self.node.borrow().is_store_behind();
        self.disks.store.hurry(is_behind);
        let load = self.node.borrow_mut().poll_store_load();
        if let Some(parts) = load {
            let shard = Rc::clone(self);
            let disk = self.disks.store.clone();
            driver::spawn(async move {
                disk.load(parts).await;
                shard.node.borrow_mut().on_store_loaded();
                shard.wake.notify();
            })
            .detach();
        }
        loop {
            let Some(io) = self.node.borrow_mut().poll_store_io() else {
                return;
            };
            self.stretches.on_store_io(driver::now());
            let shard = Rc::clone(self);
            let disk = self.disks.store.clone();
            driver::spawn(async move {
                let (ticket, result) = disk.perform(io).await;
                shard.node.borrow_mut().on_store_io_done(ticket, result);
                shard.note_progress();
                shard.wake.notify();
            })
            .detach();
        }
    }

    /// Shows how long a checkpoint or a sweep has taken that has ended.
    fn note_progress(&self) {
        let node = self.node.borrow();
        let (checkpoint, swept) = (
            node.checkpoint_index(),
            node.view().finished_compact_revision().unwrap_or(0),
        );
        drop(node);
        let now = driver::now();
        self.stretches.on_checkpoint(&self.metrics, checkpoint, now);
        self.stretches.on_swept(&self.metrics, swept, now);
    }

    fn start_snapshot_work(self: &Rc<Self>) {
        let Some(io) = self.node.borrow_mut().poll_snap_io() else {
            return;
        };
        let shard = Rc::clone(self);
        let disk = self.disks.snapshots.clone();
        driver::spawn(async move {
            let begun = driver::now();
            let is_write = matches!(io.op, SnapOp::Write { .. });
            let (ticket, result) = disk.perform(io).await;
            if is_write {
                let took = driver::now().saturating_sub(begun);
                shard.metrics.snap_fsync.observe(took);
            }
            shard.node.borrow_mut().on_snap_io_done(ticket, result);
            shard.wake.notify();
        })
        .detach();
    }

    fn start_log_work(self: &Rc<Self>) {
        loop {
            let Some(io) = self.node.borrow_mut().poll_io() else {
                return;
            };
            self.start_io(io);
        }
    }

    fn start_io(self: &Rc<Self>, io: WalIo) {
        let sync_follows = self.node.borrow().sync_follows(io.ticket);
        let waiting_count = self.waiters.borrow().len();
        // Where nobody waits, others do: a leader's followers do not know how many.
        let is_lone = (1..=LONE_COUNT_MAX).contains(&waiting_count);
        if sync_follows {
            self.lone.on_group(driver::now(), waiting_count);
            self.lone.expect_soon();
        }
        let shard = Rc::clone(self);
        let disk = self.disks.wal.clone();
        driver::spawn(async move {
            let (ticket, result) = match sync_follows {
                true => disk.perform_with_sync(io, is_lone).await,
                false => disk.perform(io).await,
            };
            shard.on_io_done(ticket, result, sync_follows);
        })
        .detach();
    }

    fn on_io_done(
        self: &Rc<Self>,
        ticket: IoTicket,
        result: Result<(), IoFault>,
        sync_follows: bool,
    ) {
        self.node.borrow_mut().on_io_done(ticket, result);
        if sync_follows && result.is_ok() {
            // The sync was done along; then it needs no task and no turn of its own.
            let next = self.node.borrow_mut().poll_io();
            match next {
                Some(io) if self.disks.wal.is_done_along(&io.op) => {
                    self.node.borrow_mut().on_io_done(io.ticket, Ok(()));
                }
                Some(io) => self.start_io(io),
                None => {}
            }
        }
        self.wake.notify();
    }

    fn on_event(&self, event: NodeEvent) {
        match event {
            NodeEvent::Applied { id, applied } => {
                count_applied(&self.metrics, &applied);
                for effect in &applied.effects {
                    match effect {
                        ApplyEffect::AlarmsChanged => self.note_alarms(),
                        ApplyEffect::CompactionScheduled { revision } => {
                            self.stretches.on_compaction(*revision, driver::now());
                        }
                        _ => {}
                    }
                }
                let waiter = self.waiters.borrow_mut().take(id);
                if let Some(waiter) = waiter {
                    waiter.finish(Ok(applied.result));
                    self.lone.expect_soon();
                }
            }
            NodeEvent::ReadReady { id } => {
                let read = self.reads.borrow_mut().remove(&id);
                if let Some((_, waiter)) = read {
                    waiter.finish(Ok(()));
                }
            }
            NodeEvent::Leadership(leadership) => {
                self.metrics
                    .on_leadership(leadership.leader_id, leadership.is_leader);
                crate::logging::info!(
                    "raft: leadership changed",
                    "leader-id" => format!("{:x}", leadership.leader_id),
                    "is-leader" => leadership.is_leader
                );
            }
            NodeEvent::Sweeping { id } => self.waiters.borrow_mut().be_patient(id),
            NodeEvent::ConfChanged { .. } => {
                let peers = self.peers.borrow();
                let follow = peers
                    .as_ref()
                    .map(|peers| Rc::clone(&peers.follow_membership));
                drop(peers);
                if let Some(follow) = follow {
                    follow();
                }
            }
        }
    }

    /// Shows in the metrics which alarms are up; those that were and are no more stay, with 0.
    fn note_alarms(&self) {
        self.note_space_alarm();
        let up = self.node.borrow().view().alarms(AlarmType::None as i32);
        let mut noted = self.noted_alarms.borrow_mut();
        for alarm in &up {
            noted.insert((alarm.member_id, alarm.alarm));
        }
        for &(member_id, alarm) in noted.iter() {
            let is_up = up
                .iter()
                .any(|a| (a.member_id, a.alarm) == (member_id, alarm));
            self.metrics
                .node
                .set_alarm(member_id, alarm_label(alarm), is_up);
        }
    }

    /// One tick of the logical clock, and whoever waited too long.
    pub(crate) fn tick(self: &Rc<Self>) {
        let now = driver::now();
        self.node.borrow_mut().on_tick(now);
        self.wake.notify();
        self.compact_when_due(now);
        self.follow_downgrade();
        self.disarm_when_over();
        self.end_waits(now);
        for renewals in self.renewals.take() {
            self.try_renewals(renewals);
        }
        self.answer_images();
        let late: Vec<u64> = {
            let reads = self.reads.borrow();
            reads
                .iter()
                .filter(|(_, (deadline, _))| *deadline <= now)
                .map(|(id, _)| *id)
                .collect()
        };
        for id in late {
            let read = self.reads.borrow_mut().remove(&id);
            if let Some((_, waiter)) = read {
                self.metrics.read_indexes_failed.inc();
                waiter.finish(Err(FrontError::Timeout));
            }
        }
    }

    /// Ends the waits for proposals that have lasted too long. What raft was not given, for want of a leader or of
    /// room in memory, is not proposed any more.
    fn end_waits(&self, now: Duration) {
        let expired = self.waiters.borrow_mut().take_expired(now);
        if expired.is_empty() {
            return;
        }
        let ids = expired.iter().map(|(id, _)| *id).collect();
        let withdrawn = self.node.borrow_mut().withdraw(&ids);
        for (id, waiter) in expired {
            self.metrics.proposals_failed.inc();
            waiter.finish(Err(match withdrawn.contains(&id) {
                true => FrontError::ProposalDeadlineExceeded,
                false => FrontError::Timeout,
            }));
        }
    }

    /// Proposes the compaction that is due by `--auto-compaction-retention`.
    fn compact_when_due(self: &Rc<Self>, now: Duration) {
        let (revision, leads) = {
            let node = self.node.borrow();
            (node.view().revision(), node.leadership().is_leader)
        };
        let mut auto = self.auto_compaction.borrow_mut();
        let due = auto
            .as_mut()
            .and_then(|auto| auto.on_tick(now, revision, leads));
        let Some(revision) = due else { return };
        drop(auto);
        crate::logging::info!("starting an automatic compaction", "revision" => revision);
        let shard = Rc::clone(self);
        driver::spawn(async move { shard.compact(revision).await }).detach();
    }

    async fn compact(&self, revision: i64) {
        let (sender, outcome) = driver::oneshot();
        let request = InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision,
                physical: false,
            }),
            ..InternalRaftRequest::default()
        };
        let refused = match self.propose(request, Waiter::Task(sender)) {
            Err(error) => Some(error.to_string()),
            Ok(()) => match outcome.await {
                // Somebody else was quicker: nothing is left to do.
                Ok(Ok(Ok(_) | Err(RequestError::Compacted))) => None,
                Ok(Ok(Err(error))) => Some(error.to_string()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(FrontError::Stopped.to_string()),
            },
        };
        if let Some(auto) = &mut *self.auto_compaction.borrow_mut() {
            auto.on_done(driver::now(), revision, refused.is_none());
        }
        match refused {
            None => {
                crate::logging::info!("completed an automatic compaction", "revision" => revision);
            }
            Some(error) => crate::logging::warn!(
                "an automatic compaction failed; trying again later",
                "revision" => revision,
                "error" => error
            ),
        }
    }

    /// Brings the gauges that nobody sets on the way up to date; for a scrape.
    pub(crate) fn update_gauges(&self) {
        let metrics = &self.metrics;
        let node = self.node.borrow();
        let view = node.view();
        metrics.proposals_committed.set(node.commit_index());
        metrics.proposals_applied.set(node.applied_index());
        metrics
            .proposals_pending
            .set(self.waiters.borrow().len() as u64);
        metrics.db_total_size.set(view.db_size());
        metrics.db_size_in_use.set(view.db_size_in_use());
        metrics.put_size_bytes.set(view.put_size_bytes());
        let members = node.membership().members().map(|member| member.id);
        metrics.node.set_known_peers(members.collect());
        metrics.auth_revision.set(view.auth_revision());
        metrics.keys.set(view.key_count() as u64);
        metrics.current_revision.set_float(view.revision() as f64);
        metrics
            .compact_revision
            .set_float(view.compact_revision() as f64);
        metrics.lease_expired.raise(node.expired_lease_count());
        metrics
            .is_learner
            .set_bool(crate::services::cluster::is_learner(&node));
        if let Some(quota) = self.config.quota_backend_bytes {
            metrics.quota_backend_bytes.set(quota);
        }
    }

    /// No new proposals; `run` returns once everybody was answered and the log is on the disk.
    pub(crate) fn stop(&self) {
        self.is_stopping.set(true);
        self.node.borrow_mut().close();
        self.wake.notify();
    }

    /// Leaves the index to the next start, once the node has closed.
    pub(crate) async fn save_index(&self) {
        let saved = self.node.borrow().save_index();
        if let Some(saved) = saved {
            self.disks.store.save_index(saved).await;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    fn is_idle(&self) -> bool {
        self.waiters.borrow().len() == 0
            && self.reads.borrow().is_empty()
            && self.node.borrow().is_quiet()
    }

    /// Whoever still waits when the server must end.
    pub(crate) fn abandon_waiters(&self) {
        let waiters: Vec<Waiter> = self.waiters.borrow_mut().drain().collect();
        for waiter in waiters {
            waiter.finish(Err(FrontError::Stopped));
        }
        for renewals in self.renewals.take() {
            renewals.refuse(FrontError::Stopped);
        }
        for reply in self.defragmenting.take() {
            reply.finish(Err(FrontError::Stopped.status()));
        }
        for waiter in self.images.borrow_mut().drain() {
            waiter.finish(Err(FrontError::Stopped));
        }
        let reads = std::mem::take(&mut *self.reads.borrow_mut());
        for (_, waiter) in reads.into_values() {
            waiter.finish(Err(FrontError::Stopped));
        }
    }
}
