//! An interval of keys as requests name it.

use std::ops::Bound;

use bytes::Bytes;

/// Keys from `key` to `range_end`, as every request of etcd's API means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// An empty `range_end`: this key alone.
    Point(Bytes),
    /// Half-open. No end (`range_end` = `\0`): every key from `start` on.
    Span { start: Bytes, end: Option<Bytes> },
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl KeyRange {
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match range_end.as_ref() {
            b"" => KeyRange::Point(key.clone()),
            b"\0" => KeyRange::Span {
                start: key.clone(),
                end: None,
            },
            _ => KeyRange::Span {
                start: key.clone(),
                end: Some(range_end.clone()),
            },
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Point(point) => point == key,
            KeyRange::Span { start, end } => {
                start.as_ref() <= key && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }

    /// Bounds of the keys after `after`; `None` if there can be none.
    pub(super) fn bounds_after<'a>(&'a self, after: Option<&'a [u8]>) -> Option<Bounds<'a>> {
        let (start, end) = match self {
            KeyRange::Point(key) => {
                let bounds = (Bound::Included(key.as_ref()), Bound::Included(key.as_ref()));
                return after
                    .is_none_or(|after| after < key.as_ref())
                    .then_some(bounds);
            }
            KeyRange::Span { start, end } => (start.as_ref(), end.as_deref()),
        };
        let from = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        // A map refuses bounds that cross, and an exclusive pair that meets.
        let first = after.map_or(start, |after| after.max(start));
        if end.is_some_and(|end| end <= first) {
            return None;
        }
        Some((from, end.map_or(Bound::Unbounded, Bound::Excluded)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(
            &Bytes::from_static(key.as_bytes()),
            &Bytes::from_static(end.as_bytes()),
        )
    }

    #[test]
    fn ends_mean_what_etcd_means() {
        assert!(range("b", "").contains(b"b") && !range("b", "").contains(b"ba"));
        assert!(range("b", "\0").contains(b"zz") && !range("b", "\0").contains(b"a"));
        assert!(range("b", "d").contains(b"cc") && !range("b", "d").contains(b"d"));
        assert!(!range("d", "b").contains(b"c"));
    }

    #[test]
    fn crossed_and_exhausted_ranges_have_no_bounds() {
        assert_eq!(range("d", "b").bounds_after(None), None);
        assert_eq!(range("d", "d").bounds_after(None), None);
        assert_eq!(range("b", "d").bounds_after(Some(b"d")), None);
        assert_eq!(range("b", "").bounds_after(Some(b"b")), None);
        assert!(range("b", "d").bounds_after(Some(b"c")).is_some());
        assert!(range("b", "d").bounds_after(Some(b"a")).is_some());
    }
}
