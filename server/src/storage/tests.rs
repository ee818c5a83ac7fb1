//! Tests of the directory, the log, the store and the snapshots on real files.

mod snapshots;
mod store;

use std::cell::{Cell, RefCell};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use driver::{ExecutorConfig, FileLock, faults};
use engine::wal::{Durability, Health, Recovered, SegmentName, Wal, WalOptions};
use proto::raftpb;

use super::*;

const BLOCK: u64 = 4096;

#[derive(Default)]
struct Counts {
    written_bytes: Cell<u64>,
    syncs: Cell<u64>,
}

impl DiskObserver for Counts {
    fn written(&self, len: u64, _took: Duration) {
        self.written_bytes.set(self.written_bytes.get() + len);
    }

    fn synced(&self, _took: Duration) {
        self.syncs.set(self.syncs.get() + 1);
    }
}

fn run<T>(test: impl AsyncFnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    driver::run(ExecutorConfig::new("t"), || test(dir.path())).unwrap()
}

fn options(dir: &Path) -> StorageOptions {
    StorageOptions {
        data_dir: dir.join("data"),
        wal_dir: None,
        unsafe_no_fsync: false,
        retention: Retention::default(),
    }
}

async fn open_default(dir: &Path) -> Result<Storage, StorageError> {
    open(&options(dir), Rc::new(Counts::default())).await
}

async fn error_of(dir: &Path) -> StorageError {
    match open_default(dir).await {
        Ok(_) => panic!("the directory was opened"),
        Err(error) => error,
    }
}

/// Small segments: their ends come soon.
fn small() -> WalOptions {
    WalOptions {
        segment_bytes: 32 * BLOCK,
        ..WalOptions::default()
    }
}

fn entry(index: u64, len: usize) -> raftpb::Entry {
    raftpb::Entry {
        r#type: Some(0),
        term: Some(1),
        index: Some(index),
        data: Some(vec![index as u8; len].into()),
    }
}

/// Performs operations one after the other until everything sealed is durable or cannot be.
async fn settle(wal: &mut Wal, disk: &WalDisk) {
    while !wal.is_settled() {
        let Some(io) = wal.poll_io() else { return };
        let sync_follows = wal.sync_follows(io.ticket);
        // Both ways, in turns.
        let is_lone = io.ticket.0.is_multiple_of(4);
        let (ticket, result) = match sync_follows {
            true => disk.perform_with_sync(io, is_lone).await,
            false => disk.perform(io).await,
        };
        wal.on_io_done(ticket, result);
    }
}

async fn append(wal: &mut Wal, disk: &WalDisk, indexes: std::ops::Range<u64>, len: usize) {
    for index in indexes {
        wal.append_entry(&entry(index, len));
        wal.seal(Durability::Sync);
        settle(wal, disk).await;
    }
}

async fn create(dir: &Path) -> (Wal, WalDisk) {
    let storage = open_default(dir).await.unwrap();
    assert!(matches!(storage.log, StoredLog::New));
    let mut wal = Wal::create(b"whose log this is".as_slice().into(), small());
    settle(&mut wal, &storage.disk).await;
    (wal, storage.disk)
}

async fn reopen(dir: &Path) -> (Recovered, WalDisk) {
    let (log, disk) = reopen_log(dir).await;
    (log.into_recovered(), disk)
}

