//! `ClientConnection` and `ServerConnection` joined by a wire that cuts anywhere.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::http::{HttpRequest, HttpResponse, Method};
use net::{CallId, ClientEvent, Limits, ServerConnection, ServerEvent};
use proptest::prelude::*;
use support::Wire;

/// Sends every message back and ends with OK.
fn echo(server: &mut ServerConnection, event: ServerEvent) {
    match event {
        ServerEvent::Message { id, payload } => server.send_message(id, payload),
        ServerEvent::HalfClose { id } => server.finish(id, &Status::OK),
        _ => {}
    }
}

fn messages_of(events: &[ClientEvent], call: CallId) -> Vec<Bytes> {
    let message = |event: &ClientEvent| match event {
        ClientEvent::Message { id, payload } if *id == call => Some(payload.clone()),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

fn status_of(events: &[ClientEvent], call: CallId) -> Option<Status> {
    let mut statuses = events.iter().filter_map(|event| match event {
        ClientEvent::Finished { id, status, .. } if *id == call => Some(status.clone()),
        _ => None,
    });
    let status = statuses.next();
    assert!(statuses.next().is_none(), "a call ends once");
    status
}

fn pattern(len: usize, seed: usize) -> Bytes {
    (0..len)
        .map(|at| (at.wrapping_mul(31) + seed) as u8)
        .collect()
}

fn small_windows() -> Limits {
    Limits {
        stream_window: 1000,
        connection_window: 65_535,
        message_bytes_max: 16 << 20,
        ..Limits::default()
    }
}

#[test]
fn a_unary_call_and_its_cost() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let call = wire.call("/etcdserverpb.KV/Range");
        wire.client.send_message(call, Bytes::from_static(b"ping"));
        wire.client.half_close(call);
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        wire.client.poll_transmit(&mut request, usize::MAX);
        wire.server.on_bytes(&request);
        let events: Vec<_> = std::iter::from_fn(|| wire.server.poll_event()).collect();
        let [
            ServerEvent::Call { id, path, .. },
            ServerEvent::Message { payload, .. },
            half_close,
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(
            (&path[..], &payload[..]),
            (&b"/etcdserverpb.KV/Range"[..], &b"ping"[..])
        );
        assert_eq!(half_close, &ServerEvent::HalfClose { id: *id });
        wire.server.send_message(*id, Bytes::from_static(b"pong"));
        wire.server.finish(*id, &Status::OK);
        wire.server.poll_transmit(&mut answer, usize::MAX);
        sizes.push((request.len(), answer.len()));
        wire.client.on_bytes(&answer);
        wire.run(echo);
        assert_eq!(messages_of(&wire.client_events, call), [&b"pong"[..]]);
        assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
    }
    // HEADERS with 6 known fields, DATA; HEADERS with 2, DATA, HEADERS with 1: one octet for each known field.
    let message = 5 + 4;
    assert_eq!(sizes[2], (9 + 6 + 9 + message, 9 + 2 + 9 + message + 9 + 1));
    assert_eq!(wire.client.open_count(), 0);
}

#[test]
fn metadata_and_deadline_arrive() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let metadata = [("token", "secret"), ("hasleader", "true")]
        .into_iter()
        .collect();
    let timeout = Duration::from_secs(5);
    wire.client
        .start_call("/a.B/C", &metadata, Some(timeout))
        .expect("open");
    let mut seen = None;
    let now = wire.now;
    wire.run(|_, event| {
        if let ServerEvent::Call {
            metadata, deadline, ..
        } = event
        {
            seen = Some((metadata, deadline));
        }
    });
    let (metadata, deadline) = seen.expect("a call");
    assert_eq!(metadata.get("token"), Some(&b"secret"[..]));
    assert_eq!(metadata.get_str("hasleader"), Some("true"));
    assert_eq!(deadline, Some(now + timeout));
}

#[test]
fn ten_mib_both_ways_through_small_windows() {
    let mut wire = Wire::with_cuts(
        small_windows(),
        small_windows(),
        vec![70_000, 9, 1 << 20, 4096],
    );
    let message = pattern(10 << 20, 3);
    let call = wire.call("/a.B/C");
    wire.client.send_message(call, message.clone());
    wire.client.half_close(call);
    wire.run(echo);
    let answers = messages_of(&wire.client_events, call);
    assert_eq!(answers.len(), 1);
    assert!(answers[0] == message);
    assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
}

