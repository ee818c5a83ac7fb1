//! Attacks by their names: what a peer sends to make the server work, wait or remember more than it pays for. Each runs into
//! a bound of [`Limits`]; the plain bounds are in `limits.rs`, what they cost in memory is counted in `memory.rs`.

mod support;

use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::{CallId, Limits, ServerEvent};
use support::*;

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn initial_window(len: u32) -> Vec<u8> {
    let [a, b, c, d] = len.to_be_bytes();
    frame(SETTINGS, 0, 0, &[0, 4, a, b, c, d])
}

fn ids(events: &[ServerEvent]) -> Vec<CallId> {
    let call = |event: &ServerEvent| match event {
        ServerEvent::Call { id, .. } => Some(*id),
        _ => None,
    };
    events.iter().filter_map(call).collect()
}

/// CVE-2025-8671: the request is given, the work begins, and a bad frame makes the *server* reset the stream, which a
/// count of the client's resets does not see.
#[test]
fn made_you_reset() {
    let mistakes: [fn(u32) -> Vec<u8>; 5] = [
        |stream| window_update(stream, 0),
        |stream| [window_update(stream, 0x7fff_ffff), window_update(stream, 1)].concat(),
        |stream| frame(DATA, 0, stream, b"after the end"),
        |stream| frame(PRIORITY, 0, stream, &[0; 4]),
        |stream| {
            frame(
                PRIORITY,
                0,
                stream,
                &[&stream.to_be_bytes()[..], &[0]].concat(),
            )
        },
    ];
    for (number, mistake) in mistakes.into_iter().enumerate() {
        let limits = Limits {
            reset_rate: FEW,
            ..Limits::default()
        };
        let mut peer = RawPeer::connect(limits);
        let mut fine = 0;
        let failure = loop {
            let stream = fine * 2 + 1;
            peer.open_call(stream, END_STREAM, &[]);
            peer.send(&mistake(stream));
            let events = peer.events();
            let id = call_id(&events);
            assert_eq!(events.last(), Some(&ServerEvent::Cancelled { id }));
            if let Some(failure) = peer.failure() {
                break failure;
            }
            fine += 1;
            assert!(fine < 100, "mistake {number} is free");
        };
        assert_eq!((fine, failure.0), (5, ENHANCE_YOUR_CALM), "{number}");
    }
}

#[test]
fn answers_to_pings_that_were_not_sent() {
    let limits = Limits {
        ping_rate: FEW,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let (fine, failure) = flood(&mut peer, &frame(PING, ACK, 0, &[7; 8]), 100);
    assert_eq!((fine, failure.expect("too many").0), (5, ENHANCE_YOUR_CALM));
}

#[test]
fn goaways_without_end_and_resets_of_nothing() {
    let limits = Limits {
        idle_frame_rate: FEW,
        ..Limits::default()
    };
    for octets in [
        frame(GOAWAY, 0, 0, &[0; 300]),
        frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
    ] {
        let mut peer = RawPeer::connect(limits.clone());
        peer.open_call(1, 0, &[]);
        peer.open_call(3, 0, &[]);
        peer.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
        let (fine, failure) = flood(&mut peer, &octets, 100);
        assert_eq!(fine, 4, "the greeting had one: {octets:?}");
        assert_eq!(failure.expect("too many").0, ENHANCE_YOUR_CALM);
    }
}

/// Moving the windows of ten thousand streams costs three times what one frame of SETTINGS does.
#[test]
fn settings_that_walk_over_many_streams_cost_more() {
    let limits = Limits {
        settings_rate: net::Rate {
            burst: 100,
            per_second: 0,
        },
        ..Limits::default()
    };
    let fine_with = |stream_count: u32| {
        let mut peer = RawPeer::connect(limits.clone());
        for number in 0..stream_count {
            peer.open_call(number * 2 + 1, 0, &[]);
            peer.events();
        }
        let mut fine = 0;
        loop {
            peer.send(&initial_window(fine));
            if let Some(failure) = peer.failure() {
                assert_eq!(failure.0, ENHANCE_YOUR_CALM);
                return fine;
            }
            fine += 1;
        }
    };
    assert_eq!(fine_with(1), 99);
    assert_eq!(fine_with(10_000), 33);
}

#[test]
fn windows_do_not_overflow() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, 0, &[]);
    peer.open_call(3, 0, &[]);
    peer.send(&window_update(1, 0x7fff_ffff));
    assert_eq!(peer.reset_code(1), Some(FLOW_CONTROL_ERROR));
    // By the initial window it is every stream's, so the connection's.
    peer.send(&window_update(3, 0x7fff_0000));
    peer.send(&initial_window(0x7fff_ffff));
    assert_eq!(peer.failure().expect("too large").0, FLOW_CONTROL_ERROR);

    let mut peer = RawPeer::connect(Limits::default());
    peer.send(&window_update(0, 0x7fff_ffff));
    assert_eq!(peer.failure().expect("too large").0, FLOW_CONTROL_ERROR);
}

