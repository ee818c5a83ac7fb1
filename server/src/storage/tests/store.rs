//! The store's file: how it comes to be, what fails when, and who may have it.

use std::os::unix::fs::MetadataExt;

use engine::state::Progress;
use engine::store::{CommitState, Store, check};
use engine::tail::Bucket;
use engine::types::Budget;

use super::*;

const PAGE: usize = 4096;

fn snap(dir: &Path) -> PathBuf {
    dir.join("data/member/snap")
}

fn pages(byte: u8, count: usize) -> bytes::Bytes {
    vec![byte; count * PAGE].into()
}

/// The steps of a store's commit: claim, pages, sync, meta page, sync.
async fn commit(store: &StoreDisk, byte: u8, page_count: usize) -> std::io::Result<()> {
    store.grow(((page_count + 1) * PAGE) as u64).await?;
    store.write(PAGE as u64, pages(byte, page_count)).await?;
    store.sync().await?;
    store.write(0, pages(byte, 1)).await?;
    store.sync().await
}

/// A directory with a log and a store of `page_count` pages, all of one byte.
async fn with_store(dir: &Path, byte: u8, page_count: usize) {
    let storage = open_default(dir).await.unwrap();
    let mut wal = Wal::create(b"meta".as_slice().into(), small());
    settle(&mut wal, &storage.disk).await;
    commit(&storage.store, byte, page_count - 1).await.unwrap();
}

/// Opens again, as soon as the former owner's descriptors are closed.
async fn open_again(dir: &Path) -> Storage {
    let opened = driver::timeout(Duration::from_secs(20), async {
        loop {
            match open_default(dir).await {
                Err(StorageError::InUse { .. }) => driver::sleep(Duration::from_millis(1)).await,
                result => break result.unwrap(),
            }
        }
    });
    opened.await.unwrap()
}

#[test]
fn a_new_store_gets_its_name_with_its_first_commit() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        let store = &storage.store;
        assert_eq!(
            (store.found_len(), names(&snap(dir))),
            (0, vec!["db.tmp.first".to_owned()])
        );
        let reader = store.pages();
        assert_eq!(reader.bytes(0, 1), None);

        store.grow(64 * PAGE as u64).await.unwrap();
        assert_eq!(reader.bytes(63 * PAGE as u64, PAGE), Some(&[0; PAGE][..]));
        assert_eq!(reader.bytes(64 * PAGE as u64, 1), None);
        store.write(PAGE as u64, pages(7, 40)).await.unwrap();
        assert_eq!(
            reader.bytes(PAGE as u64, 40 * PAGE),
            Some(&pages(7, 40)[..])
        );
        store.sync().await.unwrap();
        assert_eq!(names(&snap(dir)), ["db.tmp.first"]);
        store.write(0, pages(1, 1)).await.unwrap();
        store.sync().await.unwrap();
        assert_eq!(names(&snap(dir)), ["db"]);
        assert_eq!(mode(&snap(dir).join("db")), 0o600);
        let on_disk = std::fs::read(snap(dir).join("db")).unwrap();
        assert_eq!(on_disk.len(), 64 * PAGE);
        assert!(on_disk[..PAGE] == [1; PAGE] && on_disk[PAGE..41 * PAGE] == pages(7, 40));

        // Less than there is: nothing to do.
        store.grow(PAGE as u64).await.unwrap();
        assert_eq!(store.map().len(), 64 * PAGE as u64);
    });
}

