//! HTTP/2 frames that are right or nearly so, made from an input.
//!
//! Half of what a peer can do wrong is out of reach of changed octets: a length that no longer fits hides everything
//! behind it. Here lengths fit unless the input wants otherwise, and header blocks come from an encoder.

use net::hpack::{Encoder, Indexing};

use crate::input::Input;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEAD_LEN: usize = 9;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// Lengths of messages around the limits that the targets set (5,000 octets, windows of 2,000).
const MESSAGE_LENS: [usize; 8] = [0, 1, 20, 1999, 2001, 4999, 5000, 5001];

/// Whole fields, most of them fine.
const FIELDS: &[(&str, &str)] = &[
    (":method", "POST"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":scheme", "http"),
    (":path", "/etcdserverpb.KV/Range"),
    (":path", "/"),
    (":path", "*"),
    (":authority", "localhost:2379"),
    (":status", "200"),
    (":status", "100"),
    (":status", "204"),
    ("content-type", "application/grpc"),
    ("content-type", "application/json"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("grpc-timeout", "10m"),
    ("grpc-timeout", "99999999H"),
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "identity"),
    ("grpc-status", "0"),
    ("grpc-status", "14"),
    ("grpc-message", "a%20b"),
    ("content-length", "5"),
    ("content-length", "0"),
    ("content-length", "18446744073709551616"),
    ("host", "a"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("authorization", "Bearer x"),
    ("Upper", "x"),
];

/// Whose frames they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Appends one frame with the length it has.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = payload.len().min(0x00ff_ffff);
    out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&payload[..len]);
}

