//! Sharing the connection among streams.
//!
//! Frames without a queue (acknowledgements, resets, window updates) go first: they let the peer go on. Then the streams
//! that can send are served in rounds, one DATA frame each, so that a large answer delays a small one by no more than
//! one frame of every stream. Header blocks are encoded when they are written, as the peer decodes them in that order.

use super::closed::How;
use super::connection::{Connection, Role, enlist};
use super::frame::{self, ErrorCode, FrameHead, HEAD_LEN, flag, kind};
use super::stream::{Block, Key, SendState, Waiting};
use crate::hpack::Indexing;

/// Most of a stream's DATA per round, whatever larger frames the peer allows.
const QUANTUM_LEN: usize = 16 * 1024;

/// Less than this is not cut off a larger body only because the caller's buffer ends: frames would get tiny.
const CUT_LEN_MIN: usize = 1024;

/// What serving a stream came to.
enum Served {
    /// The caller's buffer is full; the stream is still first.
    NoRoom,
    Done,
}

impl<X: Default> Connection<X> {
    /// Appends bytes for the peer to `out` until about `max` were added; returns how many were. Only frames that
    /// cannot be cut (headers, control) go beyond `max`.
    pub(crate) fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        let start = out.len();
        out.append(&mut self.control);
        if self.failure.is_some() {
            return out.len() - start;
        }
        self.open_waiting();
        while out.len() - start < max
            && let Some(key) = self.next_to_serve()
        {
            // However small `max` is, something is written, or the caller would take us for done.
            let room = match out.len() - start {
                0 => max.max(HEAD_LEN + CUT_LEN_MIN),
                written => max - written,
            };
            if matches!(self.serve(key, room, out), Served::NoRoom) {
                self.ready.push_front(key);
                break;
            }
            // A stream that ended may owe a reset, which follows at once.
            out.append(&mut self.control);
        }
        out.len() - start
    }

    /// Whose turn it is. Streams that waited for the connection's window were ready before the others. They are taken out
    /// one by one as the window lasts: an update of a few octets must not cost a walk over all of them.
    fn next_to_serve(&mut self) -> Option<Key> {
        while self.send_window.available() > 0
            && let Some(key) = self.for_connection.pop_front()
        {
            let stream = self.streams.get(key);
            if stream.is_some_and(|stream| stream.send.waiting == Waiting::ForConnection) {
                return Some(key);
            }
        }
        self.ready.pop_front()
    }

    /// Opens as many of a client's streams as the peer allows, in order.
    fn open_waiting(&mut self) {
        let opened_max = self.peer.concurrent_streams_max.unwrap_or(u32::MAX);
        while self.opened < opened_max
            && let Some(key) = self.to_open.front().copied()
        {
            // Streams are made before their fields are queued; that is within one call of ours.
            let has_head = self
                .streams
                .get(key)
                .is_some_and(|stream| stream.send.has_work());
            if !has_head {
                return;
            }
            self.to_open.pop_front();
            self.streams.assign_id(key, self.next_id);
            self.next_id += 2;
            self.opened += 1;
            self.wake(key);
        }
    }

    fn serve(&mut self, key: Key, room: usize, out: &mut Vec<u8>) -> Served {
        let Some(stream) = self.streams.get_mut(key) else {
            return Served::Done;
        };
        let id = stream.id;
        let send = &mut stream.send;
        send.waiting = Waiting::No;
        if send.state == SendState::Head {
            let ends = send.is_complete && send.queued_len == 0 && send.tail.is_empty();
            let frame_len_max = self.peer.frame_len_max as usize;
            write_headers(&mut self.encoder, id, ends, frame_len_max, &send.head, out);
            self.queued_len -= send.head.len();
            send.head = Block::Empty;
            self.work_frames += 1;
            send.state = SendState::Body;
            if ends {
                self.on_end_sent(key);
                return Served::Done;
            }
        }
        if send.queued_len > 0 {
            let open = send.window.available().min(self.send_window.available());
            if send.window.available() == 0 {
                return Served::Done;
            }
            if open == 0 {
                send.waiting = Waiting::ForConnection;
                enlist(&mut self.for_connection, key, &self.streams);
                return Served::Done;
            }
            let len = send.queued_len.min(open).min(QUANTUM_LEN);
            let len = len.min(self.peer.frame_len_max as usize);
            let room = room.saturating_sub(HEAD_LEN);
            if room < len.min(CUT_LEN_MIN) {
                send.waiting = Waiting::Ready;
                return Served::NoRoom;
            }
            self.write_data(key, len.min(room), out);
        }
        self.after_data(key, out);
        Served::Done
    }

    /// Writes a DATA frame of `len` octets, which the windows allow.
    fn write_data(&mut self, key: Key, len: usize, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let send = &mut stream.send;
        let ends = send.is_complete && send.queued_len == len && send.tail.is_empty();
        let head = FrameHead {
            len: len as u32,
            kind: kind::DATA,
            flags: if ends { flag::END_STREAM } else { 0 },
            stream: stream.id,
        };
        out.extend_from_slice(&head.octets());
        send.take(len, out);
        send.window.consume(len);
        self.send_window.consume(len);
        self.queued_len -= len;
        self.work_frames += 1;
        if send.reports_low_water && send.queued_len < self.limits.low_water_len {
            send.reports_low_water = false;
            self.low.push_back(key);
        }
        if ends {
            self.on_end_sent(key);
        }
    }

    /// Writes what follows the last DATA, or puts the stream back in the round.
    fn after_data(&mut self, key: Key, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let send = &mut stream.send;
        let is_at_end = send.state == SendState::Body && send.queued_len == 0 && send.is_complete;
        if !is_at_end {
            self.wake(key);
            return;
        }
        if send.tail.is_empty() {
            let head = FrameHead {
                len: 0,
                kind: kind::DATA,
                flags: flag::END_STREAM,
                stream: stream.id,
            };
            out.extend_from_slice(&head.octets());
        } else {
            let frame_len_max = self.peer.frame_len_max as usize;
            let tail = std::mem::take(&mut send.tail);
            self.queued_len -= tail.len();
            write_headers(
                &mut self.encoder,
                stream.id,
                true,
                frame_len_max,
                &tail,
                out,
            );
        }
        self.work_frames += 1;
        self.on_end_sent(key);
    }

    /// END_STREAM was written.
    fn on_end_sent(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.send.state = SendState::Ended;
        if self.role == Role::Client {
            return;
        }
        if stream.recv.is_ended {
            self.remove(key, How::Ended);
        } else {
            // RFC 9113 §8.1: the answer is whole, the rest of the request is not wanted.
            frame::put_reset(&mut self.control, stream.id, ErrorCode::NO_ERROR);
            self.remove(key, How::ResetByUs);
        }
    }
}

