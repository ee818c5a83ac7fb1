//! Peers that begin and do not go on: a frame of which the rest does not come, an answer that is not read.
//!
//! Neither costs more than [`Limits`] allows, but what it costs would be kept for ever: a peer that pings us, or whose
//! socket acknowledges, is alive for the keep-alive.

use std::time::Duration;

use crate::h2::Connection;
use crate::limits::Limits;

/// Since when nothing went on.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// A frame or header block has begun and is not whole.
    unfinished_since: Option<Duration>,
    /// How many of them had begun then.
    blocks: u64,
    /// An answer waits to be taken.
    unread_since: Option<Duration>,
    /// How many HEADERS and DATA frames were taken by then.
    work_frames: u64,
}

impl Stalls {
    /// Input was read.
    pub(super) fn on_read<X: Default>(&mut self, h2: &Connection<X>, now: Duration) {
        if !h2.is_mid_block() {
            self.unfinished_since = None;
        } else if self.unfinished_since.is_none() || self.blocks != h2.block_count() {
            self.unfinished_since = Some(now);
            self.blocks = h2.block_count();
        }
    }

    /// Output was asked for; perhaps some was there.
    pub(super) fn on_transmit<X: Default>(&mut self, h2: &Connection<X>, now: Duration) {
        if !h2.has_output() {
            self.unread_since = None;
        } else if self.unread_since.is_none() || self.work_frames != h2.work_frames() {
            self.unread_since = Some(now);
            self.work_frames = h2.work_frames();
        }
    }

    /// Time passed. `true`: the peer had its time.
    #[must_use]
    pub(super) fn on_time<X: Default>(
        &mut self,
        h2: &Connection<X>,
        now: Duration,
        limits: &Limits,
    ) -> bool {
        // What came since may have ended the wait.
        if !h2.is_mid_block() {
            self.unfinished_since = None;
        }
        self.on_transmit(h2, now);
        let is_due = |since: Option<Duration>, limit: Duration| {
            since.is_some_and(|since| now >= since.saturating_add(limit))
        };
        is_due(self.unfinished_since, limits.block_timeout)
            || is_due(self.unread_since, limits.unread_timeout)
    }

    /// When `on_time` has something to do.
    pub(super) fn next_timeout<X: Default>(
        &self,
        h2: &Connection<X>,
        now: Duration,
        limits: &Limits,
    ) -> Option<Duration> {
        let unfinished = self.unfinished_since.filter(|_| h2.is_mid_block());
        let unfinished = unfinished.map(|since| since.saturating_add(limits.block_timeout));
        let unread = h2.has_output().then(|| self.unread_since.unwrap_or(now));
        let unread = unread.map(|since| since.saturating_add(limits.unread_timeout));
        [unfinished, unread].into_iter().flatten().min()
    }
}
