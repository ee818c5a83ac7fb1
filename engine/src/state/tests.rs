//! Entries through the whole state, one rule each.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;

use super::*;
use crate::backend::testing::{ColdPages, TestDisk, seal};
use crate::store::StoreOp;

/// A state with a log position.
struct Bench {
    disk: TestDisk,
    state: State,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        Bench::with(StateOptions::default())
    }

    fn with(options: StateOptions) -> Self {
        let disk = TestDisk::default();
        Bench {
            state: disk.state(options),
            disk,
            next: 1,
        }
    }

    fn apply(&mut self, request: InternalRaftRequest) -> Applied {
        self.next += 1;
        self.state
            .apply(LogIndex(self.next), Term(1), Some(request))
    }

    fn try_put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, RequestError> {
        match self
            .apply(InternalRaftRequest {
                put: Some(request),
                ..Default::default()
            })
            .result?
        {
            Response::Put(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, key: &str, value: &str, lease: i64) -> i64 {
        let response = self.try_put(put(key, value, lease)).unwrap();
        response.header.unwrap().revision
    }

    fn delete(&mut self, key: &str, end: &str) -> pb::DeleteRangeResponse {
        let delete_range = Some(pb::DeleteRangeRequest {
            key: b(key),
            range_end: b(end),
            prev_kv: true,
        });
        match self
            .apply(InternalRaftRequest {
                delete_range,
                ..Default::default()
            })
            .result
        {
            Ok(Response::DeleteRange(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    fn txn(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, RequestError> {
        match self
            .apply(InternalRaftRequest {
                txn: Some(request),
                ..Default::default()
            })
            .result?
        {
            Response::Txn(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        let compaction = Some(pb::CompactionRequest {
            revision,
            physical: false,
        });
        self.apply(InternalRaftRequest {
            compaction,
            ..Default::default()
        })
        .result
        .map(|_| ())
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<i64, RequestError> {
        let lease_grant = Some(pb::LeaseGrantRequest { id, ttl });
        match self
            .apply(InternalRaftRequest {
                lease_grant,
                ..Default::default()
            })
            .result?
        {
            Response::LeaseGrant(response) => Ok(response.ttl),
            other => panic!("{other:?}"),
        }
    }

    fn revoke(&mut self, id: i64) -> Applied {
        let lease_revoke = Some(pb::LeaseRevokeRequest { id });
        self.apply(InternalRaftRequest {
            lease_revoke,
            ..Default::default()
        })
    }

    fn alarm(&mut self, action: i32, alarm: pb::AlarmType) -> Applied {
        let alarm = Some(pb::AlarmRequest {
            action,
            member_id: 5,
            alarm: alarm as i32,
        });
        self.apply(InternalRaftRequest {
            alarm,
            ..Default::default()
        })
    }

    fn sweep(&mut self) {
        self.disk.settle(&mut self.state, usize::MAX);
    }

    fn get(&self, key: &str, revision: i64) -> Result<Option<String>, RequestError> {
        let request = pb::RangeRequest {
            key: b(key),
            revision,
            ..Default::default()
        };
        let response = self.state.view().range(&request)?.into_response();
        Ok(response
            .kvs
            .first()
            .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()))
    }

    fn lease_keys(&self, id: i64) -> Vec<String> {
        let keys = self.state.view().lease(LeaseId(id), true).unwrap().keys;
        keys.iter()
            .map(|key| String::from_utf8(key.to_vec()).unwrap())
            .collect()
    }
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: b(key),
        value: b(value),
        lease,
        ..Default::default()
    }
}

fn put_op(key: &str, value: &str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestPut(put(key, value, 0)))
}

fn range_op(key: &str, revision: i64) -> pb::RequestOp {
    op(pb::request_op::Request::RequestRange(pb::RangeRequest {
        key: b(key),
        revision,
        ..Default::default()
    }))
}

fn delete_op(key: &str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestDeleteRange(
        pb::DeleteRangeRequest {
            key: b(key),
            ..Default::default()
        },
    ))
}

fn txn_op(request: pb::TxnRequest) -> pb::RequestOp {
    op(pb::request_op::Request::RequestTxn(request))
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn version_is(key: &str, version: i64) -> pb::Compare {
    pb::Compare {
        key: b(key),
        target_union: Some(pb::compare::TargetUnion::Version(version)),
        ..Default::default()
    }
}

#[test]
fn put_numbers_follow_etcd() {
    let mut bench = Bench::new();
    assert_eq!(
        (
            bench.state.view().revision(),
            bench.state.view().compact_revision()
        ),
        (1, -1)
    );
    assert_eq!(bench.put("a", "1", 0), 2);
    assert_eq!(bench.put("a", "2", 0), 3);
    let response = bench.delete("a", "");
    assert_eq!(
        (response.deleted, response.header.unwrap().revision),
        (1, 4)
    );
    let kv = &response.prev_kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    let nothing = bench.delete("a", "");
    assert_eq!((nothing.deleted, nothing.header.unwrap().revision), (0, 4));
    bench.put("a", "3", 0);
    let request = pb::PutRequest {
        prev_kv: true,
        ..put("a", "4", 0)
    };
    let kv = bench.try_put(request).unwrap().prev_kv.unwrap();
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version, kv.value),
        (5, 5, 1, b("3"))
    );
}

#[test]
fn ignore_flags_keep_value_and_lease() {
    let mut bench = Bench::new();
    let keep_value = pb::PutRequest {
        ignore_value: true,
        ..put("a", "", 7)
    };
    let keep_lease = pb::PutRequest {
        ignore_lease: true,
        ..put("a", "new", 0)
    };
    assert_eq!(
        bench.try_put(keep_value.clone()),
        Err(RequestError::LeaseNotFound)
    );
    bench.grant(7, 60).unwrap();
    assert_eq!(
        bench.try_put(keep_value.clone()),
        Err(RequestError::KeyNotFound)
    );
    assert_eq!(
        bench.try_put(keep_lease.clone()),
        Err(RequestError::KeyNotFound)
    );
    assert_eq!(bench.state.view().revision(), 1);
    bench.put("a", "old", 0);
    bench.try_put(keep_value).unwrap();
    assert_eq!(
        (bench.get("a", 0), bench.lease_keys(7)),
        (Ok(Some("old".into())), vec!["a".into()])
    );
    bench.try_put(keep_lease).unwrap();
    assert_eq!(
        (bench.get("a", 0), bench.lease_keys(7)),
        (Ok(Some("new".into())), vec!["a".into()])
    );
    bench.put("a", "bare", 0);
    assert!(bench.lease_keys(7).is_empty());
}

#[test]
fn revoking_deletes_keys_in_order_in_one_revision() {
    let mut bench = Bench::new();
    bench.grant(7, 60).unwrap();
    for key in ["c", "a", "b", "d"] {
        bench.put(key, "v", 7);
    }
    bench.put("b", "stays", 0);
    let applied = bench.revoke(7);
    assert_eq!(
        applied.effects,
        [ApplyEffect::LeaseRevoked { id: LeaseId(7) }]
    );
    assert_eq!(applied.revision, 7);
    let changes = bench.state.view().changes(7);
    let keys: Vec<(i64, bool, Bytes)> = changes
        .map(|change| {
            let change = change.unwrap();
            let key = crate::mvcc::key_of(&change.pair.to_bytes());
            (change.revision.sub, change.tombstone, key)
        })
        .collect();
    assert_eq!(
        keys,
        [(0, true, b("a")), (1, true, b("c")), (2, true, b("d"))]
    );
    assert_eq!(bench.get("b", 0), Ok(Some("stays".into())));
    assert_eq!(bench.revoke(7).result, Err(RequestError::LeaseNotFound));
}

#[test]
fn keys_leave_the_list_of_their_lease_unless_they_come_back_at_once() {
    let mut bench = Bench::new();
    bench.grant(7, 60).unwrap();
    for key in ["a", "b", "c"] {
        bench.put(key, "v", 7);
    }
    let all = pb::DeleteRangeRequest {
        key: b("a"),
        range_end: b("\0"),
        prev_kv: false,
    };
    let success = vec![
        op(pb::request_op::Request::RequestDeleteRange(all)),
        op(pb::request_op::Request::RequestPut(put("b", "again", 7))),
    ];
    bench
        .txn(pb::TxnRequest {
            success,
            ..Default::default()
        })
        .unwrap();
    let view = bench.state.view();
    let listed: Vec<&[u8]> = view.leases().get(LeaseId(7)).unwrap().keys().collect();
    assert_eq!(listed, [b"b"]);
    assert_eq!(bench.lease_keys(7), ["b"]);
}

#[test]
fn revoking_a_lease_without_keys_makes_no_revision() {
    let mut bench = Bench::new();
    bench.grant(7, 1).unwrap();
    assert_eq!(
        bench
            .state
            .view()
            .lease(LeaseId(7), true)
            .unwrap()
            .granted_ttl,
        2
    );
    let applied = bench.revoke(7);
    let Ok(Response::LeaseRevoke(response)) = applied.result else {
        panic!()
    };
    assert_eq!(
        (response.header.unwrap().revision, applied.revision),
        (1, 1)
    );
    assert_eq!(bench.state.view().lease(LeaseId(7), true), None);
}

#[test]
fn a_txn_sees_itself_and_its_headers_say_so() {
    let mut bench = Bench::new();
    bench.put("a", "old", 0);
    let success = vec![
        range_op("a", 0),
        put_op("a", "new"),
        range_op("a", 0),
        delete_op("zz"),
    ];
    let request = pb::TxnRequest {
        success,
        ..Default::default()
    };
    let response = bench.txn(request).unwrap();
    assert_eq!(
        (response.succeeded, response.header.unwrap().revision),
        (true, 3)
    );
    let answers: Vec<(i64, usize)> = response
        .responses
        .iter()
        .map(|op| match op.response.as_ref().unwrap() {
            pb::response_op::Response::ResponseRange(r) => {
                (r.header.unwrap().revision, r.kvs.len())
            }
            pb::response_op::Response::ResponsePut(r) => (r.header.unwrap().revision, 0),
            pb::response_op::Response::ResponseDeleteRange(r) => (r.header.unwrap().revision, 0),
            pb::response_op::Response::ResponseTxn(_) => panic!(),
        })
        .collect();
    assert_eq!(answers, [(2, 1), (3, 0), (3, 1), (3, 0)]);
    assert_eq!(bench.get("a", 2), Ok(Some("old".into())));
}

#[test]
fn nested_branches_are_decided_before_anything_is_executed() {
    let mut bench = Bench::new();
    let inner = pb::TxnRequest {
        compare: vec![version_is("a", 0)],
        success: vec![put_op("b", "absent before")],
        failure: vec![put_op("b", "present before")],
    };
    let success = vec![put_op("a", "1"), txn_op(inner)];
    let response = bench
        .txn(pb::TxnRequest {
            success,
            ..Default::default()
        })
        .unwrap();
    assert_eq!(bench.get("b", 0), Ok(Some("absent before".into())));
    let Some(pb::response_op::Response::ResponseTxn(nested)) = &response.responses[1].response
    else {
        panic!()
    };
    assert_eq!(nested.header, Some(pb::ResponseHeader::default()));
    assert!(nested.succeeded);
}

#[test]
fn a_failing_check_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.put("a", "1", 0);
    let bad_put = op(pb::request_op::Request::RequestPut(put("b", "x", 99)));
    for (bad, error) in [
        (bad_put, RequestError::LeaseNotFound),
        (range_op("a", 9), RequestError::FutureRev),
        (range_op("a", -2), RequestError::Compacted),
    ] {
        let inner = pb::TxnRequest {
            success: vec![bad],
            ..Default::default()
        };
        let success = vec![put_op("a", "2"), txn_op(inner)];
        let request = pb::TxnRequest {
            success,
            ..Default::default()
        };
        assert_eq!(bench.txn(request), Err(error));
        assert_eq!(
            (bench.get("a", 0), bench.state.view().revision()),
            (Ok(Some("1".into())), 2)
        );
    }
}

#[test]
fn empty_and_reading_txns_make_no_revision() {
    let mut bench = Bench::new();
    bench.put("a", "1", 0);
    let nested = txn_op(pb::TxnRequest::default());
    for success in [
        vec![],
        vec![range_op("a", 0)],
        vec![nested],
        vec![delete_op("nothing")],
    ] {
        let response = bench
            .txn(pb::TxnRequest {
                success,
                ..Default::default()
            })
            .unwrap();
        assert_eq!(response.header.unwrap().revision, 2);
    }
    assert_eq!(bench.state.view().revision(), 2);
}

#[test]
fn compaction_bounds_reads() {
    let mut bench = Bench::new();
    for value in ["1", "2", "3"] {
        bench.put("a", value, 0);
    }
    assert_eq!(bench.compact(5), Err(RequestError::FutureRev));
    assert_eq!(bench.compact(3), Ok(()));
    assert_eq!(bench.compact(3), Err(RequestError::Compacted));
    assert_eq!(bench.compact(0), Err(RequestError::Compacted));
    for swept in [false, true] {
        assert_eq!(
            bench.get("a", 2),
            Err(RequestError::Compacted),
            "swept: {swept}"
        );
        assert_eq!(bench.get("a", 3), Ok(Some("2".into())));
        assert_eq!(bench.get("a", 5), Err(RequestError::FutureRev));
        bench.sweep();
    }
    assert_eq!(bench.state.view().finished_compact_revision(), Some(3));
}

#[test]
fn a_compaction_gives_space_back() {
    let mut bench = Bench::new();
    let value = "x".repeat(1000);
    for _ in 0..2000 {
        bench.put("a", &value, 0);
    }
    let full = bench.state.view().db_size_in_use();
    bench.compact(2001).unwrap();
    bench.sweep();
    assert!(bench.state.view().db_size_in_use() * 20 < full);
    assert!(
        bench.state.view().db_size() >= full,
        "a file does not shrink by itself"
    );
}

/// Does what can wait and the checkpoints that it asks for, on a file of which nothing is in memory at first. Returns how many
/// pages were loaded, and for how many the disk was waited.
fn work_from_cold(bench: &mut Bench, pages: &ColdPages) -> (usize, usize) {
    let (disk, state) = (bench.disk.clone(), &mut bench.state);
    let mut loaded = 0;
    pages.cool();
    loop {
        let more = state.tend(&mut Budget::new(100)).unwrap();
        let load = state.poll_store_load();
        let loads = load.is_some();
        for extent in load.unwrap_or_default() {
            loaded += pages.load(extent);
            // While it is under way nothing that waits for it is done.
            assert_eq!(state.poll_store_load(), None);
        }
        if loads {
            state.on_store_loaded();
        }
        let mut serves = false;
        while let Some(io) = state.poll_store_io() {
            if let StoreOp::Write { offset, bytes } = &io.op {
                let (offset, len) = (*offset, bytes.len() as u64);
                pages.load(Extent { offset, len });
            }
            let result = disk.perform(&io);
            state.on_store_io_done(io.ticket, result);
            serves = true;
        }
        let wants = state.wants_checkpoint() || state.is_ready_to_move();
        let begins = state.is_checkpoint_idle() && wants;
        if begins {
            state.begin_checkpoint(seal(state), false);
        }
        if !more && !loads && !serves && !begins {
            return (loaded, pages.wait_count());
        }
    }
}

#[test]
fn slow_work_waits_for_no_page_that_it_can_have_loaded() {
    let disk = TestDisk::default();
    let pages = ColdPages::of(&disk);
    let state = pages.state(StateOptions::default());
    let mut bench = Bench {
        disk,
        state,
        next: 1,
    };
    let value = "x".repeat(1000);
    for count in 0..8000 {
        // One value in a hundred has pages of its own.
        let value = match count % 100 {
            0 => "y".repeat(9000),
            _ => value.clone(),
        };
        bench.put(&format!("key-{:04}", count * 7 % 2000), &value, 0);
        if count % 500 == 0 {
            bench.disk.checkpoint(&mut bench.state);
        }
    }
    bench.disk.checkpoint(&mut bench.state);

    bench.compact(8001).unwrap();
    let (loaded, waits) = work_from_cold(&mut bench, &pages);
    assert_eq!(bench.state.view().finished_compact_revision(), Some(8001));
    assert!(loaded > 1500, "{loaded}");
    assert!(waits * 20 < loaded, "{waits} beside {loaded}");
    assert_eq!(bench.get("key-0007", 0).unwrap(), Some(value));

    let before = bench.state.view().db_size();
    bench.state.defragment();
    let (loaded, waits) = work_from_cold(&mut bench, &pages);
    assert!(!bench.state.is_defragmenting());
    assert!(bench.state.view().db_size() * 2 < before);
    assert!(loaded > 200, "{loaded}");
    assert!(waits * 4 < loaded, "{waits} beside {loaded}");
}

#[test]
fn nospace_caps_puts_and_grants_only() {
    let mut bench = Bench::new();
    bench.put("a", "1", 0);
    assert_eq!(
        bench.alarm(1, pb::AlarmType::Nospace).effects,
        [ApplyEffect::AlarmsChanged]
    );
    assert_eq!(bench.try_put(put("a", "2", 0)), Err(RequestError::NoSpace));
    assert_eq!(bench.grant(1, 9), Err(RequestError::NoSpace));
    let puts = pb::TxnRequest {
        failure: vec![put_op("a", "3")],
        ..Default::default()
    };
    assert_eq!(bench.txn(puts), Err(RequestError::NoSpace));
    let deletes = pb::TxnRequest {
        success: vec![delete_op("a")],
        ..Default::default()
    };
    assert_eq!(bench.txn(deletes).unwrap().header.unwrap().revision, 3);
    assert_eq!(bench.compact(2), Ok(()));
    bench.alarm(2, pb::AlarmType::Nospace);
    assert_eq!(bench.put("a", "4", 0), 4);
}

#[test]
fn corruption_stops_more_and_comes_first() {
    let mut bench = Bench::new();
    bench.grant(7, 60).unwrap();
    bench.alarm(1, pb::AlarmType::Nospace);
    bench.alarm(1, pb::AlarmType::Corrupt);
    assert_eq!(bench.try_put(put("a", "2", 0)), Err(RequestError::Corrupt));
    assert_eq!(bench.compact(1), Err(RequestError::Corrupt));
    assert_eq!(bench.revoke(7).result, Err(RequestError::Corrupt));
    assert_eq!(
        bench.txn(pb::TxnRequest::default()),
        Err(RequestError::Corrupt)
    );
    assert_eq!(bench.get("a", 0), Ok(None));
    assert!(bench.alarm(2, pb::AlarmType::Corrupt).result.is_ok());
    assert_eq!(bench.try_put(put("a", "2", 0)), Err(RequestError::NoSpace));
}

#[test]
fn past_the_quota_a_put_is_executed_but_answered_with_nospace() {
    let quota_bytes = Some(40_000);
    let mut bench = Bench::with(StateOptions {
        quota_bytes,
        ..StateOptions::default()
    });
    let value = "x".repeat(30_000);
    bench.put("a", "small", 0);
    assert!(!bench.state.has_room(30_000) && bench.state.has_room(0));
    assert_eq!(
        bench.try_put(put("a", &value, 0)),
        Err(RequestError::NoSpace)
    );
    assert_eq!(bench.get("a", 0), Ok(Some(value)));
    assert_eq!(bench.state.view().revision(), 3);
    assert_eq!(bench.delete("a", "").deleted, 1);
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let mut bench = Bench::new();
    let auth = InternalRaftRequest {
        auth_enable: Some(pb::AuthEnableRequest {}),
        ..Default::default()
    };
    let what = "auth_enable";
    assert_eq!(
        bench.apply(auth).result,
        Err(RequestError::Unsupported { what })
    );
    let nothing = bench.apply(InternalRaftRequest::default()).result;
    assert!(matches!(nothing, Err(RequestError::Unsupported { .. })));
    assert_eq!(bench.state.applied_index(), LogIndex(3));
}

#[test]
fn cluster_requests_become_effects() {
    let mut bench = Bench::new();
    let set = |ver: &str| InternalRaftRequest {
        cluster_version_set: Some(Box::new(membershippb::ClusterVersionSetRequest {
            ver: ver.into(),
        })),
        ..Default::default()
    };
    let applied = bench.apply(set("3.7.0"));
    assert_eq!(applied.result, Ok(Response::Empty));
    assert_eq!(
        applied.effects,
        [ApplyEffect::ClusterVersionSet {
            version: "3.7.0".into()
        }]
    );
    for odd in ["", "3", "3.7", "a.b.c", "3.7.x"] {
        let result = bench.apply(set(odd)).result;
        assert_eq!(
            result,
            Err(RequestError::Malformed {
                what: "cluster version"
            }),
            "{odd}"
        );
    }
    let downgrade_info_set = Some(Box::new(membershippb::DowngradeInfoSetRequest {
        enabled: false,
        ver: "3.6.0".into(),
    }));
    let applied = bench.apply(InternalRaftRequest {
        downgrade_info_set,
        ..Default::default()
    });
    let target = String::new();
    assert_eq!(
        applied.effects,
        [ApplyEffect::DowngradeInfoSet {
            enabled: false,
            target
        }]
    );
}

#[test]
fn checkpoints_are_stored_from_3_6_on() {
    let mut bench = Bench::new();
    bench.grant(7, 600).unwrap();
    let checkpoint = |bench: &mut Bench, remaining_ttl| {
        let checkpoints = vec![pb::LeaseCheckpoint {
            id: 7,
            remaining_ttl,
        }];
        let lease_checkpoint = Some(pb::LeaseCheckpointRequest { checkpoints });
        let before = bench.state.tail().end();
        bench.apply(InternalRaftRequest {
            lease_checkpoint,
            ..Default::default()
        });
        bench.state.tail().end() != before
    };
    assert!(!checkpoint(&mut bench, 300));
    let cluster_version_set = Some(Box::new(membershippb::ClusterVersionSetRequest {
        ver: "3.6.0".into(),
    }));
    bench.apply(InternalRaftRequest {
        cluster_version_set,
        ..Default::default()
    });
    assert!(checkpoint(&mut bench, 200));
    assert_eq!(
        bench
            .state
            .view()
            .leases()
            .get(LeaseId(7))
            .unwrap()
            .remaining_ttl(),
        200
    );
}

#[test]
fn changes_stop_before_an_entry_that_is_being_applied() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.put(key, "v", 0);
    }
    bench.grant(1, 60).unwrap();
    let all = pb::DeleteRangeRequest {
        key: b("a"),
        range_end: b("z"),
        prev_kv: false,
    };
    let delete_range = Some(all);
    let request = InternalRaftRequest {
        delete_range,
        ..Default::default()
    };
    bench.state.start(LogIndex(99), Term(1), Some(request));
    assert_eq!(bench.state.work(&mut Budget::new(1)), Progress::More);
    let seen = |bench: &Bench, from| {
        bench
            .state
            .view()
            .changes(from)
            .map(|change| change.unwrap().revision.main)
            .collect::<Vec<_>>()
    };
    assert_eq!((seen(&bench, 0), seen(&bench, 4)), (vec![2, 3, 4], vec![4]));
    while let Progress::More = bench.state.work(&mut Budget::new(1)) {}
    assert_eq!(
        (seen(&bench, 4), seen(&bench, 6)),
        (vec![4, 5, 5, 5], vec![])
    );
}

#[test]
fn previous_pairs_are_found_until_they_are_compacted() {
    let mut bench = Bench::new();
    bench.put("a", "1", 0);
    bench.put("a", "2", 0);
    bench.put("a", "3", 0);
    let value = |bench: &Bench, at| {
        bench
            .state
            .view()
            .pair_at(b"a", at)
            .unwrap()
            .map(|pair| crate::mvcc::value_of(&pair.to_bytes()))
    };
    assert_eq!(
        (value(&bench, 1), value(&bench, 2), value(&bench, 9)),
        (None, Some(b("1")), None)
    );
    bench.compact(3).unwrap();
    assert_eq!((value(&bench, 2), value(&bench, 3)), (None, Some(b("2"))));
}

#[test]
#[should_panic(expected = "entry 5 after entry 5")]
fn an_entry_is_applied_once() {
    let mut state = TestDisk::default().state(StateOptions::default());
    state.skip(LogIndex(5), Term(1));
    state.start(LogIndex(5), Term(1), None);
}
