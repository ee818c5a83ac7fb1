//! Which pages are free, which will be, and where the file's used part ends.
//!
//! ```text
//!   in a tree --retire--> leaving --commit T is durable--> pending[T] --release, one more commit--> free --allocate-->
//! ```
//!
//! Invariants:
//! - a page is in at most one of free, pending and leaving. A second way to the same page is damage of the file, and
//!   found when the page leaves its tree for the second time;
//! - pages that left the tree in the newest commit stay pending even when released: the older meta page still leads to
//!   them, and it is the way back if a later one cannot be read.
//!
//! Single pages are taken lowest first, so that the file's end can become free; runs are taken from the shortest run
//! that is long enough, so that long ones last.

use std::collections::{BTreeMap, BTreeSet};

use super::damage::{DamageKind, StoreDamage};
use super::page::PageNo;
use super::scan::PageSet;
use crate::types::Budget;

/// Runs at the beginning of the file that are looked at before one anywhere is taken.
const LOW_RUNS: usize = 64;

/// Runs that a commit makes free when it begins; the end of a snapshot can release hundreds of thousands, and who waits for
/// the commit would wait for all of them. The others become free in slices.
const RECLAIMED_AT_BEGIN: usize = 2_048;

/// Disjoint runs of pages, with neighbours joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    /// First page -> number of pages.
    by_start: BTreeMap<u64, u64>,
    /// Number of pages, first page.
    by_len: BTreeSet<(u64, u64)>,
    count: u64,
}

impl Runs {
    /// Pages in all runs.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// First page and number of pages, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(start, len)| (*start, *len))
    }

    pub(super) fn overlaps(&self, start: u64, len: u64) -> bool {
        self.by_start
            .range(..start.saturating_add(len))
            .next_back()
            .is_some_and(|(other, other_len)| other + other_len > start)
    }

    /// Adds pages. Some can be here already only if a stored list of free pages is damaged; they are not added again.
    pub(super) fn insert(&mut self, start: u64, len: u64) {
        if !self.overlaps(start, len) {
            return self.insert_new(start, len);
        }
        for page in start..start + len {
            if !self.overlaps(page, 1) {
                self.insert_new(page, 1);
            }
        }
    }

    fn insert_new(&mut self, start: u64, len: u64) {
        self.count += len;
        let (mut first, mut limit) = (start, start + len);
        if let Some((before, before_len)) = self.before(start)
            && before + before_len == first
        {
            self.remove(before, before_len);
            first = before;
        }
        if let Some(after_len) = self.by_start.get(&limit).copied() {
            self.remove(limit, after_len);
            limit += after_len;
        }
        self.by_start.insert(first, limit - first);
        self.by_len.insert((limit - first, first));
    }

    /// Takes `len` pages that follow each other.
    fn take(&mut self, len: u64) -> Option<u64> {
        let (start, run_len) = if len == 1 {
            self.iter().next()?
        } else {
            let (run_len, start) = *self.by_len.range((len, 0)..).next()?;
            (start, run_len)
        };
        self.take_from(start, run_len, len);
        Some(start)
    }

    /// The same, from one of the first runs that is long enough.
    fn take_low(&mut self, len: u64) -> Option<u64> {
        let fits = |(_, run_len): &(u64, u64)| *run_len >= len;
        let (start, run_len) = self.iter().take(LOW_RUNS).find(fits)?;
        self.take_from(start, run_len, len);
        Some(start)
    }

    /// Takes the first run whole.
    fn take_first(&mut self) -> Option<(u64, u64)> {
        let (start, len) = self.iter().next()?;
        self.remove(start, len);
        self.count -= len;
        Some((start, len))
    }

    fn take_from(&mut self, start: u64, run_len: u64, len: u64) {
        self.remove(start, run_len);
        if run_len > len {
            self.by_start.insert(start + len, run_len - len);
            self.by_len.insert((run_len - len, start + len));
        }
        self.count -= len;
    }

    /// How long the run is that ends with `limit`.
    fn ends_with(&self, limit: u64) -> Option<u64> {
        let (start, len) = self.before(limit)?;
        (start + len == limit).then_some(len)
    }

    fn cut_off(&mut self, start: u64, len: u64) {
        self.remove(start, len);
        self.count -= len;
    }

    fn before(&self, start: u64) -> Option<(u64, u64)> {
        let (before, len) = self.by_start.range(..start).next_back()?;
        Some((*before, *len))
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }
}

/// The writer's account of the file's pages.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// Pages at and behind it were never used.
    high_water: u64,
    /// Pages at and behind it are not in any tree of the last commit.
    committed_high_water: u64,
    page_size: u32,
    free: Runs,
    /// By the commit in which they left the tree.
    pending: BTreeMap<u64, Runs>,
    /// Those of the open commit.
    leaving: Runs,
    /// Those of all of these, for one look: while a snapshot is being sent there are many commits in `pending`.
    left: PageSet,
    /// No pin reaches roots older than this commit.
    released: u64,
    /// The open commit is to make the end of the file free: runs too are taken from the front.
    is_packing: bool,
}

