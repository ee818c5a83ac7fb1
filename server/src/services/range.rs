//! Unary ranges of any size.
//!
//! A small answer is collected, in one slice as a rule, and sent in one piece. Any other is served by a task of its own: gRPC
//! wants the length of a message before its first byte, so a first pass over the keys computes it, and a second one sends them.
//! Between slices nothing is kept but the revision and the next key; a hold keeps that revision from being swept.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use engine::mvcc::{RangeRun, RangeSize, RangeStream, RequestError, check};
use engine::types::Budget;
use engine::view::PinnedView;
use net::grpc::{Code, Status};
use proto::etcdserverpb::RangeRequest;

use super::failure::{Failure, end};
use super::pieces::Pieces;
use super::{refused, respond};
use crate::errors::FrontError;
use crate::metrics::RequestKind;
use crate::shard::{ReplyTo, Shard, StreamReply};

/// Keys that one slice visits at most; its time ends it before that, as a rule.
pub(super) const SLICE_UNITS: usize = 1024;
/// How long the first slice takes at most, which waits for nobody.
const FIRST_TIME: Duration = Duration::from_micros(100);
/// Answers up to this length are built whole; it is no more than what a streamed one queues.
const SMALL_LEN_MAX: usize = 256 * 1024;
/// grpc-go's limit, and so etcd's.
const MESSAGE_LEN_MAX: usize = i32::MAX as usize;

/// What the first slice of a range came to.
enum First {
    Whole(Bytes),
    Refused(RequestError),
    /// It takes longer; its answer may be small.
    Unfinished(Box<RangeRun>),
    /// Its answer is not small, or nobody knows yet.
    Large,
}

/// Answers from a View: the newest one, or the first that is no older than this request.
pub(crate) fn range(shard: &Rc<Shard>, request: RangeRequest, reply: ReplyTo) {
    if let Err(error) = check::range(&request) {
        return reply.finish(Err(refused(error)));
    }
    let started = driver::now();
    let first = shard.with_view(|view| {
        let is_fresh = request.serializable || view.is_linearizable();
        is_fresh.then(|| read_first(shard, view, &request))
    });
    if let Some(first) = first {
        return answer(shard, request, reply, first, started);
    }
    let asked = Rc::clone(shard);
    shard.wait_fresh(move |fresh| match fresh {
        Ok(()) => {
            let started = driver::now();
            let first = asked.with_view(|view| read_first(&asked, view, &request));
            answer(&asked, request, reply, first, started);
        }
        Err(error) => reply.finish(Err(error.status())),
    });
}

fn read_first(shard: &Shard, view: &PinnedView<'_>, request: &RangeRequest) -> First {
    let mut budget = Budget::new(SLICE_UNITS).within(driver::now, FIRST_TIME);
    match RangeRun::new(request, view.reader()) {
        Ok(run) => collect(shard, view, Box::new(run), &mut budget),
        Err(error) => First::Refused(error),
    }
}

/// A slice of a range whose answer may be small.
fn collect(
    shard: &Shard,
    view: &PinnedView<'_>,
    mut run: Box<RangeRun>,
    budget: &mut Budget,
) -> First {
    let answer = match run.step(view.reader(), budget) {
        Ok(answer) => answer,
        Err(error) => return First::Refused(error),
    };
    match answer {
        Some(answer) => {
            let header = shard.header_at(view, answer.revision);
            let message = respond::small_range_response(&header, &answer, SMALL_LEN_MAX);
            message.map_or(First::Large, First::Whole)
        }
        None => match run.collected_len() {
            Some(..=SMALL_LEN_MAX) => First::Unfinished(run),
            _ => First::Large,
        },
    }
}

fn answer(
    shard: &Rc<Shard>,
    request: RangeRequest,
    reply: ReplyTo,
    first: First,
    started: Duration,
) {
    let shard = Rc::clone(shard);
    match first {
        First::Whole(message) => finish(&shard, reply, Ok(message), started),
        First::Refused(error) => finish(&shard, reply, Err(refused(error)), started),
        First::Unfinished(run) => {
            driver::spawn(async move { go_on(&shard, &request, run, reply, started).await })
                .detach();
        }
        First::Large => {
            driver::spawn(async move { serve_large(&shard, &request, reply).await }).detach();
        }
    }
}