#[test]
fn large_messages_share_a_small_buffer() {
    // 20 calls of 300 KB each, a tenth of which fits at once: they must wait for each other and not for ever.
    let limits = Limits {
        buffer_bytes_max: 1 << 20,
        ..small_windows()
    };
    let mut wire = Wire::new(small_windows(), limits);
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let call = wire.call("/a.B/C");
            wire.client.send_message(call, pattern(300_000, number));
            wire.client.half_close(call);
            call
        })
        .collect();
    wire.run(echo);
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
        assert!(messages_of(&wire.client_events, call) == [pattern(300_000, number)]);
    }
}

#[test]
fn a_bidirectional_stream_answers_as_it_goes() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let call = wire.call("/etcdserverpb.Watch/Watch");
    for number in 0..5u8 {
        wire.client
            .send_message(call, Bytes::copy_from_slice(&[number]));
        wire.run(echo);
        assert_eq!(
            messages_of(&wire.client_events, call).len(),
            usize::from(number) + 1
        );
        assert_eq!(status_of(&wire.client_events, call), None);
    }
    wire.client.half_close(call);
    wire.run(echo);
    assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
}

#[test]
fn cancelling_stops_the_work() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let call = wire.call("/a.B/C");
    let mut served = None;
    wire.run(|server, event| {
        if let ServerEvent::Call { id, .. } = event {
            server.send_message(id, Bytes::from_static(b"first"));
            served = Some(id);
        }
    });
    wire.client.cancel(call);
    let mut events = Vec::new();
    wire.run(|_, event| events.push(event));
    let id = served.expect("a call");
    assert_eq!(events, [ServerEvent::Cancelled { id }]);
    // What comes too late goes nowhere.
    wire.server.send_message(id, Bytes::from_static(b"late"));
    wire.server.finish(id, &Status::OK);
    assert_eq!(wire.server.queued_len(id), 0);
    assert_eq!(wire.server.poll_transmit(&mut Vec::new(), usize::MAX), 0);
    assert_eq!(status_of(&wire.client_events, call), None);
}

#[test]
fn a_deadline_is_answered_and_the_work_stopped() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let no_metadata = net::Metadata::default();
    let timeout = Some(Duration::from_millis(50));
    let call = wire
        .client
        .start_call("/a.B/C", &no_metadata, timeout)
        .expect("open");
    let mut events = Vec::new();
    wire.run(|_, event| events.push(event));
    let [ServerEvent::Call { id, deadline, .. }] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(wire.server.next_timeout(), deadline);
    // Only the server's clock goes on, so that its answer is seen.
    wire.server.on_time(wire.now + Duration::from_millis(49));
    assert_eq!(wire.server.poll_event(), None);
    wire.server.on_time(wire.now + Duration::from_millis(50));
    assert_eq!(
        wire.server.poll_event(),
        Some(ServerEvent::Cancelled { id })
    );
    wire.run(echo);
    let expected = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
    assert_eq!(status_of(&wire.client_events, call), Some(expected));
}

#[test]
fn a_client_keeps_its_own_deadline() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let no_metadata = net::Metadata::default();
    let timeout = Some(Duration::from_millis(50));
    let call = wire
        .client
        .start_call("/a.B/C", &no_metadata, timeout)
        .expect("open");
    wire.run(|_, _| {});
    wire.client.on_time(wire.now + Duration::from_millis(50));
    let mut events = Vec::new();
    wire.run(|_, event| events.push(event));
    assert!(
        matches!(events[..], [ServerEvent::Cancelled { .. }]),
        "{events:?}"
    );
    let status = status_of(&wire.client_events, call).expect("finished");
    assert_eq!(status.code, Code::DeadlineExceeded);
}

