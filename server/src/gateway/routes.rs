//! Which path stands for which method. Source: contract `rpc.md`, section 9.

/// The method of a path behind `/v3/`.
pub(super) fn find(route: &str) -> Option<&'static str> {
    ROUTES
        .binary_search_by(|(own, _)| (*own).cmp(route))
        .ok()
        .and_then(|at| ROUTES.get(at))
        .map(|(_, method)| *method)
}

/// The methods that have a path, some of them more than once.
pub(super) fn methods() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|(_, method)| *method)
}

/// Ascending by path.
const ROUTES: &[(&str, &str)] = &[
    ("auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/list", "/etcdserverpb.Auth/RoleList"),
    (
        "auth/role/revoke",
        "/etcdserverpb.Auth/RoleRevokePermission",
    ),
    ("auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    (
        "auth/user/changepw",
        "/etcdserverpb.Auth/UserChangePassword",
    ),
    ("auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    (
        "cluster/member/promote",
        "/etcdserverpb.Cluster/MemberPromote",
    ),
    (
        "cluster/member/remove",
        "/etcdserverpb.Cluster/MemberRemove",
    ),
    (
        "cluster/member/update",
        "/etcdserverpb.Cluster/MemberUpdate",
    ),
    ("election/campaign", "/v3electionpb.Election/Campaign"),
    ("election/leader", "/v3electionpb.Election/Leader"),
    ("election/observe", "/v3electionpb.Election/Observe"),
    ("election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("election/resign", "/v3electionpb.Election/Resign"),
    ("kv/compaction", "/etcdserverpb.KV/Compact"),
    ("kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/put", "/etcdserverpb.KV/Put"),
    ("kv/range", "/etcdserverpb.KV/Range"),
    ("kv/txn", "/etcdserverpb.KV/Txn"),
    ("lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("lock/lock", "/v3lockpb.Lock/Lock"),
    ("lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    (
        "maintenance/defragment",
        "/etcdserverpb.Maintenance/Defragment",
    ),
    (
        "maintenance/downgrade",
        "/etcdserverpb.Maintenance/Downgrade",
    ),
    ("maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("maintenance/status", "/etcdserverpb.Maintenance/Status"),
    (
        "maintenance/transfer-leadership",
        "/etcdserverpb.Maintenance/MoveLeader",
    ),
    ("watch", "/etcdserverpb.Watch/Watch"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method;

    #[test]
    fn routes_are_sorted_and_lead_to_methods() {
        assert!(ROUTES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(ROUTES.len(), 51);
        for (route, path) in ROUTES {
            assert_eq!(find(route), Some(*path));
            assert!(method::find(path).is_some(), "{path}");
            assert!(proto::schema::method(path).is_some(), "{path}");
        }
        assert_eq!(find("kv/rangestream"), None);
        assert_eq!(find(""), None);
    }
}
