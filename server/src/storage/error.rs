//! Why a directory cannot be used, with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use driver::LockError;
use engine::wal::RecoveryError;

/// Why the member cannot live in its directory. The operator has to act; a retry alone does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another member runs here.
    #[error(
        "{}: in use by another process (etcore or etcd); stop it, or give this member another --data-dir",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "{}: permission denied to {action}; give this user the directory (owner, mode 0700), or start as the user who owns it",
        path.display()
    )]
    Denied { path: PathBuf, action: &'static str },
    #[error(
        "{}: the file system is read-only, cannot {action}; remount it for writing, or give another --data-dir",
        path.display()
    )]
    ReadOnly { path: PathBuf, action: &'static str },
    #[error(
        "{}: no space left to {action}; free some space or raise the quota, then start again",
        path.display()
    )]
    Full { path: PathBuf, action: &'static str },
    #[error("{}: not a directory; remove the file, or give another directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("{}: not a file; remove it, or give another directory", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "{}: {len} bytes are too long for a segment of a write-ahead log; this file was not written by etcd or etcore",
        path.display()
    )]
    SegmentTooLong { path: PathBuf, len: u64 },
    /// An etcd that lost its log, or a restored snapshot.
    #[error(
        "{}: a database without its write-ahead log; starting from a database is not supported by this version: \
         put the log back, or start with an empty data directory",
        path.display()
    )]
    DatabaseWithoutLog { path: PathBuf },
    /// A crash came between receiving a snapshot and using it, and then the file was lost.
    #[error(
        "{}: the log continues from the snapshot at index {index}, whose database is not here; put the file back, \
         or remove this member and add it again with an empty data directory",
        path.display()
    )]
    ReceivedDatabaseMissing { path: PathBuf, index: u64 },
    /// The log is damaged.
    #[error("{}: {source}", path.display())]
    Log {
        path: PathBuf,
        source: RecoveryError,
    },
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
}

impl StorageError {
    /// Sorts an error by what the operator can do. `action` completes "cannot".
    pub(super) fn new(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { path, action },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, action },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, action }
            }
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io {
                path,
                action,
                source,
            },
        }
    }

    pub(super) fn lock(error: LockError) -> Self {
        match error {
            LockError::Held { path } => Self::InUse { path },
            LockError::Io { path, source } => Self::new(&path, "lock it", source),
            other => Self::Io {
                path: PathBuf::new(),
                action: "lock it",
                source: io::Error::other(other),
            },
        }
    }
}
