//! The leader's clock for leases: deadlines, renewals, and which leases to revoke now.
//!
//! Volatile: a new leader starts from what is replicated ([`super::Leases`]) and gives every lease its whole remaining
//! time again. Time is whatever monotonic clock the caller uses, handed in as a `Duration` from any fixed origin.
//!
//! Order of calls: `promote` when this member begins to lead, `demote` when it ends; between them `on_granted` and
//! `on_revoked` for each applied effect, `renew` for keep-alives, and `poll_expired` at each tick, and as often as there is
//! room for proposals while it names any: each lease it names wants one LeaseRevoke proposal. A lease whose revocation did not come through is named again after a while.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use super::{Lease, Leases};
use crate::types::LeaseId;

/// More leases than this may have piled up while nobody led, and are spread.
const REVOKE_RATE_PER_S: usize = 1000;

/// So many may expire per second after they were spread: fewer than can be revoked, so that others come through.
const SPREAD_PER_S: u32 = 750;

/// Leases that are looked at for each that may be named: those that were renewed are put off.
const LOOKED_AT_PER_NAMED: usize = 4;

/// When an expired lease is named again if it is still there.
const RETRY: Duration = Duration::from_secs(3);

/// Choices of the cluster about leases' time.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpiryOptions {
    /// How often the remaining TTL of a long lease is put into the log; `None`: never.
    pub checkpoint_interval: Option<Duration>,
}

impl ExpiryOptions {
    /// When a lease that ends `at` gets its next checkpoint: only if it outlives the interval.
    fn checkpoint_after(&self, now: Duration, at: Duration) -> Option<Duration> {
        let interval = self.checkpoint_interval?;
        (at.saturating_sub(now) > interval).then(|| now + interval)
    }
}

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// This member does not lead: ask the one that does.
    #[error("not a primary lessor")]
    NotPrimary,
    #[error("requested lease not found")]
    LeaseNotFound,
    /// It ran out and its revocation is under way: wait for that, then answer as for an unknown lease.
    #[error("lease has expired and is being revoked")]
    Expired,
}

/// What a keep-alive did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The lease's TTL, in seconds: what it has left again.
    pub ttl: i64,
    /// [`super::Lease::is_checkpointed`]: the caller also proposes a checkpoint of 0.
    pub is_checkpointed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Duration,
    /// When it is looked at next, its place in `wakes`: `at`; later once it was named; earlier if it was renewed since, as
    /// most leases are renewed many times before anybody looks.
    wake: Duration,
    /// When its remaining TTL goes into the log.
    checkpoint: Option<Duration>,
    /// Of the lease, so that a keep-alive looks nowhere else.
    ttl: i64,
    is_checkpointed: bool,
}

/// Deadlines of all leases while this member leads; empty otherwise. See the module text.
#[derive(Debug, Default)]
pub struct Expiry {
    options: ExpiryOptions,
    primary: bool,
    /// By hash: keep-alives find theirs in one step. Clients choose the ids, so the hash has a secret seed.
    deadlines: HashMap<LeaseId, Deadline>,
    wakes: BTreeSet<(Duration, LeaseId)>,
    checkpoints: BTreeSet<(Duration, LeaseId)>,
}

impl Expiry {
    pub fn new(options: ExpiryOptions) -> Self {
        Expiry {
            options,
            ..Expiry::default()
        }
    }

    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// This member leads from `now` on: every lease gets its remaining TTL and `extend` (an election timeout). Where
    /// many would end together they are put off, so that the revocations can keep up.
    ///
    /// Takes about 0.2 us for each lease.
    pub fn promote(&mut self, now: Duration, extend: Duration, leases: &Leases) {
        self.demote();
        self.primary = true;
        self.deadlines = HashMap::with_capacity(leases.len());
        let deadline = |lease: &Lease| now + extend + seconds(lease.remaining_ttl());
        let mut order: Vec<(Duration, LeaseId)> = leases
            .iter()
            .map(|(id, lease)| (deadline(lease), id))
            .collect();
        order.sort_unstable();
        if order.len() >= REVOKE_RATE_PER_S {
            spread(&mut order);
            order.sort_unstable();
        }
        for &(at, id) in &order {
            let Some(lease) = leases.get(id) else {
                continue;
            };
            let deadline = Deadline {
                at,
                wake: at,
                checkpoint: self.options.checkpoint_after(now, at),
                ttl: lease.ttl(),
                is_checkpointed: lease.is_checkpointed(),
            };
            self.deadlines.insert(id, deadline);
        }
        // Sets are built whole from sorted runs, which is far cheaper than one insert after another.
        self.checkpoints = order
            .iter()
            .filter_map(|&(at, id)| Some((self.options.checkpoint_after(now, at)?, id)))
            .collect();
        self.wakes = order.into_iter().collect();
    }

