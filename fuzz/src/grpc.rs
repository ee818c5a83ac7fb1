//! gRPC inside sound HTTP/2: header fields, message framing, statuses.
//!
//! What a body of octets means is worked out a second time, by [`messages_in`], and must agree.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::hpack::{Encoder, Indexing};
use net::{CallId, ClientConnection, ClientEvent, Limits, Metadata, ServerConnection, ServerEvent};

use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Side, Writer, put};
use crate::input::{Cuts, Input};

const MESSAGE_LEN_MAX: usize = 3000;
const PREFIX_LEN: usize = 5;
const NAMES: &[&str] = &[
    "grpc-timeout",
    "content-type",
    "grpc-encoding",
    "te",
    "grpc-status",
    "grpc-message",
    "grpc-accept-encoding",
    "content-length",
    "x-bin",
];

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    match input.byte() % 3 {
        0 => check_request(&mut input),
        1 => check_response(&mut input),
        _ => check_round_trip(&mut input),
    }
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        message_bytes_max: MESSAGE_LEN_MAX,
        ..Limits::default()
    })
}

/// What a body holds: whole messages, and whether it ends behind one.
fn messages_in(mut body: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_LEN>() {
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if prefix[0] != 0 || len > MESSAGE_LEN_MAX || len > rest.len() {
            return (messages, false);
        }
        messages.push(&rest[..len]);
        body = &rest[len..];
    }
    (messages, body.is_empty())
}

/// Appends a header block: the fields given, then fields of the input.
fn put_block(
    out: &mut Vec<u8>,
    encoder: &mut Encoder,
    flags: u8,
    fields: &[(&str, &str)],
    input: &mut Input<'_>,
) {
    let mut block = Vec::new();
    for (name, value) in fields {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        encoder.encode(name, value, Indexing::Incremental, &mut block);
    }
    for _ in 0..input.byte() % 4 {
        let name = input.pick(NAMES).as_bytes();
        encoder.encode(name, input.piece(), Indexing::Without, &mut block);
    }
    put(out, HEADERS, flags | END_HEADERS, 1, &block);
}

fn put_body(out: &mut Vec<u8>, body: &[u8], is_end: bool, cuts: &mut Cuts) {
    let mut rest = body;
    while !rest.is_empty() {
        put(out, DATA, 0, 1, cuts.next(&mut rest));
    }
    if is_end {
        put(out, DATA, END_STREAM, 1, &[]);
    }
}

/// One request with fields and a body of the input.
fn check_request(input: &mut Input<'_>) {
    let (mut frame_cuts, mut read_cuts) = (Cuts::new(input.byte()), Cuts::new(input.byte()));
    let mut writer = Writer::new(Side::Client);
    writer.put_greeting();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    put_block(&mut writer.out, &mut Encoder::new(), 0, &fields, input);
    let body = input.rest();
    put_body(&mut writer.out, body, true, &mut frame_cuts);

    let now = Duration::from_secs(1000);
    let mut server = ServerConnection::new(limits(), now);
    let mut seen = Seen::default();
    let mut rest = writer.out.as_slice();
    while !rest.is_empty() {
        server.on_bytes(read_cuts.next(&mut rest));
        while let Some(event) = server.poll_event() {
            seen.on_event(event, now);
        }
    }
    seen.check(body);
    let mut answer = Vec::new();
    while server.poll_transmit(&mut answer, 1000) > 0 {}
    assert!(!answer.is_empty(), "a request without any answer");
}

/// What a server was told of one call.
#[derive(Default)]
struct Seen {
    call: Option<CallId>,
    messages: Vec<Bytes>,
    is_half_closed: bool,
    is_cancelled: bool,
}

impl Seen {
    fn on_event(&mut self, event: ServerEvent, now: Duration) {
        assert!(!self.is_cancelled && !self.is_half_closed, "{event:?}");
        match event {
            ServerEvent::Call { id, deadline, .. } => {
                assert_eq!(self.call.replace(id), None);
                assert!(deadline.is_none_or(|deadline| deadline > now));
            }
            ServerEvent::Message { id, payload } => {
                assert_eq!(self.call, Some(id));
                self.messages.push(payload);
            }
            ServerEvent::HalfClose { id } => {
                assert_eq!(self.call, Some(id));
                self.is_half_closed = true;
            }
            ServerEvent::Cancelled { id } => {
                assert_eq!(self.call, Some(id));
                self.is_cancelled = true;
            }
            // A content type of the input's does not undo that of the call.
            event => assert!(self.call.is_none(), "{event:?}"),
        }
    }

