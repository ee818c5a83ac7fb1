//! The raft log in memory: the suffix of the WAL that raft may still ask for.
//!
//! Entries are here before the disk has them. Behind the applied index a bounded number of entries stays for
//! followers that lag; who is further behind needs a snapshot.

use std::collections::VecDeque;

use proto::raftpb;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::{LogStart, entry};

/// Bytes an entry takes beside its data, roughly; used where sizes are only bounds.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Consecutive entries and what stood right before them.
#[derive(Debug, Default)]
pub struct LogTail {
    /// Index of the entry before the first of `entries`; 0 at the beginning of the log.
    pub offset_index: u64,
    /// Term of that entry.
    pub offset_term: u64,
    pub entries: Vec<raftpb::Entry>,
}

impl LogTail {
    /// Index of the last entry; the offset if there is none.
    pub fn last_index(&self) -> u64 {
        self.offset_index + self.entries.len() as u64
    }
}

/// What raft reads. Entry `i` of `entries` has log index `offset_index + 1 + i`.
pub(super) struct LogStorage {
    hard_state: HardState,
    conf_state: ConfState,
    offset_index: u64,
    offset_term: u64,
    entries: VecDeque<Entry>,
    /// Sum of the entries' sizes; see [`entry_size`].
    size_bytes: usize,
    keep_count_max: usize,
    keep_size_bytes_max: usize,
}

fn entry_size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

impl LogStorage {
    pub(super) fn new(start: LogStart, keep_count_max: usize, keep_size_bytes_max: usize) -> Self {
        let entries: VecDeque<Entry> = start
            .tail
            .entries
            .into_iter()
            .map(entry::from_log)
            .collect();
        let size_bytes = entries.iter().map(entry_size).sum();
        LogStorage {
            hard_state: entry::hard_state_from_log(&start.hard_state),
            conf_state: ConfState::from((start.voters, start.learners)),
            offset_index: start.tail.offset_index,
            offset_term: start.tail.offset_term,
            entries,
            size_bytes,
            keep_count_max,
            keep_size_bytes_max,
        }
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Appends entries; those at or above the first one's index that were here before are replaced.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.offset_index,
            "entry {} was already trimmed",
            first.index
        );
        let keep_count = (first.index - self.offset_index - 1) as usize;
        assert!(
            keep_count <= self.entries.len(),
            "gap in the log before entry {}",
            first.index
        );
        for replaced in self.entries.drain(keep_count..) {
            self.size_bytes -= entry_size(&replaced);
        }
        for entry in entries {
            self.size_bytes += entry_size(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Forgets the oldest applied entries down to the bounds for followers that lag.
    pub(super) fn trim(&mut self, applied_index: u64) {
        while self.entries.len() > self.keep_count_max || self.size_bytes > self.keep_size_bytes_max
        {
            match self.entries.front() {
                Some(oldest) if oldest.index < applied_index => {
                    self.offset_index = oldest.index;
                    self.offset_term = oldest.term;
                    self.size_bytes -= entry_size(oldest);
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    fn last(&self) -> u64 {
        self.offset_index + self.entries.len() as u64
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.offset_index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let budget = max_size.into().unwrap_or(u64::MAX);
        let (from, to) = (
            (low - self.offset_index - 1) as usize,
            (high - low) as usize,
        );
        let mut size = 0_u64;
        let mut taken = Vec::new();
        for entry in self.entries.iter().skip(from).take(to) {
            size = size.saturating_add(entry_size(entry) as u64);
            if size > budget && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.offset_index {
            return Ok(self.offset_term);
        }
        if index < self.offset_index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let position = (index - self.offset_index - 1) as usize;
        let entry = self.entries.get(position);
        entry
            .map(|e| e.term)
            .ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.offset_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(
            StorageError::SnapshotTemporarilyUnavailable,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, len: usize) -> Entry {
        Entry {
            index,
            term,
            data: vec![0; len].into(),
            ..Entry::default()
        }
    }

    fn storage() -> LogStorage {
        LogStorage::new(LogStart::default(), 3, 1000)
    }

    #[test]
    fn a_conflicting_append_replaces_the_rest() {
        let mut log = storage();
        log.append(&[entry(1, 1, 1), entry(2, 1, 1), entry(3, 1, 1)]);
        log.append(&[entry(2, 2, 5)]);
        assert_eq!(log.last(), 2);
        assert_eq!(log.term(2).expect("present"), 2);
        assert_eq!(log.size_bytes, 1 + 5 + 2 * ENTRY_OVERHEAD_BYTES);
    }

    #[test]
    fn trimming_keeps_what_is_not_applied_and_the_boundary_term() {
        let mut log = storage();
        log.append(&(1..=6).map(|i| entry(i, i, 1)).collect::<Vec<_>>());
        log.trim(2);
        assert_eq!(
            log.first_index().expect("first"),
            2,
            "entry 2 is the newest applied one"
        );
        log.trim(6);
        assert_eq!(log.first_index().expect("first"), 4);
        assert_eq!(log.term(3).expect("boundary"), 3);
        assert!(matches!(
            log.term(2),
            Err(raft::Error::Store(StorageError::Compacted))
        ));
    }

    #[test]
    fn reads_are_bounded_but_never_empty() {
        let mut log = storage();
        log.append(&[entry(1, 1, 100), entry(2, 1, 100)]);
        let context = GetEntriesContext::empty(false);
        assert_eq!(log.entries(1, 3, 1, context).expect("one").len(), 1);
        let context = GetEntriesContext::empty(false);
        assert_eq!(log.entries(1, 3, None, context).expect("all").len(), 2);
        let context = GetEntriesContext::empty(false);
        assert!(log.entries(1, 4, None, context).is_err());
    }
}