/// Answers are cut as small as the peer likes, but each octet of them costs the peer a frame.
#[test]
fn windows_of_one_octet() {
    let limits = Limits {
        idle_frame_rate: FEW,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.send(&initial_window(1));
    peer.frames();
    peer.open_call(1, END_STREAM, &[]);
    let id = call_id(&peer.events());
    peer.server.send_message(id, Bytes::from(vec![9; 40]));
    peer.server.finish(id, &Status::OK);
    let mut taken = 0;
    for _ in 0..100 {
        let frames = peer.frames();
        let data = frames.iter().filter(|frame| frame.kind == DATA);
        taken += data.map(|frame| frame.payload.len()).sum::<usize>();
        if frames.iter().any(|frame| frame.flags & END_STREAM != 0) {
            break;
        }
        assert_eq!(taken, 45 - peer.server.output_len());
        peer.send(&window_update(1, 1));
    }
    assert_eq!(taken, 45, "each frame of an answer paid for an update");
    // Without an answer to go on, updates of nothing are idle frames, once those frames have paid for their second one.
    peer.open_call(3, 0, &[]);
    let (fine, failure) = flood(&mut peer, &window_update(3, 1), 100);
    assert!(fine < 45 + 20, "{fine}");
    assert_eq!(failure.expect("too many").0, ENHANCE_YOUR_CALM);
}

#[test]
fn frames_larger_than_announced() {
    let mut peer = RawPeer::connect(Limits::default());
    // The head alone is enough: nothing is gathered.
    peer.send(&[0, 0x40, 1, HEADERS, END_HEADERS, 0, 0, 0, 1]);
    assert_eq!(peer.failure().expect("too large").0, FRAME_SIZE_ERROR);
}

#[test]
fn sizes_of_the_header_table() {
    // Two updates in front of a block are allowed, a hundred are cheap; none may be above what we announced.
    let mut peer = RawPeer::connect(Limits::default());
    let mut block = [0x20, 0x3f, 0xe1, 0x1f].repeat(50);
    block.extend(peer.headers(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]));
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    assert!(matches!(
        peer.events().as_slice(),
        [ServerEvent::Http { .. }]
    ));
    peer.send(&frame(HEADERS, END_HEADERS, 3, &[0x3f, 0xe2, 0x1f]));
    assert_eq!(peer.failure().expect("too large").0, COMPRESSION_ERROR);
}

#[test]
fn a_list_of_thousands_of_fields() {
    // Each counts 32 octets, so 64 KiB hold some two thousand however short they are.
    let mut peer = RawPeer::connect(Limits::default());
    let fields: Vec<(&str, &str)> = [("n", "")].repeat(2500);
    peer.open_call(1, END_STREAM, &fields);
    assert_eq!(peer.events(), []);
    assert_eq!(field(&response(&mut peer, 1), ":status"), Some("431"));
}

#[test]
fn many_idle_streams() {
    let limits = Limits {
        open_streams_max: 50,
        ..Limits::default()
    };
    let mut peer = RawPeer::silent(limits);
    peer.send(PREFACE);
    peer.send(&frame(SETTINGS, 0, 0, &[]));
    let greeting = peer.frames();
    let announced = [0, 3, 0, 0, 0, 50];
    assert!(
        greeting[0]
            .payload
            .chunks(6)
            .any(|entry| entry == announced)
    );
    for number in 0..50 {
        peer.open_call(number * 2 + 1, 0, &[]);
    }
    assert_eq!(ids(&peer.events()).len(), 50);
    peer.open_call(101, 0, &[]);
    assert_eq!(peer.reset_code(101), Some(REFUSED_STREAM));
    assert_eq!(peer.events(), []);
}

