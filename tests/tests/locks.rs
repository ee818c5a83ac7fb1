//! Lock and Election over the wire, on both shards of the program: who gets what in which order, what is left behind by
//! those who leave, and every refusal. All but what names etcore passes against the real etcd too.

use std::time::{Duration, Instant};

use net::CallId;
use net::grpc::Code;
use proto::etcdserverpb::{
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use proto::health::health_check_response::ServingStatus;
use proto::health::{HealthCheckRequest, HealthCheckResponse};
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tempfile::TempDir;
use tests::api::{self, get, revision_of};
use tests::client::{CallError, Client};
use tests::http;
use tests::process::{Options, Process, is_etcore};
use tests::random::env_number;

const LOCK: &str = "/v3lockpb.Lock/Lock";
const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
const LEADER: &str = "/v3electionpb.Election/Leader";
const OBSERVE: &str = "/v3electionpb.Election/Observe";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const RESIGN: &str = "/v3electionpb.Election/Resign";

/// For something that the server does by itself, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const EMPTY_KEY: &str = "etcdserver: key is not provided";

/// A server, and one client on each of its shards.
struct Fixture {
    _dir: TempDir,
    process: Process,
    clients: [Client; 2],
}

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options = Options::new(dir.path().join("data"));
        let process = Process::start(match is_etcore() {
            true => options.two_shards(),
            false => options,
        });
        let clients = process.connect_both();
        Fixture {
            _dir: dir,
            process,
            clients,
        }
    }

    fn client(&mut self) -> &mut Client {
        &mut self.clients[0]
    }

    fn lease(&mut self, id: i64) {
        self.client().lease_grant(1000, id).expect("a lease");
    }

    fn revoke(&mut self, id: i64) {
        let request = LeaseRevokeRequest { id };
        let _: LeaseRevokeResponse = self
            .client()
            .unary(api::LEASE_REVOKE, &request)
            .expect("revoked");
    }

    /// Asks for the keys below a name until they are these, in the order of their names.
    fn await_keys(&mut self, name: &str, keys: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        let request = proto::etcdserverpb::RangeRequest {
            range_end: format!("{name}0").into(),
            keys_only: true,
            ..get(format!("{name}/"))
        };
        loop {
            let answer = self.client().range(&request).expect("an answer");
            let there: Vec<_> = answer.kvs.iter().map(|kv| kv.key.clone()).collect();
            if there == keys {
                return;
            }
            assert!(Instant::now() < deadline, "{there:?}, not {keys:?}");
        }
    }

    fn lock(&mut self, shard: usize, name: &str, lease: i64) -> LockResponse {
        let answer = self.clients[shard].unary(LOCK, &lock(name, lease));
        answer.expect("the lock")
    }

    fn unlock(&mut self, key: &str) -> i64 {
        let key = key.to_owned().into();
        let answer: UnlockResponse = self
            .client()
            .unary(UNLOCK, &UnlockRequest { key })
            .expect("unlocked");
        revision_of(answer.header)
    }

    /// Begins a call with one request, and waits for nothing.
    fn begin(&mut self, shard: usize, method: &str, request: &impl prost::Message) -> CallId {
        begin(&mut self.clients[shard], method, request)
    }

    fn refusal<A: prost::Message + Default + std::fmt::Debug>(
        &mut self,
        method: &str,
        request: &impl prost::Message,
    ) -> String {
        text(self.client().unary::<A>(method, request))
    }
}

fn begin(client: &mut Client, method: &str, request: &impl prost::Message) -> CallId {
    let call = client.start(method).expect("a call");
    client.send(call, request);
    client.half_close(call);
    client.flush().expect("the socket lives");
    call
}

/// The one answer of a call that was begun.
fn answer<A: prost::Message + Default>(client: &mut Client, call: CallId) -> A {
    let answer = client.next(call).expect("an answer");
    answer.expect("an answer before the end")
}

/// The text of a refusal, whose code is Unknown as of all that these services refuse.
fn text<A: std::fmt::Debug>(answer: Result<A, CallError>) -> String {
    let error = answer.expect_err("a refusal");
    let (code, text) = error.status().expect("an answer");
    assert_eq!(code, Code::Unknown, "{text}");
    text.to_owned()
}

fn lock(name: &str, lease: i64) -> LockRequest {
    LockRequest {
        name: name.to_owned().into(),
        lease,
    }
}

fn campaign(name: &str, lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest {
        name: name.to_owned().into(),
        lease,
        value: value.to_owned().into(),
    }
}

fn of(name: &str) -> LeaderRequest {
    LeaderRequest {
        name: name.to_owned().into(),
    }
}

