//! Claiming the data directory: making, checking, locking and cleaning it.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use driver::{FileLock, fs};
use engine::wal::SegmentName;

use super::{StorageError, StorageOptions};
use crate::logging;

/// Directories are for the member's user only.
const DIR_MODE: u32 = 0o700;
/// Name of the file that is written to find out whether a directory can be; etcd's.
const TOUCH_NAME: &str = ".touch";

/// A locked data directory.
pub(super) struct Directory {
    member: PathBuf,
    /// The directory that holds the log now: `wal.tmp` until the log is made.
    wal: RefCell<PathBuf>,
    /// The name that `wal.tmp` gets.
    wal_final: PathBuf,
    _lock: FileLock,
}

impl Directory {
    /// Makes and checks the directories and takes the lock.
    pub(super) async fn claim(options: &StorageOptions) -> Result<Self, StorageError> {
        let member = options.data_dir.join("member");
        make_dir(&options.data_dir).await?;
        make_dir(&member).await?;
        let lock = FileLock::exclusive_dir(&member).map_err(StorageError::lock)?;
        check_writable(&member).await?;
        let snap = member.join("snap");
        make_dir(&snap).await?;
        check_writable(&snap).await?;
        let wal = options
            .wal_dir
            .clone()
            .unwrap_or_else(|| member.join("wal"));
        if options.wal_dir.is_some()
            && let Some(parent) = wal.parent()
        {
            make_dir(parent).await?;
        }
        Ok(Self {
            member,
            wal_final: wal.clone(),
            wal: RefCell::new(wal),
            _lock: lock,
        })
    }

    /// The directory that is locked.
    pub(super) fn member(&self) -> &Path {
        &self.member
    }

    /// The directory of the database and the snapshots.
    pub(super) fn snap(&self) -> PathBuf {
        self.member.join("snap")
    }

    /// The directory of the log, as it is called now.
    pub(super) fn wal(&self) -> PathBuf {
        self.wal.borrow().clone()
    }

    /// The log's segments in order.
    pub(super) async fn segments(&self) -> Result<Vec<SegmentName>, StorageError> {
        let names = list(&self.wal()).await?;
        let mut segments: Vec<SegmentName> =
            names.iter().filter_map(|name| name.parse().ok()).collect();
        segments.sort_unstable();
        Ok(segments)
    }

    /// Tells of files in the log's directory that are none of its own.
    pub(super) async fn warn_of_strangers(&self) -> Result<(), StorageError> {
        for name in list(&self.wal()).await? {
            let is_known =
                name.parse::<SegmentName>().is_ok() || name.ends_with(".tmp") || name == TOUCH_NAME;
            if !is_known {
                logging::warn!(
                    "ignored file in WAL directory",
                    "path" => self.wal().join(&name).display().to_string()
                );
            }
        }
        Ok(())
    }

    /// That nothing here belongs to a member whose log is missing.
    pub(super) async fn check_is_new(&self) -> Result<(), StorageError> {
        let path = self.snap().join("db");
        match fs::metadata(&path).await {
            // An empty one was created and never written to.
            Ok(Some(found)) if found.len == 0 && !found.is_dir => remove_file(&path).await,
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(StorageError::DatabaseWithoutLog { path }),
            Err(error) => Err(StorageError::new(&path, "look at it", error)),
        }
    }

    /// Prepares an empty directory for a log: `wal.tmp`, unless `wal` exists already, as a mount point may.
    pub(super) async fn begin_log(self) -> Result<Self, StorageError> {
        let temporary = temporary_of(&self.wal_final);
        remove_tree(&temporary).await?;
        let exists = fs::metadata(&self.wal_final).await;
        let exists =
            exists.map_err(|error| StorageError::new(&self.wal_final, "look at it", error))?;
        if exists.is_some() {
            check_writable(&self.wal_final).await?;
            self.remove_leftovers().await?;
        } else {
            make_dir(&temporary).await?;
            check_writable(&temporary).await?;
            self.wal.replace(temporary);
        }
        Ok(self)
    }

    /// Gives the finished log its name, durably. Does nothing once it has it.
    pub(super) async fn finish_log(&self) -> io::Result<()> {
        let temporary = self.wal();
        if temporary == self.wal_final {
            return Ok(());
        }
        fs::rename(&temporary, &self.wal_final).await?;
        self.wal.replace(self.wal_final.clone());
        sync_with_parents(&self.wal_final, &self.member).await
    }

