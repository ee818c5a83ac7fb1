//! A range answered as a whole: the list of its stored pairs.

use bytes::Bytes;
use proto::etcdserverpb::RangeRequest;

use super::scan::{Next, Scan};
use super::sort::Sorter;
use super::{Content, RangeAnswer, Selection, without_value};
use crate::mvcc::{Hold, Reader, RequestError};
use crate::types::Budget;

/// Bytes of a pair that are read, compared or rewritten for one unit of budget.
pub(super) const VALUE_BYTES_PER_UNIT: usize = 1024;

/// A range in progress.
#[derive(Debug)]
pub struct RangeRun {
    scan: Scan,
    stage: Stage,
    /// What is answered so far.
    kvs: Vec<Bytes>,
    /// Bytes of it.
    kvs_len: usize,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Collecting,
    /// As `Collecting`, into a sorter.
    Sorting(Box<Sorter>),
    /// The sorter is full.
    Merging(Box<Sorter>),
}

impl RangeRun {
    /// # Errors
    /// [`RequestError::FutureRev`], [`RequestError::Compacted`], and [`RequestError::InvalidSortOption`], which only
    /// an entry can hold: [`crate::mvcc::check::range`] refuses it before.
    pub fn new(request: &RangeRequest, reader: Reader<'_>) -> Result<Self, RequestError> {
        Ok(RangeRun::of(Selection::new(request, reader)?))
    }

    pub(super) fn of(selection: Selection) -> Self {
        let stage = match selection.is_plain() {
            true => Stage::Collecting,
            false => Stage::Sorting(Box::new(Sorter::new(selection.target, selection.order))),
        };
        RangeRun {
            scan: Scan::new(selection),
            stage,
            kvs: Vec::new(),
            kvs_len: 0,
        }
    }

    /// The main revision that is read, as [`RangeRun::hold`] wants it.
    pub fn revision(&self) -> i64 {
        self.scan.selection.at
    }

    /// Keeps the revision readable until the run is dropped.
    ///
    /// # Panics
    /// If the hold is of another revision.
    pub fn hold(&mut self, hold: Hold) {
        self.scan.hold(hold);
    }

    /// Bytes of the pairs that are collected so far; `None` if that does not tell how long the answer will be, because they
    /// are to be sorted.
    pub fn collected_len(&self) -> Option<usize> {
        matches!(self.stage, Stage::Collecting).then_some(self.kvs_len)
    }

    /// Does a slice; answers when the range is whole.
    ///
    /// # Errors
    /// [`RequestError::Compacted`] if the revision was compacted since the last slice and is not held.
    pub fn step(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Result<Option<RangeAnswer>, RequestError> {
        let is_whole = match &mut self.stage {
            Stage::Collecting => {
                let (kvs, kvs_len) = (&mut self.kvs, &mut self.kvs_len);
                let limit = self.scan.selection.limit;
                self.scan
                    .step(reader, budget, |selection, key, version, budget| {
                        if kvs.len() < limit {
                            let pair = selection.pair(reader, key, version)?;
                            budget.spend(pair.len() / VALUE_BYTES_PER_UNIT);
                            *kvs_len += pair.len();
                            kvs.push(pair);
                        }
                        Ok(Next::GoOn)
                    })?
            }
            Stage::Sorting(sorter) => {
                let done = self
                    .scan
                    .step(reader, budget, |selection, key, version, budget| {
                        let pair = selection.pair(reader, key, version)?;
                        budget.spend(pair.len() / VALUE_BYTES_PER_UNIT);
                        sorter.push(version, pair);
                        Ok(Next::GoOn)
                    })?;
                if done {
                    sorter.finish();
                }
                if done && let Stage::Sorting(sorter) = std::mem::take(&mut self.stage) {
                    self.stage = Stage::Merging(sorter);
                }
                false
            }
            Stage::Merging(sorter) => merge(sorter, &self.scan.selection, &mut self.kvs, budget),
        };
        let goes_on = !is_whole && !budget.is_spent() && matches!(self.stage, Stage::Merging(_));
        if goes_on {
            return self.step(reader, budget);
        }
        Ok(is_whole.then(|| self.finish()))
    }

    fn finish(&mut self) -> RangeAnswer {
        RangeAnswer {
            kvs: std::mem::take(&mut self.kvs),
            more: self.scan.picked() > self.scan.selection.limit,
            count: self.scan.count(),
            revision: self.scan.selection.newest,
        }
    }
}

/// Takes sorted pairs while the budget lasts; true once there are enough.
fn merge(
    sorter: &mut Sorter,
    selection: &Selection,
    kvs: &mut Vec<Bytes>,
    budget: &mut Budget,
) -> bool {
    let wanted = sorter.len().min(selection.limit);
    while kvs.len() < wanted {
        let Some(pair) = sorter.next() else {
            return true;
        };
        budget.spend(1 + pair.len() / VALUE_BYTES_PER_UNIT);
        kvs.push(match selection.content {
            Content::KeysByValue => without_value(&pair),
            _ => pair,
        });
        if budget.is_spent() && kvs.len() < wanted {
            return false;
        }
    }
    true
}