    fn check(&self, body: &[u8]) {
        if self.call.is_none() {
            assert!(self.messages.is_empty() && !self.is_half_closed);
            return;
        }
        let (expected, is_whole) = messages_in(body);
        let is_known = self.messages.len() <= expected.len();
        assert!(is_known, "messages that nobody sent");
        for (message, expected) in self.messages.iter().zip(&expected) {
            assert_eq!(message, expected);
        }
        if self.is_half_closed {
            assert!(is_whole, "half a message is taken for the end");
            assert_eq!(self.messages.len(), expected.len());
        } else {
            assert!(self.is_cancelled, "a call that never ends");
        }
    }
}

/// One response with fields, a body and trailers of the input.
fn check_response(input: &mut Input<'_>) {
    let bits = input.byte();
    let (mut frame_cuts, mut read_cuts) = (Cuts::new(input.byte()), Cuts::new(input.byte()));
    let mut writer = Writer::new(Side::Server);
    let mut encoder = Encoder::new();
    writer.put_greeting();
    let fields = [(":status", "200"), ("content-type", "application/grpc")];
    let is_alone = bits & 1;
    put_block(&mut writer.out, &mut encoder, is_alone, &fields, input);
    let mut trailers = Vec::new();
    put_block(&mut trailers, &mut encoder, END_STREAM, &[], input);
    let body = input.rest();
    if is_alone == 0 {
        put_body(&mut writer.out, body, false, &mut frame_cuts);
        writer.out.extend_from_slice(&trailers);
    }

    let mut client = ClientConnection::new(limits(), "a:1", Duration::from_secs(1000));
    let call = client.start_call("/a.B/C", &Metadata::default(), None);
    let mut output = Vec::new();
    while client.poll_transmit(&mut output, 1000) > 0 {}
    let mut messages = Vec::new();
    let mut end = None;
    let mut rest = writer.out.as_slice();
    while !rest.is_empty() {
        client.on_bytes(read_cuts.next(&mut rest));
        while let Some(event) = client.poll_event() {
            assert!(end.is_none(), "{event:?} behind the end");
            match event {
                ClientEvent::Message { payload, .. } => messages.push(payload),
                ClientEvent::Finished { id, status, .. } => {
                    assert_eq!(Some(id), call);
                    end = Some(status);
                }
                _ => {}
            }
        }
    }
    let status = end.expect("the stream has ended, so the call has");
    let (expected, is_whole) = messages_in(body);
    assert!(messages.len() <= expected.len());
    assert!(
        messages
            .iter()
            .zip(&expected)
            .all(|(seen, sent)| seen == sent)
    );
    if status.is_ok() && is_alone == 0 {
        assert!(is_whole && messages.len() == expected.len());
    }
}

/// A call from our client to our server and back: nothing is changed on the way.
fn check_round_trip(input: &mut Input<'_>) {
    let mut cuts = Cuts::new(input.byte());
    let code = Code::from_number(u32::from(input.byte() % 17)).unwrap_or(Code::Ok);
    let message = String::from_utf8_lossy(input.piece()).into_owned();
    let status = Status::new(code, message);
    let token: String = input
        .piece()
        .iter()
        .map(|b| char::from(b'!' + b % 94))
        .collect();
    let payload = Bytes::copy_from_slice(input.take(MESSAGE_LEN_MAX));

    let now = Duration::from_secs(1000);
    let mut client = ClientConnection::new(limits(), "a:1", now);
    let mut server = ServerConnection::new(limits(), now);
    let metadata: Metadata = [("token", token.as_str())].into_iter().collect();
    let call = client
        .start_call("/a.B/C", &metadata, None)
        .expect("a new connection takes calls");
    client.send_message(call, payload.clone());
    client.half_close(call);
    let mut received = Vec::new();
    let mut end = None;
    loop {
        let mut octets = Vec::new();
        client.poll_transmit(&mut octets, usize::MAX);
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            server.on_bytes(cuts.next(&mut rest));
            echo(&mut server, &status, token.as_bytes());
        }
        let mut answer = Vec::new();
        server.poll_transmit(&mut answer, usize::MAX);
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            client.on_bytes(cuts.next(&mut rest));
            while let Some(event) = client.poll_event() {
                match event {
                    ClientEvent::Message { payload, .. } => received.push(payload),
                    ClientEvent::Finished { status, .. } => end = Some(status),
                    _ => {}
                }
            }
        }
        if octets.is_empty() && answer.is_empty() {
            break;
        }
    }
    assert_eq!(received, [payload]);
    assert_eq!(end, Some(status));
}

fn echo(server: &mut ServerConnection, status: &Status, token: &[u8]) {
    while let Some(event) = server.poll_event() {
        match event {
            ServerEvent::Call { metadata, .. } => {
                assert_eq!(metadata.get("token"), Some(token));
            }
            ServerEvent::Message { id, payload } => server.send_message(id, payload),
            ServerEvent::HalfClose { id } => server.finish(id, status),
            event => panic!("{event:?}"),
        }
    }
}
