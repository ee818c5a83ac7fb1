//! A peer that sends frames by hand and goes too far: each bound of [`Limits`] once.

mod support;

use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::http::HttpResponse;
use net::{CallId, Limits, ServerEvent};
use support::*;

#[test]
fn ping_floods() {
    let limits = Limits {
        ping_rate: FEW,
        ping_interval_min: Duration::ZERO,
        ping_without_calls: true,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let (fine, failure) = flood(&mut peer, &frame(PING, 0, 0, &[7; 8]), 100);
    assert_eq!(
        (fine, failure),
        (5, Some((ENHANCE_YOUR_CALM, "too many pings".into())))
    );
}

#[test]
fn pings_as_keep_alive_are_policed() {
    let mut peer = RawPeer::connect(Limits::default());
    let (fine, failure) = flood(&mut peer, &frame(PING, 0, 0, &[7; 8]), 100);
    assert_eq!(
        (fine, failure),
        (3, Some((ENHANCE_YOUR_CALM, "too_many_pings".into())))
    );
}

#[test]
fn pings_are_answered_and_answers_forgive() {
    let mut peer = RawPeer::connect(Limits::default());
    for stream in 0..50 {
        let ping = frame(PING, 0, 0, &[stream as u8; 8]);
        peer.send(&ping);
        assert_eq!(peer.frames()[0].payload, [stream as u8; 8]);
        peer.send(&ping);
        peer.open_call(stream * 2 + 1, END_STREAM, &[]);
        let id = call_id(&peer.events());
        peer.server.finish(id, &Status::OK);
        assert!(peer.frames().iter().all(|frame| frame.kind != GOAWAY));
    }
}

/// A Go peer on a quick stream sends a PING and opens both windows for each message that it gets. It was once taken for a
/// flood after a thousand messages, and lost its connection.
#[test]
fn a_peer_that_measures_its_bandwidth_is_no_flood() {
    let limits = Limits {
        ping_rate: FEW,
        idle_frame_rate: FEW,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.open_call(1, 0, &[]);
    let id = call_id(&peer.events());
    let measuring = [
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(PING, 0, 0, &[7; 8]),
    ]
    .concat();
    for no in 0..1000 {
        peer.server.send_message(id, Bytes::from_static(b"m"));
        peer.frames();
        peer.send(&measuring);
        assert_eq!(peer.failure(), None, "message {no}");
    }
    // Without messages it is one.
    let (fine, failure) = flood(&mut peer, &measuring, 100);
    assert!(fine < 10 && failure.is_some(), "{fine} {failure:?}");
}

#[test]
fn settings_floods_and_long_settings() {
    let limits = Limits {
        settings_rate: FEW,
        settings_entries_max: 3,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits.clone());
    let (fine, failure) = flood(&mut peer, &frame(SETTINGS, 0, 0, &[]), 100);
    assert_eq!(fine, 4, "one was the greeting");
    assert_eq!(failure.expect("too much").0, ENHANCE_YOUR_CALM);

    let mut peer = RawPeer::connect(limits.clone());
    peer.send(&frame(SETTINGS, 0, 0, &[0; 18]));
    assert_eq!(peer.failure(), None);
    peer.send(&frame(SETTINGS, 0, 0, &[0; 24]));
    assert_eq!(peer.failure().expect("too long").0, ENHANCE_YOUR_CALM);
}

#[test]
fn frames_without_content() {
    let limits = Limits {
        idle_frame_rate: FEW,
        ..Limits::default()
    };
    let floods = [
        frame(DATA, 0, 1, &[]),
        frame(DATA, PADDED, 1, &[2, 0, 0]),
        frame(PRIORITY, 0, 9, &[0, 0, 0, 1, 0]),
        frame(0x77, 0, 0, b"what is this"),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(SETTINGS, ACK, 0, &[]),
    ];
    for octets in floods {
        let mut peer = RawPeer::connect(limits.clone());
        peer.open_call(1, 0, &[]);
        let (fine, failure) = flood(&mut peer, &octets, 100);
        assert_eq!(fine, 4, "the greeting had one: {octets:?}");
        assert_eq!(failure.expect("too much").0, ENHANCE_YOUR_CALM);
        let events = peer.events();
        assert!(
            matches!(events.last(), Some(ServerEvent::Cancelled { .. })),
            "{events:?}"
        );
    }
}

#[test]
fn header_blocks_in_endless_pieces() {
    let limits = Limits {
        continuation_frames_max: 3,
        header_list_bytes_max: 1000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits.clone());
    peer.send(&frame(HEADERS, 0, 1, &[]));
    let (fine, failure) = flood(&mut peer, &frame(CONTINUATION, 0, 1, &[]), 100);
    assert_eq!((fine, failure.expect("too many").0), (3, ENHANCE_YOUR_CALM));

    let mut peer = RawPeer::connect(limits);
    peer.send(&frame(HEADERS, 0, 1, &[0; 16_000]));
    let failure = flood(&mut peer, &frame(CONTINUATION, 0, 1, &[0; 16_000]), 100);
    assert_eq!(
        (failure.0, failure.1.expect("too long").0),
        (0, ENHANCE_YOUR_CALM)
    );
}

#[test]
fn header_lists_beyond_the_limit_cost_one_request() {
    let limits = Limits {
        header_list_bytes_max: 1000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let value = "v".repeat(1000);
    peer.open_call(1, END_STREAM, &[("token", &value)]);
    assert_eq!(peer.events(), []);
    assert_eq!(field(&response(&mut peer, 1), ":status"), Some("431"));
    // The compression state is still right.
    peer.open_call(3, END_STREAM, &[("x", "y")]);
    let events = peer.events();
    let Some(ServerEvent::Call { metadata, .. }) = events.first() else {
        panic!("{events:?}");
    };
    assert_eq!(metadata.get("x"), Some(&b"y"[..]));
}

#[test]
fn rapid_resets() {
    let limits = Limits {
        reset_rate: FEW,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let mut fine = 0;
    let failure = loop {
        let stream = fine * 2 + 1;
        peer.open_call(stream, 0, &[]);
        peer.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        let events = peer.events();
        let id = call_id(&events);
        assert_eq!(events[1..], [ServerEvent::Cancelled { id }]);
        if let Some(failure) = peer.failure() {
            break failure;
        }
        fine += 1;
    };
    assert_eq!((fine, failure.0), (5, ENHANCE_YOUR_CALM));
}

#[test]
fn resets_of_old_streams_are_no_flood() {
    let limits = Limits {
        reset_rate: FEW,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    for number in 0..100 {
        peer.open_call(number * 2 + 1, 0, &[]);
    }
    peer.pass(Duration::from_secs(2));
    for number in 0..100 {
        peer.send(&frame(RST_STREAM, 0, number * 2 + 1, &[0, 0, 0, 8]));
    }
    assert_eq!(peer.failure(), None);
    let is_cancelled = |event: &&ServerEvent| matches!(event, ServerEvent::Cancelled { .. });
    assert_eq!(peer.events().iter().filter(is_cancelled).count(), 100);
}

#[test]
fn stream_errors_count_as_resets() {
    let limits = Limits {
        reset_rate: FEW,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    for number in 0..5 {
        peer.open_http(number * 2 + 1, END_STREAM, "GET", &[("Upper", "case")]);
        assert_eq!(peer.reset_code(number * 2 + 1), Some(PROTOCOL_ERROR));
    }
    peer.open_http(11, END_STREAM, "GET", &[("Upper", "case")]);
    assert_eq!(peer.failure().expect("too many").0, ENHANCE_YOUR_CALM);
}

#[test]
fn what_we_owe_a_peer_that_does_not_read() {
    let limits = Limits {
        control_bytes_max: 1000,
        ping_interval_min: Duration::ZERO,
        ping_without_calls: true,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    for _ in 0..1000 {
        peer.send(&frame(PING, 0, 0, &[1; 8]));
    }
    let frames = peer.frames();
    let owed = frames.iter().filter(|frame| frame.kind == PING).count();
    assert!((50..70).contains(&owed), "{owed}");
    assert_eq!(frames.last().map(|frame| frame.kind), Some(GOAWAY));
    assert!(peer.server.is_finished());
}

#[test]
fn concurrent_streams() {
    let limits = Limits {
        concurrent_streams_max: 2,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    for stream in [1, 3] {
        peer.open_call(stream, END_STREAM, &[]);
    }
    let first = call_id(&peer.events());
    peer.open_call(5, END_STREAM, &[]);
    assert_eq!(peer.reset_code(5), Some(REFUSED_STREAM));
    assert_eq!(peer.events(), []);
    peer.server.finish(first, &Status::OK);
    assert_eq!(peer.frames().len(), 1);
    peer.open_call(7, END_STREAM, &[]);
    assert_eq!(peer.events().len(), 2);
}

#[test]
fn a_client_that_asks_and_does_not_read() {
    let limits = Limits {
        output_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let mut refused = 0;
    for number in 0..10 {
        peer.open_call(number * 2 + 1, END_STREAM, &[]);
        match peer.events().first() {
            Some(ServerEvent::Call { id, .. }) => {
                peer.server.send_message(*id, Bytes::from(vec![0; 40_000]));
                peer.server.finish(*id, &Status::OK);
            }
            _ => refused += 1,
        }
    }
    assert_eq!(refused, 7);
    assert!(peer.server.output_len() < 140_000);
    let resets = peer
        .frames()
        .iter()
        .filter(|frame| frame.kind == RST_STREAM)
        .count();
    assert_eq!(resets, 7);
}

#[test]
fn unfinished_messages_over_all_streams() {
    let limits = Limits {
        buffer_bytes_max: 200_000,
        stream_window: 100_000,
        message_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let half = &message(&[0; 99_000])[..15_000];
    let mut cancelled = 0;
    for number in 0..20 {
        peer.open_call(number * 2 + 1, 0, &[]);
        peer.send(&frame(DATA, 0, number * 2 + 1, half));
        let events = peer.events();
        let id = call_id(&events);
        if events[1..] == [ServerEvent::Cancelled { id }] {
            cancelled += 1;
            assert_eq!(peer.reset_code(number * 2 + 1), Some(ENHANCE_YOUR_CALM));
        }
    }
    assert_eq!(cancelled, 7, "13 times 15,000 fit");
}

#[test]
fn windows_are_enforced() {
    let limits = Limits {
        stream_window: 1000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.open_call(1, 0, &[]);
    peer.send(&frame(DATA, 0, 1, &[0; 1001]));
    assert_eq!(peer.reset_code(1), Some(FLOW_CONTROL_ERROR));
    let limits = Limits {
        connection_window: 65_535,
        stream_window: 1 << 20,
        message_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.open_call(1, 0, &[]);
    // A small message keeps the update of the connection's window in our hands: half of it is not used up.
    peer.send(&frame(DATA, 0, 1, &[0; 10]));
    assert!(peer.frames().is_empty());
    for _ in 0..3 {
        peer.send(&frame(DATA, 0, 1, &[0; 16_000]));
        // Thousands of empty messages: events that are not taken would stop the reading.
        peer.events();
    }
    let updates: Vec<_> = peer.frames();
    let connection: Vec<_> = updates.iter().filter(|frame| frame.stream == 0).collect();
    assert_eq!(connection.len(), 1);
    assert_eq!(connection[0].payload, 48_010u32.to_be_bytes());
}

#[test]
fn a_promised_message_gets_its_window() {
    let limits = Limits {
        stream_window: 1000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.open_call(1, 0, &[]);
    peer.send(&frame(DATA, 0, 1, &message(&[0; 5000])[..600]));
    let updates = peer.frames();
    assert_eq!(updates.len(), 1);
    // 4405 are missing and 400 of the window are left.
    assert_eq!((updates[0].kind, updates[0].stream), (WINDOW_UPDATE, 1));
    assert_eq!(updates[0].payload, 4005u32.to_be_bytes());
    peer.send(&frame(DATA, 0, 1, &[0; 4405]));
    let events = peer.events();
    assert!(matches!(&events[1], ServerEvent::Message { payload, .. } if payload.len() == 5000));
    // What was lent is not given again: the window is back at 1000.
    let updates = peer.frames();
    assert_eq!(updates[0].payload, 1000u32.to_be_bytes());
}

#[test]
fn a_paused_call_gets_no_window_until_it_goes_on() {
    let limits = Limits {
        stream_window: 1000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.open_call(1, 0, &[]);
    let id = call_id(&peer.events());
    peer.server.pause(id);
    for _ in 0..2 {
        peer.send(&frame(DATA, 0, 1, &message(&[0; 495])));
        assert_eq!(peer.events().len(), 1);
        assert!(peer.frames().is_empty(), "a window although it is paused");
    }
    peer.server.resume(id);
    let updates = peer.frames();
    assert_eq!((updates[0].kind, updates[0].stream), (WINDOW_UPDATE, 1));
    assert_eq!(updates[0].payload, 1000u32.to_be_bytes());
    // And from now on as usual.
    peer.send(&frame(DATA, 0, 1, &message(&[0; 595])));
    assert_eq!(peer.events().len(), 1);
    assert_eq!(peer.frames()[0].payload, 600u32.to_be_bytes());
}

#[test]
fn messages_beyond_the_limit_are_refused_at_once() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, 0, &[]);
    peer.send(&frame(DATA, 0, 1, &[0, 0, 32, 0, 1]));
    let events = peer.events();
    let id = call_id(&events);
    assert_eq!(events[1..], [ServerEvent::Cancelled { id }]);
    let frames = peer.frames();
    assert_eq!(frames.len(), 2, "{frames:?}");
    let fields = peer.decode(&frames[0].payload);
    assert_eq!(field(&fields, "grpc-status"), Some("8"));
    let message = "grpc: received message larger than max (2097153 vs. 2097152)";
    assert_eq!(field(&fields, "grpc-message"), Some(message));
    assert_eq!(
        (frames[1].kind, &frames[1].payload[..]),
        (RST_STREAM, &[0; 4][..])
    );
    // What was on its way is ignored.
    peer.send(&frame(DATA, END_STREAM, 1, &[0; 100]));
    assert_eq!((peer.events(), peer.frames()), (vec![], vec![]));
}

#[test]
fn compressed_messages_are_refused() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, END_STREAM, &[("grpc-encoding", "gzip")]);
    assert_eq!(peer.events(), []);
    let fields = response(&mut peer, 1);
    assert_eq!(field(&fields, ":status"), Some("200"));
    assert_eq!(field(&fields, "content-type"), Some("application/grpc"));
    assert_eq!(field(&fields, "grpc-status"), Some("12"));
    let message = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"";
    assert_eq!(field(&fields, "grpc-message"), Some(message));

    peer.open_call(3, 0, &[("grpc-encoding", "identity")]);
    peer.send(&frame(DATA, END_STREAM, 3, &[1, 0, 0, 0, 1, 9]));
    let fields = response(&mut peer, 3);
    assert_eq!(field(&fields, "grpc-status"), Some("13"));
    let message = "grpc: compressed flag set with identity or empty encoding";
    assert_eq!(field(&fields, "grpc-message"), Some(message));
}

#[test]
fn a_message_cut_by_the_end_of_the_stream() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, 0, &[]);
    peer.send(&frame(DATA, END_STREAM, 1, &message(b"whole")[..8]));
    let fields = response(&mut peer, 1);
    assert_eq!(field(&fields, "grpc-status"), Some("13"));
    let events = peer.events();
    let id = call_id(&events);
    assert_eq!(events[1..], [ServerEvent::Cancelled { id }]);
}

#[test]
fn http_errors_for_calls_that_are_none() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_http(
        1,
        END_STREAM,
        "GET",
        &[("content-type", "application/grpc")],
    );
    let fields = response(&mut peer, 1);
    assert_eq!(field(&fields, ":status"), Some("405"));
    assert_eq!(field(&fields, "grpc-status"), Some("13"));
    peer.open_call(3, END_STREAM, &[("grpc-timeout", "soon")]);
    let fields = response(&mut peer, 3);
    assert_eq!(field(&fields, ":status"), Some("400"));
    assert_eq!(peer.events(), []);
}

#[test]
fn plain_bodies_beyond_the_limit() {
    let limits = Limits {
        http_body_bytes_max: 100,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    peer.open_http(1, 0, "POST", &[]);
    peer.send(&frame(DATA, 0, 1, &[b'x'; 60]));
    peer.send(&frame(DATA, 0, 1, &[b'x'; 60]));
    assert_eq!(peer.events(), []);
    assert_eq!(field(&response(&mut peer, 1), ":status"), Some("413"));
    peer.open_http(3, 0, "POST", &[]);
    peer.send(&frame(DATA, END_STREAM, 3, &[b'x'; 100]));
    let id = call_id(&peer.events());
    peer.server.respond(id, HttpResponse::text(200, "fine"));
    assert_eq!(field(&response(&mut peer, 3), "content-length"), Some("4"));
}

#[test]
fn padding_is_not_data() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, 0, &[]);
    let mut payload = vec![7];
    payload.extend_from_slice(&message(b"padded"));
    payload.extend_from_slice(&[0; 7]);
    // Octet by octet, so that every state of the frame is met.
    for octet in frame(DATA, PADDED | END_STREAM, 1, &payload) {
        peer.send(&[octet]);
    }
    let events = peer.events();
    let id = call_id(&events);
    let payload = Bytes::from_static(b"padded");
    let expected = [
        ServerEvent::Message { id, payload },
        ServerEvent::HalfClose { id },
    ];
    assert_eq!(events[1..], expected);
    peer.open_call(3, 0, &[]);
    peer.send(&frame(DATA, PADDED, 3, &[5, 0, 0]));
    assert_eq!(peer.failure().expect("padding too long").0, PROTOCOL_ERROR);
}

#[test]
fn frames_after_the_end() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, END_STREAM, &[]);
    peer.send(&frame(DATA, 0, 1, b"more"));
    let events = peer.events();
    assert!(
        matches!(events.last(), Some(ServerEvent::Cancelled { .. })),
        "{events:?}"
    );
    assert_eq!(peer.reset_code(1), Some(STREAM_CLOSED));
    peer.open_call(3, END_STREAM, &[]);
    let id = call_id(&peer.events());
    peer.server.finish(id, &Status::new(Code::Aborted, ""));
    peer.frames();
    peer.send(&frame(DATA, 0, 3, b"more"));
    assert_eq!(peer.failure().expect("closed").0, STREAM_CLOSED);
}

#[test]
fn a_lowered_window_goes_negative() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, END_STREAM, &[]);
    let id = call_id(&peer.events());
    peer.server.send_message(id, Bytes::from(vec![9; 70_000]));
    peer.server.finish(id, &Status::OK);
    let data_len = |peer: &mut RawPeer| -> usize {
        let frames = peer.frames();
        let data = frames.iter().filter(|frame| frame.kind == DATA);
        data.map(|frame| frame.payload.len()).sum()
    };
    assert_eq!(data_len(&mut peer), 65_535);
    // The connection's window is opened, the stream's goes to -65,435.
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes()));
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]));
    assert_eq!(data_len(&mut peer), 0);
    peer.send(&frame(WINDOW_UPDATE, 0, 1, &65_435u32.to_be_bytes()));
    assert_eq!(data_len(&mut peer), 0);
    peer.send(&frame(WINDOW_UPDATE, 0, 1, &70u32.to_be_bytes()));
    assert_eq!(data_len(&mut peer), 70);
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]));
    assert_eq!(data_len(&mut peer), 70_005 - 65_535 - 70);
}

