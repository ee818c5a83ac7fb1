//! What was written, and what readers saw of it.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Keys that are written; few, so that each changes often.
pub(crate) const KEY_COUNT: u64 = 40;

pub(crate) fn key(number: u64) -> String {
    format!("model/{number:03}")
}

/// No two writes have the same serial.
pub(crate) fn value(serial: u64) -> String {
    format!("{serial}/{}", "x".repeat((serial % 300) as usize))
}

/// A pair as a reader saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) number: u64,
    pub(crate) value: Bytes,
    pub(crate) mod_revision: i64,
}

/// One answer: the keys `first..limit` at `revision`.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) first: u64,
    pub(crate) limit: u64,
    pub(crate) revision: i64,
    pub(crate) pairs: Vec<Pair>,
}

/// Every key's serials by the revision that wrote them; `None` is a delete.
#[derive(Debug, Default)]
pub(crate) struct History {
    keys: BTreeMap<u64, BTreeMap<i64, Option<u64>>>,
    newest: i64,
}

impl History {
    pub(crate) fn on_put(&mut self, number: u64, serial: u64, revision: i64) {
        self.newest = revision;
        let versions = self.keys.entry(number).or_default();
        versions.insert(revision, Some(serial));
    }

    pub(crate) fn on_deleted(&mut self, number: u64, revision: i64) {
        self.newest = revision;
        self.keys.entry(number).or_default().insert(revision, None);
    }

    /// The last revision that was written.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    fn at(&self, number: u64, revision: i64) -> Option<Pair> {
        let versions = self.keys.get(&number)?;
        let (mod_revision, serial) = versions.range(..=revision).next_back()?;
        Some(Pair {
            number,
            value: value((*serial)?).into(),
            mod_revision: *mod_revision,
        })
    }

    /// # Panics
    /// If the answer is not the state at its revision.
    pub(crate) fn check(&self, seen: &Observation) {
        let expected = (seen.first..seen.limit).filter_map(|n| self.at(n, seen.revision));
        let expected: Vec<Pair> = expected.collect();
        assert_eq!(
            seen.pairs, expected,
            "keys {}..{} at {}",
            seen.first, seen.limit, seen.revision
        );
    }
}
