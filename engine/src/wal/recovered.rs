//! What recovery found, and what it refuses.

use super::SegmentName;
use bytes::Bytes;
use proto::{raftpb, walpb};
use std::fmt;

/// A log that can be continued.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The member's `etcdserverpb.Metadata`, encoded.
    pub metadata: Bytes,
    /// The last state record; empty if there was none.
    pub hard_state: raftpb::HardState,
    /// The newest contiguous run of entries. Empty, or from any index: older segments may have been
    /// released, and an installed snapshot ahead of the log begins a new run.
    pub entries: Vec<raftpb::Entry>,
    /// Every snapshot record, in the order written. The first segment of a log begins with one at
    /// index 0.
    pub snapshots: Vec<walpb::Snapshot>,
    /// What was cut off the end of the last segment, if anything; for the log.
    pub cut: Option<Cut>,
    /// Where the log goes on; for [`Wal::resume`](super::Wal::resume).
    pub tail: Tail,
}

/// Bytes at the end of the last segment that belong to no whole record: the write that a crash
/// interrupted, never acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub segment: SegmentName,
    /// The log goes on here.
    pub offset: u64,
    /// From `offset` to the last byte that was not zero.
    pub lost_bytes: u64,
    pub reason: CutReason,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            offset,
            lost_bytes,
            reason,
        } = self;
        write!(
            f,
            "segment {segment}: cut {lost_bytes} bytes at byte {offset}: {reason}"
        )
    }
}

/// How a torn tail shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    /// The file ends inside the record.
    ShortFile,
    /// A sector of the record is zero and the record does not verify.
    MissingSector,
    /// The log ends in front of bytes that are not zero.
    BytesAfterEnd,
    /// The segment's own head (crc, metadata) is not whole, so it is begun anew.
    HeadMissing,
}

impl fmt::Display for CutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortFile => "the file ends inside a record",
            Self::MissingSector => "a sector of the record was never written",
            Self::BytesAfterEnd => "parts of an interrupted write lie behind the end",
            Self::HeadMissing => "the head of the segment was never written",
        })
    }
}

/// Where and how to go on writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The last segment.
    pub segment: SegmentName,
    /// Offset of the next frame. 0: the segment has no head yet.
    pub end: u64,
    /// The segment holds only zeros from here on (at least `end`).
    pub dirty_end: u64,
    /// Length of the file.
    pub file_len: u64,
    /// The segment's bytes from the last block boundary to `end`.
    pub last_block: Bytes,
    /// The running crc.
    pub chain: u32,
    /// Index of the last entry or snapshot written: names the next segment.
    pub last_index: u64,
}

/// Why the log cannot be used. Every case is damage or a mix-up of files, which no retry cures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The directory holds no segment: this is no member that ever ran.
    #[error("the WAL has no segment")]
    NoSegment,
    /// A file is gone, or files of two logs were mixed.
    #[error(
        "segment {found} follows {former}, segments in between are missing: \
         put them back, or {REMEDY}"
    )]
    SegmentMissing {
        former: SegmentName,
        found: SegmentName,
    },
    /// No segment could follow this one.
    #[error("segment {segment} has the last possible sequence number: {REMEDY}")]
    SequenceEnds { segment: SegmentName },
    /// The whole log holds no metadata record, so nothing says whose it is.
    #[error("no metadata record up to the end of segment {segment}: {REMEDY}")]
    NoMetadata { segment: SegmentName },
    /// Bytes that were once durable are not what was written.
    #[error("segment {segment}, byte {offset}: {damage}; {REMEDY}")]
    Damaged {
        segment: SegmentName,
        offset: u64,
        damage: Damage,
    },
}

/// The same advice in every case: a member must not run on a log with a hole in it.
const REMEDY: &str = "this member's log cannot be trusted: remove the member and add it again with \
                      an empty data directory, or restore the cluster from a snapshot";

/// What is wrong with a record that a crash cannot explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("length field {field:#018x} is not possible")]
    Length { field: u64 },
    #[error("the record is torn, but later segments exist")]
    TornInside,
    #[error("the length field tells {record_len} bytes, the record another length")]
    LengthDisagrees { record_len: u64 },
    #[error("crc {stored:#010x}, computed {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("the segment begins with crc {stored:#010x}, the former ended with {computed:#010x}")]
    Chain { stored: u32, computed: u32 },
    #[error("the record cannot be decoded")]
    Undecodable,
    #[error("unknown record type {kind}")]
    UnknownType { kind: i64 },
    #[error("the metadata differs from that of earlier segments")]
    MetadataConflict,
    #[error("entry {found} follows entry {former}")]
    EntryGap { former: u64, found: u64 },
}
