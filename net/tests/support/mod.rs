//! What the tests share: a wire between a client and a server, and a peer that sends frames by hand.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::sync::Arc;
use std::time::Duration;

use net::hpack::{Decoder, Encoder, Indexing};
use net::{
    CallId, ClientConnection, ClientEvent, Limits, Metadata, Rate, ServerConnection, ServerEvent,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client and a server joined in memory. Bytes travel in pieces of the lengths in `cuts`, in turn.
pub struct Wire {
    pub client: ClientConnection,
    pub server: ServerConnection,
    pub now: Duration,
    pub client_events: Vec<ClientEvent>,
    cuts: Vec<usize>,
    turn: usize,
}

impl Wire {
    pub fn new(client: Limits, server: Limits) -> Self {
        Self::with_cuts(client, server, vec![usize::MAX])
    }

    pub fn with_cuts(client: Limits, server: Limits, cuts: Vec<usize>) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            client: ClientConnection::new(Arc::new(client), "localhost:2379", now),
            server: ServerConnection::new(Arc::new(server), now),
            now,
            client_events: Vec::new(),
            cuts,
            turn: 0,
        }
    }

    pub fn call(&mut self, path: &str) -> CallId {
        let no_metadata = Metadata::default();
        let id = self.client.start_call(path, &no_metadata, None);
        id.expect("the connection takes calls")
    }

    fn cut(&mut self) -> usize {
        self.turn += 1;
        self.cuts[self.turn % self.cuts.len()]
    }

    /// Moves bytes until none are left, giving the server's events to `serve`.
    pub fn run(&mut self, mut serve: impl FnMut(&mut ServerConnection, ServerEvent)) {
        loop {
            let mut octets = Vec::new();
            let max = self.cut();
            let to_server = self.client.poll_transmit(&mut octets, max);
            self.feed(&octets, |wire, piece| {
                wire.server.on_bytes(piece);
                while let Some(event) = wire.server.poll_event() {
                    serve(&mut wire.server, event);
                }
            });
            while let Some(event) = self.server.poll_event() {
                serve(&mut self.server, event);
            }
            octets.clear();
            let max = self.cut();
            let to_client = self.server.poll_transmit(&mut octets, max);
            self.feed(&octets, |wire, piece| {
                wire.client.on_bytes(piece);
                wire.take_client_events();
            });
            self.take_client_events();
            let is_quiet = {
                let pending = self.server.poll_event();
                let is_none = pending.is_none();
                if let Some(event) = pending {
                    serve(&mut self.server, event);
                }
                is_none
            };
            if to_server == 0 && to_client == 0 && is_quiet {
                return;
            }
        }
    }

    fn feed(&mut self, mut octets: &[u8], mut take: impl FnMut(&mut Self, &[u8])) {
        while !octets.is_empty() {
            let len = self.cut().min(octets.len());
            let (piece, rest) = octets.split_at(len);
            octets = rest;
            take(self, piece);
        }
    }

    fn take_client_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.client_events.push(event);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.on_time(self.now);
        self.server.on_time(self.now);
    }
}

