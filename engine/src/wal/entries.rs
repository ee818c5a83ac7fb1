//! The rules by which replayed entries become one contiguous run.

use proto::{raftpb, walpb};

/// Entries while they are replayed, oldest first, without a hole.
#[derive(Debug, Default)]
pub(super) struct EntryRun {
    entries: Vec<raftpb::Entry>,
    /// The run follows this installed snapshot; what lies at or below it is not wanted any more.
    base: Option<u64>,
    /// Highest index of any snapshot record so far.
    newest_snapshot: u64,
}

impl EntryRun {
    /// An entry at or below a former one replaces that one and all behind it.
    ///
    /// # Errors
    /// The last index known, if entries between it and this one are missing.
    pub(super) fn push(&mut self, entry: raftpb::Entry) -> Result<(), u64> {
        let index = entry.index();
        if self.base.is_some_and(|base| index <= base) {
            return Ok(());
        }
        let Some(first) = self.entries.first().map(raftpb::Entry::index) else {
            if self.base.is_some_and(|base| index - 1 > base) {
                return self.begin_behind_snapshot(entry);
            }
            self.entries.push(entry);
            return Ok(());
        };
        // Without a base the entries before `first` are in released segments. They are unknown
        // here, but the ones from `index` on are replaced all the same.
        let kept = usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
        if kept <= self.entries.len() {
            self.entries.truncate(kept);
            self.entries.push(entry);
            return Ok(());
        }
        self.begin_behind_snapshot(entry)
    }

    /// The entry leaves a gap: right only where a snapshot was installed ahead of the log.
    fn begin_behind_snapshot(&mut self, entry: raftpb::Entry) -> Result<(), u64> {
        let index = entry.index();
        if index <= self.newest_snapshot {
            return Ok(());
        }
        if index - 1 > self.newest_snapshot {
            let last = self.entries.last().map(raftpb::Entry::index);
            return Err(last.or(self.base).unwrap_or(0));
        }
        self.entries.clear();
        self.base = Some(index - 1);
        self.entries.push(entry);
        Ok(())
    }

    /// A snapshot of another term than the entry it ends with replaced the log: what was there
    /// belongs to a history that lost.
    pub(super) fn on_snapshot(&mut self, snapshot: &walpb::Snapshot) {
        self.newest_snapshot = self.newest_snapshot.max(snapshot.index());
        let first = self.entries.first().map_or(0, raftpb::Entry::index);
        let offset = snapshot.index().checked_sub(first);
        let replaced = offset
            .and_then(|offset| self.entries.get(usize::try_from(offset).ok()?))
            .is_some_and(|entry| entry.term() != snapshot.term());
        if replaced {
            self.entries.clear();
            self.base = Some(snapshot.index());
        }
    }

    pub(super) fn into_entries(self) -> Vec<raftpb::Entry> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: &[(char, u64, u64)]) -> Result<Vec<(u64, u64)>, u64> {
        let mut run = EntryRun::default();
        for &(kind, index, term) in steps {
            match kind {
                'e' => run.push(raftpb::Entry {
                    index: Some(index),
                    term: Some(term),
                    ..Default::default()
                })?,
                _ => run.on_snapshot(&walpb::Snapshot {
                    index: Some(index),
                    term: Some(term),
                    ..Default::default()
                }),
            }
        }
        let pair = |entry: raftpb::Entry| (entry.index(), entry.term());
        Ok(run.into_entries().into_iter().map(pair).collect())
    }

    #[test]
    fn a_later_entry_replaces_from_its_index_on() {
        let steps = [('e', 1, 1), ('e', 2, 1), ('e', 3, 1), ('e', 2, 2)];
        assert_eq!(run(&steps), Ok(vec![(1, 1), (2, 2)]));
    }

    #[test]
    fn an_overwrite_may_reach_below_the_kept_segments() {
        let steps = [('e', 11, 1), ('e', 12, 1), ('e', 9, 2), ('e', 10, 2)];
        assert_eq!(run(&steps), Ok(vec![(9, 2), (10, 2)]));
    }

    #[test]
    fn a_hole_needs_a_snapshot() {
        assert_eq!(run(&[('e', 1, 1), ('e', 3, 1)]), Err(1));
        let steps = [('e', 1, 1), ('s', 7, 2), ('e', 9, 2)];
        assert_eq!(run(&steps), Err(1));
        let steps = [
            ('e', 1, 1),
            ('s', 7, 2),
            ('e', 5, 2),
            ('e', 8, 2),
            ('e', 7, 2),
        ];
        assert_eq!(run(&steps), Ok(vec![(8, 2)]));
        assert_eq!(run(&[('e', 1, 1), ('e', u64::MAX, 1)]), Err(1));
    }

    #[test]
    fn a_snapshot_of_another_history_drops_the_log() {
        let steps = [('e', 5, 1), ('e', 6, 1), ('e', 7, 1), ('s', 6, 2)];
        assert_eq!(run(&steps), Ok(vec![]));
        assert_eq!(
            run(&[&steps[..], &[('e', 7, 2)]].concat()),
            Ok(vec![(7, 2)])
        );
        assert_eq!(run(&[&steps[..], &[('e', 8, 2)]].concat()), Err(6));
        let steps = [('e', 5, 1), ('e', 6, 1), ('e', 7, 1), ('s', 6, 1)];
        assert_eq!(run(&steps), Ok(vec![(5, 1), (6, 1), (7, 1)]));
    }
}
