//! What shards say to each other: questions to the log shard, and its answers.
//!
//! They travel in batches, at most one a loop turn each way, because waking another core costs as much as several
//! requests.

use bytes::Bytes;
use driver::DetachedStream;
use net::grpc::Status;
use net::http::{HttpRequest, HttpResponse};
use proto::etcdserverpb::InternalRaftRequest;

use super::Role;
use super::images::Imaged;
use super::listener::Entrance;
use super::renewals::Renewed;
use super::waiter::{Fresh, Outcome};
use crate::method::MethodNo;

/// Position of a shard in the fleet; 0 is the log shard.
pub(crate) type ShardNo = usize;

/// Names a question of one shard; never used again by it.
pub(crate) type Ticket = u64;

/// A question to the log shard.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Propose it; it was checked as far as a front can.
    Propose(Box<InternalRaftRequest>),
    /// Serve a whole call that only the node can answer.
    Call { method: MethodNo, payload: Bytes },
    /// Serve a plain HTTP request.
    Http { role: Role, request: HttpRequest },
    /// Renew these leases.
    Renew(Vec<i64>),
    /// Give an image of the store with all that is applied now.
    Image,
    /// Tell when a View is there that is no older than this question.
    Fresh,
    /// The backend has no room for a request: raise the alarm.
    RaiseSpaceAlarm,
}

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    Outcome(Outcome),
    Message(Result<Bytes, Status>),
    Http(HttpResponse),
    Fresh(Fresh),
    Renewed(Renewed),
    Image(Imaged),
    /// The alarm is under way.
    Noted,
}

/// All questions of one turn.
#[derive(Debug)]
pub(crate) struct AskBatch {
    pub(super) from: ShardNo,
    pub(super) asks: Vec<(Ticket, Ask)>,
}

/// What the log shard sends to another one.
#[derive(Debug)]
pub(crate) enum ToShard {
    /// All answers of one turn.
    Answers(Vec<(Ticket, Answer)>),
    /// Serve this connection.
    Connection(DetachedStream, Entrance),
    /// There is a newer View, and watches that may have to hear of it.
    NewView,
    /// Finish the connections, then end.
    Drain,
}

/// What a question of this many bytes counts against [`super::link::IN_FLIGHT_SIZE_BYTES_MAX`].
pub(super) const fn cost_bytes(len: usize) -> usize {
    len.saturating_add(ASK_OVERHEAD_BYTES)
}

/// The question itself and whoever waits for its answer.
const ASK_OVERHEAD_BYTES: usize = 512;
