//! One client connection on its core: bytes in, calls out, responses back.
//!
//! Three tasks share it: one reads and hands whole calls to the services, one writes what the machine has to send, one
//! keeps its deadlines. A response may come from any task of the executor; it marks the connection and wakes the writer.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::{Notify, Stream};
use net::grpc::{Code, Status};
use net::http::HttpResponse;
use net::{CallId, ServerConnection, ServerEvent};

use super::reply::{HttpReply, ReplyTo};
use super::stream::Gate;
use super::{Role, Shard};
use crate::errors;
use crate::method::{self, METHODS, MethodNo, Shape};
use crate::services;

/// What one read takes at most: large enough for a burst of pipelined calls.
const READ_SIZE_BYTES: usize = 64 * 1024;
/// What one write carries at most; more is sent by the next one, so that calls share the connection.
const WRITE_SIZE_BYTES_MAX: usize = 256 * 1024;

/// How long a closed connection waits for the peer to have read the last words.
const LINGER: Duration = Duration::from_secs(1);

/// A call whose request is not whole yet.
struct OpenCall {
    method: MethodNo,
    payload: Option<Bytes>,
}

/// The state that the tasks of one connection share.
pub(crate) struct Connection {
    machine: RefCell<ServerConnection>,
    open: RefCell<HashMap<CallId, OpenCall>>,
    writer: Notify,
    timer: Notify,
    /// What the timer waits for.
    armed: Cell<Option<Duration>>,
    is_closed: Cell<bool>,
    role: Role,
    pub(super) shard: Rc<Shard>,
    /// Of the responses that are made while they are sent.
    gates: RefCell<HashMap<CallId, Rc<Gate>>>,
}

impl Connection {
    /// Serves a connection until it is over.
    pub(crate) async fn serve(shard: Rc<Shard>, stream: Stream, role: Role) {
        let limits = Arc::clone(&shard.limits);
        let connection = Rc::new(Connection {
            machine: RefCell::new(ServerConnection::new(limits, driver::now())),
            open: RefCell::new(HashMap::new()),
            writer: Notify::new(),
            timer: Notify::new(),
            armed: Cell::new(None),
            is_closed: Cell::new(false),
            role,
            shard: Rc::clone(&shard),
            gates: RefCell::default(),
        });
        let _registration = shard.connections.insert(&connection);
        let stream = Rc::new(stream);
        let reader = driver::spawn(Rc::clone(&connection).read_all(Rc::clone(&stream)));
        let timer = driver::spawn(Rc::clone(&connection).keep_time());
        Rc::clone(&connection).write_all(&stream).await;
        drop(timer);
        // Closing over unread bytes would send a reset, which can overtake the last words. The peer closes when it has
        // read them; a socket that is gone already needs none of this.
        let _ = stream.shutdown_write();
        let _ = driver::timeout(LINGER, reader).await;
        let _ = stream.shutdown();
        shard.load.on_ended();
    }

    /// Asks the peer to finish: no new calls, those under way are answered.
    pub(crate) fn shut_down(&self) {
        self.machine.borrow_mut().shut_down();
        self.writer.notify();
    }

    /// Reads until the peer is done; once the connection is closed, only to see that.
    async fn read_all(self: Rc<Self>, stream: Rc<Stream>) {
        let mut buffer = Vec::with_capacity(READ_SIZE_BYTES);
        loop {
            buffer.clear();
            let (result, back) = stream.read(buffer).await;
            buffer = back;
            if !self.is_closed.get() {
                self.on_read(&result, &buffer);
            }
            if !matches!(result, Ok(1..)) {
                return;
            }
        }
    }

    fn on_read(self: &Rc<Self>, result: &io::Result<usize>, bytes: &[u8]) {
        {
            let mut machine = self.machine.borrow_mut();
            machine.on_time(driver::now());
            match result {
                Ok(0) => machine.on_eof(),
                Ok(_) => machine.on_bytes(bytes),
                Err(_) => machine.on_lost(),
            }
        }
        self.handle_events();
        self.writer.notify();
    }