#[test]
fn a_peer_that_says_nothing() {
    let limits = Limits::default();
    let mut peer = RawPeer::silent(limits.clone());
    assert_eq!(
        peer.server.next_timeout(),
        Some(peer.now + limits.handshake_timeout)
    );
    peer.pass(limits.handshake_timeout);
    assert!(peer.server.is_finished());

    // A preface without SETTINGS is not enough.
    let mut peer = RawPeer::silent(limits.clone());
    peer.pass(Duration::from_secs(100));
    peer.send(PREFACE);
    peer.pass(Duration::from_secs(19));
    assert!(!peer.server.is_finished());
    peer.pass(Duration::from_secs(1));
    assert!(peer.server.is_finished());
}

#[test]
fn a_connection_that_went_silent_is_pinged_and_given_up() {
    let limits = Limits::default();
    let mut peer = RawPeer::connect(limits.clone());
    peer.open_call(1, 0, &[]);
    let id = call_id(&peer.events());
    let interval = limits.keepalive_interval.expect("on by default");
    assert_eq!(peer.server.next_timeout(), Some(peer.now + interval));
    peer.pass(interval);
    let frames = peer.frames();
    assert_eq!(
        (frames.len(), frames[0].kind, frames[0].flags),
        (1, PING, 0)
    );
    peer.send(&frame(PING, ACK, 0, &frames[0].payload));
    peer.pass(limits.keepalive_timeout);
    assert!(!peer.server.is_finished());
    peer.pass(interval);
    peer.pass(limits.keepalive_timeout);
    assert!(peer.server.is_finished());
    assert_eq!(peer.events(), [ServerEvent::Cancelled { id }]);
}

