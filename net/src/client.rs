//! [`ClientConnection`]: HTTP/2 and gRPC from the other end, for tests, the benchmark, peers and the gateway.
//!
//! Driven like [`crate::ServerConnection`]. Calls may be started at once: what the peer's settings do not allow yet waits
//! here. A call ends with exactly one [`ClientEvent::Finished`] or [`ClientEvent::Response`], also if the connection is
//! lost; only [`ClientConnection::cancel`] ends one in silence.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::grpc::deadlines::Deadlines;
use crate::grpc::deframer::{self, Deframer, PREFIX_LEN};
use crate::grpc::keepalive::{KeepAlive, Silence};
use crate::grpc::request::{is_grpc, push_headers};
use crate::grpc::{Code, Status, parse_status, timeout};
use crate::h2::{Connection, ErrorCode, Event, Head, Key, Role};
use crate::http::{HttpRequest, HttpResponse, Method, reason};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::server::CallId;

/// What the server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A call's response began. Does not come if it is nothing but a status.
    Headers { id: CallId, metadata: Metadata },
    /// One whole message.
    Message { id: CallId, payload: Bytes },
    /// A call ended.
    Finished {
        id: CallId,
        status: Status,
        /// What came with the status; empty if the status was made here.
        trailers: Metadata,
    },
    /// A plain request was answered.
    Response { id: CallId, response: HttpResponse },
    /// Less than the low-water mark is queued for the call.
    Writable { id: CallId },
    /// The server answered [`ClientConnection::ping`].
    Pong { payload: [u8; 8] },
    /// The server takes no more calls. Those it will not serve have finished as Unavailable.
    GoAway { code: ErrorCode, debug: Bytes },
}

/// What a stream is to us.
#[derive(Debug, Default)]
enum Kind {
    #[default]
    Finished,
    Grpc(Deframer),
    Http(Box<HttpBody>),
}

/// A plain response that is arriving.
#[derive(Debug)]
struct HttpBody {
    response: HttpResponse,
    body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Call {
    kind: Kind,
    is_half_closed: bool,
}

/// One connection of a client.
#[derive(Debug)]
pub struct ClientConnection {
    limits: Arc<Limits>,
    authority: Box<str>,
    h2: Connection<Call>,
    events: VecDeque<ClientEvent>,
    /// Octets of header lists in `events`.
    events_len: usize,
    /// Input that waits until `events` was taken.
    backlog: Vec<u8>,
    deadlines: Deadlines,
    keepalive: KeepAlive,
    now: Duration,
    /// The server said GOAWAY.
    peer_is_leaving: bool,
    is_lost: bool,
}

impl ClientConnection {
    /// `authority` is the host and port the server goes by.
    pub fn new(limits: Arc<Limits>, authority: &str, now: Duration) -> Self {
        Self {
            authority: authority.into(),
            h2: Connection::new(Role::Client, Arc::clone(&limits), now),
            limits,
            events: VecDeque::new(),
            events_len: 0,
            backlog: Vec::new(),
            deadlines: Deadlines::default(),
            keepalive: KeepAlive::new(now),
            now,
            peer_is_leaving: false,
            is_lost: false,
        }
    }

    // ---- inputs

    /// Bytes from the peer.
    pub fn on_bytes(&mut self, octets: &[u8]) {
        if self.is_lost {
            return;
        }
        self.keepalive.on_read(self.now);
        if self.backlog.is_empty() {
            let rest = self.read(octets);
            self.backlog.extend_from_slice(rest);
        } else {
            self.backlog.extend_from_slice(octets);
            self.read_backlog();
        }
    }

    /// The connection is lost, or the server closed it.
    pub fn on_eof(&mut self) {
        if !self.is_lost {
            self.is_lost = true;
            self.finish_all("error reading from server: EOF");
        }
    }

    /// Time passed, on any clock that only goes forward.
    pub fn on_time(&mut self, now: Duration) {
        self.now = now;
        self.h2.on_time(now);
        while let Some(key) = {
            let streams = &self.h2.streams;
            self.deadlines
                .poll_due(now, |key| streams.get(key).is_some())
        } {
            let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            self.abandon(key, ErrorCode::CANCEL, status);
        }
        match self.keepalive.on_time(now, &self.limits) {
            Silence::Fine => {}
            Silence::Ping => self.h2.ping(*b"keepaliv"),
            Silence::Dead => self.on_eof(),
        }
    }

