//! The client's end of a connection.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::Limits;
use super::body::{BodyError, BodyReader};
use super::head::{self, HeadScanner, ResponseHead};
use super::output::{Output, is_framing_field, push_field};
use crate::http::{HttpRequest, HttpResponse, Method};

/// What the caller has to know. Each request gets one of these, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    Response(HttpResponse),
    Failed(ClientError),
}

/// Why a request got no response. The connection is of no use after any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's fault: not HTTP, or a body without a certain end.
    #[error("malformed response")]
    Malformed,
    /// Head or body is beyond our limits.
    #[error("response is too large")]
    TooLarge,
    /// The server closed before the response was whole. Whether it saw the request is unknown.
    #[error("connection closed before the response was whole")]
    Closed,
}

/// Asks one server, one request after the other.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    /// Sent as `Host` with requests that bring none.
    authority: String,
    input: BytesMut,
    scanner: HeadScanner,
    state: State,
    /// Not sent yet: each waits for the response to the one before it.
    waiting: VecDeque<HttpRequest>,
    events: VecDeque<ClientEvent>,
    output: Output,
    is_eof: bool,
}

#[derive(Debug)]
enum State {
    Idle,
    Head {
        method: Method,
    },
    Body {
        head: Box<ResponseHead>,
        reader: BodyReader,
    },
    Closed,
}

impl Client {
    pub fn new(authority: &str, limits: Limits) -> Self {
        Self {
            limits,
            authority: authority.to_owned(),
            input: BytesMut::new(),
            scanner: HeadScanner::default(),
            state: State::Idle,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            output: Output::default(),
            is_eof: false,
        }
    }

    /// No further request can be sent, and nothing is left to hand out.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Closed) && self.events.is_empty()
    }

    /// Command: sends a request once those before it are answered.
    pub fn request(&mut self, request: HttpRequest) {
        match self.state {
            State::Idle => self.send(request),
            State::Closed => self
                .events
                .push_back(ClientEvent::Failed(ClientError::Closed)),
            State::Head { .. } | State::Body { .. } => self.waiting.push_back(request),
        }
    }

    /// Input: bytes from the server.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        match self.state {
            State::Closed => {}
            // Nobody asked: whatever it is, it must not be taken for the next answer.
            State::Idle => self.fail(ClientError::Malformed),
            State::Head { .. } | State::Body { .. } => {
                self.input.extend_from_slice(bytes);
                self.advance();
            }
        }
    }

    /// Input: the server sends no more.
    pub fn on_eof(&mut self) {
        self.is_eof = true;
        self.advance();
        self.fail(ClientError::Closed);
    }

    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Output: appends up to `max` bytes to `out` and tells how many.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        self.output.take(out, max)
    }

    fn send(&mut self, request: HttpRequest) {
        self.output.push(request_head(&self.authority, &request));
        self.output.push(request.body);
        self.state = State::Head {
            method: request.method,
        };
    }

    fn advance(&mut self) {
        loop {
            let went_on = match self.state {
                State::Head { .. } => self.read_head(),
                State::Body { .. } => self.read_body(),
                State::Idle | State::Closed => false,
            };
            if !went_on {
                return;
            }
        }
    }

    fn read_head(&mut self) -> bool {
        let State::Head { method } = &self.state else {
            return false;
        };
        let end = self.scanner.find_end(&self.input);
        if end.unwrap_or(self.input.len()) > self.limits.head_size_bytes_max {
            self.fail(ClientError::TooLarge);
            return false;
        }
        let Some(end) = end else { return false };
        let octets = self.input.split_to(end);
        let Some(head) = head::parse_response(&octets, method) else {
            self.fail(ClientError::Malformed);
            return false;
        };
        match head.response.status {
            // We never ask to switch protocols.
            101 => self.fail(ClientError::Malformed),
            // Interim: the response proper follows.
            100..200 => {}
            _ => {
                let reader = BodyReader::new(head.framing);
                self.state = State::Body {
                    head: Box::new(head),
                    reader,
                };
            }
        }
        true
    }

    fn read_body(&mut self) -> bool {
        let State::Body { reader, .. } = &mut self.state else {
            return false;
        };
        match reader.read(
            &mut self.input,
            self.is_eof,
            self.limits.body_size_bytes_max,
        ) {
            Ok(Some(body)) => {
                if let State::Body { head, .. } = std::mem::replace(&mut self.state, State::Idle) {
                    self.finish(
                        HttpResponse {
                            body,
                            ..head.response
                        },
                        head.keep_alive,
                    );
                }
                true
            }
            Ok(None) => false,
            Err(BodyError::Malformed) => {
                self.fail(ClientError::Malformed);
                false
            }
            Err(BodyError::TooLarge) => {
                self.fail(ClientError::TooLarge);
                false
            }
        }
    }

    fn finish(&mut self, response: HttpResponse, keep_alive: bool) {
        self.events.push_back(ClientEvent::Response(response));
        if !keep_alive {
            self.fail(ClientError::Closed);
        } else if !self.input.is_empty() {
            self.fail(ClientError::Malformed);
        } else if let Some(request) = self.waiting.pop_front() {
            self.send(request);
        }
    }

    /// Ends the connection: the request in progress and those behind it get `error`.
    fn fail(&mut self, error: ClientError) {
        let in_progress = match std::mem::replace(&mut self.state, State::Closed) {
            State::Head { .. } | State::Body { .. } => 1,
            State::Idle | State::Closed => 0,
        };
        let unanswered = in_progress + self.waiting.len();
        self.waiting.clear();
        self.input = BytesMut::new();
        self.events
            .extend(std::iter::repeat_n(ClientEvent::Failed(error), unanswered));
    }
}

pub(super) fn request_head(authority: &str, request: &HttpRequest) -> Vec<u8> {
    let method = request.method.as_str();
    let mut out = format!("{method} {} HTTP/1.1\r\n", request.target()).into_bytes();
    if !request.headers.contains("host") {
        push_field(&mut out, b"Host", authority.as_bytes());
    }
    for (name, value) in request
        .headers
        .iter()
        .filter(|(name, _)| !is_framing_field(name))
    {
        push_field(&mut out, name, value);
    }
    let is_bodiless = matches!(request.method, Method::Get | Method::Head | Method::Delete);
    if !request.body.is_empty() || !is_bodiless {
        push_field(
            &mut out,
            b"Content-Length",
            request.body.len().to_string().as_bytes(),
        );
    }
    out.extend_from_slice(b"\r\n");
    out
}
