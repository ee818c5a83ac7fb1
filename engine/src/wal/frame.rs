//! One frame: a length field, a record, zeros up to a multiple of 8 bytes.
//!
//! ```text
//! byte  0        6 7 8                        8+n      8+n+p
//!       | n, 56 bits |f| record (walpb.Record)  | p zeros |
//!                     f: 0 when p = 0, else 0x80 | p  (p = 1..=7)
//! ```
//! The length field is little-endian. Frames are 8-byte aligned, so a field lies in one sector and
//! is never torn. A field of 0 ends the segment. See `docs/format.md`.

/// Bytes of the length field; also the alignment of frames.
pub(super) const LENGTH_BYTES: usize = 8;

/// The unit in which a disk keeps or loses what was not synced.
pub(super) const SECTOR_BYTES: usize = 512;

/// More than a frame adds to the `data` of its record: length field, three tags, three varints
/// (type 1 byte, crc at most 5, length at most 10), padding.
pub(super) const OVERHEAD_MAX: usize = LENGTH_BYTES + 3 + 1 + 5 + 10 + 7;

const LENGTH_MASK: u64 = (1 << 56) - 1;

/// What lies at an offset of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The end of the file, zeros shorter than a length field, or a length of 0.
    End,
    /// A whole frame: the record is `start..start + record_len`, the next frame is at `next`.
    Whole {
        start: usize,
        record_len: usize,
        next: usize,
    },
    /// The file ends inside the frame: its length field reads `record_len`, or is itself cut short.
    CutShort { record_len: Option<u64> },
    /// No writer makes this length field.
    Malformed { field: u64 },
}

/// Looks at the frame that begins at `offset`, without touching the record.
pub(super) fn read(segment: &[u8], offset: usize) -> Frame {
    let rest = segment.get(offset..).unwrap_or_default();
    let Some((field, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
        return match rest.iter().all(|&byte| byte == 0) {
            true => Frame::End,
            false => Frame::CutShort { record_len: None },
        };
    };
    let field = u64::from_le_bytes(*field);
    if field == 0 {
        return Frame::End;
    }
    let Some((record_len, pad_len)) = split_length(field) else {
        return Frame::Malformed { field };
    };
    let whole = usize::try_from(record_len + pad_len).ok();
    match whole.filter(|&whole| whole <= body.len()) {
        Some(whole) => {
            let start = offset + LENGTH_BYTES;
            Frame::Whole {
                start,
                record_len: whole - pad_len as usize,
                next: start + whole,
            }
        }
        None => Frame::CutShort {
            record_len: Some(record_len),
        },
    }
}

/// Record and padding bytes of a length field; `None` if no writer makes it.
fn split_length(field: u64) -> Option<(u64, u64)> {
    let record_len = field & LENGTH_MASK;
    let flags = field >> 56;
    let pad_len = record_len.wrapping_neg() % LENGTH_BYTES as u64;
    let expected = if pad_len == 0 { 0 } else { 0x80 | pad_len };
    (flags == expected && record_len > 0).then_some((record_len, pad_len))
}

/// Padding bytes that the length field at the start of `frame` tells.
pub(super) fn pad_len(frame: &[u8]) -> usize {
    let flags = frame.get(LENGTH_BYTES - 1).copied().unwrap_or(0);
    usize::from(flags & 0x7f)
}

/// Begins a frame at the end of `out`: room for the length field. Returns where the record starts.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.len()
}

/// Ends the frame whose record began at `start`: pads it and fills in the length field.
pub(super) fn end(out: &mut Vec<u8>, start: usize) {
    let record_len = (out.len() - start) as u64;
    assert!(
        record_len > 0,
        "a frame without a record would end the segment"
    );
    assert!(record_len <= LENGTH_MASK, "record of {record_len} bytes");
    let pad_len = record_len.wrapping_neg() % LENGTH_BYTES as u64;
    let flags = if pad_len == 0 { 0 } else { 0x80 | pad_len };
    out.resize(out.len() + pad_len as usize, 0);
    let field = record_len | flags << 56;
    out[start - LENGTH_BYTES..start].copy_from_slice(&field.to_le_bytes());
}

/// Whether a crash can have left `body`, the record and padding of the frame at `offset`, or what
/// the file still has of them: some sector of it never reached the disk and is still zero.
pub(super) fn lacks_a_sector(body: &[u8], offset: usize) -> bool {
    let start = offset + LENGTH_BYTES;
    let first = (SECTOR_BYTES - start % SECTOR_BYTES).min(body.len());
    let (head, rest) = body.split_at(first);
    let is_zero = |sector: &[u8]| sector.iter().all(|&byte| byte == 0);
    (!head.is_empty() && is_zero(head)) || rest.chunks(SECTOR_BYTES).any(is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(record: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin(&mut out);
        out.extend_from_slice(record);
        end(&mut out, start);
        out
    }

    #[test]
    fn padding_is_flagged_in_the_top_byte() {
        assert_eq!(
            framed(&[8, 4, 16, 0]),
            [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]
        );
        assert_eq!(framed(&[1; 8])[..8], [8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(framed(&[1; 9])[..8], [9, 0, 0, 0, 0, 0, 0, 0x87]);
    }

    #[test]
    fn a_field_no_writer_makes_is_malformed() {
        for field in [
            4u64,
            4 | 0x83 << 56,
            8 | 0x80 << 56,
            0x84 << 56,
            8 | 1 << 56,
        ] {
            let mut bytes = field.to_le_bytes().to_vec();
            bytes.resize(64, 1);
            assert_eq!(read(&bytes, 0), Frame::Malformed { field });
        }
    }

    #[test]
    fn a_sector_is_missed_only_where_the_disk_has_one() {
        let mut body = vec![1; 1000];
        assert!(!lacks_a_sector(&body, 0));
        // The frame begins at 0, its record at 8, so the second sector is record bytes 504..1016.
        body[504..].fill(0);
        assert!(lacks_a_sector(&body, 0));
        // 496 zeros in a row are no sector.
        body[504..512].fill(1);
        assert!(!lacks_a_sector(&body, 0));
        // At the very end of a sector the length field is alone in it.
        assert!(!lacks_a_sector(&[1], 504));
        assert!(lacks_a_sector(&[0], 504));
    }

    proptest! {
        #[test]
        fn frames_are_read_as_written(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 0..6)) {
            let bytes: Vec<u8> = records.iter().flat_map(|record| framed(record)).collect();
            let mut offset = 0;
            for record in &records {
                let Frame::Whole { start, record_len, next } = read(&bytes, offset) else {
                    panic!("no frame at {offset}");
                };
                prop_assert_eq!(&bytes[start..start + record_len], &record[..]);
                prop_assert_eq!(next % LENGTH_BYTES, 0);
                offset = next;
            }
            prop_assert_eq!(read(&bytes, offset), Frame::End);
        }

        #[test]
        fn arbitrary_bytes_never_reach_outside(bytes in prop::collection::vec(any::<u8>(), 0..64), offset in 0usize..80) {
            if let Frame::Whole { start, record_len, next } = read(&bytes, offset) {
                prop_assert!(start + record_len <= next && next <= bytes.len());
            }
        }
    }
}
