//! The state of one connection, and what the layer above may ask of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::closed::{Closed, How};
use super::flow::{DEFAULT_WINDOW, RecvWindow, SendWindow};
use super::frame::{self, ErrorCode, PREFACE};
use super::head::{Head, HeadReader};
use super::input::Reading;
use super::requests::Assembly;
use super::settings::{PeerSettings, id};
use super::stream::{Block, FixedFields, Key, Segment, SendState, Waiting};
use super::streams::Streams;
use crate::hpack::{DEFAULT_TABLE_SIZE_BYTES, Decoder, Encoder};
use crate::limits::{Allowance, Limits};
use crate::metadata::{Metadata, MetadataBuf};

/// The largest stream id: a graceful GOAWAY names it before the real one is known.
const STREAM_ID_MAX: u32 = (1 << 31) - 1;

/// The payload of the PING whose answer says that the peer saw the lenient GOAWAY.
const DRAIN_PING: [u8; 8] = *b"draining";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What the peer did, for the layer above.
#[derive(Debug)]
pub(crate) enum Event<'a, X> {
    /// A request (server: the stream is new) or a response that is not 1xx.
    Head {
        key: Key,
        head: Head,
        is_end: bool,
    },
    /// The fields after the body. The peer's half has ended.
    Trailers {
        key: Key,
        fields: Metadata,
    },
    /// A piece of the body.
    Data {
        key: Key,
        octets: &'a [u8],
        is_end: bool,
    },
    /// The stream is gone: reset by the peer, or by us for a fault of the peer's.
    Reset {
        key: Key,
        code: ErrorCode,
        ext: X,
    },
    Ping,
    Pong([u8; 8]),
    GoAway {
        last_stream: u32,
        code: ErrorCode,
        debug: Bytes,
    },
}

/// Why the connection ended: what the GOAWAY says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) reason: &'static str,
}

/// What a frame did wrong.
#[derive(Debug)]
pub(super) enum Fault {
    Connection(ErrorCode, &'static str),
    Stream(u32, ErrorCode),
}

/// How far a graceful close is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// The lenient GOAWAY was sent; streams are still taken until the peer's sign or this time.
    Announced {
        until: Duration,
    },
    /// The last GOAWAY named this stream; later ones are ignored.
    Final {
        last_stream: u32,
    },
}

/// How often a peer may do what costs us and brings it nothing.
#[derive(Debug)]
pub(super) struct Allowances {
    pub(super) settings: Allowance,
    pub(super) pings: Allowance,
    pub(super) idle_frames: Allowance,
    pub(super) resets: Allowance,
}

/// One HTTP/2 connection. `poll_input` until it returns `None`, act on each event, then `poll_transmit`.
#[derive(Debug)]
pub(crate) struct Connection<X> {
    pub(super) role: Role,
    pub(super) limits: Arc<Limits>,
    pub(super) now: Duration,
    pub(crate) streams: Streams<X>,

    pub(super) reading: Reading,
    /// The beginning of a frame head or payload of which the rest has not come.
    pub(super) partial: Vec<u8>,
    /// How many frames began, a header block counting as one.
    pub(super) blocks: u64,
    /// The header block that CONTINUATION frames complete.
    pub(super) assembly: Option<Assembly>,
    pub(super) decoder: Decoder,
    pub(super) heads: HeadReader,
    pub(super) recv_window: RecvWindow,
    /// Octets of bodies that are received and not given on.
    pub(super) held_len: usize,
    /// Room beyond the usual windows lent to streams with a large message.
    pub(super) lent_len: usize,
    /// Streams that need such room, in order.
    pub(super) want_room: VecDeque<Key>,
    /// The peer's settings have come / ours were acknowledged.
    pub(super) has_peer_settings: bool,
    pub(super) is_acknowledged: bool,
    /// The largest id the peer used.
    pub(super) last_peer_id: u32,
    pub(super) closed: Closed,
    pub(super) allowances: Allowances,

