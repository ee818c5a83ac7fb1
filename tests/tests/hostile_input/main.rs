//! Input that no honest client sends. It may end its own connection, nothing else.
//!
//! Beside every case a well-behaved neighbour writes and reads on a connection of its own: it must get every answer, in
//! time and right. After the cases the process still runs and has not grown by what it was told to allocate.

mod scene;

use std::time::Instant;

use prost::Message;
use tests::api::{self, PUT, TXN};
use tests::random::{Random, seed};
use tests::raw::*;

use scene::{Expect, PATIENCE, Scene, of_ours};

const MUTATED_SESSIONS: u64 = 300;

/// Preface and SETTINGS, then `octets`.
fn session(octets: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(kind::SETTINGS, 0, 0, &[]), octets].concat()
}

/// A call on stream 1 whose DATA is `data`.
fn call(method: &str, data: &[u8]) -> Vec<u8> {
    session(&unary_call(1, method, data))
}

#[test]
fn noise_instead_of_a_protocol() {
    let mut random = Random::new(seed("noise"));
    let noise = [&[0xff, 0x00][..], &random.octets(4096)].concat();
    let tls_hello = [
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..],
        &random.octets(500),
    ]
    .concat();
    let mut wrong_preface = PREFACE.to_vec();
    wrong_preface[20] = b'X';
    let long_head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(2 << 20));
    Scene::new().play(vec![
        ("nothing", vec![], Expect::Unharmed),
        ("noise", [&noise[..], b"\r\n\r\n"].concat(), Expect::Closed),
        (
            "a TLS hello",
            [&tls_hello[..], b"\r\n\r\n"].concat(),
            Expect::Unharmed,
        ),
        ("half a preface", PREFACE[..10].to_vec(), Expect::Unharmed),
        (
            "a wrong preface",
            session(&[]).replace_preface(&wrong_preface),
            Expect::Closed,
        ),
        (
            "preface, then noise",
            [PREFACE, &noise].concat(),
            Expect::Closed,
        ),
        (
            "half an HTTP/1.1 request",
            b"GET /version HT".to_vec(),
            Expect::Unharmed,
        ),
        (
            "no HTTP/1.1 request",
            b"HELO there\r\n\r\n".to_vec(),
            Expect::Closed,
        ),
        (
            "no host",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Expect::Closed,
        ),
        (
            "a length that is none",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n".to_vec(),
            Expect::Closed,
        ),
        ("an endless head", long_head.into_bytes(), Expect::Closed),
    ]);
}

trait ReplacePreface {
    fn replace_preface(self, preface: &[u8]) -> Self;
}

impl ReplacePreface for Vec<u8> {
    fn replace_preface(mut self, preface: &[u8]) -> Self {
        self[..preface.len()].copy_from_slice(preface);
        self
    }
}

#[test]
fn frames_cut_short_or_too_long() {
    let headers = call_headers(1, PUT);
    let endless_headers = {
        let first = frame(kind::HEADERS, 0, 1, &header_block(&call_fields(PUT)));
        let more = frame(
            kind::CONTINUATION,
            0,
            1,
            &header_block(&[("x", &"y".repeat(16_000))]),
        );
        [first, more.repeat(2000)].concat()
    };
    let huffman_noise = frame(
        kind::HEADERS,
        flag::END_HEADERS,
        1,
        &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff],
    );
    let bad_index = frame(
        kind::HEADERS,
        flag::END_HEADERS,
        1,
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    );
    let window =
        |stream, increment: u32| frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    let overflow = [
        headers.clone(),
        window(0, 0x7fff_ffff),
        window(0, 0x7fff_ffff),
    ]
    .concat();
    let tiny_window = frame(kind::SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]);
    Scene::new().play(vec![
        (
            "half a frame head",
            session(&headers[..5]),
            Expect::Unharmed,
        ),
        (
            "half a frame",
            session(&headers[..headers.len() - 3]),
            Expect::Unharmed,
        ),
        (
            "a frame of 16 MiB",
            session(&frame_of_length(
                0xff_ffff,
                kind::HEADERS,
                flag::END_HEADERS,
                1,
                &[0; 64],
            )),
            Expect::Closed,
        ),
        (
            "one octet beyond the frame size",
            session(&frame(kind::DATA, 0, 1, &[0; 16_385])),
            Expect::Closed,
        ),
        (
            "DATA on stream 0",
            session(&frame(kind::DATA, 0, 0, b"x")),
            Expect::Closed,
        ),
        (
            "DATA on an idle stream",
            session(&frame(kind::DATA, 0, 1, b"x")),
            Expect::Unharmed,
        ),
        (
            "HEADERS on stream 0",
            session(&frame(kind::HEADERS, 4, 0, &[])),
            Expect::Closed,
        ),
        (
            "SETTINGS of 5 octets",
            session(&frame(kind::SETTINGS, 0, 0, &[0; 5])),
            Expect::Closed,
        ),
        (
            "a window above 2^31-1",
            session(&tiny_window),
            Expect::Closed,
        ),
        (
            "PING of 7 octets",
            session(&frame(kind::PING, 0, 0, &[0; 7])),
            Expect::Closed,
        ),
        (
            "an overflowing window",
            session(&overflow),
            of_ours(Expect::Closed),
        ),
        (
            "a bad huffman string",
            session(&huffman_noise),
            Expect::Closed,
        ),
        ("an index out of range", session(&bad_index), Expect::Closed),
        (
            "CONTINUATION out of place",
            session(&frame(kind::CONTINUATION, 4, 1, &[])),
            Expect::Closed,
        ),
        ("endless headers", session(&endless_headers), Expect::Closed),
        (
            "padding beyond the frame",
            session(&[headers, frame(kind::DATA, 8, 1, &[200, 0])].concat()),
            Expect::Closed,
        ),
        (
            "an unknown frame type",
            session(&frame(0xee, 0xff, 77, &[1; 100])),
            Expect::Unharmed,
        ),
    ]);
}