    /// This member leads no more: nothing expires here.
    pub fn demote(&mut self) {
        *self = Expiry::new(self.options);
    }

    /// A grant was applied.
    pub fn on_granted(&mut self, now: Duration, id: LeaseId, ttl: i64) {
        if self.primary {
            self.set(id, ttl, now);
        }
    }

    /// A revocation was applied.
    pub fn on_revoked(&mut self, id: LeaseId) {
        self.unset(id);
    }

    /// A checkpoint of this many seconds (0: none any more) was applied: the next one is due an interval later.
    pub fn on_checkpointed(&mut self, now: Duration, id: LeaseId, remaining_ttl: i64) {
        if let Some(deadline) = self.deadlines.get_mut(&id) {
            deadline.is_checkpointed = remaining_ttl > 0;
            let at = deadline.at;
            self.schedule_checkpoint(id, at, now);
        }
    }

    /// A keep-alive: the lease gets its whole TTL again.
    ///
    /// # Errors
    /// Why it does not: [`RenewError`].
    pub fn renew(&mut self, now: Duration, id: LeaseId) -> Result<Renewed, RenewError> {
        if !self.primary {
            return Err(RenewError::NotPrimary);
        }
        let deadline = self
            .deadlines
            .get_mut(&id)
            .ok_or(RenewError::LeaseNotFound)?;
        if deadline.at <= now {
            return Err(RenewError::Expired);
        }
        let renewed = Renewed {
            ttl: deadline.ttl,
            is_checkpointed: deadline.is_checkpointed,
        };
        let at = now + seconds(renewed.ttl);
        deadline.at = at;
        if deadline.wake > at {
            // It had more than its TTL, from an election.
            let former = std::mem::replace(&mut deadline.wake, at);
            self.wakes.remove(&(former, id));
            self.wakes.insert((at, id));
        }
        if self.options.checkpoint_interval.is_some() {
            self.schedule_checkpoint(id, at, now);
        }
        Ok(renewed)
    }

