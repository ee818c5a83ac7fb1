//! The server's end of a connection.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::body::{BodyError, BodyReader};
use super::head::{self, HeadScanner, Refusal, RequestHead};
use super::output::{Output, is_framing_field, push_field};
use super::streamed::{Drain, Exchange, Framed};
use super::{Limits, PIPELINE_BYTES_MAX};
use crate::http::{HttpRequest, HttpResponse, Method, Version, reason};

/// What the caller has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// To be answered by [`Server::respond`], before which no other request comes.
    Request(HttpRequest),
    /// The same, but its body follows. It may be answered by [`Server::start_response`] as well.
    Start(HttpRequest),
    /// Some of that body.
    Body(Bytes),
    /// Its end.
    End,
    /// The client of such a request, which is whole and not answered, sends no more: it has left, or listens at most.
    Left,
    /// The client of such a request has left.
    Gone,
}

/// Serves one connection.
///
/// Feed it with `on_bytes` and `on_eof`; after each call of any method look at `poll_event`, then at `poll_transmit`. When
/// `is_finished`, close the socket.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    /// Received, not yet understood.
    input: BytesMut,
    state: State,
    scanner: HeadScanner,
    /// The request line was looked at before the head was whole.
    is_line_checked: bool,
    /// Before this position it does not end.
    line_scanned: usize,
    events: VecDeque<Event>,
    output: Output,
    is_eof: bool,
    /// No request is read after the one in progress.
    is_last: bool,
}

#[derive(Debug)]
enum State {
    /// Between requests or inside a head.
    Head,
    Body {
        head: Box<RequestHead>,
        reader: BodyReader,
    },
    /// The request is with the caller.
    Answering(Answering),
    /// So is its beginning.
    Streaming(Box<Exchange>),
    /// It was answered, and the rest of its body is passed over.
    Draining(Box<Drain>),
    /// Nothing more is read.
    Closed,
}

