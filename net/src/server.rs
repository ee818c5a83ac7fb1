//! [`ServerConnection`]: one accepted socket, HTTP/2 (prior knowledge) or HTTP/1.1 by its first bytes.
//!
//! ```text
//!  loop {  read a socket -> on_time(now), on_bytes          timer -> on_time(now)
//!          while let Some(event) = poll_event() { … }       commands: send_message, finish, respond, start_response, …
//!          poll_transmit -> write to the socket             is_finished -> close it  }
//! ```
//!
//! Lives on the core that accepted the socket. Drain `poll_event` after each `on_bytes`: what a peer can make the
//! connection hold is bounded on that condition. Nothing here fails: a peer that breaks the protocol gets a GOAWAY or a
//! 400, its calls are [`ServerEvent::Cancelled`], and `is_finished` tells when to close. When closing after an error,
//! shut the write side and read for a moment, or the kernel's RST may overtake the GOAWAY.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::grpc::Status;
use crate::grpc::server::GrpcServer;
use crate::h2::{Key, PREFACE};
use crate::http::{HttpRequest, HttpResponse};
use crate::http1;
use crate::limits::Limits;
use crate::metadata::Metadata;

/// Names one request of a connection; never used again on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl From<Key> for CallId {
    fn from(key: Key) -> Self {
        Self(key.to_u64())
    }
}

impl From<CallId> for Key {
    fn from(id: CallId) -> Self {
        Self::from_u64(id.0)
    }
}

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// A gRPC call began. Answer it, unless it is [`ServerEvent::Cancelled`] before.
    Call {
        id: CallId,
        /// `/package.Service/Method`; has at least these two slashes.
        path: Bytes,
        /// All header fields but the pseudo-header fields.
        metadata: Metadata,
        /// On the clock of `on_time`. The connection answers by itself when it passes.
        deadline: Option<Duration>,
    },
    /// One whole message of a call.
    Message { id: CallId, payload: Bytes },
    /// The client will send no more messages, or its body has ended.
    HalfClose { id: CallId },
    /// The call is over and needs no answer: reset, past its deadline, refused for what the client sent, or the
    /// connection is lost. Stop working on it.
    Cancelled { id: CallId },
    /// Less than the low-water mark is queued for the call.
    Writable { id: CallId },
    /// A plain HTTP request.
    Http { id: CallId, request: HttpRequest },
    /// The same for a path of [`Limits::streamed_prefixes`]: its body follows, then a [`ServerEvent::HalfClose`].
    HttpStart { id: CallId, request: HttpRequest },
    /// Some of such a body.
    HttpBody { id: CallId, octets: Bytes },
    /// By HTTP/1.1 the client of such a request, which is whole and not answered, sends no more: it has left, or listens
    /// at most.
    HttpLeft { id: CallId },
}

/// One connection of a server.
#[derive(Debug)]
pub struct ServerConnection {
    limits: Arc<Limits>,
    accepted: Duration,
    now: Duration,
    protocol: Protocol,
}

#[derive(Debug)]
enum Protocol {
    /// Which one is not known yet; these are the bytes so far.
    Sniffing(Vec<u8>),
    Http1(Box<Http1>),
    Http2(Box<GrpcServer>),
    /// The peer left before saying anything, or was silent for too long.
    Closed,
}

impl ServerConnection {
    pub fn new(limits: Arc<Limits>, now: Duration) -> Self {
        Self {
            limits,
            accepted: now,
            now,
            protocol: Protocol::Sniffing(Vec::new()),
        }
    }

    // ---- inputs

    /// Bytes from the peer.
    pub fn on_bytes(&mut self, octets: &[u8]) {
        match &mut self.protocol {
            Protocol::Sniffing(_) => self.sniff(octets),
            Protocol::Http1(http1) => http1.server.on_bytes(octets),
            Protocol::Http2(server) => server.on_bytes(octets),
            Protocol::Closed => {}
        }
    }

