//! What the hub knows of one client's Watch call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::body::Body;
use super::watcher::WatcherNo;

/// Parts of one answer that are not sent yet.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) body: Arc<Body>,
    pub(super) id: i64,
    pub(super) next: usize,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    /// By the ids that the client knows.
    pub(super) watchers: BTreeMap<i64, WatcherNo>,
    /// The id to try first for a watcher without one.
    pub(super) next_id: i64,
    /// The client has to take something first.
    pub(super) is_full: bool,
    pub(super) is_closing: bool,
    /// Those of its watchers that have something to be told and wait for room.
    pub(super) parked: BTreeSet<WatcherNo>,
    pub(super) parts: Option<Parts>,
    /// Watchers that are not at the frontier, compacted ones too.
    pub(super) behind_count: usize,
    /// Start revisions that lay in the future.
    pub(super) future: BTreeSet<(i64, WatcherNo)>,
    /// The client has asked how far all watchers are, when this was the newest revision.
    pub(super) progress_asked: Option<i64>,
    pub(super) opened: Duration,
    /// Watchers that want notices.
    pub(super) notified_count: usize,
    /// When they get the next one; none without such watchers.
    pub(super) notice_due: Option<Duration>,
}

impl Stream {
    /// Whether a response with events may be sent.
    pub(super) fn has_room(&self) -> bool {
        !self.is_full && self.parts.is_none()
    }
}