/// What the answer depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answering {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: BytesMut::new(),
            state: State::Head,
            scanner: HeadScanner::default(),
            is_line_checked: false,
            line_scanned: 0,
            events: VecDeque::new(),
            output: Output::default(),
            is_eof: false,
            is_last: false,
        }
    }

    /// Everything is sent and nothing more will be read: close the socket.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Closed) && self.output.is_empty()
    }

    /// No request has begun: the connection may be closed without harm.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.input.is_empty() && self.output.is_empty()
    }

    /// Input: bytes from the client.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Closed) || self.is_eof {
            return;
        }
        if self.is_held() && self.input.len() + bytes.len() > PIPELINE_BYTES_MAX {
            if self.is_paused() {
                self.lose();
                return;
            }
            self.is_last = true;
            self.input.clear();
            return;
        }
        self.input.extend_from_slice(bytes);
        self.advance();
    }

    /// Input: the client sends no more. What it has asked is still answered.
    pub fn on_eof(&mut self) {
        self.is_eof = true;
        if let State::Streaming(exchange) = &self.state
            && exchange.needs_client()
        {
            return self.lose();
        }
        self.advance();
    }

    /// Command: answers the request handed out last. Ignored if there is none.
    pub fn respond(&mut self, response: HttpResponse) {
        let (mut answering, drain) = match &mut self.state {
            State::Answering(answering) => (*answering, None),
            State::Streaming(exchange) if !exchange.has_begun() => {
                (exchange.answering, exchange.drain())
            }
            _ => return,
        };
        answering.keep_alive &=
            !self.is_last && !response.headers.has_element("connection", "close");
        if let Some(drain) = &drain {
            answering.keep_alive &= drain.is_worth_it();
        }
        self.events.clear();
        let framed = Framed::Length(response.body.len());
        self.output
            .push(response_head(&response, answering, framed));
        if !answering.is_head && !head::is_bodiless(response.status) {
            self.output.push(response.body);
        }
        self.end_answer(answering.keep_alive, drain);
    }

    /// The answer is whole.
    fn end_answer(&mut self, keep_alive: bool, drain: Option<Drain>) {
        match drain {
            _ if !keep_alive => return self.close(),
            None => self.state = State::Head,
            Some(drain) => self.state = State::Draining(Box::new(drain)),
        }
        self.advance();
    }

    /// Command: begins the answer to the request that was started last; the response's body is its first piece. Ignored
    /// if there is none, or if it is answered.
    pub fn start_response(&mut self, response: HttpResponse) {
        if self.is_eof {
            // Who half-closes does not wait for what may go on for ever.
            return self.lose();
        }
        let State::Streaming(exchange) = &mut self.state else {
            return;
        };
        if exchange.has_begun() {
            return;
        }
        exchange.answering.keep_alive &= !self.is_last;
        let framed = exchange.begin();
        let head = response_head(&response, exchange.answering, framed);
        self.output.push(head);
        self.push_body(response.body);
    }

    /// Command: answers the request that was started last with 101, after which what comes is its body and what is pushed
    /// goes out as it is, until the connection ends. Ignored where HTTP/1.1 is not spoken.
    pub fn switch_protocols(&mut self, response: HttpResponse) {
        let State::Streaming(exchange) = &mut self.state else {
            return;
        };
        if exchange.has_begun() || exchange.answering.version != Version::Http11 {
            return;
        }
        let answering = exchange.answering;
        let framed = exchange.switch();
        self.events.clear();
        self.output
            .push(response_head(&response, answering, framed));
        self.advance();
    }

    /// Command: adds to the answer that was begun.
    pub fn push_body(&mut self, piece: Bytes) {
        if let State::Streaming(exchange) = &self.state {
            exchange.push(piece, &mut self.output);
        }
    }

    /// Command: ends the answer that was begun.
    pub fn end_response(&mut self) {
        let State::Streaming(exchange) = &mut self.state else {
            return;
        };
        if !exchange.has_begun() {
            return;
        }
        exchange.end(&mut self.output);
        let keep_alive = exchange.answering.keep_alive && !self.is_last;
        let drain = exchange.drain();
        self.events.clear();
        self.end_answer(keep_alive, drain);
    }

    /// Command: the rest of the body waits until [`Server::resume`]. Meanwhile nothing should be read from the socket
    /// unless [`Server::wants_input`].
    pub fn pause(&mut self) {
        if let State::Streaming(exchange) = &mut self.state {
            exchange.is_paused = true;
        }
    }

    /// Command: see [`Server::pause`].
    pub fn resume(&mut self) {
        if let State::Streaming(exchange) = &mut self.state {
            exchange.is_paused = false;
            self.advance();
        }
    }

    /// Command: answers the request handed out last by a body that ends with the connection (RFC 9112 §6.3, 8), which is
    /// the caller's from here on. Returns what is to be sent before that body.
    pub fn into_body(mut self, response: &HttpResponse) -> Vec<u8> {
        let mut out = Vec::new();
        self.output.take(&mut out, usize::MAX);
        out.extend_from_slice(
            format!(
                "HTTP/1.1 {} {}\r\n",
                response.status,
                reason(response.status)
            )
            .as_bytes(),
        );
        for (name, value) in response
            .headers
            .iter()
            .filter(|(name, _)| !is_framing_field(name))
        {
            push_field(&mut out, name, value);
        }
        push_field(&mut out, b"Connection", b"close");
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Command: no further requests. One in progress is read, answered and sent first.
    pub fn shut_down(&mut self) {
        self.is_last = true;
        if matches!(self.state, State::Head) && self.input.is_empty() {
            self.close();
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Octets of answers that were not handed out.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Whether the caller may go on reading from the socket.
    pub fn wants_input(&self) -> bool {
        !self.is_paused() || self.input.is_empty()
    }

    /// The rest of a request's body is waited for, and nothing was answered.
    pub fn waits_for_body(&self) -> bool {
        matches!(&self.state, State::Streaming(exchange) if exchange.waits_for_body())
    }

    fn is_paused(&self) -> bool {
        matches!(&self.state, State::Streaming(exchange) if exchange.is_paused)
    }

    /// Output: appends up to `max` bytes to `out` and tells how many.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        let taken = self.output.take(out, max);
        self.advance();
        taken
    }

    /// Input is kept but not read: a request is being answered, or the client does not take its answers.
    fn is_held(&self) -> bool {
        match &self.state {
            State::Answering(_) => true,
            // What its caller queues for it must not keep it from asking on.
            State::Streaming(exchange) => exchange.is_held(),
            _ => self.output.len() > PIPELINE_BYTES_MAX,
        }
    }

    fn advance(&mut self) {
        self.read_on();
        if let State::Streaming(exchange) = &mut self.state
            && self.is_eof
            && exchange.note_left()
        {
            self.events.push_back(Event::Left);
        }
    }

    fn read_on(&mut self) {
        while !self.is_held() {
            let went_on = match self.state {
                State::Head => self.read_head(),
                State::Body { .. } => self.read_body(),
                State::Streaming(_) => self.read_streamed(),
                State::Draining(_) => self.read_unwanted(),
                State::Answering(_) | State::Closed => false,
            };
            if !went_on {
                return;
            }
        }
    }

    /// Whether a head was read.
    fn read_head(&mut self) -> bool {
        self.skip_empty_lines();
        let end = self.scanner.find_end(&self.input);
        if end.unwrap_or(self.input.len()) > self.limits.head_size_bytes_max {
            return self.refuse(Refusal::HeadTooLarge);
        }
        let Some(end) = end else {
            return self.await_head();
        };
        self.is_line_checked = false;
        self.line_scanned = 0;
        let octets = self.input.split_to(end);
        match head::parse_request(&octets, &self.limits) {
            Ok(head) => self.begin_body(head),
            Err(refusal) => return self.refuse(refusal),
        }
        true
    }

    /// RFC 9112 §2.2: empty lines before a request are skipped.
    fn skip_empty_lines(&mut self) {
        let empty_len = self
            .input
            .iter()
            .take_while(|&&octet| octet == b'\r' || octet == b'\n')
            .count();
        if empty_len > 0 {
            self.input.advance(empty_len);
            self.scanner = HeadScanner::default();
            self.line_scanned = 0;
        }
    }

    fn await_head(&mut self) -> bool {
        if self.is_eof || (self.is_last && self.input.is_empty()) {
            self.close();
            return false;
        }
        let is_noise = self
            .input
            .first()
            .is_some_and(|&first| !crate::http::is_token(&[first]));
        if is_noise || self.is_line_hopeless() {
            // Once more as a whole: the parser tells which refusal it is.
            let refusal = head::parse_request(&self.input, &self.limits).err();
            return self.refuse(refusal.unwrap_or(Refusal::Malformed));
        }
        false
    }

    /// Looks at the request line once, when it is whole, so that noise need not be read to its end.
    fn is_line_hopeless(&mut self) -> bool {
        if self.is_line_checked {
            return false;
        }
        let unseen = &self.input[self.line_scanned..];
        let Some(offset) = unseen.iter().position(|&octet| octet == b'\n') else {
            self.line_scanned = self.input.len();
            return false;
        };
        self.is_line_checked = true;
        head::is_hopeless(&self.input[..=self.line_scanned + offset])
    }

    fn begin_body(&mut self, head: RequestHead) {
        let reader = BodyReader::new(head.framing);
        let has_body = head.framing != head::Framing::Length(0);
        if head.expects_continue && has_body && self.input.is_empty() && !self.is_eof {
            self.output.push(&b"HTTP/1.1 100 Continue\r\n\r\n"[..]);
        }
        if self.limits.is_streamed(&head.request.path) {
            let answering = Answering::to(&head);
            let exchange = Exchange::new(answering, has_body.then_some(reader));
            self.state = State::Streaming(Box::new(exchange));
            self.events.push_back(Event::Start(head.request));
            if !has_body {
                self.events.push_back(Event::End);
            }
            return;
        }
        self.state = State::Body {
            head: Box::new(head),
            reader,
        };
    }

    /// Whether some of a body was handed on that the caller has the head of.
    fn read_streamed(&mut self) -> bool {
        let State::Streaming(exchange) = &mut self.state else {
            return false;
        };
        match exchange.read(&mut self.input) {
            Ok(None) => false,
            Ok(Some((piece, is_end))) => {
                let went_on = !piece.is_empty() || is_end;
                if !piece.is_empty() {
                    self.events.push_back(Event::Body(piece));
                }
                if is_end {
                    self.events.push_back(Event::End);
                }
                went_on
            }
            Err(_) if exchange.has_begun() => {
                self.lose();
                false
            }
            Err(_) => {
                self.events.push_back(Event::Gone);
                self.refuse(Refusal::Malformed)
            }
        }
    }

    /// Whether the end of a body that nobody wants was found.
    fn read_unwanted(&mut self) -> bool {
        let State::Draining(drain) = &mut self.state else {
            return false;
        };
        match drain.read(&mut self.input) {
            Ok(true) => {
                self.state = State::Head;
                true
            }
            Ok(false) if !self.is_eof && !drain.is_over() => false,
            _ => {
                self.close();
                false
            }
        }
    }

    /// The client has left, or behaves as if.
    fn lose(&mut self) {
        if matches!(self.state, State::Streaming(_)) {
            self.events.push_back(Event::Gone);
            self.close();
        }
    }

    /// Whether a body was read.
    fn read_body(&mut self) -> bool {
        let State::Body { head, reader } = &mut self.state else {
            return false;
        };
        match reader.read(
            &mut self.input,
            self.is_eof,
            self.limits.body_size_bytes_max,
        ) {
            Ok(Some(body)) => {
                head.request.body = body;
                self.hand_over();
                true
            }
            Ok(None) => {
                if self.is_eof {
                    self.close();
                }
                false
            }
            Err(BodyError::Malformed) => self.refuse(Refusal::Malformed),
            Err(BodyError::TooLarge) => self.refuse(Refusal::BodyTooLarge),
        }
    }

    fn hand_over(&mut self) {
        let State::Body { head, .. } = std::mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        self.state = State::Answering(Answering::to(&head));
        self.events.push_back(Event::Request(head.request));
    }

    fn refuse(&mut self, refusal: Refusal) -> bool {
        self.output.push(refusal.answer());
        self.close();
        false
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.input = BytesMut::new();
    }
}

impl Answering {
    fn to(head: &RequestHead) -> Self {
        Self {
            version: head.request.version,
            is_head: head.request.method == Method::Head,
            keep_alive: head.keep_alive,
        }
    }
}

fn response_head(response: &HttpResponse, answering: Answering, framed: Framed) -> Bytes {
    let status = response.status;
    let minor = if answering.version == Version::Http10 {
        0
    } else {
        1
    };
    let mut out = format!("HTTP/1.{minor} {status} {}\r\n", reason(status)).into_bytes();
    for (name, value) in response
        .headers
        .iter()
        .filter(|(name, _)| !is_framing_field(name))
    {
        push_field(&mut out, name, value);
    }
    match framed {
        Framed::Switched => push_field(&mut out, b"Connection", b"Upgrade"),
        _ if head::is_bodiless(status) => {}
        // Go knows no length of what was not written.
        Framed::Length(0) if answering.is_head => {}
        Framed::Length(len) => push_field(&mut out, b"Content-Length", len.to_string().as_bytes()),
        Framed::Chunks => push_field(&mut out, b"Transfer-Encoding", b"chunked"),
        Framed::UntilEnd => {}
    }
    match (answering.version, answering.keep_alive) {
        _ if framed == Framed::Switched => {}
        (_, false) => push_field(&mut out, b"Connection", b"close"),
        (Version::Http10, true) => push_field(&mut out, b"Connection", b"keep-alive"),
        (_, true) => {}
    }
    out.extend_from_slice(b"\r\n");
    Bytes::from(out)
}
