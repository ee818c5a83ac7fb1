//! What a request will cost in space, as the backend quota counts it.
//!
//! The same estimate decides at the front, before proposing, and again at apply.

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// Added for each put: revision, numbers, index.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// Cost of a lease grant.
pub const LEASE_GRANT_BYTES: u64 = 64;

pub fn put(request: &PutRequest) -> u64 {
    PUT_OVERHEAD_BYTES + (request.key.len() + request.value.len()) as u64
}

/// The dearer branch of a transaction; 0 if it holds no put.
pub fn txn(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op).sum::<u64>();
    branch(&request.success).max(branch(&request.failure))
}

fn op(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestTxn(request)) => txn(request),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put_op(len: usize) -> RequestOp {
        let request = PutRequest {
            key: Bytes::from("k"),
            value: vec![0; len].into(),
            ..PutRequest::default()
        };
        RequestOp {
            request: Some(Request::RequestPut(request)),
        }
    }

    #[test]
    fn a_txn_costs_its_dearer_branch() {
        let nested = TxnRequest {
            compare: vec![],
            success: vec![put_op(10)],
            failure: vec![],
        };
        let nested = RequestOp {
            request: Some(Request::RequestTxn(nested)),
        };
        let request = TxnRequest {
            compare: vec![],
            success: vec![put_op(100)],
            failure: vec![put_op(0), nested],
        };
        assert_eq!(txn(&request), 257 + 267);
        assert_eq!(txn(&TxnRequest::default()), 0);
    }
}
