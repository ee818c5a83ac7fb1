//! Put, Range, RangeStream, DeleteRange, Compact.

use super::*;

#[test]
fn puts() {
    let mut fixture = Fixture::new();
    let with_value = PutRequest {
        ignore_value: true,
        ..put("a", "x")
    };
    let with_lease = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("a", "x")
    };
    let missing_value = PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    let missing_lease = PutRequest {
        ignore_lease: true,
        ..put("missing", "x")
    };
    let unknown_lease = PutRequest {
        lease: NO_LEASE,
        ..put("a", "x")
    };
    let cases = [
        ("empty key", EMPTY_KEY, put("", "x")),
        (
            "empty key, then value",
            EMPTY_KEY,
            PutRequest {
                key: Bytes::new(),
                ..with_value.clone()
            },
        ),
        (
            "ignore_value with value",
            VALUE_PROVIDED,
            with_value.clone(),
        ),
        (
            "value, then lease",
            VALUE_PROVIDED,
            PutRequest {
                ignore_lease: true,
                lease: 1,
                ..with_value
            },
        ),
        ("ignore_lease with lease", LEASE_PROVIDED, with_lease),
        ("ignore_value, no key", KEY_NOT_FOUND, missing_value.clone()),
        ("ignore_lease, no key", KEY_NOT_FOUND, missing_lease),
        (
            "lease, then no key",
            LEASE_NOT_FOUND,
            PutRequest {
                lease: NO_LEASE,
                ..missing_value
            },
        ),
        ("unknown lease", LEASE_NOT_FOUND, unknown_lease.clone()),
        (
            "unknown lease, new key",
            LEASE_NOT_FOUND,
            PutRequest {
                key: "new".into(),
                ..unknown_lease
            },
        ),
        (
            "negative lease",
            LEASE_NOT_FOUND,
            PutRequest {
                lease: -1,
                ..put("a", "x")
            },
        ),
    ];
    for (case, expected, request) in cases {
        fixture.refuses_put(case, expected, request);
    }
    fixture.expect_revision(REVISION);
}

#[test]
fn requests_that_are_too_large() {
    let mut fixture = Fixture::new();
    let large = vec![b'v'; REQUEST_BYTES_MAX];
    fixture.refuses_put("value of the limit", TOO_LARGE, put("a", &large));
    fixture.refuses_put("empty key, then size", EMPTY_KEY, put("", &large));
    let leased = PutRequest {
        lease: NO_LEASE,
        ..put("a", &large)
    };
    fixture.refuses_put("size, then lease", TOO_LARGE, leased);
    let half = vec![b'v'; REQUEST_BYTES_MAX / 2];
    let both = success(vec![op(put("x", &half)), op(put("y", &half))]);
    fixture.refuses_txn("a txn of two halves", TOO_LARGE, both);
    fixture.client.put("a", &half).expect("half of it is taken");

    let huge = put("a", vec![b'v'; MESSAGE_BYTES_MAX]);
    let len = huge.encoded_len();
    let error = fixture
        .client
        .unary::<PutResponse>(PUT, &huge)
        .expect_err("beyond gRPC's limit");
    let expected =
        format!("grpc: received message larger than max ({len} vs. {MESSAGE_BYTES_MAX})");
    assert_eq!(
        error.status(),
        Some((Code::ResourceExhausted, &expected[..]))
    );
    fixture.expect_revision(REVISION + 1);
}

