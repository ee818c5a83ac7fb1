//! Each operation in turn fails.

use crate::sim_disk::SimDisk;
use bytes::Bytes;
use engine::random::SplitMix64 as Rng;
use engine::wal::{
    Durability, GroupNo, Health, IoFault, Pace, SegmentName, Wal, WalOp, WalOptions,
};
use proto::raftpb::Entry;

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 16 * 4096,
        ..WalOptions::default()
    }
}

fn create() -> Wal {
    Wal::create(Bytes::from_static(b"meta"), options())
}

fn append(wal: &mut Wal, index: u64, len: usize) -> GroupNo {
    wal.append_entry(&Entry {
        term: Some(1),
        index: Some(index),
        data: Some(vec![1; len].into()),
        ..Entry::default()
    });
    wal.seal(Durability::Sync)
}

/// Performs everything there is; returns the operations.
fn drive(wal: &mut Wal, disk: &mut SimDisk) -> Vec<WalOp> {
    let mut ops = Vec::new();
    while let Some(io) = wal.poll_io() {
        let result = disk.perform(&io);
        wal.on_io_done(io.ticket, result);
        ops.push(io.op);
    }
    ops
}

#[test]
fn any_failing_step_of_a_group_stops_the_log_and_keeps_what_was_durable() {
    // The second group needs a second segment, so every kind of step is among these.
    for failing in 0..40 {
        let mut disk = SimDisk::default();
        let mut wal = create();
        append(&mut wal, 1, 40_000);
        let mut durable = GroupNo(0);
        let mut appended = 1;
        let mut failed_op = None;
        for step in 0.. {
            let Some(io) = wal.poll_io() else {
                if appended < 4 && wal.health() == Health::Healthy {
                    appended += 1;
                    append(&mut wal, appended, 40_000);
                    continue;
                }
                break;
            };
            if step == failing {
                wal.on_io_done(io.ticket, Err(IoFault { os_error: Some(5) }));
                failed_op = Some((io.op, io.pace));
            } else {
                let result = disk.perform(&io);
                wal.on_io_done(io.ticket, result);
            }
            assert!(wal.durable() >= durable);
            durable = wal.durable();
        }
        let Some((op, pace)) = failed_op else {
            assert_eq!((wal.health(), durable), (Health::Healthy, GroupNo(5)));
            continue;
        };
        match (&op, pace) {
            (WalOp::Claim { .. } | WalOp::Allocate { .. }, _) => {
                assert_ne!(wal.health(), Health::Failed, "{op:?}");
            }
            (WalOp::Write { .. } | WalOp::Rename { .. } | WalOp::SyncDirectory, _)
            | (WalOp::Sync { .. }, Pace::Urgent) => {
                assert_eq!(wal.health(), Health::Failed, "{op:?}");
                append(&mut wal, appended + 1, 10);
                wal.on_tick();
                assert_eq!((wal.poll_io(), wal.durable()), (None, durable));
                assert_eq!(wal.queued_bytes(), 0);
            }
            _ => {}
        }
        if durable > GroupNo(0) {
            let recovered = disk.recovery().finish().unwrap();
            assert!(recovered.entries.len() as u64 + 1 >= durable.0, "{op:?}");
        }
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let mut disk = SimDisk::default();
    let mut wal = create();
    disk.is_full = true;
    drive(&mut wal, &mut disk);
    assert_eq!(
        (wal.health(), wal.durable()),
        (Health::ClaimFailed, GroupNo(0))
    );
    disk.is_full = false;
    wal.retry_claim();
    drive(&mut wal, &mut disk);
    assert_eq!((wal.health(), wal.durable()), (Health::Healthy, GroupNo(1)));

    // The next segment is claimed already; the one after it is not.
    disk.is_full = true;
    let mut index = 0;
    while wal.health() == Health::Healthy {
        index += 1;
        append(&mut wal, index, 10_000);
        drive(&mut wal, &mut disk);
    }
    // What was promised before is still written.
    assert_eq!(wal.durable(), wal.last_sealed());
    disk.is_full = false;
    for _ in 0..10 {
        wal.on_tick();
    }
    drive(&mut wal, &mut disk);
    assert_eq!(wal.health(), Health::Healthy);
    let recovered = disk.recovery().finish().unwrap();
    assert_eq!(recovered.entries.len() as u64, index);
}

#[test]
fn a_group_larger_than_a_segment_enlarges_one() {
    let mut disk = SimDisk::default();
    let mut wal = create();
    drive(&mut wal, &mut disk);
    disk.is_full = true;
    let group = append(&mut wal, 1, 200_000);
    drive(&mut wal, &mut disk);
    assert_eq!(
        (wal.health(), wal.durable()),
        (Health::ClaimFailed, GroupNo(1))
    );
    disk.is_full = false;
    wal.retry_claim();
    let ops = drive(&mut wal, &mut disk);
    assert!(matches!(ops[0], WalOp::Allocate { .. }), "{ops:?}");
    assert_eq!((wal.health(), wal.durable()), (Health::Healthy, group));
    append(&mut wal, 2, 100);
    drive(&mut wal, &mut disk);
    let recovered = disk.recovery().finish().unwrap();
    assert_eq!(recovered.entries.len(), 2);
    assert_eq!(recovered.cut, None);
}

#[test]
fn a_segment_of_another_program_is_enlarged_and_cleaned_first() {
    let mut disk = SimDisk::default();
    let mut wal = create();
    append(&mut wal, 1, 100);
    drive(&mut wal, &mut disk);
    let (name, content) = disk.segments().remove(0);
    let end = disk.recovery().finish().unwrap().tail.end as usize;

    // Cut to its bytes, as `etcdutl` or a repair leaves it, with the rest of a torn write behind.
    let mut disk = SimDisk::default();
    let mut short = content[..end].to_vec();
    short.resize(end + 5000, 0);
    short.extend_from_slice(&[0xee; 1000]);
    disk.insert(name, &short);
    let recovered = disk.recovery().finish().unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!((cut.offset, cut.lost_bytes), (end as u64, 6000));

    let mut wal = Wal::resume(&recovered, options());
    append(&mut wal, 2, 100);
    let ops = drive(&mut wal, &mut disk);
    let is_sync = |op: &WalOp| matches!(op, WalOp::Sync { .. });
    let first_sync = ops.iter().position(is_sync).unwrap();
    let cleaned = &ops[..first_sync];
    assert!(matches!(
        cleaned[..],
        [
            WalOp::Open { .. },
            WalOp::Allocate { .. },
            WalOp::Write { .. },
            WalOp::Zero { .. }
        ]
    ));
    let recovered = disk.recovery().finish().unwrap();
    assert_eq!((recovered.entries.len(), recovered.cut), (2, None));
    assert_eq!(disk.segments()[0].1.len() as u64, options().segment_bytes);
}

#[test]
fn a_segment_without_its_head_is_begun_anew() {
    let mut disk = SimDisk::default();
    let mut wal = create();
    append(&mut wal, 1, 100);
    drive(&mut wal, &mut disk);
    let name = SegmentName {
        sequence: 1,
        first_index: 2,
    };
    for content in [&[0; 8192][..], &[]] {
        disk.close_all();
        disk.insert(name, content);
        let recovered = disk.recovery().finish().unwrap();
        let mut wal = Wal::resume(&recovered, options());
        append(&mut wal, 2, 100);
        drive(&mut wal, &mut disk);
        // The new segment alone is a log by itself.
        let mut alone = SimDisk::default();
        let (name, content) = disk.segments().pop().unwrap();
        alone.insert(name, &content);
        let recovered = alone.recovery().finish().unwrap();
        assert_eq!(recovered.entries[0].index(), 2);
        assert_eq!(recovered.metadata, &b"meta"[..]);
    }
}

/// The process was killed between the rename of a new segment and the sync of the directory. The next life found the
/// segment under its name and wrote on in it, but nothing made the name itself durable: a power cut took the segment
/// away, with all that had been reported durable in it (simulator, one member, seed 11319).
#[test]
fn the_name_of_a_segment_is_durable_before_the_next_life_goes_on_in_it() {
    for seed in 0..20 {
        let mut disk = SimDisk::default();
        let mut wal = create();
        append(&mut wal, 1, 40_000);
        drive(&mut wal, &mut disk);
        append(&mut wal, 2, 40_000);
        while let Some(io) = wal.poll_io() {
            let result = disk.perform(&io);
            if matches!(io.op, WalOp::Rename { .. }) {
                break;
            }
            wal.on_io_done(io.ticket, result);
        }
        disk.close_all();

        let mut wal = Wal::resume(&disk.recovery().finish().unwrap(), options());
        let group = append(&mut wal, 3, 100);
        while wal.durable() < group {
            let io = wal.poll_io().unwrap();
            let result = disk.perform(&io);
            wal.on_io_done(io.ticket, result);
        }
        disk.crash(&mut Rng(seed));
        let recovered = disk.recovery().finish().unwrap();
        assert_eq!(recovered.entries.len(), 3, "seed {seed}");
    }
}
