//! What waits to be applied, in bytes: the measure for refusing proposals.
//!
//! Counted are requests that raft was not given yet, and entries of this member's log behind the applied index. A
//! request that got lost between the two, as on its way to a leader, is counted nowhere.

use std::collections::VecDeque;

use proto::raftpb::Entry;

/// See the module text. Lives in [`super::Node`].
#[derive(Debug, Default)]
pub(super) struct Backlog {
    proposed_size_bytes: usize,
    /// Index and size of each entry that is not applied, ascending without a hole.
    entries: VecDeque<(u64, usize)>,
    /// Sum of the sizes of `entries`.
    entries_size_bytes: usize,
}

impl Backlog {
    pub(super) fn size_bytes(&self) -> usize {
        self.proposed_size_bytes + self.entries_size_bytes
    }

    pub(super) fn on_proposed(&mut self, size_bytes: usize) {
        self.proposed_size_bytes += size_bytes;
    }

    /// Raft will not be given a proposal.
    pub(super) fn on_withdrawn(&mut self, size_bytes: usize) {
        self.proposed_size_bytes -= size_bytes;
    }

    /// Raft took all proposals, or dropped them.
    pub(super) fn on_stepped(&mut self) {
        self.proposed_size_bytes = 0;
    }

    /// An entry is in the log now; it replaces what was there from its index on.
    pub(super) fn on_logged(&mut self, entry: &Entry) {
        let index = entry.index.unwrap_or(0);
        while let Some((_, size)) = self.entries.pop_back_if(|(last, _)| *last >= index) {
            self.entries_size_bytes -= size;
        }
        let size_bytes = entry.data.as_ref().map_or(0, bytes::Bytes::len);
        self.entries.push_back((index, size_bytes));
        self.entries_size_bytes += size_bytes;
    }

    pub(super) fn on_applied(&mut self, index: u64) {
        while let Some((_, size)) = self.entries.pop_front_if(|(first, _)| *first <= index) {
            self.entries_size_bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, len: usize) -> Entry {
        Entry {
            index: Some(index),
            data: Some(vec![0; len].into()),
            ..Entry::default()
        }
    }

    #[test]
    fn replaced_and_applied_entries_do_not_count() {
        let mut backlog = Backlog::default();
        backlog.on_proposed(1000);
        backlog.on_stepped();
        for index in 5..10 {
            backlog.on_logged(&entry(index, 10));
        }
        assert_eq!(backlog.size_bytes(), 50);
        backlog.on_logged(&entry(7, 1));
        assert_eq!(backlog.size_bytes(), 21);
        backlog.on_applied(6);
        assert_eq!(backlog.size_bytes(), 1);
        backlog.on_applied(7);
        assert_eq!(backlog.size_bytes(), 0);
    }
}
