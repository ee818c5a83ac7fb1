//! Watch from end to end, by what etcd's own server does: each test but those that say so also passes against the real
//! etcd (`ETCORE_BIN`).
//!
//! - `main.rs`: what a watcher is told; what is refused; progress; large responses;
//! - `clients.rs`: clients that stand still, vanish, or come and go by the thousand, and what they cost.

mod clients;
mod stream;

use bytes::Bytes;
use net::grpc::Code;
use proto::etcdserverpb::{DeleteRangeRequest, WatchCreateRequest, WatchResponse};
use proto::mvccpb::Event;
use tempfile::TempDir;
use tests::api::{OPEN_END, WATCH, delete, delete_range, op, put, revision_of, txn};
use tests::client::{CallError, Client};
use tests::process::{Options, Process, is_etcore};

use stream::{Stream, watch, watch_range};

const PUT_EVENT: i32 = 0;
const DELETE_EVENT: i32 = 1;

struct Fixture {
    process: Process,
    writer: Client,
    _dir: TempDir,
}

impl Fixture {
    fn new(args: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let mut options = Options::new(dir.path().join("data"));
        options.extra_args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let has_shards = args.iter().any(|arg| arg.starts_with("--shards"));
        if is_etcore() && !has_shards {
            // The second connection is served by the core that does not drive the node.
            options = options.two_shards();
        }
        let process = Process::start(options);
        Fixture {
            writer: Client::connect(process.client_addr()).expect("a listener"),
            process,
            _dir: dir,
        }
    }

