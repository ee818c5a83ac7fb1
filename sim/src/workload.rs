//! Clients: each calls one member, waits for the answer or gives up, rests, and calls again.

use bytes::Bytes;
use proto::etcdserverpb::{
    self as pb, CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};

use crate::history::{Call, Outcome};
use crate::plan::Plan;
use crate::random::Rng;

/// Keys that leases take along begin with this.
pub const LEASED_PREFIX: &str = "leased-";

/// One client. Its values carry its number and a count, so that none is used twice.
#[derive(Debug)]
pub struct Client {
    pub no: usize,
    pub rng: Rng,
    /// The operation that it waits for.
    pub waiting: Option<usize>,
    /// The member that it called last.
    pub member: usize,
    /// The newest revision that it saw.
    pub revision: i64,
    value_count: u64,
    /// The lease granted last.
    lease: i64,
    /// What it saw last, for swaps: key and value.
    seen: Option<(Bytes, Option<Bytes>)>,
}

impl Client {
    pub fn new(no: usize, plan: &Plan) -> Client {
        let mut rng = Rng::new(plan.seed, 1000 + no as u64);
        Client {
            no,
            member: rng.below(plan.node_count as u64) as usize,
            rng,
            waiting: None,
            revision: 1,
            value_count: 0,
            lease: 0,
            seen: None,
        }
    }

    /// What it calls next.
    pub fn next_call(&mut self, plan: &Plan) -> Call {
        let key = self.key(plan);
        match self.rng.below(100) {
            0..=29 => Call::Put {
                key,
                value: self.value(),
                lease: 0,
            },
            30..=46 => Call::Get {
                key,
                is_serializable: false,
            },
            47..=51 => Call::Get {
                key,
                is_serializable: true,
            },
            52..=60 => self.swap(key),
            61..=68 => Call::PutPair {
                keys: [key, self.key(plan)],
                value: self.value(),
            },
            69..=74 => Call::Delete { key },
            75..=76 => Call::DeleteAll,
            77..=81 => Call::Scan,
            82..=84 => Call::Compact {
                revision: self.revision.saturating_sub(self.rng.below(20) as i64),
            },
            85..=88 => {
                self.value_count += 1;
                let id = (self.no as i64 + 1) << 32 | self.value_count as i64;
                // Some stay to the end.
                let ttl = match self.rng.one_in(4) {
                    true => 10_000,
                    false => self.rng.between(1, 6) as i64,
                };
                Call::Grant { id, ttl }
            }
            89..=92 if self.lease != 0 => Call::KeepAlive { id: self.lease },
            93..=94 if self.lease != 0 => Call::TimeToLive { id: self.lease },
            95 if self.lease != 0 => Call::Revoke { id: self.lease },
            _ => Call::Put {
                key: self.leased_key(plan),
                value: self.value(),
                lease: self.lease,
            },
        }
    }

    /// A put that proves that a member serves again.
    pub fn probe(&mut self, plan: &Plan) -> Call {
        Call::Put {
            key: self.key(plan),
            value: self.value(),
            lease: 0,
        }
    }

    fn key(&mut self, plan: &Plan) -> Bytes {
        key_of(self.rng.below(plan.key_count), plan)
    }

    fn leased_key(&mut self, plan: &Plan) -> Bytes {
        let no = self.rng.below(plan.key_count);
        filled(format!("{LEASED_PREFIX}{no}"), plan)
    }

    fn value(&mut self) -> Bytes {
        self.value_count += 1;
        let (no, count) = (self.no, self.value_count);
        let fill = match self.rng.below(40) {
            0 => self.rng.below(9_000),
            1..=8 => self.rng.below(600),
            _ => self.rng.below(20),
        };
        // Zeros inside values must not be taken for torn sectors.
        let mut value = format!("c{no}-{count}-").into_bytes();
        let byte = if self.rng.one_in(3) { 0 } else { b'x' };
        value.resize(value.len() + fill as usize, byte);
        value.into()
    }

    fn swap(&mut self, key: Bytes) -> Call {
        let (key, expected) = match self.seen.clone() {
            Some(seen) if !self.rng.one_in(4) => seen,
            _ => (key, None),
        };
        Call::Swap {
            key,
            expected,
            value: self.value(),
        }
    }

