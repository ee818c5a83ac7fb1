//! Watchers: the production hub on the simulated shard, and the clients that listen to it.
//!
//! ```text
//!   node --View--> hub (engine::watch) --> queue of the stream --> client --> check::watching
//!                   ^   a slice, often far behind the node              |
//!                   `------- create, cancel, progress, close ----------'
//! ```
//!
//! A member has a hub or two ([`shard`]), each with a handle of its own, as the shards of a server have them; they end with
//! its process. A client ([`client`]) has one stream at a time and keeps its watches across streams: after a crash, or when it
//! leaves, it goes on at any member from the last revision that it saw, plus one. It reads at its own pace and sometimes
//! not at all, so queues fill up, watchers are parked and compactions overtake them.
//!
//! What clients were told is compared with what members published: [`crate::check::watching`].

pub mod client;
pub mod shard;

use std::ops::AddAssign;

/// What watchers lived through: a run in which nobody fell behind shows little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    pub created: usize,
    /// Created again on a new stream, from where they were.
    pub resumed: usize,
    pub events: usize,
    /// Streams that had no room while there was something to tell.
    pub filled: usize,
    /// Ended because their history was compacted.
    pub compacted: usize,
    /// Answers that came in several parts.
    pub split: usize,
    /// Told how far they are.
    pub progress: usize,
}

impl AddAssign<&WatchCounts> for WatchCounts {
    fn add_assign(&mut self, other: &WatchCounts) {
        self.created += other.created;
        self.resumed += other.resumed;
        self.events += other.events;
        self.filled += other.filled;
        self.compacted += other.compacted;
        self.split += other.split;
        self.progress += other.progress;
    }
}
