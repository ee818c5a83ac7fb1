//! The published state, read from other threads while the log shard applies, compacts and sweeps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::*;
use crate::backend::testing::TestDisk;
use crate::mvcc::{RangeRun, RangeStream, RequestError, decode};
use crate::random::SplitMix64;
use crate::state::{Applied, Progress, State, StateOptions};
use crate::types::{Budget, LogIndex, Term};

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    /// Long enough that a few of them fill a page.
    fn key(&mut self) -> Bytes {
        format!(
            "/a/rather/long/prefix/{:03}/{}",
            self.below(60),
            "x".repeat(40)
        )
        .into()
    }
}

/// All keys that live at one revision.
type Content = BTreeMap<Bytes, Bytes>;

/// What every revision holds, known before the revision is published.
#[derive(Clone)]
struct History(Arc<Vec<OnceLock<Content>>>);

impl History {
    fn new(len: usize) -> Self {
        History(Arc::new((0..len).map(|_| OnceLock::new()).collect()))
    }

    fn at(&self, revision: i64) -> &Content {
        let content = self.0[revision as usize].get();
        content.expect("a revision is in the history before it is published")
    }
}

/// The log shard: a state and the history that it makes.
struct Writer {
    disk: TestDisk,
    state: State,
    history: History,
    next: u64,
    now: Content,
}

fn put(key: Bytes, value: String) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(pb::PutRequest {
            key,
            value: value.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn delete(key: Bytes, range_end: Bytes) -> InternalRaftRequest {
    InternalRaftRequest {
        delete_range: Some(pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        }),
        ..Default::default()
    }
}

fn compaction(revision: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        compaction: Some(pb::CompactionRequest {
            revision,
            physical: false,
        }),
        ..Default::default()
    }
}

fn everything(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    }
}

fn content<'a>(kvs: impl IntoIterator<Item = &'a Bytes>) -> Content {
    let kvs = kvs.into_iter().map(decode);
    kvs.map(|kv| (kv.key, kv.value)).collect()
}

impl Writer {
    fn new(history_len: usize) -> Self {
        let disk = TestDisk::default();
        let writer = Writer {
            state: disk.state(StateOptions::default()),
            disk,
            history: History::new(history_len),
            next: 0,
            now: Content::new(),
        };
        writer.history.0[1].set(Content::new()).unwrap();
        writer
    }

    fn settle(&mut self, units: usize) {
        self.disk.settle(&mut self.state, units);
    }

    fn reader(&self) -> ViewReader {
        self.state.views().reader().unwrap()
    }

    fn revision(&self) -> i64 {
        self.state.view().revision()
    }

    /// Applies in slices of one unit, as the node does: what is whole is published before.
    fn apply(&mut self, request: InternalRaftRequest) -> Applied {
        self.next += 1;
        self.state.publish();
        self.state
            .start(LogIndex(self.next), Term(1), Some(request));
        loop {
            if let Progress::Done(applied) = self.state.work(&mut Budget::new(1)) {
                return applied;
            }
        }
    }

    /// As [`Writer::apply`], and enters what lives then into the history.
    fn change(&mut self, request: InternalRaftRequest, change: impl FnOnce(&mut Content)) {
        let before = self.revision();
        let applied = self.apply(request);
        assert!(applied.result.is_ok());
        change(&mut self.now);
        if self.revision() > before {
            let place = &self.history.0[self.revision() as usize];
            place.set(self.now.clone()).unwrap();
        }
    }

    fn put(&mut self, key: Bytes) {
        let value = format!("value of {}", self.revision() + 1);
        self.change(put(key.clone(), value.clone()), |now| {
            now.insert(key, value.into());
        });
    }

    fn delete(&mut self, key: Bytes, end: Bytes) {
        self.change(delete(key.clone(), end.clone()), |now| {
            now.retain(|k, _| !(key <= *k && *k < end));
        });
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(20) {
            0 => {
                let ends = [random.key(), random.key()];
                let [start, end] = [ends.iter().min(), ends.iter().max()];
                self.delete(start.unwrap().clone(), end.unwrap().clone());
            }
            1 | 2 => {
                // Half of them overtake whoever reads just now.
                let back = (random.below(60) * random.below(2)) as i64;
                // Refused if it is not above the last one.
                self.apply(compaction(self.revision() - back));
            }
            3..9 => self.disk.step(&mut self.state, random.below(400) as usize),
            _ => self.put(random.key()),
        }
        if random.below(3) == 0 {
            self.state.publish();
        }
    }
}

