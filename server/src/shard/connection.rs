//! One client connection on its core: bytes in, calls out, responses back.
//!
//! [`wire`](super::wire) has the socket. Here events become calls for the services, and what they answer goes back. A
//! response may come from any task of the executor.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use driver::{Stream, Task};
use engine::watch::StreamNo;
use net::grpc::{Code, Status};
use net::http::{HttpRequest, HttpResponse};
use net::{CallId, ServerEvent};

use super::gateway_calls::{GatewayCalls, Overflow, Sending};
use super::handshake::{self, Opened};
use super::inbox::{End, Inbox, Requests};
use super::open_calls::{Full, OpenCall, OpenCalls};
use super::reply::{HttpReply, ReplyTo};
use super::stream::Gate;
use super::wire::{self, Owner, Wire};
use super::{Entrance, Role, Shard};
use crate::errors::{self, FrontError};
use crate::gateway::{self, websocket};
use crate::http::{Admitted, Decoration, admit};
use crate::logging::http_date;
use crate::method::{self, METHODS, MethodNo, Served, Shape};
use crate::services;

/// The state that the tasks of one connection share.
pub(crate) struct Connection {
    wire: Wire,
    open: RefCell<OpenCalls>,
    role: Role,
    pub(super) shard: Rc<Shard>,
    /// Of the responses that are made while they are sent.
    gates: RefCell<HashMap<CallId, Rc<Gate>>>,
    /// Of the calls that are answered while their client goes on asking, and their methods.
    inboxes: RefCell<HashMap<CallId, (MethodNo, Rc<Inbox>)>>,
    /// Of the calls that came by the JSON gateway.
    gateway: GatewayCalls,
    /// The metadata of those whose request is not whole.
    asking: RefCell<HashMap<CallId, net::Metadata>>,
    /// The Watch calls.
    watches: RefCell<HashMap<CallId, StreamNo>>,
    /// The other streams that cannot do without a leader.
    leaning: RefCell<HashSet<CallId>>,
}

impl Connection {
    /// Serves a connection until it is over.
    pub(crate) async fn serve(shard: Rc<Shard>, stream: Stream, entrance: Entrance) {
        let stream = Rc::new(stream);
        if let Some(opened) = handshake::open(&shard, &stream, entrance.security).await {
            Self::serve_opened(&shard, stream, entrance.role, opened).await;
        }
        shard.load.on_ended();
    }

    async fn serve_opened(shard: &Rc<Shard>, stream: Rc<Stream>, role: Role, opened: Opened) {
        let (role, session, first) = match opened {
            Opened::Plain(first) => (role, None, first),
            Opened::Tls(session, first) => (role.by_tls(), Some(session), first),
        };
        let limits = Arc::clone(&shard.limits);
        let connection = Rc::new(Connection {
            open: RefCell::new(OpenCalls::new(limits.buffer_bytes_max)),
            wire: Wire::new(limits, Rc::clone(&shard.turns), session),
            role,
            shard: Rc::clone(shard),
            gates: RefCell::default(),
            inboxes: RefCell::default(),
            gateway: GatewayCalls::new(Rc::clone(&shard.gateway_held_len)),
            asking: RefCell::default(),
            watches: RefCell::default(),
            leaning: RefCell::default(),
        });
        let _registration = shard.connections.insert(&connection);
        wire::serve(Rc::clone(&connection), stream, first).await;
    }

    /// Asks the peer to finish: no new calls, those under way are answered, and those that would go on for ever end.
    pub(crate) fn shut_down(&self) {
        for (_, inbox) in self.inboxes.borrow().values() {
            inbox.end(End::Stopping);
        }
        for gate in self.gates.borrow().values() {
            gate.end(End::Stopping);
        }
        self.wire.command(|machine| machine.shut_down());
    }

    /// There has been no leader for a while: the streams end that cannot do without.
    pub(super) fn on_leaderless(&self) {
        for id in self.leaning.borrow().iter() {
            self.end_inbox(*id, End::Leaderless);
            self.end_gate(*id, End::Leaderless);
        }
    }

