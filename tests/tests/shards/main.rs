//! Several shards: connections spread over them see one store.
//!
//! Here the program runs with two shards and gives connections to them in turn, so every second one is served by a core
//! that does not drive the node.
//!
//! - Reads while writes go on: each answer equals the model at the answer's own revision, is no older than what was
//!   acknowledged before it was asked (unless it is serializable), and never older than the one before it on its
//!   connection. `ETCORE_SHARD_READS` (50,000) and `ETCORE_SEED` set the run.
//! - All methods work from both shards, and the metrics are those of both.
//! - A stop answers what is under way on both.

mod history;
mod readers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use net::grpc::Code;
use proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    MemberListRequest, MemberListResponse, StatusRequest, StatusResponse,
};
use tempfile::TempDir;
use tests::api::{self, delete, get, op, put, revision_of, txn};
use tests::client::Client;
use tests::http;
use tests::process::{Options, Process};
use tests::random::{Random, env_number, seed};

use history::{History, KEY_COUNT, key};

/// Few: more would leave no CPU for the writes on a small machine.
const READER_COUNT: u64 = 2;
/// For a write on a busy machine. The server gives up a little earlier, by its election timeout.
const PATIENCE: Duration = Duration::from_secs(120);
/// Reads go on until the store is at least there, so that they have something to disagree about.
const REVISION_MIN: i64 = 200;

fn start(dir: &TempDir) -> Process {
    Process::start(
        Options::new(dir.path().join("data"))
            .two_shards()
            // Patience with a disk that has to share a busy machine: a write without an answer has no place in the model.
            .arg("--election-timeout=50000"),
    )
}

#[test]
fn reads_on_all_shards_equal_the_model() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = start(&dir);
    let random = Random::new(seed("reads on all shards"));
    let read_count = env_number("ETCORE_SHARD_READS", 50_000);
    let progress = Progress::default();
    let addr = process.client_addr();
    let (history, seen) = std::thread::scope(|scope| {
        let writer = {
            let (random, progress) = (random.fork(0), &progress);
            scope.spawn(move || write(addr, random, progress))
        };
        let readers: Vec<_> = (1..=READER_COUNT)
            .map(|number| {
                let (random, progress) = (random.fork(number), &progress);
                let count = (read_count / READER_COUNT) as usize;
                scope.spawn(move || readers::run(addr, random, count, progress))
            })
            .collect();
        let seen: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        progress.is_over.store(true, Ordering::Relaxed);
        let history = writer.join().expect("the writer failed");
        let seen: Vec<_> = seen
            .into_iter()
            .map(|seen| seen.expect("a reader failed"))
            .collect();
        (history, seen)
    });
    for observation in seen.iter().flatten() {
        history.check(observation);
    }
    let used = process.thread_time("etcore-1").expect("a second shard");
    assert!(
        used > Duration::from_millis(10),
        "the second shard: {used:?}"
    );
    let (reads, newest) = (seen.iter().map(Vec::len).sum::<usize>(), history.newest());
    eprintln!("{reads} reads up to revision {newest}; second shard {used:?}");
    process.stop();
}

/// What the threads tell each other.
#[derive(Default)]
struct Progress {
    /// The newest revision that a writer was told of.
    acknowledged: AtomicI64,
    /// The readers have enough.
    is_over: AtomicBool,
    /// The writer has ended, for whatever reason.
    has_ended: AtomicBool,
}

/// Says so, also if the writer fails.
struct Writing<'a>(&'a Progress);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }
}

/// Writes until told otherwise, in turn through each shard.
fn write(addr: SocketAddr, mut random: Random, progress: &Progress) -> History {
    let _writing = Writing(progress);
    let mut clients = [(); 2].map(|()| Client::connect(addr).expect("a listener"));
    for client in &mut clients {
        client.timeout = PATIENCE;
    }
    let mut history = History::default();
    let mut serial = 0;
    while !progress.is_over.load(Ordering::Relaxed) {
        serial += 1;
        let client = &mut clients[serial as usize % 2];
        let keys = [random.below(KEY_COUNT), random.below(KEY_COUNT)];
        let revision = match random.below(8) {
            0 => {
                let deleted = client
                    .delete_range(&delete(key(keys[0])))
                    .expect("a delete");
                (deleted.deleted > 0).then(|| {
                    let revision = revision_of(deleted.header);
                    history.on_deleted(keys[0], revision);
                    revision
                })
            }
            1 if keys[0] != keys[1] => {
                let ops = keys.map(|number| op(put(key(number), history::value(serial))));
                let response = client.txn(&txn(vec![], ops.into(), vec![]));
                let revision = revision_of(response.expect("a transaction").header);
                for number in keys {
                    history.on_put(number, serial, revision);
                }
                Some(revision)
            }
            _ => {
                let response = client.put(key(keys[0]), history::value(serial));
                let revision = revision_of(response.expect("a put").header);
                history.on_put(keys[0], serial, revision);
                Some(revision)
            }
        };
        if let Some(revision) = revision {
            progress.acknowledged.store(revision, Ordering::SeqCst);
        }
    }
    history
}

