//! Directories that no crash leaves: damaged, cut, exchanged, from the future, in use.
//!
//! One directory is made by a workload and copied for each test. A member that finds damage refuses to start, in one
//! line that names the file, the place where that means something, and what to do; or it holds everything that the
//! directory held. It never panics, and never starts with less.
//!
//! `ETCORE_DAMAGE_FLIPS` (12) and `ETCORE_SEED` set how many single bits are changed.

mod bbolt;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use net::grpc::Code;
use proto::etcdserverpb::RangeRequest;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tempfile::TempDir;
use tests::api;
use tests::client::{CallError, Client};
use tests::contents::contents;
use tests::directory;
use tests::process::{Options, Process, STOP_TIMEOUT, is_etcore, refusal};
use tests::random::{Random, env_number, seed};

use bbolt::Database;

/// Enough for branch pages below the root of the bucket `key`.
const KEYS: u64 = 1_500;
/// Several snapshots, so that one of them can be damaged.
const SNAPSHOT_COUNT: u64 = 400;

/// A stopped member's directory, and what it held.
struct Original {
    dir: TempDir,
    contents: serde_json::Value,
}

fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| Original::new("original"))
}

impl Original {
    fn new(name: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options = Options::new(dir.path().join("data"));
        let options = options.arg(format!("--snapshot-count={SNAPSHOT_COUNT}"));
        // A stop makes a snapshot, however quick the machine is: two runs, two of them.
        let process = Process::start(options.clone());
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        client.lease_grant(100_000, 7).expect("a lease");
        put_keys(&mut client, name, 0..KEYS / 2);
        drop(client);
        process.stop();
        let process = Process::start(options);
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        put_keys(&mut client, name, KEYS / 2..KEYS);
        for number in 0..KEYS / 10 {
            let key = format!("key/{:06}", number * 3);
            client.delete_range(&api::delete(key)).expect("a delete");
        }
        let revision = client.revision().expect("a read");
        client.compact(revision - 200).expect("a compaction");
        let contents = contents(&mut client);
        drop(client);
        process.stop();
        Self { dir, contents }
    }
}

fn put_keys(client: &mut Client, name: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let value = format!("{name} {number} ").repeat(10);
        client
            .put(format!("key/{number:06}"), value)
            .expect("a put");
    }
}

/// A copy to damage.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::of(original())
    }

    fn of(original: &Original) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        directory::copy(original.dir.path(), dir.path()).expect("a copy");
        Self { dir }
    }

    fn options(&self) -> Options {
        Options::new(self.dir.path().join("data"))
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("data/member/snap/db")
    }

    fn change_db(&self, change: impl FnOnce(&mut Database)) {
        let mut database = Database::read(&self.db());
        change(&mut database);
        database.write(&self.db());
    }

    /// Files of a folder of `member` that end so, in order.
    fn files(&self, folder: &str, end: &str) -> Vec<PathBuf> {
        let folder = self.dir.path().join("data/member").join(folder);
        let entries = fs::read_dir(folder).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut found: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(end))
            .collect();
        found.sort();
        found
    }

    /// The member starts and nothing is missing.
    fn is_whole(&self) {
        let process = Process::start(self.options());
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        assert_eq!(contents(&mut client), original().contents);
        client.put("next", "write").expect("a put");
        drop(client);
        process.stop();
    }

    /// The member does not start, and says all of this.
    fn is_refused(&self, words: &[&str]) {
        let told = refusal(self.options());
        eprintln!("{told}");
        for word in words {
            assert!(told.contains(word), "no word of {word:?} in {told}");
        }
    }

    /// So the next start reads all pairs, and not only those that somebody asks for.
    fn forget_index(&self) {
        let removed = fs::remove_file(self.dir.path().join("data/member/index.etcore"));
        removed.expect("a clean stop saves the index");
    }

    /// The member finds the damage at the start, or tells the first who reads there, and stops.
    fn is_refused_or_tells_a_reader(&self, words: &[&str]) {
        let mut process = Process::spawn(self.options());
        if !process.is_ready() {
            drop(process);
            return self.is_refused(words);
        }
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        match client.range(&everything()) {
            Err(CallError::Status(status)) => assert_eq!(status.code, Code::DataLoss, "{status:?}"),
            // Shards do not wait for each other: the member may be gone before the answer is.
            Err(CallError::Lost(_)) => {}
            Err(error) => panic!("{error}"),
            Ok(answer) => panic!("{} pairs of a damaged database", answer.kvs.len()),
        }
        let status = process.wait(STOP_TIMEOUT);
        let text = process.log().text();
        assert_eq!(status.code(), Some(1), "{status}: {text}");
        for word in words {
            assert!(text.contains(word), "no word of {word:?} in {text}");
        }
        assert!(!text.contains("panic"), "{text}");
    }

    /// The member finds the damage at the start, or holds everything until it finds it, and says so then.
    fn is_refused_or_stops_later(&self) {
        let mut process = Process::spawn(self.options());
        if !process.is_ready() {
            drop(process);
            return self.is_refused(&["member/snap/db", "byte"]);
        }
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        assert_eq!(contents(&mut client), original().contents);
        client.put("next", "write").expect("a put");
        drop(client);
        process.signal(Signal::TERM);
        let status = process.wait(STOP_TIMEOUT);
        let text = process.log().text();
        assert_eq!(status.code(), Some(1), "{status}: {text}");
        assert!(text.contains("byte") && !text.contains("panic"), "{text}");
    }

    /// The member does one of the two. A message then names the database.
    fn is_whole_or_refused(&self) {
        let mut process = Process::spawn(self.options());
        if process.is_ready() {
            drop(process);
            self.is_whole();
        } else {
            drop(process);
            self.is_refused(&["member/snap/db"]);
        }
    }
}

