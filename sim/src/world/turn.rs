//! One turn of one member: what the shell does between two sleeps.

use engine::node::{NodeEvent, NodeFailure};
use engine::types::Budget;
use engine::wal::{IoTicket, Pace, WalIo, WalOp};
use prost::Message as _;
use proto::raftpb::{Message, MessageType};

use super::calls::step_scan;
use super::{Event, World};
use crate::check::Violation;
use crate::member::{id_of, no_of};
use crate::plan::{MILLISECOND, Plant, SECOND};

impl World {
    pub(super) fn turn(&mut self, no: usize) -> Result<(), Violation> {
        let member = &mut self.members[no];
        member.is_turn_due = false;
        let Some(node) = &mut member.node else {
            return Ok(());
        };
        let units = member.rng.between(1, self.plan.budget_max);
        let worked = node.work(&mut Budget::new(units as usize));
        let view = node.view();
        if view.revision() + 1 != member.unshown {
            self.agreement.on_view(no, member.unshown, &view)?;
            member.unshown = view.revision() + 1;
        }
        let more = match worked {
            Ok(more) => more,
            Err(failure) => return self.on_failure(no, &failure),
        };
        self.start_disk_work(no);
        self.send_messages(no);
        self.hand_out_events(no)?;
        self.step_scans(no);
        if more || !self.members[no].scans.is_empty() {
            self.wake(no);
        }
        Ok(())
    }

    /// A member may stop only because its disk failed; then it is started again.
    fn on_failure(&mut self, no: usize, failure: &NodeFailure) -> Result<(), Violation> {
        let is_disk = matches!(failure, NodeFailure::Wal(_));
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
            let delay = disk_delay(&io, member, self.now);
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
            member.in_flight.insert(ticket, io);
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
                    if let Some(operation) = member.writes.remove(&id) {
                        self.answer_write(operation, &applied.result);
                        has_answered = true;
                    }
                }
                NodeEvent::ReadReady { id } => {
                    self.tell(&format!("member {no}: read {id:x} is ready"));
                    let member = &mut self.members[no];
                    if let Some(operation) = member.reads.remove(&id) {
                        self.answer_read(no, operation);
                    }
                }
                NodeEvent::Leadership(leadership) => {
                    self.tell(&format!("member {no}: {leadership:?}"));
                }
                NodeEvent::ConfChanged { .. } => {}
            }
            if has_answered && self.members[no].cut_after_answer {
                self.crash(no, true);
            }
        }
    }

    fn step_scans(&mut self, no: usize) {
        let member = &mut self.members[no];
        let Some(node) = &member.node else { return };
        let mut ended = Vec::new();
        for scan in &mut member.scans {
            if let Some(outcome) = step_scan(scan, &node.view(), 3) {
                ended.push((scan.operation, outcome));
            }
        }
        member
            .scans
            .retain(|scan| ended.iter().all(|(done, _)| *done != scan.operation));
        for (operation, outcome) in ended {
            self.finish(operation, outcome);
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

/// How long an operation takes.
fn disk_delay(io: &WalIo, member: &mut crate::member::Member, now: u64) -> u64 {
    let base = match &io.op {
        WalOp::Sync { .. } | WalOp::SyncDirectory => member.rng.skewed(100, 8 * MILLISECOND),
        WalOp::Write { .. } | WalOp::Zero { .. } => member.rng.skewed(30, 2 * MILLISECOND),
        _ => member.rng.skewed(20, MILLISECOND),
    };
    let is_slow = now < member.slow_until;
    base + if is_slow { member.slow_by } else { 0 }
}