/// One octet of a plain request's headers can stand for 4 KiB that are kept until its body is whole.
#[test]
fn headers_of_plain_requests_count_while_their_body_is_awaited() {
    let limits = Limits {
        buffer_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let value = "v".repeat(3500);
    let fields: Vec<(&str, &str)> = [("cookie", &value[..])].repeat(10);
    let mut refused = 0;
    for number in 0..20 {
        peer.open_http(number * 2 + 1, 0, "POST", &fields);
        refused += u32::from(peer.reset_code(number * 2 + 1) == Some(ENHANCE_YOUR_CALM));
    }
    assert_eq!(refused, 18, "two times 35,000 fit");
    // Those that were kept can still be served, and make room.
    peer.send(&frame(DATA, END_STREAM, 1, b"body"));
    let events = peer.events();
    assert!(matches!(&events[..], [ServerEvent::Http { request, .. }] if request.body == "body"));
    peer.open_http(99, 0, "POST", &fields);
    assert_eq!(peer.reset_code(99), None);
}

/// The same when the requests are whole: they wait as events, and reading stops.
#[test]
fn plain_requests_that_grow_out_of_few_octets() {
    let limits = Limits {
        event_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let value = "v".repeat(3500);
    let mut octets = Vec::new();
    for number in 0..100 {
        let block = peer.headers(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/p"),
            ("cookie", &value),
            ("cookie", &value),
        ]);
        let flags = END_HEADERS | END_STREAM;
        octets.extend(frame(HEADERS, flags, number * 2 + 1, &block));
    }
    // The last frame shows how far the reading came.
    octets.extend(frame(PING, 0, 0, &[1; 8]));
    peer.send(&octets);
    let answered = |peer: &mut RawPeer| peer.frames().iter().any(|frame| frame.kind == PING);
    assert!(!answered(&mut peer), "all was read at once");
    assert_eq!(peer.events().len(), 100);
    assert!(answered(&mut peer));
}

/// Refusals are answers too: they fill the output of a client that does not read.
#[test]
fn refusals_that_are_not_read() {
    let limits = Limits {
        output_bytes_max: 50_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let path = format!("/{}", "%".repeat(3000));
    for number in 0..1000 {
        let block = peer.headers(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            ("content-type", "application/grpc"),
        ]);
        let flags = END_HEADERS | END_STREAM;
        peer.send(&frame(HEADERS, flags, number * 2 + 1, &block));
    }
    assert_eq!(peer.events(), []);
    assert!(peer.server.output_len() < 52_000);
    let frames = peer.frames();
    let count = |kind| frames.iter().filter(|frame| frame.kind == kind).count();
    assert!(count(HEADERS) < 100, "{}", count(HEADERS));
    assert_eq!(count(HEADERS) + count(RST_STREAM), 1000);
    assert_eq!(peer.server.output_len(), 0);
}

/// A thousand calls that are open already, all of them answered, none read.
#[test]
fn answers_beyond_all_measure() {
    let limits = Limits {
        output_bytes_max: 10_000,
        output_overrun_bytes_max: 50_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    for number in 0..100 {
        peer.open_call(number * 2 + 1, END_STREAM, &[]);
    }
    let ids = ids(&peer.events());
    for id in &ids {
        peer.server.send_message(*id, Bytes::from(vec![0; 1000]));
        peer.server.finish(*id, &Status::OK);
    }
    assert!(peer.server.output_len() < 60_000);
    let cancelled = peer.events().len();
    assert!((45..=50).contains(&cancelled), "{cancelled}");
    let frames = peer.frames();
    let ends = frames.iter().filter(|f| f.flags & END_STREAM != 0);
    let statuses: Vec<_> = ends.map(|f| f.payload.clone()).collect();
    assert_eq!(statuses.len(), 100);
}

#[test]
fn answers_that_nobody_takes() {
    let limits = Limits {
        keepalive_interval: None,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits.clone());
    assert_eq!(peer.server.next_timeout(), None);
    peer.open_call(1, END_STREAM, &[]);
    let id = call_id(&peer.events());
    // More than the windows take.
    peer.server.send_message(id, Bytes::from(vec![0; 200_000]));
    peer.frames();
    let due = peer.now + limits.unread_timeout;
    assert_eq!(peer.server.next_timeout(), Some(due));
    // Something is taken: the time begins again. A ping and its answer are not what waits.
    peer.pass(limits.unread_timeout - Duration::from_secs(1));
    peer.send(&window_update(1, 1000));
    peer.send(&window_update(0, 1000));
    assert_eq!(peer.frames().len(), 1);
    peer.pass(Duration::from_secs(300));
    peer.send(&frame(PING, 0, 0, &[1; 8]));
    assert_eq!(peer.frames()[0].kind, PING);
    peer.pass(limits.unread_timeout - Duration::from_secs(301));
    assert!(!peer.server.is_finished());
    peer.pass(Duration::from_secs(1));
    assert!(peer.server.is_finished());
    assert_eq!(peer.events(), [ServerEvent::Cancelled { id }]);
}

#[test]
fn a_socket_that_takes_nothing() {
    let limits = Limits {
        keepalive_interval: None,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits.clone());
    peer.open_call(1, END_STREAM, &[]);
    let id = call_id(&peer.events());
    peer.server.finish(id, &Status::new(Code::Aborted, "why"));
    // Nobody asks for output: the write before has not ended.
    let due = peer.server.next_timeout().expect("an answer waits");
    peer.pass(due - peer.now);
    assert!(!peer.server.is_finished(), "only now it is known to wait");
    let due = peer.server.next_timeout().expect("an answer waits");
    peer.pass(due - peer.now);
    assert!(peer.server.is_finished());
}

#[test]
fn frames_and_header_blocks_that_do_not_end() {
    let limits = Limits {
        keepalive_interval: None,
        ..Limits::default()
    };
    let beginnings = [
        frame(PING, 0, 0, &[0; 8])[..5].to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1])[..12].to_vec(),
        frame(DATA, 0, 1, &[0; 100])[..50].to_vec(),
        frame(HEADERS, 0, 3, &[]),
    ];
    for beginning in beginnings {
        let mut peer = RawPeer::connect(limits.clone());
        peer.open_call(1, 0, &[]);
        peer.send(&beginning);
        let due = peer.now + limits.block_timeout;
        assert_eq!(peer.server.next_timeout(), Some(due), "{beginning:?}");
        // More of the same does not help.
        if beginning[3] == HEADERS {
            peer.pass(Duration::from_secs(200));
            peer.send(&frame(CONTINUATION, 0, 3, &[]));
            peer.pass(Duration::from_secs(100));
        } else {
            peer.pass(limits.block_timeout);
        }
        assert!(peer.server.is_finished(), "{beginning:?}");
        let events = peer.events();
        assert!(matches!(events.last(), Some(ServerEvent::Cancelled { .. })));
    }
}

