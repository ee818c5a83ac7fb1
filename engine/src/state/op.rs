//! What an entry asks for, picked out of the many optional fields of its message.

use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb;

/// The one request of an entry.
#[derive(Debug)]
pub(super) enum Op {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compaction(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    ClusterVersion(membershippb::ClusterVersionSetRequest),
    MemberAttributes(membershippb::ClusterMemberAttrSetRequest),
    Downgrade(membershippb::DowngradeInfoSetRequest),
    /// Asks for nothing that changes the state.
    Nothing,
    /// Asks for something that is not built yet.
    Unsupported(&'static str),
}

impl Op {
    /// Takes the request in etcd's order of looking, should there be more than one.
    pub(super) fn new(r: InternalRaftRequest) -> Op {
        None.or(r.cluster_version_set.map(Op::ClusterVersion))
            .or(r.cluster_member_attr_set.map(Op::MemberAttributes))
            .or(r.downgrade_info_set.map(Op::Downgrade))
            .or(r.downgrade_version_test.map(|_| Op::Nothing))
            .or(r.range.map(Op::Range))
            .or(r.put.map(Op::Put))
            .or(r.delete_range.map(Op::DeleteRange))
            .or(r.txn.map(Op::Txn))
            .or(r.compaction.map(Op::Compaction))
            .or(r.lease_grant.map(Op::LeaseGrant))
            .or(r.lease_revoke.map(Op::LeaseRevoke))
            .or(r.lease_checkpoint.map(Op::LeaseCheckpoint))
            .or(r.alarm.map(Op::Alarm))
            .or(r.authenticate.map(|_| Op::Unsupported("authenticate")))
            .or(r.auth_enable.map(|_| Op::Unsupported("auth_enable")))
            .or(r.auth_disable.map(|_| Op::Unsupported("auth_disable")))
            .or(r.auth_status.map(|_| Op::Unsupported("auth_status")))
            .or(r.auth_user_add.map(|_| Op::Unsupported("auth_user_add")))
            .or(r
                .auth_user_delete
                .map(|_| Op::Unsupported("auth_user_delete")))
            .or(r
                .auth_user_change_password
                .map(|_| Op::Unsupported("auth_user_change_password")))
            .or(r
                .auth_user_grant_role
                .map(|_| Op::Unsupported("auth_user_grant_role")))
            .or(r.auth_user_get.map(|_| Op::Unsupported("auth_user_get")))
            .or(r
                .auth_user_revoke_role
                .map(|_| Op::Unsupported("auth_user_revoke_role")))
            .or(r.auth_role_add.map(|_| Op::Unsupported("auth_role_add")))
            .or(r
                .auth_role_grant_permission
                .map(|_| Op::Unsupported("auth_role_grant_permission")))
            .or(r.auth_role_get.map(|_| Op::Unsupported("auth_role_get")))
            .or(r
                .auth_role_revoke_permission
                .map(|_| Op::Unsupported("auth_role_revoke_permission")))
            .or(r
                .auth_role_delete
                .map(|_| Op::Unsupported("auth_role_delete")))
            .or(r.auth_user_list.map(|_| Op::Unsupported("auth_user_list")))
            .or(r.auth_role_list.map(|_| Op::Unsupported("auth_role_list")))
            .unwrap_or(Op::Unsupported("no request that is known"))
    }
}
