//! etcd's methods and requests by short names.

use bytes::Bytes;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, TxnRequest, TxnResponse, compare, request_op,
};

use crate::client::{CallError, Client};

pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
pub const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
pub const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
pub const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";

/// A range end that means every key from the first on.
pub const OPEN_END: &[u8] = b"\0";

pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> PutRequest {
    PutRequest {
        key: copy(key),
        value: copy(value),
        ..PutRequest::default()
    }
}

pub fn get(key: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest {
        key: copy(key),
        ..RangeRequest::default()
    }
}

pub fn get_at(key: impl AsRef<[u8]>, revision: i64) -> RangeRequest {
    RangeRequest {
        revision,
        ..get(key)
    }
}

pub fn delete(key: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: copy(key),
        ..DeleteRangeRequest::default()
    }
}

pub fn delete_range(key: impl AsRef<[u8]>, range_end: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        range_end: copy(range_end),
        ..delete(key)
    }
}

/// Holds if `key` was last written at `revision`; 0 means it does not exist.
pub fn modified_at(key: impl AsRef<[u8]>, revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: copy(key),
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

pub fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

/// Anything that can stand in a transaction.
pub fn op(request: impl Into<Op>) -> RequestOp {
    RequestOp {
        request: Some(request.into().0),
    }
}

/// See [`op`].
pub struct Op(request_op::Request);

impl From<PutRequest> for Op {
    fn from(request: PutRequest) -> Self {
        Self(request_op::Request::RequestPut(request))
    }
}

impl From<RangeRequest> for Op {
    fn from(request: RangeRequest) -> Self {
        Self(request_op::Request::RequestRange(request))
    }
}

impl From<DeleteRangeRequest> for Op {
    fn from(request: DeleteRangeRequest) -> Self {
        Self(request_op::Request::RequestDeleteRange(request))
    }
}

impl From<TxnRequest> for Op {
    fn from(request: TxnRequest) -> Self {
        Self(request_op::Request::RequestTxn(request))
    }
}

/// The calls that most tests make.
///
/// # Errors
/// All of them: see [`CallError`].
impl Client {
    pub fn put(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<PutResponse, CallError> {
        self.unary(PUT, &put(key, value))
    }

    pub fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, CallError> {
        self.unary(RANGE, request)
    }

    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, CallError> {
        self.unary(DELETE_RANGE, request)
    }

    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, CallError> {
        self.unary(TXN, request)
    }

    pub fn compact(&mut self, revision: i64) -> Result<CompactionResponse, CallError> {
        self.unary(
            COMPACT,
            &CompactionRequest {
                revision,
                physical: false,
            },
        )
    }

    pub fn lease_grant(&mut self, ttl: i64, id: i64) -> Result<LeaseGrantResponse, CallError> {
        self.unary(LEASE_GRANT, &LeaseGrantRequest { ttl, id })
    }

    /// The store's revision now.
    pub fn revision(&mut self) -> Result<i64, CallError> {
        let request = RangeRequest {
            count_only: true,
            ..get("a key that no test writes")
        };
        Ok(revision_of(self.range(&request)?.header))
    }
}

/// The revision in a response's header.
///
/// # Panics
/// If there is no header: every response that has one fills it.
pub fn revision_of(header: Option<ResponseHeader>) -> i64 {
    header.expect("a response has a header").revision
}

fn copy(octets: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(octets.as_ref())
}
