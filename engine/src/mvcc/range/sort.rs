//! Sorting what a scan picked, in slices.
//!
//! ```text
//!   picks, in the order of keys -> runs, each sorted in one piece when it is full -> merged, one pick at a time
//! ```
//!
//! A run is bounded in picks and, if values are compared, in their bytes, so that no piece of the work is long. Sorts
//! and merge are stable: equal ranks keep the order of their keys, also when descending.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::index::Version;
use crate::mvcc::pair::value_of;

/// Picks of a run: sorting it takes less than a turn of an executor.
const RUN_LEN_MAX: usize = 4096;
/// Bytes of values in a run, which may be compared some ten times each.
const RUN_VALUE_BYTES_MAX: usize = 1 << 20;

/// What decides the order; of one sort all are of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Number(i64),
    Value(Bytes),
    ValueDown(Reverse<Bytes>),
}

#[derive(Debug)]
struct Picked {
    rank: Rank,
    pair: Bytes,
}

/// The least pick of a run that was not merged yet. Ordered by rank, then run.
#[derive(Debug)]
struct Head {
    picked: Picked,
    run: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let ranks = self.picked.rank.cmp(&other.picked.rank);
        ranks.then(self.run.cmp(&other.run))
    }
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Sorter {
    target: SortTarget,
    is_descending: bool,
    filling: Vec<Picked>,
    filling_value_bytes: usize,
    runs: Vec<std::vec::IntoIter<Picked>>,
    heads: BinaryHeap<Reverse<Head>>,
    len: usize,
}

impl Sorter {
    pub(super) fn new(target: SortTarget, order: SortOrder) -> Self {
        Sorter {
            target,
            is_descending: order == SortOrder::Descend,
            filling: Vec::new(),
            filling_value_bytes: 0,
            runs: Vec::new(),
            heads: BinaryHeap::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the next pick in the order of keys.
    pub(super) fn push(&mut self, version: &Version, pair: Bytes) {
        let rank = self.rank(version, &pair);
        if let Rank::Value(value) | Rank::ValueDown(Reverse(value)) = &rank {
            self.filling_value_bytes += value.len();
        }
        self.len += 1;
        self.filling.push(Picked { rank, pair });
        let is_full = self.filling.len() == RUN_LEN_MAX;
        if is_full || self.filling_value_bytes > RUN_VALUE_BYTES_MAX {
            self.end_run();
        }
    }

    fn rank(&self, version: &Version, pair: &Bytes) -> Rank {
        let number = match self.target {
            SortTarget::Version => version.version,
            SortTarget::Create => version.create_revision,
            SortTarget::Mod => version.revision.main,
            // Picks come in the order of keys.
            SortTarget::Key => self.len as i64,
            SortTarget::Value if self.is_descending => {
                return Rank::ValueDown(Reverse(value_of(pair)));
            }
            SortTarget::Value => return Rank::Value(value_of(pair)),
        };
        // The complement turns the order round and overflows nowhere.
        Rank::Number(if self.is_descending { !number } else { number })
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.filling);
        self.filling_value_bytes = 0;
        run.sort_by(|a, b| a.rank.cmp(&b.rank));
        let mut run = run.into_iter();
        let no = self.runs.len();
        self.heads
            .extend(run.next().map(|picked| Reverse(Head { picked, run: no })));
        self.runs.push(run);
    }

    /// All were added.
    pub(super) fn finish(&mut self) {
        self.end_run();
    }

    /// The next pair in the order asked for.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let Reverse(Head { picked, run }) = self.heads.pop()?;
        let next = self.runs[run].next();
        self.heads
            .extend(next.map(|picked| Reverse(Head { picked, run })));
        Some(picked.pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::Pair;
    use crate::tail::TailPosition;
    use crate::types::{LeaseId, Revision};

    fn picks(count: i64) -> Vec<(Version, Bytes)> {
        let pick = |i: i64| {
            let scattered = i.wrapping_mul(0x9e37_79b9) % 1000;
            let version = Version {
                revision: Revision::new(scattered, 0),
                create_revision: scattered / 10,
                version: scattered % 7 + 1,
                lease: LeaseId::NONE,
                position: TailPosition(0),
            };
            let value = scattered.to_string().repeat(1 + (i % 3) as usize);
            let pair = Pair {
                key: &i.to_be_bytes(),
                value: value.as_bytes(),
                ..Pair::default()
            };
            (version, pair.encode())
        };
        (0..count).map(pick).collect()
    }

    /// Through several runs, against a sort in one piece.
    #[test]
    fn runs_merge_to_a_stable_sort() {
        let picks = picks(3 * RUN_LEN_MAX as i64 + 77);
        for target in [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ] {
            for order in [SortOrder::Ascend, SortOrder::Descend] {
                let mut sorter = Sorter::new(target, order);
                picks
                    .iter()
                    .for_each(|(v, pair)| sorter.push(v, pair.clone()));
                sorter.finish();
                assert_eq!(sorter.len(), picks.len());
                let sorted: Vec<Bytes> = std::iter::from_fn(|| sorter.next()).collect();
                assert!(
                    sorted == naive(&picks, target, order),
                    "{target:?} {order:?}"
                );
            }
        }
    }

    fn naive(picks: &[(Version, Bytes)], target: SortTarget, order: SortOrder) -> Vec<Bytes> {
        let key = |(version, pair): &(Version, Bytes)| match target {
            SortTarget::Key => (0, crate::mvcc::key_of(pair)),
            SortTarget::Version => (version.version, Bytes::new()),
            SortTarget::Create => (version.create_revision, Bytes::new()),
            SortTarget::Mod => (version.revision.main, Bytes::new()),
            SortTarget::Value => (0, value_of(pair)),
        };
        let mut picks = picks.to_vec();
        match order {
            SortOrder::Descend => picks.sort_by_key(|pick| Reverse(key(pick))),
            _ => picks.sort_by_key(key),
        }
        picks.into_iter().map(|(_, pair)| pair).collect()
    }

    #[test]
    fn large_values_make_short_runs() {
        let mut sorter = Sorter::new(SortTarget::Value, SortOrder::Ascend);
        let value = vec![b'v'; RUN_VALUE_BYTES_MAX / 3];
        for (version, _) in picks(10) {
            let value = &value;
            sorter.push(
                &version,
                Pair {
                    value,
                    ..Pair::default()
                }
                .encode(),
            );
        }
        assert_eq!(sorter.runs.len(), 2);
    }
}