#[test]
fn draining_refuses_what_comes_after_the_last_goaway() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, 0, &[]);
    let first = call_id(&peer.events());
    peer.server.shut_down();
    let frames = peer.frames();
    let [lenient, ping] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(lenient.payload[..4], [0x7f, 0xff, 0xff, 0xff]);
    // On its way when we said so: still served.
    peer.open_call(3, END_STREAM, &[]);
    let second = call_id(&peer.events());
    peer.send(&frame(PING, ACK, 0, &ping.payload));
    let frames = peer.frames();
    assert_eq!(
        (frames[0].kind, &frames[0].payload[..4]),
        (GOAWAY, &[0, 0, 0, 3][..])
    );
    peer.open_call(5, 0, &[]);
    peer.send(&frame(DATA, END_STREAM, 5, b"\0\0\0\0\0"));
    assert_eq!((peer.events(), peer.frames()), (vec![], vec![]));
    peer.server.finish(first, &Status::OK);
    peer.server.finish(second, &Status::OK);
    assert!(!peer.frames().is_empty());
    assert!(peer.server.is_finished());
}

#[test]
fn header_fields_that_grow_out_of_few_octets() {
    // One indexed octet names 4 KB: a read of 16 KB could become 60 MB of events. Parsing stops at the limit instead,
    // and goes on as the events are taken.
    let limits = Limits {
        event_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut peer = RawPeer::connect(limits);
    let value = "v".repeat(3500);
    peer.open_call(1, 0, &[("token", &value)]);
    let id = call_id(&peer.events());
    let mut octets = Vec::new();
    for stream in 1..1000 {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/pkg.Svc/Method"),
            ("content-type", "application/grpc"),
            ("token", &value),
        ];
        let block = peer.headers(&fields);
        octets.extend_from_slice(&frame(HEADERS, END_HEADERS, stream * 2 + 1, &block));
    }
    assert!(octets.len() < 20_000);
    peer.send(&octets);
    peer.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    let events = peer.events();
    assert_eq!(events.len(), 1000);
    assert_eq!(events.last(), Some(&ServerEvent::Cancelled { id }));
}

#[test]
fn a_deadline_passes_while_the_connection_window_is_shut() {
    let mut peer = RawPeer::connect(Limits::default());
    peer.open_call(1, END_STREAM, &[]);
    peer.open_call(3, END_STREAM, &[("grpc-timeout", "50m")]);
    let events = peer.events();
    let ids: Vec<CallId> = events
        .iter()
        .filter_map(|event| match event {
            ServerEvent::Call { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    peer.server
        .send_message(ids[0], Bytes::from(vec![0; 70_000]));
    peer.frames();
    // Its HEADERS go, its message waits for the connection.
    peer.server.send_message(ids[1], Bytes::from(vec![0; 100]));
    assert_eq!(peer.frames().len(), 1);
    peer.pass(Duration::from_millis(50));
    let cancelled = ServerEvent::Cancelled { id: ids[1] };
    assert!(peer.events().contains(&cancelled));
    let frames = peer.frames();
    assert_eq!(
        (frames.len(), frames[0].flags & END_STREAM),
        (1, END_STREAM)
    );
    let fields = peer.decode(&frames[0].payload);
    assert_eq!(field(&fields, "grpc-status"), Some("4"));
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes()));
    assert_eq!(peer.frames(), []);
}