async fn reopen_log(dir: &Path) -> (FoundLog, WalDisk) {
    // The former owner's descriptors are closed by the ring's next turns.
    let storage = driver::timeout(Duration::from_secs(20), async {
        loop {
            match open_default(dir).await {
                Err(StorageError::InUse { .. }) => driver::sleep(Duration::from_millis(1)).await,
                result => break result.unwrap(),
            }
        }
    });
    let Storage { disk, log, .. } = storage.await.unwrap();
    let StoredLog::Existing(log) = log else {
        panic!("the log is gone")
    };
    (log, disk)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_log_is_made_aside_and_named_when_durable() {
    run(async |dir| {
        let observer = Rc::new(Counts::default());
        let storage = open(&options(dir), observer.clone()).await.unwrap();
        let member = dir.join("data/member");
        assert_eq!(names(&member), ["snap", "wal.tmp"]);

        let mut wal = Wal::create(b"meta".as_slice().into(), small());
        wal.append_entry(&entry(1, 100));
        wal.seal(Durability::Sync);
        settle(&mut wal, &storage.disk).await;
        assert_eq!(names(&member), ["snap", "wal"]);
        let segment = member.join("wal/0000000000000000-0000000000000000.wal");
        assert_eq!(std::fs::metadata(&segment).unwrap().len(), 32 * BLOCK);
        assert_eq!(mode(&segment), 0o600);
        for dir in [
            &dir.join("data"),
            &member,
            &member.join("wal"),
            &member.join("snap"),
        ] {
            assert_eq!(mode(dir), 0o700, "{}", dir.display());
        }
        assert!(observer.written_bytes.get() >= BLOCK && observer.syncs.get() > 0);
        append(&mut wal, &storage.disk, 2..4, 10).await;
        assert_eq!(wal.health(), Health::Healthy);
    });
}

#[test]
fn what_was_durable_is_read_back_over_many_segments() {
    run(async |dir| {
        let (mut wal, disk) = create(dir).await;
        append(&mut wal, &disk, 1..200, 3000).await;
        drop((wal, disk));
        let segments = names(&dir.join("data/member/wal"));
        assert!(
            segments
                .iter()
                .filter(|name| name.ends_with(".wal"))
                .count()
                >= 5
        );

        let (recovered, disk) = reopen(dir).await;
        assert_eq!(recovered.cut, None);
        assert_eq!(recovered.metadata, b"whose log this is".as_slice());
        let expected: Vec<_> = (1..200).map(|index| entry(index, 3000)).collect();
        assert_eq!(recovered.entries, expected);
        let mut wal = Wal::resume(&recovered, small());
        append(&mut wal, &disk, 200..260, 3000).await;
        assert_eq!(wal.durable(), wal.last_sealed());
        drop((wal, disk));
        let (recovered, _disk) = reopen(dir).await;
        assert_eq!(recovered.entries.len(), 259);
        assert!(
            names(&dir.join("data/member/wal"))
                .iter()
                .all(|name| name.ends_with(".wal"))
        );
    });
}

#[test]
fn a_log_lives_in_a_directory_of_its_own() {
    run(async |dir| {
        // Made by the operator before, as a mount point is.
        let wal_dir = dir.join("fast/wal");
        std::fs::create_dir_all(&wal_dir).unwrap();
        let options = StorageOptions {
            wal_dir: Some(wal_dir.clone()),
            ..options(dir)
        };
        let observer = Rc::new(Counts::default());
        let storage = open(&options, observer).await.unwrap();
        let mut wal = Wal::create(b"meta".as_slice().into(), small());
        settle(&mut wal, &storage.disk).await;
        assert!(names(&wal_dir).contains(&"0000000000000000-0000000000000000.wal".to_owned()));
        assert_eq!(names(&dir.join("data/member")), ["snap"]);
    });
}

#[test]
fn a_second_process_is_refused_and_so_is_one_beside_etcd() {
    run(async |dir| {
        let (wal, disk) = create(dir).await;
        let error = error_of(dir).await;
        let member = dir.join("data/member");
        assert!(
            matches!(&error, StorageError::InUse { path } if *path == member),
            "{error}"
        );
        // etcd asks for the segment's own lock.
        let segment = member.join("wal/0000000000000000-0000000000000000.wal");
        FileLock::exclusive_existing(&segment).unwrap_err();
        drop((wal, disk));

        let (_, disk) = reopen(dir).await;
        FileLock::exclusive_existing(&segment).unwrap_err();
        drop(disk);
        let etcd = driver::timeout(Duration::from_secs(20), async {
            loop {
                match FileLock::exclusive_existing(&segment) {
                    Ok(lock) => break lock,
                    Err(_) => driver::sleep(Duration::from_millis(1)).await,
                }
            }
        });
        let _etcd = etcd.await.unwrap();
        let error = error_of(dir).await;
        assert!(
            matches!(&error, StorageError::InUse { path } if *path == segment),
            "{error}"
        );
    });
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    run(async |dir| {
        let member = dir.join("data/member");
        std::fs::create_dir_all(member.join("wal.tmp/deep")).unwrap();
        std::fs::create_dir_all(member.join("snap")).unwrap();
        let (mut wal, disk) = create(dir).await;
        append(&mut wal, &disk, 1..3, 10).await;
        drop((wal, disk));
        for name in [
            "wal/0.tmp",
            "wal/1.tmp",
            "snap/db.tmp.123",
            "snap/tmp456",
            "snap/kept",
        ] {
            std::fs::write(member.join(name), b"x").unwrap();
        }
        let (recovered, _disk) = reopen(dir).await;
        assert_eq!(recovered.entries.len(), 2);
        assert_eq!(names(&member.join("snap")), ["db.tmp.first", "kept"]);
        assert_eq!(
            names(&member.join("wal")),
            ["0000000000000000-0000000000000000.wal"]
        );
    });
}

#[test]
fn an_interrupted_write_is_cut_and_zeroed() {
    run(async |dir| {
        let (mut wal, disk) = create(dir).await;
        append(&mut wal, &disk, 1..4, 100).await;
        drop((wal, disk));
        let segment = dir.join("data/member/wal/0000000000000000-0000000000000000.wal");
        let mut bytes = std::fs::read(&segment).unwrap();
        let at = bytes.len() - 3 * BLOCK as usize;
        bytes[at..at + 600].fill(0xab);
        std::fs::write(&segment, &bytes).unwrap();

        let (recovered, disk) = reopen(dir).await;
        assert_eq!(recovered.entries.len(), 3);
        assert!(recovered.cut.is_some());
        let mut wal = Wal::resume(&recovered, small());
        append(&mut wal, &disk, 4..5, 100).await;
        drop((wal, disk));
        assert!(
            std::fs::read(&segment).unwrap()[at..]
                .iter()
                .all(|&byte| byte == 0)
        );
        let (recovered, _disk) = reopen(dir).await;
        assert_eq!((recovered.entries.len(), recovered.cut), (4, None));
    });
}

#[test]
fn a_damaged_log_is_refused_by_name() {
    run(async |dir| {
        let (mut wal, disk) = create(dir).await;
        append(&mut wal, &disk, 1..4, 1000).await;
        drop((wal, disk));
        let segment = dir.join("data/member/wal/0000000000000000-0000000000000000.wal");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[1500] ^= 1;
        std::fs::write(&segment, &bytes).unwrap();
        driver::sleep(Duration::from_millis(10)).await;
        let error = error_of(dir).await;
        assert!(matches!(error, StorageError::Log { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("data/member/wal") && text.contains("byte"),
            "{text}"
        );
    });
}

#[test]
fn a_full_disk_stops_claims_only_and_they_recover() {
    run(async |dir| {
        let (mut wal, disk) = create(dir).await;
        let rule = format!("allocate:{}/*.tmp:ENOSPC", dir.display());
        let full = faults::install(&rule).unwrap();
        let mut index = 1;
        while wal.health() == Health::Healthy {
            assert!(index < 100, "the segment ended and nobody noticed");
            append(&mut wal, &disk, index..index + 1, 3000).await;
            index += 1;
        }
        assert_eq!(wal.health(), Health::ClaimFailed);
        drop(full);
        wal.retry_claim();
        append(&mut wal, &disk, index..index + 20, 3000).await;
        assert_eq!(wal.health(), Health::Healthy);
        assert_eq!(wal.durable(), wal.last_sealed());
        drop((wal, disk));
        let (recovered, _disk) = reopen(dir).await;
        assert_eq!(recovered.entries.len() as u64, index + 19);
    });
}

#[test]
fn a_failed_write_or_sync_of_claimed_space_is_fatal() {
    for operation in ["write", "sync"] {
        run(async |dir| {
            let (mut wal, disk) = create(dir).await;
            append(&mut wal, &disk, 1..3, 100).await;
            let durable = wal.durable();
            let rule = format!("{operation}:{}/*.wal:times=1:EIO", dir.display());
            let fault = faults::install(&rule).unwrap();
            append(&mut wal, &disk, 3..4, 100).await;
            assert_eq!(wal.health(), Health::Failed);
            assert_eq!(wal.durable(), durable);
            drop(fault);
            append(&mut wal, &disk, 4..5, 100).await;
            assert_eq!(
                wal.health(),
                Health::Failed,
                "a failed log does not come back"
            );
        });
    }
}

#[test]
fn without_fsync_nothing_is_synced() {
    run(async |dir| {
        let at = dir.display();
        let rules = format!("sync:{at}/*.wal:EIO;sync:{at}/*0.tmp:EIO;syncdir:{at}/*wal.tmp:EIO");
        let _fault = faults::install(&rules).unwrap();
        let observer = Rc::new(Counts::default());
        let options = StorageOptions {
            unsafe_no_fsync: true,
            ..options(dir)
        };
        let storage = open(&options, observer.clone()).await.unwrap();
        let mut wal = Wal::create(b"meta".as_slice().into(), small());
        settle(&mut wal, &storage.disk).await;
        append(&mut wal, &storage.disk, 1..5, 100).await;
        assert_eq!(wal.durable(), wal.last_sealed());
        assert_eq!(observer.syncs.get(), 0);
    });
}

#[test]
fn directories_that_cannot_be_used_are_told_apart() {
    run(async |dir| {
        std::fs::write(dir.join("data"), b"a file").unwrap();
        assert!(matches!(
            error_of(dir).await,
            StorageError::NotADirectory { .. }
        ));
        std::fs::remove_file(dir.join("data")).unwrap();

        let at = dir.display();
        for (rule, words) in [
            (format!("mkdir:{at}/*:EROFS"), "remount"),
            (format!("mkdir:{at}/*:EACCES"), "permission denied"),
            (format!("open:{at}/*.touch:ENOSPC"), "free some space"),
            (format!("open:{at}/*.touch:EDQUOT"), "free some space"),
            (
                format!("open:{at}/*wal.tmp/.touch:EIO"),
                "cannot write into it",
            ),
        ] {
            let _fault = faults::install(&rule).unwrap();
            let error = error_of(dir).await.to_string();
            assert!(
                error.contains(words) && error.contains("data"),
                "{rule}: {error}"
            );
        }
        assert!(open_default(dir).await.is_ok());
    });
}

#[test]
fn a_database_without_its_log_is_not_overwritten() {
    run(async |dir| {
        let snap = dir.join("data/member/snap");
        std::fs::create_dir_all(&snap).unwrap();
        std::fs::write(snap.join("db"), b"somebody's data").unwrap();
        let error = error_of(dir).await;
        assert!(
            matches!(error, StorageError::DatabaseWithoutLog { .. }),
            "{error}"
        );
        assert_eq!(names(&snap), ["db"]);
    });
}

#[test]
fn operations_that_overlap_find_their_files_while_the_directory_is_renamed() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        let wal = Rc::new(RefCell::new(Wal::create(
            b"meta".as_slice().into(),
            small(),
        )));
        let mut tasks = Vec::new();
        let woken = Rc::new(driver::Notify::new());
        for index in 1..60 {
            wal.borrow_mut().append_entry(&entry(index, 3000));
            wal.borrow_mut().seal(Durability::Sync);
            loop {
                let io = wal.borrow_mut().poll_io();
                let Some(io) = io else {
                    if wal.borrow().is_settled() {
                        break;
                    }
                    woken.notified().await;
                    continue;
                };
                let (wal, disk, woken) = (wal.clone(), storage.disk.clone(), woken.clone());
                tasks.push(driver::spawn(async move {
                    let (ticket, result) = disk.perform(io).await;
                    assert_eq!(result, Ok(()));
                    wal.borrow_mut().on_io_done(ticket, result);
                    woken.notify();
                }));
            }
        }
        assert_eq!(wal.borrow().health(), Health::Healthy);
        drop(tasks);
        drop((wal, storage));
        let (recovered, _disk) = reopen(dir).await;
        assert_eq!(recovered.entries.len(), 59);
    });
}

