//! Who is told how long the disk took.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;

/// Told of each write and sync of the log.
pub trait DiskObserver {
    /// A group of `len` bytes was written.
    fn written(&self, len: u64, took: Duration);
    /// A sync has ended.
    fn synced(&self, took: Duration);
}

impl DiskObserver for Arc<Metrics> {
    fn written(&self, len: u64, took: Duration) {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.wal_write_bytes.add(len);
        self.wal_write.observe(took);
    }

    fn synced(&self, took: Duration) {
        self.wal_fsync.observe(took);
    }
}
