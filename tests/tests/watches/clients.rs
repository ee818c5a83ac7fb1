//! Clients that stand still, vanish, or come and go by the thousand: what they cost, and that nobody else notices.

use std::time::{Duration, Instant};

use net::grpc::Code;
use prost::Message;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use tests::api::{WATCH, delete_range};
use tests::client::Client;
use tests::http;
use tests::process::is_etcore;
use tests::raw::{self, Raw};

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

/// Streams of different ranges that stand still in the middle of one long response each: what they keep is bounded, at the
/// cost of those that stand still the longest.
#[test]
fn long_responses_that_nobody_takes_are_bounded() {
    if !is_etcore() {
        return;
    }
    const STREAM_COUNT: usize = 40;
    const KEY_COUNT: usize = 2000;
    // Short enough to be copied into each response: 16 MB, where 256 MiB may be kept.
    const VALUE_LEN: usize = 8000;
    let mut fixture = Fixture::new(&["--shards=1"]);
    let value = "v".repeat(VALUE_LEN);
    for number in 0..KEY_COUNT {
        fixture.put(&format!("k{number:04}"), &value);
    }
    let mut clients: Vec<Client> = (0..STREAM_COUNT).map(|_| fixture.connect()).collect();
    let open = |(number, client)| {
        let mut stream = Stream::open(client);
        stream.create(WatchCreateRequest {
            prev_kv: true,
            ..watch_range("k", &format!("l{number}"))
        });
        stream
    };
    let mut streams: Vec<Stream<'_>> = clients.iter_mut().enumerate().map(open).collect();
    let before = fixture.process.allocated_bytes();
    fixture.delete(&delete_range("k", "l"));
    fixture.await_gauge(EVENTS, (STREAM_COUNT * KEY_COUNT) as u64);
    let grown = fixture.process.allocated_bytes().saturating_sub(before);
    let (mut whole_count, mut ended_count) = (0, 0);
    for stream in &mut streams {
        match stream.try_next() {
            Ok(response) => {
                assert_eq!(response.events.len(), KEY_COUNT);
                whole_count += 1;
            }
            Err(error) => {
                let code = error.status().map(|(code, _)| code);
                // The middle of a message is no place for a status: the stream is reset, which clients take for a
                // connection that broke, and go on where they were.
                assert_eq!(code, Some(Code::Internal), "{error}");
                ended_count += 1;
            }
        }
    }
    eprintln!("{grown} bytes; {whole_count} streams go on, {ended_count} ended");
    assert!(grown < 400 * MIB, "{grown}");
    assert!(whole_count >= 10 && ended_count >= 10);
}

/// One that lets the server read its requests and never opens its own window: the answers wait, up to a bound.
#[test]
fn a_client_that_asks_on_behind_a_shut_window_loses_its_stream() {
    if !is_etcore() {
        return;
    }
    /// What a request is answered with takes at least so much: most of it is the reason.
    const ANSWER_LEN_MIN: u64 = 70;
    let fixture = Fixture::new(&[]);
    let before = fixture.process.allocated_bytes();
    let create = RequestUnion::CreateRequest(WatchCreateRequest {
        watch_id: 5,
        ..watch("b")
    });
    let request = WatchRequest {
        request_union: Some(create),
    };
    let request = raw::message(&request.encode_to_vec());
    let batch = request.repeat(16_000 / request.len());
    let data = raw::frame(raw::kind::DATA, 0, 1, &batch);
    let mut socket = Raw::connect_http2(fixture.process.client_addr()).expect("a listener");
    let headers = raw::call_headers(1, WATCH);
    socket.send(&headers).expect("the server reads");
    let deadline = Instant::now() + PATIENCE;
    // What may be sent on the stream and on the connection.
    let mut windows = [65_535_i64; 2];
    let (mut answers_len, mut is_begun) = (0, false);
    loop {
        while windows.iter().all(|window| *window >= batch.len() as i64) {
            windows
                .iter_mut()
                .for_each(|window| *window -= batch.len() as i64);
            socket.send(&data).expect("the server reads");
            answers_len += (batch.len() / request.len()) as u64 * ANSWER_LEN_MIN;
        }
        let is_open = fixture.gauge(STREAMS) > 0;
        if is_begun && !is_open {
            break;
        }
        is_begun |= is_open;
        assert!(answers_len < 16 * MIB, "{answers_len} bytes of answers");
        assert!(Instant::now() < deadline, "{answers_len} bytes of answers");
        // It may have said all that it will, while the gauge is about to fall.
        let soon = Instant::now() + Duration::from_millis(100);
        let Ok(frame) = socket.next_frame(soon) else {
            continue;
        };
        let frame = frame.expect("the connection lives");
        socket.acknowledge(&frame).expect("the server reads");
        match frame.kind {
            raw::kind::WINDOW_UPDATE => {
                let octets = frame.payload.first_chunk::<4>().expect("four octets");
                windows[usize::from(frame.stream == 0)] += i64::from(u32::from_be_bytes(*octets));
            }
            raw::kind::SETTINGS => {
                for setting in frame.payload.chunks_exact(6) {
                    // SETTINGS_INITIAL_WINDOW_SIZE is of streams.
                    if let [0, 4, value @ ..] = setting {
                        let value = value.first_chunk::<4>().expect("four octets");
                        windows[0] += i64::from(u32::from_be_bytes(*value)) - 65_535;
                    }
                }
            }
            _ => {}
        }
    }
    assert!(answers_len > 2 * MIB, "ended after {answers_len}");
    let grown = fixture.process.allocated_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown}");
}
