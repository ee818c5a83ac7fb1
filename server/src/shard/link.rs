//! Another shard's way to the log shard.
//!
//! What the calls of one loop turn ask for leaves as one batch: the first question of a turn wakes the sending task,
//! which runs behind all tasks that are ready already. All reads of a turn that need a fresh View share one question.
//!
//! Questions without an answer have a budget of bytes. Past it new ones are refused as an overloaded etcd refuses
//! them, so neither mailbox can grow beyond it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use driver::{MailboxSender, Notify};
use net::http::{HttpRequest, HttpResponse};
use prost::Message;
use proto::etcdserverpb::InternalRaftRequest;

use super::Role;
use super::ask::{Answer, Ask, AskBatch, ShardNo, Ticket, cost_bytes};
use super::reply::{HttpReply, ReplyTo};
use super::waiter::Fresh;
use crate::errors::FrontError;

/// Bytes of questions that one shard may have without an answer. A quarter of what the node takes before it refuses.
pub(super) const IN_FLIGHT_SIZE_BYTES_MAX: usize = 16 << 20;

/// Rounds for fresh Views that one shard may have asked for at once; reads that come then share the next one.
const ROUND_COUNT_MAX: usize = 16;

/// Most batches on their way: one for each unanswered question.
pub(super) const BATCH_COUNT_MAX: usize =
    IN_FLIGHT_SIZE_BYTES_MAX / cost_bytes(0) + ROUND_COUNT_MAX + 2;

type Then = Box<dyn FnOnce(Fresh)>;

/// Who waits for an answer.
enum Pending {
    Call(ReplyTo),
    Http(HttpReply),
    Reads(Vec<Then>),
    /// Nobody, but the alarm is asked for once only.
    Alarm,
}

pub(crate) struct Link {
    shard_no: ShardNo,
    to_log: MailboxSender<AskBatch>,
    /// The questions of this turn.
    out: RefCell<Vec<(Ticket, Ask)>>,
    /// The reads of this turn.
    reads: RefCell<Vec<Then>>,
    wake: Notify,
    /// With what each question counts.
    pending: RefCell<HashMap<Ticket, (Pending, usize)>>,
    in_flight_bytes: Cell<usize>,
    round_count: Cell<usize>,
    is_alarm_asked: Cell<bool>,
    next_ticket: Cell<Ticket>,
}

impl Link {
    pub(super) fn new(shard_no: ShardNo, to_log: MailboxSender<AskBatch>) -> Rc<Self> {
        Rc::new(Link {
            shard_no,
            to_log,
            out: RefCell::default(),
            reads: RefCell::default(),
            wake: Notify::new(),
            pending: RefCell::default(),
            in_flight_bytes: Cell::new(0),
            round_count: Cell::new(0),
            is_alarm_asked: Cell::new(false),
            next_ticket: Cell::new(0),
        })
    }

    pub(super) fn propose(&self, request: InternalRaftRequest, reply: ReplyTo) {
        let cost = cost_bytes(request.encoded_len());
        if self.is_full(cost) {
            return reply.finish(Err(FrontError::TooManyRequests.status()));
        }
        self.ask(Ask::Propose(Box::new(request)), Pending::Call(reply), cost);
    }

    pub(super) fn call(&self, payload: Bytes, reply: ReplyTo) {
        let cost = cost_bytes(payload.len());
        if self.is_full(cost) {
            return reply.finish(Err(FrontError::TooManyRequests.status()));
        }
        let method = reply.method;
        self.ask(Ask::Call { method, payload }, Pending::Call(reply), cost);
    }

    pub(super) fn ask_http(&self, role: Role, request: HttpRequest, reply: HttpReply) {
        let cost = cost_bytes(request.body.len());
        if self.is_full(cost) {
            let text = FrontError::TooManyRequests.status().message;
            return reply.finish(HttpResponse::error(503, &text));
        }
        self.ask(Ask::Http { role, request }, Pending::Http(reply), cost);
    }

