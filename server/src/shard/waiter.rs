//! Who waits for what is proposed, and until when.
//!
//! All proposals wait equally long, so their deadlines end in the order in which they were made: a queue is the whole
//! timer.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use engine::mvcc::RequestError;
use engine::state::Response;

use super::NodeReply;
use super::port::LinkReply;
use crate::errors::FrontError;

/// What a proposal came to.
pub(crate) type Outcome = Result<Result<Response, RequestError>, FrontError>;

/// What to do with the outcome of a proposal.
pub(crate) enum Waiter {
    /// Answer a call.
    Reply(NodeReply),
    /// Hand it to a task of this executor.
    Task(driver::Sender<Outcome>),
}

/// Whether a View is there that is as new as a read needs.
pub(crate) type Fresh = Result<(), FrontError>;

/// Who waits for such a View.
pub(crate) enum FreshWaiter {
    /// Go on here.
    Then(Box<dyn FnOnce(Fresh)>),
    /// Tell another shard.
    Link(LinkReply),
}

impl FreshWaiter {
    pub(super) fn finish(self, fresh: Fresh) {
        match self {
            FreshWaiter::Then(then) => then(fresh),
            FreshWaiter::Link(reply) => reply.tell_fresh(fresh),
        }
    }
}

/// The waiters by request id.
pub(crate) struct Waiters {
    by_id: HashMap<u64, Waiter>,
    /// `(deadline, id)`, ascending; ids that were answered before are passed over.
    deadlines: VecDeque<(Duration, u64)>,
    patience: Duration,
}

impl Waiters {
    /// Every waiter gives up after `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Waiters {
            by_id: HashMap::new(),
            deadlines: VecDeque::new(),
            patience,
        }
    }

    pub(crate) fn insert(&mut self, id: u64, waiter: Waiter, now: Duration) {
        self.by_id.insert(id, waiter);
        self.deadlines.push_back((now + self.patience, id));
    }

    /// The waiter for this id, once.
    pub(crate) fn take(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.by_id.remove(&id);
        while let Some((_, oldest)) = self.deadlines.front() {
            if self.by_id.contains_key(oldest) {
                break;
            }
            self.deadlines.pop_front();
        }
        waiter
    }

    /// A waiter whose time is over.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Option<Waiter> {
        while let Some(&(deadline, id)) = self.deadlines.front() {
            if deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if let Some(waiter) = self.by_id.remove(&id) {
                return Some(waiter);
            }
        }
        None
    }

    /// All waiters, at the end of the server.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiter> {
        self.deadlines.clear();
        std::mem::take(&mut self.by_id).into_values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl Waiter {
    pub(crate) fn finish(self, outcome: Outcome) {
        match self {
            Waiter::Reply(reply) => reply.finish_proposal(outcome),
            // Nobody listens any more: the task was dropped with its connection.
            Waiter::Task(sender) => drop(sender.send(outcome)),
        }
    }
}
