//! What an entry asks for, picked out of the many optional fields of its message.

use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb;

/// The one request of an entry.
#[derive(Debug)]
pub(super) enum Op {
    Range(Box<pb::RangeRequest>),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compaction(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    ClusterVersion(Box<membershippb::ClusterVersionSetRequest>),
    MemberAttributes(Box<membershippb::ClusterMemberAttrSetRequest>),
    Downgrade(Box<membershippb::DowngradeInfoSetRequest>),
    /// Asks for nothing that changes the state.
    Nothing,
    /// Asks for something that is not built yet.
    Unsupported(&'static str),
}

/// The first field that is set, in the order of the lines. A look at each costs less than moving its absence about.
macro_rules! first_set {
    ($request:ident: $($field:ident => $op:expr,)*) => {
        $(if let Some(found) = $request.$field {
            return $op(found);
        })*
    };
}

impl Op {
    /// Takes the request in etcd's order of looking, should there be more than one.
    pub(super) fn new(r: InternalRaftRequest) -> Op {
        first_set! { r:
            cluster_version_set => Op::ClusterVersion,
            cluster_member_attr_set => Op::MemberAttributes,
            downgrade_info_set => Op::Downgrade,
            downgrade_version_test => |_| Op::Nothing,
            range => Op::Range,
            put => Op::Put,
            delete_range => Op::DeleteRange,
            txn => Op::Txn,
            compaction => Op::Compaction,
            lease_grant => Op::LeaseGrant,
            lease_revoke => Op::LeaseRevoke,
            lease_checkpoint => Op::LeaseCheckpoint,
            alarm => Op::Alarm,
            authenticate => |_| Op::Unsupported("authenticate"),
            auth_enable => |_| Op::Unsupported("auth_enable"),
            auth_disable => |_| Op::Unsupported("auth_disable"),
            auth_status => |_| Op::Unsupported("auth_status"),
            auth_user_add => |_| Op::Unsupported("auth_user_add"),
            auth_user_delete => |_| Op::Unsupported("auth_user_delete"),
            auth_user_change_password => |_| Op::Unsupported("auth_user_change_password"),
            auth_user_grant_role => |_| Op::Unsupported("auth_user_grant_role"),
            auth_user_get => |_| Op::Unsupported("auth_user_get"),
            auth_user_revoke_role => |_| Op::Unsupported("auth_user_revoke_role"),
            auth_role_add => |_| Op::Unsupported("auth_role_add"),
            auth_role_grant_permission => |_| Op::Unsupported("auth_role_grant_permission"),
            auth_role_get => |_| Op::Unsupported("auth_role_get"),
            auth_role_revoke_permission => |_| Op::Unsupported("auth_role_revoke_permission"),
            auth_role_delete => |_| Op::Unsupported("auth_role_delete"),
            auth_user_list => |_| Op::Unsupported("auth_user_list"),
            auth_role_list => |_| Op::Unsupported("auth_role_list"),
        }
        Op::Unsupported("no request that is known")
    }
}
