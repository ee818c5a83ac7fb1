//! Snapshot files and the release of what they replace.

use engine::snap::{SnapFile, SnapIo, SnapOp, SnapTicket};
use proto::raftpb::ConfState;

use super::*;

fn snap(dir: &Path) -> PathBuf {
    dir.join("data/member/snap")
}

fn file(term: u64, index: u64) -> SnapFile {
    SnapFile {
        term,
        index,
        conf_state: ConfState {
            voters: vec![1, 2, index],
            auto_leave: Some(false),
            ..ConfState::default()
        },
        data: format!("members at {index}").into_bytes().into(),
    }
}

async fn perform(disk: &SnapDisk, op: SnapOp) -> Result<(), engine::wal::IoFault> {
    let ticket = SnapTicket(7);
    let (answered, result) = disk.perform(SnapIo { ticket, op }).await;
    assert_eq!(answered, ticket);
    result
}

async fn write(disk: &SnapDisk, term: u64, index: u64) -> Result<(), engine::wal::IoFault> {
    let bytes = file(term, index).encode();
    perform(disk, SnapOp::Write { term, index, bytes }).await
}

fn name(term: u64, index: u64) -> String {
    file(term, index).name().to_string()
}

/// The log's segments, oldest first.
fn segments(dir: &Path) -> Vec<SegmentName> {
    let names = names(&dir.join("data/member/wal"));
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

#[test]
fn snapshots_are_found_again_the_newest_first() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        for (term, index) in [(1, 10), (3, 30), (2, 20), (3, 30)] {
            write(&storage.snapshots, term, index).await.unwrap();
        }
        assert_eq!(
            names(&snap(dir)),
            [
                name(1, 10),
                name(2, 20),
                name(3, 30),
                "db.tmp.first".to_owned()
            ]
        );
        let found = storage.snapshots.find().await.unwrap();
        assert_eq!(found.files, [file(3, 30), file(2, 20), file(1, 10)]);
        assert!(found.received.is_empty());
    });
}

#[test]
fn a_write_that_fails_at_any_step_leaves_no_half_file() {
    for (rule, is_there) in [
        ("open:SNAP/tmp*:ENOSPC", false),
        ("write:SNAP/tmp*:short=10", false),
        ("write:SNAP/tmp*:EIO", false),
        ("sync:SNAP/tmp*:EIO", false),
        ("rename:SNAP/tmp*:EROFS", false),
        ("syncdir:SNAP:EIO", true),
        // What was left cannot be removed either: the next try does.
        (
            "write:SNAP/tmp*:short=10;remove:SNAP/tmp*:after=1:EIO",
            false,
        ),
    ] {
        run(async |dir| {
            let storage = open_default(dir).await.unwrap();
            write(&storage.snapshots, 1, 10).await.unwrap();
            let rule = rule.replace("SNAP", &snap(dir).display().to_string());
            let fault = faults::install(&rule).unwrap();
            write(&storage.snapshots, 1, 20).await.unwrap_err();
            assert_eq!(snap(dir).join(name(1, 20)).exists(), is_there, "{rule}");
            drop(fault);
            write(&storage.snapshots, 1, 20).await.unwrap();
            assert_eq!(
                names(&snap(dir)),
                [name(1, 10), name(1, 20), "db.tmp.first".to_owned()],
                "{rule}"
            );
            let found = storage.snapshots.find().await.unwrap();
            assert_eq!(found.files, [file(1, 20), file(1, 10)]);
        });
    }
}