/// Writes a header list as HEADERS and, if it is long, CONTINUATION frames.
fn write_headers(
    encoder: &mut crate::hpack::Encoder,
    id: u32,
    ends_stream: bool,
    frame_len_max: usize,
    fields: &Block,
    out: &mut Vec<u8>,
) {
    let head_at = out.len();
    out.extend_from_slice(&[0; HEAD_LEN]);
    let block_at = out.len();
    fields.for_each(|name, value| encoder.encode(name, value, indexing(name), out));
    let end = if ends_stream { flag::END_STREAM } else { 0 };
    let block_len = out.len() - block_at;
    if block_len <= frame_len_max {
        let head = headers_head(block_len, kind::HEADERS, end | flag::END_HEADERS, id);
        out[head_at..block_at].copy_from_slice(&head);
        return;
    }
    let block = out.split_off(block_at);
    out.truncate(head_at);
    let last = (block_len - 1) / frame_len_max;
    for (index, piece) in block.chunks(frame_len_max).enumerate() {
        let kind = if index == 0 {
            kind::HEADERS
        } else {
            kind::CONTINUATION
        };
        let mut flags = if index == 0 { end } else { 0 };
        flags |= if index == last { flag::END_HEADERS } else { 0 };
        out.extend_from_slice(&headers_head(piece.len(), kind, flags, id));
        out.extend_from_slice(piece);
    }
}

fn headers_head(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_LEN] {
    let head = FrameHead {
        len: len as u32,
        kind,
        flags,
        stream,
    };
    head.octets()
}

