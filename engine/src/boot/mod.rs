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
//!   moves its commit lazily, so C past the recorded commit is usual after a crash; C past the last entry is not, and
//!   would make the member skip entries that it has yet to receive. etcd starts all the same; here it is refused.
//! - Only a snapshot that has a record in the WAL at or below the recorded commit exists (as `wal.ValidSnapshotEntries`
//!   has it): others were written by a run that crashed before it could rely on them.
//!
//! Pure functions, called once at start by the node on the log shard. Left out: reading anything. Tested by tables and by
//! what real etcds left behind.

mod decide;
mod facts;
pub mod meta;

pub use decide::{BootError, Start, StartPlan, decide};
pub use facts::{DbFacts, Found, Position, SnapshotFacts};