    /// A stream begins that cannot do without a leader.
    fn lean(&self, id: CallId) {
        if self.leaning.borrow_mut().insert(id) {
            self.shard.watches.on_leaning(true);
        }
    }

    /// A call has ended.
    fn stop_leaning(&self, id: CallId) {
        let mut leaning = self.leaning.borrow_mut();
        if !leaning.is_empty() && leaning.remove(&id) {
            self.shard.watches.on_leaning(false);
        }
    }

    // ---- calls

    /// Refuses what can be refused by its headers; the rest waits for its message.
    fn open_call(self: &Rc<Self>, id: CallId, path: &str, metadata: &net::Metadata) {
        let is_served = self.role != Role::Metrics;
        let begun = match method::find(path).filter(|_| is_served) {
            None => Err(errors::unknown_path(path)),
            Some(number) => self.begin_call(id, number, metadata),
        };
        if let Err(status) = begun {
            self.finish(id, &status);
        }
    }

    /// The same once its method is known.
    fn begin_call(
        self: &Rc<Self>,
        id: CallId,
        number: MethodNo,
        metadata: &net::Metadata,
    ) -> Result<(), Status> {
        let metrics = &self.shard.metrics;
        metrics.rpc_started(number);
        if let Err(status) = services::check_call(&self.shard, number, metadata) {
            metrics.rpc_handled(number, status.code, Duration::ZERO);
            return Err(status);
        }
        if METHODS[number].served == Some(Served::Watch) {
            let reply = self.reply_to(id, number);
            let stream = services::watch::open(&self.shard, metadata, reply);
            self.watches.borrow_mut().insert(id, stream);
            return Ok(());
        }
        if METHODS[number].shape != Shape::Unary && services::requires_leader(metadata) {
            self.lean(id);
        }
        match METHODS[number].shape {
            Shape::BidiStream => self.start_stream(id, number),
            shape => {
                if shape == Shape::Unary {
                    self.shard.on_unary_call();
                }
                self.open.borrow_mut().open(id, number);
            }
        }
        Ok(())
    }

    /// Answers a plain request, or has somebody do so.
    fn on_http(self: &Rc<Self>, id: CallId, request: HttpRequest) {
        let reply = HttpReply {
            connection: Rc::clone(self),
            id,
        };
        self.shard.ask_http(self.role, request, reply);
    }

    // ---- calls by the JSON gateway

    /// The head of a plain request whose body follows.
    fn on_http_start(self: &Rc<Self>, id: CallId, request: HttpRequest) {
        if self.role == Role::Metrics {
            return self.on_http(id, request);
        }
        let access = services::http::access(&self.shard.config, self.role);
        let refuse = |decoration: Decoration, response| {
            let date = http_date(SystemTime::now());
            self.respond(id, decoration.finish(response, &date));
        };
        let decoration = match admit(&request, access) {
            Ok(Admitted { decoration, route })
                if access.has_gateway && gateway::is_ours(&route) =>
            {
                decoration
            }
            Ok(_) => return self.on_http(id, request),
            Err((decoration, response)) => return refuse(decoration, response),
        };
        let message_len_max = self.shard.limits.message_bytes_max;
        let (begun, is_websocket) = match websocket::upgrade(&request) {
            None => (gateway::begin(&request, message_len_max), false),
            Some(Err(response)) => return refuse(decoration, response),
            Some(Ok(upgrade)) => {
                self.wire
                    .command(|machine| machine.switch_protocols(id, upgrade.response));
                (gateway::begin(&upgrade.request, message_len_max), true)
            }
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(response) if is_websocket => {
                let piece = websocket::frame(&response.body).into();
                return self.send(
                    id,
                    Sending::Part {
                        head: None,
                        piece,
                        is_end: true,
                    },
                );
            }
            Err(response) => return refuse(decoration, response),
        };
        let deadline = begun
            .timeout
            .map(|timeout| self.cut_off_later(id, timeout, gateway::timed_out()));
        let method = begun.method;
        let begins_now = METHODS[method].shape == Shape::BidiStream && !begun.intake.is_form();
        self.gateway
            .open(id, method, decoration, begun.intake, deadline);
        if is_websocket {
            self.gateway.switch(id);
        }
        if begins_now {
            if let Err(status) = self.begin_call(id, method, &begun.metadata) {
                self.finish(id, &status);
            }
        } else {
            // Its call is made when its message is here.
            self.asking.borrow_mut().insert(id, begun.metadata);
        }
    }

