//! What a commit asks its shell to do, and how the shell answers.
//!
//! The shell performs each [`StoreIo`] on the store's file and reports its end once, by ticket. Steps that depend on each
//! other are never handed out together, so a shell needs no ordering of its own.

use bytes::Bytes;

/// Names one [`StoreIo`] in its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTicket(pub u64);

/// One operation to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIo {
    pub ticket: StoreTicket,
    pub op: StoreOp,
}

/// What to do with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Enlarge the file to `len` bytes that read as zeros, claimed so that writing them cannot run out of space. It must
    /// fail rather than leave the space unclaimed. [`Pages`](super::Pages) must give the new bytes once it is done.
    Grow { len: u64 },
    /// Write within the file. [`Pages`](super::Pages) must give the new bytes once it is done.
    Write { offset: u64, bytes: Bytes },
    /// fdatasync.
    Sync,
    /// Make the file shorter, to `len` bytes. [`Pages`](super::Pages) gives none behind it any more. Failing costs space only.
    Cut { len: u64 },
}

/// What a [`Store`](super::Store) is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitState {
    /// No commit is under way.
    Idle,
    /// Between `begin` and `seal`.
    Open,
    /// Sealed; `poll_io` has what is to be done.
    Writing,
    /// The file could not be enlarged. Nothing was written; `retry_claim` tries again.
    ClaimFailed,
    /// A write or sync failed, or pages turned out to be damaged. What reached the disk is unknown: stop the member.
    Failed,
}