    /// Writes what there is until the connection is finished or lost.
    async fn write_all(self: Rc<Self>, stream: &Stream) {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            self.machine
                .borrow_mut()
                .poll_transmit(&mut buffer, WRITE_SIZE_BYTES_MAX);
            if buffer.is_empty() {
                if self.machine.borrow().is_finished() {
                    break;
                }
                self.writer.notified().await;
                continue;
            }
            let (result, back) = stream.write_all(buffer).await;
            buffer = back;
            if result.is_err() {
                self.machine.borrow_mut().on_lost();
                self.handle_events();
                break;
            }
            // What was queued may have made a streamed call writable again.
            self.handle_events();
        }
        self.is_closed.set(true);
    }

    /// Tells the machine when a time comes that it asked for.
    async fn keep_time(self: Rc<Self>) {
        loop {
            let next = self.machine.borrow().next_timeout();
            self.armed.set(next);
            let Some(at) = next else {
                self.timer.notified().await;
                continue;
            };
            let wait = at.saturating_sub(driver::now());
            if driver::timeout(wait, self.timer.notified()).await.is_err() {
                self.machine.borrow_mut().on_time(driver::now());
                self.handle_events();
                self.writer.notify();
            }
        }
    }

    fn handle_events(self: &Rc<Self>) {
        loop {
            let event = self.machine.borrow_mut().poll_event();
            match event {
                Some(event) => self.on_event(event),
                None => break,
            }
        }
        // Most deadlines lie behind the one that the timer waits for already.
        let next = self.machine.borrow().next_timeout();
        if next.is_some_and(|next| self.armed.get().is_none_or(|armed| next < armed)) {
            self.timer.notify();
        }
    }

    fn on_event(self: &Rc<Self>, event: ServerEvent) {
        match event {
            ServerEvent::Call {
                id, path, metadata, ..
            } => {
                self.open_call(id, &String::from_utf8_lossy(&path), &metadata);
            }
            ServerEvent::Message { id, payload } => {
                if let Some(call) = self.open.borrow_mut().get_mut(&id) {
                    call.payload.get_or_insert(payload);
                }
            }
            ServerEvent::HalfClose { id } => {
                let call = self.open.borrow_mut().remove(&id);
                if let Some(call) = call {
                    self.start_call(id, call);
                }
            }
            ServerEvent::Cancelled { id } => {
                self.open.borrow_mut().remove(&id);
                self.open_gate(id);
            }
            ServerEvent::Http { id, request } => {
                let reply = HttpReply {
                    connection: Rc::clone(self),
                    id,
                };
                self.shard.ask_http(self.role, request, reply);
            }
            ServerEvent::Writable { id } => self.open_gate(id),
        }
    }

    /// Refuses what can be refused by its headers; the rest waits for its message.
    fn open_call(&self, id: CallId, path: &str, metadata: &net::Metadata) {
        let refusal = match method::find(path) {
            None => Some(errors::unknown_path(path)),
            Some(number) => {
                self.shard.metrics.rpc_started(number);
                let refused = services::check_call(&self.shard, number, metadata).err();
                if let Some(status) = &refused {
                    self.shard
                        .metrics
                        .rpc_handled(number, status.code, Duration::ZERO);
                } else {
                    let call = OpenCall {
                        method: number,
                        payload: None,
                    };
                    self.open.borrow_mut().insert(id, call);
                }
                refused
            }
        };
        if let Some(status) = refusal {
            self.machine.borrow_mut().finish(id, &status);
            self.writer.notify();
        }
    }

    fn start_call(self: &Rc<Self>, id: CallId, call: OpenCall) {
        let reply = ReplyTo {
            connection: Rc::clone(self),
            call: id,
            method: call.method,
            started: driver::now(),
        };
        debug_assert!(METHODS[call.method].shape != Shape::BidiStream);
        match call.payload {
            Some(payload) => {
                self.shard.metrics.rpc_received(call.method, payload.len());
                services::dispatch(&self.shard, payload, reply);
            }
            None => reply.finish(Err(Status::new(Code::Internal, "no request message"))),
        }
    }

    // ---- responses

    /// Queues a whole message.
    pub(super) fn send_message(&self, reply: &ReplyTo, message: Bytes) {
        self.shard.metrics.rpc_sent(reply.method, message.len());
        self.machine.borrow_mut().send_message(reply.call, message);
        self.writer.notify();
    }

    /// Queues the beginning of a message.
    pub(super) fn start_message(&self, reply: &ReplyTo, len: usize) {
        self.shard.metrics.rpc_sent(reply.method, len);
        self.machine.borrow_mut().start_message(reply.call, len);
        self.writer.notify();
    }

    pub(super) fn push_piece(&self, call: CallId, piece: Bytes) {
        self.machine.borrow_mut().push_piece(call, piece);
        self.writer.notify();
    }

    /// Bytes queued for a call; 0 once it has ended.
    pub(super) fn queued_len(&self, call: CallId) -> usize {
        self.machine.borrow().queued_len(call)
    }

    /// Ends a call after its messages.
    pub(super) fn finish(&self, call: CallId, status: &Status) {
        self.machine.borrow_mut().finish(call, status);
        self.writer.notify();
    }

    /// Answers a plain HTTP request.
    pub(super) fn respond(&self, id: CallId, response: HttpResponse) {
        self.machine.borrow_mut().respond(id, response);
        self.writer.notify();
    }

    /// Whoever streams the response of this call is told when it may go on.
    pub(super) fn add_gate(&self, call: CallId, gate: Rc<Gate>) {
        self.gates.borrow_mut().insert(call, gate);
    }

    pub(super) fn remove_gate(&self, call: CallId) {
        self.gates.borrow_mut().remove(&call);
    }

    fn open_gate(&self, call: CallId) {
        if let Some(gate) = self.gates.borrow().get(&call) {
            gate.open();
        }
    }
}