#[test]
fn a_store_is_found_again_and_an_unfinished_one_is_not() {
    run(async |dir| {
        with_store(dir, 5, 9).await;
        let storage = open_again(dir).await;
        assert_eq!(storage.store.found_len(), 9 * PAGE as u64);
        assert_eq!(
            storage.store.pages().bytes(0, 9 * PAGE),
            Some(&pages(5, 9)[..])
        );
        drop(storage);

        // As if the crash had come before the end of the first commit; once more with nothing but a name.
        for leave in [None, Some(&b""[..])] {
            std::fs::remove_file(snap(dir).join("db")).unwrap();
            if let Some(bytes) = leave {
                std::fs::write(snap(dir).join("db"), bytes).unwrap();
            }
            let storage = open_again(dir).await;
            assert_eq!(storage.store.found_len(), 0);
            storage.store.grow(4 * PAGE as u64).await.unwrap();
            storage.store.write(0, pages(1, 1)).await.unwrap();
            storage.store.sync().await.unwrap();
            drop(storage);
            let storage = open_again(dir).await;
            assert_eq!(storage.store.found_len(), 0);
            commit(&storage.store, 8, 3).await.unwrap();
            drop(storage);
            let storage = open_again(dir).await;
            assert_eq!(storage.store.found_len(), 4 * PAGE as u64);
        }
    });
}

#[test]
fn each_step_of_a_first_commit_that_fails_is_told_and_names_nothing() {
    let at = |dir: &Path, rule: &str| rule.replace("SNAP", &snap(dir).display().to_string());
    for (rule, is_named) in [
        ("allocate:SNAP/db*:ENOSPC", false),
        ("allocate:SNAP/db*:EDQUOT", false),
        ("write:SNAP/db*:times=1:EIO", false),
        ("write:SNAP/db*:short=4096", false),
        ("sync:SNAP/db*:EIO", false),
        ("write:SNAP/db*:after=1:EIO", false),
        ("sync:SNAP/db*:after=1:EIO", false),
        ("rename:SNAP/db*:ENOSPC", false),
        ("syncdir:SNAP:EIO", true),
    ] {
        run(async |dir| {
            let storage = open_default(dir).await.unwrap();
            let fault = faults::install(&at(dir, rule)).unwrap();
            commit(&storage.store, 3, 20).await.unwrap_err();
            assert_eq!(snap(dir).join("db").exists(), is_named, "{rule}");
            drop(fault);
        });
    }
}

#[test]
fn a_full_disk_is_an_answer_and_later_there_is_room() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        let store = &storage.store;
        commit(store, 1, 3).await.unwrap();
        let full = faults::install(&format!("allocate:{}/db:ENOSPC", snap(dir).display())).unwrap();
        for _ in 0..3 {
            let error = store.grow(100 * PAGE as u64).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            assert_eq!(store.map().len(), 4 * PAGE as u64);
            // What is claimed can still be written.
            store.write(0, pages(2, 4)).await.unwrap();
            store.sync().await.unwrap();
        }
        drop(full);
        // Longer than a batch.
        commit(store, 4, 1499).await.unwrap();
        let written = store.pages();
        assert_eq!(written.bytes(0, 1500 * PAGE), Some(&pages(4, 1500)[..]));
    });
}

#[test]
fn nothing_is_written_outside_of_what_was_claimed() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        let store = &storage.store;
        store.grow(4 * PAGE as u64).await.unwrap();
        for (offset, bytes) in [
            (4 * PAGE as u64, pages(1, 1)),
            (0, pages(1, 5)),
            (u64::MAX - 100, pages(1, 1)),
            (0, pages(1, 1).slice(..100)),
            (100, pages(1, 1)),
        ] {
            let error = store.write(offset, bytes).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{offset}");
        }
        assert_eq!(store.pages().bytes(0, 4 * PAGE), Some(&[0; 4 * PAGE][..]));
    });
}

#[test]
fn without_fsync_the_store_is_not_synced_either() {
    run(async |dir| {
        let at = snap(dir).display().to_string();
        let _fault = faults::install(&format!("sync:{at}/db*:EIO;syncdir:{at}:EIO")).unwrap();
        let options = StorageOptions {
            unsafe_no_fsync: true,
            ..options(dir)
        };
        let storage = open(&options, Rc::new(Counts::default())).await.unwrap();
        commit(&storage.store, 1, 3).await.unwrap();
        assert_eq!(names(&snap(dir)), ["db"]);
    });
}

