//! The recovered log, as the decision asks about it.

use super::{Position, SnapshotFacts};
use crate::consensus::Payload;
use crate::wal::Recovered;
use prost::Message;
use proto::raftpb::{ConfChange, Entry};
use proto::walpb;

/// One contiguous run of entries, and snapshots that tell the terms of some more.
#[derive(Debug)]
pub(super) struct Log<'a> {
    entries: &'a [Entry],
    /// Records that the last state covers: others may be of a history that lost.
    records: Vec<&'a walpb::Snapshot>,
    files: &'a [SnapshotFacts],
}

impl<'a> Log<'a> {
    pub(super) fn new(recovered: &'a Recovered, files: &'a [SnapshotFacts]) -> Self {
        let commit = recovered.hard_state.commit();
        let is_valid = |record: &&walpb::Snapshot| record.index() <= commit;
        Self {
            entries: &recovered.entries,
            records: recovered.snapshots.iter().filter(is_valid).collect(),
            files,
        }
    }

    pub(super) fn first_index(&self) -> Option<u64> {
        self.entries.first().map(Entry::index)
    }

    pub(super) fn last_entry(&self) -> Option<Position> {
        self.entries.last().map(position)
    }

    /// The log ends at its last entry, or at a snapshot that was installed ahead of it.
    pub(super) fn last_index(&self) -> u64 {
        let snapshot = self.records.iter().map(|record| record.index()).max();
        let entry = self.last_entry().map_or(0, |last| last.index);
        snapshot.unwrap_or(0).max(entry)
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.first_index()?)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The term of an entry, if anything tells it.
    pub(super) fn term(&self, index: u64) -> Option<u64> {
        let of_entry = || self.entry(index).map(Entry::term);
        let of_record = || {
            let record = self.records.iter().find(|record| record.index() == index)?;
            Some(record.term())
        };
        let of_file = || {
            let committed = |file: &&SnapshotFacts| self.has_record(file.at);
            let mut files = self.files.iter().filter(committed);
            files
                .find(|file| file.at.index == index)
                .map(|file| file.at.term)
        };
        of_entry().or_else(of_record).or_else(of_file)
    }

    fn has_record(&self, at: Position) -> bool {
        let mut records = self.records.iter();
        records.any(|record| record.index() == at.index && record.term() == at.term)
    }

    /// Whether anything says that this one was or became a member at or before `index`. Refused changes count as well:
    /// nobody is added twice under one id.
    pub(super) fn has_member(&self, id: u64, index: u64) -> bool {
        let mut records = self
            .records
            .iter()
            .filter(|record| record.index() <= index)
            .filter_map(|record| record.conf_state.as_ref());
        let mut entries = self.entries.iter().filter(|entry| entry.index() <= index);
        records.any(|at| at.voters.contains(&id) || at.learners.contains(&id))
            || entries.any(|entry| changes_member(entry, id))
    }

    /// Whether the entries lead from `index` to the snapshot, by the history that the snapshot belongs to.
    pub(super) fn covers(&self, index: u64, snapshot: Position) -> bool {
        let begins = self
            .first_index()
            .is_some_and(|first| first <= index.saturating_add(1));
        let ends = self.entry(snapshot.index).map(Entry::term) == Some(snapshot.term);
        begins && ends
    }

    /// The entry that raft's log begins behind: the one before the first at hand, if its term is known, else the first
    /// itself; `applied` if the log joins on there or ended below.
    pub(super) fn offset(&self, applied: Position) -> Position {
        let Some(first) = self.entries.first().map(position) else {
            return applied;
        };
        let ends_below = self
            .last_entry()
            .is_some_and(|last| last.index < applied.index);
        if ends_below || first.index > applied.index {
            return applied;
        }
        let before = first.index.saturating_sub(1);
        let term = if before == 0 {
            Some(0)
        } else {
            self.term(before)
        };
        term.map_or(first, |term| Position {
            index: before,
            term,
        })
    }
}

fn changes_member(entry: &Entry, id: u64) -> bool {
    match Payload::of_log(entry) {
        Payload::ConfChange(data) => {
            ConfChange::decode(data).is_ok_and(|change| change.node_id() == id)
        }
        Payload::Empty | Payload::Request(_) => false,
    }
}

fn position(entry: &Entry) -> Position {
    Position {
        index: entry.index(),
        term: entry.term(),
    }
}
