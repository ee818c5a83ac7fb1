//! What must hold for the frames an end sends, whatever it was sent: a reader of our own, as simple as can be.
//!
//! - Frames are whole, no longer than the peer allows, and header blocks can be decoded.
//! - DATA stays within the windows that the peer opened, of the stream and of the connection.
//! - Nothing follows the end of a stream but RST_STREAM and WINDOW_UPDATE; a server answers only on streams that
//!   the client named.

use std::collections::{BTreeMap, BTreeSet};

use net::hpack::Decoder;

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD_LEN, HEADERS, PREFACE, RST_STREAM,
    SETTINGS, Side, WINDOW_UPDATE,
};

const FIRST_WINDOW: u64 = 65_535;
const FIRST_FRAME_LEN_MAX: usize = 16_384;
const SETTING_INITIAL_WINDOW: u16 = 4;
const SETTING_FRAME_LEN_MAX: u16 = 5;

/// Both directions of a connection, seen from the end under test.
///
/// Windows are counted generously (whatever was ever allowed stays allowed), so that a complaint is never wrong.
#[derive(Debug)]
pub(crate) struct Dialogue {
    incoming: Frames,
    outgoing: Frames,
    own_side: Side,
    granted: Grants,
    /// Streams that the peer named in any frame, as a PRIORITY that is refused.
    named: BTreeSet<u32>,
    /// Those of HEADERS.
    asked: BTreeSet<u32>,
    sent: BTreeMap<u32, u64>,
    sent_len: u64,
    ended: BTreeSet<u32>,
    decoder: Decoder,
    /// A header block that is not whole yet.
    block: Option<(u32, Vec<u8>)>,
}

#[derive(Debug)]
struct Grants {
    frame_len_max: usize,
    initial_window: u64,
    connection: u64,
    streams: BTreeMap<u32, u64>,
}

/// Octets cut into frames.
#[derive(Debug)]
struct Frames {
    octets: Vec<u8>,
    /// Of the preface, still to come.
    preface_left: usize,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Dialogue {
    pub(crate) fn new(own_side: Side) -> Self {
        let peer = match own_side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        Self {
            incoming: Frames::new(peer),
            outgoing: Frames::new(own_side),
            own_side,
            granted: Grants {
                frame_len_max: FIRST_FRAME_LEN_MAX,
                initial_window: FIRST_WINDOW,
                connection: FIRST_WINDOW,
                streams: BTreeMap::new(),
            },
            named: BTreeSet::new(),
            asked: BTreeSet::new(),
            sent: BTreeMap::new(),
            sent_len: 0,
            ended: BTreeSet::new(),
            decoder: Decoder::new(net::hpack::DEFAULT_TABLE_SIZE_BYTES),
            block: None,
        }
    }

    /// What the peer sent; before it is given to the end under test.
    pub(crate) fn on_received(&mut self, octets: &[u8]) {
        self.incoming.octets.extend_from_slice(octets);
        while let Some(frame) = self.incoming.next() {
            self.named.insert(frame.stream);
            if frame.kind == HEADERS {
                self.asked.insert(frame.stream);
            }
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.granted.on_settings(&frame.payload),
                WINDOW_UPDATE => self.granted.on_update(frame.stream, &frame.payload),
                _ => {}
            }
        }
        // A DATA frame is answered before it is whole.
        self.named.extend(self.incoming.begun_stream());
    }

    /// What the end under test sends.
    pub(crate) fn on_sent(&mut self, octets: &[u8]) {
        self.outgoing.octets.extend_from_slice(octets);
        while let Some(frame) = self.outgoing.next() {
            self.check(frame);
        }
    }

    /// Everything was sent.
    pub(crate) fn check_end(&self) {
        let rest = &self.outgoing.octets;
        assert!(rest.is_empty(), "a frame is not whole: {rest:02x?}");
        assert!(self.block.is_none(), "a header block is not whole");
    }

