//! Virtual time: an ordered queue of events, and what each of them sets off.
//!
//! Every input of a member makes a turn of it due, a little later, so that several inputs can meet in one turn as they
//! do in the real shell. A turn works within a budget, then starts disk work, sends messages and hands out answers.
//!
//! At the end everything heals: all members must settle, serve one put each, settle again and be equal.

mod calls;
mod faults;
mod leases;
mod reads;
mod turn;
mod watches;

use std::collections::BTreeMap;
use std::time::Duration;

use engine::state::View;
use engine::store::StoreOp;
use engine::wal::{FileNo, WalOp};
use prost::Message as _;
use proto::raftpb;

use crate::alone::Alone;
use crate::check::agreement::{Agreement, summary};
use crate::check::flip::FlipCounts;
use crate::check::leases::LeaseBook;
use crate::check::{self, Violation};
use crate::history::{Operation, Outcome};
use crate::member::{Member, SEGMENTS_MAX};
use crate::network::{Network, Passage};
use crate::plan::{MILLISECOND, Plan, SECOND, Time};
use crate::random::Rng;
use crate::reader::ReadCounts;
use crate::watching::WatchCounts;
use crate::watching::client::WatchClient;
use crate::workload::Client;

/// How often a member defragments its store, while everything else goes on.
const TICKS_PER_DEFRAGMENTATION: u64 = 100;
/// Time in which a healed cluster must settle.
const SETTLE_MAX: Time = 90 * SECOND;
/// Events of one run; more means that something spins.
const EVENT_COUNT_MAX: u64 = 20_000_000;

#[derive(Debug)]
enum Event {
    Start {
        member: usize,
    },
    Tick {
        member: usize,
        life: u32,
    },
    Turn {
        member: usize,
        life: u32,
    },
    DiskDone {
        member: usize,
        life: u32,
        ticket: u64,
    },
    StoreDone {
        member: usize,
        life: u32,
        ticket: u64,
    },
    SnapDone {
        member: usize,
        life: u32,
        ticket: u64,
    },
    LateSync {
        member: usize,
        life: u32,
        file: FileNo,
    },
    /// A step of a reader.
    Read {
        member: usize,
        life: u32,
        reader: usize,
    },
    /// A slice of a hub, because there is something new or because notices are due.
    Watch {
        member: usize,
        life: u32,
        shard: usize,
        is_timer: bool,
    },
    /// A client that watches looks at its stream.
    Listen {
        client: usize,
    },
    Deliver {
        passage: Passage,
        bytes: Vec<u8>,
    },
    /// What the planted bug of a minority commit makes up.
    Forged {
        to: usize,
        message: Box<raftpb::Message>,
    },
    Call {
        client: usize,
    },
    GiveUp {
        operation: usize,
    },
    Fault {
        at: usize,
    },
    FaultEnds {
        at: usize,
    },
    Heal,
    Settle,
}

/// How far the end of a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Running,
    Healed,
    Probing,
    Done,
}

/// The figures of a run that held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// A hash over everything that happened, in order.
    pub trace_hash: u64,
    pub event_count: u64,
    pub operation_count: usize,
    pub answered_count: usize,
    pub start_count: u32,
    pub revision: i64,
    pub reads: ReadCounts,
    pub watches: WatchCounts,
    pub flips: FlipCounts,
    /// Keep-alives that a leader answered, and leases that ran out.
    pub renewed_count: usize,
    pub expired_count: usize,
}

/// A run in progress.
pub struct World {
    plan: Plan,
    now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    event_no: u64,
    /// The one order of calls and answers.
    stamp: u64,
    rng: Rng,
    members: Vec<Member>,
    network: Network,
    clients: Vec<Client>,
    watchers: Vec<WatchClient>,
    operations: Vec<Operation>,
    agreement: Agreement,
    leases: LeaseBook,
    reads: ReadCounts,
    watch_counts: WatchCounts,
    flips: FlipCounts,
    /// By the fault that does it.
    isolated_leaders: BTreeMap<usize, usize>,
    ending: Ending,
    trace: u64,
    handled_count: u64,
}

