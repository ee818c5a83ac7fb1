//! KV: put, delete range, transactions, compaction. Ranges have files of their own.

use std::rc::Rc;

use bytes::Bytes;
use engine::mvcc::{check, quota};
use net::grpc::Status;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest, TxnRequest,
};

use super::{refused, respond};
use crate::errors::FrontError;
use crate::metrics::RequestKind;
use crate::shard::{ReplyTo, Shard, count_txn};

pub(crate) fn put(shard: &Rc<Shard>, request: PutRequest, reply: ReplyTo) {
    let refusal = shard
        .claim(quota::put(&request))
        .map_err(FrontError::status);
    let refusal = refusal.and_then(|()| check::put(&request).map_err(refused));
    if let Err(status) = refusal {
        return reply.finish(Err(status));
    }
    shard.propose(
        InternalRaftRequest {
            put: Some(request),
            ..Default::default()
        },
        reply,
    );
}

pub(crate) fn delete_range(shard: &Rc<Shard>, request: DeleteRangeRequest, reply: ReplyTo) {
    if let Err(error) = check::delete_range(&request) {
        return reply.finish(Err(refused(error)));
    }
    shard.propose(
        InternalRaftRequest {
            delete_range: Some(request),
            ..Default::default()
        },
        reply,
    );
}

/// A read-only transaction is a read; any other goes through the log.
pub(crate) fn txn(shard: &Rc<Shard>, request: TxnRequest, reply: ReplyTo) {
    if let Err(status) = check_txn(shard, &request) {
        return reply.finish(Err(status));
    }
    if !check::is_read_only(&request) {
        let request = InternalRaftRequest {
            txn: Some(request),
            ..Default::default()
        };
        return shard.propose(request, reply);
    }
    let asked = Rc::clone(shard);
    shard.when_fresh(check::is_serializable(&request), move |fresh| {
        let read = fresh.map_err(FrontError::status);
        let read = read.and_then(|()| read_txn(&asked, &request));
        let metrics = &asked.metrics;
        metrics.read_done(RequestKind::ReadonlyTxn, read.is_ok(), reply.elapsed());
        reply.finish(read);
    });
}

/// Refuses what can be refused before proposing.
pub(super) fn check_txn(shard: &Shard, request: &TxnRequest) -> Result<(), Status> {
    shard
        .claim(quota::txn(request))
        .map_err(FrontError::status)?;
    check::txn(request, shard.config.max_txn_ops).map_err(refused)?;
    // Deeper ones could be decoded here but not from the log, where they stand one message deeper.
    if request.nesting() > proto::TXN_NESTING_MAX {
        return Err(FrontError::TooManyOps.status());
    }
    Ok(())
}

fn read_txn(shard: &Shard, request: &TxnRequest) -> Result<Bytes, Status> {
    let mut response = shard.with_view(|view| view.txn(request)).map_err(refused)?;
    count_txn(&shard.metrics, &response);
    super::complete(&mut response.header, shard);
    Ok(respond::message(&response))
}

pub(crate) fn compact(shard: &Rc<Shard>, request: CompactionRequest, reply: ReplyTo) {
    shard.propose(
        InternalRaftRequest {
            compaction: Some(request),
            ..Default::default()
        },
        reply,
    );
}