/// Everything that one pin shows is of one revision, and none of it is half an entry.
fn check_view(view: &PinnedView<'_>, history: &History, random: &mut Random) {
    // Whatever the writer does under the pin.
    thread::yield_now();
    let (revision, compacted) = (view.revision(), view.compact_revision());
    let expected = history.at(revision);
    let answer = view.range(&everything(0)).unwrap();
    assert_eq!(content(&answer.kvs), *expected);
    assert_eq!(
        (answer.revision, answer.count),
        (revision, expected.len() as i64)
    );
    assert_eq!(view.key_count(), expected.len());
    let span = (revision - compacted.max(1)) as u64 + 1;
    let old = revision - random.below(span) as i64;
    let answer = view.range(&everything(old)).unwrap();
    assert_eq!(
        content(&answer.kvs),
        *history.at(old),
        "{old} at {revision}"
    );
    let key = random.key();
    let pair = view.pair_at(&key, old).unwrap();
    let pair = pair.map(|pair| decode(&pair.to_bytes()).value);
    assert_eq!(pair.as_ref(), history.at(old).get(&key));
    if compacted > 1 {
        let refused = view.range(&everything(compacted - 1));
        assert_eq!(refused, Err(RequestError::Compacted));
    }
    let mut now = history.at(old).clone();
    for change in view.changes(old + 1) {
        let change = change.unwrap();
        let kv = decode(&change.pair.to_bytes());
        match change.tombstone {
            true => drop(now.remove(&kv.key)),
            false => drop(now.insert(kv.key, kv.value)),
        }
    }
    assert_eq!(now, *expected, "changes from {} to {revision}", old + 1);
}

/// A stream in slices, each on a pin of its own, keeps its promise under a hold.
fn check_stream(reader: &mut ViewReader, history: &History, random: &mut Random) {
    let view = reader.pin();
    let revision = view.revision() - random.below(3) as i64;
    let Ok(mut stream) = RangeStream::new(&everything(revision.max(1)), view.reader()) else {
        return;
    };
    drop(view);
    let Some(hold) = reader.hold(stream.revision()) else {
        assert!(reader.pin().compact_revision() > stream.revision());
        return;
    };
    stream.hold(hold);
    let size = loop {
        let units = 1 + random.below(9) as usize;
        let view = reader.pin();
        let measured = stream.measure(view.reader(), &mut Budget::new(units));
        if let Some(size) = measured.unwrap() {
            break size;
        }
        drop(view);
        thread::yield_now();
    };
    let mut pairs = Vec::new();
    loop {
        let units = 1 + random.below(9) as usize;
        let view = reader.pin();
        let more = stream.read(view.reader(), &mut Budget::new(units), 200, &mut pairs);
        if !more.unwrap() {
            break;
        }
        drop(view);
        thread::yield_now();
    }
    let len: usize = pairs.iter().map(|pair| 2 + pair.len()).sum();
    assert!(pairs.iter().all(|pair| pair.len() < 128));
    assert_eq!((size.kvs_len, size.kv_count), (len, pairs.len()));
    assert_eq!(content(&pairs), *history.at(stream.revision()));
}

/// A run without a hold tells that it was overtaken; it never answers wrongly.
fn check_run(reader: &mut ViewReader, history: &History, random: &mut Random) {
    let request = pb::RangeRequest {
        sort_order: SortOrder::Descend as i32,
        sort_target: SortTarget::Mod as i32,
        ..everything(0)
    };
    let mut run = RangeRun::new(&request, reader.pin().reader()).unwrap();
    let answer = loop {
        let mut budget = Budget::new(1 + random.below(30) as usize);
        let view = reader.pin();
        match run.step(view.reader(), &mut budget) {
            Ok(None) => {}
            Ok(Some(answer)) => break answer,
            Err(error) => {
                assert_eq!(error, RequestError::Compacted);
                assert!(view.compact_revision() > run.revision());
                return;
            }
        }
    };
    assert_eq!(content(&answer.kvs), *history.at(run.revision()));
    let revisions: Vec<i64> = answer.kvs.iter().map(|p| decode(p).mod_revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a >= b));
}

fn read(mut reader: ViewReader, history: &History, is_done: &AtomicBool, seed: u64) {
    let (mut random, mut newest) = (Random(SplitMix64(seed)), 0);
    let mut is_last = false;
    while !is_last {
        is_last = is_done.load(Ordering::Acquire);
        let view = reader.pin();
        assert!(view.revision() >= newest, "states come in order");
        newest = view.revision();
        check_view(&view, history, &mut random);
        drop(view);
        check_stream(&mut reader, history, &mut random);
        check_run(&mut reader, history, &mut random);
    }
}

