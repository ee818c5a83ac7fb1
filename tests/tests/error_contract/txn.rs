//! Txn: shape, doubles, nesting, execution.

use super::*;

#[test]
fn txn_shape() {
    let mut fixture = Fixture::new();
    let keyless = Compare {
        key: Bytes::new(),
        ..modified_at("", 0)
    };
    let unset = RequestOp { request: None };
    let empty_put = || op(put("", ""));
    let compares = |count| vec![modified_at("a", 0); count];
    let cases = [
        ("129 in success", TOO_MANY_OPS, success(many(129))),
        (
            "129 in failure",
            TOO_MANY_OPS,
            txn(vec![], vec![], many(129)),
        ),
        (
            "129 compares",
            TOO_MANY_OPS,
            txn(compares(129), vec![], vec![]),
        ),
        (
            "count, then keys",
            TOO_MANY_OPS,
            txn(vec![keyless.clone(); 129], vec![empty_put()], vec![]),
        ),
        (
            "compare without key",
            EMPTY_KEY,
            txn(vec![keyless.clone()], vec![], vec![]),
        ),
        (
            "compares, then ops",
            EMPTY_KEY,
            txn(vec![keyless], vec![unset.clone()], vec![]),
        ),
        ("put without key", EMPTY_KEY, success(vec![empty_put()])),
        ("range without key", EMPTY_KEY, success(vec![op(get(""))])),
        (
            "delete without key",
            EMPTY_KEY,
            success(vec![op(delete(""))]),
        ),
        ("unset op", KEY_NOT_FOUND, success(vec![unset.clone()])),
        (
            "unset op in the branch not taken",
            KEY_NOT_FOUND,
            txn(vec![], vec![], vec![unset.clone()]),
        ),
        (
            "success, then failure",
            KEY_NOT_FOUND,
            txn(vec![], vec![unset.clone()], vec![empty_put()]),
        ),
        ("ops in order", EMPTY_KEY, success(vec![empty_put(), unset])),
        (
            "bad sort order in a range",
            INVALID_SORT,
            success(vec![op(RangeRequest {
                sort_order: 9,
                ..get("a")
            })]),
        ),
        (
            "ignore_value with value",
            VALUE_PROVIDED,
            success(vec![op(PutRequest {
                ignore_value: true,
                ..put("a", "x")
            })]),
        ),
        (
            "keys, then doubles",
            EMPTY_KEY,
            success(vec![op(put("k", "")), op(put("k", "")), empty_put()]),
        ),
    ];
    for (case, expected, request) in cases {
        fixture.refuses_txn(case, expected, request);
    }
    fixture.expect_revision(REVISION);
    fixture
        .client
        .txn(&success(many(128)))
        .expect("128 are taken");
    fixture.expect_revision(REVISION + 1);
}

#[test]
fn txn_doubles() {
    let mut fixture = Fixture::new();
    let put = |key| op(put(key, "x"));
    let range_delete = || op(delete_range("k", "m"));
    let cases = [
        ("two puts", success(vec![put("k"), put("k")])),
        (
            "put in a deleted range",
            success(vec![range_delete(), put("l")]),
        ),
        (
            "put before the delete",
            success(vec![put("l"), range_delete()]),
        ),
        (
            "put of a deleted key",
            success(vec![op(delete("k")), put("k")]),
        ),
        ("in failure", txn(vec![], vec![], vec![put("k"), put("k")])),
        (
            "with a nested put",
            success(vec![put("k"), op(success(vec![put("k")]))]),
        ),
        (
            "with a nested delete",
            success(vec![put("k"), op(success(vec![range_delete()]))]),
        ),
        (
            "in two nested txns",
            success(vec![
                op(success(vec![put("k")])),
                op(success(vec![put("k")])),
            ]),
        ),
        (
            "inside a nested txn",
            success(vec![op(success(vec![put("k"), put("k")]))]),
        ),
    ];
    for (case, request) in cases {
        fixture.refuses_txn(case, DUPLICATE_KEY, request);
    }
    fixture.expect_revision(REVISION);
    let allowed = [
        (
            "one put per branch",
            txn(vec![], vec![put("k")], vec![put("k")]),
        ),
        (
            "branches of a nested txn",
            success(vec![op(txn(vec![], vec![put("k")], vec![put("k")]))]),
        ),
        ("two deletes", success(vec![range_delete(), range_delete()])),
        (
            "the end is exclusive",
            success(vec![range_delete(), put("m")]),
        ),
    ];
    for (case, request) in allowed {
        fixture.client.txn(&request).expect(case);
    }
}

#[test]
fn txn_nesting() {
    let mut fixture = Fixture::new();
    // Each level leaves one operation less to the next.
    let cases = [
        ("127 below one", TOO_MANY_OPS, nested(1, many(128))),
        ("100 at depth 30", TOO_MANY_OPS, nested(30, many(100))),
        (
            "unset op inside",
            KEY_NOT_FOUND,
            nested(5, vec![RequestOp { request: None }]),
        ),
        (
            "empty key inside",
            EMPTY_KEY,
            nested(5, vec![op(put("", ""))]),
        ),
    ];
    for (case, expected, request) in cases {
        fixture.refuses_txn(case, expected, request);
    }
    fixture.expect_revision(REVISION);
    fixture
        .client
        .txn(&nested(1, many(127)))
        .expect("127 are taken");
    fixture
        .client
        .txn(&nested(20, many(3)))
        .expect("a deep one is taken");
}

#[test]
fn txn_execution() {
    let mut fixture = Fixture::new();
    let unknown_lease = PutRequest {
        lease: NO_LEASE,
        ..put("n", "x")
    };
    let missing = PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    let put_n = || op(put("n", "x"));
    let cases = [
        (
            "future revision, read only",
            FUTURE_REVISION,
            success(vec![op(get_at("a", 100))]),
        ),
        (
            "future revision beside a put",
            FUTURE_REVISION,
            success(vec![put_n(), op(get_at("a", 100))]),
        ),
        (
            "unknown lease",
            LEASE_NOT_FOUND,
            success(vec![op(unknown_lease.clone())]),
        ),
        (
            "unknown lease after a put",
            LEASE_NOT_FOUND,
            success(vec![op(put("other", "x")), op(unknown_lease.clone())]),
        ),
        (
            "ignore_value, no key",
            KEY_NOT_FOUND,
            success(vec![op(missing.clone())]),
        ),
        (
            "lease, then no key",
            LEASE_NOT_FOUND,
            success(vec![op(PutRequest {
                lease: NO_LEASE,
                ..missing.clone()
            })]),
        ),
        (
            "nested",
            LEASE_NOT_FOUND,
            nested(3, vec![op(unknown_lease.clone())]),
        ),
    ];
    for (case, expected, request) in cases {
        fixture.refuses_txn(case, expected, request);
    }
    fixture.expect_revision(REVISION);
    let not_taken = txn(vec![], vec![put_n()], vec![op(unknown_lease), op(missing)]);
    let answer = fixture
        .client
        .txn(&not_taken)
        .expect("only the taken branch is checked");
    assert!(answer.succeeded);
}
