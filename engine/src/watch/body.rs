//! Events as bytes, written once for everybody who is told the same.
//!
//! ```text
//!  WatchResponse   head: header, watch_id, fragment     for each watcher, some thirty bytes
//!                  events                               a Part: shared by all watchers of a group in the same form
//! ```
//!
//! What is short is copied together; a long pair is a piece of its own, shared with the tail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prost::encoding::{encode_varint, encoded_len_varint};
use prost::{DecodeError, Message};
use proto::etcdserverpb::{ResponseHeader, WatchResponse};

use super::watcher::Form;
use crate::mvcc::{Pair, RequestError, key_in};
use crate::view::PinnedView;

/// Short fields gather into pieces of about this length.
const PIECE_LEN: usize = 32 * 1024;
/// A pair of this length or more is not copied.
const OWN_PIECE_LEN_MIN: usize = 8 * 1024;
/// A response up to this length is one piece.
const WHOLE_LEN_MAX: usize = 16 * 1024;

/// Field tags of `WatchResponse`, and of its `Event`s.
mod tag {
    pub(super) const HEADER: u8 = 0x0a;
    pub(super) const WATCH_ID: u8 = 0x10;
    pub(super) const FRAGMENT: u8 = 0x38;
    pub(super) const EVENTS: u8 = 0x5a;
    pub(super) const EVENT_TYPE: u8 = 0x08;
    pub(super) const EVENT_KV: u8 = 0x12;
    pub(super) const EVENT_PREV_KV: u8 = 0x1a;
}

/// `Event.type` of a deletion.
const DELETE: u8 = 1;

/// One change that somebody watches.
#[derive(Debug)]
pub(super) struct Event {
    /// Main revision.
    pub(super) revision: i64,
    pub(super) tombstone: bool,
    /// Encoded `KeyValue`; a deletion's has key and mod revision.
    kv: Bytes,
    /// Encoded, once it was looked for.
    prev_kv: Option<Option<Bytes>>,
}

impl Event {
    pub(super) fn new(revision: i64, tombstone: bool, pair: &[u8], shared: Option<&Bytes>) -> Self {
        let kv = if tombstone {
            let deleted = Pair {
                key: key_in(pair).unwrap_or_default(),
                mod_revision: revision,
                ..Pair::default()
            };
            deleted.encode()
        } else {
            shared.map_or_else(|| Bytes::copy_from_slice(pair), Bytes::clone)
        };
        Event {
            revision,
            tombstone,
            kv,
            prev_kv: None,
        }
    }

    /// Bytes that it keeps.
    pub(super) fn len(&self) -> usize {
        self.kv.len()
    }

    /// Looks for the pair that the change replaced or deleted, unless that is known.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub(super) fn find_prev_kv(&mut self, view: &PinnedView<'_>) -> Result<(), RequestError> {
        if self.prev_kv.is_some() {
            return Ok(());
        }
        let pair = Pair::parse(&self.kv).unwrap_or_default();
        let creates = !self.tombstone && pair.create_revision == pair.mod_revision;
        let found = match creates {
            true => None,
            false => view
                .pair_at(pair.key, self.revision - 1)?
                .map(|pair| pair.to_bytes()),
        };
        self.prev_kv = Some(found);
        Ok(())
    }

    fn prev_kv(&self, form: Form) -> Option<&Bytes> {
        self.prev_kv.as_ref()?.as_ref().filter(|_| form.prev_kv())
    }
}

/// Counts the bytes of all [`Pieces`] of a hub that somebody still has to send.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicUsize>);

