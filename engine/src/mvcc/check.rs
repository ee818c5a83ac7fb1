//! Validation of requests before they are proposed: pure, in etcd's order.
//!
//! The first rule that a request breaks decides the error, so the order of the checks is part of the contract. What
//! needs state (leases, revisions, the alarms) is decided at apply instead.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::RequestError;
use super::intervals::Intervals;

type Checked = Result<(), RequestError>;

/// Checks a range: the key, then the sort enums.
pub fn range(request: &RangeRequest) -> Checked {
    key(&request.key)?;
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

/// What a range stream cannot do, asked after [`range`]: true if it sorts other than by ascending key.
pub fn sorts(request: &RangeRequest) -> bool {
    let (order, target) = (request.sort_order, request.sort_target);
    order != SortOrder::None as i32
        && (order, target) != (SortOrder::Ascend as i32, SortTarget::Key as i32)
}

/// What a range stream cannot do, asked after [`sorts`]: true if it filters by revision.
pub fn filters(request: &RangeRequest) -> bool {
    (request.min_mod_revision, request.max_mod_revision) != (0, 0)
        || (request.min_create_revision, request.max_create_revision) != (0, 0)
}

/// Checks a put: the key, then what `ignore_value` and `ignore_lease` exclude.
pub fn put(request: &PutRequest) -> Checked {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete range: the key.
pub fn delete_range(request: &DeleteRangeRequest) -> Checked {
    key(&request.key)
}

/// Checks a transaction: counts, compare keys and operations, recursively; then overlaps of both branches.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Checked {
    operations(request, ops_max)?;
    overlaps(&request.success)?;
    overlaps(&request.failure)?;
    Ok(())
}

fn key(key: &Bytes) -> Checked {
    if key.is_empty() {
        Err(RequestError::EmptyKey)
    } else {
        Ok(())
    }
}

fn operations(request: &TxnRequest, ops_max: usize) -> Checked {
    let count = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(nested_max) = ops_max.checked_sub(count) else {
        return Err(RequestError::TooManyOps);
    };
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request, nested_max)?,
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// What one branch writes.
#[derive(Debug, Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Checked {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }

    /// Adds a nested transaction, whose branches exclude each other.
    fn nest(&mut self, success: Writes<'a>, failure: Writes<'a>) -> Checked {
        for key in &success.puts {
            self.put(key)?;
        }
        for key in &failure.puts {
            if success.puts.contains(key) {
                continue;
            }
            self.put(key)?;
        }
        self.deletes.absorb(success.deletes);
        self.deletes.absorb(failure.deletes);
        Ok(())
    }
}

/// No key may be put twice, or put and deleted, on one path of execution. Deletes may overlap each other.
///
/// The order makes the rule weaker than it sounds, as in etcd: deletes of a nested transaction are held against later
/// siblings and against the puts around it, but not against puts of earlier nested siblings; and a delete up to the
/// open end (`\0`) is held against nothing.
fn overlaps(ops: &[RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            let end = match request.range_end.is_empty() {
                true => [&request.key, &b"\0"[..]].concat(),
                false => request.range_end.to_vec(),
            };
            writes.deletes.insert(request.key.to_vec(), end);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            writes.nest(overlaps(&request.success)?, overlaps(&request.failure)?)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            writes.put(&request.key)?;
        }
    }
    Ok(writes)
}

/// True if every operation of the transaction is a range; a nested transaction counts as a write.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(reads)
}

