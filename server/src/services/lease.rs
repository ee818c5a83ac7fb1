//! Lease: grant, revoke, keep alive, time to live, list.
//!
//! A keep-alive changes the leader's clock and nothing else, so it needs no entry of the log. What has come on one stream
//! by the time it is looked at goes to the node as one question.

use std::collections::HashSet;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use engine::mvcc::quota;
use engine::node::LeaseCursor;
use engine::types::LeaseId;
use net::grpc::{Code, Status};
use prost::Message;
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};

use super::failure::{Failure, end};
use super::{decode, respond};
use crate::errors::FrontError;
use crate::method::Shape;
use crate::shard::{End, LogShard, NodeReply, ReplyTo, Requests, Shard, StreamReply};

/// The log shard chooses an id that is free when the client gave none.
pub(crate) fn grant(shard: &Rc<Shard>, request: LeaseGrantRequest, reply: ReplyTo) {
    if let Err(error) = shard.claim(quota::LEASE_GRANT_BYTES) {
        return reply.finish(Err(error.status()));
    }
    shard.propose(
        InternalRaftRequest {
            lease_grant: Some(request),
            ..Default::default()
        },
        reply,
    );
}

pub(crate) fn revoke(shard: &Shard, request: LeaseRevokeRequest, reply: ReplyTo) {
    shard.propose(
        InternalRaftRequest {
            lease_revoke: Some(request),
            ..Default::default()
        },
        reply,
    );
}

/// Answered by the leader from its own clock; an unknown lease has the time to live −1.
pub(crate) fn time_to_live(log: &LogShard, request: LeaseTimeToLiveRequest, reply: NodeReply) {
    if !log.with_node(|node| node.leadership().is_leader) {
        // Others do not know what is left, and nobody hands the question on yet.
        return reply.finish(Err(FrontError::NotLeader.status()));
    }
    reply.finish(Ok(read_time_to_live(log, &request)));
}

fn read_time_to_live(log: &LogShard, request: &LeaseTimeToLiveRequest) -> Bytes {
    let mut response = LeaseTimeToLiveResponse {
        id: request.id,
        ttl: -1,
        ..Default::default()
    };
    log.with_node(|node| {
        response.header = Some(log.header(node.view().revision()));
        if let Some(lease) = node.lease_time(LeaseId(request.id), request.keys, driver::now()) {
            response.ttl = lease.remaining_seconds;
            response.granted_ttl = lease.granted_seconds;
            response.keys = lease.keys;
        }
    });
    respond::message(&response)
}

/// All leases, soonest to end first.
pub(crate) fn leases(log: &Rc<LogShard>, _request: LeaseLeasesRequest, reply: NodeReply) {
    let log = Rc::clone(log);
    driver::spawn(async move {
        let leases = list(&log).await;
        let header = log.with_node(|node| node.view().revision());
        reply.finish(Ok(respond::message(&LeaseLeasesResponse {
            header: Some(log.header(header)),
            leases,
        })));
    })
    .detach();
}

/// In slices. A lease that was renewed in between is met again further behind.
async fn list(log: &LogShard) -> Vec<LeaseStatus> {
    let status = |LeaseId(id)| LeaseStatus { id };
    let (ids, mut next) = log.with_node_mut(|node| node.list_leases(LeaseCursor::default()));
    if next.is_none() {
        return ids.into_iter().map(status).collect();
    }
    let mut known: HashSet<LeaseId> = ids.iter().copied().collect();
    let mut leases: Vec<LeaseStatus> = ids.into_iter().map(status).collect();
    while let Some(cursor) = next {
        driver::yield_now().await;
        let (ids, more) = log.with_node_mut(|node| node.list_leases(cursor));
        leases.extend(ids.into_iter().filter(|id| known.insert(*id)).map(status));
        next = more;
    }
    leases
}

