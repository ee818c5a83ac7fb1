//! One watcher: what it watches, and how far it has got.

use std::sync::Arc;

use proto::etcdserverpb::WatchCreateRequest;
use proto::etcdserverpb::watch_create_request::FilterType;

use super::StreamNo;
use super::group::GroupNo;
use super::lane::LaneNo;
use crate::index::KeyRange;

/// Position of a watcher in the hub.
pub(super) type WatcherNo = u32;

/// In which form a watcher wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form(pub(super) u8);

const NO_PUT: u8 = 1;
const NO_DELETE: u8 = 2;
const PREV_KV: u8 = 4;
const FRAGMENT: u8 = 8;

impl Form {
    pub(super) fn of(request: &WatchCreateRequest) -> Self {
        let mut bits = 0;
        for filter in &request.filters {
            bits |= match FilterType::try_from(*filter) {
                Ok(FilterType::Noput) => NO_PUT,
                Ok(FilterType::Nodelete) => NO_DELETE,
                // etcd passes over those that it does not know.
                Err(_) => 0,
            };
        }
        bits |= if request.prev_kv { PREV_KV } else { 0 };
        bits |= if request.fragment { FRAGMENT } else { 0 };
        Form(bits)
    }

    pub(super) fn takes(self, is_deletion: bool) -> bool {
        self.0 & (if is_deletion { NO_DELETE } else { NO_PUT }) == 0
    }

    pub(super) fn prev_kv(self) -> bool {
        self.0 & PREV_KV != 0
    }

    pub(super) fn fragment(self) -> bool {
        self.0 & FRAGMENT != 0
    }
}

/// Where a watcher gets its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It goes with a lane, and has been told all that this has done.
    On(LaneNo, GroupNo),
    /// It waits for a lane.
    Waiting,
    /// Its stream has no room.
    Parked,
    /// What it would be told next is compacted. Its id stays taken until it is cancelled, as in etcd.
    Compacted,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: StreamNo,
    pub(super) id: i64,
    /// While it is on a lane, that of its group.
    pub(super) range: Arc<KeyRange>,
    /// As asked for; 0 is none.
    pub(super) start: i64,
    /// It is told nothing before this revision. Its cursor, unless it is on a lane.
    pub(super) next: i64,
    pub(super) form: Form,
    pub(super) place: Place,
    /// Wants to hear now and then how far it is.
    pub(super) wants_notices: bool,
    /// Was told nothing since the last such notice was due.
    pub(super) is_quiet: bool,
}

/// What a watcher costs beside its keys: itself, its group and its places in tables and sets, with their slack.
const WATCHER_BYTES: usize = 640;

impl Watcher {
    /// Bytes that it counts for.
    pub(super) fn cost(&self) -> usize {
        WATCHER_BYTES
            + match &*self.range {
                KeyRange::Point(key) => key.len(),
                KeyRange::Span { start, end } => {
                    start.len() + end.as_ref().map_or(0, bytes::Bytes::len)
                }
            }
    }
}
