//! The member's directory and its log on the disk: the shell around `engine::wal`.
//!
//! ```text
//! <data-dir>/                 0700
//!   member/                   0700, flock: one etcore at a time
//!     wal/                    0700; elsewhere with --wal-dir
//!       <seq>-<index>.wal     0600, flock: keeps etcd out, as etcd's keep us out
//!       0.tmp, 1.tmp          segments in the making
//!     wal.tmp/                a log that is being made; renamed once its first segment is durable
//!     snap/                   0700
//! ```
//!
//! [`open`] claims the directory, cleans up what a crash left, and reads the log; [`WalDisk`] then performs the
//! operations that the log asks for.
//!
//! - Nothing is changed in a directory that another process owns.
//! - A directory that cannot be used stops the start with one [`StorageError`] that names the path and the cure.
//! - No space for a *new* segment is an answer to the log, which refuses proposals and tries again. A failed
//!   write or sync of claimed space is reported the same way; the log then stops the member.
//!
//! Lives on the log shard. Left out: releasing old segments, snapshots, and databases of etcd.
//! Tested in temporary directories, with injected faults (`tests`).

mod directory;
mod disk;
mod error;
mod observer;
mod reader;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::rc::Rc;

use engine::wal::Recovered;

pub use disk::WalDisk;
pub use error::StorageError;
pub use observer::DiskObserver;

use directory::Directory;

/// Where the member lives and how careful it is.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    pub data_dir: PathBuf,
    /// Of the log, if not `<data-dir>/member/wal`.
    pub wal_dir: Option<PathBuf>,
    /// Skip every sync: faster, and a crash of the machine loses or damages the log.
    pub unsafe_no_fsync: bool,
}

/// A claimed directory.
pub struct Storage {
    /// Holds the directory's locks; the last clone gives them back.
    pub disk: WalDisk,
    pub log: StoredLog,
}

/// What the log held.
#[expect(clippy::large_enum_variant, reason = "one is made, at the start")]
pub enum StoredLog {
    /// Nothing: the member starts for the first time. Make the log by [`engine::wal::Wal::create`]; the
    /// directory gets its name once the first groups, sealed before the first `poll_io`, are durable.
    New,
    /// Continue it by [`engine::wal::Wal::resume`].
    Existing(Recovered),
}

/// Claims the directory, which is made if need be, and reads the log.
///
/// # Errors
/// [`StorageError`]: the directory is not usable, in use, or its log is damaged.
pub async fn open(
    options: &StorageOptions,
    observer: Rc<dyn DiskObserver>,
) -> Result<Storage, StorageError> {
    let directory = Directory::claim(options).await?;
    let segments = directory.segments().await?;
    if segments.is_empty() {
        directory.check_is_new().await?;
        let directory = directory.begin_log().await?;
        let disk = WalDisk::new(directory, Vec::new(), options, observer);
        return Ok(Storage {
            disk,
            log: StoredLog::New,
        });
    }
    let (recovered, locks) = reader::read_log(&directory, segments).await?;
    directory.remove_leftovers().await?;
    let disk = WalDisk::new(directory, locks, options, observer);
    Ok(Storage {
        disk,
        log: StoredLog::Existing(recovered),
    })
}