    /// Learns from an answer.
    pub fn on_answer(&mut self, call: &Call, outcome: &Outcome) {
        if let Some(revision) = outcome.revision() {
            self.revision = self.revision.max(revision);
        }
        match (call, outcome) {
            (Call::Grant { id, .. }, Outcome::Done) => self.lease = *id,
            (Call::Put { lease, .. }, Outcome::Failed { .. }) if *lease == self.lease => {
                self.lease = 0;
            }
            (Call::Get { key, .. }, Outcome::Read { kvs, .. }) => {
                let value = kvs.first().map(|kv| kv.value.clone());
                self.seen = Some((key.clone(), value));
            }
            (
                Call::Put {
                    key,
                    value,
                    lease: 0,
                },
                Outcome::Written { .. },
            ) => {
                self.seen = Some((key.clone(), Some(value.clone())));
            }
            _ => {}
        }
    }
}

/// The key of this number.
pub fn key_of(no: u64, plan: &Plan) -> Bytes {
    filled(format!("key-{no}"), plan)
}

/// The key with as many more bytes as the plan wants.
fn filled(key: String, plan: &Plan) -> Bytes {
    let mut key = key.into_bytes();
    key.resize(key.len() + plan.key_fill_bytes, b'k');
    key.into()
}

/// The request of a call that goes through the log; `None` for reads.
pub fn request_of(call: &Call) -> Option<InternalRaftRequest> {
    let mut request = InternalRaftRequest::default();
    match call {
        Call::Put { key, value, lease } => {
            request.put = Some(PutRequest {
                prev_kv: true,
                lease: *lease,
                ..put(key, value)
            });
        }
        Call::Delete { key } => {
            request.delete_range = Some(DeleteRangeRequest {
                key: key.clone(),
                prev_kv: true,
                ..DeleteRangeRequest::default()
            });
        }
        Call::DeleteAll => {
            request.delete_range = Some(DeleteRangeRequest {
                key: vec![0].into(),
                range_end: vec![0].into(),
                prev_kv: true,
            });
        }
        Call::Swap {
            key,
            expected,
            value,
        } => request.txn = Some(swap_txn(key, expected.as_ref(), value)),
        Call::PutPair { keys, value } => request.txn = Some(pair_txn(keys, value)),
        Call::Compact { revision } => {
            request.compaction = Some(CompactionRequest {
                revision: *revision,
                physical: revision % 2 == 0,
            });
        }
        Call::Grant { id, ttl } => {
            request.lease_grant = Some(LeaseGrantRequest { id: *id, ttl: *ttl });
        }
        Call::Revoke { id } => request.lease_revoke = Some(LeaseRevokeRequest { id: *id }),
        Call::Get { .. } | Call::Scan | Call::KeepAlive { .. } | Call::TimeToLive { .. } => {
            return None;
        }
    }
    Some(request)
}

fn put(key: &Bytes, value: &Bytes) -> PutRequest {
    PutRequest {
        key: key.clone(),
        value: value.clone(),
        ..PutRequest::default()
    }
}

fn put_op(key: &Bytes, value: &Bytes) -> RequestOp {
    RequestOp {
        request: Some(request_op::Request::RequestPut(put(key, value))),
    }
}

fn swap_txn(key: &Bytes, expected: Option<&Bytes>, value: &Bytes) -> TxnRequest {
    let (target, operand) = match expected {
        Some(value) => (
            compare::CompareTarget::Value,
            compare::TargetUnion::Value(value.clone()),
        ),
        None => (
            compare::CompareTarget::Create,
            compare::TargetUnion::CreateRevision(0),
        ),
    };
    let read = request_op::Request::RequestRange(point(key));
    TxnRequest {
        compare: vec![pb::Compare {
            result: compare::CompareResult::Equal as i32,
            target: target as i32,
            key: key.clone(),
            target_union: Some(operand),
            ..pb::Compare::default()
        }],
        success: vec![put_op(key, value)],
        failure: vec![RequestOp {
            request: Some(read),
        }],
    }
}

fn pair_txn(keys: &[Bytes; 2], value: &Bytes) -> TxnRequest {
    let mut success = vec![put_op(&keys[0], value)];
    // A transaction may put a key once.
    if keys[1] != keys[0] {
        success.push(put_op(&keys[1], value));
    }
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

/// The range of one key.
pub fn point(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    }
}

/// The range of all keys.
pub fn everything() -> RangeRequest {
    RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..RangeRequest::default()
    }
}