#[test]
fn a_deadline_drops_what_waits_for_a_window() {
    let mut wire = Wire::new(small_windows(), Limits::default());
    let no_metadata = net::Metadata::default();
    let timeout = Some(Duration::from_millis(50));
    let call = wire
        .client
        .start_call("/a.B/C", &no_metadata, timeout)
        .expect("open");
    let mut served = None;
    wire.run(|server, event| {
        if let ServerEvent::Call { id, .. } = event {
            server.send_message(id, pattern(900, 0));
            served = Some(id);
        }
    });
    let id = served.expect("a call");
    wire.server.send_message(id, pattern(90_000, 1));
    wire.server.on_time(wire.now + Duration::from_secs(1));
    assert_eq!(wire.server.queued_len(id), 0);
    wire.run(|_, _| {});
    let status = status_of(&wire.client_events, call).expect("finished");
    assert_eq!(status.code, Code::DeadlineExceeded);
    assert_eq!(messages_of(&wire.client_events, call).len(), 1);
}

#[test]
fn statuses_and_messages() {
    let cases = [
        Status::new(Code::NotFound, ""),
        Status::new(Code::Unavailable, "etcdserver: no leader"),
        Status::new(Code::Unknown, "100% \u{fc}ber\n"),
        Status::OK,
    ];
    for expected in cases {
        for has_message in [false, true] {
            let mut wire = Wire::new(Limits::client(), Limits::default());
            let call = wire.call("/a.B/C");
            wire.run(|server, event| {
                if let ServerEvent::Call { id, .. } = event {
                    if has_message {
                        server.send_message(id, Bytes::new());
                    }
                    server.finish(id, &expected);
                }
            });
            assert_eq!(status_of(&wire.client_events, call), Some(expected.clone()));
            let answers = messages_of(&wire.client_events, call);
            assert_eq!(answers.len(), usize::from(has_message));
            let began = |event: &ClientEvent| matches!(event, ClientEvent::Headers { .. });
            assert_eq!(wire.client_events.iter().any(began), has_message);
        }
    }
}

#[test]
fn a_message_in_pieces_is_paced() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let call = wire.call("/a.B/C");
    let body = pattern(3 << 20, 7);
    let mut sent = 0;
    let mut queued_max = 0;
    wire.run(|server, event| {
        let id = match event {
            ServerEvent::Call { id, .. } => {
                server.start_message(id, body.len());
                id
            }
            ServerEvent::Writable { id } => id,
            _ => return,
        };
        while sent < body.len() && server.queued_len(id) < 128 * 1024 {
            let piece = body.slice(sent..body.len().min(sent + 50_000));
            sent += piece.len();
            server.push_piece(id, piece);
        }
        queued_max = queued_max.max(server.queued_len(id));
        if sent == body.len() {
            server.finish(id, &Status::OK);
        }
    });
    assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
    assert!(messages_of(&wire.client_events, call) == [body]);
    assert!(queued_max < 200_000, "{queued_max}");
}

#[test]
fn a_broken_promise_costs_the_call() {
    for broken in 0..4 {
        let mut wire = Wire::new(Limits::client(), Limits::default());
        let call = wire.call("/a.B/C");
        wire.run(|server, event| {
            if let ServerEvent::Call { id, .. } = event {
                server.start_message(id, 10);
                server.push_piece(id, Bytes::from_static(b"12345"));
                match broken {
                    0 => server.push_piece(id, Bytes::from_static(b"123456")),
                    1 => server.finish(id, &Status::OK),
                    2 => server.send_message(id, Bytes::new()),
                    _ => server.start_message(id, 1),
                }
            }
        });
        let status = status_of(&wire.client_events, call).expect("finished");
        assert_eq!(status.code, Code::Internal, "{status:?}");
        assert!(messages_of(&wire.client_events, call).is_empty());
    }
}

#[test]
fn a_small_answer_overtakes_a_large_one() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let large = wire.call("/a.B/Large");
    let small = wire.call("/a.B/Small");
    let mut octets = Vec::new();
    wire.client.poll_transmit(&mut octets, usize::MAX);
    wire.server.on_bytes(&octets);
    while let Some(event) = wire.server.poll_event() {
        if let ServerEvent::Call { id, path, .. } = event {
            let len = if path.ends_with(b"Large") {
                800_000
            } else {
                10
            };
            wire.server.send_message(id, pattern(len, 0));
            wire.server.finish(id, &Status::OK);
        }
    }
    let mut answer = Vec::new();
    wire.server.poll_transmit(&mut answer, 40_000);
    assert!(answer.len() <= 41_000, "{}", answer.len());
    wire.client.on_bytes(&answer);
    wire.run(echo);
    let order: Vec<_> = wire
        .client_events
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Finished { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(order, [small, large]);
}

