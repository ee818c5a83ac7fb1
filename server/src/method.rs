//! The methods of etcd's gRPC services, and which of them this version serves.
//!
//! Source: contract `rpc.md`. Every method that etcd knows is listed, so that metrics have their series from the
//! start and a method that is not served yet is told apart from one that never was.

/// How messages flow in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Unary,
    ServerStream,
    BidiStream,
}

impl Shape {
    /// The word that metrics use.
    pub fn label(self) -> &'static str {
        match self {
            Shape::Unary => "unary",
            Shape::ServerStream => "server_stream",
            Shape::BidiStream => "bidi_stream",
        }
    }
}

/// What a served method does; the key of the dispatch in `services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    Range,
    RangeStream,
    Watch,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseKeepAlive,
    LeaseLeases,
    AuthDisable,
    AuthStatus,
    Authenticate,
    MemberList,
    Alarm,
    Status,
    HashKv,
    Hash,
    Snapshot,
    Defragment,
    MoveLeader,
    Downgrade,
    HealthCheck,
    HealthList,
    HealthWatch,
    Campaign,
    Leader,
    Observe,
    Proclaim,
    Resign,
    Lock,
    Unlock,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// `/package.Service/Name`, as it stands in `:path`.
    pub path: &'static str,
    pub shape: Shape,
    /// `None`: etcd has it, this version answers Unimplemented.
    pub served: Option<Served>,
}

impl Method {
    /// `package.Service`.
    pub fn service(&self) -> &'static str {
        split_path(self.path).map_or("", |(service, _)| service)
    }

    /// The bare name.
    pub fn name(&self) -> &'static str {
        split_path(self.path).map_or("", |(_, name)| name)
    }
}

/// Splits `/package.Service/Name`.
pub fn split_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

/// Position of a method in [`METHODS`].
pub type MethodNo = usize;

/// The method with this path.
pub fn find(path: &str) -> Option<MethodNo> {
    METHODS
        .binary_search_by(|method| method.path.cmp(path))
        .ok()
}

/// True if etcd has a service of this name.
pub fn is_service(service: &str) -> bool {
    METHODS.iter().any(|method| method.service() == service)
}

const fn unary(path: &'static str) -> Method {
    Method {
        path,
        shape: Shape::Unary,
        served: None,
    }
}

const fn serves(path: &'static str, served: Served) -> Method {
    Method {
        path,
        shape: Shape::Unary,
        served: Some(served),
    }
}

const fn server_stream(path: &'static str, served: Served) -> Method {
    Method {
        path,
        shape: Shape::ServerStream,
        served: Some(served),
    }
}

/// Watch's position, which each of its messages is counted by.
pub const WATCH: MethodNo = 41;

