//! How long the work takes that goes on beside the requests, for the metrics: checkpoints, sweeps, defragmentations.
//!
//! The node knows no clock, so its shell notes when each begins and looks whether it has ended.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::metrics::Metrics;

/// Compactions whose sweep may be waited for; later ones are not timed. Sweeps follow each other, so more than a few
/// wait only if a client compacts again and again.
const COMPACTION_COUNT_MAX: usize = 64;

/// When what is under way has begun.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// The first operation of the checkpoint that is being written.
    commit_begun: Cell<Option<Duration>>,
    /// The entry of the newest checkpoint that was seen.
    checkpoint: Cell<u64>,
    defrag_begun: Cell<Option<Duration>>,
    /// Revisions whose sweep has not ended, ascending.
    compactions: RefCell<VecDeque<(i64, Duration)>>,
}

impl Stretches {
    pub(super) fn on_store_io(&self, now: Duration) {
        if self.commit_begun.get().is_none() {
            self.commit_begun.set(Some(now));
        }
    }

    /// The newest checkpoint on the disk has this entry.
    pub(super) fn on_checkpoint(&self, metrics: &Metrics, index: u64, now: Duration) {
        if self.checkpoint.replace(index) != index
            && let Some(begun) = self.commit_begun.take()
        {
            metrics.backend_commit.observe(now.saturating_sub(begun));
        }
    }

    /// Somebody asks for a defragmentation; one that is under way is the same.
    pub(super) fn on_defragment(&self, metrics: &Metrics, now: Duration) {
        if self.defrag_begun.get().is_none() {
            self.defrag_begun.set(Some(now));
            metrics.defrag_inflight.set_bool(true);
        }
    }

    pub(super) fn on_defragmented(&self, metrics: &Metrics, now: Duration) {
        if let Some(begun) = self.defrag_begun.take() {
            metrics.defrag_inflight.set_bool(false);
            metrics.backend_defrag.observe(now.saturating_sub(begun));
        }
    }

    pub(super) fn on_compaction(&self, revision: i64, now: Duration) {
        let mut compactions = self.compactions.borrow_mut();
        if compactions.len() < COMPACTION_COUNT_MAX {
            compactions.push_back((revision, now));
        }
    }

    /// All sweeps up to this revision have ended.
    pub(super) fn on_swept(&self, metrics: &Metrics, revision: i64, now: Duration) {
        let mut compactions = self.compactions.borrow_mut();
        while let Some(&(of, begun)) = compactions.front()
            && of <= revision
        {
            compactions.pop_front();
            let took = now.saturating_sub(begun).as_secs_f64() * 1000.0;
            metrics.compaction.observe_float(took);
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            metrics
                .compaction_last
                .set(since.unwrap_or_default().as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_is_told_once() {
        let (stretches, metrics) = (Stretches::default(), Metrics::default());
        let at = Duration::from_secs;
        for second in 1..4 {
            stretches.on_store_io(at(second));
            stretches.on_checkpoint(&metrics, 0, at(second));
        }
        stretches.on_checkpoint(&metrics, 9, at(5));
        stretches.on_checkpoint(&metrics, 9, at(6));
        assert_eq!(metrics.backend_commit.count(), 1);
        assert!((metrics.backend_commit.sum() - 4.0).abs() < 1e-9);

        stretches.on_defragment(&metrics, at(1));
        stretches.on_defragment(&metrics, at(2));
        assert_eq!(metrics.defrag_inflight.get(), Some(1.0));
        stretches.on_defragmented(&metrics, at(4));
        stretches.on_defragmented(&metrics, at(5));
        assert_eq!(metrics.defrag_inflight.get(), Some(0.0));
        assert_eq!(metrics.backend_defrag.count(), 1);

        for revision in [5, 7, 9] {
            stretches.on_compaction(revision, at(1));
        }
        stretches.on_swept(&metrics, 7, at(3));
        assert_eq!(metrics.compaction.count(), 2);
        assert!((metrics.compaction.sum() - 4000.0).abs() < 1e-6);
        stretches.on_swept(&metrics, 9, at(4));
        assert_eq!(metrics.compaction.count(), 3);
        assert!(metrics.compaction_last.get().is_some());
    }
}
