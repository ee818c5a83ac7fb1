//! Reads that are larger than any buffer: their memory is bounded, and they show one revision.
//!
//! Each fills a store, begins a read, stops reading from its socket for a while during which others write (and compact),
//! and then takes the rest. Meanwhile the server's memory is watched.
//!
//! - RangeStream over `ETCORE_STREAM_MIB` (64) MiB of values of 64 KiB;
//! - a unary Range of `ETCORE_RANGE_KEYS` (50,000) keys with values of 256 B;
//! - `ETCORE_STALL_SECONDS` (2) is how long the reader stands still.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use net::grpc::Code;
use proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest};
use tempfile::TempDir;
use tests::api::{self, RANGE, RANGE_STREAM, op, put, revision_of, txn};
use tests::client::Client;
use tests::process::{Options, Process, is_etcore};
use tests::random::env_number;

/// What a reader that stands still may cost.
const MEMORY_MAX: u64 = 16 << 20;
const MIB: u64 = 1 << 20;
/// Pause between two writes while a reader stands still.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// How long a large answer may take to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Puts in one transaction; the default limit.
const OPS_MAX: usize = 128;

struct Scene {
    process: Process,
    writer: Client,
    reader: Client,
    _dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options = Options::new(dir.path().join("data"))
            .arg("--quota-backend-bytes=-1")
            .arg("--max-request-bytes=4194304");
        let process = Process::start(match is_etcore() {
            true => options.two_shards(),
            false => options,
        });
        let connect = || Client::connect(process.client_addr()).expect("a listener");
        let (writer, mut reader) = (connect(), connect());
        reader.timeout = PATIENCE;
        Scene {
            writer,
            reader,
            process,
            _dir: dir,
        }
    }

    /// Puts `fill/0`, `fill/1`, ...; returns the revision after them.
    fn fill(&mut self, count: u64, value_len: usize) -> i64 {
        let ops_max = OPS_MAX.min((2 << 20) / value_len).max(1);
        let numbers: Vec<u64> = (0..count).collect();
        let mut revision = 0;
        for part in numbers.chunks(ops_max) {
            let puts = part.iter().map(|n| op(put(key(*n), value(*n, value_len))));
            let request: TxnRequest = txn(vec![], puts.collect(), vec![]);
            let response = self.writer.txn(&request).expect("a transaction");
            revision = revision_of(response.header);
        }
        revision
    }

    /// Writes small values over the first keys, and new ones, for as long as the reader stands still. Returns the
    /// newest revision and by how much the server's memory is above `before` at most.
    fn write_meanwhile(&mut self, before: u64) -> (i64, u64) {
        let end = Instant::now() + stall();
        let (mut written, mut grown) = (0, 0);
        let mut revision = 0;
        // Pacing, not waiting for something: the stall is what is tested.
        while Instant::now() < end {
            let name = match written % 2 {
                0 => key(written % 100),
                _ => format!("fill/new/{written}"),
            };
            let response = self.writer.put(name, "overwritten").expect("a put");
            revision = revision_of(response.header);
            written += 1;
            grown = grown.max(self.process.allocated_bytes().saturating_sub(before));
            std::thread::sleep(WRITE_INTERVAL);
        }
        (revision, grown)
    }
}

fn stall() -> Duration {
    Duration::from_secs(env_number("ETCORE_STALL_SECONDS", 2))
}

fn key(number: u64) -> String {
    format!("fill/{number:08}")
}

fn value(number: u64, len: usize) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.resize(len, b'.');
    value
}

fn everything() -> RangeRequest {
    RangeRequest {
        range_end: "fill0".into(),
        ..api::get("fill/")
    }
}

/// # Panics
/// Unless these are all keys as [`Scene::fill`] left them.
fn check_fill(pairs: &[proto::mvccpb::KeyValue], first: u64, value_len: usize) {
    for (number, pair) in (first..).zip(pairs) {
        assert_eq!(pair.key, key(number), "key {number}");
        assert!(pair.value == value(number, value_len), "value {number}");
        assert_eq!(pair.version, 1, "{number} is read as it was");
    }
}

