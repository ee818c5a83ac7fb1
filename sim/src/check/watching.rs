//! The promises of a watch, seen from its client.
//!
//! A client notes for each watch the first revision that it knows nothing of. Whatever it is told next must be what was
//! published from there on, as far as it concerns the watch, with nothing left out before the last revision that is told of,
//! and all of that one. So events are ordered, unique, atomic and without a gap, over streams, crashes and members: a
//! resumed watch goes on where it was. A progress notice may say a revision only if all before it was told; a compaction
//! may end a watch only if what it would be told next is compacted.
//!
//! Order on the stream: `created` answers come in the order of the requests and before anything else of their id, nothing
//! follows `canceled`, and nothing comes between the parts of an answer.

use std::collections::{BTreeMap, VecDeque};

use engine::mvcc;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::Event;

use super::Violation;
use crate::history::{Change, Published};
use crate::watching::WatchCounts;
use crate::watching::shard::Told;

/// `Event.type` of a deletion.
const DELETE: i32 = 1;
/// The id in answers that concern all watches.
const ALL: i64 = -1;

/// One watch. It outlives streams.
#[derive(Clone, Debug)]
pub struct Watch {
    /// As it is asked for on the next stream, but for the start revision.
    request: WatchCreateRequest,
    /// The first revision that the client knows nothing of; `None`: it wants to know what comes from now on.
    next: Option<i64>,
    /// It was open on an earlier stream.
    was_open: bool,
}

/// Where an id stands on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open(usize),
    /// Its history was compacted; the id stays taken until it is cancelled.
    Compacted,
}

/// A client's ear: its watches and what it was told on the present stream.
#[derive(Debug, Default)]
pub struct Listener {
    watches: BTreeMap<usize, Watch>,
    added_count: usize,
    /// Asked for and not answered.
    asked: VecDeque<usize>,
    ids: BTreeMap<i64, Standing>,
    /// Cancelled and not answered.
    cancelled: Vec<i64>,
    /// The parts of an answer so far, and whose it is.
    parts: Option<(i64, Vec<Event>)>,
    /// The newest revision that it was told of.
    revision: i64,
}

impl Watch {
    pub fn new(request: WatchCreateRequest) -> Watch {
        let start = request.start_revision;
        Watch {
            request,
            next: (start > 0).then_some(start),
            was_open: false,
        }
    }

    fn covers(&self, key: &[u8]) -> bool {
        let (from, end) = (&self.request.key[..], &self.request.range_end[..]);
        match end {
            b"" => key == from,
            b"\0" => key >= from,
            end => key >= from && key < end,
        }
    }

    fn wants(&self, change: &Change) -> bool {
        let unwanted = match change.tombstone {
            true => FilterType::Nodelete,
            false => FilterType::Noput,
        };
        !self.request.filters.contains(&(unwanted as i32))
            && self.covers(&mvcc::decode(&change.pair).key)
    }

    /// What was published for it from `next` to `last`.
    fn expected<'a>(
        &'a self,
        last: i64,
        published: &'a Published,
    ) -> impl Iterator<Item = (i64, &'a Change)> {
        let next = self.next.unwrap_or(i64::MAX);
        let last = last.min(published.newest());
        (next..=last).flat_map(move |revision| {
            let changes = published.changes(revision).unwrap_or_default();
            let wanted = changes.iter().filter(|change| self.wants(change));
            wanted.map(move |change| (revision, change))
        })
    }

    /// Takes what it is told, if that is what comes next.
    fn hear(
        &mut self,
        events: &[Event],
        compacted: i64,
        published: &Published,
    ) -> Result<(), Violation> {
        let Some(last) = events.last().map(revision_of) else {
            return Ok(());
        };
        let mut expected = self.expected(last, published);
        for event in events {
            let next = expected.next();
            let is_next = next.is_some_and(|(revision, change)| {
                self.is_same(event, revision, change, compacted, published)
            });
            if !is_next {
                return Err(format!("told was {event:?}, published is {next:?}"));
            }
        }
        if let Some(missing) = expected.next() {
            return Err(format!("told was all up to {last} without {missing:?}"));
        }
        drop(expected);
        self.next = Some(last + 1);
        Ok(())
    }

    fn is_same(
        &self,
        event: &Event,
        revision: i64,
        change: &Change,
        compacted: i64,
        published: &Published,
    ) -> bool {
        let Some(kv) = &event.kv else { return false };
        let stored = mvcc::decode(&change.pair);
        let is_kv = match change.tombstone {
            true => {
                let told = (event.r#type, &kv.key, kv.mod_revision, kv.value.len());
                told == (DELETE, &stored.key, revision, 0)
            }
            false => event.r#type != DELETE && *kv == stored,
        };
        let before = published.get(&stored.key, revision - 1);
        let before = before.filter(|_| self.request.prev_kv);
        // Where that is compacted the pair may be gone.
        let is_gone = event.prev_kv.is_none() && revision - 1 < compacted;
        is_kv && (event.prev_kv.as_ref() == before || is_gone)
    }

    /// Nothing that it wants is left up to `revision`.
    fn hear_progress(&mut self, revision: i64, published: &Published) -> Result<(), Violation> {
        if let Some(missing) = self.expected(revision, published).next() {
            return Err(format!("{revision} was told as done without {missing:?}"));
        }
        self.next = self.next.map(|next| next.max(revision + 1));
        Ok(())
    }
}