#[test]
fn a_lock_goes_to_those_who_wait_in_their_order() {
    let mut fixture = Fixture::new();
    for lease in [10, 11, 12, 13] {
        fixture.lease(lease);
    }
    let first = fixture.lock(0, "l", 10);
    assert_eq!((&*first.key, revision_of(first.header)), (&b"l/a"[..], 2));
    // The same lease has it already.
    let again = fixture.lock(1, "l", 10);
    assert_eq!((&*again.key, revision_of(again.header)), (&b"l/a"[..], 2));
    // On both shards, each behind the other.
    let second = fixture.begin(1, LOCK, &lock("l", 11));
    fixture.await_keys("l", &["l/a", "l/b"]);
    let third = fixture.begin(0, LOCK, &lock("l", 12));
    fixture.await_keys("l", &["l/a", "l/b", "l/c"]);
    let fourth = fixture.begin(1, LOCK, &lock("l", 13));
    fixture.await_keys("l", &["l/a", "l/b", "l/c", "l/d"]);
    // Another name is another lock.
    assert_eq!(fixture.lock(1, "l/a", 13).key, "l/a/d");

    assert_eq!(fixture.unlock("l/a"), 7);
    let got: LockResponse = answer(&mut fixture.clients[1], second);
    assert_eq!((&*got.key, revision_of(got.header)), (&b"l/b"[..], 7));
    // Somebody in the middle goes, then the one in front of him.
    fixture.revoke(12);
    fixture.await_keys("l", &["l/a/d", "l/b", "l/d"]);
    fixture.unlock("l/b");
    let got: LockResponse = answer(&mut fixture.clients[1], fourth);
    assert_eq!((&*got.key, revision_of(got.header)), (&b"l/d"[..], 9));
    let lost = fixture.clients[0].next::<LockResponse>(third);
    assert_eq!(text(lost), "mutex: session is expired");
    fixture.process.stop();
}

#[test]
fn who_leaves_while_waiting_leaves_no_key() {
    let mut fixture = Fixture::new();
    for lease in [1, 2, 3, 4] {
        fixture.lease(lease);
    }
    fixture.lock(0, "l", 1);
    let elected: CampaignResponse = fixture.clients[1]
        .unary(CAMPAIGN, &campaign("e", 1, "v"))
        .expect("elected");
    assert_eq!(elected.leader.expect("a leader").key, "e/1");
    for shard in [0, 1] {
        // A call that is cancelled, and a connection that is lost.
        let calls = [
            fixture.begin(shard, LOCK, &lock("l", 2)),
            fixture.begin(shard, CAMPAIGN, &campaign("e", 2, "v")),
        ];
        let mut others = fixture.process.connect_both();
        begin(&mut others[shard], LOCK, &lock("l", 3));
        begin(&mut others[shard], CAMPAIGN, &campaign("e", 3, "v"));
        fixture.await_keys("l", &["l/1", "l/2", "l/3"]);
        fixture.await_keys("e", &["e/1", "e/2", "e/3"]);
        for call in calls {
            fixture.clients[shard].cancel(call);
        }
        fixture.clients[shard].flush().expect("the socket lives");
        fixture.await_keys("l", &["l/1", "l/3"]);
        fixture.await_keys("e", &["e/1", "e/3"]);
        drop(others);
        fixture.await_keys("l", &["l/1"]);
        fixture.await_keys("e", &["e/1"]);
    }
    fixture.process.stop();
}

#[test]
fn without_a_lease_the_server_grants_one_of_a_minute() {
    let mut fixture = Fixture::new();
    let mut keys = Vec::new();
    for shard in [0, 1] {
        let locked = fixture.lock(shard, "l", 0);
        let key = String::from_utf8(locked.key.to_vec()).expect("ASCII");
        let id = key.strip_prefix("l/").expect("the name");
        let request = LeaseTimeToLiveRequest {
            id: i64::from_str_radix(id, 16).expect("a lease"),
            keys: true,
        };
        let lease: LeaseTimeToLiveResponse = fixture
            .client()
            .unary(api::LEASE_TIME_TO_LIVE, &request)
            .expect("an answer");
        assert_eq!(lease.granted_ttl, 60);
        assert_eq!(lease.keys, [locked.key]);
        fixture.unlock(&key);
        keys.push(key);
    }
    assert_ne!(keys[0], keys[1]);
    fixture.process.stop();
}