    fn put(&mut self, key: &str, value: &str) -> i64 {
        revision_of(self.writer.put(key, value).expect("a put").header)
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> i64 {
        let response = self.writer.delete_range(request).expect("a delete");
        revision_of(response.header)
    }
}

/// Type, key and value of each.
fn told(events: &[Event]) -> Vec<(i32, String, String)> {
    let text = |octets: &Bytes| String::from_utf8_lossy(octets).into_owned();
    let tell = |event: &Event| {
        let kv = event.kv.as_ref().expect("an event has a pair");
        (event.r#type, text(&kv.key), text(&kv.value))
    };
    events.iter().map(tell).collect()
}

fn put_of(key: &str, value: &str) -> (i32, String, String) {
    (PUT_EVENT, key.to_owned(), value.to_owned())
}

fn delete_of(key: &str) -> (i32, String, String) {
    (DELETE_EVENT, key.to_owned(), String::new())
}

#[test]
fn keys_ranges_and_open_ends_are_watched() {
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    let key = stream.create(watch("b"));
    let range = stream.create(watch_range("b", "c"));
    let open = stream.create(WatchCreateRequest {
        range_end: OPEN_END.into(),
        ..watch("b1")
    });
    // No key is the lowest one.
    let all = stream.create(WatchCreateRequest {
        range_end: OPEN_END.into(),
        ..watch("")
    });
    assert_eq!([key, range, open, all], [0, 1, 2, 3]);
    let revision = fixture.put("a", "1");
    let response = stream.next();
    assert_eq!(response.watch_id, all);
    assert_eq!(told(&response.events), [put_of("a", "1")]);
    assert_eq!(revision_of(response.header), revision);
    fixture.put("b", "2");
    let mut ids: Vec<i64> = (0..3).map(|_| stream.next().watch_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [key, range, all]);
    fixture.put("b1", "3");
    let mut ids: Vec<i64> = (0..3).map(|_| stream.next().watch_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [range, open, all]);
    fixture.delete(&delete_range("b", "c"));
    let mut events: Vec<_> = (0..4).map(|_| stream.next()).collect();
    events.sort_by_key(|response| response.watch_id);
    let both = [delete_of("b"), delete_of("b1")];
    assert_eq!(told(&events[0].events), both[..1]);
    assert_eq!(told(&events[1].events), both);
    assert_eq!(told(&events[2].events), both[1..]);
    assert_eq!(told(&events[3].events), both);
    let kv = events[0].events[0].kv.as_ref().expect("a pair");
    assert_eq!((kv.mod_revision, kv.create_revision, kv.version), (5, 0, 0));
}

#[test]
fn previous_pairs_and_filters() {
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    let with_prev = stream.create(WatchCreateRequest {
        prev_kv: true,
        watch_id: 7,
        ..watch("k")
    });
    let only_deletes = stream.create(WatchCreateRequest {
        filters: vec![0],
        watch_id: 8,
        ..watch("k")
    });
    let only_puts = stream.create(WatchCreateRequest {
        filters: vec![1],
        watch_id: 9,
        ..watch("k")
    });
    // All is filtered, and one that etcd does not know changes nothing.
    stream.create(WatchCreateRequest {
        filters: vec![0, 1, 5],
        watch_id: 10,
        ..watch("k")
    });
    fixture.put("k", "1");
    fixture.put("k", "2");
    fixture.delete(&delete("k"));
    let mut by_id = std::collections::BTreeMap::<i64, Vec<Event>>::new();
    for _ in 0..6 {
        let response = stream.next();
        by_id
            .entry(response.watch_id)
            .or_default()
            .extend(response.events);
    }
    let prevs: Vec<_> = by_id[&with_prev]
        .iter()
        .map(|event| event.prev_kv.as_ref().map(|kv| kv.value.clone()))
        .collect();
    assert_eq!(prevs, [None, Some("1".into()), Some("2".into())]);
    assert_eq!(told(&by_id[&only_deletes]), [delete_of("k")]);
    assert_eq!(
        told(&by_id[&only_puts]),
        [put_of("k", "1"), put_of("k", "2")]
    );
    assert_eq!(by_id.len(), 3);
    let none = by_id[&only_puts]
        .iter()
        .all(|event| event.prev_kv.is_none());
    assert!(none);
}

#[test]
fn the_past_is_told_and_the_future_is_waited_for() {
    let mut fixture = Fixture::new(&[]);
    for number in 0..20 {
        fixture.put(&format!("k{}", number % 2), &number.to_string());
    }
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    let past = stream.create(WatchCreateRequest {
        start_revision: 2,
        watch_id: 20,
        ..watch_range("k0", "k2")
    });
    let mut events = Vec::new();
    while events.len() < 20 {
        let response = stream.next();
        assert_eq!(response.watch_id, past);
        // The newest revision, not that of the events.
        assert_eq!(revision_of(response.header), 21);
        events.extend(response.events);
    }
    let values: Vec<_> = told(&events).into_iter().map(|(.., value)| value).collect();
    let wanted: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(values, wanted);
    let future = stream.create(WatchCreateRequest {
        start_revision: 24,
        watch_id: 24,
        ..watch("k0")
    });
    for number in 22..26 {
        fixture.put("k0", &number.to_string());
    }
    let (mut seen, mut later) = (0, Vec::new());
    while seen < 4 || later.len() < 2 {
        let response = stream.next();
        if response.watch_id == future {
            later.extend(response.events);
        } else {
            seen += response.events.len();
        }
    }
    assert_eq!(told(&later), [put_of("k0", "24"), put_of("k0", "25")]);
}

#[test]
fn a_transaction_is_told_at_once() {
    let mut fixture = Fixture::new(&[]);
    fixture.put("t/old", "x");
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    stream.create(watch_range("t/", "t0"));
    let ops = vec![
        op(put("t/b", "1")),
        op(delete("t/old")),
        op(put("t/a", "2")),
        op(put("other", "3")),
    ];
    fixture
        .writer
        .txn(&txn(vec![], ops, vec![]))
        .expect("a transaction");
    // In the order in which they were done, not that of the keys.
    let wanted = [put_of("t/b", "1"), delete_of("t/old"), put_of("t/a", "2")];
    assert_eq!(told(&stream.next().events), wanted);
}

#[test]
fn ids_are_chosen_and_given_back() {
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    assert_eq!(stream.create(watch("a")), 0);
    let chosen = |watch_id| WatchCreateRequest {
        watch_id,
        ..watch("a")
    };
    assert_eq!(stream.create(chosen(2)), 2);
    assert_eq!(stream.create(watch("a")), 1);
    assert_eq!(stream.create(watch("a")), 3);
    assert_eq!(stream.create(chosen(-1)), -1);
    let refused = stream.ask(chosen(2));
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.watch_id, -1);
    // A cancelled one is free again, but numbering goes on.
    let end = stream.cancel(1);
    assert!(end.canceled && !end.created);
    assert_eq!((end.watch_id, &end.cancel_reason[..]), (1, ""));
    assert!(revision_of(end.header) > 0);
    assert_eq!(stream.create(watch("a")), 4);
    assert_eq!(stream.create(chosen(1)), 1);
    // Nobody has this one: silence, so the next answer is another request's.
    stream.send_cancel(77);
    assert_eq!(stream.create(chosen(77)), 77);
    // What is cancelled is told nothing more.
    for id in [0, 1, 2, 3, 4, -1] {
        assert_eq!(stream.cancel(id).watch_id, id);
    }
    fixture.put("a", "1");
    assert_eq!(stream.next().watch_id, 77);
}

#[test]
fn a_compacted_watcher_ends_and_keeps_its_id() {
    let mut fixture = Fixture::new(&[]);
    for number in 0..5 {
        fixture.put("k", &number.to_string());
    }
    fixture.writer.compact(5).expect("revision 5 exists");
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    let request = WatchCreateRequest {
        start_revision: 3,
        watch_id: 9,
        ..watch("k")
    };
    assert_eq!(stream.create(request.clone()), 9);
    let end = stream.next();
    assert!(end.canceled && !end.created);
    assert_eq!((end.watch_id, end.compact_revision), (9, 5));
    let header = end.header.expect("a header");
    assert!(header.revision == 0 && header.raft_term > 0 && header.member_id != 0);
    assert_eq!(end.cancel_reason, "");
    let double = stream.ask(request);
    assert_eq!((double.watch_id, double.canceled), (-1, true));
    // While it is not cancelled, nobody can say how far all watchers are.
    stream.send_progress();
    let end = stream.cancel(9);
    assert_eq!((end.watch_id, end.compact_revision), (9, 0));
    // The compact revision itself can be watched from.
    let from = WatchCreateRequest {
        start_revision: 5,
        watch_id: 10,
        ..watch("k")
    };
    assert_eq!(stream.create(from), 10);
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(stream.next().events);
    }
    assert_eq!(told(&events), [put_of("k", "3"), put_of("k", "4")]);
}

