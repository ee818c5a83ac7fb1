//! Calls of one connection that came by the JSON gateway: their requests on the way in, their answers on the way out.
//!
//! ```text
//!  HttpBody -> take_body -> messages, as those of any call
//!  messages, status -> push_message, .., finish -> Sending -> the machine
//! ```
//!
//! The answer of a unary call gathers until its status is known. A stream's messages go out one by one, so its maker is
//! told how much of them waits ([`GatewayCalls::queued_len`]) and makes no more meanwhile.
//!
//! What all calls of a shard hold is at most [`HELD_LEN_MAX`]: values that are not whole, messages that are not, JSON that
//! is not sent. The call that would hold more is ended by its connection.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use driver::Task;
use net::CallId;
use net::grpc::{Code, Status};
use net::http::HttpResponse;

use crate::gateway::websocket::{self, Heard, WebSocket};
use crate::gateway::{self, Intake};
use crate::http::Decoration;
use crate::logging::http_date;
use crate::method::{METHODS, MethodNo, Shape};

/// What the calls of one shard hold. A message of the largest put takes 2 MiB, a range may take any number.
const HELD_LEN_MAX: usize = 256 << 20;

/// Who has so much to read gets no answers to the pings of a websocket.
const PONG_ROOM_LEN: usize = 64 * 1024;

/// Those of one connection.
pub(super) struct GatewayCalls {
    calls: RefCell<HashMap<CallId, GatewayCall>>,
    /// Of the shard.
    held_len: Rc<Cell<usize>>,
}

/// One call.
pub(super) struct GatewayCall {
    pub(super) method: MethodNo,
    decoration: Decoration,
    intake: Intake,
    /// It speaks websocket.
    socket: Option<WebSocket>,
    /// Its service knows of it: its request is whole or a stream.
    is_begun: bool,
    /// The message of a unary call, or the one that is to be its request.
    whole: Option<Bytes>,
    /// The message that comes in pieces, and what is still to come of it.
    begun: BytesMut,
    missing_len: usize,
    /// JSON that the client has not taken.
    queued_len: usize,
    /// The head of a stream was sent.
    has_head: bool,
    /// What it counts of the shard's `held_len`.
    own_len: usize,
    /// Ends it when its client's patience is over; goes with it.
    _deadline: Option<Task<()>>,
    /// Ends it when the rest of a value does not come.
    stall: Option<Task<()>>,
}

/// What goes to the machine.
pub(super) enum Sending {
    Nothing,
    Whole(HttpResponse),
    Part {
        head: Option<HttpResponse>,
        piece: Bytes,
        is_end: bool,
    },
}

impl Sending {
    /// A websocket's last message, if there is one.
    fn last_words(text: &[u8]) -> Self {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let piece = match text.is_empty() {
            true => Bytes::new(),
            false => websocket::frame(text).into(),
        };
        Sending::Part {
            head: None,
            piece,
            is_end: true,
        }
    }
}

/// What a piece of a body came to.
pub(super) struct Taken {
    pub(super) messages: Vec<Bytes>,
    pub(super) result: Result<(), Status>,
    /// A value has begun and is not whole.
    pub(super) is_mid_value: bool,
    /// What a websocket has to say about it.
    pub(super) answer: Vec<u8>,
    /// A websocket was closed.
    pub(super) is_closed: bool,
}

/// A call holds more than there is room for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Overflow {
    pub(super) fn status() -> Status {
        let text = "etcore: answers of the gateway hold too much memory";
        Status::new(Code::ResourceExhausted, text)
    }
}

impl GatewayCalls {
    pub(super) fn new(held_len: Rc<Cell<usize>>) -> Self {
        GatewayCalls {
            calls: RefCell::default(),
            held_len,
        }
    }