/// All methods, ascending by path.
pub const METHODS: &[Method] = &[
    serves("/etcdserverpb.Auth/AuthDisable", Served::AuthDisable),
    unary("/etcdserverpb.Auth/AuthEnable"),
    serves("/etcdserverpb.Auth/AuthStatus", Served::AuthStatus),
    serves("/etcdserverpb.Auth/Authenticate", Served::Authenticate),
    unary("/etcdserverpb.Auth/RoleAdd"),
    unary("/etcdserverpb.Auth/RoleDelete"),
    unary("/etcdserverpb.Auth/RoleGet"),
    unary("/etcdserverpb.Auth/RoleGrantPermission"),
    unary("/etcdserverpb.Auth/RoleList"),
    unary("/etcdserverpb.Auth/RoleRevokePermission"),
    unary("/etcdserverpb.Auth/UserAdd"),
    unary("/etcdserverpb.Auth/UserChangePassword"),
    unary("/etcdserverpb.Auth/UserDelete"),
    unary("/etcdserverpb.Auth/UserGet"),
    unary("/etcdserverpb.Auth/UserGrantRole"),
    unary("/etcdserverpb.Auth/UserList"),
    unary("/etcdserverpb.Auth/UserRevokeRole"),
    unary("/etcdserverpb.Cluster/MemberAdd"),
    serves("/etcdserverpb.Cluster/MemberList", Served::MemberList),
    unary("/etcdserverpb.Cluster/MemberPromote"),
    unary("/etcdserverpb.Cluster/MemberRemove"),
    unary("/etcdserverpb.Cluster/MemberUpdate"),
    serves("/etcdserverpb.KV/Compact", Served::Compact),
    serves("/etcdserverpb.KV/DeleteRange", Served::DeleteRange),
    serves("/etcdserverpb.KV/Put", Served::Put),
    serves("/etcdserverpb.KV/Range", Served::Range),
    server_stream("/etcdserverpb.KV/RangeStream", Served::RangeStream),
    serves("/etcdserverpb.KV/Txn", Served::Txn),
    serves("/etcdserverpb.Lease/LeaseGrant", Served::LeaseGrant),
    Method {
        path: "/etcdserverpb.Lease/LeaseKeepAlive",
        shape: Shape::BidiStream,
        served: Some(Served::LeaseKeepAlive),
    },
    serves("/etcdserverpb.Lease/LeaseLeases", Served::LeaseLeases),
    serves("/etcdserverpb.Lease/LeaseRevoke", Served::LeaseRevoke),
    serves(
        "/etcdserverpb.Lease/LeaseTimeToLive",
        Served::LeaseTimeToLive,
    ),
    serves("/etcdserverpb.Maintenance/Alarm", Served::Alarm),
    serves("/etcdserverpb.Maintenance/Defragment", Served::Defragment),
    serves("/etcdserverpb.Maintenance/Downgrade", Served::Downgrade),
    serves("/etcdserverpb.Maintenance/Hash", Served::Hash),
    serves("/etcdserverpb.Maintenance/HashKV", Served::HashKv),
    serves("/etcdserverpb.Maintenance/MoveLeader", Served::MoveLeader),
    server_stream("/etcdserverpb.Maintenance/Snapshot", Served::Snapshot),
    serves("/etcdserverpb.Maintenance/Status", Served::Status),
    Method {
        path: "/etcdserverpb.Watch/Watch",
        shape: Shape::BidiStream,
        served: Some(Served::Watch),
    },
    serves("/grpc.health.v1.Health/Check", Served::HealthCheck),
    serves("/grpc.health.v1.Health/List", Served::HealthList),
    server_stream("/grpc.health.v1.Health/Watch", Served::HealthWatch),
    serves("/v3electionpb.Election/Campaign", Served::Campaign),
    serves("/v3electionpb.Election/Leader", Served::Leader),
    server_stream("/v3electionpb.Election/Observe", Served::Observe),
    serves("/v3electionpb.Election/Proclaim", Served::Proclaim),
    serves("/v3electionpb.Election/Resign", Served::Resign),
    serves("/v3lockpb.Lock/Lock", Served::Lock),
    serves("/v3lockpb.Lock/Unlock", Served::Unlock),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_look_up_works() {
        assert!(METHODS.windows(2).all(|pair| pair[0].path < pair[1].path));
        for (number, method) in METHODS.iter().enumerate() {
            assert_eq!(find(method.path), Some(number));
        }
        assert_eq!(METHODS[WATCH].path, "/etcdserverpb.Watch/Watch");
    }

    #[test]
    fn names_are_split() {
        let method = &METHODS[find("/etcdserverpb.KV/Put").expect("listed")];
        assert_eq!(
            (method.service(), method.name()),
            ("etcdserverpb.KV", "Put")
        );
        assert!(is_service("grpc.health.v1.Health"));
        assert!(!is_service("grpc.reflection.v1.ServerReflection"));
    }

    #[test]
    fn strangers_are_not_found() {
        assert_eq!(find("/etcdserverpb.KV/Foo"), None);
        assert_eq!(find(""), None);
        assert_eq!(split_path("nonsense"), None);
    }
}