/// Every read of two threads agrees with the model at the view's revision.
#[test]
fn readers_on_other_threads_see_whole_states_only() {
    const STEPS: usize = 4000;
    for seed in 0..8 {
        let mut writer = Writer::new(STEPS + 2);
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            for number in 0..2 {
                let (reader, history) = (writer.reader(), writer.history.clone());
                let is_done = &is_done;
                scope.spawn(move || read(reader, &history, is_done, 100 * seed + number));
            }
            let mut random = Random(SplitMix64(seed));
            // A panic here must end the readers, too.
            let _end = OnDrop(&is_done);
            (0..STEPS).for_each(|_| writer.step(&mut random));
            writer.state.publish();
        });
        let mut reader = writer.reader();
        assert_eq!(reader.pin().revision(), writer.revision());
    }
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn filled(count: usize) -> Writer {
    let mut writer = Writer::new(2 * count + 400);
    (0..count).for_each(|i| writer.put(format!("k{i:05}").into()));
    writer.state.publish();
    writer
}

fn on_another_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap()
}

#[test]
fn a_half_applied_entry_is_not_seen_from_another_thread() {
    let mut writer = filled(50);
    let mut reader = writer.reader();
    let request = delete("k".into(), "l".into());
    writer.next += 1;
    writer
        .state
        .start(LogIndex(writer.next), Term(1), Some(request));
    let mut seen = 0;
    while writer.state.work(&mut Budget::new(1)) == Progress::More {
        let count = on_another_thread(|| reader.pin().range(&everything(0)).unwrap().count);
        assert_eq!(count, 50);
        seen += 1;
    }
    assert!(seen > 40, "the entry took {seen} slices");
    assert_eq!(reader.pin().key_count(), 50, "whole and not yet published");
    writer.state.publish();
    assert_eq!(on_another_thread(|| reader.pin().key_count()), 0);
}

#[test]
#[should_panic(expected = "half-applied")]
fn publishing_half_an_entry_is_refused() {
    let mut writer = filled(5);
    let request = Some(delete("k".into(), "l".into()));
    writer
        .state
        .start(LogIndex(writer.next + 1), Term(1), request);
    writer.state.publish();
}

/// A state that is pinned keeps its pairs through a sweep that ends meanwhile, in the tail and in the store.
#[test]
fn a_pin_keeps_its_pairs_through_a_sweep() {
    let mut writer = filled(700);
    (0..700).for_each(|i| writer.put(format!("k{i:05}").into()));
    writer.state.publish();
    let stay = writer.reader().stay();
    let old = stay.view().range(&everything(701)).unwrap();
    writer.apply(compaction(1401));
    writer.settle(usize::MAX);
    assert_eq!(writer.state.view().finished_compact_revision(), Some(1401));
    (0..300).for_each(|i| writer.put(format!("k{i:05}").into()));
    writer.disk.checkpoint(&mut writer.state);
    assert_eq!(stay.view().range(&everything(701)).unwrap(), old);
    let mut reader = stay.leave();
    writer.apply(compaction(1701));
    writer.settle(usize::MAX);
    assert_eq!(writer.state.view().finished_compact_revision(), Some(1701));
    let view = reader.pin();
    assert_eq!(view.finished_compact_revision(), Some(1701));
    assert_eq!(view.changes(0).count(), 700);
    assert_eq!(view.range(&everything(701)), Err(RequestError::Compacted));
}

/// A hold keeps its revision through the sweep of a compaction, and what it kept goes with the next one.
#[test]
fn a_hold_keeps_one_revision_and_no_other() {
    let mut writer = filled(300);
    (0..300).for_each(|i| writer.put(format!("k{i:05}").into()));
    writer.delete("k".into(), "l".into());
    writer.state.publish();
    let mut reader = writer.reader();
    let streams: Vec<RangeStream> = [301, 450, 601]
        .into_iter()
        .map(|revision| {
            let request = everything(revision);
            let mut stream = RangeStream::new(&request, reader.pin().reader()).unwrap();
            stream.hold(reader.hold(revision).unwrap());
            stream
        })
        .collect();
    writer.apply(compaction(602));
    writer.settle(10);
    assert_eq!(writer.state.view().finished_compact_revision(), Some(602));
    assert!(reader.hold(601).is_none(), "too late for another one");
    let refused = RangeStream::new(&everything(450), reader.pin().reader());
    assert_eq!(refused.err(), Some(RequestError::Compacted));
    for mut stream in streams {
        let view = reader.pin();
        let size = stream.measure(view.reader(), &mut Budget::unlimited());
        let mut pairs = Vec::new();
        let more = stream.read(
            view.reader(),
            &mut Budget::unlimited(),
            usize::MAX,
            &mut pairs,
        );
        assert_eq!(
            (size.unwrap().unwrap().kv_count, more),
            (pairs.len(), Ok(false))
        );
        assert_eq!(content(&pairs), *writer.history.at(stream.revision()));
    }
    // Kept were, of 300 keys: the puts before, at and behind 450, and the tombstones that hide them.
    assert_eq!(reader.pin().changes(0).count(), 300 + 300 + 300);
    writer.put("other".into());
    writer.apply(compaction(603));
    writer.settle(10);
    assert_eq!(reader.pin().changes(0).count(), 1);
}

