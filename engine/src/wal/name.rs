//! Names of WAL files: `<sequence>-<first index>.wal`, both as 16 lower-case hex digits.
//!
//! The sequence counts segments from 0 without a hole; the index is one more than the last entry
//! written before the segment was begun. Names of segments in the making are `0.tmp` and `1.tmp`.

use std::fmt;
use std::str::FromStr;

/// The name of one segment. Orders by sequence first, as segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Position in the log's row of segments, from 0.
    pub sequence: u64,
    /// One more than the index of the last entry written before this segment; 0 in the first.
    pub first_index: u64,
}

/// The text is not the name of a segment, as is true of temporary files and strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a WAL segment")]
pub struct NotASegment;

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index)
    }
}

impl FromStr for SegmentName {
    type Err = NotASegment;

    fn from_str(text: &str) -> Result<Self, NotASegment> {
        let stem = text.strip_suffix(".wal").ok_or(NotASegment)?;
        let (sequence, first_index) = stem.split_once('-').ok_or(NotASegment)?;
        Ok(Self {
            sequence: parse_hex(sequence)?,
            first_index: parse_hex(first_index)?,
        })
    }
}

/// Exactly 16 lower-case digits: `from_str_radix` alone would also take a sign or upper case.
fn parse_hex(text: &str) -> Result<u64, NotASegment> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(is_digit) {
        return Err(NotASegment);
    }
    u64::from_str_radix(text, 16).map_err(|_| NotASegment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let name = SegmentName {
            sequence: 0x1f,
            first_index: u64::MAX,
        };
        assert_eq!(name.to_string(), "000000000000001f-ffffffffffffffff.wal");
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn strangers_are_refused() {
        for text in [
            "",
            "0.tmp",
            "0-0.wal",
            "0000000000000000-0000000000000000",
            "0000000000000000-000000000000000G.wal",
            "0000000000000000-000000000000000A.wal",
            "+000000000000000-0000000000000000.wal",
            "0000000000000000-0000000000000000.wal.broken",
            "0000000000000000_0000000000000000.wal",
            "é00000000000000-0000000000000000.wal",
        ] {
            assert_eq!(text.parse::<SegmentName>(), Err(NotASegment), "{text}");
        }
    }
}