    /// When `on_time` has something to do, if nothing else happens.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.is_lost {
            return None;
        }
        let keepalive = self.keepalive.next_timeout(&self.limits);
        [self.deadlines.next_timeout(), keepalive]
            .into_iter()
            .flatten()
            .min()
    }

    fn read<'a>(&mut self, mut input: &'a [u8]) -> &'a [u8] {
        while self.events_len <= self.limits.event_bytes_max {
            let Some(event) = self.h2.poll_input(&mut input) else {
                break;
            };
            self.on_event(event);
        }
        if let Some(failure) = self.h2.failure() {
            let reason = failure.reason;
            self.finish_all(reason);
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
            Event::Trailers { key, fields } => self.on_trailers(key, fields),
            Event::Reset { key, code, ext } => self.on_reset(key, code, &ext),
            Event::Ping => {}
            Event::Pong(payload) => self.events.push_back(ClientEvent::Pong { payload }),
            Event::GoAway {
                last_stream,
                code,
                debug,
            } => self.on_goaway(last_stream, code, debug),
        }
    }

    // ---- responses

    fn on_head(&mut self, key: Key, head: Head, is_end: bool) {
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        if head.is_too_large {
            let status = Status::new(Code::Internal, "peer header list size exceeded limit");
            return self.abandon(key, ErrorCode::CANCEL, status);
        }
        match &mut stream.ext.kind {
            Kind::Finished => {}
            Kind::Grpc(_) => self.on_grpc_head(key, head, is_end),
            Kind::Http(http) => {
                http.response.status = head.status;
                http.response.headers = head.fields.iter().collect();
                if is_end {
                    self.on_http_end(key);
                }
            }
        }
    }

    fn on_grpc_head(&mut self, key: Key, head: Head, is_end: bool) {
        let has_status = head.fields.get("grpc-status").is_some();
        let content_type = head.fields.get("content-type").unwrap_or_default();
        let is_status_alone = is_end && has_status;
        let is_response = head.status == 200 && is_grpc(content_type);
        if !(is_response || is_status_alone) {
            let status = foreign_response(head.status, content_type);
            return self.abandon(key, ErrorCode::CANCEL, status);
        }
        if is_end {
            return self.on_trailers(key, head.fields);
        }
        self.events_len += head.fields.records_len();
        self.events.push_back(ClientEvent::Headers {
            id: CallId::from(key),
            metadata: head.fields,
        });
    }

    fn on_data(&mut self, key: Key, octets: &[u8], is_end: bool) {
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        match &mut stream.ext.kind {
            Kind::Finished => self.h2.release(key, octets.len()),
            Kind::Grpc(_) => self.on_message_octets(key, octets, is_end),
            Kind::Http(http) => {
                if http.body.len() + octets.len() > self.limits.http_body_bytes_max {
                    let status = Status::new(Code::ResourceExhausted, "response body too large");
                    return self.abandon(key, ErrorCode::CANCEL, status);
                }
                http.body.extend_from_slice(octets);
                self.h2.reopen_window(key, octets.len());
                if is_end {
                    self.on_http_end(key);
                }
            }
        }
    }

    fn on_message_octets(&mut self, key: Key, mut octets: &[u8], is_end: bool) {
        let len_max = self.limits.message_bytes_max;
        loop {
            let Some(stream) = self.h2.streams.get_mut(key) else {
                return;
            };
            let Kind::Grpc(deframer) = &mut stream.ext.kind else {
                return;
            };
            match deframer.poll_message(&mut octets, len_max) {
                Ok(Some(payload)) => self.events.push_back(ClientEvent::Message {
                    id: CallId::from(key),
                    payload,
                }),
                Ok(None) => {
                    let missing = deframer.missing_len();
                    if missing > 0 {
                        self.h2.ask_room(key, missing);
                    }
                    break;
                }
                Err(status) => return self.abandon(key, ErrorCode::CANCEL, status),
            }
        }
        if is_end {
            let message = "server closed the stream without sending trailers";
            self.finish(key, Status::new(Code::Internal, message), None);
        }
    }

    /// Trailers, or HEADERS that are all there is.
    fn on_trailers(&mut self, key: Key, fields: Metadata) {
        let Some(stream) = self.h2.streams.get(key) else {
            return;
        };
        match &stream.ext.kind {
            Kind::Finished => {}
            Kind::Http(_) => self.on_http_end(key),
            Kind::Grpc(deframer) => {
                let code = fields.get("grpc-status");
                let status = match parse_status(code, fields.get("grpc-message")) {
                    Some(status) if status.is_ok() && !deframer.is_between_messages() => {
                        Status::new(Code::Internal, "unexpected EOF")
                    }
                    Some(status) => status,
                    None => Status::new(Code::Internal, "malformed grpc-status"),
                };
                self.finish(key, status, Some(fields));
            }
        }
    }

    fn on_http_end(&mut self, key: Key) {
        let Some(call) = self.h2.retire(key) else {
            return;
        };
        if let Kind::Http(http) = call.kind {
            let mut response = http.response;
            response.body = Bytes::from(http.body);
            self.events.push_back(ClientEvent::Response {
                id: CallId::from(key),
                response,
            });
        }
    }

    fn on_reset(&mut self, key: Key, code: ErrorCode, call: &Call) {
        let grpc_code = match code {
            ErrorCode::REFUSED_STREAM => Code::Unavailable,
            ErrorCode::CANCEL => Code::Canceled,
            ErrorCode::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
            ErrorCode::INADEQUATE_SECURITY => Code::PermissionDenied,
            _ => Code::Internal,
        };
        let name = code.name();
        let message = format!("stream terminated by RST_STREAM with error code: {name}");
        self.report(key, call, Status::new(grpc_code, message), None);
    }

    fn on_goaway(&mut self, last_stream: u32, code: ErrorCode, debug: Bytes) {
        self.peer_is_leaving = true;
        let is_unserved = |key: &Key| {
            let stream = self.h2.streams.get(*key);
            stream.is_some_and(|stream| stream.id() == 0 || stream.id() > last_stream)
        };
        let unserved: Vec<Key> = self.h2.streams.keys().filter(is_unserved).collect();
        for key in unserved {
            if let Some(call) = self.h2.discard(key) {
                let message = format!("the server is going away: {}", code.name());
                self.report(key, &call, Status::new(Code::Unavailable, message), None);
            }
        }
        self.events.push_back(ClientEvent::GoAway { code, debug });
    }

    // ---- ends

    /// The response is whole.
    fn finish(&mut self, key: Key, status: Status, trailers: Option<Metadata>) {
        if let Some(call) = self.h2.retire(key) {
            self.report(key, &call, status, trailers);
        }
    }

    /// Ends a call of which more might come.
    fn abandon(&mut self, key: Key, code: ErrorCode, status: Status) {
        if let Some(call) = self.h2.reset(key, code) {
            self.report(key, &call, status, None);
        }
    }

    fn report(&mut self, key: Key, call: &Call, status: Status, trailers: Option<Metadata>) {
        if !matches!(call.kind, Kind::Finished) {
            let trailers = trailers.unwrap_or_default();
            self.events_len += trailers.records_len();
            self.events.push_back(ClientEvent::Finished {
                id: CallId::from(key),
                status,
                trailers,
            });
        }
    }

    fn finish_all(&mut self, reason: &'static str) {
        let keys: Vec<Key> = self.h2.streams.keys().collect();
        for key in keys {
            if let Some(call) = self.h2.discard(key) {
                self.report(key, &call, Status::new(Code::Unavailable, reason), None);
            }
        }
    }

    // ---- commands

    /// Starts a call. `None`: the connection takes no more.
    pub fn start_call(
        &mut self,
        path: &str,
        metadata: &Metadata,
        timeout: Option<Duration>,
    ) -> Option<CallId> {
        let key = self.open(Kind::Grpc(Deframer::default()))?;
        if let Some(timeout) = timeout {
            let deadline = self.now.saturating_add(timeout);
            let streams = &self.h2.streams;
            let is_live = |key| streams.get(key).is_some();
            self.deadlines.push(deadline, key, streams.len(), is_live);
        }
        let authority = &self.authority;
        self.h2.send_head(key, |push| {
            push(b":method", b"POST");
            push(b":scheme", b"http");
            push(b":path", path.as_bytes());
            push(b":authority", authority.as_bytes());
            push(b"content-type", b"application/grpc");
            push(b"te", b"trailers");
            if let Some(timeout) = timeout {
                push(b"grpc-timeout", timeout::format(timeout).as_bytes());
            }
            for (name, value) in metadata.iter() {
                push(name, value);
            }
        });
        Some(CallId::from(key))
    }

    /// Sends a plain request, whole. `None`: the connection takes no more.
    pub fn request(&mut self, request: HttpRequest) -> Option<CallId> {
        let key = self.open(Kind::Http(Box::new(HttpBody {
            response: HttpResponse::new(0),
            body: Vec::new(),
        })))?;
        let host = request.headers.get("host").map(<[u8]>::to_vec);
        let authority = host.unwrap_or_else(|| self.authority.as_bytes().to_vec());
        self.h2.send_head(key, |push| {
            push(b":method", request.method.as_str().as_bytes());
            push(b":scheme", b"http");
            push(b":path", request.target().as_bytes());
            push(b":authority", &authority);
            push_headers(&request.headers, &mut |name, value| {
                if name != b"host" {
                    push(name, value);
                }
            });
            let may_have_body = !matches!(request.method, Method::Get | Method::Head);
            if may_have_body && !request.headers.contains("content-length") {
                push(b"content-length", request.body.len().to_string().as_bytes());
            }
        });
        self.h2.send_data(key, None, request.body, true);
        self.h2.send_end(key, |_| {});
        Some(CallId::from(key))
    }

    fn open(&mut self, kind: Kind) -> Option<Key> {
        if self.is_lost || self.peer_is_leaving || self.h2.is_draining() {
            return None;
        }
        self.h2.open(Call {
            kind,
            is_half_closed: false,
        })
    }

    /// Queues a whole message, of less than 4 GiB.
    pub fn send_message(&mut self, id: CallId, payload: Bytes) {
        let key = Key::from(id);
        let Ok(len) = u32::try_from(payload.len()) else {
            let message = "trying to send message larger than max";
            let status = Status::new(Code::ResourceExhausted, message);
            return self.abandon(key, ErrorCode::CANCEL, status);
        };
        let stream = self.h2.streams.get(key);
        if stream.is_some_and(|stream| !stream.ext.is_half_closed) {
            let prefix = deframer::prefix(len);
            self.h2.send_data(key, Some(prefix), payload, true);
        }
    }

    /// No more messages follow.
    pub fn half_close(&mut self, id: CallId) {
        let key = Key::from(id);
        if let Some(stream) = self.h2.streams.get_mut(key) {
            stream.ext.is_half_closed = true;
            self.h2.send_end(key, |_| {});
        }
    }

    /// Ends a call; nothing more is heard of it.
    pub fn cancel(&mut self, id: CallId) {
        self.h2.reset(Key::from(id), ErrorCode::CANCEL);
        self.events.retain(|event| event.id() != Some(id));
        self.events_len = self.events.iter().map(ClientEvent::records_len).sum();
    }

    pub fn ping(&mut self, payload: [u8; 8]) {
        self.h2.ping(payload);
    }

    /// Octets queued for a call and not yet handed to `poll_transmit`.
    pub fn queued_len(&self, id: CallId) -> usize {
        let stream = self.h2.streams.get(Key::from(id));
        stream.map_or(0, |stream| stream.queued_len())
    }

    /// How many calls and requests have not ended.
    pub fn open_count(&self) -> usize {
        self.h2.streams.len()
    }

    /// Starts no more calls; finished once those that run are.
    pub fn shut_down(&mut self) {
        self.h2.start_drain();
    }

    // ---- outputs

    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        loop {
            if let Some(key) = self.h2.poll_low() {
                if self.h2.streams.get(key).is_some() {
                    let id = CallId::from(key);
                    return Some(ClientEvent::Writable { id });
                }
                continue;
            }
            if let Some(event) = self.events.pop_front() {
                self.events_len -= event.records_len();
                if let ClientEvent::Message { id, payload } = &event {
                    self.h2.release(Key::from(*id), payload.len() + PREFIX_LEN);
                }
                return Some(event);
            }
            if self.backlog.is_empty() {
                return None;
            }
            self.read_backlog();
            if self.events.is_empty() {
                return None;
            }
        }
    }

    /// Appends bytes for the peer to `out` until about `max` were added; returns how many were.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        if self.is_lost {
            return 0;
        }
        self.h2.poll_transmit(out, max)
    }

    /// Nothing is to be sent or heard any more: close the socket.
    pub fn is_finished(&self) -> bool {
        let is_leaving = self.peer_is_leaving || self.h2.is_draining();
        let is_over = self.h2.failure().is_some() || (is_leaving && self.open_count() == 0);
        self.is_lost || (is_over && self.h2.is_flushed())
    }
}

impl ClientEvent {
    /// The call it is about.
    pub fn id(&self) -> Option<CallId> {
        match self {
            Self::Headers { id, .. }
            | Self::Message { id, .. }
            | Self::Finished { id, .. }
            | Self::Response { id, .. }
            | Self::Writable { id } => Some(*id),
            Self::Pong { .. } | Self::GoAway { .. } => None,
        }
    }

    /// What its header list counts against `event_bytes_max`.
    fn records_len(&self) -> usize {
        match self {
            Self::Headers { metadata, .. } => metadata.records_len(),
            Self::Finished { trailers, .. } => trailers.records_len(),
            _ => 0,
        }
    }
}

/// The status of a response that is not gRPC, in grpc-go's words.
fn foreign_response(http: u16, content_type: &[u8]) -> Status {
    if http != 200 {
        let message = format!(
            "unexpected HTTP status code received from server: {http} ({})",
            reason(http)
        );
        return Status::new(Code::from_http(http), message);
    }
    let content_type = String::from_utf8_lossy(content_type);
    let message = format!("transport: received unexpected content-type {content_type:?}");
    Status::new(Code::Unknown, message)
}