/// True if every operation is a serializable range.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let local = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    };
    request.success.iter().chain(&request.failure).all(local)
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::Compare;

    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        let request = PutRequest {
            key: Bytes::from(key),
            ..PutRequest::default()
        };
        RequestOp {
            request: Some(Request::RequestPut(request)),
        }
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        let (key, range_end) = (Bytes::from(key), Bytes::from(end));
        let request = DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        };
        RequestOp {
            request: Some(Request::RequestDeleteRange(request)),
        }
    }

    fn range_op(key: &'static str) -> RequestOp {
        let request = RangeRequest {
            key: Bytes::from(key),
            ..RangeRequest::default()
        };
        RequestOp {
            request: Some(Request::RequestRange(request)),
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        let request = TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        };
        RequestOp {
            request: Some(Request::RequestTxn(request)),
        }
    }

    fn of(success: Vec<RequestOp>) -> Checked {
        txn(
            &TxnRequest {
                compare: Vec::new(),
                success,
                failure: Vec::new(),
            },
            128,
        )
    }

    #[test]
    fn puts_are_checked_in_etcds_order() {
        let mut request = PutRequest {
            value: Bytes::from("v"),
            lease: 1,
            ignore_value: true,
            ignore_lease: true,
            ..PutRequest::default()
        };
        assert_eq!(put(&request), Err(RequestError::EmptyKey));
        request.key = Bytes::from("k");
        assert_eq!(put(&request), Err(RequestError::ValueProvided));
        request.value = Bytes::new();
        assert_eq!(put(&request), Err(RequestError::LeaseProvided));
        request.lease = 0;
        assert_eq!(put(&request), Ok(()));
    }

    #[test]
    fn ranges_need_a_key_and_known_sort_numbers() {
        let mut request = RangeRequest {
            sort_order: 3,
            sort_target: 5,
            ..RangeRequest::default()
        };
        assert_eq!(range(&request), Err(RequestError::EmptyKey));
        request.key = Bytes::from("k");
        assert_eq!(range(&request), Err(RequestError::InvalidSortOption));
        request.sort_order = 1;
        assert_eq!(range(&request), Err(RequestError::InvalidSortOption));
        request.sort_target = 4;
        assert_eq!(range(&request), Ok(()));
        assert!(sorts(&request) && !filters(&request));
        request.sort_order = 0;
        request.max_create_revision = 1;
        assert!(!sorts(&request) && filters(&request));
    }

    #[test]
    fn too_many_ops_come_before_everything() {
        let success: Vec<RequestOp> = (0..129).map(|_| put_op("")).collect();
        assert_eq!(of(success), Err(RequestError::TooManyOps));
        assert_eq!(of(vec![put_op("")]), Err(RequestError::EmptyKey));
        assert_eq!(
            of(vec![RequestOp { request: None }]),
            Err(RequestError::KeyNotFound)
        );
        let compare = vec![Compare::default()];
        let keyless = TxnRequest {
            compare,
            success: vec![RequestOp { request: None }],
            failure: vec![],
        };
        assert_eq!(txn(&keyless, 128), Err(RequestError::EmptyKey));
    }

    #[test]
    fn nested_txns_get_what_is_left() {
        let inner = nested(vec![put_op("a"), put_op("b")], vec![]);
        let request = |max| {
            let request = TxnRequest {
                compare: vec![],
                success: vec![inner.clone()],
                failure: vec![],
            };
            txn(&request, max)
        };
        assert_eq!(request(3), Ok(()));
        assert_eq!(request(2), Err(RequestError::TooManyOps));
    }

    #[test]
    fn duplicates_within_one_level() {
        assert_eq!(
            of(vec![put_op("a"), put_op("a")]),
            Err(RequestError::DuplicateKey)
        );
        assert_eq!(
            of(vec![put_op("b"), delete_op("a", "c")]),
            Err(RequestError::DuplicateKey)
        );
        assert_eq!(
            of(vec![delete_op("b", ""), put_op("b")]),
            Err(RequestError::DuplicateKey)
        );
        assert_eq!(
            of(vec![delete_op("a", "c"), put_op("c"), delete_op("b", "bb")]),
            Ok(())
        );
        assert_eq!(of(vec![put_op("a"), range_op("a")]), Ok(()));
    }

    #[test]
    fn an_open_delete_is_held_against_nothing() {
        assert_eq!(of(vec![delete_op("a", "\0"), put_op("b")]), Ok(()));
    }

    #[test]
    fn branches_of_one_nested_txn_exclude_each_other() {
        assert_eq!(
            of(vec![nested(vec![put_op("a")], vec![put_op("a")])]),
            Ok(())
        );
        assert_eq!(
            of(vec![nested(vec![put_op("a")], vec![delete_op("a", "")])]),
            Ok(())
        );
        let twice = || nested(vec![put_op("a")], vec![]);
        assert_eq!(of(vec![twice(), twice()]), Err(RequestError::DuplicateKey));
        assert_eq!(
            of(vec![twice(), put_op("a")]),
            Err(RequestError::DuplicateKey)
        );
        assert_eq!(
            of(vec![twice(), delete_op("a", "")]),
            Err(RequestError::DuplicateKey)
        );
    }

    #[test]
    fn nested_deletes_bind_later_siblings_only() {
        let deletes = || nested(vec![], vec![delete_op("a", "b")]);
        let puts = || nested(vec![put_op("a")], vec![]);
        assert_eq!(of(vec![deletes(), puts()]), Err(RequestError::DuplicateKey));
        assert_eq!(of(vec![puts(), deletes()]), Ok(()));
        assert_eq!(
            of(vec![put_op("a"), deletes()]),
            Err(RequestError::DuplicateKey)
        );
    }

    #[test]
    fn read_only_means_ranges_at_the_top_level() {
        let request = |success| TxnRequest {
            compare: vec![],
            success,
            failure: vec![],
        };
        assert!(is_read_only(&request(vec![range_op("a")])));
        assert!(!is_read_only(&request(vec![nested(vec![], vec![])])));
        assert!(!is_serializable(&request(vec![range_op("a")])));
        assert!(is_read_only(&request(vec![])) && is_serializable(&request(vec![])));
    }
}
