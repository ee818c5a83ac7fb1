//! Which segments a snapshot lets go.

use super::SegmentName;

/// The segments, of those in `names` (ascending), that hold nothing at or behind `index`: the front of the slice.
///
/// A segment's entries end in front of the index in its successor's name, so everything before the *last* segment that
/// begins at or below `index` is wholly below it. From there on is also what an etcd opens for a snapshot at `index`, and
/// the record of that snapshot is in there, since it was written behind the entry. The last one counts and not the
/// first: where a new leader's entries replaced uncommitted ones, names may step back, and what stands before such a
/// step was replaced.
///
/// The last segment is never among them: the log goes on in it.
pub fn wholly_below(names: &[SegmentName], index: u64) -> &[SegmentName] {
    let kept_from = names.iter().rposition(|name| name.first_index <= index);
    &names[..kept_from.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(first: &[u64]) -> Vec<SegmentName> {
        let name = |(sequence, &first_index)| SegmentName {
            sequence,
            first_index,
        };
        (7..).zip(first).map(name).collect()
    }

    #[test]
    fn what_ends_below_the_index_goes() {
        for (first, index, expected) in [
            (&[][..], 9, 0),
            (&[0], 9, 0),
            (&[0, 10, 20], 0, 0),
            (&[0, 10, 20], 9, 0),
            // Entry 9 is the last of the first segment; entry 10 begins the second.
            (&[0, 10, 20], 10, 1),
            (&[0, 10, 20], 19, 1),
            (&[0, 10, 20], 20, 2),
            (&[0, 10, 20], u64::MAX, 2),
            // No segment begins below: nothing is known of what these hold.
            (&[10, 20], 5, 0),
            // The names of segments that took no entry are equal.
            (&[0, 10, 10, 20], 10, 2),
            // Entries from 8 on were replaced after the second segment had begun.
            (&[0, 10, 9, 20], 9, 2),
            (&[0, 10, 9, 20], 10, 2),
        ] {
            let names = names(first);
            assert_eq!(
                wholly_below(&names, index).len(),
                expected,
                "{first:?} {index}"
            );
        }
    }
}
