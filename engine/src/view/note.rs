//! The plain numbers of a published state, as its meta page keeps them beside the index.
//!
//! ```text
//!   u64 or i64 each, little-endian, in the order of `Number`
//! ```

use crate::alarm::Alarms;
use crate::index::NOTE_LEN_MAX;
use proto::etcdserverpb::AlarmType;

/// Place of a number in the note.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Revision,
    CompactRevision,
    /// 0: no compaction is finished yet.
    FinishedCompactRevision,
    AppliedIndex,
    AppliedTerm,
    DbSize,
    DbSizeInUse,
    TailFirst,
    TailEnd,
    /// Where bucket `key` begins in the store: two words.
    StoreTree,
    StoreTreeRest,
    Alarms,
}

const NUMBER_COUNT: usize = Number::Alarms as usize + 1;
const NUMBER_LEN: usize = 8;
const NOTE_LEN: usize = NUMBER_COUNT * NUMBER_LEN;

const _: () = assert!(NOTE_LEN <= NOTE_LEN_MAX);

const NOSPACE: u64 = 1;
const CORRUPT: u64 = 2;

/// What readers on other threads find beside the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) finished_compact_revision: Option<i64>,
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    pub(crate) db_size: u64,
    pub(crate) db_size_in_use: u64,
    pub(crate) tail_first: u64,
    pub(crate) tail_end: u64,
    pub(crate) store_tree: [u64; 2],
    pub(crate) alarms: AlarmFlags,
}

/// Which kinds of alarms are up on any member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmFlags(u64);

impl AlarmFlags {
    pub(crate) fn of(alarms: &Alarms) -> Self {
        let flag = |alarm, bit| if alarms.is_raised(alarm) { bit } else { 0 };
        AlarmFlags(flag(AlarmType::Nospace, NOSPACE) | flag(AlarmType::Corrupt, CORRUPT))
    }

    pub fn has_nospace(self) -> bool {
        self.0 & NOSPACE != 0
    }

    pub fn has_corrupt(self) -> bool {
        self.0 & CORRUPT != 0
    }
}

impl Note {
    pub(crate) fn encode(&self) -> [u8; NOTE_LEN] {
        let numbers: [(Number, u64); NUMBER_COUNT] = [
            (Number::Revision, self.revision as u64),
            (Number::CompactRevision, self.compact_revision as u64),
            (
                Number::FinishedCompactRevision,
                self.finished_compact_revision.unwrap_or(0) as u64,
            ),
            (Number::AppliedIndex, self.applied_index),
            (Number::AppliedTerm, self.applied_term),
            (Number::DbSize, self.db_size),
            (Number::DbSizeInUse, self.db_size_in_use),
            (Number::TailFirst, self.tail_first),
            (Number::TailEnd, self.tail_end),
            (Number::StoreTree, self.store_tree[0]),
            (Number::StoreTreeRest, self.store_tree[1]),
            (Number::Alarms, self.alarms.0),
        ];
        let mut note = [0; NOTE_LEN];
        for (place, number) in numbers {
            let at = place as usize * NUMBER_LEN;
            note[at..at + NUMBER_LEN].copy_from_slice(&number.to_le_bytes());
        }
        note
    }
}

/// Reads one number of a note.
pub(super) fn number(note: &[u8; NOTE_LEN_MAX], place: Number) -> u64 {
    let at = place as usize * NUMBER_LEN;
    let bytes = note[at..at + NUMBER_LEN].try_into();
    bytes.map_or(0, u64::from_le_bytes)
}

pub(super) fn alarms(note: &[u8; NOTE_LEN_MAX]) -> AlarmFlags {
    AlarmFlags(number(note, Number::Alarms))
}
