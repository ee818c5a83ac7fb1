//! Ranges: pick, filter, sort and cut, in etcd's order and with its quirks.
//!
//! Order of effects: the interval at the revision -> `max_mod`, `min_mod`, `max_create`, `min_create` -> sort -> limit.
//! `count` is the whole interval's, before filters and limit. A sort target other than KEY with order NONE sorts
//! ascending what the limit (and one more, which tells `more`) left of the keys in order. Equal sort values keep the
//! order of their keys.
//!
//! ```text
//!   Selection    what a request asks for
//!   Scan         its way through the index, in slices: one key after the other, then the rest only counted
//!   Sorter       sorts what a scan picked, in slices
//!   RangeRun     scan, sort: the answer as a list of stored pairs
//!   RangeStream  scan twice: first how long the answer is, then its pairs piece by piece
//! ```
//!
//! A run holds a revision and the key it got to, never a state: each slice is handed the newest one. If the revision is
//! compacted in between the run fails as a new request would, unless it was given a [`super::Hold`].

mod decode;
mod run;
mod scan;
mod sort;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::pair::{Pair, decode as decode_pair};
use super::{Reader, RequestError};
use crate::backend::PairRef;
use crate::index::{KeyRange, Version};
use crate::types::Budget;

pub(crate) use decode::DecodeRun;
pub use run::RangeRun;
pub use stream::{RangeSize, RangeStream};

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

/// What a request asks for.
#[derive(Debug)]
struct Selection {
    range: KeyRange,
    /// Main revision that is read.
    at: i64,
    /// Newest revision at the start: the header's.
    newest: i64,
    filter: Filter,
    target: SortTarget,
    order: SortOrder,
    content: Content,
    /// How many pairs to answer.
    limit: usize,
}

impl Selection {
    fn new(request: &RangeRequest, reader: Reader<'_>) -> Result<Self, RequestError> {
        let order = SortOrder::try_from(request.sort_order);
        let target = SortTarget::try_from(request.sort_target);
        let (Ok(order), Ok(target)) = (order, target) else {
            return Err(RequestError::InvalidSortOption);
        };
        let at = resolve(request.revision, reader)?;
        let limit = match usize::try_from(request.limit) {
            Ok(limit) if limit > 0 => limit,
            _ => usize::MAX,
        };
        Ok(Selection {
            range: KeyRange::new(&request.key, &request.range_end),
            at,
            newest: reader.revision,
            filter: Filter::new(request),
            target,
            order,
            content: content(request, target),
            limit,
        })
    }

    /// True if the answer is what passes, in the order of keys.
    fn is_plain(&self) -> bool {
        self.target == SortTarget::Key && self.order != SortOrder::Descend
    }

    /// How many keys to pick; what comes behind them is only counted. One more than the limit tells `more`.
    fn pick_count(&self) -> usize {
        let cuts_before_sort = self.order == SortOrder::None && self.filter.is_off();
        match self.content {
            Content::CountOnly => 0,
            _ if self.is_plain() || cuts_before_sort => self.limit.saturating_add(1),
            _ => usize::MAX,
        }
    }

    /// The pair to answer for a key; that of [`Content::KeysByValue`] still has its value.
    fn pair(
        &self,
        reader: Reader<'_>,
        key: &[u8],
        version: &Version,
    ) -> Result<Bytes, RequestError> {
        match self.content {
            Content::Keys => Ok(keys_only(key, version).encode()),
            _ => reader.pair(version).map(PairRef::to_bytes),
        }
    }

    /// The length of that pair.
    fn pair_len(
        &self,
        reader: Reader<'_>,
        key: &[u8],
        version: &Version,
    ) -> Result<usize, RequestError> {
        match self.content {
            Content::Keys => Ok(keys_only(key, version).encoded_len()),
            _ => reader.pair(version).map(|pair| pair.len()),
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

fn keys_only<'a>(key: &'a [u8], version: &Version) -> Pair<'a> {
    Pair {
        key,
        create_revision: version.create_revision,
        mod_revision: version.revision.main,
        version: version.version,
        ..Pair::default()
    }
}

fn without_value(pair: &Bytes) -> Bytes {
    let kv = decode_pair(pair);
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
