//! The server's side of gRPC over one HTTP/2 connection, and plain HTTP beside it.
//!
//! A request is a call if its content type begins with `application/grpc`; every other one is gathered whole and given
//! on as [`ServerEvent::Http`], or in pieces if [`Limits::streamed_prefixes`] say so. What is wrong with a call is answered here, as grpc-go answers it, and the layer above
//! never hears of it; once it has heard of a call it hears of its end, unless it ended it itself.

mod answers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::deadlines::Deadlines;
use super::deframer::{Deframer, PREFIX_LEN};
use super::keepalive::{KeepAlive, PingPolice, Silence};
use super::request::{self, Opening};
use super::stalls::Stalls;
use super::{Code, Status};
use crate::h2::{Connection, ErrorCode, Event, Head, Key, Role};
use crate::http::{HttpResponse, is_below};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::server::{CallId, ServerEvent};

/// Room for so many events is kept between reads: those of ten calls. A kilobyte has six of them.
const KEEP_EVENTS: usize = 32;

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
    /// The layer above has its head; the body is handed on as it comes.
    HttpStream {
        is_head: bool,
        /// So is the answer.
        is_answered: bool,
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
    /// The layer above has enough of its messages for now.
    is_paused: bool,
    /// What the peer may send again once that is over.
    withheld_len: u32,
}

impl Call {
    /// Whether the layer above waits for its end.
    fn is_live(&self) -> bool {
        matches!(
            self.kind,
            Kind::Grpc | Kind::Http { .. } | Kind::HttpStream { .. }
        )
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
        if self.is_dead {
            // Nothing has to be done any more; a time that has passed would be asked for again and again.
            return None;
        }
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
            Opening::Http(parts) if self.is_streamed(parts.path()) => {
                let is_head = parts.is_head();
                let is_answered = false;
                self.set_kind(
                    key,
                    Kind::HttpStream {
                        is_head,
                        is_answered,
                    },
                );
                let id = CallId::from(key);
                let request = parts.into_request();
                self.push_event(ServerEvent::HttpStart { id, request });
                if is_end {
                    self.on_end(key);
                }
            }
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

    fn is_streamed(&self, path: &str) -> bool {
        is_below(path, self.limits.streamed_prefixes)
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
            Kind::HttpStream { .. } if !octets.is_empty() => {
                let octets = Bytes::copy_from_slice(octets);
                let id = CallId::from(key);
                self.push_event(ServerEvent::HttpBody { id, octets });
            }
            Kind::Finished | Kind::Http { .. } | Kind::HttpStream { .. } => {
                self.h2.release(key, octets.len());
            }
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
            kind @ Kind::HttpStream { .. } => {
                stream.ext.kind = kind;
                self.push_event(ServerEvent::HalfClose { id });
            }
            kind => stream.ext.kind = kind,
        }
    }

    // ---- commands: those that answer are in `answers`

    pub(crate) fn pause(&mut self, id: CallId) {
        if let Some(stream) = self.h2.streams.get_mut(Key::from(id)) {
            stream.ext.is_paused = true;
        }
    }

    pub(crate) fn resume(&mut self, id: CallId) {
        let key = Key::from(id);
        if let Some(stream) = self.h2.streams.get_mut(key) {
            stream.ext.is_paused = false;
            let withheld = std::mem::take(&mut stream.ext.withheld_len);
            self.h2.reopen_window(key, withheld as usize);
        }
    }

    pub(crate) fn shut_down(&mut self) {
        self.h2.start_drain();
    }

    // ---- outputs

    pub(crate) fn poll_event(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some(key) = self.h2.poll_low() {
                let stream = self.h2.streams.get(key);
                if stream.is_some_and(|stream| stream.ext.is_live()) {
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
                self.on_message_taken(Key::from(*id), payload.len() + PREFIX_LEN);
            }
            ServerEvent::HttpBody { id, octets } => {
                self.on_message_taken(Key::from(*id), octets.len());
            }
            ServerEvent::Http { id, .. } => self.h2.forget_held(Key::from(*id), usize::MAX),
            _ => {}
        }
    }

    fn on_message_taken(&mut self, key: Key, len: usize) {
        let stream = self.h2.streams.get(key);
        if !stream.is_some_and(|stream| stream.ext.is_paused) {
            return self.h2.release(key, len);
        }
        let withheld = self.h2.withhold(key, len);
        if let Some(stream) = self.h2.streams.get_mut(key) {
            let withheld = u32::try_from(withheld).unwrap_or(u32::MAX);
            stream.ext.withheld_len = stream.ext.withheld_len.saturating_add(withheld);
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
        ServerEvent::Http { request, .. } | ServerEvent::HttpStart { request, .. } => {
            request.memory_len()
        }
        ServerEvent::HttpBody { octets, .. } => octets.len(),
        _ => 0,
    };
    size_of::<ServerEvent>() + more
}
