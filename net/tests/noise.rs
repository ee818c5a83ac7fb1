//! Whatever comes, the connection does not panic, holds little, and ends each call it told of exactly once.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::http::HttpResponse;
use net::{CallId, ClientConnection, ClientEvent, Limits, Metadata, ServerConnection, ServerEvent};
use proptest::prelude::*;
use support::*;

/// Tight bounds, so that noise meets them.
fn limits() -> Limits {
    Limits {
        concurrent_streams_max: 20,
        message_bytes_max: 5000,
        http_body_bytes_max: 5000,
        header_list_bytes_max: 2000,
        stream_window: 2000,
        connection_window: 65_535,
        buffer_bytes_max: 20_000,
        output_bytes_max: 20_000,
        control_bytes_max: 5000,
        event_bytes_max: 5000,
        low_water_len: 100,
        streamed_prefixes: &["/s"],
        ..Limits::default()
    }
}

/// Serves whatever is asked, and knows which calls are open.
#[derive(Default)]
struct Service {
    open: BTreeSet<CallId>,
    taken_len: usize,
}

impl Service {
    fn serve(&mut self, server: &mut ServerConnection) {
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Call { id, path, .. } => {
                    assert!(path.starts_with(b"/"));
                    assert!(self.open.insert(id), "a call begins once");
                    if path.len() % 3 == 0 {
                        server.start_message(id, 3000);
                        server.push_piece(id, Bytes::from_static(&[1; 1000]));
                    }
                }
                ServerEvent::Message { id, payload } => {
                    assert!(payload.len() <= 5000);
                    self.taken_len += payload.len();
                    server.send_message(id, payload);
                }
                ServerEvent::HalfClose { id } => {
                    server.finish(id, &Status::new(Code::Unknown, "done"));
                    server.end_response(id);
                    self.open.remove(&id);
                }
                ServerEvent::Cancelled { id } => {
                    server.send_message(id, Bytes::from_static(b"too late"));
                    assert_eq!(server.queued_len(id), 0, "a cancelled call holds nothing");
                    self.open.remove(&id);
                }
                ServerEvent::Writable { id } => {
                    server.push_piece(id, Bytes::from_static(&[1; 500]))
                }
                ServerEvent::HttpStart { id, .. } => {
                    assert!(self.open.insert(id), "a request comes once");
                    server.start_response(id, HttpResponse::json(200, "{"));
                }
                ServerEvent::HttpBody { id, octets } => {
                    assert!(self.open.contains(&id) && !octets.is_empty());
                    server.push_body(id, octets);
                }
                ServerEvent::HttpLeft { id } => panic!("{id:?} was answered when it began"),
                ServerEvent::Http { id, request } => {
                    assert!(request.body.len() <= 5000);
                    server.respond(id, HttpResponse::json(200, request.body));
                }
            }
        }
    }
}

/// Gives `pieces` to a server; reads what it answers if `reads`.
fn drive(pieces: &[Vec<u8>], reads: bool) {
    let mut server = ServerConnection::new(Arc::new(limits()), Duration::ZERO);
    let mut service = Service::default();
    let mut output = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        server.on_time(Duration::from_millis(number as u64));
        server.on_bytes(piece);
        service.serve(&mut server);
        let response_len_max = 6000 * limits().concurrent_streams_max as usize;
        assert!(server.output_len() <= limits().output_bytes_max + response_len_max);
        if reads {
            output.clear();
            while server.poll_transmit(&mut output, 1000) > 0 {}
        }
        if server.is_finished() {
            break;
        }
    }
    server.on_eof();
    server.on_lost();
    service.serve(&mut server);
    assert!(service.open.is_empty(), "{:?} never ended", service.open);
    assert!(server.is_finished());
}

