//! KV: range, put, delete range, transactions, compaction.

use std::rc::Rc;

use bytes::Bytes;
use engine::mvcc::{check, quota};
use net::grpc::Status;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest,
    TxnRequest,
};

use super::{propose, refused, respond};
use crate::errors::FrontError;
use crate::shard::{LogShard, Read, ReplyTo};

/// Answers from a View: the newest one, or the first that is no older than this request.
pub(crate) fn range(shard: &Rc<LogShard>, request: RangeRequest, reply: ReplyTo) {
    if let Err(error) = check::range(&request) {
        return reply.finish(Err(refused(error)));
    }
    let is_serializable = request.serializable;
    if is_serializable || shard.with_node(|node| node.is_view_linearizable()) {
        return reply.finish(read_range(shard, &request));
    }
    let run = Box::new(move |shard: &LogShard| read_range(shard, &request));
    shard.read(is_serializable, Read { reply, run });
}

fn read_range(shard: &LogShard, request: &RangeRequest) -> Result<Bytes, Status> {
    let started = driver::now();
    let result = shard
        .with_node(|node| node.view().range(request))
        .map_err(refused);
    let elapsed = driver::now().saturating_sub(started);
    shard.metrics.range_done(result.is_ok(), elapsed);
    if elapsed > shard.config.warning_apply_duration {
        shard.metrics.slow_applies.inc();
    }
    let answer = result?;
    shard.metrics.range_total.inc();
    Ok(respond::range_response(
        &shard.header(answer.revision),
        &answer,
    ))
}

pub(crate) fn put(shard: &LogShard, request: PutRequest, reply: ReplyTo) {
    if let Err(status) = claim(shard, quota::put(&request)) {
        return reply.finish(Err(status));
    }
    if let Err(error) = check::put(&request) {
        return reply.finish(Err(refused(error)));
    }
    propose(
        shard,
        InternalRaftRequest {
            put: Some(request),
            ..Default::default()
        },
        reply,
    );
}

pub(crate) fn delete_range(shard: &LogShard, request: DeleteRangeRequest, reply: ReplyTo) {
    if let Err(error) = check::delete_range(&request) {
        return reply.finish(Err(refused(error)));
    }
    propose(
        shard,
        InternalRaftRequest {
            delete_range: Some(request),
            ..Default::default()
        },
        reply,
    );
}

/// A read-only transaction is a read; any other goes through the log.
pub(crate) fn txn(shard: &LogShard, request: TxnRequest, reply: ReplyTo) {
    if let Err(status) = claim(shard, quota::txn(&request)) {
        return reply.finish(Err(status));
    }
    if let Err(error) = check::txn(&request, shard.config.max_txn_ops) {
        return reply.finish(Err(refused(error)));
    }
    // Deeper ones could be decoded here but not from the log, where they stand one message deeper.
    if request.nesting() > proto::TXN_NESTING_MAX {
        return reply.finish(Err(FrontError::TooManyOps.status()));
    }
    if !check::is_read_only(&request) {
        let request = InternalRaftRequest {
            txn: Some(request),
            ..Default::default()
        };
        return propose(shard, request, reply);
    }
    let is_serializable = check::is_serializable(&request);
    let run = Box::new(move |shard: &LogShard| read_txn(shard, &request));
    shard.read(is_serializable, Read { reply, run });
}

fn read_txn(shard: &LogShard, request: &TxnRequest) -> Result<Bytes, Status> {
    let mut response = shard
        .with_node(|node| node.view().txn(request))
        .map_err(refused)?;
    super::complete(&mut response.header, shard);
    Ok(respond::message(&response))
}

pub(crate) fn compact(shard: &LogShard, request: CompactionRequest, reply: ReplyTo) {
    propose(
        shard,
        InternalRaftRequest {
            compaction: Some(request),
            ..Default::default()
        },
        reply,
    );
}

/// Refuses a request that the backend has no room for, and raises the alarm that keeps all members from growing.
pub(super) fn claim(shard: &LogShard, cost_bytes: u64) -> Result<(), Status> {
    if shard.with_node(|node| node.has_room(cost_bytes)) {
        return Ok(());
    }
    shard.with_node_mut(|node| node.raise_space_alarm());
    Err(FrontError::NoSpace.status())
}
