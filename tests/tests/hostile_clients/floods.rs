//! Floods: octets made once, sent as fast as the server takes them.

use std::sync::Arc;

use net::hpack::{Encoder, Indexing};
use prost::Message;
use tests::api::{self, PUT, RANGE};
use tests::raw::*;

use crate::window::Attack;

/// Preface and SETTINGS, then `octets`.
pub(crate) fn session(octets: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(kind::SETTINGS, 0, 0, &[]), octets].concat()
}

/// A client's stream ids.
pub(crate) fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Sends `opening`, then `chunk` until it is thrown out.
fn endless(opening: &[u8], chunk: Vec<u8>) -> Attack {
    let opening = session(opening);
    Arc::new(move |stage| {
        let mut hostile = stage.connect()?;
        hostile.send(&opening)?;
        while hostile.send(&chunk).is_some() {}
        None
    })
}

/// Sends all of a session on each connection, then leaves when the server has taken it.
fn again_and_again(octets: &[u8]) -> Attack {
    let octets = session(octets);
    Arc::new(move |stage| {
        let mut hostile = stage.connect()?;
        hostile.send(&octets)?;
        hostile.leave()
    })
}

/// More calls than `reset_rate` lets pass, each asked whole and taken back at once.
pub(crate) fn rapid_resets() -> Attack {
    let get = message(&api::get("good").encode_to_vec());
    let cancel = 8u32.to_be_bytes();
    let calls = streams(12_000).flat_map(|stream| {
        let mut octets = unary_call(stream, RANGE, &get);
        octets.extend(frame(kind::RST_STREAM, 0, stream, &cancel));
        octets
    });
    again_and_again(&calls.collect::<Vec<u8>>())
}

pub(crate) fn pings() -> Attack {
    endless(&[], frame(kind::PING, 0, 0, &[7; 8]).repeat(4000))
}

pub(crate) fn settings() -> Attack {
    // The window of all streams, up and down.
    let window = |len: u32| {
        let mut entry = vec![0, 4];
        entry.extend(len.to_be_bytes());
        frame(kind::SETTINGS, 0, 0, &entry)
    };
    let calls: Vec<u8> = streams(200)
        .flat_map(|stream| call_headers(stream, PUT))
        .collect();
    endless(&calls, [window(1000), window(70_000)].concat().repeat(2000))
}

pub(crate) fn empty_data() -> Attack {
    let chunk = frame(kind::DATA, 0, 1, &[]).repeat(4000);
    endless(&call_headers(1, PUT), chunk)
}

pub(crate) fn continuations() -> Attack {
    let opening = frame(kind::HEADERS, 0, 1, &header_block(&call_fields(PUT)));
    endless(&opening, frame(kind::CONTINUATION, 0, 1, &[]).repeat(4000))
}

/// Blocks of some twenty octets that each stand for nearly 64 KiB.
pub(crate) fn hpack_bombs() -> Attack {
    const VALUE_LEN: usize = 3900;
    const TIMES: usize = 15;
    let value = "b".repeat(VALUE_LEN);
    let mut encoder = Encoder::new();
    let mut first = Vec::new();
    for (name, value) in call_fields(RANGE) {
        encoder.encode(
            name.as_bytes(),
            value.as_bytes(),
            Indexing::Without,
            &mut first,
        );
    }
    let mut octets = first.clone();
    encoder.encode(
        b"bomb",
        value.as_bytes(),
        Indexing::Incremental,
        &mut octets,
    );
    let ends = flag::END_HEADERS | flag::END_STREAM;
    let mut octets = frame(kind::HEADERS, ends, 1, &octets);
    // The newest entry of the dynamic table has the index 62.
    let bomb = [&first[..], &[0x80 | 62; TIMES]].concat();
    for stream in streams(5000).skip(1) {
        octets.extend(frame(kind::HEADERS, ends, stream, &bomb));
    }
    again_and_again(&octets)
}

/// Header lists just below the limit, none of it from a table.
pub(crate) fn long_headers() -> Attack {
    const PART_LEN: usize = 15_000;
    let part = |name: &str| header_block(&[(name, &"h".repeat(PART_LEN))]);
    let mut octets = Vec::new();
    for stream in streams(100) {
        let first = [header_block(&call_fields(RANGE)), part("a")].concat();
        octets.extend(frame(kind::HEADERS, flag::END_STREAM, stream, &first));
        octets.extend(frame(kind::CONTINUATION, 0, stream, &part("b")));
        octets.extend(frame(kind::CONTINUATION, 0, stream, &part("c")));
        octets.extend(frame(
            kind::CONTINUATION,
            flag::END_HEADERS,
            stream,
            &part("d"),
        ));
    }
    again_and_again(&octets)
}

/// Messages that are said to be as long as they may be, or longer, and of which only the beginning comes.
pub(crate) fn claimed_lengths() -> Attack {
    const BEGIN_LEN: usize = 1000;
    const TAKEN_MAX: u32 = 2 << 20;
    let mut octets = Vec::new();
    for (stream, len) in
        streams(1000).zip([TAKEN_MAX, 1 << 31, u32::MAX, 1 << 20].into_iter().cycle())
    {
        octets.extend(call_headers(stream, PUT));
        let begin = message_of_length(len, 0, &[0; BEGIN_LEN]);
        octets.extend(frame(kind::DATA, 0, stream, &begin));
    }
    again_and_again(&octets)
}