/// Answers as a whole.
fn finish(shard: &Shard, reply: ReplyTo, answer: Result<Bytes, Status>, started: Duration) {
    let metrics = &shard.metrics;
    metrics.read_done(RequestKind::Range, answer.is_ok(), reply.elapsed());
    count(shard, started, answer.is_ok());
    reply.finish(answer);
}

/// Goes on collecting while the answer may be small.
async fn go_on(
    shard: &Shard,
    request: &RangeRequest,
    mut run: Box<RangeRun>,
    reply: ReplyTo,
    started: Duration,
) {
    let Some(hold) = shard.hold(run.revision()) else {
        // Compacted just now. A newer revision may do.
        return serve_large(shard, request, reply).await;
    };
    run.hold(hold);
    loop {
        let mut slice = shard.slice(SLICE_UNITS).await;
        let next = shard.with_view(|view| collect(shard, view, run, &mut slice.budget));
        drop(slice);
        match next {
            First::Unfinished(unfinished) => run = unfinished,
            First::Whole(message) => return finish(shard, reply, Ok(message), started),
            First::Refused(error) => {
                return finish(shard, reply, Err(refused(error)), started);
            }
            First::Large => return serve_large(shard, request, reply).await,
        }
    }
}

/// What the metrics tell of a range in the store.
pub(super) fn count(shard: &Shard, started: Duration, is_ok: bool) {
    let elapsed = driver::now().saturating_sub(started);
    shard.metrics.range_done(is_ok, elapsed);
    if elapsed > shard.config.warning_apply_duration {
        shard.metrics.slow_applies.inc();
    }
    // A range that the store refuses is one as well, with etcd.
    shard.metrics.range_total.inc();
}

async fn serve_large(shard: &Shard, request: &RangeRequest, reply: ReplyTo) {
    let started = driver::now();
    let measured = measure(shard, request).await;
    count(shard, started, measured.is_ok());
    let metrics = &shard.metrics;
    metrics.read_done(RequestKind::Range, measured.is_ok(), reply.elapsed());
    let (run, size) = match measured {
        Ok(measured) => measured,
        Err(status) => return reply.finish(Err(status)),
    };
    let out = reply.into_stream();
    let sent = send(shard, run, size, &out).await;
    end(out, sent);
}

/// The first pass. What comes back holds its revision.
async fn measure(
    shard: &Shard,
    request: &RangeRequest,
) -> Result<(RangeStream, RangeSize), Status> {
    let mut run = shard
        .with_view(|view| RangeStream::new(request, view.reader()))
        .map_err(refused)?;
    let Some(hold) = shard.hold(run.revision()) else {
        let compact_revision = shard.with_view(|view| view.compact_revision());
        return Err(match compact_revision > run.revision() {
            true => FrontError::Compacted.status(),
            false => FrontError::TooManyRequests.status(),
        });
    };
    run.hold(hold);
    loop {
        let mut slice = shard.slice(SLICE_UNITS).await;
        let step = shard.with_view(|view| run.measure(view.reader(), &mut slice.budget));
        if let Some(size) = step.map_err(refused)? {
            return Ok((run, size));
        }
    }
}

/// The second pass.
async fn send(
    shard: &Shard,
    mut run: RangeStream,
    size: RangeSize,
    out: &StreamReply,
) -> Result<(), Failure> {
    let header = shard.with_view(|view| shard.header_at(view, size.revision));
    let (head, tail) = (
        respond::range_head(&header),
        respond::range_tail(size.more, size.count),
    );
    let len = head.len() + size.kvs_len + tail.len();
    if len > MESSAGE_LEN_MAX {
        return Err(Failure::Refused(too_large(len)));
    }
    let mut pieces = Pieces::start(out, len)?;
    pieces.push(&head)?;
    let mut pairs = Vec::new();
    let mut is_more = true;
    while is_more {
        let mut slice = shard.slice(SLICE_UNITS).await;
        is_more = shard
            .with_view(|view| run.read(view.reader(), &mut slice.budget, out.room(), &mut pairs))?;
        for pair in pairs.drain(..) {
            pieces.push_pair(&pair)?;
        }
        pieces.flush()?;
        drop(slice);
        out.ready().await?;
    }
    pieces.push(&tail)?;
    pieces.flush()?;
    Ok(())
}

/// What grpc-go says.
fn too_large(len: usize) -> Status {
    let text =
        format!("grpc: trying to send message larger than max ({len} vs. {MESSAGE_LEN_MAX})");
    Status::new(Code::ResourceExhausted, text)
}
