//! How much of the log a start has to read.
//!
//! ```text
//!  segments    | 0 ....... | 1 ....... | 2 ...S.... | 3 ..... N .... | 4 ......
//!                                        ^ read from here on
//! ```
//! N is the newest snapshot file and S the one before. A database is never older than the newest snapshot that has a
//! record, so everything that [`decide`](super::decide) looks at is usually behind S. Usually: a file may have no record, or the
//! database may be one that was put back. Then [`suffices`] says no, and the whole log is read and decided upon.

use super::{Position, Start};
use crate::wal::{Recovered, SegmentName};

/// Position in `segments`, which ascend, of the first one to read; 0 is always right. `snapshots` are the indexes of the
/// snapshot files, in any order.
pub fn first_needed(segments: &[SegmentName], snapshots: &[u64]) -> usize {
    let mut newest_first = snapshots.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let Some(index) = newest_first.get(1).or(newest_first.first()) else {
        return 0;
    };
    let begun = segments.partition_point(|segment| segment.first_index <= *index);
    begun.saturating_sub(1)
}

/// Whether the decision upon a log without its first segments is the one that the whole log would give: the log vouches for
/// a snapshot, and neither that nor the database's entry is before what was read.
pub fn suffices(start: &Start, recovered: &Recovered) -> bool {
    let Start::Resume(plan) = start else {
        return false;
    };
    let first = recovered.entries.first().map(proto::raftpb::Entry::index);
    plan.snapshot != Position::default()
        && first.is_some_and(|first| first <= plan.snapshot.index)
        && plan.snapshot.index <= plan.applied.index
}