/// One frame as a raw peer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = (payload.len() as u32).to_be_bytes();
    let mut octets = vec![l0, l1, l2, kind, flags];
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// A gRPC message with its prefix.
pub fn message(payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![0];
    octets.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// A client that sends what it likes.
pub struct RawPeer {
    pub server: ServerConnection,
    pub now: Duration,
    pub encoder: Encoder,
    decoder: Decoder,
    received: Vec<u8>,
}

impl RawPeer {
    /// Connects, with the preface and SETTINGS exchanged.
    pub fn connect(limits: Limits) -> Self {
        let mut peer = Self::silent(limits);
        peer.send(PREFACE);
        peer.send(&frame(SETTINGS, 0, 0, &[]));
        peer.send(&frame(SETTINGS, ACK, 0, &[]));
        let greeting = peer.frames();
        assert_eq!(greeting[0].kind, SETTINGS);
        assert!(
            greeting
                .iter()
                .any(|f| f.kind == SETTINGS && f.flags == ACK)
        );
        peer
    }

    /// Connects and says nothing.
    pub fn silent(limits: Limits) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            server: ServerConnection::new(Arc::new(limits), now),
            now,
            encoder: Encoder::new(),
            decoder: Decoder::new(4096),
            received: Vec::new(),
        }
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.server.on_bytes(octets);
    }

    pub fn headers(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            self.encoder
                .encode(name, value, Indexing::Incremental, &mut block);
        }
        block
    }

    /// HEADERS of a gRPC call, with fields added.
    pub fn open_call(&mut self, stream: u32, flags: u8, more: &[(&str, &str)]) {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/pkg.Svc/Method"),
            (":authority", "a"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block = self.headers(&[&fields[..], more].concat());
        self.send(&frame(HEADERS, flags | END_HEADERS, stream, &block));
    }

    /// HEADERS of a plain request.
    pub fn open_http(&mut self, stream: u32, flags: u8, method: &str, more: &[(&str, &str)]) {
        let fields = [(":method", method), (":scheme", "http"), (":path", "/p")];
        let block = self.headers(&[&fields[..], more].concat());
        self.send(&frame(HEADERS, flags | END_HEADERS, stream, &block));
    }

    pub fn events(&mut self) -> Vec<ServerEvent> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    /// Everything the server has to send, as frames.
    pub fn frames(&mut self) -> Vec<Frame> {
        while self.server.poll_transmit(&mut self.received, usize::MAX) > 0 {}
        let mut frames = Vec::new();
        let mut rest = &self.received[..];
        while let Some((head, tail)) = rest.split_first_chunk::<9>() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (payload, tail) = tail.split_at(len);
            rest = tail;
            frames.push(Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                payload: payload.to_vec(),
            });
        }
        assert!(rest.is_empty(), "the server cut a frame");
        self.received.clear();
        frames
    }

    pub fn decode(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("text");
        let _complete = self
            .decoder
            .decode(block, usize::MAX, &mut |field| {
                fields.push((text(field.name), text(field.value)));
            })
            .expect("a valid block");
        fields
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.on_time(self.now);
    }

    /// The error and text of the GOAWAY that ended the connection.
    pub fn failure(&mut self) -> Option<(u32, String)> {
        let frames = self.frames();
        let goaway = frames.iter().find(|frame| frame.kind == GOAWAY)?;
        let code = u32::from_be_bytes(goaway.payload[4..8].try_into().expect("four"));
        assert!(self.server.is_finished(), "a GOAWAY with an error closes");
        Some((code, String::from_utf8_lossy(&goaway.payload[8..]).into()))
    }

    /// The code of the RST_STREAM for `stream`.
    pub fn reset_code(&mut self, stream: u32) -> Option<u32> {
        let frames = self.frames();
        let is_reset = |frame: &&Frame| frame.kind == RST_STREAM && frame.stream == stream;
        let reset = frames.iter().find(is_reset)?;
        Some(u32::from_be_bytes(
            reset.payload[..].try_into().expect("four"),
        ))
    }
}

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const FRAME_SIZE_ERROR: u32 = 6;
pub const COMPRESSION_ERROR: u32 = 9;

/// A rate that a test soon exceeds.
pub const FEW: Rate = Rate {
    burst: 5,
    per_second: 1,
};

/// Of the request that the first event tells of.
pub fn call_id(events: &[ServerEvent]) -> CallId {
    match events.first() {
        Some(ServerEvent::Call { id, .. } | ServerEvent::Http { id, .. }) => *id,
        other => panic!("{other:?}"),
    }
}

/// The fields of the only HEADERS frame for `stream`.
pub fn response(peer: &mut RawPeer, stream: u32) -> Vec<(String, String)> {
    let frames = peer.frames();
    let is_head = |frame: &&Frame| frame.kind == HEADERS && frame.stream == stream;
    let heads: Vec<_> = frames.iter().filter(is_head).collect();
    assert_eq!(heads.len(), 1, "{frames:?}");
    peer.decode(&heads[0].payload)
}

pub fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(found, _)| found == name);
    found.map(|(_, value)| &value[..])
}

/// Sends `octets` again and again, up to `count` times; returns how often it was fine, and the end.
pub fn flood(peer: &mut RawPeer, octets: &[u8], count: usize) -> (usize, Option<(u32, String)>) {
    for sent in 0..count {
        peer.send(octets);
        if let Some(failure) = peer.failure() {
            return (sent, Some(failure));
        }
    }
    (count, None)
}
