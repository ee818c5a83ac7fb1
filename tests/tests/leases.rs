//! Leases over the wire: keep-alive streams, lists, expiry in crowds, remaining times after a restart.
//!
//! Both shards of the program are asked. `ETCORE_STAMPEDE_LEASES` (20,000) leases end in the same second while keep-alives
//! of others go on.

use std::time::{Duration, Instant};

use net::CallId;
use net::grpc::Code;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest,
};
use tempfile::TempDir;
use tests::api::{self, get, put, revision_of};
use tests::client::{CallError, Client};
use tests::process::{Options, Process};
use tests::random::env_number;

/// What a server may take to get rid of what ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls under way at once while many leases are granted.
const WINDOW: usize = 512;

fn options(dir: &TempDir) -> Options {
    Options::new(dir.path().join("data")).two_shards()
}

fn time_to_live(client: &mut Client, id: i64) -> LeaseTimeToLiveResponse {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    client
        .unary(api::LEASE_TIME_TO_LIVE, &request)
        .expect("an answer")
}

fn list(client: &mut Client) -> Vec<i64> {
    let answer: LeaseLeasesResponse = client
        .unary(api::LEASE_LEASES, &LeaseLeasesRequest {})
        .expect("an answer");
    assert!(answer.header.is_some());
    answer.leases.iter().map(|lease| lease.id).collect()
}

fn next(client: &mut Client, call: CallId) -> LeaseKeepAliveResponse {
    let answer = client.next(call).expect("the stream lives");
    answer.expect("the stream goes on")
}

#[test]
fn streams_answer_in_order_from_both_shards_and_end_with_the_client() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    for client in &mut process.connect_both() {
        let first = client.lease_grant(100, 0).expect("a lease");
        let second = client.lease_grant(5, 0).expect("a lease");
        let call = client.start(api::LEASE_KEEP_ALIVE).expect("a call");
        // More than the server takes from a client that does not read.
        const COUNT: usize = 20_000;
        for _ in 0..COUNT {
            for id in [first.id, 77, second.id] {
                client.send(call, &LeaseKeepAliveRequest { id });
            }
        }
        for _ in 0..COUNT {
            for (id, ttl) in [(first.id, 100), (77, 0), (second.id, 5)] {
                let answer = next(client, call);
                assert_eq!((answer.id, answer.ttl), (id, ttl));
                assert_eq!(revision_of(answer.header), 1);
            }
        }
        client.half_close(call);
        let end: Option<LeaseKeepAliveResponse> = client.next(call).expect("a good end");
        assert!(end.is_none());
        for id in [first.id, second.id] {
            let _: LeaseRevokeResponse = client
                .unary(api::LEASE_REVOKE, &LeaseRevokeRequest { id })
                .expect("revoked");
        }
    }
    process.stop();
}

#[test]
fn a_lease_that_ran_out_takes_its_keys_along() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let [mut client, mut other] = process.connect_both();
    let lease = client.lease_grant(1, 0).expect("a lease");
    assert_eq!(lease.ttl, 2, "the shortest");
    let request = PutRequest {
        lease: lease.id,
        ..put("k", "v")
    };
    let _: proto::etcdserverpb::PutResponse = client.unary(api::PUT, &request).expect("put");
    let keys = time_to_live(&mut other, lease.id).keys;
    assert_eq!(keys, ["k"]);
    let deadline = Instant::now() + PATIENCE;
    while client.range(&get("k")).expect("an answer").count > 0 {
        assert!(Instant::now() < deadline, "the lease never ended");
    }
    let call = other.start(api::LEASE_KEEP_ALIVE).expect("a call");
    other.send(call, &LeaseKeepAliveRequest { id: lease.id });
    assert_eq!(next(&mut other, call).ttl, 0);
    assert_eq!(time_to_live(&mut client, lease.id).ttl, -1);
    other.cancel(call);
    process.stop();
}