#[test]
fn ranges() {
    let mut fixture = Fixture::new();
    let bad_order = RangeRequest {
        sort_order: 3,
        ..get("a")
    };
    let cases = [
        ("empty key", EMPTY_KEY, get("")),
        (
            "empty key with an end",
            EMPTY_KEY,
            RangeRequest {
                range_end: "z".into(),
                ..get("")
            },
        ),
        ("sort order", INVALID_SORT, bad_order.clone()),
        (
            "sort target",
            INVALID_SORT,
            RangeRequest {
                sort_target: 5,
                ..get("a")
            },
        ),
        (
            "negative sort order",
            INVALID_SORT,
            RangeRequest {
                sort_order: -1,
                ..get("a")
            },
        ),
        (
            "empty key, then sort",
            EMPTY_KEY,
            RangeRequest {
                key: Bytes::new(),
                ..bad_order.clone()
            },
        ),
        (
            "sort, then revision",
            INVALID_SORT,
            RangeRequest {
                revision: 100,
                ..bad_order
            },
        ),
        (
            "future revision",
            FUTURE_REVISION,
            get_at("a", REVISION + 1),
        ),
        (
            "future revision, serializable",
            FUTURE_REVISION,
            RangeRequest {
                serializable: true,
                ..get_at("a", i64::MAX)
            },
        ),
    ];
    for (case, expected, request) in cases {
        fixture.refuses_range(case, expected, request);
    }
    let newest = fixture
        .client
        .range(&get_at("a", -1))
        .expect("a negative revision is the newest");
    assert_eq!(newest.kvs[0].value, "2");
    let empty = RangeRequest {
        range_end: "a".into(),
        ..get("b")
    };
    assert_eq!(
        fixture
            .client
            .range(&empty)
            .expect("an empty range is no error")
            .count,
        0
    );
}

#[test]
fn range_streams() {
    let mut fixture = Fixture::new();
    let unimplemented = |text| (Code::Unimplemented, text);
    let sort = "RangeStream does not support custom sort orders";
    let filter = "RangeStream does not support revision filters";
    let cases = [
        ("empty key", EMPTY_KEY, get("")),
        (
            "sort order",
            INVALID_SORT,
            RangeRequest {
                sort_order: 3,
                ..get("a")
            },
        ),
        (
            "descending",
            unimplemented(sort),
            RangeRequest {
                sort_order: 2,
                ..get("a")
            },
        ),
        (
            "filter",
            unimplemented(filter),
            RangeRequest {
                min_mod_revision: 1,
                ..get("a")
            },
        ),
        (
            "sort, then filter",
            unimplemented(sort),
            RangeRequest {
                sort_order: 2,
                max_create_revision: 1,
                ..get("a")
            },
        ),
        ("future revision", FUTURE_REVISION, get_at("a", 100)),
    ];
    for (case, expected, request) in cases {
        fixture.refuses(case, expected, |client| {
            let call = client.start(RANGE_STREAM)?;
            client.send(call, &request);
            client.half_close(call);
            client.next::<RangeStreamResponse>(call).map(drop)
        });
    }
}

#[test]
fn deletes() {
    let mut fixture = Fixture::new();
    let with_end = delete_range("", OPEN_END);
    for request in [delete(""), with_end] {
        fixture.refuses("empty key", EMPTY_KEY, |client| {
            client.delete_range(&request).map(drop)
        });
    }
    let none = fixture
        .client
        .delete_range(&delete("missing"))
        .expect("no error");
    assert_eq!(none.deleted, 0);
    fixture.expect_revision(REVISION);
}

#[test]
fn compaction() {
    let mut fixture = Fixture::new();
    for (revision, expected) in [
        (REVISION + 1, FUTURE_REVISION),
        (i64::MAX, FUTURE_REVISION),
        (-1, COMPACTED),
    ] {
        fixture.refuses("compaction", expected, |client| {
            client.compact(revision).map(drop)
        });
    }
    // A fresh store counts as compacted at -1.
    fixture.client.compact(0).expect("once");
    fixture.refuses("0 again", COMPACTED, |client| client.compact(0).map(drop));
    fixture.client.compact(3).expect("revision 3 exists");
    for revision in [3, 2, 0, -1] {
        fixture.refuses("a second time", COMPACTED, |client| {
            client.compact(revision).map(drop)
        });
    }
    fixture.refuses_range("below", COMPACTED, get_at("a", 2));
    let in_txn = success(vec![op(put("n", "x")), op(get_at("a", 2))]);
    fixture.refuses_txn("below, in a txn", COMPACTED, in_txn);
    let at = fixture
        .client
        .range(&get_at("a", 3))
        .expect("the compacted revision itself is kept");
    assert_eq!(at.kvs[0].value, "2");
    fixture.expect_revision(REVISION);
}