    /// The peer will send no more.
    pub fn on_eof(&mut self) {
        match &mut self.protocol {
            Protocol::Sniffing(octets) if octets.is_empty() => self.protocol = Protocol::Closed,
            Protocol::Sniffing(_) => {
                self.become_http1();
                self.on_eof();
            }
            Protocol::Http1(http1) => http1.server.on_eof(),
            Protocol::Http2(server) => server.on_eof(),
            Protocol::Closed => {}
        }
    }

    /// The socket failed: nothing can be sent any more.
    pub fn on_lost(&mut self) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.on_eof(),
            Protocol::Http1(http1) => http1.on_lost(),
            Protocol::Sniffing(_) | Protocol::Closed => self.protocol = Protocol::Closed,
        }
    }

    /// Time passed, on any clock that only goes forward. Call it before `on_bytes` and at `next_timeout`.
    pub fn on_time(&mut self, now: Duration) {
        self.now = now;
        let handshake_deadline = self.handshake_deadline();
        match &mut self.protocol {
            Protocol::Sniffing(_) if now >= handshake_deadline => {
                self.protocol = Protocol::Closed;
            }
            Protocol::Http1(http1) => http1.on_time(now, &self.limits),
            Protocol::Http2(server) => server.on_time(now),
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// When `on_time` has something to do, if nothing else happens.
    pub fn next_timeout(&self) -> Option<Duration> {
        match &self.protocol {
            Protocol::Sniffing(_) => Some(self.handshake_deadline()),
            Protocol::Http1(http1) => http1.next_timeout(&self.limits),
            Protocol::Http2(server) => server.next_timeout(),
            Protocol::Closed => None,
        }
    }

    fn handshake_deadline(&self) -> Duration {
        self.accepted.saturating_add(self.limits.handshake_timeout)
    }

    // ---- commands

    /// Queues a whole message; HEADERS go before the first one.
    pub fn send_message(&mut self, id: CallId, payload: Bytes) {
        if let Protocol::Http2(server) = &mut self.protocol {
            server.send_message(id, payload);
        }
    }

    /// Promises a message of `len` octets, to be brought by [`ServerConnection::push_piece`]. Whoever breaks the
    /// promise, by too much, by `finish` before the end or by another message, loses the call.
    pub fn start_message(&mut self, id: CallId, len: usize) {
        if let Protocol::Http2(server) = &mut self.protocol {
            server.start_message(id, len);
        }
    }

    /// Queues a piece of the message that was started.
    pub fn push_piece(&mut self, id: CallId, piece: Bytes) {
        if let Protocol::Http2(server) = &mut self.protocol {
            server.push_piece(id, piece);
        }
    }

    /// Octets queued for a call and not yet handed to `poll_transmit`; 0 for a call that has ended.
    pub fn queued_len(&self, id: CallId) -> usize {
        match &self.protocol {
            Protocol::Http2(server) => server.queued_len(id),
            Protocol::Http1(http1) => http1.queued_len(id),
            Protocol::Sniffing(_) | Protocol::Closed => 0,
        }
    }

    /// Whether the caller may go on reading from the socket. `false` only while a call is paused.
    pub fn wants_input(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(http1) => http1.server.wants_input(),
            _ => true,
        }
    }

    /// Octets of responses queued over all calls.
    pub fn output_len(&self) -> usize {
        match &self.protocol {
            Protocol::Http2(server) => server.output_len(),
            _ => 0,
        }
    }

    /// The client may go on sending messages of this call only as far as its window goes, until
    /// [`ServerConnection::resume`]. So whoever takes messages in a queue of his own can bound it.
    pub fn pause(&mut self, id: CallId) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.pause(id),
            Protocol::Http1(http1) => http1.command(id, http1::Server::pause),
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// The window of a paused call opens again.
    pub fn resume(&mut self, id: CallId) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.resume(id),
            Protocol::Http1(http1) => http1.command(id, http1::Server::resume),
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// Ends a call. What is queued is sent first.
    pub fn finish(&mut self, id: CallId, status: &Status) {
        if let Protocol::Http2(server) = &mut self.protocol {
            server.finish(id, status);
        }
    }

    /// Answers a plain request.
    pub fn respond(&mut self, id: CallId, response: HttpResponse) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.respond(id, response),
            Protocol::Http1(http1) => http1.respond(id, response),
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// Begins the answer to a request that came as [`ServerEvent::HttpStart`]; the response's body is its first piece.
    pub fn start_response(&mut self, id: CallId, response: HttpResponse) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.start_response(id, response),
            Protocol::Http1(http1) => {
                http1.command(id, |server| server.start_response(response));
                http1.note_output(self.limits.low_water_len);
            }
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// Answers such a request with 101: from here on its body is what comes, and what is pushed goes out as it is. For
    /// HTTP/1.1 only, elsewhere it does nothing.
    pub fn switch_protocols(&mut self, id: CallId, response: HttpResponse) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.command(id, |server| server.switch_protocols(response));
        }
    }

    /// Adds to an answer that was begun.
    pub fn push_body(&mut self, id: CallId, piece: Bytes) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.push_body(id, piece),
            Protocol::Http1(http1) => {
                http1.command(id, |server| server.push_body(piece));
                http1.note_output(self.limits.low_water_len);
            }
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// Ends an answer that was begun.
    pub fn end_response(&mut self, id: CallId) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.end_response(id),
            Protocol::Http1(http1) => {
                http1.command(id, http1::Server::end_response);
                http1.is_answering &= !http1.is_of(id);
            }
            Protocol::Sniffing(_) | Protocol::Closed => {}
        }
    }

    /// Closes gracefully: what was begun goes on, new requests are refused, then the connection is finished.
    pub fn shut_down(&mut self) {
        match &mut self.protocol {
            Protocol::Http2(server) => server.shut_down(),
            Protocol::Http1(http1) => http1.server.shut_down(),
            Protocol::Sniffing(_) | Protocol::Closed => self.protocol = Protocol::Closed,
        }
    }

    // ---- outputs

    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        match &mut self.protocol {
            Protocol::Http2(server) => server.poll_event(),
            Protocol::Http1(http1) => http1.poll_event(),
            Protocol::Sniffing(_) | Protocol::Closed => None,
        }
    }

    /// Appends bytes for the peer to `out` until about `max` were added; returns how many were. Frames that cannot be cut
    /// may go beyond `max`. 0: there is nothing to send now.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        match &mut self.protocol {
            Protocol::Http2(server) => server.poll_transmit(out, max),
            Protocol::Http1(http1) => http1.poll_transmit(out, max, self.now, &self.limits),
            Protocol::Sniffing(_) | Protocol::Closed => 0,
        }
    }

    /// Everything is sent and nothing more will be read: close the socket.
    pub fn is_finished(&self) -> bool {
        match &self.protocol {
            Protocol::Http2(server) => server.is_finished(),
            Protocol::Http1(http1) => http1.is_finished(),
            Protocol::Sniffing(_) => false,
            Protocol::Closed => true,
        }
    }

    /// Whether the peer speaks HTTP/2; `None` before that is known.
    pub fn is_http2(&self) -> Option<bool> {
        match &self.protocol {
            Protocol::Http2(_) => Some(true),
            Protocol::Http1(_) => Some(false),
            Protocol::Sniffing(_) | Protocol::Closed => None,
        }
    }

    // ---- choosing the protocol

    fn sniff(&mut self, octets: &[u8]) {
        let Protocol::Sniffing(sniffed) = &mut self.protocol else {
            return;
        };
        sniffed.extend_from_slice(octets);
        match sniff(sniffed) {
            Sniff::More => {}
            Sniff::Http1 => self.become_http1(),
            Sniff::Http2 => {
                let sniffed = std::mem::take(sniffed);
                let limits = Arc::clone(&self.limits);
                let mut server = Box::new(GrpcServer::new(limits, self.accepted, self.now));
                server.on_bytes(&sniffed);
                self.protocol = Protocol::Http2(server);
            }
            Sniff::Neither => self.protocol = Protocol::Closed,
        }
    }

    fn become_http1(&mut self) {
        let Protocol::Sniffing(sniffed) = &mut self.protocol else {
            return;
        };
        let sniffed = std::mem::take(sniffed);
        let mut http1 = Box::new(Http1::new(&self.limits, self.now));
        http1.server.on_bytes(&sniffed);
        self.protocol = Protocol::Http1(http1);
    }
}

