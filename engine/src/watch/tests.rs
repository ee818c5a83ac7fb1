//! The hub against a naive twin: random changes, compactions and checkpoints, watchers that come and go, streams that
//! fill up and drain, budgets of a few units.
//!
//! The twin keeps every change and filters it for each watcher. What a watcher was told must at any time be a beginning
//! of that, in whole revisions, and all of it once everything has come to rest.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::etcdserverpb::request_op::Request;
use proto::mvccpb::{Event, KeyValue};

use super::{Hub, HubOptions, StreamNo};
use crate::backend::testing::TestDisk;
use crate::random::SplitMix64;
use crate::state::{Progress, State, StateOptions};
use crate::types::{Budget, LogIndex, Term};
use crate::view::ViewReader;

const INTERVAL: Duration = Duration::from_secs(600);
/// A response of this length may be split.
const FRAGMENT_LEN: usize = 600;

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn key(&mut self) -> Bytes {
        let key = [b"ab"[self.below(2) as usize], b'0' + self.below(8) as u8];
        Bytes::copy_from_slice(&key)
    }
}

/// One change as everybody who watches everything would be told.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    revision: i64,
    event: Event,
}

/// The state and its twin.
struct Store {
    disk: TestDisk,
    state: State,
    next: u64,
    keys: BTreeMap<Bytes, KeyValue>,
    history: Vec<Change>,
}

