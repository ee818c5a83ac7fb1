//! What a connection costs in memory: how often it asks for some in the steady state, and how much a peer can make it keep.

#[path = "support/counting.rs"]
#[allow(unreachable_pub, reason = "shared by path")]
mod counting;
mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use counting::{Counting, claims, live, peak, reset_peak};
use net::grpc::Status;
use net::{CallId, ClientConnection, Limits, Metadata, Rate, ServerConnection, ServerEvent};
use support::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a client pipelines, read by read, for a server that has met it.
struct Puts {
    server: ServerConnection,
    reads: VecDeque<Vec<u8>>,
}

const REQUEST_LEN: usize = 300;

fn puts(depth: usize, read_count: usize) -> Puts {
    let now = Duration::from_secs(1000);
    let mut server = ServerConnection::new(Arc::new(Limits::default()), now);
    let mut client = ClientConnection::new(Arc::new(Limits::client()), "localhost:2379", now);
    let mut octets = Vec::new();
    for _ in 0..3 {
        client.poll_transmit(&mut octets, usize::MAX);
        server.on_bytes(&octets);
        octets.clear();
        server.poll_transmit(&mut octets, usize::MAX);
        client.on_bytes(&octets);
        octets.clear();
    }
    let metadata: Metadata = [("client-api-version", "3.6.0"), ("hasleader", "true")]
        .into_iter()
        .collect();
    let reads = (0..read_count)
        .map(|number| {
            let mut octets = Vec::new();
            for _ in 0..depth {
                let timeout = Some(Duration::from_micros(5_000_000 - number as u64));
                let id = client.start_call("/etcdserverpb.KV/Put", &metadata, timeout);
                let id = id.expect("the client takes calls");
                client.send_message(id, Bytes::from(vec![7; REQUEST_LEN]));
                client.half_close(id);
                client.poll_transmit(&mut octets, usize::MAX);
            }
            octets
        })
        .collect();
    Puts { server, reads }
}

impl Puts {
    /// One read, whole calls out, answers in, one write.
    fn turn(&mut self, now: Duration, answer: &Bytes, open: &mut Vec<CallId>, out: &mut Vec<u8>) {
        let read = self.reads.pop_front().expect("a read is left");
        self.server.on_time(now);
        self.server.on_bytes(&read);
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Call { metadata, path, .. } => {
                    assert_eq!(path, "/etcdserverpb.KV/Put");
                    assert_eq!(metadata.get("hasleader"), Some(&b"true"[..]));
                }
                ServerEvent::Message { payload, .. } => assert_eq!(payload.len(), REQUEST_LEN),
                ServerEvent::HalfClose { id } => open.push(id),
                other => panic!("{other:?}"),
            }
        }
        for id in open.drain(..) {
            self.server.send_message(id, answer.clone());
            self.server.finish(id, &Status::OK);
        }
        out.clear();
        let len = self.server.poll_transmit(out, usize::MAX);
        assert!(len > 0 && len == out.len());
        assert_eq!(self.server.poll_transmit(out, usize::MAX), 0, "one write");
    }
}

/// A put costs one allocation in the steady state, its message, plus now and then a chunk for header lists.
#[test]
fn a_put_allocates_its_message() {
    const WARM_UP: usize = 200;
    for (depth, reads) in [(1, 3000), (10, 500)] {
        let mut puts = puts(depth, WARM_UP + reads);
        let answer = Bytes::from(vec![1; 30]);
        let (mut open, mut out) = (Vec::with_capacity(64), Vec::with_capacity(64 * 1024));
        let mut before = 0;
        for turn in 0..WARM_UP + reads {
            if turn == WARM_UP {
                before = claims();
            }
            let now = Duration::from_secs(1000) + Duration::from_micros(50 * turn as u64);
            puts.turn(now, &answer, &mut open, &mut out);
        }
        let count = claims() - before;
        let puts_done = (depth * reads) as u64;
        println!("depth {depth}: {count} allocations for {puts_done} puts");
        assert!(count >= puts_done, "nothing is counted");
        // A tenth more than one for each: chunks and tables.
        assert!(count * 10 <= puts_done * 11, "{count} for {puts_done} puts");
    }
}

