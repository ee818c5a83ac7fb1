//! A service over [`ServerConnection`] that keeps the books: what began, what ended, what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::http::HttpResponse;
use net::{CallId, Limits, ServerConnection, ServerEvent};

use crate::check::Dialogue;
use crate::frames::Side;
use crate::input::Input;

/// Tight bounds, so that short inputs meet them.
pub(crate) fn tight_limits() -> Limits {
    Limits {
        concurrent_streams_max: 20,
        message_bytes_max: 5000,
        http_body_bytes_max: 5000,
        header_list_bytes_max: 2000,
        stream_window: 2000,
        connection_window: 65_535,
        buffer_bytes_max: 20_000,
        output_bytes_max: 20_000,
        control_bytes_max: 5000,
        event_bytes_max: 5000,
        low_water_len: 100,
        streamed_prefixes: &["/s/"],
        ..Limits::default()
    }
}

/// No response of this service is longer, its framing included.
const RESPONSE_LEN_MAX: usize = 6000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc { is_half_closed: bool },
    Http,
    HttpStream { is_half_closed: bool },
}

/// A server's connection with its service and the checks on both.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) server: ServerConnection,
    limits: Arc<Limits>,
    dialogue: Dialogue,
    now: Duration,
    /// Told of and not ended.
    open: BTreeMap<CallId, Kind>,
    /// Ended by us while events were taken: what was queued for them by then may still come.
    just_ended: BTreeSet<CallId>,
    /// Calls are answered when [`Session::command`] says so, not at once.
    is_lazy: bool,
    output: Vec<u8>,
}

impl Session {
    pub(crate) fn new(is_lazy: bool) -> Self {
        let limits = Arc::new(tight_limits());
        let now = Duration::from_secs(1000);
        Self {
            server: ServerConnection::new(Arc::clone(&limits), now),
            limits,
            dialogue: Dialogue::new(Side::Server),
            now,
            open: BTreeMap::new(),
            just_ended: BTreeSet::new(),
            is_lazy,
            output: Vec::new(),
        }
    }

    pub(crate) fn on_bytes(&mut self, octets: &[u8]) {
        self.dialogue.on_received(octets);
        self.server.on_bytes(octets);
        self.serve();
        let held = self.server.output_len();
        let streams = self.limits.concurrent_streams_max as usize;
        let held_max = self.limits.output_bytes_max + RESPONSE_LEN_MAX * streams;
        assert!(held <= held_max, "{held} octets of answers are kept");
    }

    /// Takes what is to be sent, up to about `max`.
    pub(crate) fn transmit(&mut self, max: usize) {
        loop {
            let before = self.output.len();
            let told = self.server.poll_transmit(&mut self.output, max);
            assert_eq!(self.output.len() - before, told);
            if told == 0 {
                break;
            }
        }
        if self.server.is_http2() == Some(true) {
            self.dialogue.on_sent(&self.output);
        }
        self.output.clear();
        self.serve();
    }

    /// Lets time pass, or goes to when the connection wants to be called.
    pub(crate) fn pass(&mut self, millis: u16) {
        let due = self.server.next_timeout();
        self.now = match due {
            Some(due) if millis == 0 => due.max(self.now),
            _ => self.now + Duration::from_millis(millis.into()),
        };
        self.server.on_time(self.now);
        let next = self.server.next_timeout();
        let is_ahead = next.is_none_or(|next| next > self.now);
        assert!(is_ahead, "{next:?} is not behind {:?}: a loop", self.now);
        self.serve();
    }

    /// Does to an open call what the input says.
    pub(crate) fn command(&mut self, input: &mut Input<'_>) {
        let count = self.open.len().max(1);
        let nth = usize::from(input.byte()) % count;
        let Some((&id, &kind)) = self.open.iter().nth(nth) else {
            return;
        };
        let what = input.byte();
        match (kind, what % 6) {
            (Kind::Http, _) => self.respond(id, Bytes::from(vec![what; usize::from(what) * 16])),
            (Kind::HttpStream { .. }, 0) => self.respond(id, Bytes::from(vec![what; 16])),
            (Kind::HttpStream { .. }, 1) => self.end_response(id),
            (Kind::HttpStream { .. }, _) => {
                self.start_response(id);
                self.push_body(id, Bytes::from(vec![what; usize::from(what) * 16]));
            }
            (_, 0 | 1) => self.finish(id, u32::from(what >> 3)),
            (_, 2 | 3) => {
                let payload = vec![what; usize::from(what) * 16];
                self.send(id, Bytes::from(payload));
            }
            (_, 4) => self.server.start_message(id, usize::from(what) * 8),
            _ => {
                let piece = vec![what; usize::from(what) * 4];
                self.server.push_piece(id, Bytes::from(piece));
            }
        }
        self.serve();
    }

