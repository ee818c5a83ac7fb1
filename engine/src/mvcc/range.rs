//! Ranges: pick, filter, sort and cut, in etcd's order and with its quirks.
//!
//! Order of effects: the interval at the revision -> `max_mod`, `min_mod`, `max_create`, `min_create` -> sort -> limit.
//! `count` is the whole interval's, before filters and limit. A sort target other than KEY with order NONE sorts
//! ascending what the limit (and one more, which tells `more`) left of the keys in order. Equal sort values keep the
//! order of their keys.

use std::cmp::Reverse;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

use super::pair::{Pair, decode, value_of};
use super::{Reader, RequestError};
use crate::index::{KeyRange, Version, Walked};
use crate::types::Budget;

/// What a range found: the pairs as they are stored, ready to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// Encoded `mvccpb.KeyValue`s.
    pub kvs: Vec<Bytes>,
    /// True if the limit cut the result.
    pub more: bool,
    /// Keys in the interval at that revision, before filters and limit.
    pub count: i64,
    /// Newest revision when the range was answered: the header's.
    pub revision: i64,
}

impl RangeAnswer {
    /// The answer as a message. The header has only the revision.
    pub fn into_response(self) -> RangeResponse {
        DecodeRun::new(self)
            .step(&mut Budget::unlimited())
            .unwrap_or_default()
    }
}

/// Turns an answer into a message, in slices.
#[derive(Debug)]
pub(crate) struct DecodeRun {
    pairs: std::vec::IntoIter<Bytes>,
    response: RangeResponse,
}

impl DecodeRun {
    pub(crate) fn new(answer: RangeAnswer) -> Self {
        let RangeAnswer {
            kvs,
            more,
            count,
            revision,
        } = answer;
        let header = Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        });
        let room = Vec::with_capacity(kvs.len());
        let response = RangeResponse {
            header,
            kvs: room,
            more,
            count,
        };
        DecodeRun {
            pairs: kvs.into_iter(),
            response,
        }
    }

    /// Does a slice; gives the message once it is whole.
    pub(crate) fn step(&mut self, budget: &mut Budget) -> Option<RangeResponse> {
        for pair in self.pairs.by_ref() {
            self.response.kvs.push(decode(&pair));
            budget.spend(1);
            if budget.is_spent() {
                return None;
            }
        }
        Some(std::mem::take(&mut self.response))
    }
}

/// Pairs that a request's revision bounds let through; 0 bounds nothing.
#[derive(Clone, Copy, Debug)]
struct Filter {
    mod_revision: (i64, i64),
    create_revision: (i64, i64),
}

impl Filter {
    fn new(request: &RangeRequest) -> Self {
        Filter {
            mod_revision: (request.min_mod_revision, request.max_mod_revision),
            create_revision: (request.min_create_revision, request.max_create_revision),
        }
    }

    fn is_off(&self) -> bool {
        self.mod_revision == (0, 0) && self.create_revision == (0, 0)
    }

    fn passes(&self, version: &Version) -> bool {
        let within = |(min, max): (i64, i64), revision: i64| {
            (min == 0 || revision >= min) && (max == 0 || revision <= max)
        };
        within(self.mod_revision, version.revision.main)
            && within(self.create_revision, version.create_revision)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    CountOnly,
    /// Keys and numbers from the index; the lease is left out, as in etcd 3.7.
    Keys,
    /// The value is needed to sort by it, and dropped afterwards; the lease stays.
    KeysByValue,
    Pairs,
}

#[derive(Debug)]
struct Picked {
    pair: Bytes,
    /// What a numeric sort target compares; 0 with the others.
    rank: i64,
}

/// A range in progress.
#[derive(Debug)]
pub struct RangeRun {
    range: KeyRange,
    /// Main revision that is read.
    at: i64,
    /// Newest revision at the start.
    revision: i64,
    filter: Filter,
    target: SortTarget,
    order: SortOrder,
    content: Content,
    /// How many pairs to collect; the rest is only counted.
    fetch: usize,
    /// How many pairs to answer.
    limit: usize,
    after: Option<Box<[u8]>>,
    picked: Vec<Picked>,
    count: i64,
}

impl RangeRun {
    /// # Errors
    /// [`RequestError::FutureRev`], [`RequestError::Compacted`], and [`RequestError::InvalidSortOption`], which only
    /// an entry can hold: [`super::check::range`] refuses it before.
    pub fn new(request: &RangeRequest, reader: Reader<'_>) -> Result<Self, RequestError> {
        let order = SortOrder::try_from(request.sort_order);
        let target = SortTarget::try_from(request.sort_target);
        let (Ok(order), Ok(target)) = (order, target) else {
            return Err(RequestError::InvalidSortOption);
        };
        let at = resolve(request.revision, reader)?;
        let filter = Filter::new(request);
        let limit = match usize::try_from(request.limit) {
            Ok(limit) if limit > 0 => limit,
            _ => usize::MAX,
        };
        let in_key_order =
            order == SortOrder::None || (order == SortOrder::Ascend && target == SortTarget::Key);
        let fetch = if in_key_order && filter.is_off() {
            limit.saturating_add(1)
        } else {
            usize::MAX
        };
        Ok(RangeRun {
            range: KeyRange::new(&request.key, &request.range_end),
            at,
            revision: reader.revision,
            filter,
            target,
            order,
            content: content(request, target),
            fetch,
            limit,
            after: None,
            picked: Vec::new(),
            count: 0,
        })
    }

