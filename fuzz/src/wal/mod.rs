//! The write-ahead log: segments of any octets, records that are right or nearly so, and crashes.
//!
//! Whatever recovery accepts can be gone on from: the log is repaired, an entry and a state are appended, and recovered again it says
//! the same and those. Files stand in memory ([`disk`]).

mod crash;
mod disk;
mod records;

use engine::boot::{self, DbFacts, Found, Start};
use engine::consensus::Payload;
use engine::membership::ConfChange;
use engine::wal::{BLOCK_BYTES, Durability, Recovered, SegmentName, Wal, WalOptions};
use prost::Message;
use proto::raftpb;

use crate::input::Input;
use disk::Disk;

/// A record takes no less: a length field and some of what it tells.
const RECORD_LEN_MIN: usize = 8;

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    match input.byte() % 3 {
        0 => check_log(octet_segments(&mut input)),
        1 => check_log(records::segments(&mut input)),
        _ => crash::check(&mut input),
    }
}

/// Small enough that short logs have several segments.
fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 4 * BLOCK_BYTES,
        write_bytes_max: 2 * BLOCK_BYTES as usize,
        zero_piece_bytes: BLOCK_BYTES,
        zero_lead_bytes: 2 * BLOCK_BYTES,
    }
}

/// Some segments, all but the last with their length before them, and zeros behind as in claimed space.
fn octet_segments(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let bits = input.byte();
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bits & 3 {
        segments.push(input.long_piece().to_vec());
    }
    let mut last = input.rest().to_vec();
    last.resize(last.len() + usize::from(bits >> 2) * 100, 0);
    segments.push(last);
    segments
}

fn check_log(segments: Vec<Vec<u8>>) {
    let given: usize = segments.iter().map(Vec::len).sum();
    let mut disk = Disk::default();
    for (sequence, content) in segments.into_iter().enumerate() {
        let name = SegmentName {
            sequence: sequence as u64,
            first_index: 0,
        };
        disk.insert(name, content);
    }
    let Ok(recovered) = disk.recover() else {
        return;
    };
    let records = recovered.entries.len() + recovered.snapshots.len();
    assert!(
        records <= given / RECORD_LEN_MIN,
        "{records} of {given} bytes"
    );
    check_recovered(recovered, disk);
}

/// What is promised of a log that was accepted.
fn check_recovered(recovered: Recovered, mut disk: Disk) {
    let tail = &recovered.tail;
    assert!(tail.end <= tail.dirty_end);
    assert_eq!(tail.last_block.len() as u64, tail.end % BLOCK_BYTES);
    for pair in recovered.entries.windows(2) {
        let (one, next) = (pair[0].index(), pair[1].index());
        assert_eq!(one.checked_add(1), Some(next), "a hole");
    }
    check_payloads(&recovered);
    check_starts(&recovered);

    let mut wal = Wal::resume(&recovered, options());
    let mut expected = recovered.clone();
    if let Some(entry) = next_entry(&recovered) {
        wal.append_entry(&entry);
        wal.seal(Durability::Sync);
        expected.entries.push(entry);
    }
    expected.hard_state = raftpb::HardState::explicit(7, 8, 9);
    wal.append_state(&expected.hard_state);
    wal.seal(Durability::Sync);
    wal.flush();
    disk.run(&mut wal);
    assert!(wal.is_settled());
    disk.close_all();
    let again = match disk.recover() {
        Ok(again) => again,
        Err(error) => panic!("repaired, and now: {error}; before: {recovered:?}"),
    };
    assert_eq!(again.cut, None, "there is nothing more to cut");
    assert_eq!(again.metadata, expected.metadata);
    assert_eq!(again.hard_state, expected.hard_state);
    assert_eq!(again.snapshots, expected.snapshots);
    assert_eq!(again.entries, expected.entries);
}

/// An entry that may follow.
fn next_entry(recovered: &Recovered) -> Option<raftpb::Entry> {
    let last = match recovered.entries.last() {
        Some(entry) => entry.index(),
        None => recovered.snapshots.iter().map(|s| s.index()).max()?,
    };
    let index = last.checked_add(1)?;
    let kind = raftpb::EntryType::EntryNormal;
    let data = bytes::Bytes::from_static(b"and on");
    Some(raftpb::Entry::explicit(kind, 1, index, data))
}

fn check_payloads(recovered: &Recovered) {
    for entry in &recovered.entries {
        match Payload::of_log(entry) {
            Payload::Empty => assert!(entry.data().is_empty()),
            Payload::Request(data) => assert_eq!(data, entry.data()),
            Payload::ConfChange(data) => {
                let change = raftpb::ConfChange::decode(data);
                let _ = change.map(|change| ConfChange::parse(&change));
            }
        }
    }
}

/// Starting without a database, or with one at any entry, is refused, or goes on with a log that has no holes.
fn check_starts(recovered: &Recovered) {
    let first = recovered.entries.first().map_or(0, raftpb::Entry::index);
    for consistent_index in [0, first.saturating_sub(1), first, u64::MAX] {
        let db = DbFacts {
            consistent_index,
            members: raftpb::ConfState {
                voters: vec![1],
                ..raftpb::ConfState::default()
            },
            ..DbFacts::default()
        };
        let start = boot::decide(&Found {
            wal: Some(recovered),
            snapshots: &[],
            db: (consistent_index > 0).then_some(&db),
            received_dbs: &[],
        });
        if let Ok(Start::Resume(plan)) = start {
            let log = plan.take_log(&mut recovered.clone());
            let indexes = log.iter().map(raftpb::Entry::index);
            assert!(indexes.eq((plan.offset.index..=plan.last.index).skip(1)));
        }
    }
}