/// What the first bytes say.
#[derive(Debug, PartialEq, Eq)]
enum Sniff {
    More,
    Http1,
    Http2,
    Neither,
}

/// Looks at the first line. Both protocols begin with one, and it ends with a version; whoever sends none speaks neither
/// and gets no answer, as an HTTP/1.1 error would only confuse it (h2spec 3.5/2 insists). An etcd does the same.
fn sniff(octets: &[u8]) -> Sniff {
    /// Of HTTP/2's preface, what can be no HTTP/1.1 request. The rest is checked there.
    const FIRST_LINE: &[u8] = PREFACE.split_at(16).0;
    /// A longer line is left to HTTP/1.1, which has its own limit.
    const LINE_LEN_MAX: usize = 4096;

    let common = octets.len().min(FIRST_LINE.len());
    if octets[..common] == FIRST_LINE[..common] {
        let is_whole = common == FIRST_LINE.len();
        return if is_whole { Sniff::Http2 } else { Sniff::More };
    }
    let is_text = |octet: &u8| octet.is_ascii_graphic() || matches!(octet, b'\r' | b'\n');
    if !octets.first().is_some_and(is_text) {
        return Sniff::Neither;
    }
    let Some(end) = octets.iter().position(|octet| *octet == b'\n') else {
        let is_long = octets.len() > LINE_LEN_MAX;
        return if is_long { Sniff::Http1 } else { Sniff::More };
    };
    let line = octets[..end].trim_ascii_end();
    let version = line.splitn(3, |octet| *octet == b' ').nth(2);
    let has_version = version.is_some_and(|version| version.starts_with(b"HTTP/"));
    // Empty lines before a request are allowed (RFC 9112 §2.2).
    if line.is_empty() || has_version {
        Sniff::Http1
    } else {
        Sniff::Neither
    }
}