    /// Some of the body of a request, or its end.
    fn on_http_body(self: &Rc<Self>, id: CallId, octets: Option<&[u8]>) {
        let Some(taken) = self.gateway.take_body(id, octets) else {
            return;
        };
        if !taken.answer.is_empty() {
            self.wire
                .command(|machine| machine.push_body(id, taken.answer.into()));
        }
        if taken.is_closed {
            self.gateway.take(id);
            self.wire.command(|machine| machine.end_response(id));
            return self.drop_call(id);
        }
        let begin = || self.cut_off_later(id, self.shard.limits.http_request_timeout, stalled());
        self.gateway
            .watch_stall(id, taken.is_mid_value.then_some(begin));
        let asking = match octets {
            None => self.asking.borrow_mut().remove(&id),
            Some(_) => None,
        };
        let mut result = taken.result;
        if let (Some(metadata), Ok(()), Some((method, _))) =
            (asking, &result, self.gateway.request(id))
        {
            result = self.begin_call(id, method, &metadata);
        }
        if result.is_ok() {
            for message in taken.messages {
                self.on_message(id, message);
            }
        }
        if let Err(status) = result {
            return self.cut_off(id, &status);
        }
        let is_over = self.gateway.request(id).is_some_and(|(_, is_over)| is_over);
        let is_stream = self.inboxes.borrow().contains_key(&id);
        if octets.is_none() || (is_over && is_stream) {
            self.half_close(id);
        }
    }

    /// Ends a call of the gateway after a time, unless the task that is returned goes before.
    fn cut_off_later(self: &Rc<Self>, id: CallId, wait: Duration, status: Status) -> Task<()> {
        let connection = Rc::downgrade(self);
        driver::spawn(async move {
            driver::sleep(wait).await;
            if let Some(connection) = connection.upgrade() {
                connection.cut_off(id, &status);
            }
        })
    }

    /// Ends a call of the gateway whatever its service does.
    fn cut_off(&self, id: CallId, status: &Status) {
        if let Some(sending) = self.gateway.finish(id, status) {
            self.send(id, sending);
            self.drop_call(id);
        }
    }

    /// Does with a message what became of it at the gateway.
    fn send_by_gateway(self: &Rc<Self>, id: CallId, sending: Result<Sending, Overflow>) {
        let sent = sending.and_then(|sending| {
            self.send(id, sending);
            let queued_len = self.wire.look(|machine| machine.queued_len(id));
            self.gateway.note_queued(id, queued_len)
        });
        if sent == Err(Overflow) {
            // Not at once: whoever sends is in the middle of something.
            let cut_off = self.cut_off_later(id, Duration::ZERO, Overflow::status());
            cut_off.detach();
        }
    }

    fn send(&self, id: CallId, sending: Sending) {
        self.wire.command(|machine| match sending {
            Sending::Nothing => {}
            Sending::Whole(response) => machine.respond(id, response),
            Sending::Part {
                head,
                piece,
                is_end,
            } => {
                if let Some(head) = head {
                    machine.start_response(id, head);
                }
                machine.push_body(id, piece);
                if is_end {
                    machine.end_response(id);
                }
            }
        });
    }

    // ---- streams and messages

    /// A call whose messages are served as they come.
    fn start_stream(self: &Rc<Self>, id: CallId, method: MethodNo) {
        let inbox = Rc::new(Inbox::default());
        self.inboxes
            .borrow_mut()
            .insert(id, (method, Rc::clone(&inbox)));
        let reply = self.reply_to(id, method);
        let requests = Requests::new(Rc::clone(self), id, inbox);
        services::open_stream(&self.shard, requests, reply);
    }

