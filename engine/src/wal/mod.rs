//! The write-ahead log: etcd's format, read and written without touching a file.
//!
//! [`Recovery`] turns segments into a [`Recovered`] log; [`Wal`] decides what is written where and
//! when, and a shell performs each [`WalIo`]. Byte maps and what each crash leaves behind are in
//! `docs/format.md`.
//!
//! ```text
//! append_* ── seal ──> sealed groups ── poll_io: Write, Sync ──> durable()
//!                                        └ does not fit: Write to the next segment, Sync, Rename,
//!                                          SyncDirectory
//! ahead of need, in the background:      Claim next, Zero in pieces, Sync
//! ```
//! - What is not covered by `durable()` may or may not be found after a crash, but never in part:
//!   recovery keeps a prefix of the records appended.
//! - Behind the end a segment holds zeros only.
//! - A segment has its final name only once it holds its head, and everything before it, durably.
//! - One write group is in flight; whatever is sealed meanwhile is the next one. There is no timer.
//! - Failing to claim space is survivable ([`Health::ClaimFailed`]); failing to write or sync claimed
//!   space is not ([`Health::Failed`]).
//!
//! The log shard owns the `Wal`. Left out: releasing old segments ([`wholly_below`] says which), and locks on
//! files, both the shell's. Tested by properties over a simulated disk that loses sectors (`tests/wal/`) and by
//! logs of real etcds (`tests/golden/`).

mod active;
mod ahead;
mod entries;
mod frame;
mod group;
mod io;
mod name;
mod record;
mod recovered;
mod recovery;
mod released;
mod writer;

pub use io::{BLOCK_BYTES, FileNo, GroupNo, IoFault, IoTicket, Pace, WalFile, WalIo, WalOp};
pub use name::{NotASegment, SegmentName};
pub use recovered::{Cut, CutReason, Damage, Recovered, RecoveryError, Tail};
pub use recovery::Recovery;
pub use released::wholly_below;
pub use writer::{Durability, Health, Wal, WalOptions};
