//! The client inside the server: requests of its own, on behalf of a call.

use std::rc::Rc;

use bytes::Bytes;
use engine::mvcc::{RangeRun, check, quota};
use engine::state::Response;
use net::grpc::{Code, Status};
use prost::Message;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use proto::mvccpb::KeyValue;

use super::super::failure::Failure;
use super::super::{complete, kv, range, refused};
use crate::errors::FrontError;
use crate::shard::Shard;

/// Time to live of a lease that is granted because the client named none.
pub(super) const SESSION_SECONDS: i64 = 60;

/// What a read brings.
pub(super) struct Found {
    pub(super) header: ResponseHeader,
    pub(super) kvs: Vec<KeyValue>,
}

/// See the module.
pub(super) struct Client {
    pub(super) shard: Rc<Shard>,
}

impl Client {
    pub(super) fn new(shard: &Rc<Shard>) -> Self {
        Client {
            shard: Rc::clone(shard),
        }
    }

    /// The lease to work with: the client's, or a new one if it named none.
    pub(super) async fn session(&self, lease: i64) -> Result<i64, Failure> {
        if lease != 0 {
            return Ok(lease);
        }
        self.claim(quota::LEASE_GRANT_BYTES)?;
        let request = InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest {
                ttl: SESSION_SECONDS,
                id: 0,
            }),
            ..InternalRaftRequest::default()
        };
        match self.propose(request, "LeaseGrant").await? {
            Response::LeaseGrant(granted) => Ok(granted.id),
            _ => Err(no_such_answer()),
        }
    }

    /// Tries a transaction that writes.
    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        kv::check_txn(&self.shard, &request).map_err(inside)?;
        let request = InternalRaftRequest {
            txn: Some(request),
            ..InternalRaftRequest::default()
        };
        match self.propose(request, "Txn").await? {
            Response::Txn(mut response) => {
                complete(&mut response.header, &self.shard);
                Ok(response)
            }
            _ => Err(no_such_answer()),
        }
    }

    pub(super) async fn delete(&self, key: Bytes) -> Result<ResponseHeader, Failure> {
        let request = DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        };
        check::delete_range(&request).map_err(|error| inside(refused(error)))?;
        let request = InternalRaftRequest {
            delete_range: Some(request),
            ..InternalRaftRequest::default()
        };
        match self.propose(request, "DeleteRange").await? {
            Response::DeleteRange(mut response) => {
                complete(&mut response.header, &self.shard);
                Ok(response.header.unwrap_or_default())
            }
            _ => Err(no_such_answer()),
        }
    }

    /// Reads, in slices, what is there now.
    pub(super) async fn get(&self, request: RangeRequest) -> Result<Found, Failure> {
        let fresh = self.shard.freshness().await;
        fresh.map_err(|error| inside(error.status()))?;
        let started = driver::now();
        let found = self.read(&request).await;
        range::count(&self.shard, started, found.is_ok());
        found
    }

    async fn read(&self, request: &RangeRequest) -> Result<Found, Failure> {
        let shard = &self.shard;
        let damaged = |error| inside(refused(error));
        let mut run = shard
            .with_view(|view| RangeRun::new(request, view.reader()))
            .map_err(damaged)?;
        loop {
            let mut slice = shard.slice(range::SLICE_UNITS).await;
            let step = shard.with_view(|view| {
                let step = run.step(view.reader(), &mut slice.budget);
                step.map(|answer| {
                    answer.map(|answer| (shard.header_at(view, answer.revision), answer.kvs))
                })
            });
            if let Some((header, pairs)) = step.map_err(damaged)? {
                let kvs = pairs.into_iter().map(KeyValue::decode);
                let kvs = kvs.collect::<Result<_, _>>();
                let kvs = kvs.map_err(|error| Status::new(Code::Internal, error.to_string()));
                return Ok(Found {
                    header,
                    kvs: kvs.map_err(Failure::Refused)?,
                });
            }
        }
    }

    fn claim(&self, cost_bytes: u64) -> Result<(), Failure> {
        let claimed = self.shard.claim(cost_bytes);
        claimed.map_err(|error| inside(error.status()))
    }

    async fn propose(
        &self,
        request: InternalRaftRequest,
        method_name: &str,
    ) -> Result<Response, Failure> {
        let started = driver::now();
        let outcome = self.shard.propose_and_wait(request).await;
        let elapsed = driver::now().saturating_sub(started);
        let metrics = &self.shard.metrics;
        metrics.request_done(method_name, outcome.is_ok(), elapsed);
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(inside(refused(error))),
            Err(error) => Err(inside(error.status())),
        }
    }
}

/// What became of a request inside the server, as its client is told.
fn inside(status: Status) -> Failure {
    Failure::Refused(Status {
        code: match status.code {
            // gRPC knows this one by itself.
            Code::DeadlineExceeded => status.code,
            _ => Code::Unknown,
        },
        ..status
    })
}

/// The refusal that has this text.
pub(super) fn refusal(text: &'static str) -> Failure {
    Failure::Refused(Status::new(Code::Unknown, text))
}

/// The state has answered another kind of request than was proposed, which it never does.
fn no_such_answer() -> Failure {
    inside(FrontError::Stopped.status())
}

// ---- requests

/// Holds if `key` was created at `revision`; 0: if it does not exist.
pub(super) fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

pub(super) fn put_op(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key,
        value,
        lease,
        ..PutRequest::default()
    }))
}

pub(super) fn get_op(request: RangeRequest) -> RequestOp {
    op(Request::RequestRange(request))
}

pub(super) fn delete_op(key: Bytes) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key,
        ..DeleteRangeRequest::default()
    }))
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub(super) fn get_key(key: Bytes) -> RangeRequest {
    RangeRequest {
        key,
        ..RangeRequest::default()
    }
}

/// The pair that the answer to a [`get_op`] holds, if it is the first one of the transaction's operations.
pub(super) fn first_pair(response: &TxnResponse, op_no: usize) -> Option<&KeyValue> {
    use proto::etcdserverpb::response_op::Response::ResponseRange;
    match response.responses.get(op_no)?.response.as_ref()? {
        ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}
