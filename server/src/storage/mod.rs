//! The member's directory and its log on the disk: the shell around `engine::wal`.
//!
//! ```text
//! <data-dir>/                 0700
//!   member/                   0700, flock: one etcore at a time
//!     wal/                    0700; elsewhere with --wal-dir
//!       <seq>-<index>.wal     0600, flock: keeps etcd out, as etcd's keep us out
//!       0.tmp, 1.tmp          segments in the making
//!     wal.tmp/                a log that is being made; renamed once its first segment is durable
//!     index.etcore            0600, the index as the last clean stop left it: a cache
//!     snap/                   0700
//!       db                    0600, flock: the store, in bbolt's layout, mapped for reading
//!       db.tmp.first          a store that is being made; renamed once its first commit is durable
//!       <term>-<index>.snap   snapshots: what lets segments go
//!       <index>.snap.db       a database that was received and waits to be renamed over db
//! ```
//!
//! [`open`] claims the directory, cleans up what a crash left, reads the log, finds the snapshots, and maps the store;
//! [`WalDisk`], [`StoreDisk`] and [`SnapDisk`] then perform the operations that the log, the store and the node ask for.
//!
//! - Nothing is changed in a directory that another process owns.
//! - A directory that cannot be used stops the start with one [`StorageError`] that names the path and the cure.
//! - No space for a *new* segment is an answer to the log, which refuses proposals and tries again. A failed
//!   write or sync of claimed space is reported the same way; the log then stops the member.
//!
//! Lives on the log shard; the store's pages are read on every core. What to start from is `engine::boot`'s to decide.
//! Tested in temporary directories, with injected faults (`tests`).

mod claim;
mod directory;
mod disk;
mod error;
mod lock;
mod observer;
mod pacer;
mod reader;
mod saved_index;
mod snapshots;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

pub use disk::WalDisk;
pub use error::StorageError;
pub use observer::DiskObserver;
pub use reader::FoundLog;
pub use snapshots::{FoundSnapshots, SnapDisk};
pub use store::StoreDisk;

use directory::Directory;

/// Where the member lives and how careful it is.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    pub data_dir: PathBuf,
    /// Of the log, if not `<data-dir>/member/wal`.
    pub wal_dir: Option<PathBuf>,
    /// Skip every sync of the log and the store: faster, and a crash of the machine loses or damages them.
    pub unsafe_no_fsync: bool,
    pub retention: Retention,
}

/// How many files stay though a newer snapshot has made them superfluous. 0: all, as in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Segments of the log, all together (`--max-wals`).
    pub wals_max: usize,
    /// `.snap` files (`--max-snapshots`).
    pub snapshots_max: usize,
}

/// etcd's defaults.
impl Default for Retention {
    fn default() -> Self {
        Self {
            wals_max: 5,
            snapshots_max: 5,
        }
    }
}

/// A claimed directory.
pub struct Storage {
    /// Holds the directory's locks; the last clone gives them back.
    pub disk: WalDisk,
    pub log: StoredLog,
    /// `member/snap/db`, if need be a new one ([`StoreDisk::found_len`]).
    pub store: StoreDisk,
    pub snapshots: SnapDisk,
    /// The snapshots that are there. Whether to start from one is not decided here.
    pub found: FoundSnapshots,
}

/// What the log held.
#[expect(clippy::large_enum_variant, reason = "one is made, at the start")]
pub enum StoredLog {
    /// Nothing: the member starts for the first time. Make the log by [`engine::wal::Wal::create`]; the
    /// directory gets its name once the first groups, sealed before the first `poll_io`, are durable.
    New,
    /// Continue it by [`engine::wal::Wal::resume`].
    Existing(FoundLog),
}

/// Claims the directory, which is made if need be, reads the log, and opens the store.
///
/// # Errors
/// [`StorageError`]: the directory is not usable, in use, or its log is damaged.
pub async fn open(
    options: &StorageOptions,
    observer: Rc<dyn DiskObserver>,
) -> Result<Storage, StorageError> {
    let directory = Directory::claim(options).await?;
    directory.warn_of_strangers().await?;
    let segments = directory.segments().await?;
    let (directory, log, locks) = if segments.is_empty() {
        directory.check_is_new().await?;
        (
            directory.begin_log().await?,
            StoredLog::New,
            BTreeMap::new(),
        )
    } else {
        let snapshots = snapshots::indexes(&directory).await?;
        let (log, locks) = FoundLog::open(&directory, segments, &snapshots).await?;
        directory.remove_leftovers().await?;
        (directory, StoredLog::Existing(log), locks)
    };
    directory.remove_snap_leftovers().await?;
    let directory = Rc::new(directory);
    let store = StoreDisk::open(&directory, options.unsafe_no_fsync).await?;
    let disk = WalDisk::new(Rc::clone(&directory), locks, options, observer);
    let snapshots = SnapDisk::new(directory, disk.clone(), options.retention);
    let found = snapshots.find().await?;
    Ok(Storage {
        disk,
        log,
        store,
        snapshots,
        found,
    })
}