impl Store {
    fn new() -> Self {
        let disk = TestDisk::default();
        Store {
            state: disk.state(StateOptions::default()),
            disk,
            next: 0,
            keys: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    fn revision(&self) -> i64 {
        self.state.view().revision()
    }

    fn apply(&mut self, request: InternalRaftRequest) {
        self.next += 1;
        self.state
            .start(LogIndex(self.next), Term(1), Some(request));
        while !matches!(self.state.work(&mut Budget::new(100)), Progress::Done(_)) {}
    }

    fn compact(&mut self, revision: i64) {
        self.apply(InternalRaftRequest {
            compaction: Some(pb::CompactionRequest {
                revision,
                physical: false,
            }),
            ..Default::default()
        });
    }

    /// A transaction of these operations.
    fn txn(&mut self, ops: Vec<Request>) {
        let revision = self.revision() + 1;
        for op in &ops {
            match op {
                Request::RequestPut(put) => self.note_put(put, revision),
                Request::RequestDeleteRange(delete) => self.note_delete(delete, revision),
                _ => unreachable!(),
            }
        }
        let success = ops
            .into_iter()
            .map(|op| pb::RequestOp { request: Some(op) })
            .collect();
        self.apply(InternalRaftRequest {
            txn: Some(pb::TxnRequest {
                success,
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    fn note_put(&mut self, put: &pb::PutRequest, revision: i64) {
        let prev = self.keys.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: prev.as_ref().map_or(revision, |p| p.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |p| p.version + 1),
            lease: 0,
        };
        self.keys.insert(put.key.clone(), kv.clone());
        self.note(0, kv, prev, revision);
    }

    fn note_delete(&mut self, delete: &pb::DeleteRangeRequest, revision: i64) {
        let end = &delete.range_end;
        let gone: Vec<Bytes> = self
            .keys
            .range(delete.key.clone()..)
            .map(|(key, _)| key.clone())
            .take_while(|key| match end.as_ref() {
                b"" => *key == delete.key,
                b"\0" => true,
                end => key.as_ref() < end,
            })
            .collect();
        for key in gone {
            let prev = self.keys.remove(&key);
            let kv = KeyValue {
                key,
                mod_revision: revision,
                ..Default::default()
            };
            self.note(1, kv, prev, revision);
        }
    }

    fn note(&mut self, r#type: i32, kv: KeyValue, prev_kv: Option<KeyValue>, revision: i64) {
        let event = Event {
            r#type,
            kv: Some(kv),
            prev_kv,
        };
        self.history.push(Change { revision, event });
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        self.txn(vec![put(key, value)]);
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(24) {
            0 => {
                let mut keys = [random.key(), random.key()];
                keys.sort();
                let [from, to] = keys;
                self.txn(vec![delete(from, to)]);
            }
            1 => self.txn(vec![delete(random.key(), Bytes::new())]),
            2 => self.txn(vec![delete("\0".into(), "\0".into())]),
            3 => {
                let back = (random.below(60) * random.below(3)) as i64;
                self.compact(self.revision() - back);
            }
            4 | 5 => {
                // Keys of one transaction differ.
                let ops = (0..8).filter(|_| random.is(2)).collect::<Vec<u8>>();
                let value = "x".repeat(random.below(200) as usize);
                let key = |no: u8| Bytes::from(vec![b'a' + no % 2, b'0' + no]);
                let ops = ops.into_iter().map(|no| match no {
                    0 => delete(key(no), Bytes::new()),
                    no => put(key(no), value.clone().into()),
                });
                self.txn(ops.collect());
            }
            6..10 => self.disk.step(&mut self.state, random.below(400) as usize),
            _ => {
                let value = format!("value {}", self.revision() + 1);
                self.put(random.key(), value.into());
            }
        }
        if random.is(3) {
            self.state.publish();
        }
    }
}

fn put(key: Bytes, value: Bytes) -> Request {
    Request::RequestPut(pb::PutRequest {
        key,
        value,
        ..Default::default()
    })
}

fn delete(key: Bytes, range_end: Bytes) -> Request {
    Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv: false,
    })
}

/// What a client knows of one of its watchers.
#[derive(Debug)]
struct Watch {
    request: pb::WatchCreateRequest,
    /// What it is to be told begins here.
    first: i64,
    told: Vec<Event>,
    /// A fragment came, and not the last one.
    is_open: bool,
    /// Ended, by the client or by compaction.
    is_over: bool,
}

impl Watch {
    /// All that it should be told if it watched for ever.
    fn expected<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = &'a Change> {
        let request = &self.request;
        store.history.iter().filter(move |change| {
            let kv = change.event.kv.as_ref().unwrap();
            let is_in = match request.range_end.as_ref() {
                b"" => kv.key == request.key,
                b"\0" => kv.key >= request.key,
                end => kv.key >= request.key && kv.key < end,
            };
            let filtered = request.filters.contains(&change.event.r#type);
            is_in && !filtered && change.revision >= self.first
        })
    }

    fn has_all_up_to(&self, revision: i64, store: &Store) -> bool {
        let count = self
            .expected(store)
            .take_while(|change| change.revision <= revision)
            .count();
        self.told.len() >= count
    }
}

/// One client's stream.
struct Client {
    no: StreamNo,
    watches: BTreeMap<i64, Watch>,
    /// Those that wait for their answer.
    asked: VecDeque<pb::WatchCreateRequest>,
    queued_len: usize,
    room: usize,
    is_full: bool,
    progress_count: usize,
}

struct World {
    store: Store,
    reader: ViewReader,
    hub: Hub,
    clients: Vec<Client>,
    random: Random,
    now: Duration,
    compacted_count: usize,
    progress_count: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut store = Store::new();
        store.state.publish();
        let mut reader = store.state.views().reader().unwrap();
        let options = HubOptions {
            cluster_id: 7,
            member_id: 8,
            fragment_len: FRAGMENT_LEN,
            watchers_len_max: 1 << 20,
            notice_interval: INTERVAL,
            seed,
        };
        let hub = Hub::new(options, &reader.pin());
        World {
            store,
            reader,
            hub,
            clients: Vec::new(),
            random: Random(SplitMix64(seed)),
            now: Duration::ZERO,
            compacted_count: 0,
            progress_count: 0,
        }
    }

    fn open(&mut self) -> usize {
        let no = self.hub.open_stream(self.now);
        self.clients.push(Client {
            no,
            watches: BTreeMap::new(),
            asked: VecDeque::new(),
            queued_len: 0,
            room: 64 << self.random.below(8),
            is_full: false,
            progress_count: 0,
        });
        self.clients.len() - 1
    }

    fn watch(&mut self, client: usize, request: pb::WatchCreateRequest) {
        let view = self.reader.pin();
        let client = &mut self.clients[client];
        client.asked.push_back(request.clone());
        self.hub.create(client.no, request, &view, self.now);
    }

    fn random_watch(&mut self, client: usize) {
        let random = &mut self.random;
        let (key, range_end) = match random.below(6) {
            0 => ("a".into(), "b".into()),
            1 => (random.key(), Bytes::from_static(b"\0")),
            2 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            3 => {
                let mut keys = [random.key(), random.key()];
                keys.sort();
                let [from, to] = keys;
                (from, to)
            }
            _ => (random.key(), Bytes::new()),
        };
        let revision = self.store.revision();
        let start_revision = match random.below(4) {
            0 => 1 + random.below(revision as u64 + 10) as i64,
            1 => (revision - random.below(40) as i64).max(1),
            _ => 0,
        };
        let filters = (0..2).filter(|_| random.is(6)).collect();
        let request = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            filters,
            prev_kv: random.is(2),
            fragment: random.is(2),
            progress_notify: random.is(3),
            watch_id: random.below(5) as i64 * random.below(2) as i64,
        };
        self.watch(client, request);
    }

    fn work(&mut self, units: usize) -> bool {
        let view = self.reader.pin();
        let more = self.hub.work(&view, &mut Budget::new(units)).unwrap();
        drop(view);
        for _ in 0..1 + units {
            let Some(response) = self.hub.poll_response() else {
                break;
            };
            let len = response.bytes.len();
            let decoded = response.bytes.decode().unwrap();
            assert_eq!(decoded.events.len(), response.event_count);
            self.on_response(response.stream, decoded, len);
        }
        more
    }

    fn on_response(&mut self, stream: StreamNo, response: pb::WatchResponse, len: usize) {
        let client = self.clients.iter_mut().find(|client| client.no == stream);
        let client = client.expect("nothing comes for a stream that was closed");
        assert!(
            response.events.is_empty() || !client.is_full,
            "events for a full stream"
        );
        client.queued_len += len;
        if client.queued_len >= client.room {
            client.is_full = true;
            self.hub.on_full(stream);
        }
        let header = response.header.unwrap();
        assert_eq!((header.cluster_id, header.member_id), (7, 8));
        let id = response.watch_id;
        if response.created {
            let request = client.asked.pop_front().unwrap();
            if response.canceled {
                assert_eq!(id, -1);
                assert!(!response.cancel_reason.is_empty());
                return;
            }
            let first = match request.start_revision {
                0 => header.revision + 1,
                start => start,
            };
            let watch = Watch {
                request,
                first,
                told: Vec::new(),
                is_open: false,
                is_over: false,
            };
            let former = client.watches.insert(id, watch);
            assert!(former.is_none_or(|former| former.is_over));
            return;
        }
        if id == -1 {
            client.progress_count += 1;
            self.progress_count += 1;
            for watch in client.watches.values().filter(|watch| !watch.is_over) {
                assert!(
                    watch.has_all_up_to(header.revision, &self.store),
                    "progress at {}: {watch:?}",
                    header.revision
                );
            }
            return;
        }
        let watch = client.watches.get_mut(&id).expect("a watcher of ours");
        if response.canceled {
            if response.compact_revision > 0 {
                assert!(!watch.is_over);
                self.compacted_count += 1;
                assert_eq!(header.revision, 0);
                assert!(response.compact_revision > watch.first);
                assert!(
                    !watch.has_all_up_to(self.store.revision(), &self.store)
                        || watch.first < response.compact_revision
                );
            }
            watch.is_over = true;
            return;
        }
        assert!(!watch.is_over, "told after its end: {id}");
        if response.events.is_empty() {
            assert!(watch.request.progress_notify && !watch.is_open);
            assert!(watch.has_all_up_to(header.revision, &self.store));
            return;
        }
        assert!(
            header.revision
                >= response
                    .events
                    .last()
                    .unwrap()
                    .kv
                    .as_ref()
                    .unwrap()
                    .mod_revision
        );
        assert!(watch.request.fragment || !response.fragment);
        watch.is_open = response.fragment;
        let told = watch.told.len();
        let compacted = self.store.state.view().compact_revision();
        for event in response.events {
            watch.told.push(event);
        }
        let mut expected = watch.expected(&self.store).skip(told);
        for event in &watch.told[told..] {
            let wanted = expected.next().expect("an event that was never made");
            assert_eq!(
                (&event.kv, event.r#type),
                (&wanted.event.kv, wanted.event.r#type)
            );
            let prev = &event.prev_kv;
            if !watch.request.prev_kv || wanted.revision > compacted {
                let wanted = wanted.event.prev_kv.clone();
                assert_eq!(*prev, wanted.filter(|_| watch.request.prev_kv));
            } else {
                assert!(prev.is_none() || *prev == wanted.event.prev_kv);
            }
        }
        // The revision is whole, unless another fragment follows.
        if !watch.is_open {
            let last = watch.told.last().and_then(|e| e.kv.as_ref()).unwrap();
            let rest = expected.next();
            assert!(rest.is_none_or(|rest| rest.revision > last.mod_revision));
        }
    }

    fn take(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.queued_len = 0;
        if std::mem::take(&mut client.is_full) {
            self.hub.on_writable(client.no);
        }
    }

    fn step(&mut self) {
        let client = match self.clients.len() {
            0 => self.open(),
            count => self.random.below(count as u64) as usize,
        };
        match self.random.below(40) {
            0 if self.clients.len() < 6 => drop(self.open()),
            1 if self.random.is(4) => {
                let client = self.clients.swap_remove(client);
                self.hub.close_stream(client.no);
            }
            2..5 => self.random_watch(client),
            5 => {
                let id = self.random.below(6) as i64;
                let view = self.reader.pin();
                self.hub.cancel(self.clients[client].no, id, &view);
            }
            6 | 7 => {
                let view = self.reader.pin();
                self.hub.request_progress(self.clients[client].no, &view);
            }
            8..12 => self.take(client),
            12 if self.random.is(4) => {
                self.now += INTERVAL;
                self.hub.on_time(self.now);
            }
            13..25 => {
                let units = 1 << self.random.below(8);
                self.work(units);
            }
            _ => self.store.step(&mut self.random),
        }
    }

    /// Everybody takes what comes until nothing does.
    fn rest(&mut self) {
        self.store.state.publish();
        for _ in 0..100_000 {
            for client in 0..self.clients.len() {
                self.take(client);
            }
            if !self.work(300) {
                let is_full = self.clients.iter().any(|client| client.is_full);
                if !is_full {
                    return self.check_rest();
                }
            }
        }
        panic!("no rest: {:?}", self.hub);
    }

    fn check_rest(&mut self) {
        let revision = self.store.revision();
        assert_eq!(self.hub.frontier(), revision);
        assert_eq!(self.hub.slow_watcher_count(), 0);
        let mut count = 0;
        for client in &self.clients {
            assert!(client.asked.is_empty());
            count += client.watches.values().filter(|w| !w.is_over).count();
            for watch in client.watches.values().filter(|watch| !watch.is_over) {
                assert!(!watch.is_open);
                assert_eq!(
                    watch.told.len(),
                    watch.expected(&self.store).count(),
                    "{watch:?}"
                );
            }
        }
        assert!(self.hub.watcher_count() >= count);
        assert_eq!(self.hub.stream_count(), self.clients.len());
    }
}

/// Prints the seed of a world that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[test]
fn watchers_are_told_what_the_twin_says() {
    let (mut compacted_count, mut progress_count, mut told_count) = (0, 0, 0);
    for seed in 0..60 {
        let _seed = Named(seed);
        let mut world = World::new(seed);
        for step in 0..1500 {
            world.step();
            if step % 500 == 499 {
                world.rest();
            }
        }
        world.rest();
        compacted_count += world.compacted_count;
        progress_count += world.progress_count;
        let watches = world
            .clients
            .iter()
            .flat_map(|client| client.watches.values());
        told_count += watches.map(|watch| watch.told.len()).sum::<usize>();
        for client in std::mem::take(&mut world.clients) {
            world.hub.close_stream(client.no);
        }
        world.rest();
        assert_eq!(world.hub.watcher_count(), 0);
        assert_eq!(world.hub.watchers_len, 0);
    }
    // The test has met what it is for.
    assert!(compacted_count > 20, "{compacted_count}");
    assert!(progress_count > 200, "{progress_count}");
    assert!(told_count > 10_000, "{told_count}");
}

/// One watcher more than the budget bears is refused; a cancelled one gives its share back.
#[test]
fn watchers_take_what_they_may_and_no_more() {
    let mut world = World::new(1);
    let client = world.hub.open_stream(world.now);
    let view = world.reader.pin();
    let create = |hub: &mut Hub, key_len: usize| {
        let request = pb::WatchCreateRequest {
            key: "k".repeat(key_len).into(),
            ..Default::default()
        };
        hub.create(client, request, &view, Duration::ZERO);
        let response = hub.poll_response().expect("an answer");
        response.bytes.decode().expect("a response")
    };
    let refusal = (0..).find_map(|no| {
        let answer = create(&mut world.hub, 1000);
        assert_eq!(answer.watch_id, if answer.canceled { -1 } else { no });
        answer.canceled.then_some(answer)
    });
    let refusal = refusal.expect("there is an end");
    assert!(refusal.created && refusal.cancel_reason.starts_with("etcore: "));
    let count = world.hub.watcher_count();
    assert!((500..=1 << 10).contains(&count), "{count} of a MiB");
    assert!(world.hub.watchers_len <= 1 << 20);
    // A refused one took nothing, not even an id.
    assert!(create(&mut world.hub, 1000).canceled);
    world.hub.cancel(client, 3, &view);
    assert!(world.hub.poll_response().is_some());
    assert!(create(&mut world.hub, 2000).canceled, "a longer one");
    assert_eq!(create(&mut world.hub, 1000).watch_id, count as i64);
}
