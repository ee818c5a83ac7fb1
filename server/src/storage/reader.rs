//! Reading the log back: segments from the disk into `engine::wal::Recovery`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use driver::{FileLock, fs};
use engine::boot;
use engine::wal::{Recovered, Recovery, RecoveryError, SegmentName};

use super::directory::Directory;
use super::{StorageError, lock};
use crate::logging;

/// Longest segment taken for one: etcd's is 64,000,000 bytes and its last batch, which a message bounds.
const SEGMENT_SIZE_BYTES_MAX: u64 = 1 << 30;

/// The log of a member that ran before: locked whole, and read from some segment on.
pub struct FoundLog {
    wal: PathBuf,
    segments: Vec<SegmentName>,
    /// Position of the first segment that was read.
    read_from: usize,
    recovered: Recovered,
}

impl FoundLog {
    /// Locks all segments and reads those that a start needs as a rule. `snapshots` are the indexes of the snapshot files.
    ///
    /// # Errors
    /// [`StorageError`]: another process has one, one cannot be read, or the log is damaged.
    pub(super) async fn open(
        directory: &Directory,
        segments: Vec<SegmentName>,
        snapshots: &[u64],
    ) -> Result<(Self, BTreeMap<SegmentName, FileLock>), StorageError> {
        let wal = directory.wal();
        // All before the first is read: a log that another process writes to is not to be judged.
        let mut locks = BTreeMap::new();
        for &segment in &segments {
            let path = wal.join(segment.to_string());
            let lock = lock::patiently(|| FileLock::exclusive_existing(&path)).await?;
            locks.insert(segment, lock);
        }
        let mut read_from = boot::first_needed(&segments, snapshots);
        let part = read(&wal, segments.get(read_from..).unwrap_or_default()).await;
        let recovered = match part {
            Err(error @ StorageError::Log { .. }) if read_from > 0 => {
                logging::warn!("reading the whole WAL", "reason" => error.to_string());
                read_from = 0;
                read(&wal, &segments).await?
            }
            part => part?,
        };
        let log = Self {
            wal,
            segments,
            read_from,
            recovered,
        };
        Ok((log, locks))
    }

    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    pub fn into_recovered(self) -> Recovered {
        self.recovered
    }

    /// Whether older segments are there that were not read.
    pub fn has_unread(&self) -> bool {
        self.read_from > 0
    }

    /// Reads all segments instead.
    ///
    /// # Errors
    /// [`StorageError`]: one cannot be read, or the log is damaged.
    pub async fn read_whole(&mut self) -> Result<(), StorageError> {
        // Gives back the part's memory first.
        self.recovered.entries = Vec::new();
        self.recovered = read(&self.wal, &self.segments).await?;
        self.read_from = 0;
        Ok(())
    }
}

/// Each segment is in memory until the next one was read, and as long as an entry points into it.
async fn read(wal: &Path, segments: &[SegmentName]) -> Result<Recovered, StorageError> {
    let start = driver::now();
    let damaged = |source: RecoveryError| StorageError::Log {
        path: wal.to_path_buf(),
        source,
    };
    let mut recovery = Recovery::new();
    for &segment in segments {
        let bytes = read_segment(wal, segment).await?;
        recovery.on_segment(segment, bytes).map_err(damaged)?;
        driver::yield_now().await;
    }
    let recovered = recovery.finish().map_err(damaged)?;
    report(&recovered, segments.len(), driver::now() - start);
    Ok(recovered)
}

async fn read_segment(wal: &Path, segment: SegmentName) -> Result<Bytes, StorageError> {
    let path = wal.join(segment.to_string());
    match fs::read(&path, SEGMENT_SIZE_BYTES_MAX).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            let len = fs::metadata(&path)
                .await
                .ok()
                .flatten()
                .map_or(0, |found| found.len);
            Err(StorageError::SegmentTooLong { path, len })
        }
        Err(error) => Err(StorageError::new(&path, "read the segment", error)),
    }
}

fn report(recovered: &Recovered, segment_count: usize, took: Duration) {
    logging::info!(
        "read the WAL",
        "segments" => segment_count as u64,
        "entries" => recovered.entries.len() as u64,
        "took" => took
    );
}