#[test]
fn refusals_have_etcds_texts() {
    let mut fixture = Fixture::new();
    let unlock = |key: &str| UnlockRequest {
        key: key.to_owned().into(),
    };
    let leader = |key: &str, rev, lease| {
        Some(LeaderKey {
            name: "e".into(),
            key: key.to_owned().into(),
            rev,
            lease,
        })
    };
    assert_eq!(
        fixture.refusal::<LockResponse>(LOCK, &lock("l", 77)),
        LEASE_NOT_FOUND
    );
    assert_eq!(
        fixture.refusal::<UnlockResponse>(UNLOCK, &unlock("")),
        EMPTY_KEY
    );
    // There was none, and nothing was changed.
    assert_eq!(fixture.unlock("l/4d"), 1);
    let unknown = campaign("e", 77, "v");
    assert_eq!(
        fixture.refusal::<CampaignResponse>(CAMPAIGN, &unknown),
        LEASE_NOT_FOUND
    );
    assert_eq!(
        fixture.refusal::<LeaderResponse>(LEADER, &of("e")),
        "election: no leader"
    );
    let missing = "\"leader\" field must be provided";
    let proclaim = |leader| ProclaimRequest {
        leader,
        value: "v".into(),
    };
    assert_eq!(
        fixture.refusal::<ProclaimResponse>(PROCLAIM, &proclaim(None)),
        missing
    );
    let nobody = proclaim(leader("e/1", 5, 1));
    assert_eq!(
        fixture.refusal::<ProclaimResponse>(PROCLAIM, &nobody),
        "election: not leader"
    );
    let empty = proclaim(leader("", 5, 1));
    assert_eq!(
        fixture.refusal::<ProclaimResponse>(PROCLAIM, &empty),
        EMPTY_KEY
    );
    let resign = |leader| ResignRequest { leader };
    assert_eq!(
        fixture.refusal::<ResignResponse>(RESIGN, &resign(None)),
        missing
    );
    // Nobody to resign is no error.
    let resigned: ResignResponse = fixture
        .client()
        .unary(RESIGN, &resign(leader("e/1", 5, 1)))
        .expect("an answer");
    assert_eq!(revision_of(resigned.header), 1);
    // It is not stopped but killed: etcd waits long for the sessions that it made of unknown leases.
}

#[test]
fn an_election_is_seen_by_who_observes_it() {
    let mut fixture = Fixture::new();
    for lease in [1, 2] {
        fixture.lease(lease);
    }
    let seen = |fixture: &mut Fixture, call| {
        let told: LeaderResponse = answer(&mut fixture.clients[1], call);
        let pair = told.kv.expect("a leader");
        let revision = revision_of(told.header);
        assert!(revision >= pair.mod_revision);
        (pair.key, pair.value)
    };
    // One begins before there is a leader.
    let early = fixture.begin(1, OBSERVE, &of("e"));
    let won: CampaignResponse = fixture
        .client()
        .unary(CAMPAIGN, &campaign("e", 1, "one"))
        .expect("elected");
    let first = won.leader.expect("a leader");
    assert_eq!(
        (&*first.name, &*first.key, first.rev, first.lease),
        (&b"e"[..], &b"e/1"[..], 2, 1)
    );
    assert_eq!(seen(&mut fixture, early), ("e/1".into(), "one".into()));
    let late = fixture.begin(1, OBSERVE, &of("e"));
    assert_eq!(seen(&mut fixture, late), ("e/1".into(), "one".into()));

    let proclaimed: ProclaimResponse = fixture
        .client()
        .unary(
            PROCLAIM,
            &ProclaimRequest {
                leader: Some(first.clone()),
                value: "two".into(),
            },
        )
        .expect("proclaimed");
    assert_eq!(revision_of(proclaimed.header), 3);
    // Who campaigns again with the same lease proclaims, and the first revision is his still.
    let again: CampaignResponse = fixture
        .client()
        .unary(CAMPAIGN, &campaign("e", 1, "three"))
        .expect("elected");
    assert_eq!(again.leader.as_ref(), Some(&first));
    for call in [early, late] {
        assert_eq!(seen(&mut fixture, call), ("e/1".into(), "two".into()));
        assert_eq!(seen(&mut fixture, call), ("e/1".into(), "three".into()));
    }
    let told: LeaderResponse = fixture.client().unary(LEADER, &of("e")).expect("an answer");
    assert_eq!(told.kv.map(|pair| pair.value), Some("three".into()));

    let second = fixture.begin(0, CAMPAIGN, &campaign("e", 2, "four"));
    fixture.await_keys("e", &["e/1", "e/2"]);
    let _: ResignResponse = fixture
        .client()
        .unary(
            RESIGN,
            &ResignRequest {
                leader: Some(first),
            },
        )
        .expect("resigned");
    let won: CampaignResponse = answer(&mut fixture.clients[0], second);
    let key = won.leader.map(|leader| leader.key);
    assert_eq!(key, Some("e/2".into()));
    for call in [early, late] {
        assert_eq!(seen(&mut fixture, call), ("e/2".into(), "four".into()));
    }
    // A name that is the beginning of another is not that other.
    let other: LeaderResponse = {
        let _: CampaignResponse = fixture
            .client()
            .unary(CAMPAIGN, &campaign("e/2", 1, "five"))
            .expect("elected");
        fixture.client().unary(LEADER, &of("e")).expect("an answer")
    };
    assert_eq!(other.kv.map(|pair| pair.key), Some("e/2".into()));
    fixture.clients[1].cancel(early);
    fixture.clients[1].cancel(late);
    fixture.process.stop();
}