#[test]
fn progress_is_told_when_asked_for() {
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    // Of no watchers there is nothing to tell.
    stream.send_progress();
    stream.create(watch("a"));
    for _ in 0..3 {
        let revision = fixture.put("other", "x");
        stream.send_progress();
        let answer = stream.next();
        assert_eq!(answer.watch_id, -1);
        assert!(answer.events.is_empty() && !answer.canceled && !answer.created);
        assert_eq!(revision_of(answer.header), revision);
    }
    // One that begins in the future says nothing, and is not asked again.
    let newest = fixture.put("other", "y");
    let future = WatchCreateRequest {
        start_revision: newest + 2,
        watch_id: 5,
        ..watch("a")
    };
    stream.create(future);
    stream.send_progress();
    fixture.put("a", "1");
    assert_eq!(stream.next().watch_id, 0);
    fixture.put("a", "2");
    let mut ids = [stream.next().watch_id, stream.next().watch_id];
    ids.sort_unstable();
    assert_eq!(ids, [0, 5]);
    stream.send_progress();
    assert_eq!(stream.next().watch_id, -1);
}

#[test]
fn quiet_watchers_are_told_how_far_they_are() {
    let mut fixture = Fixture::new(&["--watch-progress-notify-interval=100ms"]);
    let revision = fixture.put("other", "x");
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    stream.create(watch("a"));
    let noticed = stream.create(WatchCreateRequest {
        progress_notify: true,
        ..watch("a")
    });
    for _ in 0..3 {
        let notice = stream.next();
        assert_eq!(notice.watch_id, noticed);
        assert!(notice.events.is_empty() && !notice.created && !notice.canceled);
        assert_eq!(revision_of(notice.header), revision);
    }
}

