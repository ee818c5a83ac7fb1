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

/// The waiters, in the order in which they came.
pub(crate) struct Waiters {
    /// Request ids grow, so this is in their order too.
    places: VecDeque<Place>,
    /// How many places are taken.
    count: usize,
    /// Those that wait for as long as it takes.
    patient: HashMap<u64, Waiter>,
    patience: Duration,
}

struct Place {
    id: u64,
    deadline: Duration,
    /// `None`: it was answered.
    waiter: Option<Waiter>,
}

impl Waiters {
    /// Every waiter gives up after `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Waiters {
            places: VecDeque::new(),
            count: 0,
            patient: HashMap::new(),
            patience,
        }
    }

    /// Adds a waiter for an id that follows those before.
    pub(crate) fn insert(&mut self, id: u64, waiter: Waiter, now: Duration) {
        self.places.push_back(Place {
            id,
            deadline: now + self.patience,
            waiter: Some(waiter),
        });
        self.count += 1;
    }

    /// The waiter for this id, once.
    pub(crate) fn take(&mut self, id: u64) -> Option<Waiter> {
        self.take_impatient(id).or_else(|| self.patient.remove(&id))
    }

    fn take_impatient(&mut self, id: u64) -> Option<Waiter> {
        // Counted from the oldest, since ids begin anew behind the last one.
        let oldest = self.places.front()?.id;
        let distance = |place: &Place| place.id.wrapping_sub(oldest);
        let at = self
            .places
            .binary_search_by_key(&id.wrapping_sub(oldest), distance);
        let waiter = self.places.get_mut(at.ok()?)?.waiter.take()?;
        self.count -= 1;
        while self
            .places
            .pop_front_if(|place| place.waiter.is_none())
            .is_some()
        {}
        Some(waiter)
    }

    /// What this one waits for is certain to come, but may take long.
    pub(crate) fn be_patient(&mut self, id: u64) {
        if let Some(waiter) = self.take_impatient(id) {
            self.patient.insert(id, waiter);
        }
    }

    /// The waiters whose time is over, with what they waited for.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<(u64, Waiter)> {
        let mut expired = Vec::new();
        while let Some(place) = self.places.pop_front_if(|place| place.deadline <= now) {
            expired.extend(place.waiter.map(|waiter| (place.id, waiter)));
        }
        self.count -= expired.len();
        expired
    }

    /// All waiters, at the end of the server.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiter> {
        self.count = 0;
        let patient = std::mem::take(&mut self.patient);
        std::mem::take(&mut self.places)
            .into_iter()
            .filter_map(|place| place.waiter)
            .chain(patient.into_values())
    }

    pub(crate) fn len(&self) -> usize {
        self.count + self.patient.len()
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
        assert!(waiters.take_expired(secs(7)).is_empty());
        let expired = waiters.take_expired(secs(100)).into_iter();
        assert_eq!(expired.map(|(id, _)| id).collect::<Vec<_>>(), [1, 3]);
        assert!(waiters.take_expired(secs(100)).is_empty());
        assert_eq!(waiters.len(), 1);
        assert!(waiters.take(2).is_some());
        assert!(waiters.take(2).is_none());
        waiters.insert(4, waiter(), secs(101));
        waiters.be_patient(4);
        assert_eq!(waiters.drain().count(), 1);
    }

    #[test]
    fn waiters_are_found_in_any_order_also_where_ids_begin_anew() {
        let mut waiters = Waiters::new(Duration::from_secs(7));
        let ids: Vec<u64> = (0..100)
            .map(|n| (u64::MAX - 50).wrapping_add(3 * n))
            .collect();
        for id in &ids {
            waiters.insert(*id, waiter(), Duration::ZERO);
        }
        // One in seven is answered first, then all the others backwards.
        let (early, late): (Vec<u64>, Vec<u64>) = ids.iter().copied().partition(|id| id % 7 == 0);
        for (answered, id) in early.iter().chain(late.iter().rev()).enumerate() {
            assert_eq!(waiters.len(), ids.len() - answered);
            assert!(waiters.take(id.wrapping_add(1)).is_none());
            assert!(waiters.take(*id).is_some(), "{id}");
            assert!(waiters.take(*id).is_none());
        }
        assert_eq!(waiters.len(), 0);
        assert!(waiters.places.is_empty());
    }
}