#[test]
fn an_undamaged_directory() {
    let scene = Scene::new();
    let (branches, leaves) = Database::read(&scene.db()).pages_of("key");
    assert!(!branches.is_empty() && leaves.len() > branches.len());
    assert!(scene.files("snap", ".snap").len() > 1);
    scene.is_whole();
}

#[test]
fn a_cut_database() {
    if !is_etcore() {
        return;
    }
    let whole_len = fs::metadata(original().dir.path().join("data/member/snap/db"));
    let whole_len = whole_len.expect("a database").len();
    // An empty file is one whose making was interrupted, as bbolt sees it too; the log still has everything.
    for len in [0, 100, 4096, 8192, 3 * 4096 + 7] {
        assert!(len < whole_len);
        let scene = Scene::new();
        let file = File::options().write(true).open(scene.db());
        file.and_then(|file| file.set_len(len)).expect("a cut");
        match len {
            0 => scene.is_whole_or_refused(),
            _ => scene.is_refused(&["member/snap/db", "byte"]),
        }
    }
}

#[test]
fn one_damaged_meta_page() {
    if !is_etcore() {
        return;
    }
    for which in 0..2 {
        let scene = Scene::new();
        scene.change_db(|database| {
            let meta = database.metas()[which];
            database.0[meta + 16 + 20] ^= 0x40;
        });
        // The older one may be behind the newest snapshot: etcd cannot start from that either.
        match which {
            0 => scene.is_whole_or_refused(),
            _ => scene.is_whole(),
        }
    }
}

#[test]
fn two_damaged_meta_pages() {
    if !is_etcore() {
        return;
    }
    let scene = Scene::new();
    scene.change_db(|database| {
        for meta in database.metas() {
            database.0[meta + 16 + 60] ^= 1;
        }
    });
    scene.is_refused(&["member/snap/db", "byte", "meta", "napshot"]);
}

#[test]
fn a_damaged_page_of_the_tree() {
    if !is_etcore() {
        return;
    }
    /// Fields of a page, by their offset, and what they become.
    const FIELDS: &[(&str, usize, u8)] = &[
        ("id", 1, 0x80),
        ("flags", 8, 0x13),
        ("count", 11, 0x7f),
        ("overflow", 14, 0x7f),
        ("first element's position", 16 + 6, 0x7f),
    ];
    const CASES: [(bool, bool); 4] = [(true, false), (false, false), (true, true), (false, true)];
    for (name, offset, value) in FIELDS {
        for (is_branch, has_index) in CASES {
            let scene = Scene::new();
            scene.change_db(|database| {
                let (branches, leaves) = database.pages_of("key");
                // A leaf in the middle, where no pair was deleted: whoever reads everything reads each of them.
                let page = match is_branch {
                    true => branches.last(),
                    false => leaves.get(leaves.len() / 2),
                };
                let page = page.expect("such a page");
                database.0[page + offset] = *value;
            });
            eprintln!("{name}, branch: {is_branch}, saved index: {has_index}");
            let words = ["member/snap/db", "byte", "estore"];
            if !has_index {
                scene.forget_index();
            }
            // The position in a branch's first element belongs to its key, which is read when the page is rewritten.
            match (is_branch, *offset, has_index) {
                (true, 16.., _) => scene.is_refused_or_stops_later(),
                (_, _, true) => scene.is_refused_or_tells_a_reader(&words),
                (_, _, false) => scene.is_refused(&words),
            }
        }
    }
}

#[test]
fn a_damaged_list_of_free_pages() {
    if !is_etcore() {
        return;
    }
    let Some(page) = Database::read(&original().dir.path().join("data/member/snap/db")).freelist()
    else {
        return;
    };
    for (offset, value) in [(8, 0x13), (11, 0x7f), (16, 0), (17, 0xff)] {
        let scene = Scene::new();
        scene.change_db(|database| database.0[page + offset] ^= value);
        scene.is_whole_or_refused();
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        range_end: api::OPEN_END.into(),
        ..api::get("\0")
    }
}