/// Appends one gRPC message.
pub(crate) fn put_message(out: &mut Vec<u8>, flag: u8, len: u32, payload: &[u8]) {
    out.push(flag);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Makes frames of one connection.
#[derive(Debug)]
pub(crate) struct Writer {
    side: Side,
    encoder: Encoder,
    pub(crate) out: Vec<u8>,
}

impl Writer {
    /// How many kinds of things `put` makes.
    pub(crate) const KIND_COUNT: u8 = 15;

    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            encoder: Encoder::new(),
            out: Vec::new(),
        }
    }

    /// What a peer says first, rightly.
    pub(crate) fn put_greeting(&mut self) {
        if self.side == Side::Client {
            self.out.extend_from_slice(PREFACE);
        }
        put(&mut self.out, SETTINGS, 0, 0, &[]);
    }

    /// Appends what `kind`, below [`Self::KIND_COUNT`], and the input say.
    pub(crate) fn put(&mut self, kind: u8, input: &mut Input<'_>) {
        match kind {
            0..=3 => self.put_headers(input),
            4..=6 => self.put_messages(input),
            7 => {
                let (flags, stream, payload) = (input.byte(), stream(input), input.piece());
                put(&mut self.out, DATA, flags, stream, payload);
            }
            8 => self.put_settings(input),
            9 => {
                let (stream, number) = (stream(input), number(input));
                put(&mut self.out, WINDOW_UPDATE, 0, stream, &number);
            }
            10 => {
                let (stream, number) = (stream(input), number(input));
                put(&mut self.out, RST_STREAM, 0, stream, &number);
            }
            11 => {
                let flags = input.byte() & ACK;
                put(&mut self.out, PING, flags, 0, &[7; 8]);
            }
            12 => {
                let last = stream(input).to_be_bytes();
                let payload = [&last[..], &number(input), input.piece()].concat();
                put(&mut self.out, GOAWAY, 0, 0, &payload);
            }
            13 => {
                let (kind, flags, stream) = (input.byte() % 12, input.byte(), stream(input));
                put(&mut self.out, kind, flags, stream, input.piece());
            }
            _ => self.out.extend_from_slice(input.piece()),
        }
    }

    fn put_headers(&mut self, input: &mut Input<'_>) {
        let stream = stream(input);
        let bits = input.byte();
        let mut block = self.block(bits, input);
        let mut flags = bits & END_STREAM;
        if bits & 0x40 != 0 {
            // Padding that may be longer than the frame.
            let pad_len = input.byte();
            block.insert(0, pad_len);
            block.resize(block.len() + usize::from(pad_len.min(100)), 0);
            flags |= PADDED;
        }
        let continued = if bits & 0x80 != 0 {
            block.split_off(usize::from(input.byte()).min(block.len()))
        } else {
            flags |= END_HEADERS;
            Vec::new()
        };
        put(&mut self.out, HEADERS, flags, stream, &block);
        if flags & END_HEADERS == 0 && bits & 0x20 == 0 {
            put(&mut self.out, CONTINUATION, END_HEADERS, stream, &continued);
        }
    }

    /// A header block: usual fields if a bit says so, then some of the input's.
    fn block(&mut self, bits: u8, input: &mut Input<'_>) -> Vec<u8> {
        let mut block = Vec::new();
        let is_usual = bits & 2 == 0;
        if is_usual {
            for (name, value) in usual_fields(self.side, bits) {
                let name = name.as_bytes();
                let indexing = Indexing::Incremental;
                self.encoder
                    .encode(name, value.as_bytes(), indexing, &mut block);
            }
        }
        for _ in 0..bits >> 2 & 7 {
            let choice = usize::from(input.byte());
            let (name, value) = match FIELDS.get(choice) {
                Some((name, value)) => (name.as_bytes(), value.as_bytes()),
                // A known name with another value.
                None if choice < 200 => {
                    let (name, _) = FIELDS[choice % FIELDS.len()];
                    (name.as_bytes(), input.piece())
                }
                None => (input.piece(), input.piece()),
            };
            self.encoder
                .encode(name, value, Indexing::Incremental, &mut block);
        }
        if !is_usual && bits & 4 != 0 {
            block.extend_from_slice(input.piece());
        }
        block
    }

    fn put_messages(&mut self, input: &mut Input<'_>) {
        let stream = stream(input);
        let bits = input.byte();
        let mut payload = Vec::new();
        for _ in 0..bits >> 1 & 3 {
            let len = input.pick(&MESSAGE_LENS);
            let shape = input.byte();
            let told = match shape & 3 {
                0 => number_of(shape),
                _ => len as u32,
            };
            put_message(&mut payload, shape >> 7, told, &vec![shape; len]);
        }
        // In several frames, the last of which may end the stream.
        let cut = 1 + usize::from(input.byte()) * 64;
        let mut pieces = payload.chunks(cut).peekable();
        if pieces.peek().is_none() {
            put(&mut self.out, DATA, bits & END_STREAM, stream, &[]);
        }
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            let flags = if is_last { bits & END_STREAM } else { 0 };
            put(&mut self.out, DATA, flags, stream, piece);
        }
    }

    fn put_settings(&mut self, input: &mut Input<'_>) {
        let bits = input.byte();
        let mut payload = Vec::new();
        for _ in 0..bits >> 1 & 3 {
            payload.extend_from_slice(&[0, input.byte() % 10]);
            payload.extend_from_slice(&number(input));
        }
        put(&mut self.out, SETTINGS, bits & ACK, 0, &payload);
    }
}

fn usual_fields(side: Side, bits: u8) -> &'static [(&'static str, &'static str)] {
    match (side, bits & 1) {
        (Side::Client, _) => &[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/etcdserverpb.KV/Range"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
        (Side::Server, 0) => &[(":status", "200"), ("content-type", "application/grpc")],
        (Side::Server, _) => &[("grpc-status", "0"), ("grpc-message", "")],
    }
}

/// Streams as a client numbers them, mostly; low ones, so that frames meet.
fn stream(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        choice @ 0..=199 => u32::from(choice) % 16 * 2 + 1,
        choice @ 200..=239 => u32::from(choice) % 8,
        240..=247 => u32::from(input.u16()),
        _ => u32::MAX,
    }
}

fn number(input: &mut Input<'_>) -> [u8; 4] {
    let choice = input.byte();
    if choice == u8::MAX {
        return input.u32().to_be_bytes();
    }
    number_of(choice).to_be_bytes()
}

fn number_of(choice: u8) -> u32 {
    const NUMBERS: [u32; 16] = [
        0,
        1,
        2,
        8,
        100,
        4096,
        16_383,
        16_384,
        65_535,
        65_536,
        (1 << 24) - 1,
        1 << 24,
        (1 << 31) - 1,
        1 << 31,
        u32::MAX - 1,
        u32::MAX,
    ];
    NUMBERS[usize::from(choice) % NUMBERS.len()]
}
