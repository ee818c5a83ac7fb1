//! Lease: grant, revoke, time to live.

use bytes::Bytes;
use engine::mvcc::quota;
use engine::types::LeaseId;
use net::grpc::Status;
use proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};

use super::{kv, propose, respond};
use crate::shard::{LogShard, ReplyTo};

/// The server chooses an id that is free when the client gave none.
pub(crate) fn grant(shard: &LogShard, mut request: LeaseGrantRequest, reply: ReplyTo) {
    if let Err(status) = kv::claim(shard, quota::LEASE_GRANT_BYTES) {
        return reply.finish(Err(status));
    }
    if request.id == 0 {
        request.id = shard.with_node_mut(|node| node.fresh_lease_id());
    }
    propose(
        shard,
        InternalRaftRequest {
            lease_grant: Some(request),
            ..Default::default()
        },
        reply,
    );
}

pub(crate) fn revoke(shard: &LogShard, request: LeaseRevokeRequest, reply: ReplyTo) {
    propose(
        shard,
        InternalRaftRequest {
            lease_revoke: Some(request),
            ..Default::default()
        },
        reply,
    );
}

/// Answered by the leader from its own clock; an unknown lease has the time to live −1.
pub(crate) fn time_to_live(shard: &LogShard, request: LeaseTimeToLiveRequest, reply: ReplyTo) {
    let result = read_time_to_live(shard, &request);
    reply.finish(result);
}

fn read_time_to_live(shard: &LogShard, request: &LeaseTimeToLiveRequest) -> Result<Bytes, Status> {
    let mut response = LeaseTimeToLiveResponse {
        id: request.id,
        ttl: -1,
        ..Default::default()
    };
    shard.with_node(|node| {
        response.header = Some(shard.header(node.view().revision()));
        if let Some(lease) = node.lease_time(LeaseId(request.id), request.keys, driver::now()) {
            response.ttl = lease.remaining_seconds;
            response.granted_ttl = lease.granted_seconds;
            response.keys = lease.keys;
        }
    });
    Ok(respond::message(&response))
}
