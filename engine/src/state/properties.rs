//! Random requests against the naive twin, in slices and at once, swept and not.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;

use prost::Message;

use super::model::{Keys, Model};
use super::*;
use crate::backend::testing::TestDisk;
use crate::mvcc::{RangeAnswer, RangeRun, RangeStream};

#[derive(Clone, Debug)]
enum Command {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    /// Through the log, as members of other versions may propose it.
    Range(pb::RangeRequest),
    /// This far below the newest revision.
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    /// Sweep one of the states with this much budget.
    Sweep(usize),
}

const KEYS: [&str; 7] = ["a", "aa", "b", "c", "d", "e", "\0"];
const ENDS: [&str; 6] = ["", "", "\0", "c", "aa", "f"];
const VALUES: [&str; 4] = ["", "x", "y", "zz"];
const LEASES: [i64; 3] = [0, 1, -2];

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Bytes> {
    proptest::sample::select(choices).prop_map(|text| Bytes::from_static(text.as_bytes()))
}

fn lease() -> impl Strategy<Value = i64> {
    proptest::sample::select(&LEASES[..])
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    let flags = (
        any::<bool>(),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.2),
    );
    (text(&KEYS), text(&VALUES), lease(), flags).prop_map(|(key, value, lease, flags)| {
        let (prev_kv, ignore_value, ignore_lease) = flags;
        pb::PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    })
}

fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (text(&KEYS), text(&ENDS), any::<bool>()).prop_map(|(key, range_end, prev_kv)| {
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv,
        }
    })
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0_i64), 1 => 1..12_i64]
}

fn range(revision: impl Strategy<Value = i64>) -> impl Strategy<Value = pb::RangeRequest> {
    let keys = (text(&KEYS), text(&ENDS), -1..4_i64, revision);
    let flags = (
        0..3_i32,
        0..5_i32,
        any::<bool>(),
        proptest::bool::weighted(0.2),
    );
    let bounds = (bound(), bound(), bound(), bound());
    (keys, flags, bounds).prop_map(|(keys, flags, bounds)| pb::RangeRequest {
        key: keys.0,
        range_end: keys.1,
        limit: keys.2,
        revision: keys.3,
        sort_order: flags.0,
        sort_target: flags.1,
        serializable: false,
        keys_only: flags.2,
        count_only: flags.3,
        min_mod_revision: bounds.0,
        max_mod_revision: bounds.1,
        min_create_revision: bounds.2,
        max_create_revision: bounds.3,
    })
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let union = prop_oneof![
        Just(None),
        (0..4_i64).prop_map(|n| Some(TargetUnion::Version(n))),
        (0..9_i64).prop_map(|n| Some(TargetUnion::CreateRevision(n))),
        (0..9_i64).prop_map(|n| Some(TargetUnion::ModRevision(n))),
        text(&VALUES).prop_map(|value| Some(TargetUnion::Value(value))),
        lease().prop_map(|id| Some(TargetUnion::Lease(id))),
    ];
    (0..5_i32, 0..6_i32, text(&KEYS), text(&ENDS), union).prop_map(
        |(result, target, key, range_end, target_union)| pb::Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        },
    )
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    // Mostly the newest revision, or a refused range would make most transactions do nothing.
    let revision = prop_oneof![9 => Just(0_i64), 1 => -2..9_i64];
    let leaf = prop_oneof![
        range(revision).prop_map(Request::RequestRange),
        put().prop_map(Request::RequestPut),
        delete().prop_map(Request::RequestDeleteRange),
    ];
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let branch = |ops| (vec(compare(), 0..2), vec(ops, 0..4));
    let leaf = leaf.prop_map(op).boxed();
    let nested = (branch(leaf.clone()), vec(leaf.clone(), 0..3))
        .prop_map(|((compare, success), failure)| pb::TxnRequest {
            compare,
            success,
            failure,
        })
        .boxed();
    let any_op = prop_oneof![
        4 => leaf,
        1 => nested.clone().prop_map(move |txn| op(Request::RequestTxn(txn))),
    ]
    .boxed();
    (branch(any_op.clone()), vec(any_op, 0..3)).prop_map(|((compare, success), failure)| {
        pb::TxnRequest {
            compare,
            success,
            failure,
        }
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => put().prop_map(Command::Put),
        3 => delete().prop_map(Command::Delete),
        6 => txn().prop_map(Command::Txn),
        1 => range(-1..12_i64).prop_map(Command::Range),
        2 => (-1..6_i64).prop_map(Command::Compact),
        2 => lease().prop_map(Command::Grant),
        1 => lease().prop_map(Command::Revoke),
        3 => (1..20_usize).prop_map(Command::Sweep),
    ]
}