    /// Up to `limit` leases whose time is over, longest over first. Each is named again after three seconds unless it
    /// was revoked. Looks at a few times as many, so it may name fewer than there are.
    pub fn poll_expired(&mut self, now: Duration, limit: usize) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        for _ in 0..limit.saturating_mul(LOOKED_AT_PER_NAMED) {
            if expired.len() >= limit || !self.has_expired(now) {
                break;
            }
            let Some((_, id)) = self.wakes.pop_first() else {
                break;
            };
            let Some(deadline) = self.deadlines.get_mut(&id) else {
                continue;
            };
            if deadline.at > now {
                deadline.wake = deadline.at;
            } else {
                deadline.wake = now + RETRY;
                expired.push(id);
            }
            self.wakes.insert((deadline.wake, id));
        }
        expired
    }

    /// Up to `limit` leases whose remaining TTL (whole seconds, rounded up) should go into the log now.
    pub fn poll_checkpoints(&mut self, now: Duration, limit: usize) -> Vec<(LeaseId, i64)> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(&(at, id)) = self.checkpoints.first()
            && at <= now
        {
            self.checkpoints.pop_first();
            let Some(deadline) = self.deadlines.get_mut(&id) else {
                continue;
            };
            deadline.checkpoint = None;
            let left = deadline.at.saturating_sub(now);
            let remaining = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
            if remaining >= deadline.ttl {
                // It has more, from an election or because many would end together: the next leader must not add to that.
                let at = deadline.at;
                self.schedule_checkpoint(id, at, now);
            } else if remaining > 0 {
                due.push((id, remaining));
            }
        }
        due
    }

    /// No later than this [`Expiry::poll_expired`] or [`Expiry::poll_checkpoints`] has something, or looks for it.
    pub fn next_timeout(&self) -> Option<Duration> {
        let first = |set: &BTreeSet<(Duration, LeaseId)>| set.first().map(|&(at, _)| at);
        [first(&self.wakes), first(&self.checkpoints)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whole seconds left, rounded down; negative once it is over. `None`: unknown, or this member does not lead.
    pub fn remaining(&self, now: Duration, id: LeaseId) -> Option<i64> {
        let at = self.deadlines.get(&id)?.at;
        let whole = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        Some(match at.checked_sub(now) {
            Some(left) => whole(left),
            // As a truncating division does: 0 until a whole second is over.
            None => -whole(now - at),
        })
    }

    /// True if [`Expiry::poll_expired`] has something to name, or to look at.
    pub fn has_expired(&self, now: Duration) -> bool {
        self.wakes.first().is_some_and(|(wake, _)| *wake <= now)
    }

    /// Up to `limit` leases by remaining life, soonest first, behind `after`; and where the list goes on, unless it ends
    /// there. A lease that was named as expired stands where it is named again.
    pub fn list(
        &mut self,
        after: Option<(Duration, LeaseId)>,
        limit: usize,
    ) -> (Vec<LeaseId>, Option<(Duration, LeaseId)>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.wakes.range((from, Bound::Unbounded));
        let places: Vec<(Duration, LeaseId)> = rest.take(limit).copied().collect();
        let Some(&last) = places.last() else {
            return (Vec::new(), None);
        };
        for place in places {
            self.put_right(place);
        }
        let listed = self.wakes.range((from, Bound::Included(last)));
        let listed = listed.map(|(_, id)| *id).collect();
        let mut rest = self.wakes.range((Bound::Excluded(last), Bound::Unbounded));
        (listed, rest.next().map(|_| last))
    }

    /// A lease that was renewed since goes to the place of its deadline.
    fn put_right(&mut self, (wake, id): (Duration, LeaseId)) {
        if let Some(deadline) = self.deadlines.get_mut(&id)
            && deadline.at > wake
        {
            deadline.wake = deadline.at;
            self.wakes.remove(&(wake, id));
            self.wakes.insert((deadline.wake, id));
        }
    }

    fn set(&mut self, id: LeaseId, ttl: i64, now: Duration) {
        self.unset(id);
        let at = now + seconds(ttl);
        self.deadlines.insert(
            id,
            Deadline {
                at,
                wake: at,
                checkpoint: None,
                ttl,
                is_checkpointed: false,
            },
        );
        self.wakes.insert((at, id));
        self.schedule_checkpoint(id, at, now);
    }

    fn unset(&mut self, id: LeaseId) {
        if let Some(deadline) = self.deadlines.remove(&id) {
            self.wakes.remove(&(deadline.wake, id));
            if let Some(checkpoint) = deadline.checkpoint {
                self.checkpoints.remove(&(checkpoint, id));
            }
        }
    }

    fn schedule_checkpoint(&mut self, id: LeaseId, at: Duration, now: Duration) {
        let Some(deadline) = self.deadlines.get_mut(&id) else {
            return;
        };
        if let Some(former) = deadline.checkpoint.take() {
            self.checkpoints.remove(&(former, id));
        }
        deadline.checkpoint = self.options.checkpoint_after(now, at);
        if let Some(next) = deadline.checkpoint {
            self.checkpoints.insert((next, id));
        }
    }
}

/// Puts off deadlines, which come ascending, so that a second does not see more than can be revoked in it.
///
/// Windows of one second go from the first deadline in them; whoever is past the number that a window bears is put off
/// by its place in the queue, less what it is behind the window's start anyway.
fn spread(order: &mut [(Duration, LeaseId)]) {
    let second = Duration::from_secs(1);
    let Some(&(mut base, _)) = order.first() else {
        return;
    };
    let mut window = base + second;
    let mut expires = 0_u32;
    for (at, _) in order {
        if *at > window {
            base = *at;
            window = base + second;
            expires = 1;
            continue;
        }
        expires += 1;
        if expires > SPREAD_PER_S {
            let delay = (second * expires / SPREAD_PER_S).saturating_sub(*at - base);
            window = base + delay;
            *at += delay;
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::Tail;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn leases(ttls: &[(i64, i64)]) -> Leases {
        let (mut leases, mut tail) = (Leases::default(), Tail::new());
        for &(id, ttl) in ttls {
            leases.grant(LeaseId(id), ttl, 1, &mut tail).unwrap();
        }
        leases
    }

    fn renew(expiry: &mut Expiry, now: Duration, id: LeaseId) -> Result<i64, RenewError> {
        expiry.renew(now, id).map(|renewed| renewed.ttl)
    }

    #[test]
    fn only_a_leader_counts() {
        let mut expiry = Expiry::default();
        expiry.on_granted(s(0), LeaseId(1), 5);
        assert_eq!(
            renew(&mut expiry, s(1), LeaseId(1)),
            Err(RenewError::NotPrimary)
        );
        assert_eq!(
            (expiry.remaining(s(1), LeaseId(1)), expiry.next_timeout()),
            (None, None)
        );
        assert!(expiry.poll_expired(s(100), 10).is_empty());
    }

    #[test]
    fn a_new_leader_gives_the_remaining_time_and_the_extension() {
        let mut leases = leases(&[(1, 10), (2, 20)]);
        leases.checkpoint(LeaseId(2), 4, false, &mut Tail::new());
        let mut expiry = Expiry::default();
        expiry.promote(s(100), s(1), &leases);
        assert_eq!(expiry.remaining(s(100), LeaseId(1)), Some(11));
        assert_eq!(expiry.remaining(s(100), LeaseId(2)), Some(5));
        let (first, last) = expiry.list(None, 1);
        assert_eq!(first, [LeaseId(2)]);
        assert_eq!(expiry.list(last, 1), (vec![LeaseId(1)], None));
        assert_eq!(
            expiry.remaining(Duration::from_millis(100_500), LeaseId(2)),
            Some(4)
        );
        expiry.demote();
        assert_eq!(expiry.remaining(s(100), LeaseId(1)), None);
    }

    #[test]
    fn expired_leases_are_named_until_revoked() {
        let leases = leases(&[(1, 5), (2, 5), (3, 9)]);
        let mut expiry = Expiry::default();
        expiry.promote(s(0), s(0), &leases);
        assert!(
            expiry
                .poll_expired(Duration::from_millis(4999), 10)
                .is_empty()
        );
        assert_eq!(expiry.poll_expired(s(5), 1), [LeaseId(1)]);
        assert_eq!(expiry.poll_expired(s(5), 10), [LeaseId(2)]);
        assert!(expiry.poll_expired(s(7), 10).is_empty());
        expiry.on_revoked(LeaseId(2));
        assert_eq!(expiry.poll_expired(s(8), 10), [LeaseId(1)]);
        assert_eq!(expiry.next_timeout(), Some(s(9)));
    }

    #[test]
    fn renewing_starts_anew_unless_it_is_over() {
        let leases = leases(&[(1, 5)]);
        let mut expiry = Expiry::default();
        expiry.promote(s(0), s(0), &leases);
        assert_eq!(renew(&mut expiry, s(4), LeaseId(1)), Ok(5));
        assert!(expiry.poll_expired(s(8), 10).is_empty());
        assert_eq!(
            renew(&mut expiry, s(9), LeaseId(1)),
            Err(RenewError::Expired)
        );
        assert_eq!(
            renew(&mut expiry, s(9), LeaseId(7)),
            Err(RenewError::LeaseNotFound)
        );
        assert_eq!(
            expiry.remaining(Duration::from_millis(9500), LeaseId(1)),
            Some(0)
        );
        assert_eq!(expiry.poll_expired(s(9), 10), [LeaseId(1)]);
    }

    #[test]
    fn renewed_leases_are_listed_and_named_by_their_new_deadlines() {
        let leases = leases(&[(1, 10), (2, 11), (3, 12), (4, 13)]);
        let mut expiry = Expiry::default();
        expiry.promote(s(0), s(0), &leases);
        // 1 ends at 15, behind all but nothing; 2 at 12, with 3.
        assert_eq!(renew(&mut expiry, s(5), LeaseId(1)), Ok(10));
        assert_eq!(renew(&mut expiry, s(1), LeaseId(2)), Ok(11));
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let (ids, last) = expiry.list(after, 1);
            listed.extend(ids);
            after = last;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, [2, 3, 4, 1].map(LeaseId));
        assert_eq!(renew(&mut expiry, s(6), LeaseId(2)), Ok(11));
        // Three that were put off do not keep one from being named.
        assert_eq!(expiry.poll_expired(s(12), 1), [LeaseId(3)]);
        assert_eq!(expiry.poll_expired(s(16), 10), [4, 1, 3].map(LeaseId));
        assert_eq!(expiry.poll_expired(s(17), 10), [LeaseId(2)]);
    }

    #[test]
    fn a_renewal_may_end_a_lease_sooner_than_the_election_had_it() {
        let leases = leases(&[(1, 10)]);
        let mut expiry = Expiry::default();
        expiry.promote(s(0), s(5), &leases);
        assert_eq!(renew(&mut expiry, s(1), LeaseId(1)), Ok(10));
        assert_eq!(expiry.next_timeout(), Some(s(11)));
        assert_eq!(expiry.poll_expired(s(11), 10), [LeaseId(1)]);
    }

    #[test]
    fn a_pile_of_leases_is_spread_over_seconds() {
        let many: Vec<(i64, i64)> = (1..=3000).map(|id| (id, 10)).collect();
        let leases = leases(&many);
        let mut expiry = Expiry::default();
        expiry.promote(s(0), s(0), &leases);
        let mut second = 10;
        let mut total = 0;
        while total < 3000 {
            let expired = expiry.poll_expired(s(second), 3000);
            let count = expired.len();
            assert!(
                count <= 2 * SPREAD_PER_S as usize,
                "{count} in second {second}"
            );
            expired.into_iter().for_each(|id| expiry.on_revoked(id));
            total += count;
            second += 1;
            assert!(second < 20);
        }
        assert!(second >= 13);
    }

    /// Each restart once added an election timeout to what the one before had added.
    #[test]
    fn a_checkpoint_never_gives_a_lease_more_than_its_ttl() {
        let leases = leases(&[(1, 5)]);
        let mut expiry = Expiry::new(ExpiryOptions {
            checkpoint_interval: Some(s(1)),
        });
        expiry.promote(s(0), s(3), &leases);
        for second in 1..=3 {
            assert!(expiry.poll_checkpoints(s(second), 10).is_empty());
        }
        assert_eq!(expiry.poll_checkpoints(s(4), 10), [(LeaseId(1), 4)]);
    }

    #[test]
    fn long_leases_are_checkpointed_each_interval() {
        let leases = leases(&[(1, 1000), (2, 200)]);
        let mut expiry = Expiry::new(ExpiryOptions {
            checkpoint_interval: Some(s(300)),
        });
        expiry.promote(s(0), s(0), &leases);
        assert!(expiry.poll_checkpoints(s(299), 10).is_empty());
        assert_eq!(expiry.poll_checkpoints(s(300), 10), [(LeaseId(1), 700)]);
        assert!(expiry.poll_checkpoints(s(300), 10).is_empty());
        expiry.on_checkpointed(s(301), LeaseId(1), 700);
        assert_eq!(expiry.poll_checkpoints(s(601), 10), [(LeaseId(1), 399)]);
        let renewed = |is_checkpointed| Renewed {
            ttl: 1000,
            is_checkpointed,
        };
        assert_eq!(expiry.renew(s(602), LeaseId(1)), Ok(renewed(true)));
        expiry.on_checkpointed(s(602), LeaseId(1), 0);
        assert_eq!(expiry.renew(s(602), LeaseId(1)), Ok(renewed(false)));
        assert_eq!(expiry.poll_checkpoints(s(902), 10), [(LeaseId(1), 700)]);
    }
}
