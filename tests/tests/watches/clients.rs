//! Clients that stand still, vanish, or come and go by the thousand: what they cost, and that nobody else notices.

use std::time::{Duration, Instant};

use proto::etcdserverpb::WatchCreateRequest;
use tests::client::Client;
use tests::http;
use tests::process::is_etcore;

use super::stream::{Stream, watch, watch_range};
use super::{Fixture, OPEN_END, told};

/// For something that the server does by itself, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

impl Fixture {
    fn gauge(&self, name: &str) -> u64 {
        let page = http::get(self.process.client_addr(), "/metrics").expect("the metrics");
        let name = format!("{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Asks the server, again and again, until it says so.
    fn await_gauge(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.gauge(name) != value {
            assert!(Instant::now() < deadline, "{name} is {}", self.gauge(name));
            std::thread::yield_now();
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.process.client_addr()).expect("a listener")
    }
}

const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";
const STREAMS: &str = "etcd_debugging_mvcc_watch_stream_total";
const SLOW: &str = "etcd_debugging_mvcc_slow_watcher_total";
const EVENTS: &str = "etcd_debugging_mvcc_events_total";

#[test]
fn watchers_are_counted() {
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    let mut stream = Stream::open(&mut watcher);
    for _ in 0..3 {
        stream.create(watch("a"));
    }
    fixture.await_gauge(WATCHERS, 3);
    fixture.await_gauge(STREAMS, 1);
    fixture.await_gauge(SLOW, 0);
    fixture.put("a", "1");
    for _ in 0..3 {
        stream.next();
    }
    fixture.await_gauge(EVENTS, 3);
    stream.cancel(1);
    fixture.await_gauge(WATCHERS, 2);
    // The client is gone without a word.
    drop(watcher);
    fixture.await_gauge(WATCHERS, 0);
    fixture.await_gauge(STREAMS, 0);
}

/// Streams whose client takes nothing: the puts go on, the memory is bounded, and in the end nothing is missing.
#[test]
fn clients_that_stand_still_cost_what_waits_for_them() {
    if !is_etcore() {
        return;
    }
    const STREAM_COUNT: u64 = 20;
    const PUT_COUNT: i64 = 400;
    let mut fixture = Fixture::new(&["--quota-backend-bytes=-1"]);
    let value = "v".repeat(10_000);
    let mut clients: Vec<Client> = (0..STREAM_COUNT).map(|_| fixture.connect()).collect();
    let mut streams: Vec<Stream<'_>> = clients
        .iter_mut()
        .map(|client| {
            let mut stream = Stream::open(client);
            stream.create(watch_range("k", "l"));
            stream
        })
        .collect();
    let before = fixture.process.allocated_bytes();
    for number in 0..PUT_COUNT {
        fixture.put(&format!("k{number}"), &value);
    }
    // Each could have 4 MB; a stream's window and its room are much less.
    let grown = fixture.process.allocated_bytes().saturating_sub(before);
    eprintln!("{STREAM_COUNT} stalled streams: {grown} bytes");
    assert!(grown < 40 * MIB, "{grown}");
    fixture.await_gauge(SLOW, STREAM_COUNT);
    for stream in &mut streams {
        let mut seen = 0;
        while seen < PUT_COUNT {
            for (.., key, _) in told(&stream.next().events) {
                assert_eq!(key, format!("k{seen}"));
                seen += 1;
            }
        }
    }
    fixture.await_gauge(SLOW, 0);
}

#[test]
fn thousands_of_watches_come_and_go() {
    const COUNT: i64 = 5_000;
    let mut fixture = Fixture::new(&[]);
    let mut watcher = fixture.connect();
    let before = fixture.process.resident_bytes();
    for round in 0..3 {
        let mut stream = Stream::open(&mut watcher);
        for number in 0..COUNT {
            stream.send_create(WatchCreateRequest {
                range_end: if number % 3 == 0 {
                    OPEN_END.into()
                } else {
                    "".into()
                },
                ..watch(&format!("w{number}"))
            });
        }
        for id in 0..COUNT {
            assert_eq!(stream.next().watch_id, id);
        }
        // The last ones, and all ranges below.
        fixture.put(&format!("w{}", COUNT - 1), "x");
        let hits = (0..COUNT)
            .filter(|n| {
                let (key, last) = (format!("w{n}"), format!("w{}", COUNT - 1));
                if n % 3 == 0 { key <= last } else { key == last }
            })
            .count();
        for _ in 0..hits {
            assert_eq!(stream.next().events.len(), 1);
        }
        if round < 2 {
            for id in 0..COUNT {
                stream.send_cancel(id);
            }
            for id in 0..COUNT {
                assert_eq!(stream.next().watch_id, id);
            }
        }
    }
    drop(watcher);
    fixture.await_gauge(WATCHERS, 0);
    let grown = fixture.process.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB || !is_etcore(), "{grown}");
}

/// One that asks on and on and never reads costs little: its own window stops it, and nobody else notices.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    if !is_etcore() {
        return;
    }
    let mut fixture = Fixture::new(&[]);
    let (mut watcher, mut good) = (fixture.connect(), fixture.connect());
    let before = fixture.process.allocated_bytes();
    let mut stream = Stream::open(&mut watcher);
    let mut good = Stream::open(&mut good);
    good.create(watch("a"));
    let mut grown = 0;
    for round in 0..20 {
        for _ in 0..5_000 {
            // Refused but for the first one, as the id is taken.
            stream.send_create(WatchCreateRequest {
                watch_id: 5,
                ..watch("b")
            });
        }
        fixture.put("a", &round.to_string());
        assert_eq!(good.next().events.len(), 1);
        grown = grown.max(fixture.process.allocated_bytes().saturating_sub(before));
    }
    eprintln!("{grown} bytes at most");
    assert!(grown < 32 * MIB, "{grown}");
}
