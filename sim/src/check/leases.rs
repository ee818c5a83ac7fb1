//! The promises of leases: who has one, how long at least, and what goes with it.
//!
//! The book is kept by what members applied: a lease lives from its grant to its revocation, on every member and in every
//! life alike. Beside it stand the times that clients were told of, on the one clock of the world. Checked are:
//!
//! - a member that starts, or is asked, has the leases that its last applied entry leaves, and no others;
//! - nobody loses a lease that was not given back before its TTL is over, counted from the grant and from every renewal that
//!   the leader answered; a restart or another leader only adds to that. Where remaining times go into the log a renewal
//!   counts until the leader changes, as in etcd: the entry that clears them may be lost with the leader;
//! - a leader tells a remaining time between what is owed and the whole TTL with one election timeout;
//! - a revoked lease takes all its keys along at one revision, in ascending order, and its list of keys is that of the
//!   key space;
//! - in the end, all leases that nobody renews are gone ([`LeaseBook::waits_for`]).

use std::collections::BTreeMap;

use engine::node::LeaseTime;
use engine::state::{Applied, ApplyEffect, View};
use engine::types::LeaseId;

use super::Violation;
use crate::history::Published;
use crate::member::{ELECTION_TIMEOUT, TICK};
use crate::plan::{SECOND, Time};

/// A TTL above this does not end within a run.
pub const SHORT_TTL_MAX: i64 = 60;

/// How far a leader's clock, read once in a turn, may be behind.
const CLOCK_LAG_MAX: Time = TICK / 4;

#[derive(Debug)]
struct Entry {
    ttl: i64,
    granted_by: u64,
    revoked_by: Option<u64>,
    /// When the grant was applied first.
    granted_at: Time,
    /// The last renewal that was answered, and how many leaders there had been.
    renewed: Option<(Time, u64)>,
    /// A client asked to revoke it.
    is_given_back: bool,
}

/// See the module text.
#[derive(Debug, Default)]
pub struct LeaseBook {
    leases: BTreeMap<i64, Entry>,
    /// The newest entry that somebody told of.
    newest: u64,
    leader_count: u64,
    /// Remaining times go into the log.
    are_checkpointed: bool,
    /// Leases that ran out, and renewals that were answered.
    pub expired_count: usize,
    pub renewed_count: usize,
}

impl LeaseBook {
    pub fn new(are_checkpointed: bool) -> LeaseBook {
        LeaseBook {
            are_checkpointed,
            ..LeaseBook::default()
        }
    }

    /// A member leads.
    pub fn on_leader(&mut self) {
        self.leader_count += 1;
    }

