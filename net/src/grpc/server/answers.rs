//! How calls end, and what is sent before: the commands of the layer above, and the answers that are given without it.

use bytes::Bytes;

use super::{Call, GrpcServer, Kind};
use crate::grpc::deframer::{self, Deframer};
use crate::grpc::request;
use crate::grpc::{Code, Status, encode_message};
use crate::h2::{ErrorCode, FixedFields, Key};
use crate::http::HttpResponse;
use crate::server::{CallId, ServerEvent};

const CONTENT_TYPE: &[u8] = b"application/grpc";

/// What precedes the messages of every answer, and what follows them if all went well.
const ANSWER_HEAD: FixedFields = &[(b":status", b"200"), (b"content-type", CONTENT_TYPE)];
const ANSWER_END_OK: FixedFields = &[(b"grpc-status", b"0")];

impl GrpcServer {
    // ---- ends that are not the layer's above

    /// Ends a call the layer above never heard of: Trailers-Only, perhaps with an HTTP error.
    pub(super) fn refuse(&mut self, key: Key, http: u16, status: &Status) {
        self.h2.send_head(key, |push| {
            push(b":status", &digits(http));
            push(b"content-type", CONTENT_TYPE);
            push_status(status, push);
        });
        self.h2.send_end(key, |_| {});
    }

    /// Ends a call the layer above knows, because of what the peer sent.
    pub(super) fn refuse_live(&mut self, key: Key, status: Status) {
        self.end_early(key, status);
        let id = CallId::from(key);
        self.push_event(ServerEvent::Cancelled { id });
    }

    pub(super) fn expire(&mut self, key: Key) {
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

    pub(super) fn cancel(&mut self, key: Key, call: &Call) {
        if call.is_live() {
            let id = CallId::from(key);
            self.push_event(ServerEvent::Cancelled { id });
        }
    }

    pub(super) fn cancel_all(&mut self) {
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
        if let Kind::Http { is_head }
        | Kind::HttpStream {
            is_head,
            is_answered: false,
        } = stream.ext.kind
        {
            self.send_response(key, response, is_head);
        }
    }

    pub(crate) fn start_response(&mut self, id: CallId, response: HttpResponse) {
        let key = Key::from(id);
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        let Kind::HttpStream {
            is_answered: is_answered @ false,
            ..
        } = &mut stream.ext.kind
        else {
            return;
        };
        *is_answered = true;
        self.h2
            .send_head(key, |push| request::push_streamed_response(&response, push));
        self.push_body(id, response.body);
    }

    pub(crate) fn push_body(&mut self, id: CallId, piece: Bytes) {
        let key = Key::from(id);
        let Some(stream) = self.h2.streams.get(key) else {
            return;
        };
        let Kind::HttpStream {
            is_answered: true,
            is_head,
        } = stream.ext.kind
        else {
            return;
        };
        if is_head {
            return;
        }
        if self.h2.queued_len() > self.limits.output_overrun_bytes_max {
            return self.give_up(key);
        }
        self.h2.send_data(key, None, piece, true);
    }

    pub(crate) fn end_response(&mut self, id: CallId) {
        let key = Key::from(id);
        let Some(stream) = self.h2.streams.get_mut(key) else {
            return;
        };
        if let Kind::HttpStream {
            is_answered: true, ..
        } = stream.ext.kind
        {
            stream.ext.kind = Kind::Finished;
            self.h2.send_end(key, |_| {});
        }
    }

    pub(super) fn send_response(&mut self, key: Key, response: HttpResponse, is_head: bool) {
        self.set_kind(key, Kind::Finished);
        self.h2
            .send_head(key, |push| request::push_response(&response, push));
        if !is_head {
            self.h2.send_data(key, None, response.body, true);
        }
        self.h2.send_end(key, |_| {});
    }
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