impl Space {
    pub(super) const fn page_size(&self) -> u32 {
        self.page_size
    }

    pub(super) fn new(page_size: u32, high_water: u64, free: Runs) -> Self {
        Space {
            high_water,
            committed_high_water: high_water,
            page_size,
            free,
            pending: BTreeMap::new(),
            leaving: Runs::default(),
            left: PageSet::default(),
            released: 0,
            is_packing: false,
        }
    }

    pub(super) const fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Pages that the newest tree does not reach, those of the open commit not counted.
    pub(super) fn unused(&self) -> u64 {
        self.free.count() + self.pending.values().map(Runs::count).sum::<u64>()
    }

    /// Pages that a stored list of free pages names: all but those in the tree that is being made.
    pub(super) fn listed(&self) -> u64 {
        self.unused() + self.leaving.count()
    }

    /// The same page by page, ascending.
    pub(super) fn listed_pages(&self) -> impl Iterator<Item = u64> {
        let mut runs: Vec<(u64, u64)> = self
            .pending
            .values()
            .chain([&self.free, &self.leaving])
            .flat_map(Runs::iter)
            .collect();
        runs.sort_unstable();
        runs.into_iter().flat_map(|(start, len)| start..start + len)
    }

    /// Pages that follow each other, for the open commit to write.
    pub(super) fn allocate(&mut self, len: u64) -> PageNo {
        let low = match self.is_packing {
            true => self.free.take_low(len),
            false => None,
        };
        if let Some(start) = low.or_else(|| self.free.take(len)) {
            return PageNo(start);
        }
        let start = self.high_water;
        self.high_water += len;
        PageNo(start)
    }

    /// Command: the open commit takes what is nearest to the beginning.
    pub(super) fn pack(&mut self) {
        self.is_packing = true;
    }

    /// Command: free pages at the end are no part of the file any more.
    pub(super) fn trim(&mut self) {
        while let Some(len) = self.free.ends_with(self.high_water) {
            self.high_water -= len;
            self.free.cut_off(self.high_water, len);
        }
    }

    /// Pages that the open commit allocated and has no use for after all.
    pub(super) fn give_back(&mut self, page: PageNo, len: u64) {
        self.free.insert(page.0, len);
    }

    /// Pages of the last commit that the open one does without.
    ///
    /// # Errors
    /// The pages cannot be in a tree: they are free already, or lie outside.
    pub(super) fn retire(&mut self, page: PageNo, len: u64) -> Result<(), StoreDamage> {
        let offset = page.0.saturating_mul(u64::from(self.page_size));
        self.check_range(page, len)?;
        let mut pages = page.0..page.0 + len;
        if self.free.overlaps(page.0, len) || pages.any(|page| self.left.contains(page)) {
            let what = DamageKind::ReachedTwice { page: page.0 };
            return Err(StoreDamage::new(offset, what));
        }
        for page in page.0..page.0 + len {
            self.left.insert(page);
        }
        self.leaving.insert(page.0, len);
        Ok(())
    }

    fn check_range(&self, page: PageNo, len: u64) -> Result<(), StoreDamage> {
        let limit = self.committed_high_water;
        let end = page.0.checked_add(len);
        if page >= PageNo::FIRST && end.is_some_and(|end| end <= limit) {
            return Ok(());
        }
        let offset = page.0.saturating_mul(u64::from(self.page_size));
        let what = DamageKind::PageOutside {
            page: page.0,
            limit,
        };
        Err(StoreDamage::new(offset, what))
    }

    /// Command: the next commit begins, and the last one was `newest`.
    pub(super) fn begin(&mut self, newest: u64) {
        self.is_packing = false;
        self.reclaim(newest, &mut Budget::new(RECLAIMED_AT_BEGIN));
    }

    /// Command: makes pages free that nothing reaches any more; a unit of the budget is a run of them. `newest` is the last
    /// durable commit. True if there are more.
    pub(super) fn reclaim(&mut self, newest: u64, budget: &mut Budget) -> bool {
        let limit = newest.min(self.released.saturating_add(1));
        while let Some(mut oldest) = self.pending.first_entry()
            && *oldest.key() < limit
        {
            if budget.is_spent() {
                return true;
            }
            let Some((start, len)) = oldest.get_mut().take_first() else {
                oldest.remove();
                continue;
            };
            (start..start + len).for_each(|page| self.left.remove(page));
            self.free.insert(start, len);
            budget.spend(1);
        }
        false
    }

    /// Input: commit `txid` is durable.
    pub(super) fn on_committed(&mut self, txid: u64) {
        let leaving = std::mem::take(&mut self.leaving);
        if leaving.count() > 0 {
            self.pending.insert(txid, leaving);
        }
        self.committed_high_water = self.high_water;
    }

