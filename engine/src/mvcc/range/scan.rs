//! The way of a range through the index.

use bytes::Bytes;

use super::{Content, Selection};
use crate::index::{KeyRange, Version, Walked};
use crate::mvcc::{Hold, Reader, RequestError};
use crate::types::Budget;

/// What becomes of a slice behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    /// The slice ends; the next one goes on behind this key.
    Pause,
}

/// A range on its way, in slices: keys that pass are picked, up to a number; then the rest is counted.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) selection: Selection,
    /// How many keys to pick.
    wanted: usize,
    /// False: what was not picked is of no interest.
    counts: bool,
    hold: Option<Hold>,
    after: Option<Box<[u8]>>,
    picked: usize,
    count: i64,
}

impl Scan {
    pub(super) fn new(selection: Selection) -> Self {
        Scan {
            wanted: selection.pick_count(),
            counts: true,
            selection,
            hold: None,
            after: None,
            picked: 0,
            count: 0,
        }
    }

    /// From now on compactions do no harm.
    pub(super) fn hold(&mut self, hold: Hold) {
        assert_eq!(
            hold.revision(),
            self.selection.at,
            "a hold is of the revision that is read"
        );
        self.hold = Some(hold);
    }

    /// Begins again, to pick `wanted` keys and to end with them.
    pub(super) fn rewind(&mut self, wanted: usize) {
        self.after = None;
        self.picked = 0;
        self.wanted = wanted;
        self.counts = false;
    }

    /// Keys in the interval, once all were counted.
    pub(super) fn count(&self) -> i64 {
        self.count
    }

    pub(super) fn picked(&self) -> usize {
        self.picked
    }

    /// Does a slice, showing `pick` each key that is picked; true once the range is done.
    ///
    /// # Errors
    /// [`RequestError::Compacted`], and those of `pick`.
    pub(super) fn step(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
        mut pick: impl FnMut(&Selection, &[u8], &Version, &mut Budget) -> Result<Next, RequestError>,
    ) -> Result<bool, RequestError> {
        if reader.compact_revision > self.selection.at && self.hold.is_none() {
            return Err(RequestError::Compacted);
        }
        let after = self.after.take();
        if self.ends_after(reader, after.as_deref()) {
            return Ok(true);
        }
        let mut stopped_at: Option<Box<[u8]>> = None;
        let mut full_at: Option<Box<[u8]>> = None;
        let mut failed = None;
        let range = std::mem::replace(&mut self.selection.range, KeyRange::Point(Bytes::new()));
        let at = self.selection.at;
        let walked = reader
            .index
            .walk(&range, after.as_deref(), at, |key, version| {
                budget.spend(1);
                let mut next = Next::GoOn;
                if let Some(version) = version {
                    self.count += 1;
                    if self.picked < self.wanted && self.selection.filter.passes(version) {
                        self.picked += 1;
                        match pick(&self.selection, key, version, budget) {
                            Ok(wish) => next = wish,
                            Err(error) => failed = Some(error),
                        }
                    }
                }
                if self.is_full() && (!self.counts || reader.index.counts_at(at)) {
                    full_at = Some(key.into());
                } else if budget.is_spent() || next == Next::Pause {
                    stopped_at = Some(key.into());
                }
                stopped_at.is_none() && full_at.is_none() && failed.is_none()
            });
        self.selection.range = range;
        if let Some(error) = failed {
            return Err(error);
        }
        if full_at.is_some() {
            return Ok(self.ends_after(reader, full_at.as_deref()));
        }
        self.after = stopped_at;
        Ok(walked == Walked::All)
    }

    /// True if nothing more is to be picked.
    fn is_full(&self) -> bool {
        self.selection.content == Content::CountOnly || self.picked >= self.wanted
    }

    /// Ends the range behind `after` if it is full and the rest need not be counted, or can be without a walk.
    fn ends_after(&mut self, reader: Reader<'_>, after: Option<&[u8]>) -> bool {
        if !self.is_full() {
            return false;
        }
        if !self.counts {
            return true;
        }
        let (range, at) = (&self.selection.range, self.selection.at);
        let Some(rest) = reader.index.count_newest(range, after, at) else {
            return false;
        };
        self.count += i64::try_from(rest).unwrap_or(i64::MAX);
        true
    }
}