/// An HTTP/1.1 connection, with ids and times.
#[derive(Debug)]
struct Http1 {
    server: http1::Server,
    /// The id of the last request handed out.
    last: u64,
    /// It is being answered.
    is_answering: bool,
    cancelled: VecDeque<CallId>,
    /// Much of a streamed answer was queued: tell when it is not any more.
    reports_low_water: bool,
    is_low: bool,
    /// Since when the connection waits for the rest of a request.
    waits_since: Duration,
    is_lost: bool,
}

impl Http1 {
    fn new(limits: &Limits, now: Duration) -> Self {
        let server = http1::Server::new(http1::Limits {
            head_size_bytes_max: limits.header_list_bytes_max as usize,
            body_size_bytes_max: limits.http_body_bytes_max,
            streamed_prefixes: limits.streamed_prefixes,
        });
        Self {
            server,
            last: 0,
            is_answering: false,
            cancelled: VecDeque::new(),
            reports_low_water: false,
            is_low: false,
            waits_since: now,
            is_lost: false,
        }
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        if let Some(id) = self.cancelled.pop_front() {
            return Some(ServerEvent::Cancelled { id });
        }
        if self.is_lost {
            return None;
        }
        if std::mem::take(&mut self.is_low) && self.is_answering {
            let id = CallId(self.last);
            return Some(ServerEvent::Writable { id });
        }
        let event = self.server.poll_event()?;
        if let http1::Event::Request(_) | http1::Event::Start(_) = event {
            self.last += 1;
            self.is_answering = true;
        }
        let id = CallId(self.last);
        Some(match event {
            http1::Event::Request(request) => ServerEvent::Http { id, request },
            http1::Event::Start(request) => ServerEvent::HttpStart { id, request },
            http1::Event::Body(octets) => ServerEvent::HttpBody { id, octets },
            http1::Event::End => ServerEvent::HalfClose { id },
            http1::Event::Left => ServerEvent::HttpLeft { id },
            http1::Event::Gone => {
                self.is_answering = false;
                ServerEvent::Cancelled { id }
            }
        })
    }