/// Two states that must always agree: one applies at once, is swept and saved, the other goes in tiny slices, unswept and
/// unsaved.
struct Pair {
    disk: TestDisk,
    whole: State,
    sliced: State,
    sliced_disk: TestDisk,
    model: Model,
    next: u64,
}

impl Pair {
    fn new() -> Self {
        let (disk, sliced_disk) = (TestDisk::default(), TestDisk::default());
        Pair {
            whole: disk.state(StateOptions::default()),
            disk,
            sliced: sliced_disk.state(StateOptions::default()),
            sliced_disk,
            model: Model::new(),
            next: 0,
        }
    }

    /// Applies to both; between the slices readers must see a whole revision of the model.
    fn apply(&mut self, request: InternalRaftRequest) -> Result<Response, RequestError> {
        self.next += 1;
        let at = (LogIndex(self.next), Term(1));
        let whole = self.whole.apply(at.0, at.1, Some(request.clone()));
        let before = (self.sliced.view().revision(), self.seen());
        self.sliced.start(at.0, at.1, Some(request));
        let sliced = loop {
            match self.sliced.work(&mut Budget::new(self.next as usize % 3)) {
                Progress::Done(applied) => break applied,
                Progress::More if self.sliced.view().revision() == before.0 => {
                    assert_eq!(
                        self.seen(),
                        before.1,
                        "an entry that is half applied was seen"
                    );
                }
                Progress::More => {}
            }
        };
        assert_eq!(whole, sliced);
        whole.result
    }

    /// All that readers can see of the sliced state now.
    fn seen(&self) -> (Vec<Bytes>, Vec<Option<LeaseTimeToLive>>) {
        let view = self.sliced.view();
        let leases = LEASES
            .iter()
            .map(|&id| view.lease(LeaseId(id), true))
            .collect();
        (view.range(&everything()).unwrap().kvs, leases)
    }

    fn run(&mut self, command: &Command) {
        let request = InternalRaftRequest::default();
        match command.clone() {
            Command::Put(put) => {
                let expected = self.model.put(&put).map(Response::Put);
                let request = InternalRaftRequest {
                    put: Some(put),
                    ..request
                };
                assert_eq!(self.apply(request), expected);
            }
            Command::Delete(delete) => {
                let expected = Response::DeleteRange(self.model.delete(&delete));
                let request = InternalRaftRequest {
                    delete_range: Some(delete),
                    ..request
                };
                assert_eq!(self.apply(request), Ok(expected));
            }
            Command::Txn(txn) => {
                let reads = crate::mvcc::check::is_read_only(&txn);
                let read = reads.then(|| self.whole.view().txn(&txn));
                let expected = self.model.txn(&txn);
                if let Some(read) = read {
                    assert_eq!(read, expected);
                }
                let request = InternalRaftRequest {
                    txn: Some(txn),
                    ..request
                };
                assert_eq!(self.apply(request), expected.map(Response::Txn));
            }
            Command::Range(range) => {
                let expected = self.model.range(&range).map(Response::Range);
                assert_eq!(
                    self.apply(InternalRaftRequest {
                        range: Some(Box::new(range)),
                        ..request
                    }),
                    expected
                );
            }
            Command::Compact(below) => {
                let revision = self.model.revision() - below;
                let compaction = Some(pb::CompactionRequest {
                    revision,
                    physical: false,
                });
                let result = self.apply(InternalRaftRequest {
                    compaction,
                    ..request
                });
                assert_eq!(result.map(|_| ()), self.model.compact(revision));
            }
            Command::Grant(id) => {
                let lease_grant = Some(pb::LeaseGrantRequest { id, ttl: 60 });
                if self
                    .apply(InternalRaftRequest {
                        lease_grant,
                        ..request
                    })
                    .is_ok()
                {
                    self.model.leases.push(id);
                }
            }
            Command::Revoke(id) => {
                let lease_revoke = Some(pb::LeaseRevokeRequest { id });
                let result = self.apply(InternalRaftRequest {
                    lease_revoke,
                    ..request
                });
                assert_eq!(result.map(|_| ()), self.model.revoke(id));
            }
            Command::Sweep(units) => {
                self.disk.step(&mut self.whole, units);
            }
        }
    }

    /// Goes on with what the store gives back.
    fn reopen(&mut self) {
        self.disk.checkpoint(&mut self.whole);
        let (size, in_use) = {
            let view = self.whole.view();
            (view.db_size(), view.db_size_in_use())
        };
        let saved = self.whole.save_index();
        let store = self.disk.reopen();
        let restored = State::restore(StateOptions::default(), store, &mut |_| {});
        self.whole = restored.unwrap().state;
        if let Some(saved) = saved {
            // What the pairs give is what was saved, and the other way round.
            assert!(self.whole.save_index().as_ref() == Some(&saved));
            let mut stored = Stored::from(self.disk.reopen());
            stored.use_saved(&saved).unwrap();
            let restored = State::restore(StateOptions::default(), stored, &mut |_| {});
            self.whole = restored.unwrap().state;
        }
        assert_eq!(self.whole.view().db_size(), size);
        assert_eq!(self.whole.view().db_size_in_use(), in_use);
    }

