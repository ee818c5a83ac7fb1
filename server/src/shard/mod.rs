//! One executor's share of the server.
//!
//! ```text
//!      shard 0, the log shard                          shard 1, 2, ...
//!  listener -> placement ---- sockets, by mailbox -----------+
//!      |                                                     v
//!  connection (read, write, timer task)                  connection
//!      |  calls        ^ responses                         |       ^
//!      v               |                                   v       |
//!   services -- reads --> View, published by the node <-- services |
//!      |  proposals                                        | proposals, calls
//!      v                                                   v       |
//!   log shard: Node <--> disk                            link  ----+
//!      ^       `--> port -- a batch of answers a turn ------^
//!      `------------- a batch of questions a turn ----------'
//! ```
//!
//! Everything but the mailboxes, the metrics and the loads lives on one core and is shared by `Rc`. No `RefCell` is
//! borrowed across an await.

mod ask;
mod connection;
mod connections;
mod core;
mod count;
mod fleet;
mod gateway_calls;
mod handshake;
mod images;
mod inbox;
mod link;
mod listener;
mod load;
mod log;
mod lone;
mod open_calls;
mod own_watch;
mod pace;
mod placement;
mod port;
mod renewals;
mod reply;
mod space_alarm;
mod stream;
mod stretches;
mod turns;
mod versions;
mod waiter;
mod watches;
mod wire;

pub(crate) use self::core::{Equipment, Shard};
pub(crate) use connection::Connection;
pub(crate) use count::count_txn;
pub use fleet::FleetError;
pub(crate) use fleet::{Fleet, shard_count};
pub(crate) use inbox::{End, Requests};
pub(crate) use listener::{AnyListener, Entrance, Role, Security, listen};
pub(crate) use load::Load;
pub(crate) use log::{Disks, LogShard};
pub(crate) use own_watch::{OwnWatch, Unwatched};
pub(crate) use reply::{NodeHttpReply, NodeReply, ReplyTo};
pub(crate) use stream::{Gone, StreamReply};
pub(crate) use waiter::{Outcome, Waiter};