/// Entries of a long log below the last snapshots are read only if somebody asks for them.
#[test]
fn a_start_reads_from_the_last_snapshot_but_one() {
    run(async |dir| {
        let (mut wal, disk) = create(dir).await;
        append(&mut wal, &disk, 1..400, 3000).await;
        drop((wal, disk));
        let snap = dir.join("data/member/snap");
        for index in [100, 250, 300] {
            let name = engine::snap::SnapName { term: 1, index };
            std::fs::write(snap.join(name.to_string()), b"the name is enough").unwrap();
        }
        let (mut log, disk) = reopen_log(dir).await;
        assert!(log.has_unread());
        let indexes = |log: &FoundLog| {
            let entries = log.recovered().entries.iter();
            entries.map(raftpb::Entry::index).collect::<Vec<_>>()
        };
        let part = indexes(&log);
        let first = part[0];
        assert!((200..=250).contains(&first), "{first}");
        assert_eq!(part, (first..400).collect::<Vec<_>>());
        let tail = log.recovered().tail.clone();
        log.read_whole().await.unwrap();
        assert!(!log.has_unread());
        assert_eq!(indexes(&log), (1..400).collect::<Vec<_>>());
        assert_eq!(log.recovered().tail, tail);
        drop((log, disk));

        // Damage in what is read means that all of it is looked at, and told.
        let mut segments: Vec<_> = names(&dir.join("data/member/wal"));
        segments.retain(|name| name.ends_with(".wal"));
        let last_but_one = dir
            .join("data/member/wal")
            .join(&segments[segments.len() - 2]);
        let mut bytes = std::fs::read(&last_but_one).unwrap();
        bytes[5000] ^= 1;
        std::fs::write(&last_but_one, bytes).unwrap();
        let refused = loop {
            match open_default(dir).await {
                Err(StorageError::InUse { .. }) => driver::sleep(Duration::from_millis(1)).await,
                result => break result.err().unwrap(),
            }
        };
        assert!(
            refused.to_string().contains(&segments[segments.len() - 2]),
            "{refused}"
        );
    });
}