    /// Does a slice; answers when the range is whole.
    pub fn step(&mut self, reader: Reader<'_>, budget: &mut Budget) -> Option<RangeAnswer> {
        let after = self.after.take();
        if let Some(answer) = self.count_rest(reader, after.as_deref()) {
            return Some(answer);
        }
        let mut stopped_at = None;
        let mut full_at = None;
        let range = std::mem::replace(&mut self.range, KeyRange::Point(Bytes::new()));
        let walked = reader
            .index
            .walk(&range, after.as_deref(), self.at, |key, version| {
                budget.spend(1);
                if let Some(version) = version {
                    self.pick(reader, key, version);
                }
                if budget.is_spent() {
                    stopped_at = Some(Box::from(key));
                } else if self.wants_count_only() && self.can_count(reader) {
                    full_at = Some(Box::<[u8]>::from(key));
                }
                stopped_at.is_none() && full_at.is_none()
            });
        self.range = range;
        if full_at.is_some() {
            return self.count_rest(reader, full_at.as_deref());
        }
        if walked == Walked::Stopped {
            self.after = stopped_at;
            return None;
        }
        Some(self.finish())
    }

    /// True if what is left of the range only has to be counted.
    fn wants_count_only(&self) -> bool {
        self.content == Content::CountOnly || self.picked.len() >= self.fetch
    }

    /// True if the index counts without a walk: at the newest revision, spans only.
    fn can_count(&self, reader: Reader<'_>) -> bool {
        reader.index.counts_at(self.at)
    }

    /// Ends the range by counting what comes after `after`, if that is all that is left and costs no walk.
    fn count_rest(&mut self, reader: Reader<'_>, after: Option<&[u8]>) -> Option<RangeAnswer> {
        if !self.wants_count_only() {
            return None;
        }
        let rest = reader.index.count_newest(&self.range, after, self.at)?;
        self.count += i64::try_from(rest).unwrap_or(i64::MAX);
        Some(self.finish())
    }

    fn pick(&mut self, reader: Reader<'_>, key: &[u8], version: &Version) {
        self.count += 1;
        if self.content == Content::CountOnly
            || self.picked.len() >= self.fetch
            || !self.filter.passes(version)
        {
            return;
        }
        let pair = match self.content {
            Content::Keys => keys_only(key, version),
            _ => reader.pair(version).clone(),
        };
        let rank = match self.target {
            SortTarget::Version => version.version,
            SortTarget::Create => version.create_revision,
            SortTarget::Mod => version.revision.main,
            SortTarget::Key | SortTarget::Value => 0,
        };
        self.picked.push(Picked { pair, rank });
    }

    fn finish(&mut self) -> RangeAnswer {
        let mut picked = std::mem::take(&mut self.picked);
        sort(&mut picked, self.target, self.order);
        let more = picked.len() > self.limit;
        picked.truncate(self.limit);
        let strip = self.content == Content::KeysByValue;
        let kvs = picked.into_iter().map(|p| {
            if strip {
                without_value(&p.pair)
            } else {
                p.pair
            }
        });
        RangeAnswer {
            kvs: kvs.collect(),
            more,
            count: self.count,
            revision: self.revision,
        }
    }
}

fn content(request: &RangeRequest, target: SortTarget) -> Content {
    match (request.count_only, request.keys_only, target) {
        (true, ..) => Content::CountOnly,
        (_, true, SortTarget::Value) => Content::KeysByValue,
        (_, true, _) => Content::Keys,
        _ => Content::Pairs,
    }
}

/// The revision that a request reads: the newest one for 0 and below.
fn resolve(revision: i64, reader: Reader<'_>) -> Result<i64, RequestError> {
    if revision > reader.revision {
        return Err(RequestError::FutureRev);
    }
    let at = if revision <= 0 {
        reader.revision
    } else {
        revision
    };
    if at < reader.compact_revision {
        return Err(RequestError::Compacted);
    }
    Ok(at)
}

/// Sorts are stable, so equal values keep the order of their keys, also when descending.
fn sort(picked: &mut [Picked], target: SortTarget, order: SortOrder) {
    let descend = order == SortOrder::Descend;
    match (target, descend) {
        (SortTarget::Key, false) => {}
        (SortTarget::Key, true) => picked.reverse(),
        (SortTarget::Value, false) => picked.sort_by_cached_key(|p| value_of(&p.pair)),
        (SortTarget::Value, true) => picked.sort_by_cached_key(|p| Reverse(value_of(&p.pair))),
        (_, false) => picked.sort_by_key(|p| p.rank),
        (_, true) => picked.sort_by_key(|p| Reverse(p.rank)),
    }
}

fn keys_only(key: &[u8], version: &Version) -> Bytes {
    Pair {
        key,
        create_revision: version.create_revision,
        mod_revision: version.revision.main,
        version: version.version,
        ..Pair::default()
    }
    .encode()
}

fn without_value(pair: &Bytes) -> Bytes {
    let kv = decode(pair);
    Pair {
        key: &kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: b"",
        lease: kv.lease,
    }
    .encode()
}