    /// Hands a message to the task that serves its call; gives it back if there is none.
    fn push_request(&self, id: CallId, payload: Bytes) -> Option<Bytes> {
        let inboxes = self.inboxes.borrow();
        let Some((method, inbox)) = inboxes.get(&id) else {
            return Some(payload);
        };
        self.shard.metrics.rpc_received(*method, payload.len());
        if inbox.push(payload) {
            self.wire.command(|machine| machine.pause(id));
        }
        None
    }

    fn on_message(&self, id: CallId, payload: Bytes) {
        if let Some(stream) = self.watch_of(id) {
            let metrics = &self.shard.metrics;
            metrics.rpc_received(method::WATCH, payload.len());
            return services::watch::on_message(&self.shard, stream, payload);
        }
        let Some(payload) = self.push_request(id, payload) else {
            return;
        };
        let filled = self.open.borrow_mut().fill(id, payload);
        if let Err(full @ Full(method)) = filled {
            let status = Status::new(Code::ResourceExhausted, format!("etcore: {full}"));
            let metrics = &self.shard.metrics;
            metrics.rpc_handled(method, status.code, Duration::ZERO);
            self.finish(id, &status);
        }
    }

    /// The client has said all.
    fn half_close(self: &Rc<Self>, id: CallId) {
        let call = self.open.borrow_mut().take(id);
        match call {
            Some(call) => self.start_call(id, call),
            None => self.end_inbox(id, End::HalfClosed),
        }
    }

    /// Nobody waits for a call any more.
    fn drop_call(&self, id: CallId) {
        self.open.borrow_mut().take(id);
        self.asking.borrow_mut().remove(&id);
        self.end_inbox(id, End::Gone);
        self.end_gate(id, End::Gone);
        self.end_watch(id);
        self.stop_leaning(id);
    }

    fn start_call(self: &Rc<Self>, id: CallId, call: OpenCall) {
        let reply = self.reply_to(id, call.method);
        debug_assert!(METHODS[call.method].shape != Shape::BidiStream);
        match call.payload {
            Some(payload) => {
                self.shard.metrics.rpc_received(call.method, payload.len());
                services::dispatch(&self.shard, payload, reply);
            }
            None => reply.finish(Err(Status::new(Code::Internal, "no request message"))),
        }
    }

    fn reply_to(self: &Rc<Self>, id: CallId, method: MethodNo) -> ReplyTo {
        ReplyTo {
            connection: Rc::clone(self),
            call: id,
            method,
            started: driver::now(),
        }
    }

    // ---- watches

    fn watch_of(&self, id: CallId) -> Option<StreamNo> {
        let watches = self.watches.borrow();
        match watches.is_empty() {
            true => None,
            false => watches.get(&id).copied(),
        }
    }

    pub(super) fn forget_watch(&self, id: CallId) {
        self.watches.borrow_mut().remove(&id);
    }

    /// The client has left its Watch call, if it was one.
    fn end_watch(&self, id: CallId) {
        if let Some(stream) = self.watch_of(id) {
            let status = FrontError::WatchCanceled.status();
            self.shard.watches.close(stream, &status);
        }
    }

    // ---- responses

    /// Queues a whole message.
    pub(super) fn send_message(self: &Rc<Self>, reply: &ReplyTo, message: Bytes) {
        self.shard.metrics.rpc_sent(reply.method, message.len());
        match self.gateway.push_message(reply.call, &message) {
            Some(sending) => self.send_by_gateway(reply.call, sending),
            None => self
                .wire
                .command(|machine| machine.send_message(reply.call, message)),
        }
    }

    /// The client of a paused call may go on.
    pub(super) fn resume(&self, call: CallId) {
        self.wire.command_input(|machine| machine.resume(call));
    }

    pub(super) fn remove_inbox(&self, call: CallId) {
        self.inboxes.borrow_mut().remove(&call);
    }

    fn end_inbox(&self, call: CallId, end: End) {
        if let Some((_, inbox)) = self.inboxes.borrow().get(&call) {
            inbox.end(end);
        }
    }

