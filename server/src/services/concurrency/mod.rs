//! Lock and Election: what `clientv3/concurrency` does, done by the server for clients that have no such library.
//!
//! ```text
//!   name/<lease>   one key for each who wants the lock or the lead; the oldest key has it
//!
//!   Lock, Campaign    put the own key; while there is an older one: wait until the youngest of those is deleted
//!   Unlock, Resign    delete the key
//!   Observe           tell the oldest key, then what is put to it; when it is deleted begin again
//! ```
//!
//! etcd runs a client of its own inside the server for this, and so do these services: [`client`] makes transactions,
//! reads and watches as any client could, with the same checks. So a refusal is what such a client hands out: the text
//! of the catalogue, with the code Unknown.
//!
//! What holds:
//! - A call that waits is a task of its connection's shard with one watch, and holds nothing else of the shard; it
//!   ends with its client, and its key is deleted then.
//! - Nobody waits for more than one key, so a deletion wakes one.
//!
//! A lease that the client does not name is granted here, for [`client::SESSION_SECONDS`], and nobody keeps it alive.
//! Tested in `tests/tests/locks.rs`, which the real etcd passes too, and beside it in `tests/compat/concurrency`.

mod client;
mod election;
mod lock;
mod queue;

pub(crate) use election::{campaign, leader, observe, proclaim, resign};
pub(crate) use lock::{lock, unlock};

use prost::Message;

use super::failure::{Failure, end};
use super::respond;
use crate::shard::{ReplyTo, StreamReply};

/// Serves a unary call by a task: `work` may wait for others as long as the client does.
fn serve<M: Message>(
    reply: ReplyTo,
    work: impl AsyncFnOnce(&StreamReply) -> Result<M, Failure> + 'static,
) {
    driver::spawn(async move {
        let out = reply.into_stream();
        let answered = work(&out).await;
        let answered = answered.and_then(|message| Ok(out.send(respond::message(&message))?));
        end(out, answered);
    })
    .detach();
}