/// Most connections are silent most of the time, whatever they asked for once.
#[test]
fn a_burst_leaves_little_behind() {
    const COUNT: usize = 80;
    let mut puts = puts(COUNT, 1);
    let (mut open, mut out) = (Vec::with_capacity(COUNT), Vec::with_capacity(64 * 1024));
    let read_len: usize = puts.reads.iter().map(Vec::capacity).sum();
    let before = live() - read_len;
    let now = Duration::from_secs(1000);
    puts.turn(now, &Bytes::from_static(b"done"), &mut open, &mut out);
    let kept = live().saturating_sub(before);
    println!("{kept} octets are kept");
    // Most of it is room for so many streams.
    assert!(kept < 64 * 1024, "{kept}");
}

fn call_ids(events: &[ServerEvent]) -> Vec<CallId> {
    let id = |event: &ServerEvent| match event {
        ServerEvent::Call { id, .. } => Some(*id),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

/// What a connection costs when a peer opened all streams it may and says nothing on them. Counted where tables that
/// double have just done so, and with the old table beside the new one.
#[test]
fn idle_streams_are_small() {
    const COUNT: usize = (1 << 14) + 1;
    let mut peer = RawPeer::connect(Limits::default());
    let before = live();
    reset_peak();
    for number in 0..COUNT as u32 {
        // A deadline, too: it waits in a heap.
        peer.open_call(number * 2 + 1, 0, &[("grpc-timeout", "1H")]);
        assert_eq!(peer.events().len(), 1);
    }
    let each = |len: usize| (len - before) / COUNT;
    let (lasting, most) = (each(live()), each(peak()));
    println!("an idle stream takes {lasting} octets, and {most} for a moment");
    // What `Limits::memory_bytes_max` counts for a stream.
    let more = Limits {
        open_streams_max: Limits::default().open_streams_max - 1,
        ..Limits::default()
    };
    let stated = Limits::default().memory_bytes_max(0) - more.memory_bytes_max(0);
    assert!(lasting > 100 && most <= stated, "{most} of {stated}");
}

/// Bounds that a test can exhaust. Their parts are of like size, so that none can hide behind the others.
fn small_limits() -> Limits {
    Limits {
        open_streams_max: 500,
        message_bytes_max: 200_000,
        http_body_bytes_max: 200_000,
        header_list_bytes_max: 64 * 1024,
        buffer_bytes_max: 1_000_000,
        output_bytes_max: 500_000,
        output_overrun_bytes_max: 1_000_000,
        control_bytes_max: 100_000,
        ping_rate: Rate {
            burst: u32::MAX,
            per_second: 0,
        },
        event_bytes_max: 500_000,
        ping_interval_min: Duration::ZERO,
        ping_without_calls: true,
        ..Limits::default()
    }
}

const ANSWER_LEN: usize = 20_000;

/// Messages and bodies of which the end is missing, in pieces that let buffers double as often as they can.
fn begin_and_never_end(peer: &mut RawPeer, first: u32, count: u32) {
    let long = "v".repeat(3500);
    for number in 0..count {
        let stream = first + number * 2;
        if number.is_multiple_of(2) {
            peer.open_call(stream, 0, &[]);
            let whole = message(&vec![7; 190_000]);
            for piece in whole[..9000].chunks(700) {
                peer.send(&frame(DATA, 0, stream, piece));
            }
        } else {
            peer.open_http(stream, 0, "POST", &[("cookie", &long)]);
            for _ in 0..6 {
                peer.send(&frame(DATA, 0, stream, &[b'x'; 1000]));
            }
        }
        while peer.server.poll_event().is_some() {}
    }
}

/// A read full of requests that name long fields in few octets, with messages of nothing.
fn bombs(peer: &mut RawPeer, first: u32, count: u32) -> Vec<u8> {
    let long = "v".repeat(3500);
    let mut octets = Vec::new();
    for number in 0..count {
        let stream = first + number * 2;
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/pkg.Svc/Method"),
            ("content-type", "application/grpc"),
            ("cookie", &long),
            ("cookie", &long),
        ];
        let block = peer.headers(&fields);
        octets.extend(frame(HEADERS, END_HEADERS, stream, &block));
        octets.extend(frame(DATA, 0, stream, &[0; 500]));
    }
    octets
}

/// Everything a peer can make us keep at once, against the bound that `Limits` states.
#[test]
fn the_worst_peer_stays_within_the_stated_bound() {
    let limits = small_limits();
    let bound = limits.memory_bytes_max(ANSWER_LEN);
    let start = live();
    reset_peak();
    let mut peer = RawPeer::connect(limits.clone());
    begin_and_never_end(&mut peer, 1, 200);
    let unfinished = live() - start;
    for number in 200..300 {
        peer.open_call(number * 2 + 1, END_STREAM, &[]);
    }
    let ids = call_ids(&peer.events());
    assert_eq!(ids.len(), 100);
    for _ in 0..limits.control_bytes_max / 17 - 400 {
        peer.send(&frame(PING, 0, 0, &[7; 8]));
    }
    let octets = bombs(&mut peer, 601, 100);
    let before = live();
    peer.send(&octets);
    let events = live() - before;
    let before = live();
    for id in ids {
        peer.server
            .send_message(id, Bytes::from(vec![1; ANSWER_LEN]));
        peer.server.finish(id, &Status::OK);
    }
    let unread = live() - before;
    assert!(!peer.server.is_finished(), "the peer went too far");
    let total = peak() - start;
    println!(
        "unfinished {unfinished}, events {events}, unread {unread}, at most {total} of {bound}"
    );
    assert!(unfinished > limits.buffer_bytes_max);
    assert!(events > limits.event_bytes_max);
    assert!(unread > limits.output_overrun_bytes_max - ANSWER_LEN);
    assert!(total <= bound, "{total} > {bound}");
    // The bound says something: it is no more than twice what was reached.
    assert!(total * 2 > bound, "{total} of {bound}");
    // All is given back when the events were taken and the answers read.
    peer.events();
    peer.frames();
    drop((peer, octets));
    assert!(live() - start < 1000, "{}", live() - start);
}

/// A header block in pieces, as large as it may be, of strings that grow when they are decoded.
#[test]
fn one_header_block_stays_within_its_share() {
    let limits = small_limits();
    let list_max = limits.header_list_bytes_max as usize;
    let start = live();
    let mut peer = RawPeer::connect(limits);
    reset_peak();
    // One literal field without indexing; its value is 70,000 octets of Huffman code, all '0' (00000).
    let mut block = peer.headers(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]);
    block.extend([0x00, 0x01, b'n', 0xff, 0xf1, 0xa1, 0x04]);
    block.extend([0; 70_000]);
    let (first, rest) = block.split_at(16_000);
    peer.send(&frame(HEADERS, END_STREAM, 1, first));
    for piece in rest.chunks(16_000) {
        let is_last = piece.len() < 16_000;
        let flags = if is_last { END_HEADERS } else { 0 };
        peer.send(&frame(CONTINUATION, flags, 1, piece));
    }
    let reached = peak() - start;
    println!("a header block took {reached} octets");
    assert!(
        reached > 3 * list_max && reached < 8 * list_max,
        "{reached}"
    );
    assert_eq!(peer.events(), []);
    // Refused for its size, and the coder of the connection gave the room back with the next block.
    assert!(peer.frames().iter().any(|frame| frame.kind == HEADERS));
    drop(block);
    peer.open_call(3, END_STREAM, &[]);
    peer.events();
    assert!(live() - start < 2 * list_max, "{}", live() - start);
}