#[test]
fn draining_serves_what_was_begun() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let call = wire.call("/a.B/C");
    let mut served = None;
    wire.run(|_, event| {
        if let ServerEvent::Call { id, .. } = event {
            served = Some(id);
        }
    });
    wire.server.shut_down();
    wire.run(|_, event| panic!("{event:?}"));
    assert!(!wire.server.is_finished());
    let no_metadata = net::Metadata::default();
    assert_eq!(wire.client.start_call("/a.B/C", &no_metadata, None), None);
    let id = served.expect("a call");
    wire.server.send_message(id, Bytes::from_static(b"still"));
    wire.server.finish(id, &Status::OK);
    wire.run(|_, event| panic!("{event:?}"));
    assert_eq!(messages_of(&wire.client_events, call), [&b"still"[..]]);
    assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
    // The client's half was open, so its stream ended by a reset, and both sides may close.
    assert!(wire.server.is_finished() && wire.client.is_finished());
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    wire.run(echo);
    wire.server.shut_down();
    let due = wire.server.next_timeout().expect("the grace");
    wire.server.on_time(due);
    while wire.server.poll_transmit(&mut Vec::new(), usize::MAX) > 0 {}
    assert!(wire.server.is_finished());
}

#[test]
fn a_client_that_leaves_is_let_go() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let call = wire.call("/a.B/C");
    wire.client.half_close(call);
    wire.client.shut_down();
    wire.run(echo);
    assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
    assert!(wire.client.is_finished() && wire.server.is_finished());
}

#[test]
fn a_lost_connection_ends_every_call() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let calls = [wire.call("/a.B/C"), wire.call("/a.B/D")];
    let mut ids = Vec::new();
    wire.run(|_, event| {
        if let ServerEvent::Call { id, .. } = event {
            ids.push(id);
        }
    });
    wire.server.on_eof();
    wire.client.on_eof();
    let cancelled: Vec<_> = std::iter::from_fn(|| wire.server.poll_event()).collect();
    assert_eq!(
        cancelled,
        [0, 1].map(|at| ServerEvent::Cancelled { id: ids[at] })
    );
    assert!(wire.server.is_finished() && wire.client.is_finished());
    wire.run(echo);
    for call in calls {
        let status = status_of(&wire.client_events, call).expect("finished");
        assert_eq!(status.code, Code::Unavailable);
    }
}

#[test]
fn a_client_waits_for_the_concurrency_it_is_given() {
    let limits = Limits {
        concurrent_streams_max: 3,
        ..Limits::default()
    };
    let mut wire = Wire::new(Limits::client(), limits);
    wire.run(echo);
    let calls: Vec<_> = (0..10).map(|_| wire.call("/a.B/C")).collect();
    let mut open = Vec::new();
    wire.run(|_, event| {
        if let ServerEvent::Call { id, .. } = event {
            open.push(id);
        }
    });
    assert_eq!(open.len(), 3);
    while let Some(id) = open.pop() {
        wire.server.finish(id, &Status::OK);
        wire.run(|_, event| {
            if let ServerEvent::Call { id, .. } = event {
                open.push(id);
            }
        });
        assert!(open.len() <= 3);
    }
    for call in calls {
        assert_eq!(status_of(&wire.client_events, call), Some(Status::OK));
    }
}

