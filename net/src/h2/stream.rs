//! One stream: what each side may still do, and what waits to be sent.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::flow::{RecvWindow, SendWindow};
use crate::metadata::{MetadataBuf, Records};

/// Names a stream of one connection for good: a key of a stream that has ended finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(super) slot: u32,
    /// Counts the streams of the connection, from 1.
    pub(super) serial: u32,
}

impl Key {
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.slot)
    }

    pub(crate) fn from_u64(number: u64) -> Self {
        Self {
            slot: number as u32,
            serial: (number >> 32) as u32,
        }
    }
}

/// The list a stream waits in to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It has nothing to send, or waits for its own window.
    No,
    /// In the round of streams that can send.
    Ready,
    /// For the window of the connection.
    ForConnection,
}

/// Which part of our half is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendState {
    /// No HEADERS sent yet.
    Head,
    Body,
    /// END_STREAM is on the wire.
    Ended,
}

/// Octets before a piece, and the piece.
#[derive(Debug)]
pub(super) struct Segment {
    prefix: [u8; 5],
    /// Octets of `prefix` already sent; 5: none left, or there was none.
    prefix_sent: u8,
    body: Bytes,
    /// With it a message is whole.
    ends_message: bool,
}

impl Segment {
    pub(super) fn new(prefix: Option<[u8; 5]>, body: Bytes, ends_message: bool) -> Self {
        Self {
            prefix: prefix.unwrap_or_default(),
            prefix_sent: if prefix.is_some() { 0 } else { 5 },
            body,
            ends_message,
        }
    }

    pub(super) fn len(&self) -> usize {
        5 - usize::from(self.prefix_sent) + self.body.len()
    }

    /// Moves up to `len` octets to `out`.
    fn take(&mut self, len: usize, out: &mut Vec<u8>) -> usize {
        let unsent = &self.prefix[usize::from(self.prefix_sent)..];
        let from_prefix = len.min(unsent.len());
        out.extend_from_slice(&unsent[..from_prefix]);
        self.prefix_sent += from_prefix as u8;
        let from_body = (len - from_prefix).min(self.body.len());
        out.extend_from_slice(&self.body[..from_body]);
        self.body.advance(from_body);
        from_prefix + from_body
    }
}

/// Fields that are the same in every answer.
pub(crate) type FixedFields = &'static [(&'static [u8], &'static [u8])];

/// A header list that waits to be sent. The usual ones are constant and cost no memory; others are freed when sent.
#[derive(Debug, Default)]
pub(super) enum Block {
    #[default]
    Empty,
    Fixed(FixedFields),
    List(MetadataBuf),
}

impl Block {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Fixed(fields) => fields.is_empty(),
            Self::List(list) => list.is_empty(),
        }
    }

    /// Octets it takes of the connection's bound.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty | Self::Fixed(_) => 0,
            Self::List(list) => list.len(),
        }
    }

    pub(super) fn for_each(&self, mut give: impl FnMut(&[u8], &[u8])) {
        match self {
            Self::Empty => {}
            Self::Fixed(fields) => fields.iter().for_each(|(name, value)| give(name, value)),
            Self::List(list) => {
                let records: Records<'_> = list.iter();
                records.for_each(|(name, value)| give(name, value));
            }
        }
    }
}

/// Our half of a stream.
#[derive(Debug)]
pub(super) struct SendHalf {
    pub(super) state: SendState,
    pub(super) waiting: Waiting,
    pub(super) window: SendWindow,
    /// The fields of the first HEADERS, until sent.
    pub(super) head: Block,
    /// What is sent next. Most answers are this one segment.
    first: Option<Segment>,
    /// What follows it.
    more: VecDeque<Segment>,
    /// What was sent ends inside a message.
    pub(super) is_mid_message: bool,
    /// Octets in the segments.
    pub(super) queued_len: usize,
    /// The fields of the trailers, if there are any.
    pub(super) tail: Block,
    /// Nothing will be added: END_STREAM follows what is queued.
    pub(super) is_complete: bool,
    /// Report when the queue falls below the low-water mark.
    pub(super) reports_low_water: bool,
}

impl SendHalf {
    fn new(window: u32) -> Self {
        Self {
            state: SendState::Head,
            waiting: Waiting::No,
            window: SendWindow::new(window),
            head: Block::Empty,
            first: None,
            more: VecDeque::new(),
            is_mid_message: false,
            queued_len: 0,
            tail: Block::Empty,
            is_complete: false,
            reports_low_water: false,
        }
    }

    /// Frees what a stream that has ended still holds: a slot without a stream has nothing on the heap.
    fn clear(&mut self) {
        self.drop_queue();
        self.more = VecDeque::new();
        self.head = Block::Empty;
        self.tail = Block::Empty;
    }

    /// Octets that count against the connection's bound.
    pub(super) fn held_len(&self) -> usize {
        self.queued_len + self.head.len() + self.tail.len()
    }

