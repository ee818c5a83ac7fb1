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

/// The leases in the order in which they were asked for, with their new times to live; 0 for those that are gone.
pub(crate) type Renewed = Result<Vec<(i64, i64)>, FrontError>;

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
    /// With their new times to live, or [`NOT_YET`].
    leases: Vec<(i64, i64)>,
    /// The last entry that may have granted one of them.
    granted_by: u64,
    deadline: Duration,
    waiter: RenewalWaiter,
}

/// No time to live: it is still to be asked for.
const NOT_YET: i64 = -1;

impl Renewals {
    pub(super) fn new(
        ids: Vec<i64>,
        granted_by: u64,
        deadline: Duration,
        waiter: RenewalWaiter,
    ) -> Self {
        Renewals {
            leases: ids.into_iter().map(|id| (id, NOT_YET)).collect(),
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
        let mut has_open = false;
        for (id, ttl) in &mut self.leases {
            if *ttl != NOT_YET {
                continue;
            }
            *ttl = match node.renew_lease(LeaseId(*id), self.granted_by, now) {
                Renewal::Renewed(ttl) => {
                    renewed_count.inc();
                    ttl
                }
                Renewal::Unknown => 0,
                Renewal::NotYet => NOT_YET,
            };
            has_open |= *ttl == NOT_YET;
        }
        match has_open {
            true if now < self.deadline => return Some(self),
            true => self.waiter.finish(Err(FrontError::Timeout)),
            false => self.waiter.finish(Ok(self.leases)),
        }
        None
    }

    pub(super) fn refuse(self, error: FrontError) {
        self.waiter.finish(Err(error));
    }
}
