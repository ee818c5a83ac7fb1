//! The hub: moves watchers between lanes, and hands out what they are told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::{ResponseHeader, WatchResponse};

use super::StreamNo;
use super::body::{Meter, ResponseBytes};
use super::group::{GroupNo, Member};
use super::lane::{Gathered, Lane, LaneNo};
use super::slots::Slots;
use super::stream::{Parts, Stream};
use super::watcher::{Place, Watcher, WatcherNo};
use crate::mvcc::RequestError;
use crate::random::SplitMix64;
use crate::types::Budget;
use crate::view::PinnedView;

/// The lane of those who are up to date.
pub(super) const FRONTIER: LaneNo = 0;

/// Lanes that catch up at a time. Each reads the history by itself, so few are better than many; but one that has begun
/// far back must not delay the others.
const CATCHING_UP_MAX: usize = 4;
/// A watcher joins a lane that is so many revisions behind it, rather than to begin another one.
const NEAR_REVISIONS: i64 = 4096;
/// Members that one call of [`Hub::poll_response`] passes over.
const PASSED_MAX: usize = 64;

/// Responses without events that room is kept for.
const CONTROL_KEPT: usize = 256;

/// What a hub must know.
#[derive(Clone, Debug)]
pub struct HubOptions {
    pub cluster_id: u64,
    pub member_id: u64,
    /// A response of this length is split if its watcher allows it.
    pub fragment_len: usize,
    /// What all watchers may take, roughly.
    pub watchers_len_max: usize,
    /// Between two progress notices; they come up to a tenth later.
    pub notice_interval: Duration,
    /// For how much later.
    pub seed: u64,
}

/// What a response is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    Events,
    /// The answer to a creation or a cancellation, or an end.
    Control,
    /// How far a watcher or a stream is.
    Progress,
}

/// A response that is to be sent next on its stream.
#[derive(Clone, Debug)]
pub struct Response {
    pub stream: StreamNo,
    pub kind: ResponseKind,
    pub bytes: ResponseBytes,
    pub event_count: usize,
}

/// See the module [`super`].
#[derive(Debug)]
pub struct Hub {
    pub(super) options: HubOptions,
    pub(super) watchers: Slots<Watcher>,
    pub(super) streams: Slots<Stream>,
    /// The frontier and those that catch up.
    pub(super) lanes: Slots<Lane>,
    catching_up: VecDeque<LaneNo>,
    /// Watchers that wait for a lane, by the revision that they need next.
    pub(super) waiting: BTreeSet<(i64, WatcherNo)>,
    /// Responses without events.
    control: VecDeque<Response>,
    /// Streams that have room for the next part of an answer.
    resuming: VecDeque<StreamNo>,
    /// Streams that have room and parked watchers.
    thawing: VecDeque<StreamNo>,
    /// Streams that are over and still have watchers.
    closing: VecDeque<StreamNo>,
    /// Streams whose request for progress may be answered.
    pub(super) progress_due: BTreeSet<StreamNo>,
    /// When streams get notices.
    pub(super) notice_times: BTreeSet<(Duration, StreamNo)>,
    /// Streams that get notices now, and the watcher that got the last one.
    pub(super) noticing: VecDeque<(StreamNo, Option<i64>)>,
    /// Bytes that all watchers count for.
    pub(super) watchers_len: usize,
    /// Of long responses.
    meter: Meter,
    /// Watchers that catch up, or would.
    slow_count: usize,
    /// As of the newest View seen.
    pub(super) raft_term: u64,
    pub(super) random: SplitMix64,
    #[cfg(feature = "sabotage")]
    sabotage: Option<crate::view::Sabotage>,
}