    fn check(&self) {
        let view = self.whole.view();
        assert_eq!(view.revision(), self.model.revision());
        assert_eq!(view.key_count(), self.model.keys().len());
        for &id in &LEASES {
            let expected = self
                .model
                .leases
                .contains(&id)
                .then(|| attached(self.model.keys(), id));
            assert_eq!(
                view.lease(LeaseId(id), true).map(|lease| lease.keys),
                expected
            );
            // Once an entry is whole, the list itself is exact.
            let listed = view.leases().get(LeaseId(id));
            let listed = listed.map(|lease| lease.keys().map(Bytes::copy_from_slice).collect());
            assert_eq!(listed, expected);
        }
        for revision in [0, self.model.revision(), self.model.compacted.max(1)] {
            let hash = |state: &State| {
                let mut run = crate::mvcc::HashRun::new(revision, state.view().reader())?;
                run.step(state.view().reader(), &mut Budget::unlimited())
            };
            assert_eq!(hash(&self.whole), hash(&self.sliced), "hash at {revision}");
        }
    }
}

fn attached(keys: &Keys, id: i64) -> Vec<Bytes> {
    keys.values()
        .filter(|kv| kv.lease == id)
        .map(|kv| kv.key.clone())
        .collect()
}

/// The same range in slices of `units`.
fn sliced(
    state: &State,
    request: &pb::RangeRequest,
    units: usize,
) -> Result<RangeAnswer, RequestError> {
    let mut run = RangeRun::new(request, state.view().reader())?;
    loop {
        let mut budget = Budget::new(units);
        if let Some(answer) = run.step(state.view().reader(), &mut budget)? {
            return Ok(answer);
        }
    }
}

/// The same range in two passes. That a length is promised as it comes is checked on the way.
fn streamed(
    state: &State,
    request: &pb::RangeRequest,
    units: usize,
) -> Result<RangeAnswer, RequestError> {
    let mut stream = RangeStream::new(request, state.view().reader())?;
    let size = loop {
        let mut budget = Budget::new(units);
        if let Some(size) = stream.measure(state.view().reader(), &mut budget)? {
            break size;
        }
    };
    let mut kvs = Vec::new();
    let budget = || Budget::new(units);
    while stream.read(
        state.view().reader(),
        &mut budget(),
        1 + units * 9,
        &mut kvs,
    )? {}
    let answer = RangeAnswer {
        kvs,
        more: size.more,
        count: size.count,
        revision: size.revision,
    };
    let pairs = pb::RangeResponse {
        kvs: answer.clone().into_response().kvs,
        ..Default::default()
    };
    assert_eq!(
        (size.kvs_len, size.kv_count),
        (pairs.encoded_len(), answer.kvs.len())
    );
    Ok(answer)
}

fn everything() -> pb::RangeRequest {
    let all = Bytes::from_static(b"\0");
    pb::RangeRequest {
        key: all.clone(),
        range_end: all,
        ..Default::default()
    }
}

proptest! {

    #[test]
    fn state_agrees_with_the_model(
        steps in vec((command(), range(-1..30_i64)), 1..40),
    ) {
        let mut pair = Pair::new();
        for (number, (command, request)) in steps.iter().enumerate() {
            pair.run(command);
            pair.check();
            for state in [&pair.whole, &pair.sliced] {
                let answer = state.view().range(request);
                prop_assert_eq!(&sliced(state, request, number % 4), &answer);
                prop_assert_eq!(streamed(state, request, number % 5), answer.clone());
                let answer = answer.map(|answer| answer.into_response());
                prop_assert_eq!(answer, pair.model.range(request));
            }
        }
        pair.disk.settle(&mut pair.whole, usize::MAX);
        pair.sliced_disk.settle(&mut pair.sliced, 1);
        pair.check();
        let hashes = |state: &State| state.view().compaction_hashes().copied().collect::<Vec<_>>();
        let (whole, sliced) = (hashes(&pair.whole), hashes(&pair.sliced));
        // Compactions that came while another one was being swept are not remembered.
        prop_assert!(sliced.iter().all(|hash| whole.contains(hash)));
        pair.reopen();
        pair.check();
        for (_, request) in &steps {
            let answer = pair.whole.view().range(request).map(|answer| answer.into_response());
            prop_assert_eq!(answer, pair.model.range(request));
        }
    }
}
