//! Why a streamed or long answer ends before it is whole.

use engine::mvcc::RequestError;
use net::grpc::Status;

use super::refused;
use crate::shard::{Gone, StreamReply};

pub(super) enum Failure {
    Refused(Status),
    /// The client has left or stands still.
    Gone,
}

impl From<Gone> for Failure {
    fn from(Gone: Gone) -> Self {
        Failure::Gone
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Failure::Refused(refused(error))
    }
}

/// Ends a call by what became of it.
pub(super) fn end(out: StreamReply, answered: Result<(), Failure>) {
    match answered {
        Ok(()) => out.finish(&Status::OK),
        Err(Failure::Refused(status)) => out.finish(&status),
        Err(Failure::Gone) => out.give_up(),
    }
}