#[test]
fn a_list_names_the_soonest_first_and_a_restart_gives_the_time_again() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let [mut client, mut other] = process.connect_both();
    for (id, ttl) in [(1, 300), (2, 100), (3, 200)] {
        client.lease_grant(ttl, id).expect("a lease");
    }
    assert_eq!(list(&mut client), [2, 3, 1]);
    let call = client.start(api::LEASE_KEEP_ALIVE).expect("a call");
    client.send(call, &LeaseKeepAliveRequest { id: 2 });
    next(&mut client, call);
    assert_eq!(list(&mut other), [2, 3, 1]);

    let killed = process.kill();
    let process = Process::start(killed);
    let [mut client, _] = process.connect_both();
    assert_eq!(list(&mut client), [2, 3, 1]);
    for (id, granted) in [(1, 300), (2, 100), (3, 200)] {
        let answer = time_to_live(&mut client, id);
        assert_eq!(answer.granted_ttl, granted);
        // The whole time, one election timeout, less what passed since the start.
        let most = granted + 1;
        let least = granted - 30;
        assert!(
            (least..=most).contains(&answer.ttl),
            "{id}: {} of {granted}",
            answer.ttl
        );
    }
    process.stop();
}

#[test]
fn a_stop_ends_streams_at_once() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let [mut client, mut other] = process.connect_both();
    let calls = [&mut client, &mut other].map(|client| {
        let call = client.start(api::LEASE_KEEP_ALIVE).expect("a call");
        client.send(call, &LeaseKeepAliveRequest { id: 7 });
        next(client, call);
        call
    });
    let begun = Instant::now();
    process.stop();
    let took = begun.elapsed();
    // Calls under way may take ten seconds at a graceful end.
    assert!(took < Duration::from_secs(8), "{took:?}");
    for (client, call) in [&mut client, &mut other].into_iter().zip(calls) {
        let end = client.next::<LeaseKeepAliveResponse>(call);
        match end {
            Err(CallError::Status(status)) => assert_eq!(status.code, Code::Unavailable),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_crowd_that_ends_together_is_gone_soon_while_others_are_kept_alive() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let [mut client, mut other] = process.connect_both();
    let count = env_number("ETCORE_STAMPEDE_LEASES", 20_000) as i64;
    other.lease_grant(3, 1).expect("a lease");
    let call = other.start(api::LEASE_KEEP_ALIVE).expect("a call");
    let mut keep_alive = || -> Duration {
        let asked = Instant::now();
        other.send(call, &LeaseKeepAliveRequest { id: 1 });
        let answer = next(&mut other, call);
        assert_eq!(answer.ttl, 3, "a living lease was lost");
        asked.elapsed()
    };
    // All end in the same second, however long granting takes; about 20,000 a second are granted where nobody else works.
    let begun = Instant::now();
    let end = Duration::from_secs(6 + count as u64 / 4000);
    let mut calls = std::collections::VecDeque::new();
    let mut slowest = Duration::ZERO;
    for id in 0..count {
        let left = end.saturating_sub(begun.elapsed()).as_secs();
        assert!(left > 2, "granting takes too long for this test");
        let request = LeaseGrantRequest {
            ttl: left as i64,
            id: 1000 + id,
        };
        let call = client.start(api::LEASE_GRANT).expect("a call");
        client.send(call, &request);
        client.half_close(call);
        calls.push_back(call);
        if calls.len() >= WINDOW {
            let call = calls.pop_front().expect("one was just pushed");
            client
                .next::<proto::etcdserverpb::LeaseGrantResponse>(call)
                .expect("granted");
            client.cancel(call);
        }
        if id % 1000 == 0 {
            slowest = slowest.max(keep_alive());
        }
    }
    for call in calls {
        client
            .next::<proto::etcdserverpb::LeaseGrantResponse>(call)
            .expect("granted");
    }
    while begun.elapsed() < end {
        slowest = slowest.max(keep_alive());
    }
    let ended = Instant::now();
    let mut beside = Duration::ZERO;
    // The last one of the crowd, then all of them.
    loop {
        beside = beside.max(keep_alive());
        let is_last_gone = time_to_live(&mut client, 1000 + count - 1).ttl == -1;
        if is_last_gone && list(&mut client) == [1] {
            break;
        }
        assert!(ended.elapsed() < PATIENCE, "leases are left");
    }
    let took = ended.elapsed();
    println!(
        "{count} leases gone {took:?} after their end; slowest keep-alive {slowest:?} before, {beside:?} meanwhile"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    process.stop();
}