/// Which fields come again, so that the table pays.
fn indexing(name: &[u8]) -> Indexing {
    match name {
        b"authorization" | b"token" | b"cookie" | b"set-cookie" => Indexing::Never,
        b"grpc-timeout" | b"grpc-message" | b"content-length" | b"date" => Indexing::Without,
        _ => Indexing::Incremental,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::connection::Event;
    use super::super::frame::PREFACE;
    use super::*;
    use crate::hpack::Encoder;
    use crate::limits::{Limits, Rate};

    /// A server's connection, and the client's coder.
    struct Fixture {
        h2: Connection<()>,
        encoder: Encoder,
    }

    impl Fixture {
        fn new() -> Self {
            let endless = Rate {
                burst: u32::MAX,
                per_second: 0,
            };
            let limits = Limits {
                reset_rate: endless,
                ..Limits::default()
            };
            let h2 = Connection::new(Role::Server, Arc::new(limits), Duration::ZERO);
            let mut fixture = Self {
                h2,
                encoder: Encoder::new(),
            };
            fixture.feed(PREFACE);
            fixture.feed(&[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]);
            fixture.h2.poll_transmit(&mut Vec::new(), usize::MAX);
            fixture
        }

        fn feed(&mut self, mut octets: &[u8]) -> Option<Key> {
            let mut opened = None;
            while let Some(event) = self.h2.poll_input(&mut octets) {
                if let Event::Head { key, .. } = event {
                    opened = Some(key);
                }
            }
            assert_eq!(self.h2.failure(), None);
            opened
        }

        fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<Key> {
            let len = payload.len() as u32;
            let head = FrameHead {
                len,
                kind,
                flags,
                stream,
            };
            self.feed(&[&head.octets()[..], payload].concat())
        }

        /// A request that is answered with `len` octets at once.
        fn ask(&mut self, stream: u32, len: usize) {
            let mut block = Vec::new();
            for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/")] {
                let (name, value) = (name.as_bytes(), value.as_bytes());
                let indexing = Indexing::Incremental;
                self.encoder.encode(name, value, indexing, &mut block);
            }
            let flags = flag::END_HEADERS | flag::END_STREAM;
            let key = self.send(kind::HEADERS, flags, stream, &block);
            let key = key.expect("a request");
            self.h2.send_fixed_head(key, &[(b":status", b"200")]);
            self.h2
                .send_data(key, None, Bytes::from(vec![1; len]), true);
            self.h2.send_end(key, |_| {});
        }

        fn transmit(&mut self) -> usize {
            let mut out = Vec::new();
            while self.h2.poll_transmit(&mut out, 16 * 1024) > 0 {}
            out.len()
        }
    }

    /// A thousand streams wait for the connection's window, and the peer opens it by a few octets at a time: each update
    /// must cost the stream that goes on, not a walk over all.
    #[test]
    fn an_update_of_the_connection_window_touches_who_goes_on() {
        let mut fixture = Fixture::new();
        for number in 0..1000 {
            fixture.ask(number * 2 + 1, 1000);
        }
        fixture.transmit();
        let waiting = fixture.h2.for_connection.len();
        assert_eq!((waiting, fixture.h2.ready.len()), (935, 0));
        for _ in 0..100 {
            let increment = 64u32.to_be_bytes();
            fixture.send(kind::WINDOW_UPDATE, 0, 0, &increment);
            assert_eq!(fixture.h2.for_connection.len(), waiting);
            assert_eq!(fixture.transmit(), HEAD_LEN + 64);
            assert_eq!(
                (fixture.h2.for_connection.len(), fixture.h2.ready.len()),
                (waiting, 0)
            );
        }
        // They take turns: the first hundred that waited got 64 octets each.
        let front = fixture.h2.for_connection[0];
        let back = fixture.h2.for_connection[waiting - 1];
        let left = |key| {
            fixture
                .h2
                .streams
                .get(key)
                .map(|stream| stream.queued_len())
        };
        assert_eq!((left(front), left(back)), (Some(1000), Some(936)));
        fixture.send(kind::WINDOW_UPDATE, 0, 0, &2_000_000u32.to_be_bytes());
        fixture.transmit();
        assert_eq!(fixture.h2.streams.len(), 0);
        assert_eq!(fixture.h2.queued_len(), 0);
    }

    /// A peer that asks, resets what is answered and never reads leaves nothing behind.
    #[test]
    fn lists_forget_streams_that_ended() {
        let mut fixture = Fixture::new();
        for number in 0..10_000 {
            fixture.ask(number * 2 + 1, 10);
            if number >= 10 {
                let cancel = ErrorCode::CANCEL.0.to_be_bytes();
                fixture.send(kind::RST_STREAM, 0, number * 2 + 1, &cancel);
            }
        }
        assert_eq!(fixture.h2.streams.len(), 10);
        assert!(fixture.h2.ready.len() < 70, "{}", fixture.h2.ready.len());
        assert_eq!(fixture.h2.queued_len(), 100);
        fixture.transmit();
        assert_eq!(fixture.h2.streams.len(), 0);
    }
}