#[test]
fn every_method_works_from_every_shard() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = start(&dir);
    let [mut one, mut two] = process.connect_both();
    for (number, client) in [&mut one, &mut two].into_iter().enumerate() {
        let name = format!("k{number}");
        let written = revision_of(client.put(&name, "v").expect("a put").header);
        assert_eq!(client.revision().expect("a read"), written);
        let lease = client.lease_grant(600, 0).expect("a lease").id;
        let ask = LeaseTimeToLiveRequest {
            id: lease,
            keys: true,
        };
        let left: LeaseTimeToLiveResponse =
            client.unary(api::LEASE_TIME_TO_LIVE, &ask).expect("a time");
        assert_eq!((left.id, left.granted_ttl), (lease, 600));
        let members: MemberListResponse = client
            .unary(api::MEMBER_LIST, &MemberListRequest { linearizable: true })
            .expect("members");
        assert_eq!(members.members.len(), 1);
        let status: StatusResponse = client
            .unary(api::STATUS, &StatusRequest::default())
            .expect("a status");
        assert_eq!(status.leader, members.members[0].id);
        let refused = client.compact(1_000_000).expect_err("a future revision");
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(refused.status(), Some((Code::OutOfRange, text)));
    }
    let hashes = [&mut one, &mut two].map(|client| {
        let hash: HashKvResponse = client
            .unary(api::HASH_KV, &HashKvRequest::default())
            .expect("a hash");
        (hash.hash, hash.hash_revision)
    });
    assert_eq!(hashes[0], hashes[1]);
    let last = revision_of(one.put("k", "last").expect("a put").header);
    two.compact(last).expect("a compaction");
    let refused = one.range(&api::get_at("k", last - 1));
    let text = "etcdserver: mvcc: required revision has been compacted";
    let refused = refused.expect_err("compacted");
    assert_eq!(refused.status(), Some((Code::OutOfRange, text)));
    process.stop();
}

#[test]
fn metrics_are_those_of_all_shards() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = start(&dir);
    let [mut one, mut two] = process.connect_both();
    for client in [&mut one, &mut two] {
        for _ in 0..3 {
            client.put("k", "v").expect("a put");
            client.range(&get("k")).expect("a read");
        }
    }
    // One scrape from each shard.
    for _ in 0..2 {
        let page = http::get(process.client_addr(), "/metrics").expect("a page");
        for line in [
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 6\n",
            "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 6\n",
            "etcd_mvcc_put_total 6\n",
            "etcd_mvcc_range_total 6\n",
        ] {
            assert!(page.contains(line), "{line} is not on\n{page}");
        }
    }
    process.stop();
}

/// Whatever is asked at the moment of the stop is answered or the connection is closed, and what was acknowledged is
/// there afterwards.
#[test]
fn a_stop_drains_all_shards() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = start(&dir);
    let addr = process.client_addr();
    let (told, writing) = std::sync::mpsc::channel();
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let told = told.clone();
            let mut client = Client::connect(addr).expect("a listener");
            std::thread::spawn(move || {
                let mut written = 0_u64;
                while client
                    .put(format!("stop/{number}"), written.to_string())
                    .is_ok()
                {
                    written += 1;
                    let _ = told.send(());
                }
                written
            })
        })
        .collect();
    for _ in 0..200 {
        writing.recv().expect("writers at work");
    }
    let options = process.stop();
    let written: Vec<u64> = writers
        .into_iter()
        .map(|writer| writer.join().expect("a writer failed"))
        .collect();
    let process = Process::start(options);
    let mut client = Client::connect(process.client_addr()).expect("a listener");
    for (number, written) in written.into_iter().enumerate() {
        let answer = client
            .range(&get(format!("stop/{number}")))
            .expect("a read");
        let pair = answer.kvs.first().expect("it was written");
        assert!(
            pair.version >= written as i64,
            "stop/{number}: {written} acknowledged, {} kept",
            pair.version
        );
    }
    process.stop();
}