    fn check(&mut self, frame: Frame) {
        let Frame { kind, stream, .. } = frame;
        let len = frame.payload.len();
        let len_max = self.granted.frame_len_max;
        assert!(len <= len_max, "type {kind}: {len} octets of {len_max}");
        if let Some((open, _)) = &self.block {
            assert_eq!((kind, stream), (CONTINUATION, *open), "inside a block");
        }
        if matches!(kind, DATA | HEADERS | RST_STREAM) {
            assert_ne!(stream, 0, "type {kind}");
            let known = match kind {
                RST_STREAM => &self.named,
                _ => &self.asked,
            };
            let may = self.own_side == Side::Client || known.contains(&stream);
            assert!(may, "type {kind} on {stream}, which the peer never named");
        }
        if matches!(kind, DATA | HEADERS) {
            let is_over = self.ended.contains(&stream);
            assert!(!is_over, "type {kind} behind the end of stream {stream}");
        }
        match kind {
            DATA => self.on_data(stream, len as u64),
            HEADERS | CONTINUATION => self.on_block(stream, frame.flags, &frame.payload),
            _ => {}
        }
        let is_end = matches!(kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        if is_end || kind == RST_STREAM {
            self.ended.insert(stream);
        }
    }

    fn on_data(&mut self, stream: u32, len: u64) {
        self.sent_len += len;
        let window = self.granted.connection;
        assert!(self.sent_len <= window, "connection: {len} beyond {window}");
        let sent = self.sent.entry(stream).or_default();
        *sent += len;
        let window = self.granted.window(stream);
        assert!(*sent <= window, "stream {stream}: {sent} of {window}");
    }

    /// Neither end pads or gives priorities, so the payload is the block.
    fn on_block(&mut self, stream: u32, flags: u8, payload: &[u8]) {
        let (_, block) = self.block.get_or_insert((stream, Vec::new()));
        block.extend_from_slice(payload);
        if flags & END_HEADERS == 0 {
            return;
        }
        if let Some((_, block)) = self.block.take() {
            let outcome = self.decoder.decode(&block, usize::MAX, &mut |_| {});
            assert!(outcome.is_ok(), "{outcome:?}: {block:02x?}");
        }
    }
}

impl Grants {
    fn on_settings(&mut self, payload: &[u8]) {
        for entry in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                SETTING_INITIAL_WINDOW => {
                    self.initial_window = self.initial_window.max(value.into());
                }
                SETTING_FRAME_LEN_MAX => {
                    self.frame_len_max = self.frame_len_max.max(value as usize);
                }
                _ => {}
            }
        }
    }

    fn on_update(&mut self, stream: u32, payload: &[u8]) {
        let Ok(number) = <[u8; 4]>::try_from(payload) else {
            return;
        };
        let more = u64::from(u32::from_be_bytes(number) & 0x7fff_ffff);
        match stream {
            0 => self.connection += more,
            _ => *self.streams.entry(stream).or_default() += more,
        }
    }

    fn window(&self, stream: u32) -> u64 {
        self.initial_window + self.streams.get(&stream).copied().unwrap_or(0)
    }
}

impl Frames {
    fn new(sender: Side) -> Self {
        let preface_left = match sender {
            Side::Client => PREFACE.len(),
            Side::Server => 0,
        };
        Self {
            octets: Vec::new(),
            preface_left,
        }
    }

    fn next(&mut self) -> Option<Frame> {
        let begun = self.preface_left.min(self.octets.len());
        self.preface_left -= begun;
        self.octets.drain(..begun);
        let head = self.octets.first_chunk::<HEAD_LEN>()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        if self.octets.len() < HEAD_LEN + len {
            return None;
        }
        let payload = self.octets[HEAD_LEN..HEAD_LEN + len].to_vec();
        self.octets.drain(..HEAD_LEN + len);
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// The stream of the next frame, as soon as its head is here.
    fn begun_stream(&self) -> Option<u32> {
        let head = self.octets.first_chunk::<{ HEAD_LEN }>()?;
        Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::put;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, kind, flags, stream, payload);
        out
    }

    /// A server that was asked on stream 1.
    fn asked() -> Dialogue {
        let mut dialogue = Dialogue::new(Side::Server);
        dialogue.on_received(PREFACE);
        dialogue.on_received(&frame(HEADERS, END_HEADERS, 1, &[]));
        dialogue
    }

    #[test]
    fn an_answer_is_fine() {
        let mut dialogue = asked();
        dialogue.on_sent(&frame(HEADERS, END_HEADERS, 1, &[0x88]));
        dialogue.on_sent(&frame(DATA, END_STREAM, 1, &[0; 16_384]));
        dialogue.check_end();
    }

    #[test]
    #[should_panic(expected = "stream 1: 65536 of 65535")]
    fn an_overdrawn_window_is_seen() {
        let mut dialogue = asked();
        dialogue.on_received(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
        for _ in 0..4 {
            dialogue.on_sent(&frame(DATA, 0, 1, &[0; 16_384]));
        }
    }

    #[test]
    #[should_panic(expected = "behind the end of stream 1")]
    fn frames_behind_the_end_are_seen() {
        let mut dialogue = asked();
        dialogue.on_sent(&frame(DATA, END_STREAM, 1, &[]));
        dialogue.on_sent(&frame(DATA, 0, 1, &[]));
    }

    #[test]
    #[should_panic(expected = "never named")]
    fn answers_to_nobody_are_seen() {
        asked().on_sent(&frame(HEADERS, END_HEADERS, 3, &[0x88]));
    }
}