/// Bits of values, keys and free space are no damage that the format shows. But whatever is changed, the member says
/// that it cannot start, or starts and answers.
#[test]
fn single_bits() {
    if !is_etcore() {
        return;
    }
    let random = Random::new(seed("single bits"));
    for round in 0..env_number("ETCORE_DAMAGE_FLIPS", 12) {
        let mut random = random.fork(round);
        let scene = Scene::new();
        let mut at = 0;
        scene.change_db(|database| {
            let (branches, leaves) = database.pages_of("key");
            let pages = [branches, leaves].concat();
            let page = pages[random.below(pages.len() as u64) as usize];
            // Mostly where the structure is.
            let len = if random.below(4) == 0 { 4096 } else { 400 };
            at = page + random.below(len) as usize;
            database.0[at] ^= 1 << random.below(8);
        });
        let has_index = random.below(2) == 0;
        eprintln!("round {round}: byte {at}, saved index: {has_index}");
        if !has_index {
            scene.forget_index();
        }
        let mut process = Process::spawn(scene.options());
        if !process.is_ready() {
            drop(process);
            scene.is_refused(&["member/snap/db"]);
            continue;
        }
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        match client.range(&everything()) {
            Ok(_) | Err(CallError::Status(_)) => {}
            // It may stop when it meets the damage, and says why; the connection ends a moment before the process.
            Err(_) => assert!(!process.wait(STOP_TIMEOUT).success()),
        }
        let text = process.log().text();
        assert!(!text.contains("panic"), "{text}");
    }
}

#[test]
fn a_damaged_log() {
    let scene = Scene::new();
    let segment = scene.files("wal", ".wal").pop().expect("a segment");
    let mut bytes = fs::read(&segment).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("records");
    bytes[end / 2] ^= 0x10;
    fs::write(&segment, bytes).expect("the segment can be written");
    let name = segment.file_name().expect("a name").to_string_lossy();
    let words: &[&str] = if is_etcore() { &[&name, "byte"] } else { &[] };
    scene.is_refused(words);
}

/// A snapshot file holds no keys. Without the newest one the member starts from the one before it.
#[test]
fn a_damaged_snapshot() {
    let scene = Scene::new();
    let Some(newest) = scene.files("snap", ".snap").pop() else {
        panic!("no snapshot after {KEYS} writes");
    };
    let mut bytes = fs::read(&newest).expect("a snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&newest, bytes).expect("the snapshot can be written");
    scene.is_whole();
}

#[test]
fn a_database_of_a_newer_etcd() {
    let scene = Scene::new();
    scene.change_db(|database| {
        let (from, to) = (b"storageVersion3.7.0", b"storageVersion3.9.0");
        let places: Vec<_> = database
            .0
            .windows(from.len())
            .enumerate()
            .filter(|(_, window)| window == from)
            .map(|(place, _)| place)
            .collect();
        assert!(!places.is_empty(), "no storage version");
        for place in places {
            database.0[place..place + to.len()].copy_from_slice(to);
        }
    });
    match is_etcore() {
        true => scene.is_refused(&["member/snap/db", "3.9.0"]),
        false => scene.is_refused(&[]),
    }
}

#[test]
fn another_version_of_the_format() {
    if !is_etcore() {
        return;
    }
    let scene = Scene::new();
    scene.change_db(|database| database.set_version(3));
    scene.is_refused(&["member/snap/db", "byte", "version 3"]);
}

#[test]
fn a_database_that_may_not_be_written() {
    let scene = Scene::new();
    fs::set_permissions(scene.db(), fs::Permissions::from_mode(0o400)).expect("it is ours");
    // Root may write everywhere, so there is nothing to refuse.
    if is_etcore() && File::options().write(true).open(scene.db()).is_err() {
        scene.is_refused(&["member/snap/db", "permission"]);
    }
}

/// As while etcd's tools read it. etcd would wait without a word.
#[test]
fn a_database_in_use() {
    if !is_etcore() {
        return;
    }
    let scene = Scene::new();
    let file = File::open(scene.db()).expect("a database");
    flock(&file, FlockOperation::LockShared).expect("a lock");
    scene.is_refused(&["member/snap/db", "in use"]);
    drop(file);
    scene.is_whole();
}

#[test]
fn the_database_of_another_cluster() {
    if !is_etcore() {
        return;
    }
    let other = Original::new("another");
    let scene = Scene::new();
    fs::copy(other.dir.path().join("data/member/snap/db"), scene.db()).expect("a copy");
    scene.is_refused(&["member/snap/db"]);
}

#[test]
fn a_database_without_its_log() {
    if !is_etcore() {
        return;
    }
    let scene = Scene::new();
    fs::remove_dir_all(scene.dir.path().join("data/member/wal")).expect("a folder");
    scene.is_refused(&["log"]);
}
