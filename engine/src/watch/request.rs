//! What a client asks of the hub, and the answers without events.
//!
//! Order of checks, texts and what stays silent are etcd's: contract `errors.md` section 4.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::StreamNo;
use super::hub::{FRONTIER, Hub, ResponseKind};
use super::stream::Stream;
use super::watcher::{Form, Place, Watcher, WatcherNo};
use crate::index::KeyRange;
use crate::types::Budget;
use crate::view::PinnedView;

/// The id in answers that are of no watcher, or of all.
const NO_ID: i64 = -1;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// etcd has no such bound.
const TOO_MANY: &str = "etcore: watchers take all the memory that they may";

impl Hub {
    /// A client has begun a Watch call.
    pub fn open_stream(&mut self, now: Duration) -> StreamNo {
        self.streams.insert(Stream {
            opened: now,
            ..Stream::default()
        })
    }

    /// Begins to watch, or says why not; the answer is the next response to take.
    pub fn create(
        &mut self,
        stream: StreamNo,
        request: WatchCreateRequest,
        view: &PinnedView<'_>,
        now: Duration,
    ) {
        self.raft_term = view.raft_term();
        let revision = view.revision();
        let created = match self.insert_watcher(stream, &request) {
            Ok(watcher) => watcher,
            Err(reason) => {
                let header = Some(self.header(revision));
                let refusal = WatchResponse {
                    header,
                    watch_id: NO_ID,
                    created: true,
                    canceled: true,
                    cancel_reason: reason.to_owned(),
                    ..WatchResponse::default()
                };
                return self.push_control(stream, &refusal);
            }
        };
        let Some(watcher) = created else { return };
        #[cfg(feature = "sabotage")]
        let sabotaged_start = self.sabotaged_start(request.start_revision);
        let Some(state) = self.watchers.get_mut(watcher) else {
            return;
        };
        let start = state.start;
        state.next = if start == 0 { revision + 1 } else { start };
        #[cfg(feature = "sabotage")]
        if (1..=revision).contains(&start) {
            state.next = sabotaged_start;
        }
        let (id, next) = (state.id, state.next);
        let answer = WatchResponse {
            header: Some(self.header(revision)),
            watch_id: id,
            created: true,
            ..WatchResponse::default()
        };
        self.push_control(stream, &answer);
        if start > revision
            && let Some(state) = self.streams.get_mut(stream)
        {
            state.future.insert((start, watcher));
        }
        if next < view.compact_revision() {
            self.end_compacted(watcher, view.compact_revision());
        } else {
            self.place_new(watcher, next, revision);
        }
        if request.progress_notify {
            self.schedule_notices(stream, now);
        }
    }