#[test]
fn messages_that_lie() {
    let put = api::put("hostile", "v").encode_to_vec();
    let compressed = message_of_length(put.len() as u32, 1, &put);
    let odd_flag = message_of_length(put.len() as u32, 7, &put);
    let two = [message(&put), message(&put)].concat();
    Scene::new().play(vec![
        (
            "4 GiB to come",
            call(PUT, &message_of_length(u32::MAX, 0, &put)),
            Expect::Failed,
        ),
        (
            "2 GiB to come",
            call(PUT, &message_of_length(1 << 31, 0, &put)),
            Expect::Failed,
        ),
        (
            "more than there is",
            call(PUT, &message_of_length(1000, 0, &put)),
            Expect::Failed,
        ),
        (
            "less than there is",
            call(PUT, &message_of_length(3, 0, &put)),
            Expect::Failed,
        ),
        ("half a prefix", call(PUT, &[0, 0, 0]), Expect::Failed),
        ("no message", call(PUT, &[]), Expect::Failed),
        ("two messages", call(PUT, &two), Expect::Unharmed),
        (
            "compressed without a word",
            call(PUT, &compressed),
            Expect::Failed,
        ),
        ("a flag that is none", call(PUT, &odd_flag), Expect::Failed),
        (
            "an unknown method",
            call("/x/y", &message(&put)),
            Expect::Failed,
        ),
        ("no path", call("", &message(&put)), Expect::Failed),
    ]);
}

#[test]
fn protobuf_that_lies() {
    let key_len = |len: &[u8]| [&[0x0a][..], len, b"key"].concat();
    let groups = vec![0x0b; 100_000];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("cut in a key", key_len(&[100])),
        ("a key of 2^31", key_len(&[0x80, 0x80, 0x80, 0x80, 0x08])),
        (
            "a key of 2^64-1",
            key_len(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ),
        ("an endless varint", key_len(&[0xff; 20])),
        ("a tag of 0", vec![0x00, 0x01]),
        ("a wire type that is none", vec![0x0f, 0x01]),
        ("a key as a number", vec![0x08, 0x01]),
        (
            "a group without end",
            [&key_len(&[3])[..], &[0x7b]].concat(),
        ),
        ("groups 100000 deep", groups),
        ("an end without a group", vec![0x0c]),
    ];
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|(case, octets)| (case, call(PUT, &message(&octets)), Expect::Failed))
        .collect();
    for (case, depth) in [
        ("200 deep", 200),
        ("10000 deep", 10_000),
        ("50000 deep", 50_000),
    ] {
        cases.push((
            case,
            call(TXN, &message(&nested_txn(depth))),
            Expect::Failed,
        ));
    }
    Scene::new().play(cases);
}

