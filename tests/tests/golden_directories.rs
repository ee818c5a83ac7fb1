//! Directories of every released version: the present program opens them and finds what was recorded.
//!
//! ```text
//!  tests/golden-directories/<version>/<state>.packed   the directory, see tests::directory
//!                                     <state>.json     what it held, see tests::contents
//! ```
//! States: `stopped` in order; `killed` under no load, so its contents are known, but not all of them are in the database.
//! Each went through snapshots, compactions, leases and transactions. A release adds its own:
//!
//! ```text
//!  ETCORE_GOLDEN_VERSION=0.1.0 cargo test -p tests --test golden_directories -- --ignored
//! ```
//! Those of older versions are never made anew.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::api::{self, op, put, txn};
use tests::client::Client;
use tests::contents::contents;
use tests::directory;
use tests::process::{Options, Process};

const STATES: [&str; 2] = ["stopped", "killed"];
/// A few snapshots in a short life.
const SNAPSHOT_COUNT: &str = "--snapshot-count=60";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-directories")
}

#[test]
fn directories_of_former_releases_are_read() {
    let Ok(versions) = fs::read_dir(folder()) else {
        eprintln!("no release yet");
        return;
    };
    for version in versions {
        let version = version.expect("a folder").path();
        for state in STATES {
            eprintln!("{}, {state}", version.display());
            is_read(&version, state);
        }
    }
}

fn is_read(version: &Path, state: &str) {
    let packed = fs::read(version.join(format!("{state}.packed"))).expect("a packed directory");
    let recorded = fs::read(version.join(format!("{state}.json"))).expect("its contents");
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).expect("JSON");
    let dir = TempDir::new().expect("a temporary directory");
    directory::unpack(&packed, dir.path()).expect("files");
    // Once as it is, once as this version leaves it.
    let mut options = Options::new(dir.path().join("data"));
    for _ in 0..2 {
        let process = Process::start(options);
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        assert_eq!(contents(&mut client), recorded);
        options = process.kill();
    }
    let process = Process::start(options);
    let mut client = Client::connect(process.client_addr()).expect("a listener");
    let revision = client.revision().expect("a read");
    let answer = client.put("next", "write").expect("a put");
    assert_eq!(api::revision_of(answer.header), revision + 1);
    drop(client);
    process.stop();
}

#[test]
#[ignore = "makes the directories of a release"]
fn make_the_directories_of_this_release() {
    let version = std::env::var("ETCORE_GOLDEN_VERSION").expect("ETCORE_GOLDEN_VERSION");
    let version = folder().join(version);
    assert!(!version.exists(), "{} is there", version.display());
    fs::create_dir_all(&version).expect("a folder");
    for state in STATES {
        let dir = TempDir::new().expect("a temporary directory");
        let options = Options::new(dir.path().join("data"));
        let process = Process::start(options.arg(SNAPSHOT_COUNT));
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        live(&mut client);
        let contents = contents(&mut client);
        drop(client);
        match state {
            "stopped" => process.stop(),
            _ => process.kill(),
        };
        let packed = directory::pack(dir.path()).expect("a packed form");
        let text = serde_json::to_string(&contents).expect("JSON");
        fs::write(version.join(format!("{state}.packed")), packed).expect("a file");
        fs::write(version.join(format!("{state}.json")), text + "\n").expect("a file");
    }
}

/// Some of everything that a store keeps.
fn live(client: &mut Client) {
    for id in 1..4 {
        client.lease_grant(1_000_000 + id, id).expect("a lease");
    }
    for number in 0..120 {
        let key = format!("key/{:02}", number % 40);
        let request = proto::etcdserverpb::PutRequest {
            lease: if number % 5 == 0 { 1 + number % 3 } else { 0 },
            ..put(&key, format!("value {number}"))
        };
        let done: Result<proto::etcdserverpb::PutResponse, _> = client.unary(api::PUT, &request);
        done.expect("a put");
        if number % 7 == 0 {
            client.delete_range(&api::delete(&key)).expect("a delete");
        }
        if number % 11 == 0 {
            let both = vec![op(put("left", &key)), op(put("right", &key))];
            client.txn(&txn(vec![], both, vec![])).expect("a txn");
        }
        if number % 50 == 49 {
            let revision = client.revision().expect("a read");
            client.compact(revision - 30).expect("a compaction");
        }
    }
    // Longer than a page.
    client.put("long", "long ".repeat(2_000)).expect("a put");
    let range = api::delete_range("key/1", "key/2");
    client.delete_range(&range).expect("a delete");
}