    /// Queues the beginning of a message.
    pub(super) fn start_message(self: &Rc<Self>, reply: &ReplyTo, len: usize) {
        self.shard.metrics.rpc_sent(reply.method, len);
        match self.gateway.start_message(reply.call, len) {
            Some(sending) => self.send_by_gateway(reply.call, sending),
            None => self
                .wire
                .command(|machine| machine.start_message(reply.call, len)),
        }
    }

    pub(super) fn push_piece(self: &Rc<Self>, call: CallId, piece: Bytes) {
        match self.gateway.push_piece(call, &piece) {
            Some(sending) => self.send_by_gateway(call, Ok(sending)),
            None => self.wire.command(|machine| machine.push_piece(call, piece)),
        }
    }

    /// Waits until it is fair to do a piece of work for this connection.
    pub(super) async fn turn(&self) {
        drop(self.wire.turn().await);
    }

    /// Bytes queued for a call; 0 once it has ended.
    pub(super) fn queued_len(&self, call: CallId) -> usize {
        let by_gateway = self.gateway.queued_len(call);
        by_gateway.unwrap_or_else(|| self.wire.look(|machine| machine.queued_len(call)))
    }

    /// Ends a call after its messages.
    pub(super) fn finish(&self, call: CallId, status: &Status) {
        self.stop_leaning(call);
        match self.gateway.finish(call, status) {
            Some(sending) => self.send(call, sending),
            None => self.wire.command(|machine| machine.finish(call, status)),
        }
    }

    /// Answers a plain HTTP request.
    pub(super) fn respond(&self, id: CallId, response: HttpResponse) {
        self.wire.command(|machine| machine.respond(id, response));
    }

    /// Whoever streams the response of this call is told when it may go on.
    pub(super) fn add_gate(&self, call: CallId, gate: Rc<Gate>) {
        self.gates.borrow_mut().insert(call, gate);
    }

    pub(super) fn remove_gate(&self, call: CallId) {
        self.gates.borrow_mut().remove(&call);
    }

    /// Whoever makes the response of this call is told to end.
    fn end_gate(&self, call: CallId, end: End) {
        if let Some(gate) = self.gates.borrow().get(&call) {
            gate.end(end);
        }
    }

    fn open_gate(&self, call: CallId) {
        if let Some(gate) = self.gates.borrow().get(&call) {
            gate.open();
        }
    }
}

/// What a client hears that began a message and does not go on.
fn stalled() -> Status {
    Status::new(
        Code::DeadlineExceeded,
        "etcore: the rest of the request does not come",
    )
}

/// What a client of the gateway hears that closes its side and listens.
fn left() -> Status {
    Status::new(Code::Canceled, "context canceled")
}

impl Owner for Connection {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn on_event(self: &Rc<Self>, event: ServerEvent) {
        match event {
            ServerEvent::Call {
                id, path, metadata, ..
            } => {
                self.open_call(id, &String::from_utf8_lossy(&path), &metadata);
            }
            ServerEvent::Message { id, payload } => {
                self.on_message(id, payload);
            }
            ServerEvent::HalfClose { id } => match self.gateway.has(id) {
                true => self.on_http_body(id, None),
                false => self.half_close(id),
            },
            ServerEvent::Cancelled { id } => {
                self.gateway.take(id);
                self.drop_call(id);
            }
            ServerEvent::Http { id, request } => self.on_http(id, request),
            ServerEvent::HttpStart { id, request } => self.on_http_start(id, request),
            ServerEvent::HttpBody { id, octets } => self.on_http_body(id, Some(&octets)),
            ServerEvent::HttpLeft { id } => self.cut_off(id, &left()),
            ServerEvent::Writable { id } => {
                if self.gateway.has(id) {
                    self.send_by_gateway(id, Ok(Sending::Nothing));
                }
                match self.watch_of(id) {
                    Some(stream) => self.shard.watches.on_writable(stream),
                    None => self.open_gate(id),
                }
            }
        }
    }
}
