//! What each method does with its request: refuse early, read, or propose.
//!
//! The order of the checks is etcd's (contract `errors.md` section 5), because clients compare errors. Whether a write
//! happens is never decided here but at apply; what is refused here, apply would refuse too.
//!
//! Most methods are served on the executor of their connection, reading from a View. Some need the node itself; they
//! are served on the log shard, wherever their connection is.

mod auth;
pub(crate) mod cluster;
mod concurrency;
mod downgrade;
mod failure;
mod health;
pub(crate) mod http;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
mod pieces;
mod range;
mod range_stream;
mod respond;
mod snapshot;
pub(crate) mod watch;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use engine::mvcc::RequestError;
use engine::state::Response;
use net::Metadata;
use net::grpc::{Code, Status};
use prost::Message;
use proto::etcdserverpb::{RangeRequest, ResponseHeader};

use crate::errors::{self, FrontError};
use crate::method::{METHODS, MethodNo, Served, Shape};
use crate::shard::{LogShard, NodeReply, Outcome, ReplyTo, Requests, Shard};

/// Metadata: fail at once when no leader is known.
const HAS_LEADER: &str = "hasleader";
/// Metadata: the client library's version.
const CLIENT_API_VERSION: &str = "client-api-version";

/// What grpc-go says of a request that is no message, and of a message of a stream.
const UNMARSHALLING_FAILED: &str =
    "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
const UNMARSHALLING_ON_STREAM_FAILED: &str =
    "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data";

