//! Auth, as far as it goes while nobody has to say who he is: a database with authentication on is refused at the
//! start.
//!
//! Clients that are configured with a user's name ask for a token first and go on without one when they hear that none
//! is needed; any other error ends them. Users and roles are left out.

use std::rc::Rc;

use bytes::Bytes;
use net::grpc::Status;
use proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthStatusRequest, AuthStatusResponse,
    AuthenticateRequest, ResponseHeader,
};

use super::respond;
use crate::errors::FrontError;
use crate::shard::{LogShard, NodeReply};

/// There are no tokens to be had.
pub(crate) fn authenticate(log: &Rc<LogShard>, _request: AuthenticateRequest, reply: NodeReply) {
    answer(log, reply, |_| Err(FrontError::AuthNotEnabled.status()));
}

/// Off, and how often users and roles changed so far.
pub(crate) fn status(log: &Rc<LogShard>, _request: AuthStatusRequest, reply: NodeReply) {
    answer(log, reply, |log| {
        Ok(respond::message(&AuthStatusResponse {
            header: Some(newest_header(log)),
            enabled: false,
            auth_revision: log.with_node(|node| node.view().auth_revision()),
        }))
    });
}

/// What is off stays off; that is no error.
pub(crate) fn disable(log: &Rc<LogShard>, _request: AuthDisableRequest, reply: NodeReply) {
    answer(log, reply, |log| {
        Ok(respond::message(&AuthDisableResponse {
            header: Some(newest_header(log)),
        }))
    });
}

/// Answers once this member knows all that was acknowledged before.
fn answer(
    log: &Rc<LogShard>,
    reply: NodeReply,
    make: impl FnOnce(&LogShard) -> Result<Bytes, Status> + 'static,
) {
    let asked = Rc::clone(log);
    log.when_fresh(false, move |fresh| {
        let result = fresh.map_err(FrontError::status);
        reply.finish(result.and_then(|()| make(&asked)));
    });
}

fn newest_header(log: &LogShard) -> ResponseHeader {
    log.header(log.with_node(|node| node.view().revision()))
}