/// Serves a stream of keep-alives until the client has said all.
pub(crate) async fn keep_alive(shard: &Rc<Shard>, requests: Requests, reply: ReplyTo) {
    let out = reply.into_stream();
    let answered = answer_all(shard, &requests, &out).await;
    if matches!(answered, Err(Failure::Gone)) && !out.is_over() {
        // Its client lives, and has not taken an answer for a long time.
        shard.metrics.stream_failures.keep_alive_send.inc();
    }
    let ended = answered.and_then(|ended| match ended {
        End::HalfClosed => Ok(()),
        End::Stopping => Err(Failure::Refused(FrontError::Stopped.status())),
        End::Leaderless => Err(Failure::Refused(FrontError::NoLeader.status())),
        End::Gone => {
            let status = Status::new(Code::Canceled, "context canceled");
            Err(Failure::Refused(status))
        }
    });
    end(out, ended);
}

/// Answers whatever has come, in order, then waits for more and for the answers to be taken.
async fn answer_all(
    shard: &Rc<Shard>,
    requests: &Requests,
    out: &StreamReply,
) -> Result<End, Failure> {
    let mut messages = Vec::new();
    loop {
        if let Err(end) = requests.take(&mut messages).await {
            return Ok(end);
        }
        let mut ids = Vec::with_capacity(messages.len());
        let mut bad = None;
        for message in messages.drain(..) {
            match decode::<LeaseKeepAliveRequest>(Shape::BidiStream, message) {
                Ok(request) => ids.push(request.id),
                Err(status) => {
                    bad = Some(status);
                    break;
                }
            }
        }
        // The revision is from before the renewal, so that a lease revoked at it cannot be told as alive after it.
        let header = shard.with_view(|view| shard.header_at(view, view.revision()));
        let renewed = renew(shard, ids).await.map_err(Failure::Refused)?;
        let mut answers = KeepAliveAnswers::new(header, renewed.len());
        for (id, ttl) in renewed {
            out.send(answers.encode(id, ttl))?;
        }
        if let Some(status) = bad {
            shard.metrics.stream_failures.keep_alive_receive.inc();
            return Err(Failure::Refused(status));
        }
        out.ready().await?;
        // A stream that is silent most of the time keeps no room for its busiest moment.
        messages.shrink_to(KEPT_MESSAGES);
    }
}

/// Messages that a stream keeps room for.
const KEPT_MESSAGES: usize = 4;

/// The leases with their new times to live; 0 for one that is gone.
async fn renew(shard: &Shard, ids: Vec<i64>) -> Result<Vec<(i64, i64)>, Status> {
    let (sender, told) = driver::oneshot();
    shard.renew(ids, move |renewed| {
        // Nobody listens any more: the task has ended with its connection.
        let _ = sender.send(renewed);
    });
    let renewed = told.await.unwrap_or(Err(FrontError::Stopped));
    renewed.map_err(FrontError::status)
}

/// Encodes the answers to what was asked at once. Their headers are the same, and they lie behind each other in one piece
/// of memory.
struct KeepAliveAnswers {
    /// The header as the first field of each.
    head: Vec<u8>,
    out: BytesMut,
}

impl KeepAliveAnswers {
    /// The number of the field `header`.
    const HEADER: u32 = 1;
    /// Id and time to live take no more: two keys and two numbers.
    const REST_LEN_MAX: usize = 2 + 2 * 10;

    fn new(header: ResponseHeader, count: usize) -> Self {
        let mut head = Vec::new();
        prost::encoding::message::encode(Self::HEADER, &header, &mut head);
        let len_max = head.len() + Self::REST_LEN_MAX;
        let out = BytesMut::with_capacity(count * len_max);
        KeepAliveAnswers { head, out }
    }

    fn encode(&mut self, id: i64, ttl: i64) -> Bytes {
        let rest = LeaseKeepAliveResponse {
            header: None,
            id,
            ttl,
        };
        self.out.extend_from_slice(&self.head);
        let encoded = rest.encode(&mut self.out);
        debug_assert!(encoded.is_ok(), "there is room");
        self.out.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_what_the_generated_types_encode() {
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 7,
            revision: 300,
            raft_term: 2,
        };
        let mut answers = KeepAliveAnswers::new(header, 3);
        for (id, ttl) in [(1, 0), (i64::MIN, i64::MAX), (0, 60)] {
            let whole = LeaseKeepAliveResponse {
                header: Some(header),
                id,
                ttl,
            };
            assert_eq!(answers.encode(id, ttl), whole.encode_to_vec());
        }
    }
}
