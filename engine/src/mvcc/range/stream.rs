//! A range whose answer is sent piece by piece: first how long it is, then its pairs.
//!
//! ```text
//!   measure .. measure -> RangeSize      the length can be promised
//!   read .. read                         the pairs, in order, exactly as many bytes
//! ```
//!
//! Nothing but a revision and a key is kept between slices, unless the answer is sorted: then the pairs themselves are
//! (their bytes are shared with the tail). For the promise to hold the revision must be held ([`RangeStream::hold`])
//! before the length is told to anybody.

use bytes::Bytes;
use prost::encoding::encoded_len_varint;
use proto::etcdserverpb::RangeRequest;

use super::run::{RangeRun, VALUE_BYTES_PER_UNIT};
use super::scan::{Next, Scan};
use super::{RangeAnswer, Selection};
use crate::mvcc::{Hold, Reader, RequestError};
use crate::types::Budget;

/// What the answer will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeSize {
    /// Pairs in the answer.
    pub kv_count: usize,
    /// Bytes that all `kvs` fields take in an encoded `RangeResponse`, with their tags and lengths.
    pub kvs_len: usize,
    /// True if the limit cut the result.
    pub more: bool,
    /// Keys in the interval at that revision, before filters and limit.
    pub count: i64,
    /// Newest revision when the range was begun: the header's.
    pub revision: i64,
}

/// A range in two passes. See the module text.
#[derive(Debug)]
pub struct RangeStream {
    size: RangeSize,
    pass: Pass,
}

#[derive(Debug)]
enum Pass {
    /// Both passes walk the index.
    Plain { scan: Scan, is_measured: bool },
    /// The first pass collects and sorts.
    Sorted { run: RangeRun, pairs: Option<Pairs> },
}

/// What was collected.
#[derive(Debug)]
struct Pairs {
    /// Those that were not read yet.
    rest: std::vec::IntoIter<Bytes>,
    measured: usize,
}

/// Bytes of one `kvs` field: its tag, its length, the pair.
fn field_len(pair_len: usize) -> usize {
    1 + encoded_len_varint(pair_len as u64) + pair_len
}

impl RangeStream {
    /// # Errors
    /// As [`RangeRun::new`].
    pub fn new(request: &RangeRequest, reader: Reader<'_>) -> Result<Self, RequestError> {
        let selection = Selection::new(request, reader)?;
        let size = RangeSize {
            revision: selection.newest,
            ..RangeSize::default()
        };
        let pass = match selection.is_plain() {
            true => Pass::Plain {
                scan: Scan::new(selection),
                is_measured: false,
            },
            false => Pass::Sorted {
                run: RangeRun::of(selection),
                pairs: None,
            },
        };
        Ok(RangeStream { size, pass })
    }

    /// The main revision that is read, as [`RangeStream::hold`] wants it.
    pub fn revision(&self) -> i64 {
        match &self.pass {
            Pass::Plain { scan, .. } => scan.selection.at,
            Pass::Sorted { run, .. } => run.revision(),
        }
    }

    /// Keeps the revision readable until the stream is dropped.
    ///
    /// # Panics
    /// If the hold is of another revision.
    pub fn hold(&mut self, hold: Hold) {
        match &mut self.pass {
            Pass::Plain { scan, .. } => scan.hold(hold),
            Pass::Sorted { run, .. } => run.hold(hold),
        }
    }

    /// Does a slice of the first pass; answers when it is done, and again if it is asked again.
    ///
    /// # Errors
    /// [`RequestError::Compacted`] if the revision was compacted since the last slice and is not held.
    pub fn measure(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Result<Option<RangeSize>, RequestError> {
        let size = &mut self.size;
        let is_measured = match &mut self.pass {
            Pass::Plain { scan, is_measured } => {
                if !*is_measured {
                    *is_measured = measure_plain(scan, size, reader, budget)?;
                }
                *is_measured
            }
            Pass::Sorted { run, pairs } => {
                if pairs.is_none() {
                    *pairs = run
                        .step(reader, budget)?
                        .map(|answer| size.collected(answer));
                }
                pairs
                    .as_mut()
                    .is_some_and(|pairs| measure_sorted(pairs, size, budget))
            }
        };
        Ok(is_measured.then_some(self.size))
    }

    /// Does a slice of the second pass: appends pairs to `out`, about `bytes_max` bytes of them and at least one if the
    /// budget is not spent. True while there are more. To be called once the range is measured.
    ///
    /// # Errors
    /// [`RequestError::Compacted`] if the revision was compacted since the last slice and is not held.
    pub fn read(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
        bytes_max: usize,
        out: &mut Vec<Bytes>,
    ) -> Result<bool, RequestError> {
        let mut left = bytes_max;
        let mut take = |pair: Bytes| {
            left = left.saturating_sub(field_len(pair.len()));
            out.push(pair);
            left > 0
        };
        match &mut self.pass {
            Pass::Plain { scan, .. } => {
                let done = scan.step(reader, budget, |selection, key, version, budget| {
                    let pair = selection.pair(reader, key, version)?;
                    budget.spend(pair.len() / VALUE_BYTES_PER_UNIT);
                    Ok(match take(pair) {
                        true => Next::GoOn,
                        false => Next::Pause,
                    })
                })?;
                Ok(!done)
            }
            Pass::Sorted { pairs, .. } => {
                let rest = pairs.as_mut().map(|pairs| &mut pairs.rest);
                let rest = rest.expect("a sorted range is read once it is measured");
                for pair in rest.by_ref() {
                    budget.spend(1);
                    if !take(pair) || budget.is_spent() {
                        break;
                    }
                }
                Ok(rest.len() > 0)
            }
        }
    }
}

impl RangeSize {
    /// Takes over what was collected; its bytes are yet to be summed.
    fn collected(&mut self, answer: RangeAnswer) -> Pairs {
        self.kv_count = answer.kvs.len();
        self.more = answer.more;
        self.count = answer.count;
        Pairs {
            rest: answer.kvs.into_iter(),
            measured: 0,
        }
    }
}

/// A slice of the sum over a sorted range; true once it is done.
fn measure_sorted(pairs: &mut Pairs, size: &mut RangeSize, budget: &mut Budget) -> bool {
    while let Some(pair) = pairs.rest.as_slice().get(pairs.measured) {
        size.kvs_len += field_len(pair.len());
        pairs.measured += 1;
        budget.spend(1);
        if budget.is_spent() {
            break;
        }
    }
    pairs.measured == pairs.rest.len()
}

/// A slice of a plain range's first pass; true once it is done, and the scan at the beginning of the second one.
fn measure_plain(
    scan: &mut Scan,
    size: &mut RangeSize,
    reader: Reader<'_>,
    budget: &mut Budget,
) -> Result<bool, RequestError> {
    let done = scan.step(reader, budget, |selection, key, version, _| {
        if size.kv_count < selection.limit {
            size.kv_count += 1;
            size.kvs_len += field_len(selection.pair_len(reader, key, version)?);
        }
        Ok(Next::GoOn)
    })?;
    if done {
        size.more = scan.picked() > scan.selection.limit;
        size.count = scan.count();
        scan.rewind(size.kv_count);
    }
    Ok(done)
}
