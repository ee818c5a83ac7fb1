//! The rows: etcd's error catalogue.

use net::grpc::Code;

/// Writes the enum and its two columns from one list.
macro_rules! catalogue {
    ($($name:ident $code:ident $message:literal)*) => {
        /// An error of etcd's catalogue, by the short name of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum FrontError {
            $(#[error($message)] $name,)*
        }

        impl FrontError {
            /// Every row, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }

            pub fn message(self) -> &'static str {
                match self {
                    $(Self::$name => $message,)*
                }
            }
        }
    };
}

#[rustfmt::skip]
catalogue! {
    EmptyKey InvalidArgument "etcdserver: key is not provided"
    KeyNotFound InvalidArgument "etcdserver: key not found"
    ValueProvided InvalidArgument "etcdserver: value is provided"
    LeaseProvided InvalidArgument "etcdserver: lease is provided"
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request"
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request"
    InvalidClientApiVersion InvalidArgument "etcdserver: invalid client api version"
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option"
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted"
    FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision"
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded"
    LeaseNotFound NotFound "etcdserver: requested lease not found"
    LeaseExist FailedPrecondition "etcdserver: lease already exists"
    LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL"
    WatchCanceled Canceled "etcdserver: watch canceled"
    MemberExist FailedPrecondition "etcdserver: member ID already exist"
    PeerUrlExist FailedPrecondition "etcdserver: Peer URLs already exists"
    MemberNotEnoughStarted Unknown "etcdserver: re-configuration failed due to not enough started members"
    MemberBadUrls InvalidArgument "etcdserver: given member URLs are invalid"
    MemberNotFound NotFound "etcdserver: member not found"
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member"
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader"
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster"
    ClusterIdMismatch FailedPrecondition "etcdserver: cluster ID mismatch"
    RequestTooLarge InvalidArgument "etcdserver: request is too large"
    TooManyRequests Unknown "etcdserver: too many requests"
    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist"
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role"
    UserAlreadyExist FailedPrecondition "etcdserver: user name already exists"
    UserEmpty InvalidArgument "etcdserver: user name is empty"
    UserNotFound FailedPrecondition "etcdserver: user name not found"
    RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists"
    RoleNotFound FailedPrecondition "etcdserver: role name not found"
    RoleEmpty InvalidArgument "etcdserver: role name is empty"
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password"
    PermissionNotGiven InvalidArgument "etcdserver: permission not given"
    PermissionDenied PermissionDenied "etcdserver: permission denied"
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user"
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role"
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled"
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token"
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management"
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old"
    NoLeader Unavailable "etcdserver: no leader"
    NotLeader FailedPrecondition "etcdserver: not leader"
    LeaderChanged Unavailable "etcdserver: leader changed"
    NotCapable FailedPrecondition "etcdserver: not capable"
    Stopped Unavailable "etcdserver: server stopped"
    Timeout Unavailable "etcdserver: request timed out"
    TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure"
    TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost"
    TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long"
    Unhealthy Unavailable "etcdserver: unhealthy cluster"
    Corrupt DataLoss "etcdserver: corrupt cluster"
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner"
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee"
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format"
    InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version"
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade"
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress"
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job"
    Canceled Canceled "etcdserver: request canceled"
    DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded"
    ProposalDeadlineExceeded DeadlineExceeded "context deadline exceeded"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short name, code and message of each row, copied from the contract on purpose: a slip in the table
    /// above must not be confirmed by itself.
    const CONTRACT: &str = "\
EmptyKey|3|etcdserver: key is not provided
KeyNotFound|3|etcdserver: key not found
ValueProvided|3|etcdserver: value is provided
LeaseProvided|3|etcdserver: lease is provided
TooManyOps|3|etcdserver: too many operations in txn request
DuplicateKey|3|etcdserver: duplicate key given in txn request
InvalidClientAPIVersion|3|etcdserver: invalid client api version
InvalidSortOption|3|etcdserver: invalid sort option
Compacted|11|etcdserver: mvcc: required revision has been compacted
FutureRev|11|etcdserver: mvcc: required revision is a future revision
NoSpace|8|etcdserver: mvcc: database space exceeded
LeaseNotFound|5|etcdserver: requested lease not found
LeaseExist|9|etcdserver: lease already exists
LeaseTTLTooLarge|11|etcdserver: too large lease TTL
WatchCanceled|1|etcdserver: watch canceled
MemberExist|9|etcdserver: member ID already exist
PeerURLExist|9|etcdserver: Peer URLs already exists
MemberNotEnoughStarted|2|etcdserver: re-configuration failed due to not enough started members
MemberBadURLs|3|etcdserver: given member URLs are invalid
MemberNotFound|5|etcdserver: member not found
MemberNotLearner|9|etcdserver: can only promote a learner member
LearnerNotReady|9|etcdserver: can only promote a learner member which is in sync with leader
TooManyLearners|9|etcdserver: too many learner members in cluster
ClusterIDMismatch|9|etcdserver: cluster ID mismatch
RequestTooLarge|3|etcdserver: request is too large
TooManyRequests|2|etcdserver: too many requests
RootUserNotExist|9|etcdserver: root user does not exist
RootRoleNotExist|9|etcdserver: root user does not have root role
UserAlreadyExist|9|etcdserver: user name already exists
UserEmpty|3|etcdserver: user name is empty
UserNotFound|9|etcdserver: user name not found
RoleAlreadyExist|9|etcdserver: role name already exists
RoleNotFound|9|etcdserver: role name not found
RoleEmpty|3|etcdserver: role name is empty
AuthFailed|3|etcdserver: authentication failed, invalid user ID or password
PermissionNotGiven|3|etcdserver: permission not given
PermissionDenied|7|etcdserver: permission denied
RoleNotGranted|9|etcdserver: role is not granted to the user
PermissionNotGranted|9|etcdserver: permission is not granted to the role
AuthNotEnabled|9|etcdserver: authentication is not enabled
InvalidAuthToken|16|etcdserver: invalid auth token
InvalidAuthMgmt|3|etcdserver: invalid auth management
AuthOldRevision|3|etcdserver: revision of auth store is old
NoLeader|14|etcdserver: no leader
NotLeader|9|etcdserver: not leader
LeaderChanged|14|etcdserver: leader changed
NotCapable|9|etcdserver: not capable
Stopped|14|etcdserver: server stopped
Timeout|14|etcdserver: request timed out
TimeoutDueToLeaderFail|14|etcdserver: request timed out, possibly due to previous leader failure
TimeoutDueToConnectionLost|14|etcdserver: request timed out, possibly due to connection lost
TimeoutWaitAppliedIndex|14|etcdserver: request timed out, waiting for the applied index took too long
Unhealthy|14|etcdserver: unhealthy cluster
Corrupt|15|etcdserver: corrupt cluster
NotSupportedForLearner|9|etcdserver: rpc not supported for learner
BadLeaderTransferee|9|etcdserver: bad leader transferee
WrongDowngradeVersionFormat|3|etcdserver: wrong downgrade target version format
InvalidDowngradeTargetVersion|3|etcdserver: invalid downgrade target version
ClusterVersionUnavailable|9|etcdserver: cluster version not found during downgrade
DowngradeInProcess|9|etcdserver: cluster has a downgrade job in progress
NoInflightDowngrade|9|etcdserver: no inflight downgrade job
Canceled|1|etcdserver: request canceled
DeadlineExceeded|4|etcdserver: context deadline exceeded
ProposalDeadlineExceeded|4|context deadline exceeded
";

    #[test]
    fn every_row_of_the_contract_is_here_and_exact() {
        let rows: Vec<Vec<&str>> = CONTRACT
            .lines()
            .map(|line| line.split('|').collect())
            .collect();
        assert_eq!(rows.len(), FrontError::ALL.len());
        for (row, error) in rows.iter().zip(FrontError::ALL) {
            let [name, code, message] = row[..] else {
                panic!("{row:?}")
            };
            assert_eq!(format!("{error:?}").to_lowercase(), name.to_lowercase());
            assert_eq!((error.code() as u32).to_string(), code, "{name}");
            assert_eq!(error.message(), message, "{name}");
            assert_eq!(error.to_string(), message, "{name}");
        }
    }
}