impl Listener {
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// Watches that it ever had.
    pub fn added_count(&self) -> usize {
        self.added_count
    }

    /// The newest revision that it was told of.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Ids that can be cancelled.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        let asked = |id: &i64| !self.cancelled.contains(id);
        self.ids.keys().copied().filter(asked)
    }

    /// True if no request without an answer is under way.
    pub fn is_answered(&self) -> bool {
        self.asked.is_empty() && self.cancelled.is_empty()
    }

    /// The stream is gone, and with it whatever was on the way. Parts of an answer do not count.
    pub fn on_lost(&mut self) {
        let opened = self.ids.values();
        for standing in opened {
            if let Standing::Open(no) = standing
                && let Some(watch) = self.watches.get_mut(no)
            {
                watch.was_open = true;
            }
        }
        self.asked.clear();
        self.ids.clear();
        self.cancelled.clear();
        self.parts = None;
    }

    /// A new watch; gives the request.
    pub fn add(&mut self, watch: Watch) -> WatchCreateRequest {
        let no = self.added_count;
        self.added_count += 1;
        let request = watch.request.clone();
        self.watches.insert(no, watch);
        self.asked.push_back(no);
        request
    }

    /// The requests that bring all watches onto a new stream.
    pub fn resume(&mut self, counts: &mut WatchCounts) -> Vec<WatchCreateRequest> {
        let mut requests = Vec::new();
        for (no, watch) in &self.watches {
            counts.resumed += usize::from(watch.was_open);
            self.asked.push_back(*no);
            requests.push(WatchCreateRequest {
                start_revision: watch.next.unwrap_or(0),
                ..watch.request.clone()
            });
        }
        requests
    }

    pub fn cancel(&mut self, id: i64) {
        self.cancelled.push(id);
    }

    /// Every watch was told all that was published.
    pub fn is_up_to_date(&self, published: &Published) -> bool {
        let mut open = self.ids.values().filter_map(|standing| match standing {
            Standing::Open(no) => self.watches.get(no),
            Standing::Compacted => None,
        });
        self.is_answered() && open.all(|watch| watch.expected(i64::MAX, published).next().is_none())
    }

    /// For a report: what a watch still waits for.
    pub fn describe(&self, published: &Published) -> String {
        let waiting = |watch: &&Watch| watch.expected(i64::MAX, published).next().is_some();
        let waiting: Vec<_> = self.watches.values().filter(waiting).collect();
        format!("{} unanswered, {waiting:?} wait", self.asked.len())
    }

    /// A response.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn on_told(
        &mut self,
        told: &Told,
        published: &Published,
        counts: &mut WatchCounts,
    ) -> Result<(), Violation> {
        self.take(told, published, counts)
            .map_err(|why| format!("watch: {why}, in {:?}", told.response))
    }

    fn take(
        &mut self,
        told: &Told,
        published: &Published,
        counts: &mut WatchCounts,
    ) -> Result<(), Violation> {
        let response = &told.response;
        let header = response.header.as_ref().ok_or("there is no header")?;
        let revision = header.revision;
        if revision > published.newest() {
            return Err(format!("{revision} was never published"));
        }
        self.revision = self.revision.max(revision);
        let of_parts = self.parts.as_ref().map(|(id, _)| *id);
        if of_parts.is_some_and(|id| id != response.watch_id || response.events.is_empty()) {
            // What the client asked for may be answered in between; see `engine::watch`.
            let is_answer = response.created || response.canceled;
            if !is_answer {
                return Err(format!("it comes between the parts for {of_parts:?}"));
            }
        }
        match response {
            r if r.created => self.on_created(r, revision, counts),
            r if r.canceled => self.on_canceled(r, told.compacted, counts),
            r if r.watch_id == ALL => self.on_progress(revision, published, counts),
            r => self.on_events(r, revision, told.compacted, published, counts),
        }
    }

    fn on_created(
        &mut self,
        response: &WatchResponse,
        revision: i64,
        counts: &mut WatchCounts,
    ) -> Result<(), Violation> {
        let no = self.asked.pop_front().ok_or("nobody asked for it")?;
        let watch = self.watches.get_mut(&no).ok_or("it has ended")?;
        let id = response.watch_id;
        if response.canceled || (watch.request.watch_id != 0 && watch.request.watch_id != id) {
            return Err(format!("that is no answer to {watch:?}"));
        }
        counts.created += 1;
        watch.next.get_or_insert(revision + 1);
        match self.ids.insert(id, Standing::Open(no)) {
            None => Ok(()),
            Some(former) => Err(format!("the id is taken: {former:?}")),
        }
    }

    fn on_canceled(
        &mut self,
        response: &WatchResponse,
        compacted: i64,
        counts: &mut WatchCounts,
    ) -> Result<(), Violation> {
        let id = response.watch_id;
        let standing = self.ids.get(&id).copied();
        let standing = standing.ok_or("there is no such watch")?;
        if self.parts.as_ref().is_some_and(|(of, _)| *of == id) {
            self.parts = None;
        }
        if response.compact_revision == 0 {
            let asked = self.cancelled.iter().position(|of| *of == id);
            self.cancelled.remove(asked.ok_or("nobody cancelled it")?);
            self.ids.remove(&id);
            if let Standing::Open(no) = standing {
                self.watches.remove(&no);
            }
            return Ok(());
        }
        let Standing::Open(no) = standing else {
            return Err("it was ended before".to_owned());
        };
        let at = response.compact_revision;
        let next = self.watches.remove(&no).and_then(|watch| watch.next);
        counts.compacted += 1;
        self.ids.insert(id, Standing::Compacted);
        match at <= compacted && next.is_some_and(|next| next < at) {
            true => Ok(()),
            false => Err(format!(
                "{next:?} is what it needs, the member is compacted at {compacted}"
            )),
        }
    }

    fn on_progress(
        &mut self,
        revision: i64,
        published: &Published,
        counts: &mut WatchCounts,
    ) -> Result<(), Violation> {
        counts.progress += 1;
        for standing in self.ids.values() {
            let Standing::Open(no) = standing else {
                return Err("one of the watches is compacted".to_owned());
            };
            let watch = self.watches.get_mut(no).ok_or("it has ended")?;
            watch.hear_progress(revision, published)?;
        }
        Ok(())
    }

    fn on_events(
        &mut self,
        response: &WatchResponse,
        revision: i64,
        compacted: i64,
        published: &Published,
        counts: &mut WatchCounts,
    ) -> Result<(), Violation> {
        let id = response.watch_id;
        let Some(Standing::Open(no)) = self.ids.get(&id).copied() else {
            return Err("there is no such watch".to_owned());
        };
        let watch = self.watches.get_mut(&no).ok_or("it has ended")?;
        if response.events.is_empty() {
            counts.progress += 1;
            return watch.hear_progress(revision, published);
        }
        counts.events += response.events.len();
        let (_, mut events) = self.parts.take().unwrap_or((id, Vec::new()));
        events.extend(response.events.iter().cloned());
        if response.fragment {
            counts.split += 1;
            self.parts = Some((id, events));
            return match watch.request.fragment {
                true => Ok(()),
                false => Err("it must not be split".to_owned()),
            };
        }
        if events
            .last()
            .is_some_and(|last| revision_of(last) > revision)
        {
            return Err("the header is older than the events".to_owned());
        }
        let before = watch.next;
        watch
            .hear(&events, compacted, published)
            .map_err(|why| format!("from {before:?} on {why}"))
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
