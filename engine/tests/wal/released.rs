//! Logs whose first segments are gone: a snapshot let them go.
//!
//! `golden/etcd-3.7-purged.wal` is the one segment that etcd 3.7 with `--snapshot-count=10 --max-wals=1` kept of two: the first was
//! filled with 64 puts of a megabyte and purged behind the snapshot at entry 88. Then 6 entries more, and SIGKILL.

use crate::sim_disk::SimDisk;
use bytes::Bytes;
use engine::wal::{
    CutReason, Durability, Recovered, Recovery, SegmentName, Wal, WalOptions, wholly_below,
};
use proptest::prelude::*;
use proto::raftpb::{ConfState, Entry, HardState};
use proto::walpb::Snapshot;
use std::ops::Range;

const PURGED: &[u8] = include_bytes!("../golden/etcd-3.7-purged.wal");

const PURGED_NAME: SegmentName = SegmentName {
    sequence: 1,
    first_index: 70,
};

const NODE_ID: u64 = 0xed26_46ef_c84b_b3df;

fn recover(segments: &[(SegmentName, Bytes)]) -> Recovered {
    let mut recovery = Recovery::new();
    for (name, bytes) in segments {
        recovery.on_segment(*name, bytes.clone()).unwrap();
    }
    recovery.finish().unwrap()
}

/// The segments that stay when a snapshot at `index` lets go what it can.
fn release(disk: &SimDisk, index: u64) -> Vec<(SegmentName, Bytes)> {
    let mut segments = disk.segments();
    let names: Vec<SegmentName> = segments.iter().map(|(name, _)| *name).collect();
    segments.split_off(wholly_below(&names, index).len())
}

fn drive(wal: &mut Wal, disk: &mut SimDisk) {
    while let Some(io) = wal.poll_io() {
        let result = disk.perform(&io);
        wal.on_io_done(io.ticket, result);
    }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        term: Some(term),
        index: Some(index),
        data: Some(Bytes::from(format!("entry {index} {}", "x".repeat(300)))),
        ..Entry::default()
    }
}

fn state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Some(term),
        vote: Some(NODE_ID),
        commit: Some(commit),
    }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    Snapshot {
        index: Some(index),
        term: Some(term),
        conf_state: Some(ConfState {
            voters: vec![NODE_ID],
            auto_leave: Some(false),
            ..ConfState::default()
        }),
    }
}

fn small() -> WalOptions {
    WalOptions {
        segment_bytes: 4096,
        write_bytes_max: 1000,
        ..WalOptions::default()
    }
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(Entry::index).collect()
}

#[test]
fn a_purged_log_of_etcd_is_read() {
    let recovered = recover(&[(PURGED_NAME, Bytes::from_static(PURGED))]);
    assert_eq!(indexes(&recovered.entries), (70..=94).collect::<Vec<_>>());
    assert_eq!(recovered.hard_state, state(2, 93));
    assert_eq!(recovered.snapshots, [snapshot(77, 2), snapshot(88, 2)]);
    assert_eq!(recovered.cut, None);
}

#[test]
fn a_purged_log_of_etcd_is_continued_and_released_again() {
    let mut disk = SimDisk::default();
    disk.insert(PURGED_NAME, PURGED);
    let mut wal = Wal::resume(&disk.recovery().finish().unwrap(), small());
    for index in 95..150 {
        wal.append_entry(&entry(index, 3));
        wal.append_state(&state(3, index));
        wal.seal(Durability::Sync);
    }
    wal.append_snapshot(&snapshot(140, 3));
    wal.seal(Durability::Sync);
    drive(&mut wal, &mut disk);
    let kept = release(&disk, 140);
    assert!(kept.len() < disk.segments().len() - 2, "{}", kept.len());
    assert!(kept[0].0.first_index <= 140 && kept[1].0.first_index > 140);
    let recovered = recover(&kept);
    let expected: Vec<u64> = (kept[0].0.first_index..150).collect();
    assert_eq!(indexes(&recovered.entries), expected);
    assert_eq!(recovered.snapshots, [snapshot(140, 3)]);
    assert_eq!(recovered.hard_state, state(3, 149));
}