#[test]
fn a_large_response_is_split_for_those_who_allow_it() {
    // The old and the new value are beyond the limit together: 1 MiB and half a MiB for the envelope.
    let mut fixture = Fixture::new(&["--max-request-bytes=1048576"]);
    let value = "v".repeat(450_000);
    let put_both = |fixture: &mut Fixture| {
        let ops = vec![op(put("k1", &value)), op(put("k2", &value))];
        let request = txn(vec![], ops, vec![]);
        fixture.writer.txn(&request).expect("a transaction");
    };
    put_both(&mut fixture);
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    let with = |fragment, watch_id| WatchCreateRequest {
        prev_kv: true,
        fragment,
        watch_id,
        ..watch_range("k1", "k3")
    };
    stream.create(with(true, 1));
    stream.create(with(false, 2));
    put_both(&mut fixture);
    let mut parts: Vec<WatchResponse> = (0..3).map(|_| stream.next()).collect();
    parts.sort_by_key(|part| part.watch_id);
    let [first, second, whole] = &parts[..] else {
        unreachable!()
    };
    assert!(first.fragment && !second.fragment && !whole.fragment);
    assert_eq!((first.events.len(), second.events.len()), (1, 1));
    let joined: Vec<_> = first.events.iter().chain(&second.events).cloned().collect();
    assert_eq!(joined, whole.events);
    assert_eq!(first.header, second.header);
}

#[test]
fn a_revision_of_many_events_comes_in_one_response() {
    const COUNT: usize = 20_000;
    let mut fixture = Fixture::new(&[]);
    let keys: Vec<String> = (0..COUNT).map(|number| format!("k/{number:08}")).collect();
    for part in keys.chunks(128) {
        let ops = part.iter().map(|key| op(put(key, "v"))).collect();
        let request = txn(vec![], ops, vec![]);
        fixture.writer.txn(&request).expect("a transaction");
    }
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    let lone = stream.create(watch(&keys[4711]));
    let all = stream.create(WatchCreateRequest {
        prev_kv: true,
        ..watch_range("k/", "k0")
    });
    let part = stream.create(watch_range("k/00010000", "k/00015000"));
    let revision = fixture.delete(&delete_range("k/", "k0"));
    for _ in 0..3 {
        let response = stream.next();
        assert_eq!(revision_of(response.header), revision);
        let wanted = match response.watch_id {
            id if id == lone => &keys[4711..4712],
            id if id == all => &keys[..],
            id if id == part => &keys[10_000..15_000],
            id => panic!("{id}"),
        };
        let told: Vec<&[u8]> = response
            .events
            .iter()
            .map(|event| {
                assert_eq!(event.prev_kv.is_some(), response.watch_id == all);
                event.kv.as_ref().map_or(&[][..], |kv| &kv.key)
            })
            .collect();
        let wanted: Vec<&[u8]> = wanted.iter().map(|key| key.as_bytes()).collect();
        assert!(told == wanted, "{} events", told.len());
    }
    // And from the past, where it stands in the middle of others.
    fixture.put("k/after", "1");
    stream.send_create(WatchCreateRequest {
        start_revision: revision - 1,
        watch_id: 50,
        ..watch_range("k/", "k0")
    });
    let mut counts = std::collections::BTreeMap::<i64, usize>::new();
    while !counts.contains_key(&(revision + 1)) {
        let response = stream.next();
        if response.watch_id != 50 {
            continue;
        }
        let mut of_response = std::collections::BTreeMap::<i64, usize>::new();
        for event in response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            *of_response.entry(revision).or_default() += 1;
        }
        for (revision, count) in of_response {
            assert_eq!(counts.insert(revision, count), None, "{revision} is split");
        }
    }
    assert_eq!(counts[&revision], COUNT);
}

#[test]
fn a_half_closed_stream_goes_on_and_nonsense_ends_one() {
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    watcher.metadata = vec![("hasleader".to_owned(), "true".to_owned())];
    let mut stream = Stream::open(&mut watcher);
    stream.create(watch("a"));
    stream.half_close();
    fixture.put("a", "1");
    assert_eq!(told(&stream.next().events), [put_of("a", "1")]);

    let client = &mut watcher;
    let call = client.start(WATCH).expect("a call");
    // Field 1 of it is no message.
    client.send(call, &put("\u{ff}", ""));
    match client.next::<WatchResponse>(call) {
        Err(CallError::Status(status)) => assert_eq!(status.code, Code::Internal),
        other => panic!("{other:?}"),
    }
}