    /// Whether this is the request that is being answered.
    fn is_of(&self, id: CallId) -> bool {
        self.is_answering && id == CallId(self.last)
    }

    fn command(&mut self, id: CallId, command: impl FnOnce(&mut http1::Server)) {
        if self.is_of(id) {
            command(&mut self.server);
        }
    }

    fn respond(&mut self, id: CallId, response: HttpResponse) {
        if self.is_of(id) {
            self.is_answering = false;
            self.server.respond(response);
        }
    }

    fn queued_len(&self, id: CallId) -> usize {
        match self.is_of(id) {
            true => self.server.output_len(),
            false => 0,
        }
    }

    fn note_output(&mut self, low_water_len: usize) {
        self.reports_low_water |= self.server.output_len() >= low_water_len;
    }

    fn on_lost(&mut self) {
        self.is_lost = true;
        if std::mem::take(&mut self.is_answering) {
            self.cancelled.push_back(CallId(self.last));
        }
    }

    fn poll_transmit(
        &mut self,
        out: &mut Vec<u8>,
        max: usize,
        now: Duration,
        limits: &Limits,
    ) -> usize {
        if self.is_lost {
            return 0;
        }
        let len = self.server.poll_transmit(out, max);
        if len > 0 {
            self.waits_since = now;
        }
        if self.reports_low_water && self.server.output_len() < limits.low_water_len {
            self.reports_low_water = false;
            self.is_low = true;
        }
        len
    }

    /// Whether the connection waits for a request that has begun, or for the first one.
    fn waits_for_request(&self) -> bool {
        let is_mid_request = match self.is_answering {
            true => self.server.waits_for_body(),
            false => self.last == 0 || !self.server.is_idle(),
        };
        !self.is_lost && is_mid_request
    }

    fn on_time(&mut self, now: Duration, limits: &Limits) {
        if !self.waits_for_request() {
            self.waits_since = now;
        } else if self.next_timeout(limits).is_some_and(|due| now >= due) {
            self.on_lost();
        }
    }

    fn next_timeout(&self, limits: &Limits) -> Option<Duration> {
        self.waits_for_request()
            .then(|| self.waits_since.saturating_add(limits.http_request_timeout))
    }

    fn is_finished(&self) -> bool {
        self.is_lost || self.server.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_decides() {
        assert_eq!(sniff(b"PRI * HTTP/2.0\r"), Sniff::More);
        assert_eq!(sniff(b"PRI * HTTP/2.0\r\nrubbish"), Sniff::Http2);
        assert_eq!(sniff(b"GET / HTT"), Sniff::More);
        assert_eq!(sniff(b"GET / HTTP/1.1\r\n"), Sniff::Http1);
        assert_eq!(sniff(b"PRI / HTTP/1.1\r\nHost"), Sniff::Http1);
        assert_eq!(sniff(b"\r\nGET"), Sniff::Http1);
        assert_eq!(sniff(&[b'a'; 5000]), Sniff::Http1);
        assert_eq!(sniff(b"INVALID CONNECTION PREFACE\r\n\r\n"), Sniff::Neither);
        assert_eq!(sniff(b"\x16\x03\x01\x02\0"), Sniff::Neither);
        assert_eq!(sniff(b"GET /\r\n"), Sniff::Neither);
        assert_eq!(sniff(b"GET /a b HTTP/1.1\r\n"), Sniff::Neither);
    }
}
