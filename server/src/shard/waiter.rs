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
    /// Those that wait for as long as it takes.
    patient: HashMap<u64, Waiter>,
    /// `(deadline, id)`, ascending; ids that were answered before are passed over.
    deadlines: VecDeque<(Duration, u64)>,
    patience: Duration,
}

impl Waiters {
    /// Every waiter gives up after `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Waiters {
            by_id: HashMap::new(),
            patient: HashMap::new(),
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
        if waiter.is_none() {
            return self.patient.remove(&id);
        }
        while let Some((_, oldest)) = self.deadlines.front() {
            if self.by_id.contains_key(oldest) {
                break;
            }
            self.deadlines.pop_front();
        }
        waiter
    }

    /// What this one waits for is certain to come, but may take long.
    pub(crate) fn be_patient(&mut self, id: u64) {
        if let Some(waiter) = self.by_id.remove(&id) {
            self.patient.insert(id, waiter);
        }
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
        let patient = std::mem::take(&mut self.patient);
        std::mem::take(&mut self.by_id)
            .into_values()
            .chain(patient.into_values())
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len() + self.patient.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter() -> Waiter {
        Waiter::Task(driver::oneshot().0)
    }

    #[test]
    fn who_is_patient_outlasts_the_others() {
        let secs = Duration::from_secs;
        let mut waiters = Waiters::new(secs(7));
        for id in 1..=3 {
            waiters.insert(id, waiter(), secs(id));
        }
        waiters.be_patient(2);
        assert!(waiters.take_expired(secs(7)).is_none());
        assert!(waiters.take_expired(secs(100)).is_some());
        assert!(waiters.take_expired(secs(100)).is_some());
        assert!(waiters.take_expired(secs(100)).is_none());
        assert_eq!(waiters.len(), 1);
        assert!(waiters.take(2).is_some());
        assert!(waiters.take(2).is_none());
        waiters.insert(4, waiter(), secs(101));
        waiters.be_patient(4);
        assert_eq!(waiters.drain().count(), 1);
    }
}
