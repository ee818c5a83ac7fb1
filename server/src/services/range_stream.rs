//! RangeStream: a range as a stream of messages, each a part of it.
//!
//! One revision is read throughout, but never held: if it is compacted meanwhile the stream ends with that error, as
//! etcd's does. Messages hold as many keys as etcd's would: [`FIRST_KEY_COUNT`], then twice as many while they come out
//! small, half as many when they come out large. Only the last one has a header, `more` and the count.

use std::rc::Rc;

use bytes::Bytes;
use engine::mvcc::{RangeRun, RangeStream, check};
use net::grpc::{Code, Status};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, ResponseHeader};

use super::failure::{Failure, end};
use super::pieces::Pieces;
use super::range::{SLICE_UNITS, count};
use super::{refused, respond};
use crate::shard::{ReplyTo, Shard, StreamReply};

/// Keys of the first message.
const FIRST_KEY_COUNT: usize = 10;

/// Streams a range once a View is there that is no older than this request.
pub(crate) fn range_stream(shard: &Rc<Shard>, request: RangeRequest, reply: ReplyTo) {
    if let Err(status) = check_request(&request) {
        return reply.finish(Err(status));
    }
    let asked = Rc::clone(shard);
    shard.when_fresh(request.serializable, move |fresh| match fresh {
        Ok(()) => {
            driver::spawn(async move { serve(&asked, request, reply).await }).detach();
        }
        Err(error) => reply.finish(Err(error.status())),
    });
}

fn check_request(request: &RangeRequest) -> Result<(), Status> {
    check::range(request).map_err(refused)?;
    let is_key_order = match SortOrder::try_from(request.sort_order) {
        Ok(SortOrder::None) => true,
        Ok(SortOrder::Ascend) => request.sort_target == SortTarget::Key as i32,
        _ => false,
    };
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let refusal = if !is_key_order {
        "RangeStream does not support custom sort orders"
    } else if bounds != [0; 4] {
        "RangeStream does not support revision filters"
    } else {
        return Ok(());
    };
    Err(Status::new(Code::Unimplemented, refusal))
}

async fn serve(shard: &Shard, mut request: RangeRequest, reply: ReplyTo) {
    // Without an order a target means nothing here.
    request.sort_target = SortTarget::Key as i32;
    let out = reply.into_stream();
    let started = driver::now();
    let streamed = stream(shard, &request, &out).await;
    count(shard, started, streamed.is_ok());
    end(out, streamed);
}

/// What the last message tells of the whole range.
struct Summary {
    header: ResponseHeader,
    more: bool,
    /// Keys in the range.
    count: i64,
}

async fn stream(shard: &Shard, request: &RangeRequest, out: &StreamReply) -> Result<(), Failure> {
    let (mut run, header) = shard.with_view(|view| {
        let run = RangeStream::new(request, view.reader())?;
        Ok::<_, Failure>((run, shard.header_at(view, view.revision())))
    })?;
    let count = count_keys(shard, request, run.revision()).await?;
    let limit = u64::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let key_count = u64::try_from(count).unwrap_or(0);
    let mut left = match request.count_only {
        true => 0,
        false => key_count.min(limit.unwrap_or(u64::MAX)),
    };
    let summary = Summary {
        header,
        more: !request.count_only && limit.is_some_and(|limit| key_count > limit),
        count,
    };
    let size_aim = shard.config.max_request_bytes;
    let mut chunk_keys = FIRST_KEY_COUNT;
    loop {
        let wanted = usize::try_from(left).map_or(chunk_keys, |left| left.min(chunk_keys));
        let pairs = read(shard, &mut run, wanted).await?;
        left = left.saturating_sub(pairs.len() as u64);
        // Fewer than counted cannot be; should it, the stream must end all the same.
        let is_last = left == 0 || pairs.is_empty();
        let len = send(out, &pairs, is_last.then_some(&summary)).await?;
        if is_last {
            return Ok(());
        }
        chunk_keys = next_chunk_keys(chunk_keys, len, size_aim);
    }
}