/// The hash of a compaction is compared between members, whose holds differ.
#[test]
fn holds_do_not_show_in_hashes() {
    let hashes = |is_held: bool| {
        let mut writer = filled(100);
        (0..100).for_each(|i| writer.put(format!("k{i:05}").into()));
        writer.delete("k00010".into(), "k00050".into());
        writer.state.publish();
        let reader = writer.reader();
        let holds: Vec<Option<Hold>> = [101, 150].map(|r| reader.hold(r)).into();
        let holds = if is_held { holds } else { Vec::new() };
        for revision in [140, 160, 202] {
            writer.apply(compaction(revision));
            writer.settle(7);
        }
        drop(holds);
        let view = writer.state.view();
        let remembered: Vec<_> = view.compaction_hashes().copied().collect();
        let mut run = crate::mvcc::HashRun::new(0, view.reader()).unwrap();
        (
            remembered,
            run.step(view.reader(), &mut Budget::unlimited()),
        )
    };
    assert_eq!(hashes(true), hashes(false));
}

/// What a reader kept across waits stays whole while everything behind it changes.
#[test]
fn a_long_pin_keeps_its_state() {
    let mut writer = filled(500);
    let stay = writer.reader().stay();
    let before = stay.view().range(&everything(0)).unwrap();
    let mut random = Random(SplitMix64(7));
    (0..300).for_each(|_| writer.step(&mut random));
    writer.state.publish();
    assert_eq!(stay.view().range(&everything(0)).unwrap(), before);
    assert_eq!(stay.view().revision(), 501);
    let mut reader = stay.leave();
    assert_eq!(reader.pin().revision(), writer.revision());
}

#[test]
fn numbers_and_alarms_are_published() {
    let mut writer = filled(3);
    let mut reader = writer.reader();
    assert_eq!(reader.pin().compact_revision(), -1);
    let activate = pb::alarm_request::AlarmAction::Activate as i32;
    let alarm = |alarm: pb::AlarmType| InternalRaftRequest {
        alarm: Some(pb::AlarmRequest {
            action: activate,
            member_id: 5,
            alarm: alarm as i32,
        }),
        ..Default::default()
    };
    writer.apply(alarm(pb::AlarmType::Nospace));
    assert!(!reader.pin().alarms().has_nospace(), "not published yet");
    writer.state.publish();
    let view = reader.pin();
    let state = writer.state.view();
    assert!(view.alarms().has_nospace() && !view.alarms().has_corrupt());
    assert_eq!(view.revision(), state.revision());
    assert_eq!(view.applied_index(), state.applied_index());
    assert_eq!(view.applied_term(), Term(1));
    assert_eq!(view.db_size(), state.db_size());
    assert_eq!(view.db_size_in_use(), state.db_size_in_use());
    assert_eq!(view.key_count(), 3);
}

/// Views are shared by threads, a reader moves between them.
#[test]
fn handles_may_leave_their_thread() {
    fn is_shared<T: Send + Sync + Clone>() {}
    fn moves<T: Send>() {}
    is_shared::<Views>();
    moves::<ViewReader>();
    moves::<StayingView>();
    moves::<Hold>();
    moves::<RangeRun>();
    moves::<RangeStream>();
}

#[test]
fn handles_come_to_an_end_and_are_given_back() {
    let writer = filled(1);
    let mut readers: Vec<ViewReader> =
        std::iter::from_fn(|| writer.state.views().reader()).collect();
    assert_eq!(readers.len(), 256);
    readers.pop();
    assert!(writer.state.views().reader().is_some());
}

/// The planted bug does what it says: a pinned state falls apart.
#[cfg(feature = "sabotage")]
#[test]
fn sabotage_uses_pinned_pages_again() {
    let mut writer = filled(500);
    writer.state.sabotage(Sabotage::ReusePinnedPages);
    let stay = writer.reader().stay();
    let before = stay.view().range(&everything(0)).unwrap();
    (0..500).for_each(|i| {
        writer.put(format!("k{i:05}").into());
        writer.state.publish();
    });
    let read = || stay.view().range(&everything(501)).unwrap();
    let after = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    assert!(after.is_err() || after.is_ok_and(|after| after != before));
}