    /// Makes it new; it was cleared.
    fn renew(&mut self, window: u32) {
        self.state = SendState::Head;
        self.waiting = Waiting::No;
        self.window = SendWindow::new(window);
        self.is_mid_message = false;
        self.is_complete = false;
        self.reports_low_water = false;
    }

    /// Adds a piece, which is not empty.
    pub(super) fn push(&mut self, segment: Segment) {
        self.queued_len += segment.len();
        if self.first.is_none() {
            self.first = Some(segment);
        } else {
            self.more.push_back(segment);
        }
    }

    /// Moves up to `len` octets of the queue to `out`.
    pub(super) fn take(&mut self, len: usize, out: &mut Vec<u8>) {
        let mut left = len.min(self.queued_len);
        self.queued_len -= left;
        while left > 0
            && let Some(segment) = &mut self.first
        {
            left -= segment.take(left, out);
            self.is_mid_message = segment.len() > 0 || !segment.ends_message;
            if segment.len() == 0 {
                self.first = self.more.pop_front();
            }
        }
    }

    /// Drops what is queued; returns how much it was.
    pub(super) fn drop_queue(&mut self) -> usize {
        self.first = None;
        self.more.clear();
        std::mem::take(&mut self.queued_len)
    }

    /// Whether some frame could be written if no window stood in the way.
    pub(super) fn has_work(&self) -> bool {
        match self.state {
            SendState::Head => !self.head.is_empty(),
            SendState::Body => self.queued_len > 0 || self.is_complete,
            SendState::Ended => false,
        }
    }

    /// Whether the next octets to be written are DATA for which the stream's window has no room.
    pub(super) fn waits_for_window(&self) -> bool {
        self.state == SendState::Body && self.queued_len > 0 && self.window.available() == 0
    }
}

/// The peer's half of a stream.
#[derive(Debug)]
pub(super) struct RecvHalf {
    pub(super) window: RecvWindow,
    /// Room lent beyond the usual window for a large message; repaid out of the next releases.
    pub(super) lent: u32,
    /// What the message that is arriving needs, in case `is_waiting` for room.
    pub(super) wanted: u32,
    pub(super) is_waiting: bool,
    /// Octets received and not given on by the layer above.
    pub(super) held: usize,
    /// END_STREAM has come.
    pub(super) is_ended: bool,
    /// Its final (not 1xx) HEADERS have come, so the next ones are trailers.
    pub(super) has_head: bool,
    /// Body octets that `content-length` still promises.
    pub(super) content_left: Option<u64>,
}

impl RecvHalf {
    fn new(window: u32) -> Self {
        Self {
            window: RecvWindow::new(window),
            lent: 0,
            wanted: 0,
            is_waiting: false,
            held: 0,
            is_ended: false,
            has_head: false,
            content_left: None,
        }
    }
}

/// One stream and `ext`, what the layer above keeps for it.
#[derive(Debug)]
pub(crate) struct Stream<X> {
    pub(crate) ext: X,
    /// 0: a client's stream that is not open yet.
    pub(super) id: u32,
    /// Of its [`Key`]; 0 in a free slot.
    pub(super) serial: u32,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    /// When it was opened.
    pub(super) since: std::time::Duration,
}

impl<X: Default> Stream<X> {
    pub(super) fn new() -> Self {
        Self {
            ext: X::default(),
            id: 0,
            serial: 0,
            send: SendHalf::new(0),
            recv: RecvHalf::new(0),
            since: std::time::Duration::ZERO,
        }
    }

    /// Empties the slot of a stream that has ended.
    pub(super) fn clear(&mut self) {
        self.send.clear();
    }

    /// Makes the empty slot a new stream.
    pub(super) fn renew(&mut self, send_window: u32, recv_window: u32) {
        self.send.renew(send_window);
        self.recv = RecvHalf::new(recv_window);
    }

    /// The wire id; 0 before a client's stream is opened.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn queued_len(&self) -> usize {
        self.send.queued_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_cut_anywhere() {
        let mut send = SendHalf::new(100);
        let prefix = Some([1, 2, 3, 4, 5]);
        send.push(Segment::new(prefix, Bytes::from_static(b"abc"), false));
        send.push(Segment::new(None, Bytes::from_static(b"de"), true));
        assert_eq!(send.queued_len, 10);
        let mut out = Vec::new();
        for (step, is_mid_message) in [(3, true), (5, true), (1, true), (9, false)] {
            send.take(step, &mut out);
            assert_eq!(send.is_mid_message, is_mid_message);
        }
        assert_eq!(out, b"\x01\x02\x03\x04\x05abcde");
        assert!(send.queued_len == 0 && send.first.is_none() && send.more.is_empty());
    }

    #[test]
    fn keys_survive_as_numbers() {
        let key = Key {
            slot: 7,
            serial: u32::MAX,
        };
        assert_eq!(Key::from_u64(key.to_u64()), key);
    }
}
