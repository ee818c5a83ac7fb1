//! One turn of one member: what the shell does between two sleeps.

use std::time::Duration;

use engine::node::{NodeEvent, NodeFailure};
use engine::state::Applied;
use engine::store::StoreOp;
use engine::types::Budget;
use engine::wal::{IoTicket, Pace, WalIo, WalOp};
use prost::Message as _;
use proto::raftpb::{Message, MessageType};

use super::{Event, World};
use crate::check::Violation;
use crate::member::{How, InFlight, Member, id_of, no_of};
use crate::plan::{MILLISECOND, Plan, Plant, SECOND};

impl World {
    pub(super) fn turn(&mut self, no: usize) -> Result<(), Violation> {
        let member = &mut self.members[no];
        member.is_turn_due = false;
        let Some(node) = &mut member.node else {
            return Ok(());
        };
        node.on_time(Duration::from_micros(self.now));
        let units = member.rng.between(1, self.plan.budget_max);
        let worked = node.work(&mut Budget::new(units as usize));
        let view = node.view();
        let mut has_news = false;
        if view.revision() + 1 != member.unshown {
            self.agreement.on_view(no, member.unshown, &view)?;
            member.unshown = view.revision() + 1;
            has_news = true;
        }
        let more = match worked {
            Ok(more) => more,
            Err(failure) => return self.on_failure(no, &failure),
        };
        if has_news {
            self.wake_watches(no);
        }
        self.start_disk_work(no);
        self.start_store_work(no);
        self.send_messages(no);
        self.hand_out_events(no)?;
        self.step_scans(no)?;
        self.renew(no)?;
        if more || !self.members[no].scans.is_empty() {
            self.wake(no);
        }
        Ok(())
    }

    /// A member may stop only because its disk failed; then it is started again.
    fn on_failure(&mut self, no: usize, failure: &NodeFailure) -> Result<(), Violation> {
        let is_disk = matches!(failure, NodeFailure::Wal(_) | NodeFailure::Store(_));
        if !(is_disk && self.members[no].has_disk_failed) {
            return Err(format!("member {no} stopped by itself: {failure}"));
        }
        let is_power_cut = self.members[no].rng.one_in(2);
        self.crash(no, is_power_cut);
        Ok(())
    }

    fn start_disk_work(&mut self, no: usize) {
        loop {
            let member = &mut self.members[no];
            let Some(io) = member.node.as_mut().and_then(|node| node.poll_io()) else {
                return;
            };
            let how = how(&io, member, &self.plan);
            let delay = disk_delay(&io, how, member, self.now);
            let at = self.now + delay;
            let life = member.life;
            let WalIo { ticket, pace, op } = &io;
            let is_urgent_sync = matches!(op, WalOp::Sync { .. }) && *pace == Pace::Urgent;
            if let (Some(Plant::AckBeforeSync), true, WalOp::Sync { file }) =
                (self.plan.plant, is_urgent_sync, op)
            {
                let file = *file;
                if let Some(node) = &mut member.node {
                    node.on_io_done(*ticket, Ok(()));
                }
                self.schedule(
                    at,
                    Event::LateSync {
                        member: no,
                        life,
                        file,
                    },
                );
                self.wake(no);
                continue;
            }
            let IoTicket(ticket) = *ticket;
            member.in_flight.insert(ticket, InFlight { io, how });
            self.schedule(
                at,
                Event::DiskDone {
                    member: no,
                    life,
                    ticket,
                },
            );
        }
    }

    fn start_store_work(&mut self, no: usize) {
        loop {
            let member = &mut self.members[no];
            let (life, slow) = (member.life, member.slow_by_now(self.now));
            let Some(node) = &mut member.node else {
                return;
            };
            if let Some(io) = node.poll_store_io() {
                let delay = match io.op {
                    StoreOp::Sync => member.rng.skewed(200, 20 * MILLISECOND),
                    _ => member.rng.skewed(30, 4 * MILLISECOND),
                };
                let ticket = io.ticket.0;
                member.store_in_flight.insert(ticket, io);
                let event = Event::StoreDone {
                    member: no,
                    life,
                    ticket,
                };
                self.schedule(self.now + delay + slow, event);
            } else if let Some(io) = node.poll_snap_io() {
                let delay = member.rng.skewed(200, 30 * MILLISECOND);
                let ticket = io.ticket.0;
                member.snap_in_flight.insert(ticket, io);
                let event = Event::SnapDone {
                    member: no,
                    life,
                    ticket,
                };
                self.schedule(self.now + delay + slow, event);
            } else {
                return;
            }
        }
    }

