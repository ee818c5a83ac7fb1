//! Frames: the nine octets before each payload, and the payloads that have a fixed form (RFC 9113 §4.1, §6).

/// Length of a frame head.
pub(crate) const HEAD_LEN: usize = 9;

/// Largest payload that needs no SETTINGS_MAX_FRAME_SIZE. We announce no other, so it is also the largest we take:
/// bigger frames would only make streams wait longer for each other.
pub(crate) const DEFAULT_FRAME_LEN_MAX: u32 = 16 * 1024;

/// The largest value SETTINGS_MAX_FRAME_SIZE may have.
pub(crate) const FRAME_LEN_LIMIT: u32 = (1 << 24) - 1;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Why a stream or a connection ended (RFC 9113 §7). Peers may send numbers without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: Self = Self(0x0);
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    pub const INTERNAL_ERROR: Self = Self(0x2);
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    pub const STREAM_CLOSED: Self = Self(0x5);
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub const REFUSED_STREAM: Self = Self(0x7);
    pub const CANCEL: Self = Self(0x8);
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    pub const CONNECT_ERROR: Self = Self(0xa);
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The name the RFC gives the number.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("unknown")
    }
}

/// The head of a frame. Stream ids are 31 bits; the reserved bit is dropped when read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    pub(crate) fn parse(octets: &[u8; HEAD_LEN]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *octets;
        Self {
            len: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn octets(self) -> [u8; HEAD_LEN] {
        let [_, l0, l1, l2] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// Appends a frame with a short payload.
fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let head = FrameHead {
        len: payload.len() as u32,
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&head.octets());
    out.extend_from_slice(payload);
}

pub(crate) fn put_settings(out: &mut Vec<u8>, entries: &[(u16, u32)]) {
    let payload: Vec<u8> = entries
        .iter()
        .flat_map(|(id, value)| {
            let [a, b] = id.to_be_bytes();
            let [c, d, e, f] = value.to_be_bytes();
            [a, b, c, d, e, f]
        })
        .collect();
    put_frame(out, kind::SETTINGS, 0, 0, &payload);
}

pub(crate) fn put_settings_ack(out: &mut Vec<u8>) {
    put_frame(out, kind::SETTINGS, flag::ACK, 0, &[]);
}

pub(crate) fn put_ping(out: &mut Vec<u8>, is_ack: bool, payload: [u8; 8]) {
    let flags = if is_ack { flag::ACK } else { 0 };
    put_frame(out, kind::PING, flags, 0, &payload);
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put_frame(out, kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_frame(
        out,
        kind::WINDOW_UPDATE,
        0,
        stream,
        &increment.to_be_bytes(),
    );
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &[u8]) {
    let mut payload = Vec::with_capacity(8 + debug.len());
    payload.extend_from_slice(&last_stream.to_be_bytes());
    payload.extend_from_slice(&code.0.to_be_bytes());
    payload.extend_from_slice(debug);
    put_frame(out, kind::GOAWAY, 0, 0, &payload);
}

/// Takes a big-endian u32 off the front.
pub(crate) fn take_u32(octets: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = octets.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*head), rest))
}

/// Removes the padding of a HEADERS payload. `None`: the padding is longer than the payload.
pub(crate) fn strip_padding(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    let content_len = rest.len().checked_sub(usize::from(padding))?;
    Some(&rest[..content_len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_wire() {
        let head = FrameHead {
            len: 0x01_02_03,
            kind: kind::HEADERS,
            flags: flag::END_HEADERS,
            stream: 0x7fff_fffe,
        };
        assert_eq!(head.octets(), [1, 2, 3, 1, 4, 0x7f, 0xff, 0xff, 0xfe]);
        assert_eq!(FrameHead::parse(&head.octets()), head);
        let mut reserved_bit = head.octets();
        reserved_bit[5] |= 0x80;
        assert_eq!(FrameHead::parse(&reserved_bit), head);
    }

    #[test]
    fn padding_must_fit() {
        let head = FrameHead {
            len: 4,
            kind: kind::HEADERS,
            flags: flag::PADDED,
            stream: 1,
        };
        assert_eq!(strip_padding(head, &[2, b'a', 0, 0]), Some(&b"a"[..]));
        assert_eq!(strip_padding(head, &[3, 0, 0, 0]), Some(&b""[..]));
        assert_eq!(strip_padding(head, &[4, 0, 0, 0]), None);
        assert_eq!(strip_padding(head, &[]), None);
        let plain = FrameHead { flags: 0, ..head };
        assert_eq!(strip_padding(plain, &[9]), Some(&[9][..]));
    }
}