    pub(super) fn open(
        &self,
        id: CallId,
        method: MethodNo,
        decoration: Decoration,
        intake: Intake,
        deadline: Option<Task<()>>,
    ) {
        let call = GatewayCall {
            method,
            decoration,
            socket: None,
            is_begun: METHODS[method].shape == Shape::BidiStream && !intake.is_form(),
            intake,
            whole: None,
            begun: BytesMut::new(),
            missing_len: 0,
            queued_len: 0,
            has_head: false,
            own_len: 0,
            _deadline: deadline,
            stall: None,
        };
        self.calls.borrow_mut().insert(id, call);
    }

    /// From here on a call speaks websocket.
    pub(super) fn switch(&self, id: CallId) {
        self.with(id, |call| call.socket = Some(WebSocket::default()));
    }

    /// Whether a call is one of these.
    pub(super) fn has(&self, id: CallId) -> bool {
        self.with(id, |_| ()).is_some()
    }

    /// Does something to a call, if it is one of these, and counts what it holds then.
    fn with<T>(&self, id: CallId, act: impl FnOnce(&mut GatewayCall) -> T) -> Option<T> {
        let mut calls = self.calls.borrow_mut();
        if calls.is_empty() {
            return None;
        }
        let call = calls.get_mut(&id)?;
        let done = act(call);
        let own_len = call.held_len();
        let before = std::mem::replace(&mut call.own_len, own_len);
        self.held_len.set(self.held_len.get() - before + own_len);
        Some(done)
    }

    /// Whether there is room for `len` octets more.
    fn has_room(&self, len: usize) -> Result<(), Overflow> {
        match self.held_len.get().saturating_add(len) > HELD_LEN_MAX {
            true => Err(Overflow),
            false => Ok(()),
        }
    }

    // ---- requests

    /// Takes a piece of a request's body, or its end.
    pub(super) fn take_body(&self, id: CallId, octets: Option<&[u8]>) -> Option<Taken> {
        let room = self.has_room(octets.map_or(0, <[u8]>::len));
        self.with(id, |call| {
            let mut messages = Vec::new();
            let mut heard = match (&mut call.socket, octets) {
                (Some(socket), Some(octets)) => socket.hear(octets),
                _ => Heard::default(),
            };
            if call.queued_len > PONG_ROOM_LEN && !heard.is_end {
                heard.answer.clear();
            }
            let result = match (room, octets) {
                (Err(Overflow), _) => Err(Overflow::status()),
                (Ok(()), Some(_)) if call.socket.is_some() => {
                    call.intake.push(&heard.body, &mut messages)
                }
                (Ok(()), Some(octets)) => call.intake.push(octets, &mut messages),
                (Ok(()), None) => call.intake.end(&mut messages),
            };
            if !call.is_begun {
                // Its message waits for the end of the body.
                call.whole = messages.pop().or(call.whole.take());
                if octets.is_none() && result.is_ok() {
                    call.is_begun = true;
                    messages.extend(call.whole.take());
                }
            }
            Taken {
                messages,
                result,
                is_mid_value: call.intake.held_len() > 0,
                answer: heard.answer,
                is_closed: heard.is_end,
            }
        })
    }

    /// The method, and whether nothing more of the request means anything.
    pub(super) fn request(&self, id: CallId) -> Option<(MethodNo, bool)> {
        self.with(id, |call| (call.method, call.intake.is_over()))
    }

    /// Has `begin` start the task that ends a call whose value does not go on; without one that waits, ends that task.
    pub(super) fn watch_stall(&self, id: CallId, begin: Option<impl FnOnce() -> Task<()>>) {
        self.with(id, |call| match begin {
            None => call.stall = None,
            Some(begin) => {
                call.stall.get_or_insert_with(begin);
            }
        });
    }

    // ---- answers

    /// Takes a whole message; `None`: it is none of these calls'.
    pub(super) fn push_message(
        &self,
        id: CallId,
        message: &Bytes,
    ) -> Option<Result<Sending, Overflow>> {
        let room = self.has_room(message.len());
        self.with(id, |call| room.map(|()| call.take_message(message.clone())))
    }

