//! Calls that came by the JSON gateway: what their services answer gathers here until they end.
//!
//! A response of plain HTTP is whole, so its memory is bounded otherwise than a gRPC answer's: all that one shard gathers
//! is at most [`HELD_LEN_MAX`]; the call that would go beyond it ends with an error.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use net::CallId;
use net::grpc::{Code, Status};
use net::http::HttpResponse;

use crate::gateway;
use crate::http::Decoration;
use crate::method::MethodNo;

/// Messages that gather for the calls of one shard. A message of the largest put takes 2 MiB, a range may take any number.
const HELD_LEN_MAX: usize = 256 << 20;

/// Those of one connection.
pub(super) struct GatewayCalls {
    calls: RefCell<HashMap<CallId, GatewayCall>>,
    /// Of the shard.
    held_len: Rc<Cell<usize>>,
}

/// One call.
pub(super) struct GatewayCall {
    method: MethodNo,
    decoration: Decoration,
    messages: Vec<Bytes>,
    /// The message that comes in pieces, and what is still to come of it.
    begun: BytesMut,
    missing_len: usize,
    own_len: usize,
    is_overflown: bool,
}

impl GatewayCalls {
    pub(super) fn new(held_len: Rc<Cell<usize>>) -> Self {
        GatewayCalls {
            calls: RefCell::default(),
            held_len,
        }
    }

    pub(super) fn open(&self, id: CallId, method: MethodNo, decoration: Decoration) {
        let call = GatewayCall {
            method,
            decoration,
            messages: Vec::new(),
            begun: BytesMut::new(),
            missing_len: 0,
            own_len: 0,
            is_overflown: false,
        };
        self.calls.borrow_mut().insert(id, call);
    }

    /// Whether a call is one of these.
    pub(super) fn has(&self, id: CallId) -> bool {
        self.with(id, |_, _| ()).is_some()
    }

    /// Does something to a call, if it is one of these.
    fn with<T>(
        &self,
        id: CallId,
        act: impl FnOnce(&mut GatewayCall, &Cell<usize>) -> T,
    ) -> Option<T> {
        let mut calls = self.calls.borrow_mut();
        if calls.is_empty() {
            return None;
        }
        calls.get_mut(&id).map(|call| act(call, &self.held_len))
    }

    /// Takes a whole message; `false`: it is none of these calls'.
    pub(super) fn push_message(&self, id: CallId, message: &Bytes) -> bool {
        let push = |call: &mut GatewayCall, held: &Cell<usize>| {
            if call.hold(message.len(), held) {
                call.messages.push(message.clone());
            }
        };
        self.with(id, push).is_some()
    }

    /// A message of `len` bytes begins; `false`: it is none of these calls'.
    pub(super) fn start_message(&self, id: CallId, len: usize) -> bool {
        let start = |call: &mut GatewayCall, held: &Cell<usize>| {
            if call.hold(len, held) {
                call.begun = BytesMut::with_capacity(len);
                call.missing_len = len;
                if len == 0 {
                    call.messages.push(Bytes::new());
                }
            }
        };
        self.with(id, start).is_some()
    }

    /// Takes a piece of the message begun; `false`: it is none of these calls'.
    pub(super) fn push_piece(&self, id: CallId, piece: &[u8]) -> bool {
        let push = |call: &mut GatewayCall, _: &Cell<usize>| {
            if call.is_overflown {
                return;
            }
            call.begun.extend_from_slice(piece);
            call.missing_len = call.missing_len.saturating_sub(piece.len());
            if call.missing_len == 0 {
                call.messages.push(std::mem::take(&mut call.begun).freeze());
            }
        };
        self.with(id, push).is_some()
    }

    /// What a maker of messages may take for queued: something, as long as there is somebody to make them for.
    pub(super) fn queued_len(&self, id: CallId) -> Option<usize> {
        self.with(id, |call, _| usize::from(!call.is_overflown))
    }

    /// The response to a call that has ended with this status; `None`: it is none of these.
    pub(super) fn finish(&self, id: CallId, status: &Status, date: &str) -> Option<HttpResponse> {
        let call = self.take(id)?;
        let overflown = Status::new(
            Code::ResourceExhausted,
            "etcore: answers of the gateway hold too much memory",
        );
        let status = if call.is_overflown {
            &overflown
        } else {
            status
        };
        let response = gateway::answer(call.method, &call.messages, status);
        Some(call.decoration.finish(response, date))
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
    /// Counts a message, if there is room for it.
    fn hold(&mut self, len: usize, held: &Cell<usize>) -> bool {
        if self.is_overflown || held.get().saturating_add(len) > HELD_LEN_MAX {
            self.is_overflown = true;
            self.messages = Vec::new();
            held.set(held.get() - std::mem::take(&mut self.own_len));
            return false;
        }
        held.set(held.get() + len);
        self.own_len += len;
        true
    }
}
