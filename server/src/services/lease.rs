//! Lease: grant, revoke, time to live.

use bytes::Bytes;
use engine::mvcc::quota;
use engine::types::LeaseId;
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};

use super::respond;
use crate::shard::{LogShard, NodeReply, ReplyTo, Shard};

/// The server chooses an id that is free when the client gave none.
pub(crate) fn grant(log: &LogShard, mut request: LeaseGrantRequest, reply: NodeReply) {
    if let Err(error) = log.claim(quota::LEASE_GRANT_BYTES) {
        return reply.finish(Err(error.status()));
    }
    if request.id == 0 {
        request.id = log.with_node_mut(|node| node.fresh_lease_id());
    }
    log.propose_for(
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