impl Hub {
    /// A hub that begins behind the state of `view`.
    pub fn new(options: HubOptions, view: &PinnedView<'_>) -> Self {
        let (mut lanes, meter) = (Slots::default(), Meter::default());
        let first = lanes.insert(Lane::new(view.revision(), true, &meter));
        debug_assert_eq!(first, FRONTIER);
        Hub {
            random: SplitMix64(options.seed),
            options,
            watchers: Slots::default(),
            streams: Slots::default(),
            lanes,
            catching_up: VecDeque::new(),
            waiting: BTreeSet::new(),
            control: VecDeque::new(),
            resuming: VecDeque::new(),
            thawing: VecDeque::new(),
            closing: VecDeque::new(),
            progress_due: BTreeSet::new(),
            notice_times: BTreeSet::new(),
            noticing: VecDeque::new(),
            watchers_len: 0,
            meter,
            slow_count: 0,
            raft_term: view.raft_term(),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// Plants a bug, for the simulator.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, sabotage: crate::view::Sabotage) {
        self.sabotage = Some(sabotage);
    }

    /// Where a watcher with this start revision, which is not in the future, really starts.
    #[cfg(feature = "sabotage")]
    pub(super) fn sabotaged_start(&self, start: i64) -> i64 {
        match self.sabotage {
            Some(crate::view::Sabotage::WatchEarly) => start - 1,
            Some(crate::view::Sabotage::WatchLate) => start + 1,
            _ => start,
        }
    }

    /// Watchers of all streams, compacted ones too, as etcd counts them.
    pub fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    /// Watchers that are not at the frontier.
    pub fn slow_watcher_count(&self) -> usize {
        self.slow_count
    }

    /// Bytes of the long responses that are not sent wholly. Streams that are told the same share them; a client that stands
    /// still in the middle of one keeps it, which is for the shell to bound.
    pub fn held_len(&self) -> usize {
        self.meter.len()
    }

    pub fn stream_count(&self) -> usize {
        self.streams.len() - self.closing.len()
    }

    /// All up-to-date watchers have been told all up to here.
    pub fn frontier(&self) -> i64 {
        self.lane(FRONTIER).map_or(0, |lane| lane.done)
    }

    // ---- inputs

    /// A response has filled its stream: nothing with events comes before [`Hub::on_writable`].
    pub fn on_full(&mut self, stream: StreamNo) {
        if let Some(state) = self.streams.get_mut(stream) {
            state.is_full = true;
        }
    }

    /// A stream has room again.
    pub fn on_writable(&mut self, stream: StreamNo) {
        if let Some(state) = self.streams.get_mut(stream) {
            state.is_full = false;
            self.on_room(stream);
        }
    }

    /// Goes on with what waited for room.
    pub(super) fn on_room(&mut self, stream: StreamNo) {
        let Some(state) = self.streams.get(stream) else {
            return;
        };
        if state.parts.is_some() {
            self.resuming.push_back(stream);
            return;
        }
        if !state.parked.is_empty() {
            self.thawing.push_back(stream);
        }
        if state.progress_asked.is_some() {
            self.progress_due.insert(stream);
        }
    }

    // ---- work

    /// Does a slice of what there is to do. True: there is more, or there are responses to take.
    ///
    /// # Errors
    /// [`RequestError::Damaged`]: the member stops.
    pub fn work(
        &mut self,
        view: &PinnedView<'_>,
        budget: &mut Budget,
    ) -> Result<bool, RequestError> {
        self.raft_term = view.raft_term();
        self.close_some(budget);
        self.thaw_some(budget);
        self.admit_some(view, budget);
        let mut for_frontier = budget.apart(budget.left() / 2 + 1);
        self.turn_lane(FRONTIER, view, &mut for_frontier)?;
        // Who catches up has as much time as those at the frontier.
        *budget = budget.anew(budget.left());
        self.catch_up(view, budget)?;
        self.answer_progress(budget);
        self.notice_some(budget);
        Ok(self.has_more(view))
    }

    fn has_more(&self, view: &PinnedView<'_>) -> bool {
        let is_behind = |lane: &Lane| lane.batch.is_some() || lane.done < view.revision();
        !self.control.is_empty()
            || !self.resuming.is_empty()
            || !self.thawing.is_empty()
            || !self.closing.is_empty()
            || !self.waiting.is_empty()
            || !self.catching_up.is_empty()
            || !self.noticing.is_empty()
            || self.lane(FRONTIER).is_some_and(is_behind)
    }

    /// Reads on, matches, and gets ready what is to be told.
    fn turn_lane(
        &mut self,
        no: LaneNo,
        view: &PinnedView<'_>,
        budget: &mut Budget,
    ) -> Result<(), RequestError> {
        let header = self.header(view.revision());
        let fragment_len = self.options.fragment_len;
        while !budget.is_spent() {
            let Some(lane) = self.lanes.get_mut(no) else {
                return Ok(());
            };
            if lane.is_leaving {
                self.disband(no, view.compact_revision(), budget);
                return Ok(());
            }
            if lane.groups.len() == 0 {
                // Nobody is told, so nothing need be read.
                lane.batch = None;
                lane.done = lane.done.max(view.revision());
                return Ok(());
            }
            if lane.fan().is_some() {
                lane.build(view, fragment_len, budget)?;
                if lane.fan().is_some_and(|fan| fan.body.is_some()) {
                    return Ok(());
                }
            } else if lane.batch.is_none() && lane.done >= view.revision() {
                return Ok(());
            } else {
                match lane.gather(view, header, budget)? {
                    Gathered::More => return Ok(()),
                    Gathered::Whole => {}
                    Gathered::Compacted => lane.is_leaving = true,
                }
            }
        }
        Ok(())
    }

    /// Each lane that catches up gets a share, and ends at the frontier.
    fn catch_up(&mut self, view: &PinnedView<'_>, budget: &mut Budget) -> Result<(), RequestError> {
        for _ in 0..self.catching_up.len() {
            let Some(no) = self.catching_up.pop_front() else {
                break;
            };
            let mut share = budget.apart(budget.left() / CATCHING_UP_MAX + 1);
            self.turn_lane(no, view, &mut share)?;
            self.merge(no, &mut share);
            if self.lane(no).is_some_and(|lane| lane.groups.len() > 0) {
                self.catching_up.push_back(no);
            } else {
                self.lanes.remove(no);
            }
        }
        Ok(())
    }

    /// Moves members to the frontier, if the lane has got there.
    fn merge(&mut self, no: LaneNo, budget: &mut Budget) {
        loop {
            let Some(lane) = self.lanes.get_mut(no) else {
                return;
            };
            if lane.batch.is_some() || lane.is_leaving || budget.is_spent() {
                return;
            }
            let next = lane.done + 1;
            let Some((_, member)) = lane.groups.any() else {
                return;
            };
            if !self.can_join(FRONTIER, next) {
                return;
            }
            budget.spend(2);
            #[cfg(feature = "sabotage")]
            let next = next + i64::from(self.sabotage == Some(crate::view::Sabotage::WatchGap));
            self.leave_lane(member.watcher, next);
            self.join_lane(member.watcher, FRONTIER);
        }
    }

    /// Its history is compacted: each member looks for another lane, and is cancelled if it needs what is gone.
    fn disband(&mut self, no: LaneNo, compact_revision: i64, budget: &mut Budget) {
        while !budget.is_spent() {
            let Some(lane) = self.lanes.get_mut(no) else {
                return;
            };
            let next = lane.done + 1;
            let Some((_, member)) = lane.groups.any() else {
                // Those who come back need nothing from before.
                lane.done = lane.done.max(compact_revision - 1);
                lane.is_leaving = false;
                return;
            };
            budget.spend(2);
            self.leave_lane(member.watcher, next);
            self.wait(member.watcher);
        }
    }

    /// Gives waiting watchers a lane, or cancels them.
    fn admit_some(&mut self, view: &PinnedView<'_>, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some(&(next, watcher)) = self.waiting.first()
        {
            budget.spend(2);
            if !view.has_changes_from(next) {
                self.waiting.pop_first();
                match self.has_parts(watcher) {
                    // Its end comes behind what it is being told.
                    true => self.park(watcher),
                    false => self.end_compacted(watcher, view.compact_revision()),
                }
                continue;
            }
            let Some(lane) = self.lane_for(next) else {
                return;
            };
            self.waiting.pop_first();
            self.join_lane(watcher, lane);
        }
    }

    fn has_parts(&self, no: WatcherNo) -> bool {
        let watcher = self.watchers.get(no);
        let stream = watcher.and_then(|watcher| self.streams.get(watcher.stream));
        let parts = stream.and_then(|stream| stream.parts.as_ref());
        parts.is_some_and(|parts| watcher.is_some_and(|watcher| watcher.id == parts.id))
    }

    /// The best lane for one who needs `next`; `None`: it has to wait for a place.
    fn lane_for(&mut self, next: i64) -> Option<LaneNo> {
        if self.can_join(FRONTIER, next) {
            return Some(FRONTIER);
        }
        let joinable = |no: &LaneNo| Some((self.lane(*no)?.joinable_from()?, *no));
        let best = self.catching_up.iter().filter_map(joinable);
        let best = best.filter(|(from, _)| *from <= next).max();
        match best {
            Some((from, no)) if next - from <= NEAR_REVISIONS => return Some(no),
            Some((_, no)) if self.catching_up.len() >= CATCHING_UP_MAX => return Some(no),
            None if self.catching_up.len() >= CATCHING_UP_MAX => return None,
            _ => {}
        }
        let lane = Lane::new(next - 1, false, &self.meter);
        let no = self.lanes.insert(lane);
        self.catching_up.push_back(no);
        Some(no)
    }

    /// Parked watchers of streams with room look for a lane.
    fn thaw_some(&mut self, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some(&stream) = self.thawing.front()
        {
            budget.spend(1);
            let state = self.streams.get_mut(stream);
            let state = state.filter(|state| state.has_room() && !state.is_closing);
            match state.and_then(|state| state.parked.pop_first()) {
                Some(watcher) => self.wait(watcher),
                None => drop(self.thawing.pop_front()),
            }
        }
    }

    fn close_some(&mut self, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some(&stream) = self.closing.front()
        {
            budget.spend(2);
            let first = self.streams.get(stream).and_then(|state| {
                let (_, watcher) = state.watchers.first_key_value()?;
                Some(*watcher)
            });
            match first {
                Some(watcher) => self.remove_watcher(watcher),
                None => {
                    self.closing.pop_front();
                    self.streams.remove(stream);
                }
            }
        }
    }

    /// Has the stream's watchers removed, in slices; it is told nothing more.
    pub fn close_stream(&mut self, stream: StreamNo) {
        let Some(state) = self.streams.get_mut(stream) else {
            return;
        };
        if state.is_closing {
            return;
        }
        state.is_closing = true;
        state.parts = None;
        if let Some(due) = state.notice_due.take() {
            self.notice_times.remove(&(due, stream));
        }
        self.progress_due.remove(&stream);
        self.control.retain(|response| response.stream != stream);
        self.closing.push_back(stream);
    }

    // ---- outputs

    /// The next response. `None`: there is none before [`Hub::work`] was called.
    pub fn poll_response(&mut self) -> Option<Response> {
        if let Some(response) = self.control.pop_front() {
            if self.control.is_empty() {
                // A crowd of creations is not remembered for ever.
                self.control.shrink_to(CONTROL_KEPT);
            }
            return Some(response);
        }
        if let Some(response) = self.poll_part() {
            return Some(response);
        }
        for _ in 0..PASSED_MAX {
            let no = self.lane_with_body()?;
            if let Some(response) = self.tell_next(no) {
                return Some(response);
            }
        }
        None
    }

    fn lane_with_body(&self) -> Option<LaneNo> {
        let lanes = std::iter::once(FRONTIER).chain(self.catching_up.iter().copied());
        let has_body = |no: &LaneNo| {
            let fan = self.lane(*no).and_then(Lane::fan);
            fan.is_some_and(|fan| fan.body.is_some())
        };
        lanes.into_iter().find(has_body)
    }

    /// The next part of an answer whose stream has room.
    fn poll_part(&mut self) -> Option<Response> {
        while let Some(stream) = self.resuming.pop_front() {
            let Some(state) = self.streams.get_mut(stream) else {
                continue;
            };
            if state.is_full || state.is_closing {
                continue;
            }
            let Some(parts) = &mut state.parts else {
                continue;
            };
            let (id, no) = (parts.id, parts.next);
            parts.next += 1;
            let body = Arc::clone(&parts.body);
            if no + 1 >= body.part_count() {
                state.parts = None;
            }
            // Unless the shell says that it is full now, it goes on with what comes next.
            self.on_room(stream);
            let Some((bytes, event_count)) = body.response(id, no) else {
                continue;
            };
            return Some(Response {
                stream,
                kind: ResponseKind::Events,
                bytes,
                event_count,
            });
        }
        None
    }

    /// Tells the next member of a batch, or passes over it.
    fn tell_next(&mut self, lane_no: LaneNo) -> Option<Response> {
        let lane = self.lanes.get_mut(lane_no)?;
        let (group_no, member) = lane.next_member()?;
        let watcher = self.watchers.get_mut(member.watcher)?;
        let stream = self.streams.get_mut(watcher.stream)?;
        let first_hit = lane.first_hit(group_no)?;
        let fan = lane.fan()?;
        if stream.is_closing || watcher.next > fan.last {
            return None;
        }
        let body = match watcher.next > first_hit {
            false => Arc::clone(&fan.body.as_ref()?.1),
            true => {
                let own = lane.body_from(group_no, watcher.next, self.options.fragment_len);
                if own.is_empty() {
                    return None;
                }
                Arc::new(own)
            }
        };
        if !stream.has_room() {
            let next = lane.done + 1;
            self.leave_lane(member.watcher, next);
            self.park(member.watcher);
            return None;
        }
        watcher.is_quiet = false;
        let (id, stream_no) = (watcher.id, watcher.stream);
        if body.part_count() > 1 {
            stream.parts = Some(Parts {
                body: Arc::clone(&body),
                id,
                next: 1,
            });
            self.resuming.push_back(stream_no);
        }
        let (bytes, event_count) = match watcher.next > first_hit {
            true => body.response(id, 0)?,
            false => {
                let member_count = lane.groups.get(group_no)?.member_count();
                lane.fan_mut()?.response(id, member_count)?
            }
        };
        Some(Response {
            stream: stream_no,
            kind: ResponseKind::Events,
            bytes,
            event_count,
        })
    }

    // ---- watchers and their places

    pub(super) fn lane(&self, no: LaneNo) -> Option<&Lane> {
        self.lanes.get(no)
    }

    pub(super) fn can_join(&self, no: LaneNo, next: i64) -> bool {
        let from = self.lane(no).and_then(Lane::joinable_from);
        from.is_some_and(|from| from <= next)
    }

    pub(super) fn join_lane(&mut self, no: WatcherNo, lane_no: LaneNo) {
        let Some(watcher) = self.watchers.get(no) else {
            return;
        };
        let member = member(no, watcher);
        let mut range = Arc::clone(&watcher.range);
        if let Some(lane) = self.lanes.get_mut(lane_no) {
            let no_of_group = lane.groups.add(&range, member);
            // Watchers of one range have it in common.
            if let Some(group) = lane.groups.get(no_of_group) {
                range = Arc::clone(&group.range);
            }
            if let Some(watcher) = self.watchers.get_mut(no) {
                watcher.range = range;
            }
            self.set_place(no, Place::On(lane_no, no_of_group));
        }
    }

    /// Takes a watcher off its lane; it needs `next` and what is behind, at least.
    fn leave_lane(&mut self, no: WatcherNo, next: i64) {
        if let Some(watcher) = self.watchers.get_mut(no) {
            watcher.next = watcher.next.max(next);
            if let Place::On(lane, group) = watcher.place {
                let member = member(no, watcher);
                self.leave_group(lane, group, member);
            }
        }
    }

    fn leave_group(&mut self, lane: LaneNo, group: GroupNo, member: Member) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.groups.remove(group, member);
        }
    }

    pub(super) fn wait(&mut self, no: WatcherNo) {
        if let Some(watcher) = self.watchers.get(no) {
            self.waiting.insert((watcher.next, no));
            self.set_place(no, Place::Waiting);
        }
    }

    fn park(&mut self, no: WatcherNo) {
        let stream = self.watchers.get(no).map(|watcher| watcher.stream);
        if let Some(state) = stream.and_then(|stream| self.streams.get_mut(stream)) {
            state.parked.insert(no);
            self.set_place(no, Place::Parked);
        }
    }

    /// The watcher's history is gone.
    pub(super) fn end_compacted(&mut self, no: WatcherNo, compact_revision: i64) {
        self.set_place(no, Place::Compacted);
        let header = self.header(0);
        if let Some(watcher) = self.watchers.get(no) {
            let response = WatchResponse {
                header: Some(header),
                watch_id: watcher.id,
                canceled: true,
                compact_revision,
                ..WatchResponse::default()
            };
            self.push_control(watcher.stream, &response);
        }
    }

    /// Notes where a watcher is, and counts who is behind.
    pub(super) fn set_place(&mut self, no: WatcherNo, place: Place) {
        let Some(watcher) = self.watchers.get_mut(no) else {
            return;
        };
        let former = std::mem::replace(&mut watcher.place, place);
        self.slow_count += usize::from(is_slow(place));
        self.slow_count -= usize::from(is_slow(former));
        let stream_no = watcher.stream;
        if let Some(stream) = self.streams.get_mut(stream_no) {
            stream.behind_count += usize::from(is_behind(place));
            stream.behind_count -= usize::from(is_behind(former));
            if stream.behind_count == 0 && stream.progress_asked.is_some() {
                self.progress_due.insert(stream_no);
            }
        }
    }

    pub(super) fn remove_watcher(&mut self, no: WatcherNo) {
        let Some(watcher) = self.watchers.get(no) else {
            return;
        };
        let (stream, id, place) = (watcher.stream, watcher.id, watcher.place);
        match place {
            Place::On(lane, group) => {
                let member = member(no, watcher);
                self.leave_group(lane, group, member);
            }
            Place::Waiting => drop(self.waiting.remove(&(watcher.next, no))),
            Place::Parked | Place::Compacted => {}
        }
        // So that the counts are right.
        self.set_place(no, Place::On(FRONTIER, 0));
        let Some(watcher) = self.watchers.remove(no) else {
            return;
        };
        self.watchers_len -= watcher.cost();
        if let Some(state) = self.streams.get_mut(stream) {
            state.watchers.remove(&id);
            state.parked.remove(&no);
            state.future.remove(&(watcher.start, no));
            state.notified_count -= usize::from(watcher.wants_notices);
        }
    }

    // ---- responses without events

    pub(super) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.options.cluster_id,
            member_id: self.options.member_id,
            revision,
            raft_term: self.raft_term,
        }
    }

    pub(super) fn push_control(&mut self, stream: StreamNo, response: &WatchResponse) {
        self.push_eventless(stream, ResponseKind::Control, response);
    }

    pub(super) fn push_eventless(
        &mut self,
        stream: StreamNo,
        kind: ResponseKind,
        response: &WatchResponse,
    ) {
        let state = self.streams.get(stream);
        if state.is_none_or(|state| state.is_closing) {
            return;
        }
        self.control.push_back(Response {
            stream,
            kind,
            bytes: ResponseBytes::encode(response),
            event_count: 0,
        });
    }
}

fn member(no: WatcherNo, watcher: &Watcher) -> Member {
    Member {
        form: watcher.form.0,
        stream: watcher.stream,
        watcher: no,
    }
}

fn is_behind(place: Place) -> bool {
    !matches!(place, Place::On(FRONTIER, _))
}

fn is_slow(place: Place) -> bool {
    is_behind(place) && place != Place::Compacted
}