    fn send(&mut self, id: CallId, payload: Bytes) {
        // The bound on output is for a service that waits while much is queued.
        if self.server.queued_len(id) < RESPONSE_LEN_MAX / 2 {
            self.server.send_message(id, payload);
        }
    }

    fn finish(&mut self, id: CallId, code: u32) {
        let code = Code::from_number(code).unwrap_or(Code::Unknown);
        self.server.finish(id, &Status::new(code, "done\n%"));
        self.open.remove(&id);
    }

    fn respond(&mut self, id: CallId, body: Bytes) {
        self.server.respond(id, HttpResponse::json(200, body));
        self.open.remove(&id);
    }

    fn start_response(&mut self, id: CallId) {
        self.server.start_response(id, HttpResponse::new(200));
    }

    fn push_body(&mut self, id: CallId, piece: Bytes) {
        if self.server.queued_len(id) < RESPONSE_LEN_MAX / 2 {
            self.server.push_body(id, piece);
        }
    }

    /// The answer may not have begun.
    fn end_response(&mut self, id: CallId) {
        self.start_response(id);
        self.server.end_response(id);
        self.open.remove(&id);
    }

    fn serve(&mut self) {
        while let Some(event) = self.server.poll_event() {
            self.on_event(event);
        }
        self.just_ended.clear();
    }

    fn on_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Call {
                id, path, metadata, ..
            } => {
                assert!(path.starts_with(b"/") && path[1..].contains(&b'/'));
                let list_len: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
                assert!(list_len <= self.limits.header_list_bytes_max as usize);
                let kind = Kind::Grpc {
                    is_half_closed: false,
                };
                assert_eq!(self.open.insert(id, kind), None, "a call begins once");
            }
            ServerEvent::Message { id, payload } => {
                assert!(payload.len() <= self.limits.message_bytes_max);
                let state = self.open.get(&id);
                let may = state
                    == Some(&Kind::Grpc {
                        is_half_closed: false,
                    });
                assert!(may, "a message while {state:?}");
                if !self.is_lazy {
                    self.send(id, payload);
                }
            }
            ServerEvent::HalfClose { id } => {
                match self.open.get_mut(&id) {
                    Some(
                        Kind::Grpc {
                            is_half_closed: is_closed @ false,
                        }
                        | Kind::HttpStream {
                            is_half_closed: is_closed @ false,
                        },
                    ) => *is_closed = true,
                    state => panic!("an end while {state:?}"),
                }
                if !self.is_lazy {
                    self.just_ended.insert(id);
                    match self.open.get(&id) {
                        Some(Kind::HttpStream { .. }) => self.end_response(id),
                        _ => self.finish(id, 0),
                    }
                }
            }
            ServerEvent::Cancelled { id } => {
                let is_known = self.open.remove(&id).is_some() || self.just_ended.remove(&id);
                assert!(is_known, "the end of a call that is not open");
                self.server
                    .send_message(id, Bytes::from_static(b"too late"));
                assert_eq!(self.server.queued_len(id), 0, "an ended call holds nothing");
            }
            ServerEvent::Writable { id } => {
                assert!(self.server.queued_len(id) < self.limits.low_water_len);
            }
            ServerEvent::HttpStart { id, request } => {
                assert!(request.body.is_empty());
                let kind = Kind::HttpStream {
                    is_half_closed: false,
                };
                assert_eq!(self.open.insert(id, kind), None, "a request comes once");
                if !self.is_lazy {
                    self.start_response(id);
                }
            }
            ServerEvent::HttpBody { id, octets } => {
                let state = self.open.get(&id);
                let open = Kind::HttpStream {
                    is_half_closed: false,
                };
                assert_eq!(state, Some(&open), "more of a body");
                if !self.is_lazy {
                    self.push_body(id, octets);
                }
            }
            ServerEvent::HttpLeft { id } => {
                let whole = Kind::HttpStream {
                    is_half_closed: true,
                };
                assert_eq!(self.open.get(&id), Some(&whole), "who asked has left");
            }
            ServerEvent::Http { id, request } => {
                assert!(request.body.len() <= self.limits.http_body_bytes_max);
                assert_eq!(
                    self.open.insert(id, Kind::Http),
                    None,
                    "a request comes once"
                );
                if !self.is_lazy {
                    self.just_ended.insert(id);
                    self.respond(id, request.body);
                }
            }
        }
    }

    /// The socket is gone: all that is open ends, and nothing is left.
    pub(crate) fn end(mut self, is_eof_first: bool) {
        if is_eof_first {
            self.server.on_eof();
            self.serve();
        }
        if self.server.is_finished() && self.server.is_http2() == Some(true) {
            self.transmit(usize::MAX);
            self.dialogue.check_end();
        }
        self.server.on_lost();
        self.serve();
        assert!(self.open.is_empty(), "{:?} never ended", self.open);
        assert!(self.server.is_finished());
        assert_eq!(self.server.output_len(), 0, "kept for nobody");
    }
}
