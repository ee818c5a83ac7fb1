//! Leases, watches, and what no service takes.

use super::*;

#[test]
fn leases() {
    let mut fixture = Fixture::new();
    let revoke = |client: &mut Client| {
        let request = LeaseRevokeRequest { id: NO_LEASE };
        client
            .unary::<LeaseRevokeResponse>(LEASE_REVOKE, &request)
            .map(drop)
    };
    fixture.refuses("revoke", LEASE_NOT_FOUND, revoke);
    fixture.client.lease_grant(60, 7).expect("a new lease");
    fixture.refuses("again", LEASE_EXISTS, |client| {
        client.lease_grant(60, 7).map(drop)
    });
    let too_large = 9_000_000_001;
    for id in [7, 8] {
        let grant = |client: &mut Client| client.lease_grant(too_large, id).map(drop);
        fixture.refuses("TTL, then ID", LEASE_TTL_TOO_LARGE, grant);
    }

    let request = LeaseTimeToLiveRequest {
        id: NO_LEASE,
        keys: true,
    };
    let answer = fixture
        .client
        .unary::<LeaseTimeToLiveResponse>(LEASE_TIME_TO_LIVE, &request);
    assert_eq!(answer.expect("an unknown lease is an answer").ttl, -1);
    fixture.expect_revision(REVISION);
}

#[test]
fn keep_alive_of_an_unknown_lease() {
    let mut fixture = Fixture::new();
    let call = fixture.client.start(LEASE_KEEP_ALIVE).expect("a call");
    fixture
        .client
        .send(call, &LeaseKeepAliveRequest { id: NO_LEASE });
    let answer = fixture
        .client
        .next::<LeaseKeepAliveResponse>(call)
        .expect("no error")
        .expect("one");
    assert_eq!(
        (answer.id, answer.ttl),
        (NO_LEASE, 0),
        "an unknown lease is an answer"
    );
    fixture.client.cancel(call);
}

/// A watch is refused by an answer, and its stream lives on.
#[test]
fn watches() {
    let mut fixture = Fixture::new();
    fixture.client.compact(3).expect("revision 3 exists");
    let client = &mut fixture.client;
    let call = client.start(WATCH).expect("a call");
    let mut create = |request: WatchCreateRequest| -> WatchResponse {
        let union = watch_request::RequestUnion::CreateRequest(request);
        client.send(
            call,
            &WatchRequest {
                request_union: Some(union),
            },
        );
        client
            .next(call)
            .expect("the stream lives")
            .expect("the stream goes on")
    };
    let watch = |key: &str| WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..WatchCreateRequest::default()
    };
    let refused = [
        (
            WatchCreateRequest {
                start_revision: -1,
                ..watch("a")
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            WatchCreateRequest {
                range_end: "a".into(),
                ..watch("b")
            },
            "mvcc: watcher range is empty",
        ),
        (
            WatchCreateRequest {
                range_end: "b".into(),
                ..watch("b")
            },
            "mvcc: watcher range is empty",
        ),
    ];
    for (request, reason) in refused {
        let answer = create(request);
        assert!(answer.created && answer.canceled, "{answer:?}");
        assert_eq!((&answer.cancel_reason[..], answer.watch_id), (reason, -1));
    }
    let accepted = create(WatchCreateRequest {
        watch_id: 5,
        ..watch("a")
    });
    assert!(
        accepted.created && !accepted.canceled && accepted.watch_id == 5,
        "{accepted:?}"
    );
    let double = create(WatchCreateRequest {
        watch_id: 5,
        ..watch("b")
    });
    assert_eq!(
        double.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    assert_eq!(
        (double.created, double.canceled, double.watch_id),
        (true, true, -1)
    );

    let compacted = create(WatchCreateRequest {
        watch_id: 6,
        start_revision: 2,
        ..watch("a")
    });
    assert!(compacted.created && !compacted.canceled, "{compacted:?}");
    let end: WatchResponse = client
        .next(call)
        .expect("the stream lives")
        .expect("goes on");
    assert_eq!(
        (end.canceled, end.compact_revision, end.watch_id),
        (true, 3, 6)
    );
    assert_eq!(end.cancel_reason, "");

    let cancel = watch_request::RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 5 });
    client.send(
        call,
        &WatchRequest {
            request_union: Some(cancel),
        },
    );
    let end: WatchResponse = client
        .next(call)
        .expect("the stream lives")
        .expect("goes on");
    assert_eq!(
        (end.canceled, end.watch_id, &end.cancel_reason[..]),
        (true, 5, "")
    );
}

#[test]
fn unknown_methods_and_bad_metadata() {
    let mut fixture = Fixture::new();
    for (method, text) in [
        (
            "/etcdserverpb.KV/Foo",
            "unknown method Foo for service etcdserverpb.KV",
        ),
        ("/no.Such/Method", "unknown service no.Such"),
    ] {
        fixture.refuses(method, (Code::Unimplemented, text), |client| {
            client.unary::<RangeResponse>(method, &get("a")).map(drop)
        });
    }
    let error = fixture
        .client
        .unary_bytes::<RangeResponse>(RANGE, Bytes::from_static(b"\x0a\x7fa"));
    let status = error.expect_err("a request cut short");
    assert_eq!(
        status.status().map(|(code, _)| code),
        Some(Code::Internal),
        "{status}"
    );
    fixture
        .client
        .range(&get("a"))
        .expect("the connection lives on");
}
