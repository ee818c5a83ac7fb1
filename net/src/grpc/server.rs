//! The server's side of gRPC over one HTTP/2 connection, and plain HTTP beside it.
//!
//! A request is a call if its content type begins with `application/grpc`; every other one is gathered whole and given
//! on as [`ServerEvent::Http`]. What is wrong with a call is answered here, as grpc-go answers it, and the layer above
//! never hears of it; once it has heard of a call it hears of its end, unless it ended it itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::deadlines::Deadlines;
use super::deframer::{self, Deframer, PREFIX_LEN};
use super::keepalive::{KeepAlive, PingPolice, Silence};
use super::request::{self, Opening};
use super::stalls::Stalls;
use super::{Code, Status, encode_message};
use crate::h2::{Connection, ErrorCode, Event, FixedFields, Head, Key, Role};
use crate::http::HttpResponse;
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::server::{CallId, ServerEvent};

const CONTENT_TYPE: &[u8] = b"application/grpc";

/// What precedes the messages of every answer, and what follows them if all went well.
const ANSWER_HEAD: FixedFields = &[(b":status", b"200"), (b"content-type", CONTENT_TYPE)];
const ANSWER_END_OK: FixedFields = &[(b"grpc-status", b"0")];

/// Room for so many events is kept between reads.
const KEEP_EVENTS: usize = 256;

/// What a stream is to us.
#[derive(Debug, Default)]
enum Kind {
    /// Answered; what still comes is dropped.
    #[default]
    Finished,
    Grpc,
    /// A plain request whose body is arriving.
    HttpBody(Box<request::Parts>),
    /// A plain request the layer above has.
    Http {
        is_head: bool,
    },
}

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Call {
    kind: Kind,
    deframer: Deframer,
    /// The response's HEADERS are queued.
    has_head: bool,
    /// What `start_message` promised and `push_piece` has not brought.
    promised_len: usize,
}

impl Call {
    /// Whether the layer above waits for its end.
    fn is_live(&self) -> bool {
        matches!(self.kind, Kind::Grpc | Kind::Http { .. })
    }
}

#[derive(Debug)]
pub(crate) struct GrpcServer {
    limits: Arc<Limits>,
    h2: Connection<Call>,
    events: VecDeque<ServerEvent>,
    /// Octets of memory that `events` take.
    events_len: usize,
    /// Input that waits until `events` was taken.
    backlog: Vec<u8>,
    deadlines: Deadlines,
    police: PingPolice,
    keepalive: KeepAlive,
    stalls: Stalls,
    accepted: Duration,
    now: Duration,
    /// The peer said GOAWAY: it will make no more calls.
    peer_is_leaving: bool,
    /// Nothing can be sent any more.
    is_dead: bool,
}

impl GrpcServer {
    pub(crate) fn new(limits: Arc<Limits>, accepted: Duration, now: Duration) -> Self {
        Self {
            h2: Connection::new(Role::Server, Arc::clone(&limits), now),
            limits,
            events: VecDeque::new(),
            events_len: 0,
            backlog: Vec::new(),
            deadlines: Deadlines::default(),
            police: PingPolice::default(),
            keepalive: KeepAlive::new(now),
            stalls: Stalls::default(),
            accepted,
            now,
            peer_is_leaving: false,
            is_dead: false,
        }
    }

    // ---- inputs

    pub(crate) fn on_bytes(&mut self, input: &[u8]) {
        if self.is_dead {
            return;
        }
        self.keepalive.on_read(self.now);
        if self.backlog.is_empty() {
            let rest = self.read(input);
            self.backlog.extend_from_slice(rest);
        } else {
            self.backlog.extend_from_slice(input);
            self.read_backlog();
        }
    }

    /// The peer will send nothing more, so no call of its can be answered: a client that half-closes a connection is
    /// taken for gone, as grpc-go does.
    pub(crate) fn on_eof(&mut self) {
        self.is_dead = true;
        self.cancel_all();
    }