#[test]
fn a_stalled_stream_costs_little() {
    const VALUE_LEN: usize = 64 * 1024;
    let count = env_number("ETCORE_STREAM_MIB", 64) * MIB / VALUE_LEN as u64;
    let mut scene = Scene::new();
    let filled = scene.fill(count, VALUE_LEN);
    let before = scene.process.allocated_bytes();
    let call = scene.reader.start(RANGE_STREAM).expect("a call");
    scene.reader.send(call, &everything());
    scene.reader.half_close(call);
    let mut next = 0;
    let mut last = None;
    let mut grown = 0;
    while let Some(part) = scene
        .reader
        .next::<RangeStreamResponse>(call)
        .expect("no error")
    {
        let part = part.range_response.expect("a part");
        check_fill(&part.kvs, next, VALUE_LEN);
        next += part.kvs.len() as u64;
        assert!(last.is_none(), "a part behind the last one");
        last = part.header.map(|header| (header, part.more, part.count));
        if grown == 0 && next > count / 4 {
            grown = scene.write_meanwhile(before).1.max(1);
        }
    }
    let (header, more, total) = last.expect("a last part");
    assert_eq!(
        (header.revision, more, total),
        (filled, false, count as i64)
    );
    assert_eq!(next, count);
    expect_little(grown);
    scene.process.stop();
}

#[test]
fn a_stalled_range_costs_little_and_outlives_a_compaction() {
    const VALUE_LEN: usize = 256;
    let count = env_number("ETCORE_RANGE_KEYS", 50_000);
    let mut scene = Scene::new();
    let filled = scene.fill(count, VALUE_LEN);
    let before = scene.process.allocated_bytes();
    let call = scene.reader.start(RANGE).expect("a call");
    scene.reader.send(call, &everything());
    scene.reader.half_close(call);
    scene.reader.flush().expect("the server reads");
    // The answer is on its way once its length is promised, which the metrics tell.
    await_metric(&scene.process, RANGE_SENT);
    let (newest, grown) = scene.write_meanwhile(before);
    assert!(newest > filled);
    scene.writer.compact(newest).expect("a compaction");
    let response = scene
        .reader
        .next::<RangeResponse>(call)
        .expect("no error")
        .expect("an answer");
    assert_eq!(revision_of(response.header), filled);
    assert_eq!((response.more, response.count), (false, count as i64));
    assert_eq!(response.kvs.len() as u64, count);
    check_fill(&response.kvs, 0, VALUE_LEN);
    let end = scene.reader.next::<RangeResponse>(call).expect("no error");
    assert!(end.is_none(), "a second answer");
    expect_little(grown);
    scene.process.stop();
}

const RANGE_SENT: &str = "grpc_server_msg_sent_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n";

fn await_metric(process: &Process, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = tests::http::get(process.client_addr(), "/metrics").expect("a page");
        if page.contains(line) {
            return;
        }
        assert!(Instant::now() < deadline, "{line} never came:\n{page}");
        std::thread::yield_now();
    }
}

/// A real etcd, which these tests run against as well, builds such answers in memory.
fn expect_little(grown: u64) {
    eprintln!("memory grew by {} KiB at most", grown / 1024);
    assert!(!is_etcore() || grown < MEMORY_MAX, "memory grew by {grown}");
}

#[test]
fn a_stream_whose_revision_is_compacted_ends_with_etcds_error() {
    const VALUE_LEN: usize = 64 * 1024;
    let mut scene = Scene::new();
    let filled = scene.fill(512, VALUE_LEN);
    let call = scene.reader.start(RANGE_STREAM).expect("a call");
    scene.reader.send(call, &everything());
    scene.reader.half_close(call);
    let first = scene.reader.next::<RangeStreamResponse>(call);
    assert!(first.expect("no error").is_some());
    scene.writer.put("other", "v").expect("a put");
    scene.writer.compact(filled + 1).expect("a compaction");
    let error = loop {
        match scene.reader.next::<RangeStreamResponse>(call) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("32 MiB fitted into the buffers between"),
            Err(error) => break error,
        }
    };
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(error.status(), Some((Code::OutOfRange, text)));
    scene.process.stop();
}