    /// A client asks to revoke it.
    pub fn on_given_back(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.is_given_back = true;
        }
    }

    /// A leader answered a keep-alive.
    pub fn on_renewed(&mut self, id: i64, ttl: i64, now: Time) -> Result<(), Violation> {
        let lease = self.leases.get_mut(&id);
        let lease = lease.ok_or_else(|| format!("lease: {id:x} was never granted"))?;
        self.renewed_count += 1;
        lease.renewed = Some((now, self.leader_count));
        match lease.ttl == ttl {
            true => Ok(()),
            false => Err(format!("lease: {id:x} was renewed by {ttl}: {lease:?}")),
        }
    }

    /// A leader answered a keep-alive of a lease that it does not know.
    pub fn on_unknown(&self, id: i64, applied_index: u64) -> Result<(), Violation> {
        match self.leases.get(&id) {
            Some(lease) if lease.is_alive(applied_index) => Err(format!(
                "lease: {id:x} is unknown at entry {applied_index}: {lease:?}"
            )),
            _ => Ok(()),
        }
    }

    /// A member applied an entry.
    pub fn on_applied(
        &mut self,
        applied: &Applied,
        now: Time,
        published: &Published,
    ) -> Result<(), Violation> {
        let index = applied.index.0;
        self.newest = self.newest.max(index);
        for effect in &applied.effects {
            match effect {
                ApplyEffect::LeaseGranted { id, ttl } => {
                    self.leases
                        .entry(id.0)
                        .or_insert(Entry::new(*ttl, index, now));
                }
                ApplyEffect::LeaseRevoked { id } => {
                    self.on_revoked(id.0, index, applied.revision, now, published)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn on_revoked(
        &mut self,
        id: i64,
        index: u64,
        revision: i64,
        now: Time,
        published: &Published,
    ) -> Result<(), Violation> {
        let owed = self.owed_until(id);
        let Some(lease) = self.leases.get_mut(&id) else {
            return Err(format!("lease: {id:x} was revoked and never granted"));
        };
        if lease.revoked_by.is_some() {
            return Ok(());
        }
        lease.revoked_by = Some(index);
        if !lease.is_given_back {
            self.expired_count += 1;
            if now + CLOCK_LAG_MAX < owed {
                return Err(format!(
                    "lease: {id:x} ended {} us early: {lease:?}",
                    owed - now
                ));
            }
        }
        check_keys_gone(id, revision, published)
    }

    /// Until when a lease must not run out.
    fn owed_until(&self, id: i64) -> Time {
        let Some(lease) = self.leases.get(&id) else {
            return 0;
        };
        let ttl = lease.ttl as Time * SECOND;
        let renewed = lease.renewed;
        let counts = |leader| !self.are_checkpointed || leader == self.leader_count;
        let renewed = renewed.filter(|(_, leader)| counts(*leader));
        lease.granted_at.max(renewed.map_or(0, |(at, _)| at)) + ttl
    }

    /// A member starts, or ends. What it applied last and nobody had told of is taken as it is.
    pub fn on_state(&mut self, no: usize, view: &View<'_>, now: Time) -> Result<(), Violation> {
        let index = view.applied_index().0;
        let has_more = index > self.newest;
        for (LeaseId(id), lease) in view.leases().iter() {
            let known = self.leases.get(&id);
            match known {
                Some(known) if known.is_alive(index) && known.ttl == lease.ttl() => {}
                None if has_more => {
                    let entry = Entry::new(lease.ttl(), index, now);
                    self.leases.insert(id, entry);
                }
                known => {
                    return Err(format!(
                        "lease: member {no} has {id:x} at entry {index}, which is {known:?}"
                    ));
                }
            }
        }
        for (id, known) in &mut self.leases {
            if known.is_alive(index) && view.leases().get(LeaseId(*id)).is_none() {
                if !has_more {
                    return Err(format!(
                        "lease: member {no} does not have {id:x} at entry {index}, which is {known:?}"
                    ));
                }
                known.revoked_by = Some(index);
            }
        }
        self.newest = self.newest.max(index);
        Ok(())
    }

    /// A leader told the time that a lease has left; `None`: it is unknown.
    pub fn on_time_told(
        &self,
        id: i64,
        told: Option<&LeaseTime>,
        view: &View<'_>,
        now: Time,
        published: &Published,
    ) -> Result<(), Violation> {
        let index = view.applied_index().0;
        let Some(told) = told else {
            return self.on_unknown(id, index);
        };
        let lease = self.leases.get(&id).filter(|lease| lease.is_alive(index));
        let lease =
            lease.ok_or_else(|| format!("lease: {id:x} is there at entry {index}: {told:?}"))?;
        let owed = (self.owed_until(id).saturating_sub(now + CLOCK_LAG_MAX) / SECOND) as i64;
        let most = lease.ttl + (ELECTION_TIMEOUT / SECOND) as i64;
        let mut keys = told.keys.clone();
        keys.sort_unstable();
        let attached = attached(id, view.revision(), published);
        let is_over = told.remaining_seconds <= 0 && owed == 0;
        let is_in_time = is_over || (owed..=most).contains(&told.remaining_seconds);
        match is_in_time
            && told.granted_seconds == lease.ttl
            && keys.iter().eq(attached.iter().copied())
        {
            true => Ok(()),
            false => Err(format!(
                "lease: {id:x} is told as {told:?}, {owed} seconds are owed, keys are {attached:?}: {lease:?}"
            )),
        }
    }

    /// The leases of a state that are yet to run out by themselves.
    pub fn waits_for(view: &View<'_>) -> usize {
        let leases = view.leases().iter();
        leases
            .filter(|(_, lease)| lease.ttl() <= SHORT_TTL_MAX)
            .count()
    }
}

impl Entry {
    fn new(ttl: i64, granted_by: u64, granted_at: Time) -> Entry {
        Entry {
            ttl,
            granted_by,
            revoked_by: None,
            granted_at,
            renewed: None,
            is_given_back: false,
        }
    }

    /// Whether it is there after this entry.
    fn is_alive(&self, index: u64) -> bool {
        self.granted_by <= index && self.revoked_by.is_none_or(|at| index < at)
    }
}

/// The keys that hang on a lease at a revision, ascending.
fn attached(id: i64, revision: i64, published: &Published) -> Vec<&[u8]> {
    let all = published.all(revision).into_iter();
    all.filter(|kv| kv.lease == id)
        .map(|kv| &kv.key[..])
        .collect()
}

fn check_keys_gone(id: i64, revision: i64, published: &Published) -> Result<(), Violation> {
    let left = attached(id, revision, published);
    if !left.is_empty() {
        return Err(format!(
            "lease: {id:x} is gone at revision {revision}, {left:?} are not"
        ));
    }
    let before = attached(id, revision - 1, published);
    let changes = published.changes(revision).unwrap_or_default();
    // A lease without keys makes no revision: the newest one is somebody else's.
    if before.is_empty() || changes.iter().any(|change| !change.tombstone) {
        return Ok(());
    }
    let keys: Vec<_> = changes
        .iter()
        .map(|change| engine::mvcc::decode(&change.pair).key)
        .collect();
    match keys.is_sorted() && before.iter().all(|key| keys.iter().any(|k| k == key)) {
        true => Ok(()),
        false => Err(format!(
            "lease: {id:x} had {before:?}, revision {revision} deletes {keys:?}"
        )),
    }
}
