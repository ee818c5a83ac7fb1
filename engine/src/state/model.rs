//! A naive twin of the state for tests: one map per revision, no index, no slices, no bytes.
//!
//! It is written from the contract, not from the engine, and clones whole maps wherever that is simplest.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response as OpResponse;
use proto::mvccpb::KeyValue;

use super::RequestError;

pub(super) type Keys = BTreeMap<Bytes, KeyValue>;

pub(super) struct Model {
    /// The keys at each main revision, from 1 on.
    pub(super) revisions: BTreeMap<i64, Keys>,
    pub(super) compacted: i64,
    pub(super) leases: Vec<i64>,
}

/// The state inside a request.
struct Inside {
    begin: i64,
    changes: usize,
    keys: Keys,
}

impl Inside {
    fn revision(&self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            revision: self.revision(),
            ..Default::default()
        })
    }
}

pub(super) fn in_range(key: &Bytes, start: &Bytes, end: &Bytes) -> bool {
    match end.as_ref() {
        b"" => key == start,
        b"\0" => key >= start,
        _ => key >= start && key < end,
    }
}

impl Model {
    pub(super) fn new() -> Self {
        Model {
            revisions: BTreeMap::from([(1, Keys::new())]),
            compacted: -1,
            leases: Vec::new(),
        }
    }

    pub(super) fn revision(&self) -> i64 {
        *self.revisions.keys().next_back().unwrap()
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.revisions[&self.revision()]
    }

    fn inside(&self) -> Inside {
        Inside {
            begin: self.revision(),
            changes: 0,
            keys: self.keys().clone(),
        }
    }

    fn finish(&mut self, inside: Inside) {
        if inside.changes > 0 {
            self.revisions.insert(inside.begin + 1, inside.keys);
        }
    }

    pub(super) fn put(
        &mut self,
        request: &pb::PutRequest,
    ) -> Result<pb::PutResponse, RequestError> {
        self.check_put(request)?;
        let mut inside = self.inside();
        let response = do_put(&mut inside, request);
        self.finish(inside);
        Ok(response)
    }

    fn check_put(&self, request: &pb::PutRequest) -> Result<(), RequestError> {
        if request.lease != 0 && !self.leases.contains(&request.lease) {
            return Err(RequestError::LeaseNotFound);
        }
        let absent = !self.keys().contains_key(&request.key);
        if absent && (request.ignore_lease || request.ignore_value) {
            return Err(RequestError::KeyNotFound);
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let mut inside = self.inside();
        let response = do_delete(&mut inside, request);
        self.finish(inside);
        response
    }

    pub(super) fn revoke(&mut self, id: i64) -> Result<(), RequestError> {
        if !self.leases.contains(&id) {
            return Err(RequestError::LeaseNotFound);
        }
        self.leases.retain(|lease| *lease != id);
        let mut inside = self.inside();
        let before = inside.keys.len();
        inside.keys.retain(|_, kv| kv.lease != id);
        inside.changes = before - inside.keys.len();
        self.finish(inside);
        Ok(())
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        if revision <= self.compacted {
            return Err(RequestError::Compacted);
        }
        if revision > self.revision() {
            return Err(RequestError::FutureRev);
        }
        self.compacted = revision;
        Ok(())
    }

    pub(super) fn range(
        &self,
        request: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, RequestError> {
        self.range_inside(&self.inside(), request)
    }

    fn range_inside(
        &self,
        inside: &Inside,
        request: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, RequestError> {
        let revision = request.revision;
        if revision > inside.revision() {
            return Err(RequestError::FutureRev);
        }
        if revision > 0 && revision < self.compacted {
            return Err(RequestError::Compacted);
        }
        let keys = match revision {
            at if at > 0 && at <= inside.begin => &self.revisions[&at],
            _ => &inside.keys,
        };
        let mut kvs: Vec<KeyValue> = keys
            .values()
            .filter(|kv| in_range(&kv.key, &request.key, &request.range_end))
            .cloned()
            .collect();
        let count = kvs.len() as i64;
        if request.count_only {
            kvs.clear();
        }
        let more = shape(&mut kvs, request);
        Ok(pb::RangeResponse {
            header: inside.header(),
            kvs,
            more,
            count,
        })
    }

    pub(super) fn txn(
        &mut self,
        request: &pb::TxnRequest,
    ) -> Result<pb::TxnResponse, RequestError> {
        self.check_txn(request)?;
        let mut inside = self.inside();
        let mut response = self.execute(&mut inside, request);
        response.header = inside.header();
        self.finish(inside);
        Ok(response)
    }

    fn branch<'a>(&self, request: &'a pb::TxnRequest) -> (bool, &'a [pb::RequestOp]) {
        match request.compare.iter().all(|compare| self.holds(compare)) {
            true => (true, &request.success),
            false => (false, &request.failure),
        }
    }

    fn check_txn(&self, request: &pb::TxnRequest) -> Result<(), RequestError> {
        for op in self.branch(request).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(range) if range.revision > self.revision() => {
                    return Err(RequestError::FutureRev);
                }
                Request::RequestRange(range)
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(RequestError::Compacted);
                }
                Request::RequestRange(_) | Request::RequestDeleteRange(_) => {}
                Request::RequestPut(put) => self.check_put(put)?,
                Request::RequestTxn(txn) => self.check_txn(txn)?,
            }
        }
        Ok(())
    }

    fn execute(&self, inside: &mut Inside, request: &pb::TxnRequest) -> pb::TxnResponse {
        let (succeeded, ops) = self.branch(request);
        let responses = ops.iter().map(|op| {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    OpResponse::ResponseRange(self.range_inside(inside, range).unwrap())
                }
                Request::RequestPut(put) => OpResponse::ResponsePut(do_put(inside, put)),
                Request::RequestDeleteRange(delete) => {
                    OpResponse::ResponseDeleteRange(do_delete(inside, delete))
                }
                Request::RequestTxn(txn) => OpResponse::ResponseTxn(self.execute(inside, txn)),
            };
            pb::ResponseOp {
                response: Some(response),
            }
        });
        let responses = responses.collect();
        pb::TxnResponse {
            header: Some(pb::ResponseHeader::default()),
            succeeded,
            responses,
        }
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let found: Vec<&KeyValue> = self
            .keys()
            .values()
            .filter(|kv| in_range(&kv.key, &compare.key, &compare.range_end))
            .collect();
        if found.is_empty() {
            return compare.target != 3 && compare_kv(compare, &KeyValue::default());
        }
        found.into_iter().all(|kv| compare_kv(compare, kv))
    }
}