    pub(crate) fn on_time(&mut self, now: Duration) {
        self.now = now;
        self.h2.on_time(now);
        while let Some(key) = {
            let streams = &self.h2.streams;
            let is_live = |key| streams.get(key).is_some_and(|stream| stream.ext.is_live());
            self.deadlines.poll_due(now, is_live)
        } {
            self.expire(key);
        }
        match self.keepalive.on_time(now, &self.limits) {
            Silence::Fine => {}
            Silence::Ping => self.h2.ping(*b"keepaliv"),
            Silence::Dead => self.on_eof(),
        }
        if self.stalls.on_time(&self.h2, now, &self.limits) {
            self.on_eof();
        }
        if !self.h2.has_peer_settings() && now >= self.handshake_deadline() {
            self.on_eof();
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let handshake = (!self.h2.has_peer_settings()).then(|| self.handshake_deadline());
        [
            self.deadlines.next_timeout(),
            self.keepalive.next_timeout(&self.limits),
            self.h2.next_timeout(),
            self.stalls.next_timeout(&self.h2, self.now, &self.limits),
            handshake,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handshake_deadline(&self) -> Duration {
        self.accepted.saturating_add(self.limits.handshake_timeout)
    }

    /// Reads until the input ends or the events are enough for now; returns what is left.
    fn read<'a>(&mut self, mut input: &'a [u8]) -> &'a [u8] {
        while self.events_len <= self.limits.event_bytes_max {
            let Some(event) = self.h2.poll_input(&mut input) else {
                break;
            };
            self.on_event(event);
        }
        self.stalls.on_read(&self.h2, self.now);
        if self.h2.failure().is_some() {
            self.cancel_all();
            return &[];
        }
        input
    }

    fn read_backlog(&mut self) {
        let backlog = std::mem::take(&mut self.backlog);
        let rest_len = self.read(&backlog).len();
        self.backlog
            .extend_from_slice(&backlog[backlog.len() - rest_len..]);
    }

    fn on_event(&mut self, event: Event<'_, Call>) {
        match event {
            Event::Head { key, head, is_end } => self.on_head(key, head, is_end),
            Event::Data {
                key,
                octets,
                is_end,
            } => self.on_data(key, octets, is_end),
            // Trailers of a request mean nothing in gRPC and are dropped in HTTP.
            Event::Trailers { key, .. } => self.on_end(key),
            Event::Reset { key, ext, .. } => self.cancel(key, &ext),
            Event::Ping => self.on_ping(),
            Event::Pong(_) => {}
            Event::GoAway { .. } => self.peer_is_leaving = true,
        }
    }

    fn on_ping(&mut self) {
        let open_calls = self.h2.streams.len();
        let work_frames = self.h2.work_frames();
        if !self
            .police
            .on_ping(self.now, open_calls, work_frames, &self.limits)
        {
            self.h2.fail(ErrorCode::ENHANCE_YOUR_CALM, "too_many_pings");
        }
    }

    // ---- requests

    fn on_head(&mut self, key: Key, head: Head, is_end: bool) {
        match request::open(head) {
            Opening::Call {
                path,
                metadata,
                timeout,
            } => self.on_call(key, path, metadata, timeout, is_end),
            Opening::Refused { http, status } => self.refuse(key, http, &status),
            Opening::Http(parts) => {
                if !self.h2.hold(key, parts.head_len()) {
                    self.h2.reset(key, ErrorCode::ENHANCE_YOUR_CALM);
                    return;
                }
                self.set_kind(key, Kind::HttpBody(parts));
                if is_end {
                    self.on_end(key);
                }
            }
            Opening::BadHttp(response) => self.send_response(key, response, false),
        }
    }

    fn on_call(
        &mut self,
        key: Key,
        path: Bytes,
        metadata: Metadata,
        timeout: Option<Duration>,
        is_end: bool,
    ) {
        let deadline = timeout.map(|timeout| self.now.saturating_add(timeout));
        if let Some(deadline) = deadline {
            let streams = &self.h2.streams;
            let is_live = |key| streams.get(key).is_some_and(|stream| stream.ext.is_live());
            self.deadlines.push(deadline, key, streams.len(), is_live);
        }
        self.set_kind(key, Kind::Grpc);
        self.push_event(ServerEvent::Call {
            id: CallId::from(key),
            path,
            metadata,
            deadline,
        });
        if is_end {
            self.on_end(key);
        }
    }

    fn push_event(&mut self, event: ServerEvent) {
        self.events_len += event_len(&event);
        self.events.push_back(event);
    }

    fn set_kind(&mut self, key: Key, kind: Kind) {
        if let Some(stream) = self.h2.streams.get_mut(key) {
            stream.ext.kind = kind;
        }
    }

    fn on_data(&mut self, key: Key, octets: &[u8], is_end: bool) {
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        match &mut stream.ext.kind {
            Kind::Grpc => self.on_message_octets(key, octets),
            Kind::HttpBody(parts) => {
                if parts.body.len() + octets.len() > self.limits.http_body_bytes_max {
                    let response = HttpResponse::error(413, "Request Entity Too Large");
                    self.send_response(key, response, false);
                    self.h2.release(key, octets.len());
                    return;
                }
                parts.body.extend_from_slice(octets);
                self.h2.reopen_window(key, octets.len());
            }
            Kind::Finished | Kind::Http { .. } => self.h2.release(key, octets.len()),
        }
        if is_end {
            self.on_end(key);
        }
    }

    fn on_message_octets(&mut self, key: Key, mut octets: &[u8]) {
        while let Some(stream) = self.h2.streams.get_mut(key)
            && matches!(stream.ext.kind, Kind::Grpc)
        {
            let polled = stream
                .ext
                .deframer
                .poll_message(&mut octets, self.limits.message_bytes_max);
            match polled {
                Ok(Some(payload)) => self.push_event(ServerEvent::Message {
                    id: CallId::from(key),
                    payload,
                }),
                Ok(None) => {
                    let missing = stream.ext.deframer.missing_len();
                    if missing > 0 {
                        self.h2.ask_room(key, missing);
                    }
                    return;
                }
                Err(status) => self.refuse_live(key, status),
            }
        }
    }

    /// The peer's half has ended.
    fn on_end(&mut self, key: Key) {
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        let id = CallId::from(key);
        match std::mem::take(&mut stream.ext.kind) {
            Kind::Grpc if stream.ext.deframer.is_between_messages() => {
                stream.ext.kind = Kind::Grpc;
                self.push_event(ServerEvent::HalfClose { id });
            }
            Kind::Grpc => {
                stream.ext.kind = Kind::Grpc;
                self.refuse_live(key, Status::new(Code::Internal, "unexpected EOF"));
            }
            Kind::HttpBody(parts) => {
                stream.ext.kind = Kind::Http {
                    is_head: parts.is_head(),
                };
                let request = parts.into_request();
                self.push_event(ServerEvent::Http { id, request });
            }
            kind => stream.ext.kind = kind,
        }
    }

    // ---- ends that are not the layer's above

    /// Ends a call the layer above never heard of: Trailers-Only, perhaps with an HTTP error.
    fn refuse(&mut self, key: Key, http: u16, status: &Status) {
        self.h2.send_head(key, |push| {
            push(b":status", &digits(http));
            push(b"content-type", CONTENT_TYPE);
            push_status(status, push);
        });
        self.h2.send_end(key, |_| {});
    }

    /// Ends a call the layer above knows, because of what the peer sent.
    fn refuse_live(&mut self, key: Key, status: Status) {
        self.end_early(key, status);
        let id = CallId::from(key);
        self.push_event(ServerEvent::Cancelled { id });
    }

    fn expire(&mut self, key: Key) {
        let is_grpc = self
            .h2
            .streams
            .get(key)
            .is_some_and(|stream| matches!(stream.ext.kind, Kind::Grpc));
        if is_grpc {
            let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            self.refuse_live(key, status);
        }
    }

    /// Answers with `status` now: messages that wait are dropped. One that is cut in the middle leaves only a reset.
    fn end_early(&mut self, key: Key, status: Status) {
        if !self.h2.drop_queue(key) {
            self.h2.reset(key, ErrorCode::CANCEL);
            return;
        }
        if let Some(stream) = self.h2.streams.get_mut(key) {
            stream.ext.promised_len = 0;
        }
        self.finish_key(key, &status);
    }

    fn cancel(&mut self, key: Key, call: &Call) {
        if call.is_live() {
            let id = CallId::from(key);
            self.push_event(ServerEvent::Cancelled { id });
        }
    }

    fn cancel_all(&mut self) {
        let keys: Vec<Key> = self.h2.streams.keys().collect();
        for key in keys {
            if let Some(call) = self.h2.discard(key) {
                self.cancel(key, &call);
            }
        }
    }

    // ---- commands

    /// The stream of a call that may still be answered, its HEADERS queued.
    fn answering(&mut self, key: Key) -> Option<&mut Call> {
        let call = &mut self.h2.streams.get_mut(key)?.ext;
        if !matches!(call.kind, Kind::Grpc) {
            return None;
        }
        if !call.has_head {
            call.has_head = true;
            self.h2.send_fixed_head(key, ANSWER_HEAD);
        }
        if self.h2.queued_len() > self.limits.output_overrun_bytes_max {
            let message = "etcore: too much of other answers waits to be read";
            self.refuse_live(key, Status::new(Code::ResourceExhausted, message));
            return None;
        }
        Some(&mut self.h2.streams.get_mut(key)?.ext)
    }

    pub(crate) fn send_message(&mut self, id: CallId, payload: Bytes) {
        let key = Key::from(id);
        let Some(call) = self.answering(key) else {
            return;
        };
        let len = u32::try_from(payload.len());
        match len {
            Ok(len) if call.promised_len == 0 => {
                let prefix = deframer::prefix(len);
                self.h2.send_data(key, Some(prefix), payload, true);
            }
            // A message inside another, or one that cannot be framed: our own mistake costs the call.
            _ => self.give_up(key),
        }
    }

    pub(crate) fn start_message(&mut self, id: CallId, len: usize) {
        let key = Key::from(id);
        let Some(call) = self.answering(key) else {
            return;
        };
        let framed = u32::try_from(len).ok().filter(|_| call.promised_len == 0);
        let Some(framed) = framed else {
            return self.give_up(key);
        };
        call.promised_len = len;
        let prefix = deframer::prefix(framed);
        self.h2.send_data(key, Some(prefix), Bytes::new(), len == 0);
    }

    pub(crate) fn push_piece(&mut self, id: CallId, piece: Bytes) {
        let key = Key::from(id);
        let Some(call) = self.answering(key) else {
            return;
        };
        let Some(left) = call.promised_len.checked_sub(piece.len()) else {
            return self.give_up(key);
        };
        call.promised_len = left;
        self.h2.send_data(key, None, piece, left == 0);
    }

    /// The layer above broke its promise about a message.
    fn give_up(&mut self, key: Key) {
        if let Some(call) = self.h2.reset(key, ErrorCode::INTERNAL_ERROR) {
            self.cancel(key, &call);
        }
    }

    pub(crate) fn queued_len(&self, id: CallId) -> usize {
        let stream = self.h2.streams.get(Key::from(id));
        stream.map_or(0, |stream| stream.queued_len())
    }

    pub(crate) fn finish(&mut self, id: CallId, status: &Status) {
        self.finish_key(Key::from(id), status);
    }

    fn finish_key(&mut self, key: Key, status: &Status) {
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        let call = &mut stream.ext;
        if !matches!(call.kind, Kind::Grpc) {
            return;
        }
        call.kind = Kind::Finished;
        call.deframer = Deframer::default();
        if call.promised_len > 0 {
            self.h2.reset(key, ErrorCode::INTERNAL_ERROR);
        } else if call.has_head && *status == Status::OK {
            self.h2.send_fixed_end(key, ANSWER_END_OK);
        } else if call.has_head {
            self.h2.send_end(key, |push| push_status(status, push));
        } else {
            self.refuse(key, 200, status);
        }
    }

    pub(crate) fn respond(&mut self, id: CallId, response: HttpResponse) {
        let key = Key::from(id);
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        if let Kind::Http { is_head } = stream.ext.kind {
            self.send_response(key, response, is_head);
        }
    }

    fn send_response(&mut self, key: Key, response: HttpResponse, is_head: bool) {
        self.set_kind(key, Kind::Finished);
        self.h2
            .send_head(key, |push| request::push_response(&response, push));
        if !is_head {
            self.h2.send_data(key, None, response.body, true);
        }
        self.h2.send_end(key, |_| {});
    }

    pub(crate) fn shut_down(&mut self) {
        self.h2.start_drain();
    }

    // ---- outputs

    pub(crate) fn poll_event(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some(key) = self.h2.poll_low() {
                let stream = self.h2.streams.get(key);
                if stream.is_some_and(|stream| matches!(stream.ext.kind, Kind::Grpc)) {
                    let id = CallId::from(key);
                    return Some(ServerEvent::Writable { id });
                }
                continue;
            }
            if let Some(event) = self.events.pop_front() {
                self.on_event_taken(&event);
                return Some(event);
            }
            if self.backlog.is_empty() {
                if self.events.capacity() > KEEP_EVENTS {
                    self.events = VecDeque::new();
                }
                return None;
            }
            self.read_backlog();
            if self.events.is_empty() {
                return None;
            }
        }
    }