    /// Checks a request and enters its watcher, which has no place yet. `None`: the stream is over.
    fn insert_watcher(
        &mut self,
        stream_no: StreamNo,
        request: &WatchCreateRequest,
    ) -> Result<Option<WatcherNo>, &'static str> {
        let Some(stream) = self.streams.get_mut(stream_no) else {
            return Ok(None);
        };
        if request.start_revision < 0 {
            return Err(COMPACTED);
        }
        // Copies, because the request's bytes may be part of a long message.
        let key = match request.key.is_empty() {
            true => Bytes::from_static(b"\0"),
            false => Bytes::copy_from_slice(&request.key),
        };
        let range = KeyRange::new(&key, &Bytes::copy_from_slice(&request.range_end));
        if let KeyRange::Span { start, end } = &range
            && end.as_ref().is_some_and(|end| start >= end)
        {
            return Err(EMPTY_RANGE);
        }
        let mut id = request.watch_id;
        let mut next_id = stream.next_id;
        if id == 0 {
            while stream.watchers.contains_key(&next_id) {
                next_id += 1;
            }
            id = next_id;
            next_id += 1;
        } else if stream.watchers.contains_key(&id) {
            return Err(DUPLICATE_ID);
        }
        let watcher = Watcher {
            stream: stream_no,
            id,
            range: Arc::new(range),
            start: request.start_revision,
            next: 0,
            form: Form::of(request),
            place: Place::On(FRONTIER, 0),
            wants_notices: request.progress_notify,
            is_quiet: true,
        };
        let cost = watcher.cost();
        if self.watchers_len + cost > self.options.watchers_len_max {
            return Err(TOO_MANY);
        }
        self.watchers_len += cost;
        stream.next_id = next_id;
        stream.notified_count += usize::from(watcher.wants_notices);
        let no = self.watchers.insert(watcher);
        stream.watchers.insert(id, no);
        Ok(Some(no))
    }

    fn place_new(&mut self, watcher: WatcherNo, next: i64, revision: i64) {
        self.catch_up_idle(revision);
        if self.can_join(FRONTIER, next) {
            self.join_lane(watcher, FRONTIER);
        } else {
            self.wait(watcher);
        }
    }

    /// Ends a watcher. One that is not there is passed over in silence, as in etcd.
    pub fn cancel(&mut self, stream: StreamNo, id: i64, view: &PinnedView<'_>) {
        self.raft_term = view.raft_term();
        let state = self.streams.get(stream);
        let watcher = state.and_then(|state| state.watchers.get(&id).copied());
        let Some(watcher) = watcher else { return };
        self.remove_watcher(watcher);
        if let Some(state) = self.streams.get_mut(stream)
            && state.parts.as_ref().is_some_and(|parts| parts.id == id)
        {
            state.parts = None;
            self.on_room(stream);
        }
        let answer = WatchResponse {
            header: Some(self.header(view.revision())),
            watch_id: id,
            canceled: true,
            ..WatchResponse::default()
        };
        self.push_control(stream, &answer);
    }

    /// The client asks how far its watchers are. It is answered once all are at the frontier and have got all that was
    /// there when it asked; not at all if one of them begins in the future, or has none.
    pub fn request_progress(&mut self, stream: StreamNo, view: &PinnedView<'_>) {
        self.raft_term = view.raft_term();
        if let Some(state) = self.streams.get_mut(stream)
            && !state.watchers.is_empty()
        {
            state.progress_asked = Some(view.revision());
            self.progress_due.insert(stream);
            self.catch_up_idle(view.revision());
            self.answer_progress_of(stream);
        }
    }

    /// A frontier without watchers needs no reading to be at the newest revision.
    fn catch_up_idle(&mut self, revision: i64) {
        if let Some(lane) = self.lanes.get_mut(FRONTIER)
            && lane.groups.len() == 0
            && lane.batch.is_none()
        {
            lane.done = lane.done.max(revision);
        }
    }

    pub(super) fn answer_progress(&mut self, budget: &mut Budget) {
        let due: Vec<StreamNo> = self
            .progress_due
            .iter()
            .copied()
            .take(budget.left() + 1)
            .collect();
        for stream in due {
            budget.spend(1);
            self.answer_progress_of(stream);
        }
    }

    fn answer_progress_of(&mut self, stream: StreamNo) {
        let frontier = self.frontier();
        let Some(state) = self.streams.get_mut(stream) else {
            self.progress_due.remove(&stream);
            return;
        };
        // When this changes, it is due again.
        let is_behind = state.behind_count > 0 || !state.has_room();
        let Some(asked) = state.progress_asked.filter(|_| !is_behind) else {
            self.progress_due.remove(&stream);
            return;
        };
        if frontier < asked {
            return;
        }
        state.progress_asked = None;
        self.progress_due.remove(&stream);
        let begins_later = state
            .future
            .last()
            .is_some_and(|(start, _)| *start > frontier);
        if state.watchers.is_empty() || begins_later {
            return;
        }
        self.push_notice(stream, NO_ID);
    }

    fn push_notice(&mut self, stream: StreamNo, id: i64) {
        let answer = WatchResponse {
            header: Some(self.header(self.frontier())),
            watch_id: id,
            ..WatchResponse::default()
        };
        self.push_eventless(stream, ResponseKind::Progress, &answer);
    }

    // ---- notices that come by themselves

    /// When [`Hub::on_time`] has something to do.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.notice_times.first().map(|(due, _)| *due)
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Duration) {
        while let Some(&(due, stream)) = self.notice_times.first()
            && due <= now
        {
            self.notice_times.pop_first();
            if let Some(state) = self.streams.get_mut(stream) {
                state.notice_due = None;
                self.noticing.push_back((stream, None));
            }
            self.schedule_notices(stream, now);
        }
    }

    /// A stream's notices come at multiples of an interval of its own after its beginning, as etcd's do.
    fn schedule_notices(&mut self, stream: StreamNo, now: Duration) {
        let jitter = self.random.below(1000) as u32;
        let Some(state) = self.streams.get_mut(stream) else {
            return;
        };
        if state.notice_due.is_some() || state.notified_count == 0 || state.is_closing {
            return;
        }
        let interval = self.options.notice_interval;
        let interval = interval + interval * jitter / 10_000;
        let passed = now.saturating_sub(state.opened).as_nanos() / interval.as_nanos().max(1);
        let count = u32::try_from(passed + 1).unwrap_or(u32::MAX);
        let due = state.opened.saturating_add(interval.saturating_mul(count));
        state.notice_due = Some(due);
        self.notice_times.insert((due, stream));
    }

    /// Tells watchers how far they are that were told nothing else lately.
    pub(super) fn notice_some(&mut self, budget: &mut Budget) {
        let frontier = self.frontier();
        while !budget.is_spent()
            && let Some((stream, after)) = self.noticing.front_mut()
        {
            budget.spend(1);
            let stream_no = *stream;
            let state = self.streams.get(stream_no).filter(|s| s.has_room());
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let next = state.and_then(|s| s.watchers.range((from, Bound::Unbounded)).next());
            let Some((&id, &no)) = next else {
                self.noticing.pop_front();
                continue;
            };
            *after = Some(id);
            let Some(watcher) = self.watchers.get_mut(no) else {
                continue;
            };
            let was_quiet = std::mem::replace(&mut watcher.is_quiet, true);
            let is_there = matches!(watcher.place, Place::On(FRONTIER, _));
            if watcher.wants_notices && was_quiet && is_there && watcher.start <= frontier {
                self.push_notice(stream_no, id);
            }
        }
    }
}