    fn send_messages(&mut self, no: usize) {
        loop {
            let node = self.members[no].node.as_mut();
            let Some(message) = node.and_then(|node| node.poll_message()) else {
                return;
            };
            let Some(to) = message
                .to
                .and_then(no_of)
                .filter(|to| *to < self.members.len())
            else {
                continue;
            };
            let message = match self.plan.plant {
                Some(Plant::MinorityCommit) => self.forge(no, to, message),
                _ => message,
            };
            if let Some(passage) = self.network.send(no, to, &message, self.now) {
                let bytes = message.encode_to_vec();
                self.schedule(passage.at, Event::Deliver { passage, bytes });
            }
        }
    }

    /// Acknowledges an append in the receiver's name. Heartbeats tell no commit then, else an assertion of raft would find
    /// the bug before our checkers do.
    fn forge(&mut self, no: usize, to: usize, mut message: Message) -> Message {
        if message.r#type == Some(MessageType::MsgHeartbeat as i32) {
            message.commit = Some(0);
        }
        if message.r#type == Some(MessageType::MsgApp as i32)
            && let Some(last) = message.entries.last()
        {
            let forged = Box::new(Message {
                r#type: Some(MessageType::MsgAppResp as i32),
                to: Some(id_of(no)),
                from: Some(id_of(to)),
                term: message.term,
                index: last.index,
                ..Message::default()
            });
            let message = forged;
            self.schedule(self.now, Event::Forged { to: no, message });
        }
        message
    }

    fn hand_out_events(&mut self, no: usize) -> Result<(), Violation> {
        loop {
            let member = &mut self.members[no];
            let Some(event) = member.node.as_mut().and_then(|node| node.poll_event()) else {
                return Ok(());
            };
            let mut has_answered = false;
            match event {
                NodeEvent::Applied { id, applied } => {
                    self.agreement.on_applied(no, &applied)?;
                    let published = &self.agreement.published;
                    self.leases.on_applied(&applied, self.now, published)?;
                    check_shown(member, &applied)?;
                    if let Some(operation) = member.writes.remove(&id) {
                        self.answer_write(operation, &applied.result);
                        has_answered = true;
                    }
                }
                NodeEvent::ReadReady { id } => {
                    self.tell(&format!("member {no}: read {id:x} is ready"));
                    let member = &mut self.members[no];
                    if let Some(operation) = member.reads.remove(&id) {
                        self.answer_read(no, operation)?;
                    }
                }
                NodeEvent::Leadership(leadership) => {
                    if leadership.is_leader {
                        self.leases.on_leader();
                    }
                    self.tell(&format!("member {no}: {leadership:?}"));
                }
                NodeEvent::ConfChanged { .. } | NodeEvent::Sweeping { .. } => {}
            }
            if has_answered && self.members[no].cut_after_answer {
                self.crash(no, true);
            }
        }
    }

    /// The member's process ends, to be started again some time later.
    pub(super) fn crash(&mut self, no: usize, is_power_cut: bool) {
        if self.members[no].node.is_none() {
            return;
        }
        for operation in self.members[no].stop(is_power_cut) {
            self.lose(operation);
        }
        self.network.reconnect(no);
        let down = self.members[no].rng.skewed(10 * MILLISECOND, 3 * SECOND);
        self.schedule(self.now + down, Event::Start { member: no });
    }
}

/// What was replied to is there for readers of all cores.
fn check_shown(member: &mut Member, applied: &Applied) -> Result<(), Violation> {
    let Some(handle) = &mut member.handle else {
        return Ok(());
    };
    let shown = handle.pin().applied_index();
    match shown >= applied.index {
        true => Ok(()),
        false => Err(format!(
            "reader: member {} replied to entry {} and shows {}",
            member.no, applied.index.0, shown.0
        )),
    }
}

/// Whether a write is performed together with its sync, and whether that sync is done already when it is asked for.
fn how(io: &WalIo, member: &mut Member, plan: &Plan) -> How {
    let Some(node) = &member.node else {
        return How::Alone;
    };
    // A shell that acknowledges before the sync ends has nothing to wait for here.
    let joins = plan.joins_sync && plan.plant != Some(Plant::AckBeforeSync);
    match &io.op {
        WalOp::Write { .. } if joins && node.sync_follows(io.ticket) => How::WithSync,
        WalOp::Sync { file } if member.synced.take() == Some(*file) => How::Done,
        _ => How::Alone,
    }
}

/// How long an operation takes.
fn disk_delay(io: &WalIo, how: How, member: &mut Member, now: u64) -> u64 {
    let base = match &io.op {
        _ if how == How::Done => return member.rng.skewed(1, 20),
        WalOp::Write { .. } if how == How::WithSync => member.rng.skewed(120, 10 * MILLISECOND),
        WalOp::Sync { .. } | WalOp::SyncDirectory => member.rng.skewed(100, 8 * MILLISECOND),
        WalOp::Write { .. } | WalOp::Zero { .. } => member.rng.skewed(30, 2 * MILLISECOND),
        _ => member.rng.skewed(20, MILLISECOND),
    };
    base + member.slow_by_now(now)
}
