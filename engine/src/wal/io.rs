//! What the WAL asks its shell to do, and how the shell answers.
//!
//! The shell keeps a table from [`FileNo`] to open files. It performs each [`WalIo`] and reports its
//! end once, by ticket, in any order. At most two are under way at a time: one step of a write
//! group and one of the work ahead (claiming, zeroing). Steps that depend on each other are never
//! handed out together, so a shell needs no ordering of its own.

use super::SegmentName;
use bytes::Bytes;
use std::fmt;

/// The unit of writing: offsets and lengths of every `Write` and `Zero` are multiples of it.
pub const BLOCK_BYTES: u64 = 4096;

/// Numbers the groups of a [`Wal`](super::Wal) from 1; 0 stands before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNo(pub u64);

/// One open file of the shell. Never used again after its `Close` or `Discard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNo(pub u32);

/// Names one [`WalIo`] in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoTicket(pub u64);

/// Why an operation failed, as far as the core cares: it only passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("os error {os_error:?}")]
pub struct IoFault {
    /// `errno`, where there was one.
    pub os_error: Option<i32>,
}

/// How soon an operation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A write group waits for it: start it now.
    Urgent,
    /// Work ahead of need: the shell may space these out so that they do not delay requests.
    Background,
}

/// A file in the WAL directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A segment under its final name.
    Segment(SegmentName),
    /// A segment in the making: `0.tmp` or `1.tmp`. Recovery does not look at these, and a shell
    /// may remove those it finds at start.
    Next(u8),
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => name.fmt(f),
            Self::Next(number) => write!(f, "{number}.tmp"),
        }
    }
}

/// One operation to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalIo {
    pub ticket: IoTicket,
    pub pace: Pace,
    pub op: WalOp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalOp {
    /// Create `name` with mode 0600, or empty it if it exists, and claim `len` bytes that read as
    /// zeros, so that later writes within them cannot run out of space. It must fail rather than
    /// leave the space unclaimed.
    Claim {
        file: FileNo,
        name: WalFile,
        len: u64,
    },
    /// Open an existing segment for writing.
    Open { file: FileNo, name: WalFile },
    /// Enlarge the file to `len` bytes, claimed as in `Claim`; what it holds stays.
    Allocate { file: FileNo, len: u64 },
    /// Overwrite with zeros by real writes (not by punching holes): a later overwrite of written
    /// blocks needs no journal commit.
    Zero { file: FileNo, offset: u64, len: u64 },
    /// Write whole blocks.
    Write {
        file: FileNo,
        offset: u64,
        blocks: Bytes,
    },
    /// fdatasync.
    Sync { file: FileNo },
    /// Rename within the directory; the file stays open.
    Rename {
        file: FileNo,
        from: WalFile,
        to: WalFile,
    },
    /// fsync of the WAL directory.
    SyncDirectory,
    /// Close the file. A failure means nothing to the core.
    Close { file: FileNo },
    /// Close and remove a file whose claim failed half-way. A failure means nothing to the core.
    Discard { file: FileNo, name: WalFile },
}