/// How many keys the range has at this revision.
async fn count_keys(shard: &Shard, request: &RangeRequest, revision: i64) -> Result<i64, Failure> {
    let request = RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        revision,
        count_only: true,
        ..RangeRequest::default()
    };
    let mut run = shard.with_view(|view| RangeRun::new(&request, view.reader()))?;
    loop {
        let mut slice = shard.slice(SLICE_UNITS).await;
        let step = shard.with_view(|view| run.step(view.reader(), &mut slice.budget));
        if let Some(answer) = step? {
            return Ok(answer.count);
        }
    }
}

/// The next pairs, at most `wanted`; fewer only at the end of the range.
async fn read(shard: &Shard, run: &mut RangeStream, wanted: usize) -> Result<Vec<Bytes>, Failure> {
    let mut pairs = Vec::new();
    while pairs.len() < wanted {
        // One unit for each key, so no slice brings too many.
        let units = SLICE_UNITS.min(wanted - pairs.len());
        let mut slice = shard.slice(units).await;
        let is_more = shard
            .with_view(|view| run.read(view.reader(), &mut slice.budget, usize::MAX, &mut pairs))?;
        if !is_more {
            break;
        }
    }
    Ok(pairs)
}

/// Sends one message and waits until there is room for another. Returns the length of its `RangeResponse`.
async fn send(
    out: &StreamReply,
    pairs: &[Bytes],
    summary: Option<&Summary>,
) -> Result<usize, Failure> {
    let head = summary.map_or_else(Vec::new, |summary| respond::range_head(&summary.header));
    let tail = summary.map_or_else(Vec::new, |s| respond::range_tail(s.more, s.count));
    let pairs_len: usize = pairs
        .iter()
        .map(|pair| respond::pair_field_len(pair.len()))
        .sum();
    let len = head.len() + pairs_len + tail.len();
    let envelope = respond::range_stream_prefix(len);
    let mut pieces = Pieces::start(out, envelope.len() + len)?;
    pieces.push(&envelope)?;
    pieces.push(&head)?;
    for pair in pairs {
        pieces.push_pair(pair)?;
        if out.room() == 0 {
            out.ready().await?;
        }
    }
    pieces.push(&tail)?;
    pieces.flush()?;
    out.ready().await?;
    if driver::need_yield() {
        driver::yield_now().await;
    }
    Ok(len)
}

/// etcd's rule for the number of keys of the next message, after one of `len` bytes.
fn next_chunk_keys(keys: usize, len: usize, size_aim: usize) -> usize {
    if len < size_aim / 2 {
        keys.saturating_mul(2)
    } else if len > size_aim.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_grow_while_small_and_shrink_while_large() {
        let aim = 1_572_864;
        assert_eq!(next_chunk_keys(10, 180, aim), 20);
        assert_eq!(next_chunk_keys(10, 2_000_210, aim), 10);
        assert_eq!(next_chunk_keys(10, 10_000_210, aim), 5);
        assert_eq!(next_chunk_keys(5, 5_000_105, aim), 2);
        assert_eq!(next_chunk_keys(1, 10_000_000, aim), 1);
    }

    #[test]
    fn what_cannot_be_streamed_is_refused_in_etcds_order() {
        let refusal = |order: i32, target: i32, min_mod_revision: i64| {
            let request = RangeRequest {
                key: "k".into(),
                sort_order: order,
                sort_target: target,
                min_mod_revision,
                ..RangeRequest::default()
            };
            check_request(&request).map_err(|status| status.message.into_owned())
        };
        let (sort, filter) = ("custom sort orders", "revision filters");
        assert_eq!(refusal(0, 3, 0), Ok(()));
        assert_eq!(refusal(1, 0, 0), Ok(()));
        assert!(refusal(1, 3, 1).is_err_and(|text| text.ends_with(sort)));
        assert!(refusal(2, 0, 0).is_err_and(|text| text.ends_with(sort)));
        assert!(refusal(1, 0, 1).is_err_and(|text| text.ends_with(filter)));
        assert!(refusal(0, 9, 1).is_err_and(|text| text.contains("sort option")));
    }
}
