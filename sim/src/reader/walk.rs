//! A walk under one pin: key by key through one state, while the node goes on.
//!
//! Each step reads a few more keys; at the end the list must be what was published at the revision, and the changes in
//! the tail must still be there. What the state says of itself must be the same at every step.

use bytes::Bytes;
use engine::mvcc;
use engine::view::{PinnedView, StayingView, ViewReader};
use proto::etcdserverpb::RangeRequest;

use super::{ReadCounts, Stepped, draw_revision};
use crate::check::{Violation, reading};
use crate::history::Published;
use crate::random::Rng;
use crate::workload;

/// What a state says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    revision: i64,
    compact_revision: i64,
    finished_compact_revision: Option<i64>,
    applied: (u64, u64),
    db_size: (u64, u64),
    key_count: usize,
}

fn numbers(view: &PinnedView<'_>) -> Numbers {
    Numbers {
        revision: view.revision(),
        compact_revision: view.compact_revision(),
        finished_compact_revision: view.finished_compact_revision(),
        applied: (view.applied_index().0, view.applied_term().0),
        db_size: (view.db_size(), view.db_size_in_use()),
        key_count: view.key_count(),
    }
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Walk {
    stay: StayingView,
    pinned: Numbers,
    /// The revision that is read.
    at: i64,
    kvs: Vec<Bytes>,
    /// Keys at that revision, as the first step was told.
    count: Option<i64>,
    is_whole: bool,
}

impl Walk {
    pub(super) fn begin(handle: ViewReader, rng: &mut Rng) -> Walk {
        let stay = handle.stay();
        let pinned = numbers(&stay.view());
        Walk {
            at: draw_revision(pinned.revision, pinned.compact_revision, rng),
            stay,
            pinned,
            kvs: Vec::new(),
            count: None,
            is_whole: false,
        }
    }

    /// Reads on; after the last key it compares and unpins.
    pub(super) fn step(
        mut self,
        rng: &mut Rng,
        published: &Published,
        counts: &mut ReadCounts,
    ) -> Result<Stepped<Walk>, Violation> {
        let now = numbers(&self.stay.view());
        if now != self.pinned {
            return Err(format!(
                "a pinned state changed from {:?} to {now:?}",
                self.pinned
            ));
        }
        if !self.is_whole {
            self.read(1 + rng.below(3) as i64)?;
            return Ok(Stepped::GoesOn(self));
        }
        self.compare(published)?;
        let mut handle = self.stay.leave();
        let newest = handle.pin();
        counts.done += 1;
        counts.overtaken += usize::from(newest.applied_index().0 > now.applied.0);
        counts.compacted += usize::from(newest.compact_revision() > now.compact_revision);
        drop(newest);
        Ok(Stepped::Done(handle))
    }

    /// Takes so many keys.
    fn read(&mut self, limit: i64) -> Result<(), Violation> {
        let request = RangeRequest {
            key: self.next_key(),
            limit,
            revision: self.at,
            ..workload::everything()
        };
        let answer = self.stay.view().range(&request);
        let answer = answer.map_err(|e| format!("revision {} of a pinned state: {e}", self.at))?;
        let known = self.kvs.len() as i64;
        let count = *self.count.get_or_insert(answer.count);
        if (answer.revision, answer.count + known) != (self.pinned.revision, count) {
            return Err(format!(
                "{} keys of {count} were read at revision {}, now it has {} more of {}",
                known, self.at, answer.count, answer.revision
            ));
        }
        self.is_whole = !answer.more;
        self.kvs.extend(answer.kvs);
        Ok(())
    }

    fn next_key(&self) -> Bytes {
        match self.kvs.last() {
            None => workload::everything().key,
            Some(pair) => [&mvcc::decode(pair).key[..], &[0]].concat().into(),
        }
    }

    fn compare(&self, published: &Published) -> Result<(), Violation> {
        let view = self.stay.view();
        reading::all(
            published,
            self.at,
            &self.kvs,
            self.count.unwrap_or_default(),
        )?;
        reading::key_count(published, self.pinned.revision, self.pinned.key_count)?;
        for (key, kv) in reading::points(published, self.at) {
            reading::pair(kv, key, self.at, view.pair_at(key, self.at))?;
        }
        let from = self.pinned.compact_revision.max(1) + 1;
        reading::changes(published, from..=self.pinned.revision, view.changes(from))
    }
}
