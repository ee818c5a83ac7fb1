//! The rules of starting: what a member does with the log, the snapshots and the database it finds.
//!
//! ```text
//!  WAL      snapshot records   state(commit)      entries  f ......................... last
//!  .snap    term, index S ─────────┐                       │
//!  db       consistent_index C ────┼──> decide() ──> SwapIn: a received database first becomes `db`
//!  .snap.db index                  │            └──> Resume: backend at C, apply C+1 ..= commit, raft's log from offset
//!  nothing ────────────────────────┘            └──> Bootstrap
//! ```
//! - The database is where the state machine stands; entries at or below its consistent index are never applied to it again.
//! - What the database holds was committed: commit = max(state record's commit, C). etcd's raft writes a state that only
//!   moves its commit lazily, so C past the recorded commit is usual after a crash. C past the last entry is not, and
//!   would make the member pass over entries that it has yet to receive: etcd starts and never answers; here it is refused.
//! - Only a snapshot that has a record in the WAL at or below the recorded commit exists (as `wal.ValidSnapshotEntries`
//!   has it): others were written by a run that crashed before it could rely on them.
//! - A database behind the snapshot is good as long as the log has all entries in between; etcd refuses that.
//! - A `.snap.db` that is not swapped in is of a snapshot that never became valid, or was swapped in already: once the
//!   member has started, all of them may be removed.
//!
//! - A long log is read from the segment of the last snapshot but one first, and decided upon; where that part does not settle
//!   the matter, the whole ([`first_needed`], [`suffices`]).
//! - Log and database must be of one history: the term of the entry at C is compared, and a member that the log knows by
//!   then must be among the database's. Nothing else in a database says whose it is.
//!
//! Pure functions, called once at start by the node on the log shard. Left out: reading anything. Tested by tables,
//! properties and a log that a real etcd purged (`boot/tests.rs`).

mod decide;
mod error;
mod facts;
mod log;
pub mod meta;
mod plan;
mod suffix;

pub use decide::{Start, decide};
pub use error::BootError;
pub use facts::{DbFacts, Found, Position, SnapshotFacts};
pub use plan::StartPlan;
pub use suffix::{first_needed, suffices};

#[cfg(test)]
mod tests;
