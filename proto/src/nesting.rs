//! How deep transactions may nest.
//!
//! Decoding refuses messages that nest beyond 100 levels, so that no peer or client can exhaust the
//! stack. A raft entry is one level deeper than the request it holds: without a limit of its own, a
//! transaction could be accepted, proposed and committed, and then be undecodable on every member.
//! Whoever proposes a transaction therefore checks [`TxnRequest::nesting`] first.

use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{RequestOp, TxnRequest};

/// Transactions up to this nesting can be read back from a raft entry, whatever they hold.
pub const TXN_NESTING_MAX: usize = 48;

impl TxnRequest {
    /// The number of levels of transactions inside this one; 0 if it holds none.
    pub fn nesting(&self) -> usize {
        self.success
            .iter()
            .chain(&self.failure)
            .filter_map(inner_nesting)
            .max()
            .unwrap_or(0)
    }
}

fn inner_nesting(op: &RequestOp) -> Option<usize> {
    match &op.request {
        Some(Request::RequestTxn(inner)) => Some(1 + inner.nesting()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::etcdserverpb::{InternalRaftRequest, PutRequest};

    fn nested(levels: usize) -> TxnRequest {
        let put = RequestOp {
            request: Some(Request::RequestPut(PutRequest::default())),
        };
        let mut txn = TxnRequest {
            success: vec![put],
            ..Default::default()
        };
        for _ in 0..levels {
            let op = RequestOp {
                request: Some(Request::RequestTxn(txn)),
            };
            txn = TxnRequest {
                failure: vec![RequestOp::default(), op],
                ..Default::default()
            };
        }
        assert_eq!(txn.nesting(), levels);
        txn
    }

    fn is_readable_from_entry(txn: TxnRequest) -> bool {
        let entry = InternalRaftRequest {
            txn: Some(txn),
            ..Default::default()
        };
        InternalRaftRequest::decode(entry.encode_to_vec().as_slice()).is_ok()
    }

    #[test]
    fn deepest_allowed_transaction_is_readable_from_an_entry() {
        assert!(is_readable_from_entry(nested(TXN_NESTING_MAX)));
    }

    /// The case that the limit is for.
    #[test]
    fn next_deeper_transaction_decodes_as_a_request_but_not_from_an_entry() {
        let txn = nested(TXN_NESTING_MAX + 1);
        assert!(TxnRequest::decode(txn.encode_to_vec().as_slice()).is_ok());
        assert!(!is_readable_from_entry(txn));
    }
}
