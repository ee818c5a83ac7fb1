//! What each method does with its request: refuse early, read, or propose.
//!
//! The order of the checks is etcd's (contract `errors.md` section 5), because clients compare errors. Whether a write
//! happens is never decided here but at apply; what is refused here, apply would refuse too.

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
mod respond;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use engine::mvcc::RequestError;
use engine::state::Response;
use net::Metadata;
use net::grpc::{Code, Status};
use prost::Message;
use proto::etcdserverpb::{InternalRaftRequest, ResponseHeader};

use crate::errors::{self, FrontError};
use crate::method::{METHODS, MethodNo, Served};
use crate::shard::{LogShard, Outcome, ReplyTo, Waiter};

/// Metadata: fail at once when no leader is known.
const HAS_LEADER: &str = "hasleader";
/// Metadata: the client library's version.
const CLIENT_API_VERSION: &str = "client-api-version";

const UNMARSHALLING_FAILED: &str =
    "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";

/// Refuses a call by its method and metadata, before its message is read.
///
/// # Errors
/// The status to answer.
pub(crate) fn check_call(
    shard: &LogShard,
    method: MethodNo,
    metadata: &Metadata,
) -> Result<(), Status> {
    let version = match metadata.get(CLIENT_API_VERSION) {
        None => "unknown",
        Some(bytes) => {
            std::str::from_utf8(bytes).map_err(|_| FrontError::InvalidClientApiVersion.status())?
        }
    };
    shard.metrics.client_request(METHODS[method].shape, version);
    let has_leader_required = metadata
        .get(HAS_LEADER)
        .is_some_and(|value| value == b"true");
    if has_leader_required && shard.with_node(|node| node.leadership().leader_id == 0) {
        return Err(FrontError::NoLeader.status());
    }
    match METHODS[method].served {
        Some(_) => Ok(()),
        None => Err(errors::unknown_method(
            METHODS[method].service(),
            METHODS[method].name(),
        )),
    }
}

/// Serves one unary call.
pub(crate) fn dispatch(shard: &Rc<LogShard>, payload: Bytes, reply: ReplyTo) {
    let Some(served) = METHODS[reply.method].served else {
        // `check_call` refused it before its message was taken.
        return;
    };
    match served {
        Served::Range => with(payload, reply, |request, reply| {
            kv::range(shard, request, reply)
        }),
        Served::Put => with(payload, reply, |request, reply| {
            kv::put(shard, request, reply)
        }),
        Served::DeleteRange => {
            with(payload, reply, |request, reply| {
                kv::delete_range(shard, request, reply)
            });
        }
        Served::Txn => with(payload, reply, |request, reply| {
            kv::txn(shard, request, reply)
        }),
        Served::Compact => with(payload, reply, |request, reply| {
            kv::compact(shard, request, reply)
        }),
        Served::LeaseGrant => {
            with(payload, reply, |request, reply| {
                lease::grant(shard, request, reply)
            });
        }
        Served::LeaseRevoke => {
            with(payload, reply, |request, reply| {
                lease::revoke(shard, request, reply)
            });
        }
        Served::LeaseTimeToLive => {
            with(payload, reply, |request, reply| {
                lease::time_to_live(shard, request, reply)
            });
        }
        Served::MemberList => {
            with(payload, reply, |request, reply| {
                cluster::member_list(shard, request, reply)
            });
        }
        Served::Alarm => {
            with(payload, reply, |request, reply| {
                maintenance::alarm(shard, request, reply)
            });
        }
        Served::Status => with(payload, reply, |request, reply| {
            reply.finish(Ok(maintenance::status(shard, request)));
        }),
        Served::HashKv => {
            with(payload, reply, |request, reply| {
                maintenance::hash_kv(shard, request, reply)
            });
        }
        Served::HealthCheck => with(payload, reply, |request, reply| {
            reply.finish(maintenance::health_check(request));
        }),
    }
}

/// Decodes the request, or refuses the call as gRPC does.
fn with<M: Message + Default>(payload: Bytes, reply: ReplyTo, serve: impl FnOnce(M, ReplyTo)) {
    match M::decode(payload) {
        Ok(request) => serve(request, reply),
        // What exactly is wrong differs between protobuf libraries; clients see the words of etcd's.
        Err(_) => reply.finish(Err(Status::new(Code::Internal, UNMARSHALLING_FAILED))),
    }
}

/// Proposes a request on behalf of a call, or answers why not.
fn propose(shard: &LogShard, request: InternalRaftRequest, reply: ReplyTo) {
    if let Err(error) = shard.propose(request, Waiter::Call(reply.clone())) {
        reply.finish(Err(error.status()));
    }
}

/// The response of a proposal that was applied, or the status of one that was not.
pub(crate) fn finish_proposal(
    outcome: Outcome,
    shard: &LogShard,
    method: MethodNo,
    elapsed: Duration,
) -> Result<Bytes, Status> {
    shard
        .metrics
        .request_done(METHODS[method].name(), outcome.is_ok(), elapsed);
    match outcome {
        Err(front) => Err(front.status()),
        Ok(Err(refused)) => Err(errors::request_status(&refused)),
        Ok(Ok(response)) => Ok(encode(response, shard)),
    }
}

/// Completes the header that apply began, and encodes.
fn encode(response: Response, shard: &LogShard) -> Bytes {
    macro_rules! finish {
        ($message:expr) => {{
            let mut message = $message;
            complete(&mut message.header, shard);
            respond::message(&message)
        }};
    }
    match response {
        Response::Put(m) => finish!(m),
        Response::DeleteRange(m) => finish!(m),
        Response::Txn(m) => finish!(m),
        Response::Compaction(m) => finish!(m),
        Response::LeaseGrant(m) => finish!(m),
        Response::LeaseRevoke(m) => finish!(m),
        Response::LeaseCheckpoint(m) => finish!(m),
        Response::Alarm(m) => finish!(m),
        Response::Range(m) => finish!(m),
        Response::Empty => Bytes::new(),
    }
}

/// Adds what apply does not know: who answers, in which term; and the newest revision where apply set none.
fn complete(header: &mut Option<ResponseHeader>, shard: &LogShard) {
    let revision = header.as_ref().map_or(0, |header| header.revision);
    let revision = if revision == 0 {
        shard.with_node(|node| node.view().revision())
    } else {
        revision
    };
    *header = Some(shard.header(revision));
}

/// The status of a request that the state refused.
fn refused(error: RequestError) -> Status {
    errors::request_status(&error)
}
