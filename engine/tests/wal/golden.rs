//! Bytes of logs as they lie on disks: ours, and those of real etcds.
//!
//! `golden/etcd-*.wal` are first segments written by those versions (one member, six puts, a lease,
//! a delete, sixteen puts, a snapshot on the way, then SIGKILL), without the zeros behind the end.
//! `golden/etcore.wal` is ours; a change of it is a change of the format on disk.

use crate::sim_disk::SimDisk;
use bytes::Bytes;
use engine::wal::{
    Damage, Durability, Recovered, Recovery, RecoveryError, SegmentName, Wal, WalOptions,
};
use prost::Message;
use proto::etcdserverpb::{InternalRaftRequest, Metadata};
use proto::raftpb::{ConfChange, ConfState, Entry, HardState};
use proto::walpb::Snapshot;

const ETCD_3_7: &[u8] = include_bytes!("../golden/etcd-3.7.wal");
const ETCD_3_6: &[u8] = include_bytes!("../golden/etcd-3.6.wal");
const OURS: &[u8] = include_bytes!("../golden/etcore.wal");

const FIRST: SegmentName = SegmentName {
    sequence: 0,
    first_index: 0,
};

fn recover(segment: &[u8]) -> Result<Recovered, RecoveryError> {
    let mut recovery = Recovery::new();
    recovery.on_segment(FIRST, Bytes::copy_from_slice(segment))?;
    recovery.finish()
}

fn recover_one(name: SegmentName, segment: &[u8]) -> Recovered {
    let mut recovery = Recovery::new();
    let segment = Bytes::copy_from_slice(segment);
    recovery.on_segment(name, segment).unwrap();
    recovery.finish().unwrap()
}

/// The head as a whole preallocated segment.
fn preallocated(head: &[u8]) -> Vec<u8> {
    let mut segment = head.to_vec();
    segment.resize(64_000_000, 0);
    segment
}

/// What both logs hold; their ids differ.
fn check_etcd(head: &[u8], node_id: u64, cluster_id: u64) {
    let recovered = recover(&preallocated(head)).unwrap();
    let metadata = Metadata::decode(recovered.metadata.clone()).unwrap();
    assert_eq!(metadata.node_id(), node_id);
    assert_eq!(metadata.cluster_id(), cluster_id);
    assert_eq!(recovered.cut, None);
    assert_eq!(recovered.tail.end, head.len() as u64);
    assert_eq!(recovered.tail.last_index, 29);
    let state = recovered.hard_state;
    assert_eq!((state.term(), state.vote()), (2, node_id));
    assert_eq!(state.commit(), 28);

    let ended_at: Vec<u64> = recovered.snapshots.iter().map(Snapshot::index).collect();
    assert_eq!(ended_at, [0, 21]);
    let conf_state = recovered.snapshots[1].conf_state.clone().unwrap();
    assert_eq!(conf_state.voters, [node_id]);

    let entries = recovered.entries;
    let indexes: Vec<u64> = entries.iter().map(Entry::index).collect();
    assert_eq!(indexes, (1..=29).collect::<Vec<u64>>());
    assert_eq!(
        entries[0].r#type(),
        proto::raftpb::EntryType::EntryConfChange
    );
    let change = ConfChange::decode(entries[0].data.clone().unwrap()).unwrap();
    assert_eq!(change.node_id(), node_id);
    assert_eq!(entries[1].data(), b"");
    let request = InternalRaftRequest::decode(entries[5].data.clone().unwrap()).unwrap();
    let put = request.put.unwrap();
    assert_eq!(
        (&put.key[..], &put.value[..]),
        (&b"key1"[..], &b"value1"[..])
    );
}

#[test]
fn logs_of_real_etcds_are_read() {
    check_etcd(ETCD_3_7, 0xac7c_97ef_0ec1_93b0, 0x8cc9_da78_b36d_1115);
    check_etcd(ETCD_3_6, 0x60f9_8d3b_71ac_64f3, 0xad77_6dad_6a9e_e2eb);
}

#[test]
fn logs_of_real_etcds_are_continued() {
    for head in [ETCD_3_7, ETCD_3_6] {
        let mut disk = SimDisk::default();
        disk.insert(FIRST, head);
        let before = disk.recovery().finish().unwrap();
        let options = WalOptions {
            segment_bytes: 4096 * 2,
            write_bytes_max: 1000,
            ..WalOptions::default()
        };
        let mut wal = Wal::resume(&before, options);
        for index in 30..120 {
            wal.append_entry(&entry(index));
            wal.seal(Durability::Sync);
        }
        drive(&mut wal, &mut disk);
        assert!(disk.segments().len() > 2);
        let after = disk.recovery().finish().unwrap();
        assert_eq!(after.entries.len(), 119);
        assert_eq!(after.entries[..29], before.entries);
        assert_eq!(after.metadata, before.metadata);
        assert_eq!(after.hard_state, before.hard_state);
    }
}

