//! The leader's clock for leases.
//!
//! What is replicated about a lease is in the state; when it ends is known only here, and only while this member
//! leads. An expired lease is revoked through the log like any other change.

use bytes::Bytes;
use proto::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest};

use super::Node;
use crate::state::ApplyEffect;
use crate::types::LeaseId;

/// Revocations proposed in one tick at most; with ten ticks a second that is etcd's rate of 1000 per second.
const REVOKE_PER_TICK_MAX: usize = 100;

/// What a client may know of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTime {
    pub granted_seconds: i64,
    /// Whole seconds left, rounded down.
    pub remaining_seconds: i64,
    /// Attached keys; empty unless asked for.
    pub keys: Vec<Bytes>,
}

impl Node {
    /// A lease and the time it has left on this leader's clock; `None` if it is unknown.
    pub fn lease_time(
        &self,
        id: LeaseId,
        with_keys: bool,
        now: std::time::Duration,
    ) -> Option<LeaseTime> {
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
            ApplyEffect::LeaseCheckpointed { id, .. } => {
                self.expiry.on_checkpointed(self.now, *id);
            }
            _ => {}
        }
    }

    /// Proposes to revoke what has expired. A proposal that is lost is made again: the lease is named again later.
    pub(super) fn revoke_expired(&mut self) {
        for LeaseId(id) in self.expiry.poll_expired(self.now, REVOKE_PER_TICK_MAX) {
            let request = InternalRaftRequest {
                lease_revoke: Some(LeaseRevokeRequest { id }),
                ..InternalRaftRequest::default()
            };
            if self.propose(request).is_err() {
                return;
            }
        }
    }
}
