//! Bytes waiting to be sent.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// A queue of pieces, so that a body need not be copied behind its head before it is sent.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Moves up to `max` bytes behind `out` and tells how many.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        let mut taken = 0;
        while taken < max
            && let Some(piece) = self.pieces.front_mut()
        {
            let part_len = piece.len().min(max - taken);
            out.extend_from_slice(&piece[..part_len]);
            piece.advance(part_len);
            taken += part_len;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.len -= taken;
        taken
    }
}

/// Appends `name: value` and the line end. Line breaks in a value become spaces, so a value can never add a field.
pub(super) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend(value.iter().map(|octet| {
        if b"\r\n\0".contains(octet) {
            b' '
        } else {
            *octet
        }
    }));
    out.extend_from_slice(b"\r\n");
}

/// Fields that say how the message is framed: they are ours to write, never the caller's.
pub(super) fn is_framing_field(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding", b"connection"]
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
}
