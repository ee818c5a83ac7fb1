//! Reads in slices, as the server performs large ones: a pin for each slice, a revision over all of them.
//!
//! Some take a hold on their revision: they answer whatever is compacted meanwhile. The others may be told that their
//! revision is gone, and only if it is.

use bytes::Bytes;
use engine::mvcc::{HashKv, HashRun, RangeAnswer, RangeRun, RangeSize, RangeStream, RequestError};
use engine::types::Budget;
use engine::view::{Hold, PinnedView, ViewReader};
use proto::etcdserverpb::RangeRequest;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::{ReadCounts, Stepped, draw_revision};
use crate::check::agreement::Agreement;
use crate::check::{Violation, reading};
use crate::random::Rng;
use crate::workload;

/// See the module text.
#[derive(Debug)]
pub(super) struct Slices {
    handle: ViewReader,
    request: RangeRequest,
    /// The revision that is read.
    at: i64,
    is_held: bool,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Range(RangeRun),
    Stream {
        stream: RangeStream,
        size: Option<RangeSize>,
        pairs: Vec<Bytes>,
    },
    Hash(HashRun),
}

/// What a run says when it is whole.
enum Answer {
    Range(RangeAnswer),
    Stream(RangeSize, Vec<Bytes>),
    Hash(HashKv),
}

impl Slices {
    pub(super) fn begin(mut handle: ViewReader, rng: &mut Rng) -> Result<Slices, Violation> {
        let view = handle.pin();
        let at = draw_revision(view.revision(), view.compact_revision(), rng);
        let request = draw_request(at, rng);
        let run = Run::new(&request, &view, rng);
        let mut run = run.map_err(|e| format!("revision {at} of a state that has it: {e}"))?;
        drop(view);
        let is_held = run.wants_hold() && rng.one_in(2);
        if is_held {
            let hold = handle.hold(at);
            run.hold(hold.ok_or_else(|| format!("revision {at} is readable, but not held"))?);
        }
        Ok(Slices {
            handle,
            request,
            at,
            is_held,
            run,
        })
    }

    /// Does a slice; the last one compares.
    pub(super) fn step(
        mut self,
        rng: &mut Rng,
        member: usize,
        agreement: &mut Agreement,
        counts: &mut ReadCounts,
    ) -> Result<Stepped<Slices>, Violation> {
        let view = self.handle.pin();
        let compacted = view.compact_revision();
        let mut budget = Budget::new(1 + rng.below(6) as usize);
        let stepped = self.run.step(&view, &mut budget);
        drop(view);
        let is_compacted = compacted > self.at;
        match stepped {
            Ok(None) => return Ok(Stepped::GoesOn(self)),
            Ok(Some(answer)) => {
                counts.held += usize::from(self.is_held && is_compacted);
                self.compare(answer, member, agreement)?;
            }
            Err(RequestError::Compacted) if is_compacted && !self.is_held => {}
            Err(error) => {
                let Slices { at, is_held, .. } = self;
                return Err(format!(
                    "revision {at} (held: {is_held}, compact revision {compacted}): {error}"
                ));
            }
        }
        counts.done += 1;
        Ok(Stepped::Done(self.handle))
    }

    fn compare(
        &self,
        answer: Answer,
        member: usize,
        agreement: &mut Agreement,
    ) -> Result<(), Violation> {
        let published = &agreement.published;
        match answer {
            Answer::Hash(hash) => agreement.compare_hash(member, hash),
            Answer::Range(answer) => {
                let size = (answer.count, answer.more);
                reading::range(published, &self.request, &answer.kvs, size)
            }
            Answer::Stream(size, pairs) => {
                reading::stream_size(&size, &pairs)?;
                reading::range(published, &self.request, &pairs, (size.count, size.more))
            }
        }
    }
}

/// All keys at `at`; some ask for a few of them, or backwards.
fn draw_request(at: i64, rng: &mut Rng) -> RangeRequest {
    let order = match rng.one_in(3) {
        true => SortOrder::Descend,
        false => SortOrder::None,
    };
    let limit = match rng.one_in(3) {
        true => 1 + rng.below(6) as i64,
        false => 0,
    };
    RangeRequest {
        revision: at,
        limit,
        sort_order: order as i32,
        sort_target: SortTarget::Key as i32,
        ..workload::everything()
    }
}

impl Run {
    fn new(
        request: &RangeRequest,
        view: &PinnedView<'_>,
        rng: &mut Rng,
    ) -> Result<Run, RequestError> {
        Ok(match rng.below(5) {
            0 => Run::Hash(HashRun::new(request.revision, view.reader())?),
            1 | 2 => Run::Stream {
                stream: RangeStream::new(request, view.reader())?,
                size: None,
                pairs: Vec::new(),
            },
            _ => Run::Range(RangeRun::new(request, view.reader())?),
        })
    }

    fn wants_hold(&self) -> bool {
        !matches!(self, Run::Hash(_))
    }

    fn hold(&mut self, hold: Hold) {
        match self {
            Run::Range(run) => run.hold(hold),
            Run::Stream { stream, .. } => stream.hold(hold),
            Run::Hash(_) => drop(hold),
        }
    }

    fn step(
        &mut self,
        view: &PinnedView<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Answer>, RequestError> {
        let reader = view.reader();
        match self {
            Run::Hash(run) => Ok(run.step(reader, budget)?.map(Answer::Hash)),
            Run::Range(run) => Ok(run.step(reader, budget)?.map(Answer::Range)),
            Run::Stream {
                stream,
                size: size @ None,
                ..
            } => {
                *size = stream.measure(reader, budget)?;
                Ok(None)
            }
            Run::Stream {
                stream,
                size: Some(size),
                pairs,
            } => {
                let more = stream.read(reader, budget, 500, pairs)?;
                Ok((!more).then(|| Answer::Stream(*size, std::mem::take(pairs))))
            }
        }
    }
}