    pub(super) encoder: Encoder,
    pub(super) peer: PeerSettings,
    /// Frames that belong to no queue: they go first.
    pub(super) control: Vec<u8>,
    pub(super) ready: VecDeque<Key>,
    pub(super) for_connection: VecDeque<Key>,
    /// A client's streams that wait for the peer's MAX_CONCURRENT_STREAMS.
    pub(super) to_open: VecDeque<Key>,
    /// A client's open streams.
    pub(super) opened: u32,
    /// A client's next id.
    pub(super) next_id: u32,
    pub(super) send_window: SendWindow,
    /// Octets queued over all streams, header lists included.
    pub(super) queued_len: usize,
    /// Streams whose queue fell below the low-water mark.
    pub(super) low: VecDeque<Key>,
    /// HEADERS and DATA frames written.
    pub(super) work_frames: u64,
    /// PINGs of the peer that they paid for.
    pub(super) pings_paid: u64,
    /// Its other idle frames that they paid for.
    pub(super) idle_frames_paid: u64,
    pub(super) drain: Drain,
    pub(super) failure: Option<Failure>,
}

impl<X: Default> Connection<X> {
    pub(crate) fn new(role: Role, limits: Arc<Limits>, now: Duration) -> Self {
        let mut connection = Self {
            role,
            now,
            streams: Streams::new(),
            reading: match role {
                Role::Server => Reading::Preface,
                Role::Client => Reading::Head,
            },
            partial: Vec::new(),
            blocks: 0,
            assembly: None,
            decoder: Decoder::new(DEFAULT_TABLE_SIZE_BYTES),
            heads: HeadReader::new(),
            recv_window: RecvWindow::new(DEFAULT_WINDOW),
            held_len: 0,
            lent_len: 0,
            want_room: VecDeque::new(),
            has_peer_settings: false,
            is_acknowledged: false,
            last_peer_id: 0,
            closed: Closed::default(),
            allowances: Allowances {
                settings: Allowance::new(limits.settings_rate, now),
                pings: Allowance::new(limits.ping_rate, now),
                idle_frames: Allowance::new(limits.idle_frame_rate, now),
                resets: Allowance::new(limits.reset_rate, now),
            },
            encoder: Encoder::new(),
            peer: PeerSettings::default(),
            control: Vec::new(),
            ready: VecDeque::new(),
            for_connection: VecDeque::new(),
            to_open: VecDeque::new(),
            opened: 0,
            next_id: 1,
            send_window: SendWindow::new(DEFAULT_WINDOW),
            queued_len: 0,
            low: VecDeque::new(),
            work_frames: 0,
            pings_paid: 0,
            idle_frames_paid: 0,
            drain: Drain::No,
            failure: None,
            limits,
        };
        connection.introduce();
        connection
    }

    /// Queues what each side sends first: the client's preface, SETTINGS, the connection's window.
    fn introduce(&mut self) {
        let limits = &self.limits;
        let streams_max = limits.streams_max();
        let mut entries = vec![
            (id::INITIAL_WINDOW_SIZE, limits.stream_window),
            (id::MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max),
        ];
        match self.role {
            Role::Server => entries.push((id::MAX_CONCURRENT_STREAMS, streams_max)),
            Role::Client => {
                self.control.extend_from_slice(PREFACE);
                entries.push((id::ENABLE_PUSH, 0));
            }
        }
        frame::put_settings(&mut self.control, &entries);
        let size = limits.connection_window.max(DEFAULT_WINDOW);
        let increment = self.recv_window.widen(size);
        self.recv_window.set_size(size);
        if let Some(increment) = increment {
            frame::put_window_update(&mut self.control, 0, increment);
        }
    }

    /// Time passed: a graceful close may go on.
    pub(crate) fn on_time(&mut self, now: Duration) {
        self.now = now;
        if matches!(self.drain, Drain::Announced { until } if now >= until) {
            self.finish_drain();
        }
    }