impl World {
    pub fn new(plan: Plan) -> World {
        let members = (0..plan.node_count).map(|no| Member::new(no, &plan));
        let clients = (0..plan.client_count).map(|no| Client::new(no, &plan));
        let watchers = (0..plan.watcher_count).map(|no| WatchClient::new(no, &plan));
        let mut world = World {
            now: 0,
            queue: BTreeMap::new(),
            event_no: 0,
            stamp: 0,
            rng: Rng::new(plan.seed, 2),
            members: members.collect(),
            network: Network::new(Rng::new(plan.seed, 3)),
            clients: clients.collect(),
            watchers: watchers.collect(),
            operations: Vec::new(),
            agreement: Agreement::default(),
            leases: LeaseBook::new(plan.lease_checkpoint_interval.is_some()),
            reads: ReadCounts::default(),
            watch_counts: WatchCounts::default(),
            flips: FlipCounts::default(),
            isolated_leaders: BTreeMap::new(),
            ending: Ending::Running,
            trace: 0xcbf2_9ce4_8422_2325,
            handled_count: 0,
            plan,
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        for member in 0..self.members.len() {
            let at = self.rng.below(50 * MILLISECOND);
            self.schedule(at, Event::Start { member });
        }
        for client in 0..self.clients.len() {
            let at = self.rng.below(SECOND);
            self.schedule(at, Event::Call { client });
        }
        for client in 0..self.watchers.len() {
            let at = self.watchers[client].rest(false);
            self.schedule(at, Event::Listen { client });
        }
        for at in 0..self.plan.faults.len() {
            self.schedule(self.plan.faults[at].at, Event::Fault { at });
        }
        self.schedule(self.plan.until, Event::Heal);
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first promise that was broken, with the virtual time.
    pub fn run(&mut self) -> Result<Summary, Violation> {
        while self.ending != Ending::Done {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err("the world stands still".to_owned());
            };
            self.now = at;
            self.handled_count += 1;
            if self.handled_count > EVENT_COUNT_MAX {
                return Err("liveness: too many events".to_owned());
            }
            self.handle(event)
                .map_err(|why| format!("{why} (at {} ms)", at / MILLISECOND))?;
        }
        check::history(&self.operations, &self.agreement.published)?;
        Ok(self.summary())
    }

    fn summary(&self) -> Summary {
        let is_answered = |o: &&Operation| o.returned.is_some();
        Summary {
            trace_hash: self.trace,
            event_count: self.handled_count,
            operation_count: self.operations.len(),
            answered_count: self.operations.iter().filter(is_answered).count(),
            start_count: self.members.iter().map(|member| member.life).sum(),
            revision: self.agreement.published.newest(),
            reads: self.reads,
            watches: self.watch_counts,
            flips: self.flips,
            renewed_count: self.leases.renewed_count,
            expired_count: self.leases.expired_count,
        }
    }

    /// Virtual time, for reports of runs that ended early.
    pub fn now(&self) -> Time {
        self.now
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.event_no += 1;
        self.queue.insert((at.max(self.now), self.event_no), event);
    }

    /// Adds to the trace: FNV-1a.
    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds to the trace, in words.
    fn tell(&mut self, text: &str) {
        if self.plan.is_traced {
            println!("{} {text}", self.now);
        }
        self.note(text.as_bytes());
    }

    fn note_event(&mut self, event: &Event) {
        self.note(&self.now.to_le_bytes());
        match event {
            Event::Deliver { passage, bytes } => {
                if self.plan.is_traced {
                    let message = raftpb::Message::decode(bytes.as_slice());
                    println!("{} deliver {:?} {message:?}", self.now, passage.stream);
                }
                self.note(&[passage.stream.from as u8, passage.stream.to as u8]);
                self.note(bytes);
            }
            other => {
                self.tell(&format!("{other:?}"));
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(member) = self.member_of(&event)
            && self.members[member].paused_until > self.now
        {
            let at = self.members[member].paused_until;
            self.schedule(at, event);
            return Ok(());
        }
        self.note_event(&event);
        match event {
            Event::Start { member } => self.start(member),
            Event::Tick { member, life } => {
                self.tick(member, life);
                Ok(())
            }
            Event::Turn { member, life } => match self.is_alive(member, life) {
                true => self.turn(member),
                false => Ok(()),
            },
            Event::DiskDone {
                member,
                life,
                ticket,
            } => {
                if self.is_alive(member, life) {
                    self.on_disk_done(member, ticket);
                }
                Ok(())
            }
            Event::StoreDone {
                member,
                life,
                ticket,
            } => {
                if self.is_alive(member, life) {
                    self.on_store_done(member, ticket);
                }
                Ok(())
            }
            Event::SnapDone {
                member,
                life,
                ticket,
            } => {
                if self.is_alive(member, life) {
                    self.on_snap_done(member, ticket);
                }
                Ok(())
            }
            Event::LateSync { member, life, file } => {
                if self.is_alive(member, life) {
                    self.members[member].disk.sync_late(file);
                }
                Ok(())
            }
            Event::Read {
                member,
                life,
                reader,
            } => match self.is_alive(member, life) {
                true => self.step_reader(member, life, reader),
                false => Ok(()),
            },
            Event::Watch {
                member,
                life,
                shard,
                is_timer,
            } => match self.is_alive(member, life) {
                true => self.turn_watches(member, shard, is_timer),
                false => Ok(()),
            },
            Event::Listen { client } => self.step_watcher(client),
            Event::Deliver { passage, bytes } => self.deliver(&passage, &bytes),
            Event::Forged { to, message } => {
                self.on_message(to, *message);
                Ok(())
            }
            Event::Call { client } => match self.ending {
                Ending::Running => self.call(client),
                _ => Ok(()),
            },
            Event::GiveUp { operation } => {
                self.give_up(operation);
                Ok(())
            }
            Event::Fault { at } => self.begin_fault(at),
            Event::FaultEnds { at } => {
                self.end_fault(at);
                Ok(())
            }
            Event::Heal => {
                self.heal();
                Ok(())
            }
            Event::Settle => self.settle(),
        }
    }

    /// Whose process handles the event; a paused one does so later.
    fn member_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Tick { member, .. }
            | Event::Turn { member, .. }
            | Event::Read { member, .. }
            | Event::Watch { member, .. }
            | Event::DiskDone { member, .. }
            | Event::StoreDone { member, .. }
            | Event::SnapDone { member, .. } => Some(*member),
            Event::Deliver { passage, .. } => Some(passage.stream.to),
            _ => None,
        }
    }

    fn is_alive(&self, member: usize, life: u32) -> bool {
        let member = &self.members[member];
        member.node.is_some() && member.life == life
    }

    fn start(&mut self, no: usize) -> Result<(), Violation> {
        let member = &mut self.members[no];
        if member.node.is_some() {
            return Ok(());
        }
        if !member.start(&self.plan, self.now)? {
            let at = self.now + SECOND;
            self.schedule(at, Event::Start { member: no });
            return Ok(());
        }
        if let Some(node) = &member.node {
            self.leases.on_state(no, &node.view(), self.now)?;
        }
        let (life, tick) = (member.life, member.tick);
        self.schedule(self.now + tick, Event::Tick { member: no, life });
        self.seat_readers(no);
        self.wake(no);
        Ok(())
    }

    fn tick(&mut self, no: usize, life: u32) {
        if !self.is_alive(no, life) {
            return;
        }
        let now = self.now;
        let member = &mut self.members[no];
        if let Some(node) = &mut member.node {
            node.on_tick(Duration::from_micros(now));
            if member.rng.one_in(TICKS_PER_DEFRAGMENTATION) {
                node.defragment();
            }
        }
        let at = now + member.tick;
        self.schedule(at, Event::Tick { member: no, life });
        self.wake(no);
    }

    fn on_disk_done(&mut self, no: usize, ticket: u64) {
        let member = &mut self.members[no];
        let Some(under_way) = member.in_flight.remove(&ticket) else {
            return;
        };
        let result = member.perform(&self.plan, &under_way);
        let op = &under_way.io.op;
        let is_claim = matches!(op, WalOp::Claim { .. } | WalOp::Allocate { .. });
        member.has_disk_failed |= result.is_err() && !is_claim;
        if let Some(node) = &mut member.node {
            node.on_io_done(under_way.io.ticket, result);
        }
        self.wake(no);
    }

    fn on_store_done(&mut self, no: usize, ticket: u64) {
        let member = &mut self.members[no];
        let Some(io) = member.store_in_flight.remove(&ticket) else {
            return;
        };
        let result = member.perform_store(&self.plan, &io.op);
        let is_claim = matches!(io.op, StoreOp::Grow { .. });
        member.has_disk_failed |= result.is_err() && !is_claim;
        if let Some(node) = &mut member.node {
            node.on_store_io_done(io.ticket, result);
        }
        let cut = &mut self.members[no].cut_in_commit;
        *cut = cut.map(|after| after.saturating_sub(1));
        match cut {
            Some(0) => self.crash(no, true),
            _ => self.wake(no),
        }
    }

    fn on_snap_done(&mut self, no: usize, ticket: u64) {
        let member = &mut self.members[no];
        let Some(io) = member.snap_in_flight.remove(&ticket) else {
            return;
        };
        let result = member.disk.perform_snap(&io.op, SEGMENTS_MAX);
        if let Some(node) = &mut member.node {
            node.on_snap_io_done(io.ticket, result);
        }
        self.wake(no);
    }

    fn deliver(&mut self, passage: &Passage, bytes: &[u8]) -> Result<(), Violation> {
        if !self.network.arrives(passage) {
            return Ok(());
        }
        let message = raftpb::Message::decode(bytes).map_err(|e| format!("peer message: {e}"))?;
        self.on_message(passage.stream.to, message);
        Ok(())
    }

    fn on_message(&mut self, to: usize, message: raftpb::Message) {
        if let Some(node) = &mut self.members[to].node {
            node.on_message(message);
            self.wake(to);
        }
    }

    /// Makes a turn of the member due.
    fn wake(&mut self, no: usize) {
        let member = &mut self.members[no];
        if member.node.is_none() || member.is_turn_due {
            return;
        }
        member.is_turn_due = true;
        let life = member.life;
        let at = self.now + member.rng.skewed(2, 400);
        self.schedule(at, Event::Turn { member: no, life });
    }

    fn settle(&mut self) -> Result<(), Violation> {
        if self.now > self.plan.until + SETTLE_MAX {
            return Err(format!("liveness: not settled: {}", self.describe()));
        }
        if !self.is_settled() {
            self.schedule(self.now + 100 * MILLISECOND, Event::Settle);
            return Ok(());
        }
        if self.ending == Ending::Healed {
            self.ending = Ending::Probing;
            self.probe()?;
            self.schedule(self.now + 100 * MILLISECOND, Event::Settle);
            return Ok(());
        }
        self.ending = Ending::Done;
        self.check_probes()?;
        let nodes = self.members.iter().filter_map(|m| m.node.as_ref());
        let views: Vec<_> = nodes.map(|n| (n.applied_index(), n.view())).collect();
        self.agreement.on_settled(&views)?;
        (0..self.members.len()).try_for_each(|no| self.end_member(no))
    }

    /// A clean end, and a look at what it leaves.
    fn end_member(&mut self, no: usize) -> Result<(), Violation> {
        let member = &mut self.members[no];
        member.finish_work(&self.plan);
        let Some(node) = member.node.take() else {
            return Ok(());
        };
        let stopped = |failure| format!("store: member {no} stops at its end: {failure}");
        let mut alone = Alone::new(std::mem::take(&mut member.disk), node, self.now);
        alone.settle().map_err(stopped)?;
        let view = alone.view();
        self.agreement.on_view(no, member.unshown, &view)?;
        self.leases.on_state(no, &view, self.now)?;
        let state = summary(view.applied_index().0, &view);
        let disk = alone.close().map_err(stopped)?;
        check::store::check(no, disk, &state, &mut self.agreement)
    }

    /// Nothing is left to do. Where leases that stay are checkpointed at every tick, a follower always has a commit index that
    /// waits for its own tick to go to its disk; there it is enough that all is applied.
    fn is_settled(&self) -> bool {
        let nodes: Vec<_> = self
            .members
            .iter()
            .filter_map(|m| m.node.as_ref())
            .collect();
        nodes.len() == self.members.len()
            && self.clients.iter().all(|client| client.waiting.is_none())
            && self.members.iter().all(Member::is_unread)
            && self.are_watchers_settled()
            && nodes.iter().any(|node| node.leadership().is_leader)
            && nodes.iter().all(|node| {
                node.pending_proposal_count() == 0
                    && (node.is_quiet() || self.plan.lease_checkpoint_interval.is_some())
                    && is_swept(&node.view())
                    && LeaseBook::waits_for(&node.view()) == 0
                    && node.leadership().leader_id != 0
                    && node.applied_index() == nodes[0].applied_index()
                    && node.commit_index() == node.applied_index()
            })
    }

    /// One put through each member, each by a client of its own.
    fn probe(&mut self) -> Result<(), Violation> {
        while self.clients.len() < self.members.len() {
            let client = Client::new(self.clients.len(), &self.plan);
            self.clients.push(client);
        }
        for no in 0..self.members.len() {
            let call = self.clients[no].probe(&self.plan);
            self.clients[no].member = no;
            self.issue(no, call)?;
        }
        Ok(())
    }

    fn check_probes(&self) -> Result<(), Violation> {
        let probes = self.operations.iter().rev().take(self.members.len());
        for probe in probes {
            if !matches!(probe.outcome, Outcome::Written { .. }) {
                return Err(format!("liveness: the healed member refused {probe:?}"));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let tell = |member: &Member| match &member.node {
            None => format!("{}: down", member.no),
            Some(node) => format!(
                "{}: term {} leader {} commit {} applied {} quiet {} swept {} unread {}, {} leases are over",
                member.no,
                node.term(),
                node.leadership().leader_id,
                node.commit_index(),
                node.applied_index(),
                node.is_quiet(),
                is_swept(&node.view()),
                member.is_unread(),
                LeaseBook::waits_for(&node.view())
            ),
        };
        let members: Vec<String> = self.members.iter().map(tell).collect();
        let waiting = self.clients.iter().filter(|c| c.waiting.is_some()).count();
        let published = &self.agreement.published;
        let watches = self.watchers.iter().map(|w| w.listener.describe(published));
        let watches: Vec<String> = watches.collect();
        format!(
            "{}; {waiting} clients wait; watchers: {}",
            members.join(", "),
            watches.join("; ")
        )
    }
}

/// True if every compaction came to its end: pins that were left must not hold one up.
fn is_swept(view: &View<'_>) -> bool {
    let compacted = view.compact_revision();
    compacted <= 0 || view.finished_compact_revision() == Some(compacted)
}
