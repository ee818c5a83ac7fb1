//! A set of keys as half-open intervals, for the overlap rule of transactions.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Disjoint intervals `start..end`, kept merged, so that adding and asking cost a look-up each however often a request
/// repeats itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Intervals {
    by_start: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Intervals {
    /// Adds `start..end`; nothing if the end is not above the start.
    pub(super) fn insert(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        if end <= start {
            return;
        }
        let before = (Bound::Unbounded, Bound::Included(&start));
        if let Some((s, e)) = self.by_start.range::<Vec<u8>, _>(before).next_back()
            && *e >= start
        {
            start.clone_from(s);
        }
        loop {
            let within = (Bound::Included(&start), Bound::Included(&end));
            let Some((s, e)) = self.by_start.range::<Vec<u8>, _>(within).next() else {
                break;
            };
            if *e > end {
                end.clone_from(e);
            }
            let s = s.clone();
            self.by_start.remove(&s);
        }
        self.by_start.insert(start, end);
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        self.by_start
            .range::<[u8], _>(upto)
            .next_back()
            .is_some_and(|(_, end)| key < end.as_slice())
    }

    /// Adds all intervals of `other`.
    pub(super) fn absorb(&mut self, other: Intervals) {
        for (start, end) in other.by_start {
            self.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(intervals: &[(&str, &str)]) -> Intervals {
        let mut set = Intervals::default();
        for (start, end) in intervals {
            set.insert(start.as_bytes().to_vec(), end.as_bytes().to_vec());
        }
        set
    }

    #[test]
    fn intervals_merge() {
        let merged = set(&[
            ("d", "f"),
            ("a", "b"),
            ("c", "d"),
            ("b", "c"),
            ("x", "z"),
            ("y", "yy"),
        ]);
        assert_eq!(merged.by_start.len(), 2);
        for (key, inside) in [
            ("a", true),
            ("ee", true),
            ("f", false),
            ("w", false),
            ("z", false),
            ("yz", true),
        ] {
            assert_eq!(merged.contains(key.as_bytes()), inside, "{key}");
        }
    }

    #[test]
    fn empty_and_crossed_intervals_hold_nothing() {
        let empty = set(&[("b", "b"), ("c", "a")]);
        assert!(!empty.contains(b"b") && !empty.contains(b"c") && empty.by_start.is_empty());
    }

    #[test]
    fn agrees_with_asking_each_interval() {
        let keys: Vec<String> = ('a'..='j').map(String::from).collect();
        let mut seed = 12345_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            keys[(seed >> 16) as usize % keys.len()].as_str()
        };
        for _ in 0..500 {
            let list: Vec<(&str, &str)> = (0..5).map(|_| (next(), next())).collect();
            let merged = set(&list);
            for key in &keys {
                let naive = list
                    .iter()
                    .any(|(start, end)| *start <= key.as_str() && key.as_str() < *end);
                assert_eq!(merged.contains(key.as_bytes()), naive, "{key} in {list:?}");
            }
        }
    }
}