    /// Calls back once a View is there that is no older than this call.
    pub(super) fn wait_fresh(&self, then: Then) {
        self.reads.borrow_mut().push(then);
        self.wake.notify();
    }

    pub(super) fn raise_space_alarm(&self) {
        if !self.is_alarm_asked.replace(true) {
            self.ask(Ask::RaiseSpaceAlarm, Pending::Alarm, cost_bytes(0));
        }
    }

    /// Takes the answers of one turn.
    pub(super) fn on_answers(&self, answers: Vec<(Ticket, Answer)>) {
        for (ticket, answer) in answers {
            let pending = self.pending.borrow_mut().remove(&ticket);
            // None: it was given up.
            if let Some((pending, cost)) = pending {
                self.in_flight_bytes.set(self.in_flight_bytes.get() - cost);
                self.finish(pending, answer);
            }
        }
    }

    /// Sends what has gathered, once for all that runs in one turn.
    pub(super) async fn speak(self: Rc<Self>) {
        loop {
            self.wake.notified().await;
            self.ask_for_reads();
            let asks = std::mem::take(&mut *self.out.borrow_mut());
            if asks.is_empty() {
                continue;
            }
            let from = self.shard_no;
            if self.to_log.send(AskBatch { from, asks }).is_err() {
                // The mailbox has room for all that the budget allows, so the log shard has ended.
                self.abandon();
            }
        }
    }

    fn ask_for_reads(&self) {
        if self.round_count.get() >= ROUND_COUNT_MAX || self.reads.borrow().is_empty() {
            return;
        }
        let reads = std::mem::take(&mut *self.reads.borrow_mut());
        self.round_count.set(self.round_count.get() + 1);
        self.ask(Ask::Fresh, Pending::Reads(reads), cost_bytes(0));
    }

    fn ask(&self, ask: Ask, pending: Pending, cost: usize) {
        let ticket = self.take_ticket();
        self.in_flight_bytes.set(self.in_flight_bytes.get() + cost);
        self.pending.borrow_mut().insert(ticket, (pending, cost));
        self.out.borrow_mut().push((ticket, ask));
        self.wake.notify();
    }

    /// True if a question of this cost must not be asked now. One alone always may.
    fn is_full(&self, cost: usize) -> bool {
        let in_flight = self.in_flight_bytes.get();
        in_flight > 0 && in_flight + cost > IN_FLIGHT_SIZE_BYTES_MAX
    }

    fn take_ticket(&self) -> Ticket {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        ticket
    }

    fn finish(&self, pending: Pending, answer: Answer) {
        match (pending, answer) {
            (Pending::Call(reply), Answer::Outcome(outcome)) => reply.finish_proposal(outcome),
            (Pending::Call(reply), Answer::Message(result)) => reply.finish(result),
            (Pending::Http(reply), Answer::Http(response)) => reply.finish(response),
            (Pending::Reads(reads), Answer::Fresh(fresh)) => {
                self.round_count.set(self.round_count.get() - 1);
                self.wake.notify();
                for then in reads {
                    then(fresh);
                }
            }
            (Pending::Alarm, _) => self.is_alarm_asked.set(false),
            (pending, answer) => {
                debug_assert!(false, "no answer to this question: {answer:?}");
                refuse(pending, FrontError::Stopped);
            }
        }
    }

    /// Nobody will answer any more.
    fn abandon(&self) {
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        self.in_flight_bytes.set(0);
        for (pending, _) in pending.into_values() {
            refuse(pending, FrontError::Stopped);
        }
    }
}

fn refuse(pending: Pending, error: FrontError) {
    match pending {
        Pending::Call(reply) => reply.finish(Err(error.status())),
        Pending::Http(reply) => reply.finish(HttpResponse::error(503, &error.status().message)),
        Pending::Reads(reads) => {
            for then in reads {
                then(Err(error));
            }
        }
        Pending::Alarm => {}
    }
}
