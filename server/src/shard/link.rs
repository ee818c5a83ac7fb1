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
use super::images::Imaged;
use super::renewals::Renewed;
use super::reply::{HttpReply, ReplyTo};
use super::waiter::{Fresh, Outcome};
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
    Outcome(Box<dyn FnOnce(Outcome)>),
    Http(HttpReply),
    Reads(Vec<Then>),
    Renewal(Box<dyn FnOnce(Renewed)>),
    Image(Box<dyn FnOnce(Imaged)>),
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

    /// The same on behalf of a task.
    pub(super) fn propose_then(
        &self,
        request: InternalRaftRequest,
        then: impl FnOnce(Outcome) + 'static,
    ) {
        let cost = cost_bytes(request.encoded_len());
        if self.is_full(cost) {
            return then(Err(FrontError::TooManyRequests));
        }
        let pending = Pending::Outcome(Box::new(then));
        self.ask(Ask::Propose(Box::new(request)), pending, cost);
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

    pub(super) fn renew(&self, ids: Vec<i64>, then: impl FnOnce(Renewed) + 'static) {
        let cost = cost_bytes(size_of_val(&*ids));
        if self.is_full(cost) {
            return then(Err(FrontError::TooManyRequests));
        }
        self.ask(Ask::Renew(ids), Pending::Renewal(Box::new(then)), cost);
    }

    pub(super) fn image(&self, then: impl FnOnce(Imaged) + 'static) {
        let cost = cost_bytes(0);
        if self.is_full(cost) {
            return then(Err(FrontError::TooManyRequests));
        }
        self.ask(Ask::Image, Pending::Image(Box::new(then)), cost);
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
            (Pending::Outcome(then), Answer::Outcome(outcome)) => then(outcome),
            (Pending::Http(reply), Answer::Http(response)) => reply.finish(response),
            (Pending::Reads(reads), Answer::Fresh(fresh)) => {
                self.round_count.set(self.round_count.get() - 1);
                self.wake.notify();
                for then in reads {
                    then(fresh);
                }
            }
            (Pending::Renewal(then), Answer::Renewed(renewed)) => then(renewed),
            (Pending::Image(then), Answer::Image(image)) => then(image),
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
        Pending::Outcome(then) => then(Err(error)),
        Pending::Http(reply) => reply.finish(HttpResponse::error(503, &error.status().message)),
        Pending::Reads(reads) => {
            for then in reads {
                then(Err(error));
            }
        }
        Pending::Renewal(then) => then(Err(error)),
        Pending::Image(then) => then(Err(error)),
        Pending::Alarm => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use driver::ExecutorConfig;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Runs `test` on an executor, with a link whose sending task runs and the log shard's end of it.
    fn with_link<F>(test: impl FnOnce(Rc<Link>, driver::Mailbox<AskBatch>) -> F)
    where
        F: Future<Output = ()>,
    {
        driver::run(ExecutorConfig::new("t"), || async move {
            let (to_log, questions) = driver::mailbox(BATCH_COUNT_MAX);
            let link = Link::new(3, to_log);
            driver::spawn(Rc::clone(&link).speak()).detach();
            test(link, questions).await;
        })
        .unwrap();
    }

    async fn next(questions: &mut driver::Mailbox<AskBatch>) -> AskBatch {
        let batch = driver::timeout(LIMIT, questions.recv()).await;
        batch.unwrap().unwrap()
    }

    #[test]
    fn what_one_turn_asks_leaves_as_one_batch_and_reads_share_a_question() {
        with_link(|link, mut questions| async move {
            let told = Rc::new(Cell::new(0));
            for _ in 0..5 {
                let told = Rc::clone(&told);
                link.wait_fresh(Box::new(move |fresh| {
                    assert_eq!(fresh, Ok(()));
                    told.set(told.get() + 1);
                }));
            }
            link.raise_space_alarm();
            link.raise_space_alarm();
            let batch = next(&mut questions).await;
            assert_eq!(batch.from, 3);
            let [(alarm, Ask::RaiseSpaceAlarm), (fresh, Ask::Fresh)] = batch.asks[..] else {
                panic!("{:?}", batch.asks)
            };
            assert!(questions.try_recv().is_none(), "a second batch");
            link.on_answers(vec![(fresh, Answer::Fresh(Ok(()))), (alarm, Answer::Noted)]);
            assert_eq!(told.get(), 5);
            assert_eq!(link.in_flight_bytes.get(), 0);
            // It may be asked again now.
            link.raise_space_alarm();
            assert_eq!(next(&mut questions).await.asks.len(), 1);
        });
    }

    #[test]
    fn rounds_are_limited_and_later_reads_share_the_next_one() {
        with_link(|link, mut questions| async move {
            let mut tickets = Vec::new();
            for _ in 0..ROUND_COUNT_MAX {
                link.wait_fresh(Box::new(|_| ()));
                tickets.push(next(&mut questions).await.asks[0].0);
            }
            let told = Rc::new(Cell::new(0));
            for _ in 0..3 {
                let told = Rc::clone(&told);
                link.wait_fresh(Box::new(move |_| told.set(told.get() + 1)));
                driver::yield_now().await;
                assert!(questions.try_recv().is_none());
            }
            link.on_answers(vec![(tickets[0], Answer::Fresh(Ok(())))]);
            let batch = next(&mut questions).await;
            assert_eq!(batch.asks.len(), 1);
            link.on_answers(vec![(
                batch.asks[0].0,
                Answer::Fresh(Err(FrontError::Timeout)),
            )]);
            assert_eq!(told.get(), 3);
        });
    }

    #[test]
    fn unanswered_questions_have_a_budget() {
        with_link(|link, mut questions| async move {
            // One alone may be larger than all of it.
            assert!(!link.is_full(IN_FLIGHT_SIZE_BYTES_MAX + 1));
            let payload = Bytes::from_static(b"x");
            let call = Ask::Call { method: 0, payload };
            link.ask(call, Pending::Alarm, IN_FLIGHT_SIZE_BYTES_MAX - 1);
            assert!(!link.is_full(1));
            assert!(link.is_full(2));
            let ticket = next(&mut questions).await.asks[0].0;
            link.on_answers(vec![(ticket, Answer::Noted)]);
            assert!(!link.is_full(IN_FLIGHT_SIZE_BYTES_MAX));
        });
    }

    #[test]
    fn a_log_shard_that_has_ended_answers_nobody() {
        with_link(|link, questions| async move {
            drop(questions);
            let (sender, told) = driver::oneshot();
            link.wait_fresh(Box::new(move |fresh| {
                let _ = sender.send(fresh);
            }));
            let fresh = driver::timeout(LIMIT, told).await.unwrap().unwrap();
            assert_eq!(fresh, Err(FrontError::Stopped));
        });
    }
}