#[test]
fn plain_requests_share_the_connection() {
    let mut wire = Wire::with_cuts(small_windows(), small_windows(), vec![100, 7]);
    let mut request = HttpRequest::new(Method::Post, "/v3/kv/put?x=1");
    request.body = pattern(100_000, 1);
    request.headers.push("Authorization", "token");
    let post = wire.client.request(request.clone()).expect("open");
    let head = HttpRequest::new(Method::Head, "/version");
    let head = wire.client.request(head).expect("open");
    wire.run(|server, event| {
        if let ServerEvent::Http { id, request } = event {
            assert_eq!(request.headers.get_str("host"), Some("localhost:2379"));
            assert_eq!(request.query.is_empty(), request.method == Method::Head);
            let body = [&request.body[..], b"!"].concat();
            server.respond(id, HttpResponse::json(200, body));
        }
    });
    let response = |call: CallId| {
        let mut found = wire.client_events.iter().filter_map(|event| match event {
            ClientEvent::Response { id, response } if *id == call => Some(response.clone()),
            _ => None,
        });
        found.next().expect("an answer")
    };
    let answer = response(post);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.len(), 100_001);
    assert!(answer.body.starts_with(&request.body));
    let answer = response(head);
    assert_eq!(answer.headers.get_str("content-length"), Some("1"));
    assert!(answer.body.is_empty());
}

/// Both bodies are larger than all windows, so each side has to wait for the other again and again.
#[test]
fn a_streamed_request_is_answered_while_it_comes() {
    let limits = Limits {
        streamed_prefixes: &["/v3/"],
        http_body_bytes_max: 1000,
        ..small_windows()
    };
    let client = Limits {
        http_body_bytes_max: 1 << 20,
        ..small_windows()
    };
    let mut wire = Wire::with_cuts(client, limits, vec![100, 7, 70_000]);
    let mut request = HttpRequest::new(Method::Post, "/v3/watch?x=1");
    request.body = pattern(200_000, 1);
    let post = wire.client.request(request.clone()).expect("open");
    let head = wire.client.request(HttpRequest::new(Method::Head, "/v3/"));
    let head = head.expect("open");
    let (mut begun, mut pieces, mut queued_max) = (0, 0, 0);
    wire.run(|server, event| match event {
        ServerEvent::HttpStart { id, request } => {
            assert!(request.body.is_empty());
            begun += 1;
            server.start_response(id, HttpResponse::json(200, "<"));
        }
        ServerEvent::HttpBody { id, octets } => {
            pieces += 1;
            // A pause in between keeps the rest back until it is over.
            server.pause(id);
            server.push_body(id, octets);
            queued_max = queued_max.max(server.queued_len(id));
            server.resume(id);
        }
        ServerEvent::HalfClose { id } => {
            server.push_body(id, Bytes::from_static(b">"));
            server.end_response(id);
            server.push_body(id, Bytes::from_static(b"too late"));
        }
        ServerEvent::Writable { .. } => {}
        event => panic!("{event:?}"),
    });
    assert_eq!(begun, 2);
    assert!(pieces > 100, "{pieces}");
    let mut responses = wire.client_events.iter().filter_map(|event| match event {
        ClientEvent::Response { id, response } => Some((*id, response.clone())),
        _ => None,
    });
    let (id, response) = responses.next().expect("an answer");
    assert_eq!((id, response.body.is_empty()), (head, true));
    let (id, response) = responses.next().expect("an answer");
    assert_eq!(id, post);
    assert!(!response.headers.contains("content-length"));
    let expected = [b"<", &request.body[..], b">"].concat();
    assert!(response.body == expected, "{}", response.body.len());
}

/// A client that asks for a stream and goes is told of, and what was queued for it is dropped.
#[test]
fn who_leaves_a_streamed_answer_is_noticed() {
    let limits = Limits {
        streamed_prefixes: &["/v3/"],
        ..Limits::default()
    };
    let mut wire = Wire::new(small_windows(), limits);
    let mut request = HttpRequest::new(Method::Post, "/v3/watch");
    request.body = pattern(10, 1);
    let post = wire.client.request(request).expect("open");
    let mut id = None;
    wire.run(|server, event| match event {
        ServerEvent::HttpStart { id: started, .. } => {
            id = Some(started);
            server.start_response(started, HttpResponse::json(200, ""));
        }
        ServerEvent::HttpBody { .. } | ServerEvent::HalfClose { .. } => {}
        event => panic!("{event:?}"),
    });
    let id = id.expect("a request");
    wire.server.push_body(id, pattern(200_000, 2));
    assert_eq!(wire.server.queued_len(id), 200_000);
    wire.client.cancel(post);
    let mut is_cancelled = false;
    wire.run(|_, event| {
        assert_eq!(event, ServerEvent::Cancelled { id });
        is_cancelled = true;
    });
    assert!(is_cancelled);
    wire.server.push_body(id, pattern(10, 1));
    assert_eq!(
        (wire.server.queued_len(id), wire.server.output_len()),
        (0, 0)
    );
}