/// HTTP/1.1 has one request at a time: its head, its body, and what was pipelined behind it.
#[test]
fn an_http1_connection_keeps_one_request() {
    let limits = small_limits();
    let (head_max, body_max) = (
        limits.header_list_bytes_max as usize,
        limits.http_body_bytes_max,
    );
    for framing in ["Content-Length: 200000", "Transfer-Encoding: chunked"] {
        let is_chunked = framing.starts_with('T');
        let start = live();
        let mut peer = RawPeer::silent(limits.clone());
        reset_peak();
        let cookie = "c".repeat(60_000);
        let head = format!("POST /p HTTP/1.1\r\nHost: a\r\n{framing}\r\nCookie: {cookie}\r\n\r\n");
        peer.send(head.as_bytes());
        let piece = [&b"3e8\r\n"[..], &[b'x'; 1000], b"\r\n"].concat();
        let piece = if is_chunked {
            &piece[..]
        } else {
            &[b'x'; 1000]
        };
        for _ in 0..200 {
            peer.send(piece);
        }
        if is_chunked {
            peer.send(b"0\r\n\r\n");
        }
        // It is whole and not taken; more follows.
        for _ in 0..200 {
            peer.send(&[b'y'; 1000]);
        }
        let reached = peak() - start;
        println!("{framing}: {reached} octets");
        assert!(reached > body_max + cookie.len(), "{reached}");
        let head_and_body = head_max + body_max;
        assert!(reached < 2 * head_and_body + 3 * 64 * 1024, "{reached}");
        assert!(
            matches!(&peer.events()[..], [ServerEvent::Http { request, .. }] if request.body.len() == body_max)
        );
    }
}
