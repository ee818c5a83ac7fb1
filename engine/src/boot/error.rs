//! Why a member must not start from what is in its directory.

/// Files of the directory contradict each other: some are missing, older than the others, or another member's. No
/// retry cures it, and starting all the same would lose writes or make this member differ from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A database or snapshots without a log, as after `member/wal` (or `--wal-dir`) was lost. etcd would begin a new
    /// log and then pass over every write up to `index`.
    #[error(
        "the data directory holds state up to entry {index}, but no write-ahead log: put the log back (is --wal-dir \
         right?), or {REMEDY}"
    )]
    LogMissing { index: u64 },
    /// The log is older than the database, as after restoring only one of the two. etcd would start and pass over every
    /// entry up to the database's.
    #[error(
        "the database (member/snap/db) is at entry {database}, but the write-ahead log ends at entry {last}: put the \
         log back that belongs to it, or {REMEDY}"
    )]
    DatabaseAheadOfLog { database: u64, last: u64 },
    /// Segments are missing at the log's end.
    #[error(
        "the write-ahead log declares entry {commit} committed, but ends at entry {last}: put its last segments back, \
         or {REMEDY}"
    )]
    CommitMissing { commit: u64, last: u64 },
    /// The database is older than the oldest kept segment.
    #[error(
        "the write-ahead log begins at entry {first}, but the database (member/snap/db) ends at entry {database}: put \
         the database or the older segments back, or {REMEDY}"
    )]
    LogGap { database: u64, first: u64 },
    /// A snapshot was installed or taken, and the database that it stands for is not there.
    #[error(
        "{} is behind the snapshot of entry {snapshot}, and member/snap/{snapshot:016x}.snap.db is not there: put either \
         back, or {REMEDY}",
        name_database(*.database)
    )]
    DatabaseBehindSnapshot {
        /// `None`: there is no database at all.
        database: Option<u64>,
        snapshot: u64,
    },
    /// Database and log have different histories: one of them was copied from another member or cluster.
    #[error(
        "entry {index} is of term {by_log} in the write-ahead log, but of term {by_db} in the database \
         (member/snap/db): they do not belong together; put the right one back, or {REMEDY}"
    )]
    OtherLog { index: u64, by_log: u64, by_db: u64 },
    /// The same, as the members tell: by the log this one was a member before the database's entry.
    #[error(
        "the write-ahead log is of member {member_id:x}, whom the database (member/snap/db, entry {index}) does not \
         know: they do not belong together; put the right one back, or {REMEDY}"
    )]
    OtherMember { member_id: u64, index: u64 },
    /// The schema of a version that this one does not know, most likely a newer one. The text begins as etcd's.
    #[error(
        "version \"{major}.{minor}.0\" is not supported: the database (member/snap/db) has this storage version, but \
         3.5, 3.6 and 3.7 are known here; start the member with the version that wrote it, or first downgrade the \
         cluster with that one"
    )]
    StorageVersion { major: u64, minor: u64 },
    /// Neither the log nor the database tells the term of the last applied entry.
    #[error(
        "nothing tells the term of entry {index}, at which the database (member/snap/db) stands: put the older segments \
         of the write-ahead log back, or {REMEDY}"
    )]
    TermUnknown { index: u64 },
    /// No etcd writes such a database.
    #[error(
        "the database (member/snap/db) is at entry {index} but has no members: put the right one back, or {REMEDY}"
    )]
    NoMembers { index: u64 },
}

const REMEDY: &str = "remove this member from the cluster and add it again with an empty data directory; a member that \
                      was alone is restored from a snapshot with etcdutl";

fn name_database(database: Option<u64>) -> String {
    match database {
        Some(index) => format!("the database (member/snap/db, entry {index})"),
        None => "a database (member/snap/db) is not there; an empty one".to_owned(),
    }
}