#[test]
fn a_call_to_a_place_that_is_not_grpc() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let request = HttpRequest::new(Method::Get, "/");
    wire.client.request(request).expect("open");
    let call = wire.call("/no-method");
    wire.run(|server, event| {
        if let ServerEvent::Http { id, .. } = event {
            server.respond(id, HttpResponse::not_found());
        }
    });
    let status = status_of(&wire.client_events, call).expect("finished");
    assert_eq!(
        status,
        Status::new(Code::Unimplemented, "malformed method name: \"/no-method\"")
    );
}

#[test]
fn long_header_lists_travel_in_several_frames() {
    let mut wire = Wire::new(Limits::client(), Limits::default());
    let value = "v".repeat(50_000);
    let metadata = [("token", &value[..])].into_iter().collect();
    let call = wire
        .client
        .start_call("/a.B/C", &metadata, None)
        .expect("open");
    let message = "m".repeat(40_000);
    let mut len = 0;
    wire.run(|server, event| {
        if let ServerEvent::Call { id, metadata, .. } = event {
            len = metadata.get("token").map_or(0, <[u8]>::len);
            server.finish(id, &Status::new(Code::Aborted, message.clone()));
        }
    });
    assert_eq!(len, 50_000);
    let status = status_of(&wire.client_events, call).expect("finished");
    assert_eq!((status.code, status.message.len()), (Code::Aborted, 40_000));
}

/// A call as the property test makes it: messages to send, and whether it is cancelled instead of half-closed.
type Plan = (Vec<usize>, bool);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_and_any_window_give_the_same_answers(
        plans in prop::collection::vec((prop::collection::vec(0usize..60_000, 0..4), any::<bool>()), 1..8),
        cuts in prop::collection::vec(1usize..5000, 1..20),
        client_window in 1u32..100_000,
        server_window in 1u32..100_000,
    ) {
        let plans: Vec<Plan> = plans;
        let limits = |window| Limits {
            stream_window: window,
            connection_window: 65_535,
            message_bytes_max: 60_000,
            // Windows of a few octets make many small frames.
            idle_frame_rate: net::Rate { burst: 1_000_000, per_second: 0 },
            ..Limits::default()
        };
        let mut wire = Wire::with_cuts(limits(client_window.max(50)), limits(server_window.max(50)), cuts);
        let mut calls = BTreeMap::new();
        for (number, (lens, _)) in plans.iter().enumerate() {
            let call = wire.call("/a.B/C");
            for len in lens {
                wire.client.send_message(call, pattern(*len, number));
            }
            calls.insert(call, number);
        }
        let (mut begun, mut ended) = (0, 0);
        let mut serve = |server: &mut ServerConnection, event: ServerEvent| {
            match &event {
                ServerEvent::Call { .. } => begun += 1,
                ServerEvent::Cancelled { .. } | ServerEvent::HalfClose { .. } => ended += 1,
                _ => {}
            }
            echo(server, event);
        };
        wire.run(&mut serve);
        for (call, number) in &calls {
            if plans[*number].1 {
                wire.client.cancel(*call);
            } else {
                wire.client.half_close(*call);
            }
        }
        wire.run(&mut serve);
        prop_assert_eq!((begun, ended), (plans.len(), plans.len()));
        for (call, number) in calls {
            let (lens, is_cancelled) = &plans[number];
            let expected: Vec<_> = lens.iter().map(|len| pattern(*len, number)).collect();
            prop_assert!(messages_of(&wire.client_events, call) == expected);
            let status = (!is_cancelled).then_some(Status::OK);
            prop_assert_eq!(status_of(&wire.client_events, call), status);
        }
        prop_assert_eq!(wire.client.open_count(), 0);
        prop_assert_eq!(wire.server.output_len(), 0);
    }
}
