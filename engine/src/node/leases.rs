//! The leader's clock for leases.
//!
//! What is replicated about a lease is in the state; when it ends is known only here, and only while this member
//! leads. An expired lease is revoked through the log like any other change.

use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};

use super::{Node, ProposeError};
use crate::lease::RenewError;
use crate::state::ApplyEffect;
use crate::types::LeaseId;

/// Revocations that may be proposed and not applied: enough for full groups of the log, few beside the entries that may
/// wait to be applied, so that a million leases that end together leave clients their share.
const REVOKING_COUNT_MAX: usize = 1024;
/// Of these, how many one turn proposes.
const REVOKE_PER_TURN_MAX: usize = 256;
/// Checkpoints of leases in one proposal, and proposed in one tick; etcd's number for both, there for a second.
const CHECKPOINTS_PER_TICK_MAX: usize = 1000;
/// Leases that one slice of a list names.
const LISTED_PER_SLICE: usize = 4096;

/// What a client may know of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTime {
    pub granted_seconds: i64,
    /// Whole seconds left, rounded down.
    pub remaining_seconds: i64,
    /// Attached keys; empty unless asked for.
    pub keys: Vec<Bytes>,
}

/// What a keep-alive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease has its whole TTL again; in seconds.
    Renewed(i64),
    /// There is no such lease.
    Unknown,
    /// Not to be told yet: the lease ran out and is being revoked, or may be granted by an entry that is not applied, or
    /// this member does not lead. Ask again at the next tick.
    NotYet,
}

/// Where a list of leases goes on: behind this deadline and id.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseCursor(Option<(Duration, LeaseId)>);

impl Node {
    /// A lease and the time it has left on this leader's clock; `None` if it is unknown.
    pub fn lease_time(&self, id: LeaseId, with_keys: bool, now: Duration) -> Option<LeaseTime> {
        let lease = self.state.view().lease(id, with_keys)?;
        let remaining_seconds = self.expiry.remaining(now, id).unwrap_or(lease.granted_ttl);
        Some(LeaseTime {
            granted_seconds: lease.granted_ttl,
            remaining_seconds,
            keys: lease.keys,
        })
    }

    /// This member leads from now on: all leases get their time again, and one election timeout.
    pub(super) fn promote_leases(&mut self) {
        let extend = self.options.tick * self.options.consensus.election_ticks as u32;
        self.expiry
            .promote(self.now, extend, self.state.view().leases());
    }

    pub(super) fn on_lease_effect(&mut self, effect: &ApplyEffect) {
        match effect {
            ApplyEffect::LeaseGranted { id, ttl } => self.expiry.on_granted(self.now, *id, *ttl),
            ApplyEffect::LeaseRevoked { id } => self.expiry.on_revoked(*id),
            ApplyEffect::LeaseCheckpointed { id, remaining_ttl } => {
                self.expiry.on_checkpointed(self.now, *id, *remaining_ttl);
            }
            _ => {}
        }
    }

    /// Command: a keep-alive. Renewing takes no entry of the log, unless a checkpoint of the lease has to be cleared.
    ///
    /// `granted_by` is the last entry that may have granted it: [`Node::commit_index`] when the keep-alive came.
    pub fn renew_lease(&mut self, id: LeaseId, granted_by: u64, now: Duration) -> Renewal {
        match self.expiry.renew(now, id) {
            Ok(renewed) => {
                if renewed.is_checkpointed {
                    // If it is refused the lease lives shorter under the next leader; that one renewal is not worth more.
                    let _ = self.propose_checkpoints(&[(id, 0)]);
                }
                Renewal::Renewed(renewed.ttl)
            }
            Err(RenewError::LeaseNotFound) if self.applied_index >= granted_by => Renewal::Unknown,
            Err(_) => Renewal::NotYet,
        }
    }

    /// Some leases by remaining life, soonest first, and how to go on; `None` at the end. A lease that is renewed between
    /// two slices may be named twice.
    pub fn list_leases(&mut self, from: LeaseCursor) -> (Vec<LeaseId>, Option<LeaseCursor>) {
        if !self.expiry.is_primary() {
            let leases = self.state.view().leases();
            return (leases.iter().map(|(id, _)| id).collect(), None);
        }
        let (ids, last) = self.expiry.list(from.0, LISTED_PER_SLICE);
        (ids, last.map(|last| LeaseCursor(Some(last))))
    }

    /// Proposes to revoke what has expired, as far as may be under way at once. A proposal that is lost is made again: the
    /// lease is named again later.
    ///
    /// Raft itself is asked who leads: a leader that was deposed by a message since the last turn would hand the proposal on
    /// to its successor, and leases that were renewed there meanwhile would end.
    pub(super) fn revoke_expired(&mut self) {
        if !self.consensus.leadership().is_leader {
            return;
        }
        let room = REVOKING_COUNT_MAX.saturating_sub(self.revoking.len());
        let limit = room.min(REVOKE_PER_TURN_MAX);
        for LeaseId(id) in self.expiry.poll_expired(self.now, limit) {
            let request = InternalRaftRequest {
                lease_revoke: Some(LeaseRevokeRequest { id }),
                ..InternalRaftRequest::default()
            };
            let Ok(request_id) = self.propose(request) else {
                return;
            };
            self.revoking.insert(request_id);
        }
    }

    /// Leases that ran out and were revoked for it by this member, since its start.
    pub fn expired_lease_count(&self) -> u64 {
        self.expired_count
    }

    /// True if a turn can propose to revoke something.
    pub(super) fn has_expired(&self) -> bool {
        self.revoking.len() < REVOKING_COUNT_MAX && self.expiry.has_expired(self.now)
    }

    /// Nothing that was proposed is under way any more: what was lost must not count for ever.
    pub(super) fn forget_lost_revocations(&mut self) {
        if self.pending_proposal_count() == 0 {
            self.revoking.clear();
        }
    }

    /// Puts the remaining TTLs that are due into the log.
    pub(super) fn checkpoint_leases(&mut self) {
        if !self.consensus.leadership().is_leader {
            return;
        }
        let due = self
            .expiry
            .poll_checkpoints(self.now, CHECKPOINTS_PER_TICK_MAX);
        if !due.is_empty() {
            // What is refused is made up for at the next interval.
            let _ = self.propose_checkpoints(&due);
        }
    }

    fn propose_checkpoints(&mut self, due: &[(LeaseId, i64)]) -> Result<u64, ProposeError> {
        let checkpoint = |&(id, remaining_ttl): &(LeaseId, i64)| LeaseCheckpoint {
            id: id.0,
            remaining_ttl,
        };
        self.propose(InternalRaftRequest {
            lease_checkpoint: Some(LeaseCheckpointRequest {
                checkpoints: due.iter().map(checkpoint).collect(),
            }),
            ..InternalRaftRequest::default()
        })
    }
}
