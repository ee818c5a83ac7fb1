//! Messages: octets that one type reads, it writes so that it reads the same.
//!
//! Requests and configuration changes also go through the checks that come before anything is done with them.

use std::fmt::Debug;

use bytes::Bytes;
use engine::consensus::Payload;
use engine::membership::{ConfChange, Membership};
use engine::mvcc::check;
use prost::{DecodeError, Message};
use proto::{etcdserverpb, raftpb};

use crate::input::Input;

/// etcd's default.
const TXN_OPS_MAX: usize = 128;

type Recode = fn(Bytes) -> Result<(), DecodeError>;

macro_rules! recoders {
    ($($package:ident: $($name:ident),+;)+) => {
        &[$($(recode::<proto::$package::$name>),+),+]
    };
}

/// What clients, members and disks send, in an order that stays: inputs name types by number.
static RECODERS: &[Recode] = recoders! {
    etcdserverpb:
        RangeRequest, PutRequest, DeleteRangeRequest, TxnRequest, CompactionRequest,
        InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseKeepAliveRequest,
        LeaseTimeToLiveRequest, LeaseLeasesRequest, LeaseCheckpointRequest, WatchRequest,
        AlarmRequest, HashKvRequest, HashRequest, StatusRequest, DefragmentRequest, SnapshotRequest,
        MoveLeaderRequest, DowngradeRequest, MemberAddRequest, MemberListRequest,
        MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, AuthEnableRequest,
        AuthDisableRequest, AuthStatusRequest, AuthenticateRequest, AuthRoleAddRequest,
        AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
        AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
        AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
        AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
        InternalAuthenticateRequest, Metadata, RangeResponse, TxnResponse, WatchResponse,
        SnapshotResponse, MemberListResponse, LeaseTimeToLiveResponse, StatusResponse;
    raftpb:
        Entry, Message, HardState, ConfState, ConfChange, ConfChangeV2, Snapshot, SnapshotMetadata;
    walpb: Record, Snapshot;
    snappb: Snapshot;
    leasepb: Lease, LeaseInternalRequest, LeaseInternalResponse;
    mvccpb: KeyValue, Event;
    authpb: User, Role, Permission;
    membershippb: ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest;
    v3lockpb: LockRequest, UnlockRequest;
    v3electionpb: CampaignRequest, ProclaimRequest, LeaderRequest, ResignRequest, LeaderResponse;
    health: HealthCheckRequest, HealthCheckResponse, HealthListResponse;
};

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let which = usize::from(input.byte()) % RECODERS.len();
    let octets = Bytes::copy_from_slice(input.rest());
    let _ = RECODERS[which](octets.clone());
    check_requests(octets);
}

fn recode<M: Message + Default + PartialEq + Debug>(octets: Bytes) -> Result<(), DecodeError> {
    let message = M::decode(octets)?;
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len());
    let again = M::decode(written.as_slice()).expect("what was read can be written and read");
    assert_eq!(again, message);
    assert_eq!(again.encode_to_vec(), written);
    Ok(())
}

fn check_requests(octets: Bytes) {
    if let Ok(request) = etcdserverpb::RangeRequest::decode(octets.clone()) {
        let _ = check::range(&request);
        let _ = (check::sorts(&request), check::filters(&request));
    }
    if let Ok(request) = etcdserverpb::PutRequest::decode(octets.clone()) {
        let _ = check::put(&request);
    }
    if let Ok(request) = etcdserverpb::DeleteRangeRequest::decode(octets.clone()) {
        let _ = check::delete_range(&request);
    }
    if let Ok(request) = etcdserverpb::TxnRequest::decode(octets.clone()) {
        check_txn(request);
    }
    if let Ok(change) = raftpb::ConfChange::decode(octets.clone()) {
        check_change(&change);
    }
    if let Ok(entry) = raftpb::Entry::decode(octets) {
        let _ = Payload::of_log(&entry);
    }
}

/// What may be proposed can be read from the log.
fn check_txn(request: etcdserverpb::TxnRequest) {
    let is_taken = check::txn(&request, TXN_OPS_MAX).is_ok();
    let _ = (
        check::is_read_only(&request),
        check::is_serializable(&request),
    );
    if is_taken && request.nesting() <= proto::TXN_NESTING_MAX {
        let entry = etcdserverpb::InternalRaftRequest {
            txn: Some(request),
            ..Default::default()
        };
        let again = etcdserverpb::InternalRaftRequest::decode(entry.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&entry), "every member would stop");
    }
}

fn check_change(change: &raftpb::ConfChange) {
    if let Ok(change) = ConfChange::parse(change) {
        let mut membership = Membership::new(1);
        let _ = membership.apply(&change);
        let again = membership.apply(&change);
        let is_known = membership.member(change.node_id).is_some();
        assert!(
            !is_known || !membership.is_removed(change.node_id),
            "{again:?}"
        );
    }
}
