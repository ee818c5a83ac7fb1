//! A disk that fills or fails under a running server.
//!
//! The server is built with the feature `faults` and reads its rules from a file that the test changes. Failing to
//! claim space refuses writes and recovers; failing to sync claimed space ends the member (design, section 10).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use net::grpc::Code;
use tempfile::TempDir;
use tests::api;
use tests::client::{CallError, Client};
use tests::process::{Options, Process, parse};

const RECOVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Two segments hold 128 MB; with values of 1 MiB the third one is needed before this many.
const PUT_COUNT_MAX: usize = 200;
const VALUE_SIZE_BYTES: usize = 1 << 20;

struct Bench {
    dir: TempDir,
    rules: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let rules = dir.path().join("rules");
        fs::write(&rules, "").expect("the rules can be written");
        Bench { dir, rules }
    }

    fn options(&self) -> Options {
        Options::new(self.dir.path().join("data"))
            .env("ETCORE_FAULTS", format!("@{}", self.rules.display()))
    }

    /// Replaces the rules at once, so that the server never sees half of them.
    fn set_rules(&self, rules: &str) {
        let fresh = self.dir.path().join("rules.new");
        fs::write(&fresh, rules).expect("the rules can be written");
        fs::rename(fresh, &self.rules).expect("the rules can be replaced");
    }
}

fn key(number: usize) -> String {
    format!("key-{number:04}")
}

fn connect(process: &Process) -> Client {
    Client::connect(process.client_addr()).expect("the server listens")
}

fn assert_present(client: &mut Client, count: usize) {
    for number in 0..count {
        let found = client.range(&api::get(key(number))).expect("reads work");
        assert_eq!(found.count, 1, "{} was acknowledged", key(number));
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let bench = Bench::new();
    let mut process = Process::start(bench.options());
    let mut client = connect(&process);
    let value = vec![b'v'; VALUE_SIZE_BYTES];
    client.put(key(0), &value).expect("there is space");

    bench.set_rules("allocate:*.tmp:ENOSPC\nwrite:*.tmp:ENOSPC\n");
    let mut written = 1;
    let refusal = loop {
        assert!(written < PUT_COUNT_MAX, "the claimed segments have an end");
        match client.put(key(written), &value) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    let CallError::Status(_) = &refusal else {
        panic!("not an answer: {refusal:?}")
    };
    let (code, message) = refusal.status().expect("a status");
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(message, "etcdserver: mvcc: database space exceeded");
    assert!(
        written > 50,
        "the segment that was claimed is used: {written} puts"
    );
    assert!(process.is_running());
    assert_present(&mut client, written);

    bench.set_rules("");
    let deadline = Instant::now() + RECOVERY_TIMEOUT;
    while let Err(error) = client.put(key(written), &value) {
        assert!(Instant::now() < deadline, "there is space again: {error:?}");
    }
    written += 1;

    let process = Process::start(process.kill());
    assert_present(&mut connect(&process), written);
}

#[test]
fn a_failed_sync_ends_the_member_and_loses_nothing_acknowledged() {
    let bench = Bench::new();
    let mut process = Process::start(bench.options());
    let mut client = connect(&process);
    for number in 0..20 {
        client.put(key(number), "v").expect("a healthy disk");
    }
    bench.set_rules("sync:*.wal:EIO\n");
    let outcome = client.put(key(20), "v");
    assert!(
        outcome.is_err(),
        "a write whose sync failed is not acknowledged: {outcome:?}"
    );
    let status = process.wait(RECOVERY_TIMEOUT);
    let text = process.log().text();
    assert_eq!(status.code(), Some(1), "{status}; its log:\n{text}");
    let lines = process.log().lines();
    let fatal: Vec<_> = lines
        .iter()
        .filter_map(|line| parse(line))
        .filter(|line| line["level"] == "fatal")
        .collect();
    assert_eq!(fatal.len(), 1, "one line says why:\n{text}");
    assert!(
        fatal[0].to_string().contains("write-ahead log"),
        "{}",
        fatal[0]
    );

    bench.set_rules("");
    let process = Process::start(process.kill());
    assert_present(&mut connect(&process), 20);
}