#[test]
fn damaged_files_are_set_aside_and_unreadable_ones_left() {
    run(async |dir| {
        let storage = open_default(dir).await.unwrap();
        for index in [10, 20, 30, 40, 50] {
            write(&storage.snapshots, 1, index).await.unwrap();
        }
        let at = |index| snap(dir).join(name(1, index));
        let mut bytes = std::fs::read(at(50)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(at(50), bytes).unwrap();
        std::fs::write(at(40), b"").unwrap();
        // One under the name of another.
        std::fs::copy(at(20), at(30)).unwrap();
        let _fault = faults::install(&format!("read:{}:EIO", at(20).display())).unwrap();
        let found = storage.snapshots.find().await.unwrap();
        assert_eq!(found.files, [file(1, 10)]);
        let broken = |index| format!("{}.broken", name(1, index));
        assert_eq!(
            names(&snap(dir)),
            [
                name(1, 10),
                name(1, 20),
                broken(30),
                broken(40),
                broken(50),
                "db.tmp.first".to_owned()
            ]
        );
    });
}

#[test]
fn a_release_removes_the_oldest_segments_and_gives_up_their_locks() {
    run(async |dir| {
        let options = |wals_max| StorageOptions {
            retention: Retention {
                wals_max,
                snapshots_max: 2,
            },
            ..options(dir)
        };
        // Some segments are found at the start, some are made later: both kinds hold locks.
        let (mut wal, disk) = create(dir).await;
        append(&mut wal, &disk, 1..200, 3000).await;
        drop((wal, disk));
        drop(reopen(dir).await);
        let opened = loop {
            match open(&options(3), Rc::new(Counts::default())).await {
                Err(StorageError::InUse { .. }) => driver::sleep(Duration::from_millis(1)).await,
                opened => break opened.unwrap(),
            }
        };
        let StoredLog::Existing(log) = opened.log else {
            panic!("the log is gone")
        };
        let mut wal = Wal::resume(log.recovered(), small());
        append(&mut wal, &opened.disk, 200..400, 3000).await;
        let before = segments(dir);
        assert!(before.len() > 8, "{before:?}");
        for index in [100, 200, 300, 350] {
            write(&opened.snapshots, 1, index).await.unwrap();
        }
        let at = |segment: &SegmentName| dir.join("data/member/wal").join(segment.to_string());
        let is_free = |segment: &SegmentName| FileLock::exclusive_existing(at(segment)).is_ok();

        // Wholly below: all in front of the last that begins at or below the index.
        let kept_from = |index| before.iter().rposition(|s| s.first_index <= index).unwrap();
        perform(&opened.snapshots, SnapOp::Release { index: 100 })
            .await
            .unwrap();
        assert_eq!(segments(dir), before[kept_from(100)..]);
        assert!(!is_free(&segments(dir)[0]));

        // A segment that cannot be removed keeps the later ones: the log has no hole.
        let stuck = format!("remove:{}:EIO", at(&segments(dir)[0]).display());
        let fault = faults::install(&stuck).unwrap();
        perform(&opened.snapshots, SnapOp::Release { index: 300 })
            .await
            .unwrap();
        assert_eq!(segments(dir), before[kept_from(100)..]);
        drop(fault);
        perform(&opened.snapshots, SnapOp::Release { index: 300 })
            .await
            .unwrap();
        assert_eq!(segments(dir), before[kept_from(300)..]);
        assert_eq!(
            names(&snap(dir)),
            [name(1, 300), name(1, 350), "db.tmp.first".to_owned()]
        );

        // Down to the number to keep, whatever the index; these are no longer ours.
        perform(&opened.snapshots, SnapOp::Release { index: 399 })
            .await
            .unwrap();
        let left = segments(dir);
        assert_eq!(left, before[before.len() - left.len()..]);
        assert_eq!(left.len(), 3);
        // The log may close its last complete segment only now, after it was released.
        append(&mut wal, &opened.disk, 400..401, 3000).await;
        while let Some(io) = wal.poll_io() {
            let (ticket, result) = opened.disk.perform(io).await;
            wal.on_io_done(ticket, result);
        }
        let below = left.iter().rposition(|s| s.first_index <= 399).unwrap();
        assert!(below > 0, "{left:?}");
        assert_eq!(left, segments(dir));
        for (no, segment) in left.iter().enumerate() {
            assert_eq!(is_free(segment), no < below, "{segment}");
        }

        // The log goes on, and is read again.
        append(&mut wal, &opened.disk, 401..410, 3000).await;
        assert_eq!(wal.health(), Health::Healthy);
        drop((wal, opened.disk, opened.snapshots, opened.store));
        let (recovered, _disk) = reopen(dir).await;
        assert_eq!(recovered.entries.last().unwrap().index, Some(409));
        assert_eq!(recovered.entries[0].index(), left[0].first_index);
    });
}

#[test]
fn zero_keeps_all_files() {
    run(async |dir| {
        let options = StorageOptions {
            retention: Retention {
                wals_max: 0,
                snapshots_max: 0,
            },
            ..options(dir)
        };
        let opened = open(&options, Rc::new(Counts::default())).await.unwrap();
        let mut wal = Wal::create(b"meta".as_slice().into(), small());
        append(&mut wal, &opened.disk, 1..200, 3000).await;
        for index in 1..9 {
            write(&opened.snapshots, 1, index * 20).await.unwrap();
        }
        std::fs::write(snap(dir).join("0000000000000001.snap.db"), b"x").unwrap();
        let before = (segments(dir), names(&snap(dir)));
        assert!(before.0.len() > 3);
        perform(&opened.snapshots, SnapOp::Release { index: 190 })
            .await
            .unwrap();
        assert_eq!(segments(dir), before.0);
        let rest: Vec<_> = before
            .1
            .into_iter()
            .filter(|n| !n.ends_with(".snap.db"))
            .collect();
        assert_eq!(names(&snap(dir)), rest);
    });
}
