//! One executor's share of the server.
//!
//! ```text
//!  listener --> connection (read task, write task, timer task)
//!                   |  calls                       ^ responses
//!                   v                              |
//!               services  -- reads --> View        |
//!                   |  proposals                   |
//!                   v                              |
//!               log shard: Node <--> disk  -- replies
//! ```
//!
//! Everything here lives on one core and is shared by `Rc`. No `RefCell` is borrowed across an await.

mod connection;
mod connections;
mod count;
mod listener;
mod log;
mod waiter;

pub(crate) use connection::{Connection, HttpReply, ReplyTo};
pub(crate) use listener::{Role, listen};
pub(crate) use log::{LogShard, Read};
pub(crate) use waiter::{Outcome, Waiter};
