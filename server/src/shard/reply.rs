//! Where answers go.
//!
//! ```text
//!  ReplyTo, HttpReply            to a connection of this executor
//!  NodeReply, NodeHttpReply      what the node's services answer: such a connection's call, or a question of
//!                                another shard, which has the connection
//! ```

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use net::CallId;
use net::grpc::Status;
use net::http::HttpResponse;

use super::connection::Connection;
use super::port::LinkReply;
use super::stream::StreamReply;
use super::waiter::Outcome;
use crate::method::MethodNo;
use crate::services;

/// Where the response of one call goes.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub(super) connection: Rc<Connection>,
    pub(super) call: CallId,
    pub(crate) method: MethodNo,
    pub(super) started: Duration,
}

impl ReplyTo {
    /// Answers the call: one message, or a status.
    pub(crate) fn finish(self, result: Result<Bytes, Status>) {
        let status = match result {
            Ok(message) => {
                self.connection.send_message(&self, message);
                Status::OK
            }
            Err(status) => status,
        };
        self.end(&status);
    }

    /// Since the request was whole.
    pub(crate) fn elapsed(&self) -> Duration {
        driver::now().saturating_sub(self.started)
    }

    /// Answers the call with what its proposal came to.
    pub(crate) fn finish_proposal(self, outcome: Outcome) {
        let elapsed = self.elapsed();
        let result =
            services::finish_proposal(outcome, &self.connection.shard, self.method, elapsed);
        self.finish(result);
    }

    /// A response in pieces.
    pub(crate) fn into_stream(self) -> StreamReply {
        StreamReply::new(self)
    }

    /// Queues one of several messages.
    pub(super) fn send(&self, message: Bytes) {
        self.connection.send_message(self, message);
    }

    /// Queues the beginning of a message.
    pub(super) fn start_message(&self, len: usize) {
        self.connection.start_message(self, len);
    }

    pub(super) fn push_piece(&self, piece: Bytes) {
        self.connection.push_piece(self.call, piece);
    }

    /// Bytes queued for the call; 0 once it has ended.
    pub(super) fn queued_len(&self) -> usize {
        self.connection.queued_len(self.call)
    }

    /// Ends a Watch call, which its connection need not remember any longer.
    pub(super) fn end_watch(&self, status: &Status) {
        self.connection.forget_watch(self.call);
        self.end(status);
    }

    /// Ends the call after its messages.
    pub(super) fn end(&self, status: &Status) {
        let elapsed = self.elapsed();
        let metrics = &self.connection.shard.metrics;
        metrics.rpc_handled(self.method, status.code, elapsed);
        self.connection.finish(self.call, status);
    }
}

/// Where the answer of a plain HTTP request goes.
pub(crate) struct HttpReply {
    pub(super) connection: Rc<Connection>,
    pub(super) id: CallId,
}

impl HttpReply {
    pub(crate) fn finish(self, response: HttpResponse) {
        self.connection.respond(self.id, response);
    }
}

/// Where a node service's answer to a call goes.
#[derive(Clone)]
pub(crate) enum NodeReply {
    Call(ReplyTo),
    Link(LinkReply),
}

impl NodeReply {
    pub(crate) fn finish(self, result: Result<Bytes, Status>) {
        match self {
            NodeReply::Call(reply) => reply.finish(result),
            NodeReply::Link(reply) => reply.finish(result),
        }
    }

    pub(super) fn finish_proposal(self, outcome: Outcome) {
        match self {
            NodeReply::Call(reply) => reply.finish_proposal(outcome),
            NodeReply::Link(reply) => reply.finish_proposal(outcome),
        }
    }
}

/// Where a node service's answer to a plain HTTP request goes.
pub(crate) enum NodeHttpReply {
    Call(HttpReply),
    Link(LinkReply),
}

impl NodeHttpReply {
    pub(crate) fn finish(self, response: HttpResponse) {
        match self {
            NodeHttpReply::Call(reply) => reply.finish(response),
            NodeHttpReply::Link(reply) => reply.respond(response),
        }
    }
}