/// `ETCORE_LOCK_WAITERS` (500) calls wait on both shards: what they cost, and that all end with their clients or get
/// the lock one after the other.
#[test]
fn a_crowd_that_waits_is_served_in_turn_and_leaves_nothing() {
    if !is_etcore() {
        return;
    }
    let mut fixture = Fixture::new();
    let count = env_number("ETCORE_LOCK_WAITERS", 500) as i64;
    for lease in 0..=count {
        fixture.lease(100_000 + lease);
    }
    fixture.lock(0, "l", 100_000);
    let before = fixture.process.allocated_bytes();
    let mut calls = Vec::new();
    for lease in 1..=count {
        let shard = (lease % 2) as usize;
        let name = if lease % 20 == 0 { "l" } else { "other" };
        if lease == 1 {
            fixture.lock(0, "other", 100_000);
        }
        calls.push((
            shard,
            name,
            fixture.begin(shard, LOCK, &lock(name, 100_000 + lease)),
        ));
    }
    await_gauge(&fixture, "etcd_debugging_mvcc_watcher_total", count as u64);
    let each = fixture.process.allocated_bytes().saturating_sub(before) / count as u64;
    println!("a waiting lock takes {each} bytes");
    assert!(each < 16 * 1024, "{each} bytes for each");
    // One after the other; those of the other name leave.
    let mut held = "l/186a0".to_owned();
    for (shard, _, call) in calls.iter().filter(|(_, name, _)| *name == "l") {
        fixture.unlock(&held);
        let got: LockResponse = answer(&mut fixture.clients[*shard], *call);
        held = String::from_utf8(got.key.to_vec()).expect("ASCII");
    }
    for (shard, _, call) in calls.iter().filter(|(_, name, _)| *name == "other") {
        fixture.clients[*shard].cancel(*call);
    }
    fixture.clients[1].flush().expect("the socket lives");
    fixture.await_keys("other", &["other/186a0"]);
    await_gauge(&fixture, "etcd_debugging_mvcc_watcher_total", 0);
    fixture.process.stop();
}

fn await_gauge(fixture: &Fixture, name: &str, value: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = http::get(fixture.process.client_addr(), "/metrics").expect("the metrics");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let now = line.and_then(|value| value.parse().ok());
        if now == Some(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {now:?}");
    }
}

#[test]
fn a_stop_ends_those_who_wait() {
    if !is_etcore() {
        return;
    }
    let mut fixture = Fixture::new();
    for lease in [1, 2, 3] {
        fixture.lease(lease);
    }
    fixture.lock(0, "l", 1);
    let waiting = [
        fixture.begin(0, LOCK, &lock("l", 2)),
        fixture.begin(1, LOCK, &lock("l", 3)),
    ];
    let observing = fixture.begin(1, OBSERVE, &of("e"));
    let watching = fixture.begin(0, HEALTH_WATCH, &HealthCheckRequest::default());
    let health: HealthCheckResponse = answer(&mut fixture.clients[0], watching);
    assert_eq!(health.status, ServingStatus::Serving as i32);
    fixture.await_keys("l", &["l/1", "l/2", "l/3"]);
    await_gauge(&fixture, "etcd_debugging_mvcc_watcher_total", 3);
    let begun = Instant::now();
    let Fixture {
        process,
        mut clients,
        ..
    } = fixture;
    process.stop();
    let took = begun.elapsed();
    // Calls under way may take ten seconds at a graceful end.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let calls = [
        (0, waiting[0]),
        (1, waiting[1]),
        (1, observing),
        (0, watching),
    ];
    for (shard, call) in calls {
        match clients[shard].next::<LockResponse>(call) {
            Err(CallError::Status(status)) => assert_eq!(status.code, Code::Unavailable),
            other => panic!("{other:?}"),
        }
    }
}
