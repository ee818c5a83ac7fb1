//! Watch: who is told of which changes.
//!
//! ```text
//!   create, cancel, request_progress, on_full, on_writable        a View
//!                  |                                                |
//!                  v                                                v
//!    streams -> watchers -> lanes: the frontier, and some that catch up --work--> batch
//!                                                                                   |
//!    shell  <---------------------- poll_response: control first, then events ------'
//! ```
//!
//! A watcher is a range of keys and a cursor; nothing is queued for it. All watchers that are up to date share one
//! lane, the *frontier*, and with it the cursor. A watcher that has something to be told while its stream has no room
//! is *parked*: it leaves its lane and keeps a revision. When there is room again it reads the history from there,
//! together with others on a lane of their own, until it is at the frontier. So a client that stands still costs its
//! watchers' memory and nothing else, and compaction waits for nobody: a watcher whose history is gone is cancelled.
//!
//! A change is matched once for each group of watchers with the same range ([`group`]), encoded once for each form that
//! they want it in ([`body`]), and watchers of different streams that have the same id even share the response.
//!
//! The shell calls [`Hub::work`] with a View when there is a newer one, then takes all [`Hub::poll_response`]s, again
//! and again while `work` says that there is more. It tells a stream's [`Hub::on_full`] right after a response that
//! filled it, and [`Hub::on_writable`] once there is room. Both calls do a slice of bounded time.
//!
//! Invariants:
//! - a watcher is told each change of its range once, in the order of revisions, those of one revision together in one
//!   response (or in fragments, none of another watcher's between them on its stream);
//! - its `created` comes first, and nothing after its `canceled`;
//! - a progress notice says `r` only when all up to `r` was handed out before it.
//!
//! One hub lives on each shard and knows the watchers of its connections. It reads no clock and draws from a seed. What
//! it leaves out: sending, flow control, permissions. Tested against a naive twin (`tests.rs`) and beside the real etcd.

mod body;
mod group;
mod hub;
mod lane;
mod request;
mod slots;
mod spans;
mod stream;
#[cfg(test)]
mod tests;
mod watcher;

pub use body::ResponseBytes;
pub use hub::{Hub, HubOptions, Response, ResponseKind};

/// Names a client's Watch call as long as it is open.
pub type StreamNo = u32;
