//! Refused requests: each with etcd's exact code and message, in etcd's order of checks, and without effect.
//!
//! Clients compare the text, so every case names it in full. Where a request is wrong in two ways, the case tells which of
//! them etcd speaks of. The tests pass against a real etcd 3.7 (`ETCORE_BIN=…/etcd`), which is what makes them true.

mod kv;
mod rest;
mod txn;

use bytes::Bytes;
use net::grpc::Code;
use prost::Message;
use proto::etcdserverpb::{
    Compare, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use tempfile::TempDir;
use tests::api::*;
use tests::client::{CallError, Client};
use tests::process::{Options, Process};

type Outcome = Result<(), CallError>;
/// What a client sees: code and message.
type Refusal = (Code, &'static str);

const EMPTY_KEY: Refusal = (Code::InvalidArgument, "etcdserver: key is not provided");
const KEY_NOT_FOUND: Refusal = (Code::InvalidArgument, "etcdserver: key not found");
const VALUE_PROVIDED: Refusal = (Code::InvalidArgument, "etcdserver: value is provided");
const LEASE_PROVIDED: Refusal = (Code::InvalidArgument, "etcdserver: lease is provided");
const TOO_MANY_OPS: Refusal = (
    Code::InvalidArgument,
    "etcdserver: too many operations in txn request",
);
const DUPLICATE_KEY: Refusal = (
    Code::InvalidArgument,
    "etcdserver: duplicate key given in txn request",
);
const INVALID_SORT: Refusal = (Code::InvalidArgument, "etcdserver: invalid sort option");
const TOO_LARGE: Refusal = (Code::InvalidArgument, "etcdserver: request is too large");
const COMPACTED: Refusal = (
    Code::OutOfRange,
    "etcdserver: mvcc: required revision has been compacted",
);
const FUTURE_REVISION: Refusal = (
    Code::OutOfRange,
    "etcdserver: mvcc: required revision is a future revision",
);
const LEASE_NOT_FOUND: Refusal = (Code::NotFound, "etcdserver: requested lease not found");
const LEASE_EXISTS: Refusal = (Code::FailedPrecondition, "etcdserver: lease already exists");
const LEASE_TTL_TOO_LARGE: Refusal = (Code::OutOfRange, "etcdserver: too large lease TTL");

/// A lease that is never granted.
const NO_LEASE: i64 = 0x0bad_1ea5e;
/// etcd's default bound on a request's bytes, and the slack with which gRPC still takes it in.
const REQUEST_BYTES_MAX: usize = 1_572_864;
const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;

/// A member with three revisions: `a` put at 2 and 3, `b` at 4.
struct Fixture {
    client: Client,
    _process: Process,
    _dir: TempDir,
}

const REVISION: i64 = 4;

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let process = Process::start(Options::new(dir.path().join("data")));
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        for (key, value) in [("a", "1"), ("a", "2"), ("b", "1")] {
            client.put(key, value).expect("an honest put");
        }
        assert_eq!(client.revision().expect("a read"), REVISION);
        Self {
            client,
            _process: process,
            _dir: dir,
        }
    }

    fn refuses(
        &mut self,
        case: &str,
        expected: Refusal,
        call: impl FnOnce(&mut Client) -> Outcome,
    ) {
        let error = call(&mut self.client).expect_err(case);
        assert_eq!(error.status(), Some(expected), "{case}: {error}");
    }

    fn refuses_put(&mut self, case: &str, expected: Refusal, request: PutRequest) {
        self.refuses(case, expected, |client| {
            client.unary::<PutResponse>(PUT, &request).map(drop)
        });
    }

    fn refuses_range(&mut self, case: &str, expected: Refusal, request: RangeRequest) {
        self.refuses(case, expected, |client| client.range(&request).map(drop));
    }

    fn refuses_txn(&mut self, case: &str, expected: Refusal, request: TxnRequest) {
        self.refuses(case, expected, |client| client.txn(&request).map(drop));
    }

    /// What was refused left nothing behind.
    fn expect_revision(&mut self, expected: i64) {
        assert_eq!(
            self.client.revision().expect("a read"),
            expected,
            "a refused request had effect"
        );
    }
}

fn success(ops: Vec<RequestOp>) -> TxnRequest {
    txn(vec![], ops, vec![])
}

fn many(count: usize) -> Vec<RequestOp> {
    (0..count)
        .map(|number| op(put(format!("many/{number}"), "")))
        .collect()
}

/// A transaction in a transaction in a … around `inner`.
fn nested(depth: usize, inner: Vec<RequestOp>) -> TxnRequest {
    (0..depth).fold(success(inner), |txn, _| success(vec![op(txn)]))
}