    /// Input: no pin reaches roots older than commit `txid`.
    pub(super) fn on_released(&mut self, txid: u64) {
        self.released = self.released.max(txid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(of: &[(u64, u64)]) -> Runs {
        let mut runs = Runs::default();
        for (start, len) in of {
            runs.insert(*start, *len);
        }
        runs
    }

    #[test]
    fn neighbours_join() {
        let joined = runs(&[(4, 1), (6, 2), (5, 1), (20, 3)]);
        assert_eq!(joined.iter().collect::<Vec<_>>(), [(4, 4), (20, 3)]);
        assert_eq!(joined.count(), 7);
        assert!(joined.overlaps(0, 5) && joined.overlaps(7, 1) && joined.overlaps(7, 100));
        assert!(!joined.overlaps(0, 4) && !joined.overlaps(8, 12));
    }

    #[test]
    fn singles_lowest_first_and_runs_from_the_shortest() {
        let mut space = Space::new(4096, 100, runs(&[(4, 1), (10, 8), (30, 3)]));
        assert_eq!(space.allocate(3), PageNo(30));
        assert_eq!(space.allocate(1), PageNo(4));
        assert_eq!(space.allocate(1), PageNo(10));
        assert_eq!(space.allocate(8), PageNo(100));
        assert_eq!((space.high_water(), space.unused()), (108, 7));
    }

    #[test]
    fn a_page_is_used_again_only_when_released_and_out_of_both_trees() {
        let mut space = Space::new(4096, 10, Runs::default());
        space.begin(4);
        space.retire(PageNo(7), 1).expect("in range");
        space.on_committed(5);
        space.on_released(5);
        space.begin(5);
        assert_eq!(
            space.allocate(1),
            PageNo(10),
            "page 7 is in the older meta's tree"
        );
        space.on_committed(6);
        space.begin(6);
        assert_eq!(space.allocate(1), PageNo(7));
    }

    #[test]
    fn unreleased_pages_stay() {
        let mut space = Space::new(4096, 10, Runs::default());
        for txid in 5..9 {
            space.begin(txid - 1);
            space.retire(PageNo(txid), 1).expect("in range");
            space.on_committed(txid);
        }
        space.on_released(6);
        space.begin(8);
        assert_eq!(space.allocate(2), PageNo(5), "those of commits 5 and 6");
        assert_eq!(space.allocate(1), PageNo(10));
        assert_eq!(
            space.listed_pages().collect::<Vec<_>>(),
            [7, 8],
            "of commits 7 and 8"
        );
    }

    #[test]
    fn free_pages_at_the_end_go_and_others_hold_it() {
        let mut space = Space::new(4096, 100, runs(&[(10, 5), (90, 10)]));
        space.trim();
        assert_eq!((space.high_water(), space.unused()), (90, 5));
        space.begin(4);
        space.retire(PageNo(89), 1).expect("in range");
        space.on_committed(5);
        space.trim();
        assert_eq!(space.high_water(), 90, "a reader may still be there");
        space.on_released(5);
        space.begin(6);
        space.trim();
        assert_eq!(space.high_water(), 89);
        assert_eq!(space.allocate(6), PageNo(89));
    }

    #[test]
    fn leaving_twice_or_from_outside_is_damage() {
        let mut space = Space::new(4096, 10, runs(&[(3, 1)]));
        for (page, len) in [(0, 1), (9, 2), (u64::MAX, 1), (3, 1), (2, 2)] {
            assert!(space.retire(PageNo(page), len).is_err(), "{page} {len}");
        }
        space.retire(PageNo(4), 2).expect("in range");
        assert!(space.retire(PageNo(5), 1).is_err());
    }

    #[test]
    fn a_crowd_of_pages_becomes_free_in_slices_and_each_is_known_meanwhile() {
        let count = RECLAIMED_AT_BEGIN as u64 * 3;
        let mut space = Space::new(4096, 2 * count + 10, Runs::default());
        space.begin(4);
        for no in 0..count {
            space.retire(PageNo(4 + 2 * no), 1).unwrap();
        }
        space.on_committed(5);
        space.on_released(6);
        space.begin(6);
        assert_eq!(space.unused(), count, "free or not");
        assert_eq!(space.free.count(), RECLAIMED_AT_BEGIN as u64);
        for no in [0, count - 1] {
            space.retire(PageNo(4 + 2 * no), 1).unwrap_err();
        }
        assert!(space.reclaim(6, &mut Budget::new(100)));
        assert_eq!(space.free.count(), RECLAIMED_AT_BEGIN as u64 + 100);
        assert!(!space.reclaim(6, &mut Budget::new(usize::MAX)));
        assert_eq!(space.free.count(), count);
        assert_eq!(space.allocate(1), PageNo(4));
        space.on_committed(7);
        space.retire(PageNo(4), 1).unwrap();
    }
}