#[test]
fn a_store_that_another_has_is_refused_and_so_are_others_while_it_is_ours() {
    run(async |dir| {
        with_store(dir, 1, 4).await;
        let path = snap(dir).join("db");
        // The log's descriptors first, so that the store is what is in use.
        let storage = open_again(dir).await;
        FileLock::exclusive_existing(&path).unwrap_err();
        drop(storage);
        drop(open_again(dir).await);
        // bbolt, say, looking at the file.
        let tool = driver::timeout(Duration::from_secs(20), async {
            loop {
                match FileLock::exclusive_existing(&path) {
                    Ok(lock) => break lock,
                    Err(_) => driver::sleep(Duration::from_millis(1)).await,
                }
            }
        });
        let tool = tool.await.unwrap();
        let refused = loop {
            match open_default(dir).await {
                Err(StorageError::InUse { path: held }) if held != path => {}
                Err(error) => break error,
                Ok(_) => panic!("the store was opened"),
            }
        };
        assert!(
            matches!(&refused, StorageError::InUse { path: held } if *held == path),
            "{refused}"
        );
        drop(tool);
        open_again(dir).await;
    });
}

#[test]
fn a_store_that_cannot_be_used_is_told_with_path_and_cure() {
    run(async |dir| {
        with_store(dir, 1, 4).await;
        let at = snap(dir).display().to_string();
        drop(open_again(dir).await);
        for (rule, words) in [
            (format!("open:{at}/db:EACCES"), "permission denied"),
            (format!("open:{at}/db:EROFS"), "remount"),
            (format!("allocate:{at}/db:ENOSPC"), "free some space"),
            (format!("open:{at}/.touch:EROFS"), "remount"),
            (format!("open:{at}/.touch:EACCES"), "permission denied"),
        ] {
            let _fault = faults::install(&rule).unwrap();
            let error = loop {
                match open_default(dir).await {
                    Err(StorageError::InUse { .. }) => {}
                    Err(error) => break error.to_string(),
                    Ok(_) => panic!("{rule}: opened"),
                }
            };
            assert!(
                error.contains(words) && error.contains(&at),
                "{rule}: {error}"
            );
        }
        std::fs::remove_file(snap(dir).join("db")).unwrap();
        let _fault = faults::install(&format!("open:{at}/db.tmp.first:ENOSPC")).unwrap();
        let error = error_of(dir).await.to_string();
        assert!(
            error.contains("free some space") && error.contains("db.tmp.first"),
            "{error}"
        );
        drop(_fault);
        std::fs::create_dir(snap(dir).join("db")).unwrap();
        let error = error_of(dir).await;
        assert!(matches!(error, StorageError::NotAFile { .. }), "{error}");
    });
}

#[test]
fn holes_that_bbolt_left_are_claimed_at_the_start() {
    run(async |dir| {
        with_store(dir, 6, 4).await;
        let path = snap(dir).join("db");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(16 << 20).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        let storage = open_again(dir).await;
        assert_eq!(storage.store.found_len(), 16 << 20);
        assert!(file.metadata().unwrap().blocks() * 512 >= 16 << 20);
        assert_eq!(
            storage.store.pages().bytes(0, 4 * PAGE),
            Some(&pages(6, 4)[..])
        );
    });
}

