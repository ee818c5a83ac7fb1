//! A log of ours that lost sectors or its end: what is recovered is what it once said.

use bytes::Bytes;
use engine::wal::{Durability, Recovered, Wal};
use proto::{raftpb, walpb};

use super::disk::Disk;
use super::{check_recovered, options};
use crate::input::Input;

const SECTOR_BYTES: usize = 512;
const OP_COUNT_MAX: u8 = 64;

/// What a log says after some of its records.
#[derive(Debug, Clone, Default, PartialEq)]
struct Said {
    entries: Vec<raftpb::Entry>,
    hard_state: raftpb::HardState,
    snapshots: Vec<walpb::Snapshot>,
}

pub(super) fn check(input: &mut Input<'_>) {
    let mut disk = Disk::default();
    let mut wal = Wal::create(Bytes::from_static(b"whose"), options());
    let history = write(&mut wal, &mut disk, input);
    if let Some(last) = disk.last_segment() {
        damage(last, input);
    }
    // It may be refused, if it is the log's head that is gone.
    if let Ok(recovered) = disk.recover() {
        let said = Said::of(&recovered);
        assert!(history.contains(&said), "never said: {said:?}");
        check_recovered(recovered, disk);
    }
}

/// Writes what the input says; returns what the log says after each record.
fn write(wal: &mut Wal, disk: &mut Disk, input: &mut Input<'_>) -> Vec<Said> {
    let mut said = Said::default();
    // The head of a log, which is a group of its own.
    let mut history = vec![said.clone()];
    said.snapshots.push(walpb::Snapshot::explicit(0, 0, None));
    history.push(said.clone());
    for _ in 0..input.byte() % OP_COUNT_MAX {
        let what = input.byte();
        match what & 7 {
            0 => {
                let state = raftpb::HardState::explicit(1, 1, (what >> 3).into());
                wal.append_state(&state);
                said.hard_state = state;
            }
            1 => {
                let index = said.entries.len() as u64;
                let snapshot = walpb::Snapshot::explicit(index, 1, None);
                wal.append_snapshot(&snapshot);
                said.snapshots.push(snapshot);
            }
            2 => {
                wal.seal(Durability::Lazy);
            }
            3 => {
                wal.seal(Durability::Sync);
                disk.run(wal);
            }
            _ => {
                let replaced = usize::from(what == 0xff).min(said.entries.len());
                said.entries.truncate(said.entries.len() - replaced);
                let index = said.entries.len() as u64 + 1;
                let data = vec![what; usize::from(input.byte()) * 8];
                let kind = raftpb::EntryType::EntryNormal;
                let entry = raftpb::Entry::explicit(kind, 1, index, data.into());
                wal.append_entry(&entry);
                said.entries.push(entry);
            }
        }
        history.push(said.clone());
    }
    wal.seal(Durability::Sync);
    wal.flush();
    disk.run(wal);
    assert!(wal.is_settled());
    disk.close_all();
    history
}

/// Cuts the file short and empties some sectors.
fn damage(content: &mut Vec<u8>, input: &mut Input<'_>) {
    let bits = input.byte();
    if bits & 1 != 0 {
        content.truncate(usize::from(input.u16()) % (content.len() + 1));
    }
    for _ in 0..bits >> 1 & 3 {
        let start = usize::from(input.byte()) % 32 * SECTOR_BYTES;
        let end = content.len().min(start + SECTOR_BYTES);
        if start < end {
            content[start..end].fill(0);
        }
    }
}

impl Said {
    fn of(recovered: &Recovered) -> Self {
        Self {
            entries: recovered.entries.clone(),
            hard_state: recovered.hard_state,
            snapshots: recovered.snapshots.clone(),
        }
    }
}
