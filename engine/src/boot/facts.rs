//! What was found in a data directory, as far as the decision needs it.

use crate::wal::Recovered;
use proto::raftpb::ConfState;

/// A place in the log: an entry's index and term; (0, 0) stands before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    pub index: u64,
    pub term: u64,
}

/// The database, from its buckets `meta` and `members`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DbFacts {
    /// `meta/consistent_index`; 0 if it was never saved.
    pub consistent_index: u64,
    /// `meta/term`: of the entry at `consistent_index`. `None`: not there, as in databases before 3.5.
    pub term: Option<u64>,
    /// `meta/confState`, if it is there; only compared with `members`.
    pub conf_state: Option<ConfState>,
    /// Voters and learners by the bucket `members`, each ascending; empty if there is none.
    pub members: ConfState,
    /// Keys of the bucket `members_removed`.
    pub removed_members: Vec<u64>,
    /// `meta/storageVersion` (major, minor). `None`: not there, as in databases before 3.6.
    pub storage_version: Option<(u64, u64)>,
}

/// A `.snap` file that could be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFacts {
    pub at: Position,
}

/// Everything found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// `None`: there is no WAL directory, or no segment in it.
    pub wal: Option<&'a Recovered>,
    /// Decoded `.snap` files, in any order.
    pub snapshots: &'a [SnapshotFacts],
    /// `None`: there is no `db` file.
    pub db: Option<&'a DbFacts>,
    /// Indexes of the `.snap.db` files.
    pub received_dbs: &'a [u64],
}
