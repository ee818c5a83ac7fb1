//! What alarms refuse, and whom auth will refuse.

use proto::etcdserverpb::{AlarmType, RequestHeader};

use super::op::Op;
use super::{RequestError, State};
use crate::mvcc::quota;

impl State {
    /// Decides whether a request may be executed at all, in etcd's order.
    pub(super) fn admit(
        &self,
        header: Option<&RequestHeader>,
        op: &Op,
    ) -> Result<(), RequestError> {
        if self.alarms.is_raised(AlarmType::Corrupt) && stopped_by_corruption(op) {
            return Err(RequestError::Corrupt);
        }
        if self.alarms.is_raised(AlarmType::Nospace) && cost(op) > 0 {
            return Err(RequestError::NoSpace);
        }
        authorize(header, op)
    }
}

/// Auth is off in this state, and the entries that could turn it on are unsupported: everybody may do everything.
/// Here user, auth revision and permissions will be checked, after the alarms and before the request itself.
fn authorize(_header: Option<&RequestHeader>, _op: &Op) -> Result<(), RequestError> {
    Ok(())
}

/// Alarms, checkpoints of leases and cluster requests go on.
fn stopped_by_corruption(op: &Op) -> bool {
    match op {
        Op::Range(_)
        | Op::Put(_)
        | Op::DeleteRange(_)
        | Op::Txn(_)
        | Op::Compaction(_)
        | Op::LeaseGrant(_)
        | Op::LeaseRevoke(_) => true,
        Op::LeaseCheckpoint(_)
        | Op::Alarm(_)
        | Op::ClusterVersion(_)
        | Op::MemberAttributes(_)
        | Op::Downgrade(_)
        | Op::Nothing
        | Op::Unsupported(_) => false,
    }
}

/// What the quota counts a request for; 0 for one that adds nothing.
pub(super) fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(request) => quota::put(request),
        Op::Txn(request) => quota::txn(request),
        Op::LeaseGrant(_) => quota::LEASE_GRANT_BYTES,
        _ => 0,
    }
}