    /// When `on_time` has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        match self.drain {
            Drain::Announced { until } => Some(until),
            _ => None,
        }
    }

    /// The window of a new stream's incoming half. Before our SETTINGS are acknowledged the peer may count with the
    /// default.
    pub(super) fn recv_window_size(&self) -> u32 {
        if self.is_acknowledged {
            self.limits.stream_window
        } else {
            self.limits.stream_window.max(DEFAULT_WINDOW)
        }
    }

    /// Makes a client's stream. It is opened, in order, when the peer's limit lets it.
    pub(crate) fn open(&mut self, ext: X) -> Option<Key> {
        let ids_left = (STREAM_ID_MAX - self.next_id) / 2;
        if self.failure.is_some() || self.to_open.len() >= ids_left as usize {
            return None;
        }
        let window = self.recv_window_size();
        let key = self
            .streams
            .insert(self.peer.initial_window, window, self.now);
        self.streams.get_mut(key)?.ext = ext;
        self.to_open.push_back(key);
        Some(key)
    }

    /// Queues the fields of a stream's HEADERS, before anything else on it.
    pub(crate) fn send_head(&mut self, key: Key, fill: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]))) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.send.state == SendState::Head && stream.send.head.is_empty() {
            let mut list = MetadataBuf::default();
            fill(&mut |name, value| list.push(name, value));
            self.queued_len += list.len();
            stream.send.head = Block::List(list);
            self.wake(key);
        }
    }

    /// The same with fields that are always the same.
    pub(crate) fn send_fixed_head(&mut self, key: Key, fields: FixedFields) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.send.state == SendState::Head && stream.send.head.is_empty() {
            stream.send.head = Block::Fixed(fields);
            self.wake(key);
        }
    }

    /// Queues a piece of the body, with octets before it.
    pub(crate) fn send_data(
        &mut self,
        key: Key,
        prefix: Option<[u8; 5]>,
        body: Bytes,
        ends_message: bool,
    ) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let segment = Segment::new(prefix, body, ends_message);
        if stream.send.is_complete || segment.len() == 0 {
            return;
        }
        self.queued_len += segment.len();
        stream.send.push(segment);
        if stream.send.queued_len >= self.limits.low_water_len {
            stream.send.reports_low_water = true;
        }
        self.wake(key);
    }

    /// Ends our half, with trailers if `fill` gives any.
    pub(crate) fn send_end(&mut self, key: Key, fill: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]))) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if !stream.send.is_complete {
            let mut list = MetadataBuf::default();
            fill(&mut |name, value| list.push(name, value));
            self.queued_len += list.len();
            stream.send.tail = Block::List(list);
            stream.send.is_complete = true;
            self.wake(key);
        }
    }

    /// The same with trailers that are always the same.
    pub(crate) fn send_fixed_end(&mut self, key: Key, fields: FixedFields) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if !stream.send.is_complete {
            stream.send.tail = Block::Fixed(fields);
            stream.send.is_complete = true;
            self.wake(key);
        }
    }

    /// Drops what is queued on a stream and not sent. `false`: not done, as what was sent ends inside a message.
    pub(crate) fn drop_queue(&mut self, key: Key) -> bool {
        let Some(stream) = self.streams.get_mut(key) else {
            return true;
        };
        if stream.send.is_mid_message {
            return false;
        }
        self.queued_len -= stream.send.drop_queue();
        true
    }

    /// Ends a stream at once.
    pub(crate) fn reset(&mut self, key: Key, code: ErrorCode) -> Option<X> {
        let id = self.streams.get(key)?.id;
        if id != 0 {
            frame::put_reset(&mut self.control, id, code);
        }
        self.remove(key, How::ResetByUs)
    }

    /// A client is done with a stream whose incoming half has ended.
    pub(crate) fn retire(&mut self, key: Key) -> Option<X> {
        let stream = self.streams.get(key)?;
        if stream.send.state == SendState::Ended {
            return self.remove(key, How::Ended);
        }
        self.reset(key, ErrorCode::NO_ERROR)
    }

    /// Forgets a stream without a word: the connection is gone, or the peer told that it will not serve it.
    pub(crate) fn discard(&mut self, key: Key) -> Option<X> {
        self.remove(key, How::ResetByUs)
    }

    pub(super) fn remove(&mut self, key: Key, how: How) -> Option<X> {
        let stream = self.streams.get(key)?;
        let (id, held, lent) = (stream.id, stream.recv.held, stream.recv.lent);
        self.queued_len -= stream.send.held_len();
        self.held_len -= held;
        self.lent_len -= lent as usize;
        if id != 0 {
            self.closed.push(id, how);
            self.opened -= u32::from(self.role == Role::Client);
        } else {
            self.to_open.retain(|waiting| *waiting != key);
        }
        let ext = self.streams.remove(key);
        if lent > 0 {
            self.lend_to_waiting();
        }
        ext
    }

    pub(crate) fn ping(&mut self, payload: [u8; 8]) {
        frame::put_ping(&mut self.control, false, payload);
    }

    /// Starts a graceful close: streams that are open go on, new ones are soon refused.
    pub(crate) fn start_drain(&mut self) {
        if self.drain != Drain::No || self.failure.is_some() {
            return;
        }
        if self.role == Role::Client {
            self.finish_drain();
            return;
        }
        // In two steps (RFC 9113 §6.8), or streams that are on their way would be lost.
        frame::put_goaway(&mut self.control, STREAM_ID_MAX, ErrorCode::NO_ERROR, &[]);
        frame::put_ping(&mut self.control, false, DRAIN_PING);
        self.drain = Drain::Announced {
            until: self.now + self.limits.drain_grace,
        };
    }

    pub(super) fn on_pong(&mut self, payload: [u8; 8]) {
        if payload == DRAIN_PING && matches!(self.drain, Drain::Announced { .. }) {
            self.finish_drain();
        }
    }

    fn finish_drain(&mut self) {
        let last_stream = self.last_peer_id;
        frame::put_goaway(&mut self.control, last_stream, ErrorCode::NO_ERROR, &[]);
        self.drain = Drain::Final { last_stream };
    }

    /// Whether a graceful close has come to its end, but for `control`.
    pub(crate) fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Final { .. }) && self.streams.len() == 0
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain != Drain::No
    }

    /// Ends the connection with an error. The streams are left for the layer above to walk and discard.
    pub(crate) fn fail(&mut self, code: ErrorCode, reason: &'static str) {
        if self.failure.is_none() {
            frame::put_goaway(
                &mut self.control,
                self.last_peer_id,
                code,
                reason.as_bytes(),
            );
            self.failure = Some(Failure { code, reason });
        }
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether nothing is left to write that needs no window.
    pub(crate) fn is_flushed(&self) -> bool {
        self.control.is_empty() && (self.failure.is_some() || self.ready.is_empty())
    }

    pub(crate) fn has_peer_settings(&self) -> bool {
        self.has_peer_settings
    }

    /// Whether something waits to be written, a window permitting.
    pub(crate) fn has_output(&self) -> bool {
        !self.control.is_empty() || self.queued_len > 0 || !self.ready.is_empty()
    }

    /// Whether a frame or header block has begun of which the rest has not come.
    pub(crate) fn is_mid_block(&self) -> bool {
        let is_between = matches!(self.reading, Reading::Head) && self.partial.is_empty();
        !is_between || self.assembly.is_some()
    }

    /// Counts frames and header blocks that have begun.
    pub(crate) fn block_count(&self) -> u64 {
        self.blocks
    }

    /// Counts frames that were work for a call, to tell keep-alive pings beside them from idle ones.
    pub(crate) fn work_frames(&self) -> u64 {
        self.work_frames
    }

    /// Octets queued over all streams, header lists included.
    pub(crate) fn queued_len(&self) -> usize {
        self.queued_len
    }

    /// A stream whose queue fell below the low-water mark.
    pub(crate) fn poll_low(&mut self) -> Option<Key> {
        self.low.pop_front()
    }

    /// Puts a stream in the round if it has something to send.
    pub(super) fn wake(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let send = &mut stream.send;
        // Without DATA (its queue was dropped) it need not wait for the connection's window.
        let is_listed = match send.waiting {
            Waiting::No => false,
            Waiting::Ready => true,
            Waiting::ForConnection => send.queued_len > 0,
        };
        if stream.id != 0 && !is_listed && send.has_work() && !send.waits_for_window() {
            send.waiting = Waiting::Ready;
            enlist(&mut self.ready, key, &self.streams);
        }
    }
}

/// Adds a stream to a list of those that wait. Streams that ended leave their key behind; the list is swept once those are
/// the greater part, so a peer that opens and resets streams and never reads makes no list longer than its streams.
pub(super) fn enlist<X: Default>(list: &mut VecDeque<Key>, key: Key, streams: &Streams<X>) {
    /// Below this many nobody counts how many are stale.
    const SWEEP_LEN_MIN: usize = 64;
    if list.len() > SWEEP_LEN_MIN && list.len() / 2 > streams.len() {
        list.retain(|key| streams.get(*key).is_some());
    }
    list.push_back(key);
}
