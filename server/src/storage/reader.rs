//! Reading the log back: segments from the disk into `engine::wal::Recovery`.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use driver::{FileLock, LockError, fs};
use engine::wal::{Recovered, Recovery, RecoveryError, SegmentName};

use super::StorageError;
use super::directory::Directory;
use crate::logging;

/// Longest segment taken for one: etcd's is 64,000,000 bytes and its last batch, which a message bounds.
const SEGMENT_SIZE_BYTES_MAX: u64 = 1 << 30;
/// How long a locked segment is tried again.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Locks and reads all segments.
///
/// Each segment is in memory until the next one was read, and as long as an entry points into it.
pub(super) async fn read_log(
    directory: &Directory,
    segments: Vec<SegmentName>,
) -> Result<(Recovered, Vec<FileLock>), StorageError> {
    let start = driver::now();
    let wal = directory.wal();
    let damaged = |source: RecoveryError| StorageError::Log {
        path: wal.clone(),
        source,
    };
    // All before the first is read: a log that another process writes to is not to be judged.
    let mut locks = Vec::with_capacity(segments.len());
    for segment in &segments {
        let path = wal.join(segment.to_string());
        locks.push(lock(&path).await?);
    }
    let mut recovery = Recovery::new();
    for &segment in &segments {
        let bytes = read_segment(directory, segment).await?;
        recovery.on_segment(segment, bytes).map_err(damaged)?;
        driver::yield_now().await;
    }
    let recovered = recovery.finish().map_err(damaged)?;
    report(&recovered, segments.len(), driver::now() - start);
    Ok((recovered, locks))
}

/// Locks a segment. One that is held is tried again for a while: what a killed member had under way on its ring keeps
/// the file open until it has ended, some milliseconds after the process itself.
async fn lock(path: &Path) -> Result<FileLock, StorageError> {
    let deadline = driver::now() + LOCK_PATIENCE;
    loop {
        match FileLock::exclusive_existing(path) {
            Err(LockError::Held { .. }) if driver::now() < deadline => {
                driver::sleep(LOCK_RETRY_INTERVAL).await;
            }
            locked => return locked.map_err(StorageError::lock),
        }
    }
}

async fn read_segment(directory: &Directory, segment: SegmentName) -> Result<Bytes, StorageError> {
    let path = directory.wal().join(segment.to_string());
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
