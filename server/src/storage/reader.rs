//! Reading the log back: segments from the disk into `engine::wal::Recovery`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use driver::{FileLock, fs};
use engine::wal::{Recovered, Recovery, RecoveryError, SegmentName};

use super::directory::Directory;
use super::{StorageError, lock};
use crate::logging;

/// Longest segment taken for one: etcd's is 64,000,000 bytes and its last batch, which a message bounds.
const SEGMENT_SIZE_BYTES_MAX: u64 = 1 << 30;

/// Locks and reads all segments.
///
/// Each segment is in memory until the next one was read, and as long as an entry points into it.
pub(super) async fn read_log(
    directory: &Directory,
    segments: Vec<SegmentName>,
) -> Result<(Recovered, BTreeMap<SegmentName, FileLock>), StorageError> {
    let start = driver::now();
    let wal = directory.wal();
    let damaged = |source: RecoveryError| StorageError::Log {
        path: wal.clone(),
        source,
    };
    // All before the first is read: a log that another process writes to is not to be judged.
    let mut locks = BTreeMap::new();
    for &segment in &segments {
        let path = wal.join(segment.to_string());
        let lock = lock::patiently(|| FileLock::exclusive_existing(&path)).await?;
        locks.insert(segment, lock);
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
