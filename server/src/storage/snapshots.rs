//! Snapshot files in `member/snap`: writing, finding, and giving up what they make superfluous.
//!
//! ```text
//!   <term>-<index>.snap      written aside as `tmp.<name>`, synced, renamed
//!   <index>.snap.db          a database that a leader sent; see [`StoreDisk::swap_in`]
//!   *.broken                 a file that cannot be decoded, set aside as etcd does
//! ```
//!
//! - A file under its own name is whole.
//! - Nothing is removed that a start at the newest snapshot reads; which segments those are, `engine::wal` says.
//! - Failing to remove costs space, is logged, and is tried again with the next snapshot.

use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use driver::fs;
use engine::snap::{SnapDbName, SnapFile, SnapIo, SnapName, SnapOp, SnapTicket};
use engine::wal::IoFault;

use super::directory::{Directory, list};
use super::{Retention, StorageError, WalDisk};
use crate::logging;

/// Before the umask, as etcd creates them.
const FILE_MODE: u32 = 0o666;
/// Longest file taken for a snapshot: what raft's messages may carry in etcd.
const SNAP_SIZE_BYTES_MAX: u64 = 512 << 20;

/// The snapshots' directory, and the log that they shorten.
#[derive(Clone)]
pub struct SnapDisk {
    directory: Rc<Directory>,
    wal: WalDisk,
    retention: Retention,
}

/// What a start may begin from, besides the database.
#[derive(Debug, Default)]
pub struct FoundSnapshots {
    /// Files that could be decoded, the newest first.
    pub files: Vec<SnapFile>,
    /// Databases that were received and not swapped in, ascending.
    pub received: Vec<SnapDbName>,
}

impl SnapDisk {
    pub(super) fn new(directory: Rc<Directory>, wal: WalDisk, retention: Retention) -> Self {
        Self {
            directory,
            wal,
            retention,
        }
    }

    /// Performs one operation; failures are logged here, with the path.
    pub async fn perform(&self, io: SnapIo) -> (SnapTicket, Result<(), IoFault>) {
        let result = match io.op {
            SnapOp::Write { term, index, bytes } => {
                self.write(SnapName { term, index }, bytes).await
            }
            SnapOp::Release { index } => {
                self.release(index).await;
                Ok(())
            }
        };
        let result = result.map_err(|error| IoFault {
            os_error: error.raw_os_error(),
        });
        (io.ticket, result)
    }

    /// Writes a file and makes it and its name durable.
    async fn write(&self, name: SnapName, bytes: Bytes) -> io::Result<()> {
        let snap = self.directory.snap();
        let path = snap.join(name.to_string());
        let aside = snap.join(format!("tmp.{name}"));
        let written = async {
            // Of an earlier try.
            remove_if_there(&aside).await?;
            fs::write_new(&aside, FILE_MODE, bytes.to_vec()).await?;
            fs::rename(&aside, &path).await?;
            fs::sync_dir(&snap).await
        };
        let result = written.await;
        if let Err(error) = &result {
            logging::warn!(
                "failed to write a snap file",
                "path" => path.display().to_string(),
                "error" => error.to_string()
            );
            // If this fails as well, the next try or the next start removes it.
            let _ = remove_if_there(&aside).await;
        }
        result
    }

    /// Gives up what a durable snapshot at `index` makes superfluous.
    async fn release(&self, index: u64) {
        self.wal.release(index, self.retention.wals_max).await;
        let snap = self.directory.snap();
        let Ok(names) = list(&snap).await.inspect_err(|error| {
            logging::warn!("cannot look for old snapshots", "error" => error.to_string());
        }) else {
            return;
        };
        for name in superfluous(&names, index, self.retention.snapshots_max) {
            if !purge(&snap.join(name)).await {
                break;
            }
        }
    }

