//! Every message type, by its full name.

use std::collections::BTreeMap;
use std::fmt::Debug;

use prost::bytes::Bytes;
use prost::{DecodeError, Message, Name};

/// Decodes into the typed message and writes it again.
pub(crate) type Recode = fn(Bytes) -> Result<Vec<u8>, DecodeError>;

macro_rules! recoders {
    ($($package:ident: $($name:ident),+;)+) => {
        BTreeMap::from([$($((
            proto::$package::$name::full_name(),
            recode::<proto::$package::$name> as Recode,
        ),)+)+])
    };
}

/// The decoders of all types. That none is missing is a test of its own (`schema.rs`).
pub(crate) fn recoders() -> BTreeMap<String, Recode> {
    recoders! {
        authpb: Permission, Role, User, UserAddOptions;
        etcdserverpb:
            AlarmMember, AlarmRequest, AlarmResponse, AuthDisableRequest, AuthDisableResponse,
            AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest, AuthRoleAddResponse,
            AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest, AuthRoleGetResponse,
            AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse, AuthRoleListRequest,
            AuthRoleListResponse, AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse,
            AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse,
            AuthUserChangePasswordRequest, AuthUserChangePasswordResponse, AuthUserDeleteRequest,
            AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
            AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest,
            AuthUserListResponse, AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse,
            AuthenticateRequest, AuthenticateResponse, CompactionRequest, CompactionResponse,
            Compare, DefragmentRequest, DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse,
            DowngradeInfo, DowngradeRequest, DowngradeResponse, DowngradeVersionTestRequest,
            EmptyResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
            InternalAuthenticateRequest, InternalRaftRequest, LeaseCheckpoint,
            LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest, LeaseGrantResponse,
            LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
            LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
            LeaseTimeToLiveResponse, Member, MemberAddRequest, MemberAddResponse, MemberListRequest,
            MemberListResponse, MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest,
            MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse, Metadata,
            MoveLeaderRequest, MoveLeaderResponse, PutRequest, PutResponse, RangeRequest,
            RangeResponse, RangeStreamResponse, RequestHeader, RequestOp, ResponseHeader,
            ResponseOp, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
            TxnRequest, TxnResponse, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
            WatchRequest, WatchResponse;
        health: HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse;
        leasepb: Lease, LeaseInternalRequest, LeaseInternalResponse;
        membershippb:
            Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
            DowngradeInfoSetRequest, Member, RaftAttributes;
        mvccpb: Event, KeyValue;
        raftpb:
            ConfChange, ConfChangeSingle, ConfChangeV2, ConfState, Entry, HardState, Message,
            Snapshot, SnapshotMetadata;
        snappb: Snapshot;
        v3electionpb:
            CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse,
            ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse;
        v3lockpb: LockRequest, LockResponse, UnlockRequest, UnlockResponse;
        walpb: Record, Snapshot;
    }
}

fn recode<M: Message + Name + Default + Clone + PartialEq + Debug>(
    bytes: Bytes,
) -> Result<Vec<u8>, DecodeError> {
    let message = M::decode(bytes)?;
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len(), "{}", M::full_name());
    let again = M::decode(written.as_slice())?;
    assert_eq!(
        again,
        message,
        "{} changed when written and read",
        M::full_name()
    );
    Ok(written)
}