impl Meter {
    pub(super) fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is long of a response, shared by all who are told the same. It counts as long as it lives.
#[derive(Debug)]
struct Pieces {
    pieces: Vec<Bytes>,
    len: usize,
    meter: Meter,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>, meter: &Meter) -> Self {
        let len = pieces.iter().map(Bytes::len).sum();
        meter.0.fetch_add(len, Ordering::Relaxed);
        Pieces {
            pieces,
            len,
            meter: meter.clone(),
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// Events that go into one response.
#[derive(Debug)]
pub(super) struct Part {
    pieces: Arc<Pieces>,
    len: usize,
    event_count: usize,
    /// A part of the same events follows.
    more: bool,
}

/// What a group is told of one batch in one form: several parts only if they are large and may be split.
#[derive(Debug)]
pub(super) struct Body {
    /// `ResponseHeader`, as a field of the response.
    header: Vec<u8>,
    parts: Vec<Part>,
}

impl Body {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The response to one watcher with part `no`; `None` if there is no such part.
    pub(super) fn response(&self, id: i64, no: usize) -> Option<(ResponseBytes, usize)> {
        let part = self.parts.get(no)?;
        let mut head = Vec::with_capacity(self.header.len() + 16 + part.len.min(WHOLE_LEN_MAX));
        head.extend_from_slice(&self.header);
        if id != 0 {
            head.push(tag::WATCH_ID);
            encode_varint(id as u64, &mut head);
        }
        if part.more {
            head.extend([tag::FRAGMENT, 1]);
        }
        let len = head.len() + part.len;
        let bytes = if len <= WHOLE_LEN_MAX {
            let pieces = part.pieces.pieces.iter();
            pieces.for_each(|piece| head.extend_from_slice(piece));
            ResponseBytes::whole(head.into())
        } else {
            ResponseBytes {
                len,
                first: head.into(),
                rest: Some(Arc::clone(&part.pieces)),
            }
        };
        Some((bytes, part.event_count))
    }
}

/// One encoded `WatchResponse`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ResponseBytes {
    len: usize,
    first: Bytes,
    rest: Option<Arc<Pieces>>,
}

impl ResponseBytes {
    pub(super) fn whole(bytes: Bytes) -> Self {
        ResponseBytes {
            len: bytes.len(),
            first: bytes,
            rest: None,
        }
    }

    pub(super) fn encode(response: &WatchResponse) -> Self {
        Self::whole(response.encode_to_vec().into())
    }

    /// Bytes in all pieces together.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Piece `no`, counted from 0; none of them is large but for one that is a long pair.
    pub fn piece(&self, no: usize) -> Option<&Bytes> {
        match no.checked_sub(1) {
            None => Some(&self.first),
            Some(no) => self.rest.as_ref()?.pieces.get(no),
        }
    }

    pub fn piece_count(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, |rest| rest.pieces.len())
    }

    /// The response as whoever watches from within the process sees it. What is in one piece is not copied.
    ///
    /// # Errors
    /// Never for what a hub made.
    pub fn decode(&self) -> Result<WatchResponse, DecodeError> {
        let Some(rest) = &self.rest else {
            return WatchResponse::decode(self.first.clone());
        };
        let mut whole = Vec::with_capacity(self.len);
        whole.extend_from_slice(&self.first);
        for piece in &rest.pieces {
            whole.extend_from_slice(piece);
        }
        WatchResponse::decode(Bytes::from(whole))
    }
}

/// A [`Body`] in the making, event by event.
#[derive(Debug)]
pub(super) struct BodyBuild {
    form: Form,
    /// Length from which a response is split, if its watchers allow it.
    fragment_len: usize,
    meter: Meter,
    parts: Vec<Part>,
    pieces: Vec<Bytes>,
    /// Of the piece that gathers.
    gathered: Vec<u8>,
    len: usize,
    event_count: usize,
    last_revision: i64,
}

impl BodyBuild {
    pub(super) fn new(form: Form, fragment_len: usize, meter: &Meter) -> Self {
        BodyBuild {
            form,
            fragment_len,
            meter: meter.clone(),
            parts: Vec::new(),
            pieces: Vec::new(),
            gathered: Vec::new(),
            len: 0,
            event_count: 0,
            last_revision: 0,
        }
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Adds an event, whose previous pair was looked for if the form has it.
    pub(super) fn push(&mut self, event: &Event) {
        if !self.form.takes(event.tombstone) {
            return;
        }
        let prev_kv = event.prev_kv(self.form);
        let len = usize::from(event.tombstone) * 2
            + field_len(event.kv.len())
            + prev_kv.map_or(0, |pair| field_len(pair.len()));
        // Header, id and flag take less than this.
        const HEAD_LEN: usize = 48;
        let grown = HEAD_LEN + self.len + field_len(len);
        if self.form.fragment() && self.event_count > 0 && grown >= self.fragment_len {
            self.end_part(true);
        }
        self.len += field_len(len);
        self.event_count += 1;
        self.last_revision = event.revision;
        self.put_head(tag::EVENTS, len);
        if event.tombstone {
            self.gathered.extend([tag::EVENT_TYPE, DELETE]);
        }
        self.put_field(tag::EVENT_KV, &event.kv);
        if let Some(pair) = prev_kv {
            self.put_field(tag::EVENT_PREV_KV, pair);
        }
    }

    /// The body. Its header tells the newest revision, or with `tells_own` that of the last event.
    pub(super) fn finish(mut self, header: &ResponseHeader, tells_own: bool) -> Body {
        if self.event_count > 0 {
            self.end_part(false);
        }
        let revision = match tells_own {
            true => self.last_revision,
            false => header.revision,
        };
        let header = ResponseHeader {
            revision,
            ..*header
        };
        let mut encoded = vec![tag::HEADER];
        encode_varint(header.encoded_len() as u64, &mut encoded);
        encoded.extend(header.encode_to_vec());
        Body {
            header: encoded,
            parts: self.parts,
        }
    }

    fn end_part(&mut self, more: bool) {
        self.flush();
        self.parts.push(Part {
            pieces: Arc::new(Pieces::new(std::mem::take(&mut self.pieces), &self.meter)),
            len: std::mem::take(&mut self.len),
            event_count: std::mem::take(&mut self.event_count),
            more,
        });
    }

    fn put_head(&mut self, tag: u8, len: usize) {
        self.gathered.push(tag);
        encode_varint(len as u64, &mut self.gathered);
    }

    fn put_field(&mut self, tag: u8, bytes: &Bytes) {
        self.put_head(tag, bytes.len());
        if bytes.len() >= OWN_PIECE_LEN_MIN {
            self.flush();
            self.pieces.push(bytes.clone());
        } else {
            self.gathered.extend_from_slice(bytes);
            if self.gathered.len() >= PIECE_LEN {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push(std::mem::take(&mut self.gathered).into());
        }
    }
}

/// Length of a field around `len` bytes; all tags take one byte.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}