/// A snapshot that is installed ahead of the log names the next segment, and the entries behind it begin a run of their own.
#[test]
fn entries_go_on_behind_an_installed_snapshot() {
    let mut disk = SimDisk::default();
    let mut wal = Wal::create(Bytes::from_static(b"whose"), small());
    for index in 1..=3 {
        wal.append_entry(&entry(index, 1));
    }
    wal.append_snapshot(&snapshot(100, 4));
    wal.append_state(&state(4, 100));
    wal.seal(Durability::Sync);
    drive(&mut wal, &mut disk);
    for index in 101..140 {
        wal.append_entry(&entry(index, 4));
        wal.seal(Durability::Sync);
    }
    drive(&mut wal, &mut disk);
    let names: Vec<SegmentName> = disk.segments().iter().map(|(name, _)| *name).collect();
    assert!(names[1].first_index > 100, "{names:?}");
    let recovered = disk.recovery().finish().unwrap();
    assert_eq!(indexes(&recovered.entries), (101..140).collect::<Vec<_>>());
    assert_eq!(recovered.snapshots[1], snapshot(100, 4));
}

/// The place of the last snapshot record (type 5) in a segment.
fn last_snapshot_record(segment: &[u8]) -> Range<usize> {
    let (mut at, mut found) = (0, 0..0);
    while at < segment.len() && segment[at] != 0 {
        let field = u64::from_le_bytes(segment[at..at + 8].try_into().unwrap());
        let end = at + 8 + (field as usize & 0xff_ffff).next_multiple_of(8);
        if segment[at + 9] == 5 {
            found = at..end;
        }
        at = end;
    }
    found
}

/// The write of the snapshot's record was interrupted: the snapshot before it counts, and what was durable is all there.
#[test]
fn a_torn_snapshot_record_is_cut() {
    let record = last_snapshot_record(PURGED);
    for len in record.clone() {
        let torn = Bytes::from_static(&PURGED[..len]);
        let recovered = recover(&[(PURGED_NAME, torn)]);
        assert_eq!(recovered.snapshots, [snapshot(77, 2)]);
        assert_eq!(indexes(&recovered.entries), (70..=89).collect::<Vec<_>>());
        assert_eq!(recovered.tail.end, record.start as u64);
        let reason = recovered.cut.map(|cut| cut.reason);
        let expected = (len > record.start).then_some(CutReason::ShortFile);
        assert_eq!(reason, expected, "{len}");
    }
}

/// One step of a member's life.
#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    /// A new term's leader replaces so many uncommitted entries by one.
    Replace(u64),
    Commit,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..6).prop_map(Step::Append),
        1 => (1u64..12).prop_map(Step::Replace),
        2 => Just(Step::Commit),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a snapshot lets go, the rest has its record, the entry it ends with, and everything behind.
    #[test]
    fn a_released_log_has_all_behind_the_snapshot(steps in prop::collection::vec(step(), 1..80)) {
        let mut disk = SimDisk::default();
        let mut wal = Wal::create(Bytes::from_static(b"whose"), small());
        // Terms of the entries from 1 on; the twin of the log.
        let mut terms: Vec<u64> = Vec::new();
        let (mut term, mut commit, mut newest) = (1, 0u64, None);
        for step in steps {
            match step {
                Step::Append(count) => for _ in 0..count {
                    terms.push(term);
                    wal.append_entry(&entry(terms.len() as u64, term));
                    wal.seal(Durability::Sync);
                },
                Step::Replace(count) => {
                    term += 1;
                    let kept = (terms.len() as u64).saturating_sub(count).max(commit);
                    terms.truncate(kept as usize);
                    terms.push(term);
                    wal.append_entry(&entry(kept + 1, term));
                }
                Step::Commit => {
                    commit = terms.len() as u64;
                    wal.append_state(&state(term, commit));
                }
                Step::Snapshot if commit > 0 => {
                    newest = Some((commit, terms[commit as usize - 1]));
                    wal.append_snapshot(&snapshot(commit, terms[commit as usize - 1]));
                }
                Step::Snapshot => {}
            }
            wal.seal(Durability::Sync);
            drive(&mut wal, &mut disk);
        }
        let (index, of_term) = newest.unwrap_or((0, 0));
        let recovered = recover(&release(&disk, index));
        let is_newest = |record: &Snapshot| (record.index(), record.term()) == (index, of_term);
        prop_assert!(recovered.snapshots.last().is_some_and(is_newest));
        let first = recovered.entries.first().map_or(terms.len() as u64 + 1, Entry::index);
        prop_assert!(first <= index + 1, "{} {}", first, index);
        let found: Vec<u64> = recovered.entries.iter().map(Entry::term).collect();
        prop_assert_eq!(&found[..], &terms[first as usize - 1..]);
    }
}