    /// Removes unfinished segments and other files that a crash left behind.
    pub(super) async fn remove_leftovers(&self) -> Result<(), StorageError> {
        let wal = self.wal();
        check_writable(&wal).await?;
        for name in list(&wal).await? {
            if name.ends_with(".tmp") {
                remove_file(&wal.join(name)).await?;
            }
        }
        Ok(())
    }

    /// Removes what a crash left beside the database: files of a defragmentation or of a snapshot that never got
    /// their names.
    pub(super) async fn remove_snap_leftovers(&self) -> Result<(), StorageError> {
        let snap = self.snap();
        for name in list(&snap).await? {
            if name.starts_with("db.tmp") || name.starts_with("tmp") {
                remove_file(&snap.join(name)).await?;
            }
        }
        Ok(())
    }
}

/// The name next to `wal` under which a log is made; etcd's.
fn temporary_of(wal: &Path) -> PathBuf {
    // Put together anew, so that a trailing slash does not turn the suffix into a name of its own.
    let mut name = wal.components().collect::<PathBuf>().into_os_string();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Makes a directory and its parents, or warns if it is open to others.
async fn make_dir(path: &Path) -> Result<(), StorageError> {
    let found = fs::metadata(path).await;
    match found.map_err(|error| StorageError::new(path, "look at it", error))? {
        Some(found) if !found.is_dir => Err(StorageError::NotADirectory {
            path: path.to_owned(),
        }),
        Some(found) => {
            if found.mode & 0o777 != DIR_MODE {
                logging::warn!(
                    "check file permission",
                    "error" => format!(
                        "directory {path:?} exist, but the permission is \"{}\". The recommended \
                         permission is \"-rwx------\" to prevent possible unprivileged access to the data",
                        go_mode(found.mode)
                    )
                );
            }
            Ok(())
        }
        None => fs::create_dir_all(path, DIR_MODE)
            .await
            .map_err(|error| StorageError::new(path, "create the directory", error)),
    }
}

/// Permission bits as Go prints those of a directory.
fn go_mode(mode: u32) -> String {
    let letter = |bit: u32, letter| if mode & bit != 0 { letter } else { '-' };
    let bits = (0..9).map(|n| letter(1 << (8 - n), ['r', 'w', 'x'][n % 3]));
    std::iter::once('d').chain(bits).collect()
}

async fn check_writable(dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(TOUCH_NAME);
    let failed = |error| StorageError::new(dir, "write into it", error);
    match fs::remove(&path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::write_new(&path, 0o600, Vec::new())
        .await
        .map_err(failed)?;
    fs::remove(&path).await.map_err(failed)
}

/// Names in a directory; none if there is no such directory. Names that are not Unicode are not ours.
pub(super) async fn list(path: &Path) -> Result<Vec<String>, StorageError> {
    match fs::read_dir(path).await {
        Ok(entries) => Ok(entries
            .into_iter()
            .filter_map(|e| e.name.into_string().ok())
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(StorageError::new(path, "read the directory", error)),
    }
}

async fn remove_file(path: &Path) -> Result<(), StorageError> {
    fs::remove(path)
        .await
        .map_err(|error| StorageError::new(path, "remove it", error))
}

async fn remove_tree(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::new(path, "remove it", error))
        }
        _ => Ok(()),
    }
}

/// Makes the names of the log and of the directories above it durable: all may be new.
async fn sync_with_parents(wal: &Path, member: &Path) -> io::Result<()> {
    let above = |path: &Path| path.parent().map(Path::to_owned);
    let data_dir = above(member);
    let dirs = [
        above(wal),
        Some(member.to_owned()),
        data_dir.clone(),
        data_dir.as_deref().and_then(above),
    ];
    for dir in dirs.into_iter().flatten() {
        let dir = if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir
        };
        match fs::sync_dir(&dir).await {
            // The parent of the data directory may be closed to us; it is the operator's.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_printed_as_go_does() {
        assert_eq!(go_mode(0o755), "drwxr-xr-x");
        assert_eq!(go_mode(0o700), "drwx------");
        assert_eq!(go_mode(0o1646), "drw-r--rw-");
    }

    #[test]
    fn a_log_is_made_beside_its_final_name() {
        assert_eq!(
            temporary_of(Path::new("d/member/wal")),
            Path::new("d/member/wal.tmp")
        );
        assert_eq!(temporary_of(Path::new("/w/")), Path::new("/w.tmp"));
    }
}