/// Refuses a call by its method and metadata, before its message is read.
///
/// # Errors
/// The status to answer.
pub(crate) fn check_call(
    shard: &Shard,
    method: MethodNo,
    metadata: &Metadata,
) -> Result<(), Status> {
    let is_unary = METHODS[method].shape == Shape::Unary;
    // As etcd: a learner streams nothing but snapshots.
    let is_for_voters = !is_unary && METHODS[method].served != Some(Served::Snapshot);
    if is_for_voters && shard.with_view(|view| view.is_learner()) {
        return Err(FrontError::NotSupportedForLearner.status());
    }
    let version = match metadata.get(CLIENT_API_VERSION) {
        None => "unknown",
        Some(bytes) => {
            std::str::from_utf8(bytes).map_err(|_| FrontError::InvalidClientApiVersion.status())?
        }
    };
    shard.metrics.client_request(METHODS[method].shape, version);
    if requires_leader(metadata) && shard.with_view(|view| view.leader_id() == 0) {
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

/// Whether the client wants an error rather than an answer without a leader.
pub(crate) fn requires_leader(metadata: &Metadata) -> bool {
    let value = metadata.get(HAS_LEADER);
    value.is_some_and(|value| value == b"true")
}

/// Serves one call, whose request is whole, on the executor of its connection.
pub(crate) fn dispatch(shard: &Rc<Shard>, payload: Bytes, reply: ReplyTo) {
    let Some(served) = METHODS[reply.method].served else {
        // `check_call` refused it before its message was taken.
        return;
    };
    if shard.with_view(|view| view.is_learner()) && !is_for_learners(served, &payload) {
        return reply.finish(Err(FrontError::NotSupportedForLearner.status()));
    }
    macro_rules! here {
        ($serve:path) => {
            match decode(METHODS[reply.method].shape, payload) {
                Ok(request) => $serve(shard, request, reply),
                Err(status) => reply.finish(Err(status)),
            }
        };
    }
    match served {
        Served::Range => here!(range::range),
        Served::RangeStream => here!(range_stream::range_stream),
        Served::Put => here!(kv::put),
        Served::DeleteRange => here!(kv::delete_range),
        Served::Txn => here!(kv::txn),
        Served::Compact => here!(kv::compact),
        Served::LeaseGrant => here!(lease::grant),
        Served::LeaseRevoke => here!(lease::revoke),
        Served::HealthCheck => here!(health::check),
        Served::HealthList => here!(health::list),
        Served::HealthWatch => here!(health::watch),
        Served::Lock => here!(concurrency::lock),
        Served::Unlock => here!(concurrency::unlock),
        Served::Campaign => here!(concurrency::campaign),
        Served::Proclaim => here!(concurrency::proclaim),
        Served::Leader => here!(concurrency::leader),
        Served::Observe => here!(concurrency::observe),
        Served::Resign => here!(concurrency::resign),
        // Their messages do not come as one request.
        Served::LeaseKeepAlive | Served::Watch => {}
        Served::Hash => here!(maintenance::hash),
        Served::Snapshot => here!(snapshot::snapshot),
        Served::LeaseTimeToLive
        | Served::LeaseLeases
        | Served::AuthDisable
        | Served::AuthStatus
        | Served::Authenticate
        | Served::MemberList
        | Served::Alarm
        | Served::Status
        | Served::Defragment
        | Served::MoveLeader
        | Served::Downgrade
        | Served::HashKv => shard.call_node(payload, reply),
    }
}

/// What a learner answers: of what it knows by itself, without promising that it is the newest.
fn is_for_learners(served: Served, payload: &Bytes) -> bool {
    match served {
        Served::Status | Served::Snapshot => true,
        Served::Range => {
            RangeRequest::decode(payload.clone()).is_ok_and(|request| request.serializable)
        }
        _ => false,
    }
}

/// Serves a call whose client goes on asking while it is answered; `check_call` let it pass.
pub(crate) fn open_stream(shard: &Rc<Shard>, requests: Requests, reply: ReplyTo) {
    let shard = Rc::clone(shard);
    match METHODS[reply.method].served {
        Some(Served::LeaseKeepAlive) => {
            let serving = async move { lease::keep_alive(&shard, requests, reply).await };
            driver::spawn(serving).detach();
        }
        _ => reply.finish(Err(Status::new(Code::Internal, "no stream"))),
    }
}

/// Serves a call that needs more of the node than a View, on the log shard.
pub(crate) fn serve_by_node(
    log: &Rc<LogShard>,
    method: MethodNo,
    payload: Bytes,
    reply: NodeReply,
) {
    macro_rules! here {
        ($serve:path) => {
            match decode(METHODS[method].shape, payload) {
                Ok(request) => $serve(log, request, reply),
                Err(status) => reply.finish(Err(status)),
            }
        };
    }
    match METHODS[method].served {
        Some(Served::LeaseTimeToLive) => here!(lease::time_to_live),
        Some(Served::LeaseLeases) => here!(lease::leases),
        Some(Served::AuthDisable) => here!(auth::disable),
        Some(Served::AuthStatus) => here!(auth::status),
        Some(Served::Authenticate) => here!(auth::authenticate),
        Some(Served::MemberList) => here!(cluster::member_list),
        Some(Served::Alarm) => here!(maintenance::alarm),
        Some(Served::Status) => here!(maintenance::status),
        Some(Served::Defragment) => here!(maintenance::defragment),
        Some(Served::MoveLeader) => here!(maintenance::move_leader),
        Some(Served::HashKv) => here!(maintenance::hash_kv),
        Some(Served::Downgrade) => here!(downgrade::downgrade),
        // `dispatch` serves these where their connection is.
        _ => reply.finish(Err(Status::new(Code::Internal, "not served by the node"))),
    }
}

/// Decodes a request of a method of this shape, or refuses the call as gRPC does.
fn decode<M: Message + Default>(shape: Shape, payload: Bytes) -> Result<M, Status> {
    // What exactly is wrong differs between protobuf libraries; clients see the words of etcd's.
    let text = match shape {
        Shape::Unary => UNMARSHALLING_FAILED,
        Shape::ServerStream | Shape::BidiStream => UNMARSHALLING_ON_STREAM_FAILED,
    };
    M::decode(payload).map_err(|_| Status::new(Code::Internal, text))
}

/// The response of a proposal that was applied, or the status of one that was not.
pub(crate) fn finish_proposal(
    outcome: Outcome,
    shard: &Shard,
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
fn encode(response: Response, shard: &Shard) -> Bytes {
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
fn complete(header: &mut Option<ResponseHeader>, shard: &Shard) {
    let revision = header.as_ref().map_or(0, |header| header.revision);
    *header = Some(shard.with_view(|view| {
        let revision = if revision == 0 {
            view.revision()
        } else {
            revision
        };
        shard.header_at(view, revision)
    }));
}

/// The status of a request that the state refused.
fn refused(error: RequestError) -> Status {
    errors::request_status(&error)
}
