//! One owner per file, by `flock`.
//!
//! The same kind of lock as etcd's on its WAL segments and its database, so each keeps the other out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process, or another open file of this one, has it. It is free when that one ends.
    #[error("{path}: locked by another process")]
    Held { path: PathBuf },
    /// The file cannot be opened or locked.
    #[error("{path}: cannot be locked: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// An exclusive lock on a file, given back on drop.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Opens `path`, which is created with mode 0600 if need be, and locks it without waiting.
    ///
    /// Takes two or three quick system calls on the calling thread, as all of these; meant for the start.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another has it.
    pub fn exclusive(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        Self::open_and_lock(path.as_ref(), &options)
    }

    /// Locks a file that exists.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another has it; [`LockError::Io`] if there is none.
    pub fn exclusive_existing(path: impl AsRef<Path>) -> Result<Self, LockError> {
        Self::open_and_lock(path.as_ref(), OpenOptions::new().read(true).write(true))
    }

    /// Locks a directory itself, which leaves no file behind.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another has it.
    pub fn exclusive_dir(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let flags = libc::O_DIRECTORY;
        Self::open_and_lock(
            path.as_ref(),
            OpenOptions::new().read(true).custom_flags(flags),
        )
    }

    fn open_and_lock(path: &Path, options: &OpenOptions) -> Result<Self, LockError> {
        let file = options.open(path).map_err(|source| LockError::Io {
            path: path.to_owned(),
            source,
        })?;
        try_lock(file.as_fd(), path)?;
        Ok(Self { file })
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Locks an open file; the lock lasts until its last descriptor is closed.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, path: &Path) -> Result<(), LockError> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(LockError::Held {
            path: path.to_owned(),
        }),
        Err(errno) => Err(LockError::Io {
            path: path.to_owned(),
            source: errno.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caching, ExecutorConfig, run};

    #[test]
    fn the_second_owner_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::exclusive(&path).unwrap();
        let error = FileLock::exclusive(&path).unwrap_err();
        assert!(
            matches!(&error, LockError::Held { path: held } if *held == path),
            "{error}"
        );
        drop(first);
        FileLock::exclusive_existing(&path).unwrap();
        FileLock::exclusive_existing(dir.path().join("none")).unwrap_err();

        let first = FileLock::exclusive_dir(dir.path()).unwrap();
        let error = FileLock::exclusive_dir(dir.path()).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "{error}");
        drop(first);
        FileLock::exclusive_dir(dir.path()).unwrap();
        FileLock::exclusive_dir(&path).unwrap_err();
    }

    #[test]
    fn an_open_file_and_a_lock_keep_each_other_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        run(ExecutorConfig::new("t"), || async {
            let file = crate::File::create(&path, Caching::Direct).await.unwrap();
            file.try_lock().unwrap();
            assert!(matches!(
                FileLock::exclusive(&path),
                Err(LockError::Held { .. })
            ));
            file.close().await;
            let lock = FileLock::exclusive(&path).unwrap();
            let file = crate::File::open(&path, Caching::Direct).await.unwrap();
            assert!(matches!(file.try_lock(), Err(LockError::Held { .. })));
            drop(lock);
            file.try_lock().unwrap();
        })
        .unwrap();
    }

    #[test]
    fn a_missing_directory_is_not_a_held_lock() {
        let dir = tempfile::tempdir().unwrap();
        let error = FileLock::exclusive(dir.path().join("none/lock")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }
}
