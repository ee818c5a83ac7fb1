//! The log shard's end of the links: takes batches of questions, answers in batches.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use driver::{Mailbox, MailboxSender, Notify};
use net::grpc::Status;
use net::http::HttpResponse;

use super::LogShard;
use super::ask::{Answer, Ask, AskBatch, ShardNo, Ticket, ToShard};
use super::images::{ImageWaiter, Imaged};
use super::renewals::{RenewalWaiter, Renewed};
use super::reply::{NodeHttpReply, NodeReply};
use super::waiter::{Fresh, FreshWaiter, Outcome, Waiter};
use crate::services;

/// The answers on their way to the other shards.
///
/// They are bounded by the questions: each has one answer, and a shard's unanswered questions have a budget.
pub(crate) struct Port {
    /// By shard; the log shard's own place stays empty.
    out: Vec<Out>,
    wake: Notify,
}

struct Out {
    answers: RefCell<Vec<(Ticket, Answer)>>,
    /// `None`: the log shard itself.
    to_shard: Option<MailboxSender<ToShard>>,
}

impl Port {
    /// To the shards behind the log shard, in order.
    pub(super) fn new(shards: impl IntoIterator<Item = MailboxSender<ToShard>>) -> Rc<Self> {
        let others = shards.into_iter().map(Some);
        let out = std::iter::once(None).chain(others).map(|to_shard| Out {
            answers: RefCell::default(),
            to_shard,
        });
        Rc::new(Port {
            out: out.collect(),
            wake: Notify::new(),
        })
    }

    /// Takes questions until all shards are gone.
    pub(super) async fn listen(self: Rc<Self>, log: Rc<LogShard>, mut mailbox: Mailbox<AskBatch>) {
        let mut batches = Vec::new();
        while mailbox.recv_all(&mut batches).await {
            for batch in batches.drain(..) {
                for (ticket, ask) in batch.asks {
                    let reply = LinkReply {
                        port: Rc::clone(&self),
                        shard_no: batch.from,
                        ticket,
                    };
                    serve(&log, ask, reply);
                }
            }
            // The node gets its turn, and with it whoever waits for former questions.
            driver::yield_now().await;
        }
    }

    /// Sends what has gathered, once for all that runs in one turn.
    pub(super) async fn speak(self: Rc<Self>) {
        loop {
            self.wake.notified().await;
            for out in &self.out {
                let answers = std::mem::take(&mut *out.answers.borrow_mut());
                if let Some(to_shard) = &out.to_shard
                    && !answers.is_empty()
                {
                    // It fails only for a shard that has ended, and with it whoever asked.
                    let _ = to_shard.send(ToShard::Answers(answers));
                }
            }
        }
    }

    fn push(&self, shard_no: ShardNo, ticket: Ticket, answer: Answer) {
        if let Some(out) = self.out.get(shard_no) {
            out.answers.borrow_mut().push((ticket, answer));
            self.wake.notify();
        }
    }
}

fn serve(log: &Rc<LogShard>, ask: Ask, reply: LinkReply) {
    match ask {
        Ask::Propose(request) => {
            let waiter = Waiter::Reply(NodeReply::Link(reply.clone()));
            if let Err(error) = log.propose(*request, waiter) {
                reply.finish_proposal(Err(error));
            }
        }
        Ask::Call { method, payload } => {
            services::serve_by_node(log, method, payload, NodeReply::Link(reply));
        }
        Ask::Http { role, request } => {
            services::http::answer(log, role, &request, NodeHttpReply::Link(reply));
        }
        Ask::Renew(ids) => log.renew(ids, RenewalWaiter::Link(reply)),
        Ask::Image => log.image(ImageWaiter::Link(reply)),
        Ask::Fresh => log.wait_fresh(FreshWaiter::Link(reply)),
        Ask::RaiseSpaceAlarm => {
            log.raise_space_alarm();
            reply.send(Answer::Noted);
        }
    }
}

/// Where the answer to a question of another shard goes.
#[derive(Clone)]
pub(crate) struct LinkReply {
    port: Rc<Port>,
    shard_no: ShardNo,
    ticket: Ticket,
}

impl LinkReply {
    pub(super) fn finish(self, result: Result<Bytes, Status>) {
        self.send(Answer::Message(result));
    }

    pub(super) fn finish_proposal(self, outcome: Outcome) {
        self.send(Answer::Outcome(outcome));
    }

    pub(super) fn respond(self, response: HttpResponse) {
        self.send(Answer::Http(response));
    }

    pub(super) fn tell_fresh(self, fresh: Fresh) {
        self.send(Answer::Fresh(fresh));
    }

    pub(super) fn tell_image(self, image: Imaged) {
        self.send(Answer::Image(image));
    }

    pub(super) fn tell_renewed(self, renewed: Renewed) {
        self.send(Answer::Renewed(renewed));
    }

    fn send(self, answer: Answer) {
        self.port.push(self.shard_no, self.ticket, answer);
    }
}