#[test]
fn a_received_database_takes_the_place_of_the_old_one() {
    run(async |dir| {
        with_store(dir, 1, 4).await;
        let at = snap(dir);
        std::fs::write(at.join("00000000000000ff.snap.db"), pages(9, 2)).unwrap();
        let storage = open_again(dir).await;
        let received: Vec<u64> = storage
            .found
            .received
            .iter()
            .map(|name| name.index)
            .collect();
        assert_eq!(received, [0xff]);
        let old = storage.store.pages();

        let missing = storage.store.swap_in(0xfe).await.err().unwrap().to_string();
        assert!(
            missing.contains("00000000000000fe.snap.db") && missing.contains("index 254"),
            "{missing}"
        );
        for rule in ["rename:AT/*.snap.db:EROFS", "syncdir:AT:EIO"] {
            let rule = rule.replace("AT", &at.display().to_string());
            let fault = faults::install(&rule).unwrap();
            storage.store.swap_in(0xff).await.err().unwrap();
            drop(fault);
            std::fs::write(at.join("00000000000000ff.snap.db"), pages(9, 2)).unwrap();
        }
        let store = storage.store.swap_in(0xff).await.unwrap();
        assert_eq!(store.found_len(), 2 * PAGE as u64);
        assert_eq!(store.pages().bytes(0, 2 * PAGE), Some(&pages(9, 2)[..]));
        assert_eq!(old.bytes(0, 4 * PAGE), Some(&pages(1, 4)[..]));
        assert_eq!(names(&at), ["db"]);
    });
}

/// Performs what a commit asks for, until it is over one way or the other.
async fn drive(store: &mut Store, disk: &StoreDisk) -> CommitState {
    while let Some(io) = store.poll_io() {
        // The second of two pieces under way waits in the queue here; the disk does not care.
        let (ticket, result) = disk.perform(io).await;
        store.on_io_done(ticket, result);
    }
    store.state()
}

fn fill(store: &mut Store, commit_no: u32) {
    store.begin();
    for n in 0..3000_u32 {
        let key = [commit_no.to_be_bytes(), n.to_be_bytes()].concat();
        store
            .put(Bucket::Key, &key, &[commit_no as u8; 300])
            .unwrap();
    }
    store.seal(true).unwrap();
}

fn get(store: &Store, commit_no: u32, n: u32) -> Option<Vec<u8>> {
    let key = [commit_no.to_be_bytes(), n.to_be_bytes()].concat();
    store
        .reader(Bucket::Key)
        .get(&key)
        .unwrap()
        .map(<[u8]>::to_vec)
}

#[test]
fn commits_of_the_engine_are_read_back_after_faults_and_restarts() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        let mut wal = Wal::create(b"meta".as_slice().into(), small());
        settle(&mut wal, &storage.disk).await;
        let mut store = Store::create(storage.store.pages());
        fill(&mut store, 0);
        let full =
            faults::install(&format!("allocate:{}/db*:ENOSPC", snap(dir).display())).unwrap();
        assert_eq!(
            drive(&mut store, &storage.store).await,
            CommitState::ClaimFailed
        );
        drop(full);
        store.retry_claim();
        assert_eq!(drive(&mut store, &storage.store).await, CommitState::Idle);
        drop((storage, store, wal));

        for commit_no in 1..5 {
            let storage = open_again(dir).await;
            let disk = &storage.store;
            let mut store = Store::open(disk.pages(), disk.found_len()).unwrap();
            assert_eq!(
                store.scan(&mut Budget::new(1_000_000)).unwrap(),
                Progress::Done(())
            );
            assert_eq!(
                get(&store, commit_no - 1, 2999),
                Some(vec![commit_no as u8 - 1; 300])
            );
            check(&*disk.pages(), disk.found_len()).unwrap();

            fill(&mut store, commit_no);
            assert_eq!(drive(&mut store, disk).await, CommitState::Idle);

            // A commit that fails at its last sync stops the store; the one before is what a start finds, or the
            // failed one, since the file itself was whole.
            fill(&mut store, 100 + commit_no);
            let rule = format!("sync:{}/db:after=1:EIO", snap(dir).display());
            let fault = faults::install(&rule).unwrap();
            assert_eq!(drive(&mut store, disk).await, CommitState::Failed);
            drop(fault);
            assert_eq!(get(&store, commit_no, 7), Some(vec![commit_no as u8; 300]));
        }
    });
}