/// A transaction in a transaction in a …, by hand: no encoder goes so deep.
fn nested_txn(depth: usize) -> Vec<u8> {
    // Written from the inside out and backwards, so that each length is known when its turn comes.
    let mut reversed = Vec::new();
    for _ in 0..depth {
        // TxnRequest in RequestOp.request_txn (4), RequestOp in TxnRequest.success (2).
        for tag in [0x22, 0x12] {
            let mut len = Vec::new();
            prost::encoding::encode_varint(reversed.len() as u64, &mut len);
            reversed.extend(len.iter().rev());
            reversed.push(tag);
        }
    }
    reversed.reverse();
    reversed
}

/// Connections that hang: none of them may cost the neighbour a turn.
#[test]
fn many_connections_that_say_nothing_more() {
    let scene = Scene::new();
    let before = scene.process.resident_bytes();
    let half_frame = session(&call_headers(1, PUT)[..20]);
    let half_message = session(
        &[
            call_headers(1, PUT),
            frame(kind::DATA, 0, 1, &[0, 0, 15, 0, 0, 1]),
        ]
        .concat(),
    );
    let openings: [&[u8]; 4] = [b"", b"GET / HTTP/1.1\r\nHos", &half_frame, &half_message];
    let mut held = Vec::new();
    for number in 0..200 {
        let mut raw = Raw::connect(scene.addr()).expect("a listener");
        raw.send(openings[number % openings.len()])
            .expect("the server reads");
        held.push(raw);
    }
    scene.neighbour.await_progress("200 connections that hang");
    drop(held);
    scene.neighbour.await_progress("200 connections dropped");
    scene.end(before);
}

/// Floods: many cheap frames, none of them wrong by itself.
#[test]
fn floods() {
    let resets: Vec<u8> = (0..20_000u32)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            [
                call_headers(stream, PUT),
                frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes()),
            ]
            .concat()
        })
        .collect();
    let pings = frame(kind::PING, 0, 0, &[7; 8]).repeat(50_000);
    let settings = frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(50_000);
    let empty_data = [
        call_headers(1, PUT),
        frame(kind::DATA, 0, 1, &[]).repeat(50_000),
    ]
    .concat();
    let priorities = frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 0, 1]).repeat(50_000);
    let open_streams: Vec<u8> = (0..20_000u32)
        .flat_map(|number| call_headers(2 * number + 1, PUT))
        .collect();
    Scene::new().play(vec![
        ("rapid resets", session(&resets), Expect::Unharmed),
        ("pings", session(&pings), Expect::Unharmed),
        ("settings", session(&settings), Expect::Unharmed),
        ("empty DATA", session(&empty_data), Expect::Unharmed),
        ("priorities", session(&priorities), Expect::Unharmed),
        (
            "streams that only open",
            session(&open_streams),
            Expect::Unharmed,
        ),
    ]);
}

/// Honest sessions with some octets changed, cut out or put in.
#[test]
fn mutated_sessions() {
    let random = Random::new(seed("mutated"));
    let scene = Scene::new();
    let before = scene.process.resident_bytes();
    for number in 0..MUTATED_SESSIONS {
        let mut random = random.fork(number);
        let put = message(&api::put("hostile", random.octets(50)).encode_to_vec());
        let calls: Vec<u8> = [1, 3, 5]
            .iter()
            .flat_map(|stream| unary_call(*stream, PUT, &put))
            .collect();
        let octets = mutate(session(&calls), &mut random);
        let mut raw = Raw::connect(scene.addr()).expect("a listener");
        // Refused early or not, and whatever it was: with our end of the connection comes the server's.
        let _ = raw.send(&octets);
        raw.finish();
        let end = raw.read_to_end(Instant::now() + PATIENCE);
        end.unwrap_or_else(|error| panic!("session {number}: {error}: {octets:02x?}"));
    }
    scene.neighbour.await_progress("mutated sessions");
    scene.end(before);
}

fn mutate(mut octets: Vec<u8>, random: &mut Random) -> Vec<u8> {
    // Mostly behind the preface: what breaks the preface is never looked at further.
    let begin = if random.below(10) == 0 {
        0
    } else {
        PREFACE.len()
    };
    for _ in 0..1 + random.below(4) {
        let at = begin + random.below((octets.len() - begin) as u64) as usize;
        match random.below(4) {
            0 => octets[at] = random.number() as u8,
            1 => octets[at] ^= 1 << random.below(8),
            2 => drop(octets.remove(at)),
            _ => octets.insert(at, random.number() as u8),
        }
    }
    octets
}