/// As etcd 3.7.1 cuts its streams.
#[test]
fn streams_are_cut_as_etcds() {
    let mut scene = Scene::new();
    for number in 0..35 {
        scene.writer.put(key(number), "v").expect("a put");
    }
    let filled = revision_of(scene.writer.put("other", "v").expect("a put").header);
    let limited = |limit| RangeRequest {
        limit,
        ..everything()
    };
    let cases = [
        ("all", everything(), vec![10, 20, 5], false, 35),
        (
            "limit within the second",
            limited(12),
            vec![10, 2],
            true,
            35,
        ),
        ("limit at a cut", limited(30), vec![10, 20], true, 35),
        ("limit of one message", limited(10), vec![10], true, 35),
        ("limit of all", limited(35), vec![10, 20, 5], false, 35),
        (
            "count",
            RangeRequest {
                count_only: true,
                ..limited(3)
            },
            vec![0],
            false,
            35,
        ),
        ("one key", api::get(key(3)), vec![1], false, 1),
        ("no key", api::get("missing"), vec![0], false, 0),
        (
            "an old revision",
            RangeRequest {
                revision: 12,
                ..everything()
            },
            vec![10, 1],
            false,
            11,
        ),
    ];
    for (name, request, lens, more, count) in cases {
        let parts = stream(&mut scene.reader, &request);
        let seen: Vec<usize> = parts.iter().map(|part| part.kvs.len()).collect();
        assert_eq!(seen, lens, "{name}");
        let (last, others) = parts.split_last().expect("at least one");
        assert!(
            others
                .iter()
                .all(|p| p.header.is_none() && !p.more && p.count == 0)
        );
        assert_eq!((last.more, last.count), (more, count), "{name}");
        assert_eq!(revision_of(last.header), filled, "{name}");
    }
    let keys = RangeRequest {
        keys_only: true,
        ..everything()
    };
    let keys: BTreeMap<_, _> = stream(&mut scene.reader, &keys)
        .into_iter()
        .flat_map(|part| part.kvs)
        .map(|kv| (kv.key, kv.value))
        .collect();
    assert_eq!(keys.len(), 35);
    assert!(keys.values().all(|value| value.is_empty()));
    scene.process.stop();
}

/// From what one slice reads to what is sent while it is made, with little and with much in a pair; and nothing of what is
/// written meanwhile.
#[test]
fn ranges_of_any_size_are_whole() {
    const COUNT: u64 = 12_000;
    for (count, value_len) in [(COUNT, 20), (COUNT / 100, 20_000)] {
        let mut scene = Scene::new();
        let filled = scene.fill(count, value_len);
        let parts = [1000, 100, 20, 8, 4, 3, 2, 1];
        let limits = parts.map(|part| count / part).map(|limit| limit.max(1));
        for limit in limits.into_iter().chain([0]) {
            let call = scene.reader.start(RANGE).expect("a call");
            let request = RangeRequest {
                limit: limit as i64,
                revision: filled,
                ..everything()
            };
            scene.reader.send(call, &request);
            scene.reader.half_close(call);
            scene.reader.flush().expect("the server reads");
            scene.writer.put(key(limit % 7), "new").expect("a put");
            let answer = scene.reader.next::<RangeResponse>(call);
            let answer = answer.expect("no error").expect("an answer");
            let wanted = if limit == 0 { count } else { limit };
            assert_eq!(answer.kvs.len() as u64, wanted);
            assert_eq!(
                (answer.more, answer.count),
                (wanted < count, count as i64),
                "limit {limit}"
            );
            check_fill(&answer.kvs, 0, value_len);
            let end = scene.reader.next::<RangeResponse>(call).expect("no error");
            assert!(end.is_none(), "a second answer");
        }
        scene.process.stop();
    }
}

fn stream(client: &mut Client, request: &RangeRequest) -> Vec<RangeResponse> {
    let call = client.start(RANGE_STREAM).expect("a call");
    client.send(call, request);
    client.half_close(call);
    let mut parts = Vec::new();
    while let Some(part) = client.next::<RangeStreamResponse>(call).expect("no error") {
        parts.push(part.range_response.expect("a part"));
    }
    parts
}
