//! Snapshot files: what lets the log's old segments go, in etcd's form, without touching a file.
//!
//! ```text
//!  member/snap/<term>-<index>.snap    SnapFile: crc32c + raftpb.Snapshot { conf state, index, term, v2 JSON }
//!  member/snap/<index>.snap.db        a whole database received from the leader, not yet swapped in
//! ```
//! A `.snap` file holds no keys: those are in `db`, which is at or past the file's index by the time the file is written.
//! What it says is "the database stands here", and its JSON names the members for etcd 3.6 and older, which read
//! them there; 3.7 reads neither. Order, as [`SnapOp`] is handed out: database durable at C, a state record with commit >= S
//! durable, `.snap` of S <= C synced, WAL snapshot record of S synced, and only then release.
//!
//! - A file is whole or refused: its checksum covers all that is used of it.
//! - The name and the content say the same term and index, or the file is refused.
//!
//! Performed by the server's shell; decided on the log shard. Left out: which snapshot to start from ([`crate::boot`]),
//! and which segments a snapshot lets go ([`crate::wal::wholly_below`]). Tested by files of real etcds
//! (`tests/golden`), by properties and by fuzzing.

mod file;
mod io;
mod name;
mod v2_store;

pub use file::{SnapError, SnapFile};
pub use io::{SnapIo, SnapOp, SnapTicket};
pub use name::{NotASnapName, SnapDbName, SnapName};
pub use v2_store::v2_store_json;