    /// Reads what is there. Files that cannot be decoded are set aside; what cannot be read is left alone, since a start
    /// may well do without.
    ///
    /// # Errors
    /// [`StorageError`] if the directory cannot be read.
    pub(super) async fn find(&self) -> Result<FoundSnapshots, StorageError> {
        let snap = self.directory.snap();
        let names = list(&snap).await?;
        let mut files: Vec<SnapName> = parse(&names);
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut found = FoundSnapshots {
            files: Vec::new(),
            received: parse(&names),
        };
        found.received.sort_unstable();
        for name in files {
            found.files.extend(read(&snap, name).await);
        }
        Ok(found)
    }
}

/// Of the snapshot files by their names, whatever is in them.
pub(super) async fn indexes(directory: &Directory) -> Result<Vec<u64>, StorageError> {
    let names = list(&directory.snap()).await?;
    let files: Vec<SnapName> = parse(&names);
    Ok(files.iter().map(|name| name.index).collect())
}

async fn read(snap: &Path, name: SnapName) -> Option<SnapFile> {
    let path = snap.join(name.to_string());
    let shown = path.display().to_string();
    let bytes = match fs::read(&path, SNAP_SIZE_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => {
            logging::warn!("failed to read a snap file", "path" => shown, "error" => error.to_string());
            return None;
        }
    };
    match SnapFile::decode_as(name, bytes.into()) {
        Ok(file) => Some(file),
        Err(error) => {
            let broken = snap.join(format!("{name}.broken"));
            let renamed = fs::rename(&path, &broken).await;
            logging::warn!(
                "the snap file is damaged and is set aside",
                "path" => shown,
                "broken-path" => broken.display().to_string(),
                "error" => error.to_string(),
                "renamed" => renamed.map_or_else(|error| error.to_string(), |()| "yes".to_owned())
            );
            None
        }
    }
}

fn parse<T: std::str::FromStr>(names: &[String]) -> Vec<T> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The files that a snapshot at `index` replaces, the oldest first: `.snap` files below it while there are more than
/// `snapshots_max` (0: all are kept, as in etcd), and databases of snapshots below it.
fn superfluous(names: &[String], index: u64, snapshots_max: usize) -> Vec<String> {
    let mut files: Vec<SnapName> = parse(names);
    files.sort_unstable();
    let excess = match snapshots_max {
        0 => 0,
        max => files.len().saturating_sub(max),
    };
    let old = files.iter().take(excess).filter(|name| name.index < index);
    let mut received: Vec<SnapDbName> = parse(names);
    received.sort_unstable();
    let orphans = received.iter().filter(|name| name.index < index);
    old.map(ToString::to_string)
        .chain(orphans.map(ToString::to_string))
        .collect()
}

/// Removes a file that nothing needs any more; tells whether it is gone.
pub(super) async fn purge(path: &Path) -> bool {
    let shown = path.display().to_string();
    match remove_if_there(path).await {
        Ok(()) => {
            logging::info!("purged", "path" => shown);
            true
        }
        Err(error) => {
            logging::warn!("failed to remove file", "path" => shown, "error" => error.to_string());
            false
        }
    }
}

async fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_snapshots_go_down_to_the_number_to_keep() {
        let name = |term, index| SnapName { term, index }.to_string();
        let received = |index| SnapDbName { index }.to_string();
        let names = [
            "db".to_owned(),
            name(3, 30),
            name(1, 10),
            name(2, 20),
            received(10),
            received(30),
            received(40),
            format!("{}.broken", name(1, 5)),
        ];
        for (index, max, expected) in [
            (30, 5, vec![received(10)]),
            (30, 2, vec![name(1, 10), received(10)]),
            (30, 1, vec![name(1, 10), name(2, 20), received(10)]),
            (20, 1, vec![name(1, 10), received(10)]),
            (30, 0, vec![received(10)]),
            (5, 1, vec![]),
        ] {
            assert_eq!(superfluous(&names, index, max), expected, "{index} {max}");
        }
    }
}
