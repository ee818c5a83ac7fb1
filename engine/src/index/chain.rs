//! The versions of one key, for the twin.

use crate::types::Revision;

use super::version::Version;

/// The versions of one key, ascending. The newest stands apart: most keys have no other, and most reads want it.
#[derive(Debug)]
pub(super) struct Chain {
    newest: Version,
    older: Vec<Version>,
}

impl Chain {
    pub(super) fn new(version: Version) -> Self {
        Chain {
            newest: version,
            older: Vec::new(),
        }
    }

    pub(super) fn newest(&self) -> &Version {
        &self.newest
    }

    pub(super) fn push(&mut self, version: Version) {
        assert!(
            version.revision > self.newest.revision,
            "a key's versions ascend: {} after {}",
            version.revision,
            self.newest.revision
        );
        self.older
            .push(std::mem::replace(&mut self.newest, version));
    }

    pub(super) fn at(&self, main: i64) -> Option<&Version> {
        if self.newest.revision.main <= main {
            return Some(&self.newest);
        }
        let count = self
            .older
            .partition_point(|version| version.revision.main <= main);
        self.older.get(count.checked_sub(1)?)
    }

    pub(super) fn holds(&self, revision: Revision) -> bool {
        self.newest.revision == revision
            || self
                .older
                .binary_search_by_key(&revision, |version| version.revision)
                .is_ok()
    }

    /// Removes what a compaction at `main` makes unreachable but for reads at `held`; true if nothing is left.
    ///
    /// Said as the rule is, not as the index does it: what some read sees stays, and a tombstone that hides a version.
    pub(super) fn compact_but(&mut self, main: i64, held: &[i64]) -> bool {
        if held.is_empty() {
            return self.compact(main);
        }
        let all: Vec<Version> = self.older.iter().copied().chain([self.newest]).collect();
        let seen_at = |at: i64| all.iter().rposition(|version| version.revision.main <= at);
        let mut kept: Vec<bool> = all.iter().map(|v| v.revision.main > main).collect();
        for at in held.iter().filter(|at| **at < main) {
            seen_at(*at).into_iter().for_each(|seen| kept[seen] = true);
        }
        if let Some(seen) = seen_at(main) {
            let hides = kept[..seen].contains(&true);
            let gone = !all[seen].is_live() && all[seen].revision.main < main;
            kept[seen] = hides || !gone;
        }
        let mut left = all.into_iter().zip(kept).filter(|(_, kept)| *kept);
        let mut left: Vec<Version> = left.by_ref().map(|(version, _)| version).collect();
        let Some(newest) = left.pop() else {
            return true;
        };
        (self.newest, self.older) = (newest, left);
        false
    }

    fn compact(&mut self, main: i64) -> bool {
        let gone = |version: &Version| !version.is_live() && version.revision.main < main;
        if self.newest.revision.main <= main {
            self.older = Vec::new();
            return gone(&self.newest);
        }
        let count = self
            .older
            .partition_point(|version| version.revision.main <= main);
        let Some(kept) = count.checked_sub(1) else {
            return false;
        };
        let remove = kept + usize::from(gone(&self.older[kept]));
        self.older.drain(..remove);
        self.older.shrink_to(self.older.len() * 2);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::TailPosition;
    use crate::types::LeaseId;

    fn version(main: i64, sub: i64, version: i64) -> Version {
        Version {
            revision: Revision::new(main, sub),
            create_revision: main,
            version,
            lease: LeaseId::NONE,
            position: TailPosition(0),
        }
    }

    #[test]
    fn one_request_may_change_a_key_twice() {
        let mut chain = Chain::new(version(2, 0, 1));
        chain.push(version(3, 0, 0));
        chain.push(version(3, 1, 1));
        assert_eq!(chain.at(3), Some(&version(3, 1, 1)));
        assert_eq!(chain.at(2), Some(&version(2, 0, 1)));
        assert!(!chain.compact_but(3, &[]));
        assert_eq!((chain.at(2), chain.at(3)), (None, Some(&version(3, 1, 1))));
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn an_older_version_is_refused() {
        Chain::new(version(2, 1, 1)).push(version(2, 1, 2));
    }
}
