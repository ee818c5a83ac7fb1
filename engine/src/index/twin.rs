//! The naive twin of [`super::Index`]: the same face over a `BTreeMap`, for property tests and as a yardstick.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::chain::Chain;
use super::{Buried, KeyRange, Version, Walked};
use crate::types::Revision;

/// All versions of all keys. See the module text.
#[derive(Debug, Default)]
pub struct Index {
    chains: BTreeMap<Box<[u8]>, Chain>,
    /// Keys whose newest version lives.
    live: usize,
}

impl Index {
    pub fn new() -> Self {
        Index::default()
    }

    /// Inserts the version that `make` derives from the newest one of `key`, which it must be newer than.
    pub fn insert(&mut self, key: &[u8], make: impl FnOnce(Option<&Version>) -> Version) {
        if let Some(chain) = self.chains.get_mut(key) {
            let version = make(Some(chain.newest()));
            self.live =
                self.live + usize::from(version.is_live()) - usize::from(chain.newest().is_live());
            chain.push(version);
            return;
        }
        let version = make(None);
        self.live += usize::from(version.is_live());
        self.chains.insert(key.into(), Chain::new(version));
    }

    /// The newest version of `key` at or below main revision `at`, tombstone or not.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Version> {
        self.chains.get(key)?.at(at).copied()
    }

    /// As [`Index::get`], but only if the key lives then.
    pub fn get_live(&self, key: &[u8], at: i64) -> Option<Version> {
        self.get(key, at).filter(Version::is_live)
    }

    /// Shows `visit` every key of `range` after `after`, ascending, with its version if it lives at `at`.
    ///
    /// Dead keys are shown too, so that a visitor can bound its work; it stops the walk by answering `false`.
    pub fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        at: i64,
        mut visit: impl FnMut(&[u8], Option<&Version>) -> bool,
    ) -> Walked {
        let Some(bounds) = range.bounds_after(after) else {
            return Walked::All;
        };
        if let KeyRange::Point(point) = range {
            // One descent instead of the two that a map's range takes.
            if let Some((key, chain)) = self.chains.get_key_value(point.as_ref()) {
                visit(key, chain.at(at).filter(|version| version.is_live()));
            }
            return Walked::All;
        }
        for (key, chain) in self.chains.range::<[u8], _>(bounds) {
            if !visit(key, chain.at(at).filter(|version| version.is_live())) {
                return Walked::Stopped;
            }
        }
        Walked::All
    }

    /// Shows `kill` every key of `range` after `after` that lives at the newest revision, and adds the tombstone it
    /// answers. `None` stops the walk before that key.
    pub fn bury(
        &mut self,
        range: &KeyRange,
        after: Option<&[u8]>,
        mut kill: impl FnMut(&[u8], Option<&Version>) -> Buried,
    ) -> Walked {
        let Some(bounds) = range.bounds_after(after) else {
            return Walked::All;
        };
        for (key, chain) in self.chains.range_mut::<[u8], _>(bounds) {
            match kill(
                key,
                Some(chain.newest()).filter(|version| version.is_live()),
            ) {
                Buried::Skipped => {}
                Buried::Stop => return Walked::Stopped,
                Buried::Tombstone(version) => {
                    debug_assert!(chain.newest().is_live() && !version.is_live());
                    chain.push(version);
                    self.live -= 1;
                }
            }
        }
        Walked::All
    }

    /// How many keys of `range` live at `at`.
    pub fn count(&self, range: &KeyRange, at: i64) -> u64 {
        let mut count = 0;
        self.walk(range, None, at, |_, version| {
            count += u64::from(version.is_some());
            true
        });
        count
    }

    /// True if any key at all lives at `at`.
    pub fn any_live(&self, at: i64) -> bool {
        self.chains
            .values()
            .any(|chain| chain.at(at).is_some_and(Version::is_live))
    }

    /// Keys with any version at all.
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Keys that live at the newest revision.
    pub fn live_count(&self) -> usize {
        self.live
    }

    /// True if `key` still has the version made at exactly `revision`.
    pub fn holds(&self, key: &[u8], revision: Revision) -> bool {
        self.chains
            .get(key)
            .is_some_and(|chain| chain.holds(revision))
    }

    /// Removes what a compaction at `revision` makes unreachable, of up to `limit` keys after `after`.
    ///
    /// Of each key the newest version at or below `revision` stays, unless it is a tombstone below it; a tombstone at
    /// `revision` itself stays, as it does in etcd since 3.5.16. So does what a read at one of the revisions `held` needs.
    ///
    /// Returns the last key looked at; `None` when there was none left.
    pub fn compact(
        &mut self,
        after: Option<&[u8]>,
        revision: i64,
        held: &[i64],
        limit: usize,
    ) -> Option<Box<[u8]>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut emptied = Vec::new();
        let mut last = None;
        let keys = self.chains.range_mut::<[u8], _>((from, Bound::Unbounded));
        for (key, chain) in keys.take(limit.max(1)) {
            if chain.compact_but(revision, held) {
                emptied.push(key.clone());
            }
            last = Some(key);
        }
        let last = last.cloned();
        for key in emptied {
            self.chains.remove(&key);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tail::TailPosition;
    use crate::types::LeaseId;

    fn put(main: i64, version: i64) -> Version {
        Version {
            revision: Revision::new(main, 0),
            create_revision: main - version + 1,
            version,
            lease: LeaseId::NONE,
            position: TailPosition(main as u64),
        }
    }

    fn tomb(main: i64) -> Version {
        Version::tombstone(Revision::new(main, 0), TailPosition(main as u64))
    }

    fn index(history: &[(&str, Version)]) -> Index {
        let mut index = Index::new();
        for (key, version) in history {
            index.insert(key.as_bytes(), |_| *version);
        }
        index
    }

    fn all() -> KeyRange {
        KeyRange::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"))
    }

    #[test]
    fn reads_see_the_newest_version_at_their_revision() {
        let index = index(&[
            ("a", put(2, 1)),
            ("a", put(4, 2)),
            ("a", tomb(6)),
            ("a", put(8, 1)),
        ]);
        let seen = |at| index.get_live(b"a", at).map(|v| v.revision.main);
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, 8, 99].map(seen),
            [
                None,
                Some(2),
                Some(2),
                Some(4),
                Some(4),
                None,
                None,
                Some(8),
                Some(8)
            ]
        );
        assert_eq!(index.get(b"b", 9), None);
    }

    #[test]
    fn walks_resume_after_a_key_and_show_dead_keys() {
        let index = index(&[
            ("a", put(2, 1)),
            ("b", put(3, 1)),
            ("b", tomb(4)),
            ("c", put(5, 1)),
        ]);
        let mut seen = Vec::new();
        let walked = index.walk(&all(), Some(b"a"), 9, |key, version| {
            seen.push((key.to_vec(), version.is_some()));
            seen.len() < 2
        });
        assert_eq!(walked, Walked::Stopped);
        assert_eq!(seen, [(b"b".to_vec(), false), (b"c".to_vec(), true)]);
        assert_eq!(
            (
                index.count(&all(), 9),
                index.count(&all(), 3),
                index.live_count()
            ),
            (2, 2, 2)
        );
    }

    #[test]
    fn burying_stops_before_a_key() {
        let mut index = index(&[("a", put(2, 1)), ("b", put(3, 1)), ("c", put(4, 1))]);
        let walked = index.bury(&all(), None, |key, version| {
            assert!(version.is_some());
            if key == b"c" {
                Buried::Stop
            } else {
                Buried::Tombstone(tomb(5))
            }
        });
        assert_eq!(
            (walked, index.live_count(), index.count(&all(), 4)),
            (Walked::Stopped, 1, 3)
        );
        assert!(index.any_live(5) && !index.any_live(1));
    }

    #[test]
    fn compaction_keeps_what_can_still_be_read() {
        let history = [
            ("a", put(2, 1)),
            ("a", put(4, 2)),
            ("a", put(9, 3)),
            ("b", put(3, 1)),
            ("b", tomb(5)),
            ("c", put(6, 1)),
            ("c", tomb(7)),
        ];
        let mut index = index(&history);
        let mut after = None;
        while let Some(last) = index.compact(after.as_deref(), 7, &[], 1) {
            after = Some(last);
        }
        assert_eq!(index.get(b"a", 3), None);
        assert_eq!(index.get(b"a", 7).map(|v| v.version), Some(2));
        assert_eq!(index.get(b"a", 9).map(|v| v.version), Some(3));
        assert_eq!(index.get(b"b", 9), None);
        // The tombstone at the compact revision stays, the put below it goes.
        assert_eq!(index.get(b"c", 9), Some(tomb(7)));
        assert_eq!(index.get(b"c", 6), None);
        assert_eq!(index.chains.len(), 2);
    }
}