fn do_put(inside: &mut Inside, request: &pb::PutRequest) -> pb::PutResponse {
    let former = inside.keys.get(&request.key).cloned();
    let main = inside.begin + 1;
    let mut kv = KeyValue {
        key: request.key.clone(),
        create_revision: former.as_ref().map_or(main, |kv| kv.create_revision),
        mod_revision: main,
        version: former.as_ref().map_or(1, |kv| kv.version + 1),
        value: request.value.clone(),
        lease: request.lease,
    };
    if let Some(former) = &former {
        if request.ignore_value {
            kv.value = former.value.clone();
        }
        if request.ignore_lease {
            kv.lease = former.lease;
        }
    }
    inside.keys.insert(request.key.clone(), kv);
    inside.changes += 1;
    pb::PutResponse {
        header: inside.header(),
        prev_kv: former.filter(|_| request.prev_kv),
    }
}

fn do_delete(inside: &mut Inside, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
    let gone: Vec<KeyValue> = inside
        .keys
        .values()
        .filter(|kv| in_range(&kv.key, &request.key, &request.range_end))
        .cloned()
        .collect();
    inside
        .keys
        .retain(|key, _| !in_range(key, &request.key, &request.range_end));
    inside.changes += gone.len();
    pb::DeleteRangeResponse {
        header: inside.header(),
        deleted: gone.len() as i64,
        prev_kvs: if request.prev_kv { gone } else { Vec::new() },
    }
}

/// Filters, sorts, cuts and strips the pairs of a range, which come in key order; says whether there was more.
fn shape(kvs: &mut Vec<KeyValue>, request: &pb::RangeRequest) -> bool {
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    let sorted = request.sort_order == 2 || (request.sort_order == 1 && request.sort_target != 0);
    if limit > 0 && !filtered && !sorted {
        kvs.truncate(limit + 1);
    }
    kvs.retain(|kv| {
        (request.max_mod_revision == 0 || kv.mod_revision <= request.max_mod_revision)
            && (request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision)
            && (request.max_create_revision == 0
                || kv.create_revision <= request.max_create_revision)
            && (request.min_create_revision == 0
                || kv.create_revision >= request.min_create_revision)
    });
    let fast_keys = request.keys_only && request.sort_target != 4;
    kvs.sort_by(|a, b| {
        let ordering = match request.sort_target {
            0 => a.key.cmp(&b.key),
            1 => a.version.cmp(&b.version),
            2 => a.create_revision.cmp(&b.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            _ => a.value.cmp(&b.value),
        };
        if request.sort_order == 2 {
            ordering.reverse()
        } else {
            ordering
        }
    });
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    for kv in kvs {
        if request.keys_only {
            kv.value = Bytes::new();
        }
        if fast_keys {
            kv.lease = 0;
        }
    }
    more
}

fn compare_kv(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.clone();
    let ordering = match (compare.target, union) {
        (0, Some(TargetUnion::Version(n))) => kv.version.cmp(&n),
        (0, _) => kv.version.cmp(&0),
        (1, Some(TargetUnion::CreateRevision(n))) => kv.create_revision.cmp(&n),
        (1, _) => kv.create_revision.cmp(&0),
        (2, Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(&n),
        (2, _) => kv.mod_revision.cmp(&0),
        (3, Some(TargetUnion::Value(value))) => kv.value.cmp(&value),
        (3, _) => kv.value.cmp(&Bytes::new()),
        (4, Some(TargetUnion::Lease(n))) => kv.lease.cmp(&n),
        (4, _) => kv.lease.cmp(&0),
        _ => std::cmp::Ordering::Equal,
    };
    match compare.result {
        0 => ordering.is_eq(),
        1 => ordering.is_gt(),
        2 => ordering.is_lt(),
        3 => ordering.is_ne(),
        _ => true,
    }
}
