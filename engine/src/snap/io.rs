//! What the node asks the shell to do with snapshot files.

use bytes::Bytes;

/// Names one [`SnapIo`] in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapTicket(pub u64);

/// One operation to perform; its end is reported once, by ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapIo {
    pub ticket: SnapTicket,
    pub op: SnapOp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapOp {
    /// Write a `.snap` file under a temporary name, sync it, give it the name of this term and index
    /// ([`SnapName`](super::SnapName)) and sync the directory. A file of that name is replaced.
    Write { term: u64, index: u64, bytes: Bytes },
    /// The WAL's snapshot record of `index` is durable: remove the segments wholly below it, oldest first, down to
    /// `--max-wals`, and the `.snap` files below it down to `--max-snapshots`. A failure costs space only.
    Release { index: u64 },
}
