//! A hold: a promise that reads at one revision stay possible, whatever is compacted.

use std::sync::Arc;

use super::holds::{HoldNo, Holds};

/// Holds at a time on one member; a sweep looks at all of them in each slice.
const HOLDS_MAX: usize = 1024;

/// The holds of one member. Shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct HoldTable(Arc<Holds>);

impl Default for HoldTable {
    fn default() -> Self {
        HoldTable(Arc::new(Holds::new(HOLDS_MAX)))
    }
}

/// Keeps what reads at a revision need until it is dropped. It pins no pages: the sweep of a compaction leaves those
/// versions, while the compaction itself goes on and refuses new reads.
#[derive(Debug)]
pub struct Hold {
    table: Arc<Holds>,
    no: HoldNo,
    revision: i64,
}

impl HoldTable {
    /// `None` if `revision` is compacted, or if there are too many holds.
    pub(crate) fn hold(&self, revision: i64) -> Option<Hold> {
        let no = self.0.hold(u64::try_from(revision).ok()?)?;
        Some(Hold {
            table: Arc::clone(&self.0),
            no,
            revision,
        })
    }

    /// Reads below `revision` are refused from now on.
    pub(crate) fn on_compacted(&self, revision: i64) {
        self.0.on_compacted(u64::try_from(revision).unwrap_or(0));
    }

    /// Held revisions below the compact revision, ascending.
    pub(crate) fn held_below(&self, revision: i64) -> Vec<i64> {
        self.0.held_below(u64::try_from(revision).unwrap_or(0))
    }
}

impl Hold {
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.table.release(&self.no);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_listed_once_until_they_are_dropped() {
        let table = HoldTable::default();
        let holds: Vec<Hold> = [7, 5, 7, 9].iter().filter_map(|r| table.hold(*r)).collect();
        assert_eq!(table.held_below(9), [5, 7]);
        drop(holds);
        assert!(table.held_below(i64::MAX).is_empty());
    }

    #[test]
    fn a_compacted_revision_is_not_held() {
        let table = HoldTable::default();
        let early = table.hold(4).unwrap();
        table.on_compacted(5);
        assert!(table.hold(4).is_none() && table.hold(-1).is_none());
        assert!(table.hold(5).is_some());
        assert_eq!((table.held_below(5), early.revision()), (vec![4], 4));
    }

    #[test]
    fn the_table_has_an_end() {
        let table = HoldTable::default();
        let mut holds: Vec<Hold> = (0..).map_while(|r| table.hold(r)).collect();
        assert_eq!(holds.len(), HOLDS_MAX);
        holds.pop();
        assert!(table.hold(3).is_some());
    }
}