    /// What an event held of the peer's windows and of our bounds is free again.
    fn on_event_taken(&mut self, event: &ServerEvent) {
        self.events_len -= event_len(event);
        match event {
            ServerEvent::Message { id, payload } => {
                self.h2.release(Key::from(*id), payload.len() + PREFIX_LEN);
            }
            ServerEvent::Http { id, .. } => self.h2.forget_held(Key::from(*id), usize::MAX),
            _ => {}
        }
    }

    pub(crate) fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        if self.is_dead {
            return 0;
        }
        let len = self.h2.poll_transmit(out, max);
        self.stalls.on_transmit(&self.h2, self.now);
        len
    }

    pub(crate) fn is_finished(&self) -> bool {
        let is_idle = self.h2.streams.len() == 0;
        let is_over = self.h2.failure().is_some()
            || self.h2.is_drained()
            || (self.peer_is_leaving && is_idle && self.backlog.is_empty());
        self.is_dead || (is_over && self.h2.is_flushed())
    }

    /// Octets of responses accepted and not yet handed out.
    pub(crate) fn output_len(&self) -> usize {
        self.h2.queued_len()
    }
}

/// What an event counts against `event_bytes_max`.
fn event_len(event: &ServerEvent) -> usize {
    let more = match event {
        ServerEvent::Call { path, metadata, .. } => path.len() + metadata.records_len(),
        ServerEvent::Message { payload, .. } => payload.len(),
        ServerEvent::Http { request, .. } => request.memory_len(),
        _ => 0,
    };
    size_of::<ServerEvent>() + more
}

fn push_status(status: &Status, push: &mut dyn FnMut(&[u8], &[u8])) {
    push(b"grpc-status", status.code.as_str().as_bytes());
    if !status.message.is_empty() {
        push(b"grpc-message", encode_message(&status.message).as_bytes());
    }
}

/// A status of three digits.
fn digits(status: u16) -> [u8; 3] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    [digit(status / 100), digit(status / 10), digit(status)]
}