    /// A message of `len` bytes begins; `None`: it is none of these calls'.
    pub(super) fn start_message(
        &self,
        id: CallId,
        len: usize,
    ) -> Option<Result<Sending, Overflow>> {
        let room = self.has_room(len);
        self.with(id, |call| {
            room?;
            call.begun = BytesMut::with_capacity(len);
            call.missing_len = len;
            Ok(match len {
                0 => call.take_message(Bytes::new()),
                _ => Sending::Nothing,
            })
        })
    }

    /// Takes a piece of the message begun; `None`: it is none of these calls'.
    pub(super) fn push_piece(&self, id: CallId, piece: &[u8]) -> Option<Sending> {
        self.with(id, |call| {
            call.begun.extend_from_slice(piece);
            call.missing_len = call.missing_len.saturating_sub(piece.len());
            if call.missing_len > 0 {
                return Sending::Nothing;
            }
            let message = std::mem::take(&mut call.begun).freeze();
            call.take_message(message)
        })
    }

    /// So much of a stream waits for its client.
    pub(super) fn note_queued(&self, id: CallId, len: usize) -> Result<(), Overflow> {
        self.with(id, |call| call.queued_len = len);
        self.has_room(0)
    }

    /// What a maker of messages may take for queued: something, as long as there is somebody to make them for.
    pub(super) fn queued_len(&self, id: CallId) -> Option<usize> {
        self.with(id, |call| call.queued_len.max(1))
    }

    /// The last of a call that has ended with this status; `None`: it is none of these.
    pub(super) fn finish(&self, id: CallId, status: &Status) -> Option<Sending> {
        let call = self.take(id)?;
        if !call.is_stream() || !call.is_begun {
            let response = gateway::answer(call.method, call.whole.as_ref(), status);
            return Some(match call.socket {
                Some(_) => Sending::last_words(&response.body),
                None => Sending::Whole(call.decorated(response)),
            });
        }
        if call.socket.is_some() {
            return Some(Sending::last_words(&gateway::stream_end(status)));
        }
        let head = (!call.has_head).then(|| call.decorated(gateway::stream_end_head(status)));
        Some(Sending::Part {
            head,
            piece: gateway::stream_end(status),
            is_end: true,
        })
    }

    /// Forgets a call whose client has left.
    pub(super) fn take(&self, id: CallId) -> Option<GatewayCall> {
        let mut calls = self.calls.borrow_mut();
        if calls.is_empty() {
            return None;
        }
        let call = calls.remove(&id)?;
        self.held_len.set(self.held_len.get() - call.own_len);
        Some(call)
    }
}

impl Drop for GatewayCalls {
    fn drop(&mut self) {
        let own: usize = self.calls.borrow().values().map(|call| call.own_len).sum();
        self.held_len.set(self.held_len.get() - own);
    }
}

impl GatewayCall {
    fn is_stream(&self) -> bool {
        METHODS[self.method].shape != Shape::Unary
    }

    fn held_len(&self) -> usize {
        let whole_len = self.whole.as_ref().map_or(0, Bytes::len);
        let begun_len = self.begun.len() + self.missing_len;
        self.intake.held_len() + whole_len + begun_len + self.queued_len
    }

    fn decorated(&self, response: HttpResponse) -> HttpResponse {
        let date = http_date(SystemTime::now());
        self.decoration.finish(response, &date)
    }

    /// A message of the answer is whole.
    fn take_message(&mut self, message: Bytes) -> Sending {
        if !self.is_stream() {
            self.whole = Some(message);
            return Sending::Nothing;
        }
        // A message that cannot be shown is our own mistake: its stream tells so and goes on.
        let line = gateway::stream_line(self.method, &message);
        let piece = line.unwrap_or_else(|status| gateway::stream_end(&status));
        if self.socket.is_some() {
            let text = piece.strip_suffix(b"\n").unwrap_or(&piece);
            return Sending::Part {
                head: None,
                piece: websocket::frame(text).into(),
                is_end: false,
            };
        }
        let head = (!self.has_head).then(|| self.decorated(gateway::stream_head()));
        self.has_head = true;
        Sending::Part {
            head,
            piece,
            is_end: false,
        }
    }
}