fn entry(index: u64) -> Entry {
    Entry {
        term: Some(2),
        index: Some(index),
        data: Some(Bytes::from(format!("entry {index} {}", "x".repeat(180)))),
        ..Entry::default()
    }
}

fn drive(wal: &mut Wal, disk: &mut SimDisk) {
    while let Some(io) = wal.poll_io() {
        let result = disk.perform(&io);
        wal.on_io_done(io.ticket, result);
    }
}

/// A log of ours with each kind of record.
fn ours() -> Vec<u8> {
    let metadata = Metadata {
        node_id: Some(0x1234),
        cluster_id: Some(0x5678),
    };
    let mut disk = SimDisk::default();
    let options = WalOptions {
        segment_bytes: 4096,
        ..WalOptions::default()
    };
    let mut wal = Wal::create(metadata.encode_to_vec().into(), options);
    wal.append_state(&HardState {
        term: Some(1),
        ..HardState::default()
    });
    wal.append_entry(&Entry {
        index: Some(1),
        ..Entry::default()
    });
    wal.append_entry(&entry(2));
    wal.append_snapshot(&Snapshot {
        index: Some(2),
        term: Some(2),
        conf_state: Some(ConfState {
            voters: vec![0x1234],
            auto_leave: Some(false),
            ..ConfState::default()
        }),
    });
    wal.seal(Durability::Sync);
    drive(&mut wal, &mut disk);
    disk.segments().remove(0).1.to_vec()
}

#[test]
fn our_own_format_stays_as_it_is() {
    let ours = ours();
    assert_eq!(ours[..OURS.len()], *OURS);
    assert!(ours[OURS.len()..].iter().all(|&byte| byte == 0));
}

/// Offsets of the bytes that tell the records' types: the one part of a record that no crc covers.
fn type_bytes(segment: &[u8]) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut at = 0;
    while segment[at] != 0 {
        let field = u64::from_le_bytes(segment[at..at + 8].try_into().unwrap());
        offsets.push(at + 9);
        at += 8 + (field as usize & 0xff_ffff).next_multiple_of(8);
    }
    offsets
}

/// A flipped bit shows as damage or as a torn tail, never as other content.
#[test]
fn a_changed_bit_is_never_taken_for_a_record() {
    let segment = ours();
    let good = recover(&segment).unwrap();
    let exempt = type_bytes(&segment);
    assert_eq!(exempt.len(), 7);
    for bit in 0..OURS.len() * 8 {
        if exempt.contains(&(bit / 8)) {
            continue;
        }
        let mut changed = segment.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(found) = recover(&changed) else {
            continue;
        };
        assert!(good.entries.starts_with(&found.entries), "bit {bit}");
        assert!(good.snapshots.starts_with(&found.snapshots), "bit {bit}");
        let is_known = [good.hard_state, HardState::default()].contains(&found.hard_state);
        assert!(is_known, "bit {bit}");
    }
}

#[test]
fn damage_before_the_last_segment_is_refused_with_its_place() {
    let mut disk = SimDisk::default();
    let options = WalOptions {
        segment_bytes: 4096,
        write_bytes_max: 1000,
        ..WalOptions::default()
    };
    let mut wal = Wal::create(Bytes::from_static(b"meta"), options);
    for index in 1..40 {
        wal.append_entry(&entry(index));
        wal.seal(Durability::Sync);
    }
    drive(&mut wal, &mut disk);
    let segments = disk.segments();
    let replay = |segments: &[(SegmentName, Vec<u8>)]| {
        let mut recovery = Recovery::new();
        for (name, content) in segments {
            recovery.on_segment(*name, Bytes::copy_from_slice(content))?;
        }
        recovery.finish()
    };
    let good: Vec<_> = segments
        .iter()
        .map(|(name, content)| (*name, content.to_vec()))
        .collect();
    assert!(replay(&good).is_ok());

    // A lost sector: torn at the end of the log, damage anywhere else.
    let mut damaged = good.clone();
    damaged[1].1[1024..1536].fill(0);
    let Err(RecoveryError::Damaged {
        segment,
        offset,
        damage: Damage::TornInside,
    }) = replay(&damaged)
    else {
        panic!("{:?}", replay(&damaged));
    };
    assert_eq!(segment, good[1].0);
    assert!((700..1536).contains(&offset), "{offset}");

    // A segment that ends early shows at the head of the next one.
    let mut shortened = good.clone();
    let half = recover_one(good[1].0, &good[1].1[..2000]);
    let frame_start = half.cut.unwrap().offset as usize;
    shortened[1].1[frame_start..].fill(0);
    let Err(RecoveryError::Damaged {
        segment, damage, ..
    }) = replay(&shortened)
    else {
        panic!("{:?}", replay(&shortened));
    };
    assert!(matches!(damage, Damage::Chain { .. }), "{damage}");
    assert_eq!(segment, good[2].0);

    // A missing file.
    let mut missing = good.clone();
    missing.remove(1);
    let error = replay(&missing).unwrap_err();
    assert!(
        matches!(error, RecoveryError::SegmentMissing { .. }),
        "{error}"
    );
}