/// The beginning of a frame lay behind events that were not taken, and is found when they are.
#[test]
fn a_frame_that_does_not_end_behind_full_events() {
    let limits = Limits {
        keepalive_interval: None,
        event_bytes_max: 1000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits.clone());
    peer.open_call(1, 0, &[]);
    let mut octets = frame(DATA, 0, 1, &[0; 1000]);
    octets.extend(frame(DATA, 0, 1, &[0; 1000]));
    octets.extend(&frame(PING, 0, 0, &[0; 8])[..12]);
    peer.send(&octets);
    assert_eq!(peer.server.next_timeout(), None);
    assert_eq!(peer.events().len(), 401);
    let due = peer.now + limits.block_timeout;
    assert_eq!(peer.server.next_timeout(), Some(due));
}

/// A slow body is no stall as long as its frames come to their end.
#[test]
fn a_slow_client_is_served() {
    let limits = Limits {
        keepalive_interval: None,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits.clone());
    peer.open_call(1, 0, &[]);
    for octet in message(b"slowly") {
        let data = frame(DATA, 0, 1, &[octet]);
        peer.send(&data[..7]);
        peer.pass(limits.block_timeout - Duration::from_secs(1));
        // The rest of one and the beginning of the next in one read.
        peer.send(&data[7..]);
        peer.pass(limits.block_timeout);
    }
    let events = peer.events();
    assert!(
        matches!(events.last(), Some(ServerEvent::Message { payload, .. }) if payload == "slowly")
    );
    assert_eq!(peer.server.next_timeout(), None);
}

#[test]
fn slow_http1_requests_and_answers_that_nobody_takes() {
    let limits = Limits::default();
    let mut peer = RawPeer::silent(limits.clone());
    let head = b"GET /health HTTP/1.1\r\nHost: a\r\n";
    peer.send(head);
    // An octet now and then gives no more time.
    for _ in 0..10 {
        peer.pass(limits.http_request_timeout / 10 - Duration::from_secs(1));
        assert!(!peer.server.is_finished());
        peer.send(b"x");
    }
    peer.pass(Duration::from_secs(10));
    assert!(peer.server.is_finished());

    let mut peer = RawPeer::silent(limits.clone());
    peer.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    let id = call_id(&peer.events());
    let body = Bytes::from(vec![b'x'; 100_000]);
    peer.server
        .respond(id, net::http::HttpResponse::text(200, body));
    let mut out = Vec::new();
    peer.server.poll_transmit(&mut out, 1000);
    peer.pass(limits.http_request_timeout - Duration::from_secs(1));
    assert!(!peer.server.is_finished());
    peer.pass(Duration::from_secs(1));
    assert!(peer.server.is_finished());
}
