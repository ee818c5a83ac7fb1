//! Which entries are so short that they are applied in one piece, whatever the budget.
//!
//! Most are: puts, and transactions of a few single keys. Readers may be shown a state only between two entries, so a
//! batch of short entries is shown once, at its end, while before an entry that may take many slices everything is
//! shown that came before it.

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{InternalRaftRequest, TxnRequest};

use crate::types::LeaseId;

/// Compares and operations of a transaction that count as short, about 100 us of work; etcd's default limit of a
/// branch.
const TXN_LEN_MAX: usize = 128;

/// True if the request touches few keys, for certain. A lease to be revoked has `key_count` keys; asked with the state
/// before the entry.
pub(super) fn is_short(
    request: &InternalRaftRequest,
    key_count: impl FnOnce(LeaseId) -> usize,
) -> bool {
    let is_point = |range_end: &[u8]| range_end.is_empty();
    let range = request.range.as_ref();
    let delete = request.delete_range.as_ref();
    let revoke = request.lease_revoke.as_ref();
    revoke.is_none_or(|revoke| key_count(LeaseId(revoke.id)) <= TXN_LEN_MAX)
        && range.is_none_or(|range| is_point(&range.range_end))
        && delete.is_none_or(|delete| is_point(&delete.range_end))
        && request
            .txn
            .as_ref()
            .is_none_or(|txn| spend_txn(txn, &mut { TXN_LEN_MAX }))
}

/// Takes what a transaction may do off `left`; false if that does not suffice.
fn spend_txn(txn: &TxnRequest, left: &mut usize) -> bool {
    let mut compares = txn.compare.iter();
    let mut ops = txn.success.iter().chain(&txn.failure);
    compares.all(|compare| spend_one(compare.range_end.is_empty(), left))
        && ops.all(|op| match &op.request {
            Some(Request::RequestRange(range)) => spend_one(range.range_end.is_empty(), left),
            Some(Request::RequestDeleteRange(delete)) => {
                spend_one(delete.range_end.is_empty(), left)
            }
            Some(Request::RequestPut(_)) | None => spend_one(true, left),
            Some(Request::RequestTxn(txn)) => spend_one(true, left) && spend_txn(txn, left),
        })
}

fn spend_one(is_point: bool, left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_point && is_left
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb as pb;

    use super::*;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn txn(success: Vec<pb::RequestOp>) -> InternalRaftRequest {
        InternalRaftRequest {
            txn: Some(TxnRequest {
                success,
                ..TxnRequest::default()
            }),
            ..InternalRaftRequest::default()
        }
    }

    fn delete(range_end: &'static str) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: "a".into(),
            range_end: range_end.into(),
            prev_kv: false,
        }
    }

    fn short(request: &InternalRaftRequest) -> bool {
        is_short(request, |LeaseId(id)| usize::try_from(id).unwrap_or(0))
    }

    #[test]
    fn single_keys_are_short_and_intervals_are_not() {
        assert!(short(&InternalRaftRequest::default()));
        let whole = |range_end| InternalRaftRequest {
            delete_range: Some(delete(range_end)),
            ..InternalRaftRequest::default()
        };
        assert!(short(&whole("")) && !short(&whole("b")));
        let branch = |range_end| txn(vec![op(Request::RequestDeleteRange(delete(range_end)))]);
        assert!(short(&branch("")) && !short(&branch("\0")));
        let revoke = |id| InternalRaftRequest {
            lease_revoke: Some(pb::LeaseRevokeRequest { id }),
            ..InternalRaftRequest::default()
        };
        let keys_max = TXN_LEN_MAX as i64;
        assert!(short(&revoke(keys_max)) && !short(&revoke(keys_max + 1)));
    }

    #[test]
    fn many_operations_are_not_short_however_they_nest() {
        let put = || op(Request::RequestPut(pb::PutRequest::default()));
        assert!(short(&txn((0..TXN_LEN_MAX).map(|_| put()).collect())));
        assert!(!short(&txn((0..=TXN_LEN_MAX).map(|_| put()).collect())));
        let half = || TxnRequest {
            success: (0..TXN_LEN_MAX / 2).map(|_| put()).collect(),
            ..TxnRequest::default()
        };
        let nested = |count| {
            txn((0..count)
                .map(|_| op(Request::RequestTxn(half())))
                .collect())
        };
        assert!(short(&nested(1)) && !short(&nested(2)));
    }
}
