//! Keep-alives that could not be answered at once.
//!
//! A lease that ran out is told as gone only when it is revoked, or else the keys of a lease that is gone would still be
//! there; and one that is unknown may have been granted by an entry that is not applied. Both are asked for again at each
//! tick.

use std::time::Duration;

use engine::node::{Node, Renewal};
use engine::types::LeaseId;

use super::port::LinkReply;
use crate::errors::FrontError;
use crate::metrics::Counter;

/// The new times to live, in the order of the leases; 0 for those that are gone.
pub(crate) type Renewed = Result<Vec<i64>, FrontError>;

/// Who is told.
pub(crate) enum RenewalWaiter {
    /// Go on here.
    Then(Box<dyn FnOnce(Renewed)>),
    /// Tell another shard.
    Link(LinkReply),
}

impl RenewalWaiter {
    pub(super) fn finish(self, renewed: Renewed) {
        match self {
            RenewalWaiter::Then(then) => then(renewed),
            RenewalWaiter::Link(reply) => reply.tell_renewed(renewed),
        }
    }
}

/// The leases that one stream asked for at once.
pub(super) struct Renewals {
    ids: Vec<i64>,
    /// As far as they are known.
    ttls: Vec<Option<i64>>,
    /// The last entry that may have granted one of them.
    granted_by: u64,
    deadline: Duration,
    waiter: RenewalWaiter,
}

impl Renewals {
    pub(super) fn new(
        ids: Vec<i64>,
        granted_by: u64,
        deadline: Duration,
        waiter: RenewalWaiter,
    ) -> Self {
        Renewals {
            ttls: vec![None; ids.len()],
            ids,
            granted_by,
            deadline,
            waiter,
        }
    }

    /// Renews what can be renewed. Returns itself if something is left to wait for.
    pub(super) fn try_all(
        mut self,
        node: &mut Node,
        now: Duration,
        renewed_count: &Counter,
    ) -> Option<Self> {
        for (id, ttl) in self.ids.iter().zip(&mut self.ttls) {
            if ttl.is_none() {
                *ttl = match node.renew_lease(LeaseId(*id), self.granted_by, now) {
                    Renewal::Renewed(ttl) => {
                        renewed_count.inc();
                        Some(ttl)
                    }
                    Renewal::Unknown => Some(0),
                    Renewal::NotYet => None,
                };
            }
        }
        if self.ttls.contains(&None) && now < self.deadline {
            return Some(self);
        }
        let ttls: Option<Vec<i64>> = self.ttls.into_iter().collect();
        self.waiter.finish(ttls.ok_or(FrontError::Timeout));
        None
    }

    pub(super) fn refuse(self, error: FrontError) {
        self.waiter.finish(Err(error));
    }
}
