//! The server's end of a connection.

use bytes::{Buf, Bytes, BytesMut};

use super::body::{BodyError, BodyReader};
use super::head::{self, HeadScanner, Refusal, RequestHead};
use super::output::{Output, is_framing_field, push_field};
use super::{Limits, PIPELINE_BYTES_MAX};
use crate::http::{HttpRequest, HttpResponse, Method, Version, reason};

/// What the caller has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// To be answered by [`Server::respond`], before which no other request comes.
    Request(HttpRequest),
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
    event: Option<Event>,
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
    /// Nothing more is read.
    Closed,
}

/// What the answer depends on.
#[derive(Debug, Clone, Copy)]
struct Answering {
    version: Version,
    is_head: bool,
    keep_alive: bool,
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
            event: None,
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
        self.advance();
    }

    /// Command: answers the request handed out last. Ignored if there is none.
    pub fn respond(&mut self, response: HttpResponse) {
        let State::Answering(mut answering) = self.state else {
            return;
        };
        answering.keep_alive &=
            !self.is_last && !response.headers.has_element("connection", "close");
        self.event = None;
        self.output.push(response_head(&response, answering));
        if !answering.is_head && !head::is_bodiless(response.status) {
            self.output.push(response.body);
        }
        if answering.keep_alive {
            self.state = State::Head;
            self.advance();
        } else {
            self.close();
        }
    }

    /// Command: no further requests. One in progress is read, answered and sent first.
    pub fn shut_down(&mut self) {
        self.is_last = true;
        if matches!(self.state, State::Head) && self.input.is_empty() {
            self.close();
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// Output: appends up to `max` bytes to `out` and tells how many.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        let taken = self.output.take(out, max);
        self.advance();
        taken
    }

    /// Input is kept but not read: a request is being answered, or the client does not take its answers.
    fn is_held(&self) -> bool {
        matches!(self.state, State::Answering(_)) || self.output.len() > PIPELINE_BYTES_MAX
    }

    fn advance(&mut self) {
        while !self.is_held() {
            let went_on = match self.state {
                State::Head => self.read_head(),
                State::Body { .. } => self.read_body(),
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
        self.state = State::Body {
            head: Box::new(head),
            reader,
        };
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
        self.state = State::Answering(Answering {
            version: head.request.version,
            is_head: head.request.method == Method::Head,
            keep_alive: head.keep_alive,
        });
        self.event = Some(Event::Request(head.request));
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

fn response_head(response: &HttpResponse, answering: Answering) -> Bytes {
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
    if !head::is_bodiless(status) {
        push_field(
            &mut out,
            b"Content-Length",
            response.body.len().to_string().as_bytes(),
        );
    }
    match (answering.version, answering.keep_alive) {
        (_, false) => push_field(&mut out, b"Connection", b"close"),
        (Version::Http10, true) => push_field(&mut out, b"Connection", b"keep-alive"),
        (_, true) => {}
    }
    out.extend_from_slice(b"\r\n");
    Bytes::from(out)
}