/// Frames of all types with contents that are right or nearly so.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![0u32..8, Just(9), Just(u32::MAX), Just(101)];
    let block = prop_oneof![
        // The static table and plain literals: POST, http, "/", and a literal content type.
        Just(b"\x83\x86\x84\x5f\x10application/grpc".to_vec()),
        Just(b"\x83\x86\x44\x04/a/b\x5f\x10application/grpc".to_vec()),
        Just(b"\x82\x86\x84".to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let small = prop::collection::vec(any::<u8>(), 0..20);
    let messages = prop::collection::vec(0usize..3000, 0..3).prop_map(|lens| {
        lens.iter()
            .flat_map(|len| message(&vec![5; *len]))
            .collect()
    });
    let numbers = prop_oneof![
        Just(0u32),
        Just(1),
        Just(65_535),
        Just(1 << 31),
        any::<u32>()
    ];
    let settings = prop::collection::vec((0u16..8, numbers.clone()), 0..4).prop_map(|entries| {
        let entry =
            |(id, value): (u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        entries.into_iter().flat_map(entry).collect::<Vec<u8>>()
    });
    let number = numbers.prop_map(|number| number.to_be_bytes().to_vec());
    let content = prop_oneof![
        4 => block.prop_map(|block| (HEADERS, block)),
        4 => messages.prop_map(|messages: Vec<u8>| (DATA, messages)),
        1 => settings.prop_map(|settings| (SETTINGS, settings)),
        2 => number.clone().prop_map(|number| (WINDOW_UPDATE, number)),
        1 => number.prop_map(|number| (RST_STREAM, number)),
        1 => Just((PING, vec![0; 8])),
        1 => (0u8..12, small),
    ];
    let flags = prop_oneof![
        Just(END_HEADERS),
        Just(END_HEADERS | END_STREAM),
        Just(0),
        Just(1),
        any::<u8>()
    ];
    (content, flags, stream)
        .prop_map(|((kind, payload), flags, stream)| frame(kind, flags, stream, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_octets(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        has_preface in any::<bool>(),
    ) {
        let mut all = Vec::new();
        if has_preface {
            all.push([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        }
        all.extend(pieces);
        drive(&all, true);
    }

    #[test]
    fn arbitrary_frames(
        frames in prop::collection::vec(any_frame(), 0..60),
        reads in any::<bool>(),
        cut in 1usize..5000,
    ) {
        let mut octets = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        octets.extend(frames.concat());
        let pieces: Vec<_> = octets.chunks(cut).map(<[u8]>::to_vec).collect();
        drive(&pieces, reads);
    }

    #[test]
    fn a_conversation_with_errors(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in 1usize..200,
    ) {
        let mut client = ClientConnection::new(Arc::new(Limits::client()), "a", Duration::ZERO);
        let metadata: Metadata = [("token", "x")].into_iter().collect();
        for number in 0..5 {
            let call = client.start_call("/a.B/C", &metadata, None).expect("open");
            client.send_message(call, Bytes::from(vec![1; number * 100]));
            client.half_close(call);
        }
        let mut octets = Vec::new();
        client.poll_transmit(&mut octets, usize::MAX);
        for (index, value) in flips {
            let at = index.index(octets.len());
            octets[at] = value;
        }
        let pieces: Vec<_> = octets.chunks(cut).map(<[u8]>::to_vec).collect();
        drive(&pieces, true);
    }

    #[test]
    fn a_client_survives_any_server(
        frames in prop::collection::vec(any_frame(), 0..40),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        cut in 1usize..2000,
    ) {
        let mut client = ClientConnection::new(Arc::new(limits()), "a", Duration::ZERO);
        let mut open = BTreeSet::new();
        for _ in 0..4 {
            let call = client.start_call("/a.B/C", &Metadata::default(), None).expect("open");
            client.send_message(call, Bytes::from_static(&[1; 100]));
            open.insert(call);
        }
        let request = net::http::HttpRequest::new(net::http::Method::Get, "/");
        open.insert(client.request(request).expect("open"));
        let mut octets = frame(SETTINGS, 0, 0, &[]);
        octets.extend(frames.concat());
        octets.extend(noise);
        let mut output = Vec::new();
        let mut take = |client: &mut ClientConnection| {
            output.clear();
            while client.poll_transmit(&mut output, 1000) > 0 {}
            while let Some(event) = client.poll_event() {
                match event {
                    ClientEvent::Finished { id, .. } | ClientEvent::Response { id, .. } => {
                        assert!(open.remove(&id), "a call ends once");
                    }
                    ClientEvent::Message { id, .. } => assert!(open.contains(&id)),
                    _ => {}
                }
            }
        };
        take(&mut client);
        for piece in octets.chunks(cut) {
            client.on_bytes(piece);
            take(&mut client);
        }
        client.on_eof();
        take(&mut client);
        prop_assert!(open.is_empty(), "{:?} never ended", open);
    }
}

#[test]
fn garbage_instead_of_a_preface() {
    let mut server = ServerConnection::new(Arc::new(Limits::default()), Duration::ZERO);
    server.on_bytes(b"GET / HTTP/1.1\r\nbroken header\r\n\r\n");
    let mut answer = Vec::new();
    server.poll_transmit(&mut answer, usize::MAX);
    assert!(
        answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"),
        "{answer:?}"
    );
    assert!(server.is_finished());
    assert_eq!(server.is_http2(), Some(false));

    let mut server = ServerConnection::new(Arc::new(Limits::default()), Duration::ZERO);
    server.on_bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03");
    assert_eq!(server.poll_transmit(&mut answer, usize::MAX), 0);
    assert!(server.is_finished());

    let mut server = ServerConnection::new(Arc::new(Limits::default()), Duration::ZERO);
    server.on_bytes(b"PRI * HTTP/2.0\r\n\r\nnonsense");
    answer.clear();
    server.poll_transmit(&mut answer, usize::MAX);
    let goaway = answer.split_off(answer.len() - 32);
    assert_eq!(goaway[..4], [0, 0, 23, GOAWAY]);
    assert!(goaway.ends_with(b"invalid preface"));
    assert!(server.is_finished());
}

#[test]
fn http1_requests_come_as_events() {
    let mut server = ServerConnection::new(Arc::new(Limits::default()), Duration::ZERO);
    for octet in b"GET /version?x HTTP/1.1\r\nHost: a\r\n\r\n" {
        server.on_bytes(&[*octet]);
    }
    let Some(ServerEvent::Http { id, request }) = server.poll_event() else {
        panic!("no request");
    };
    assert_eq!((&request.path[..], &request.query[..]), ("/version", "x"));
    assert_eq!(server.next_timeout(), None, "the caller takes its time");
    server.respond(id, HttpResponse::json(200, "{}"));
    server.respond(id, HttpResponse::json(200, "twice"));
    let mut answer = Vec::new();
    while server.poll_transmit(&mut answer, 10) > 0 {}
    let answer = String::from_utf8(answer).expect("text");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n{}"),
        "{answer}"
    );
    // A request that is begun and not finished is not waited for.
    server.on_bytes(b"GET /ver");
    server.on_time(Duration::from_secs(10));
    let due = server.next_timeout().expect("a limit");
    server.on_time(due);
    assert!(server.is_finished());
}

#[test]
fn a_lost_http1_connection_cancels() {
    let mut server = ServerConnection::new(Arc::new(Limits::default()), Duration::ZERO);
    server.on_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let Some(ServerEvent::Http { id, .. }) = server.poll_event() else {
        panic!("no request");
    };
    server.on_lost();
    assert_eq!(server.poll_event(), Some(ServerEvent::Cancelled { id }));
    assert!(server.is_finished());
}
