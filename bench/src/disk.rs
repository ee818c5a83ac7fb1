//! What the disk alone asks for: a write of one block and its sync, as blocking calls.
//!
//! The file is written full of zeros and synced before, so that neither space nor sizes change any more: the sync has
//! only data to wait for. That is how a WAL with zeroed segments writes, so this is the floor of a durable put.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::fs::OFlags;
use serde::Serialize;

use crate::process;

/// A page of the file system, and the most that one durable put of common size writes.
pub const BLOCK_SIZE_BYTES: usize = 4096;

/// The file's blocks: 16 MiB, beyond what a disk merges, and quickly zeroed.
const BLOCK_COUNT: u64 = 4096;

/// What is not counted: the first syncs still meet the zeroing's journal.
const WARM_UP_COUNT: u32 = 20;

/// Latencies of write + fdatasync in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DiskLatency {
    pub count: u64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

/// The folder's file system cannot do what is measured.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the file system takes no O_DIRECT file: {0}")]
    NoDirect(io::Error),
    #[error("write + fdatasync: {0}")]
    Io(#[from] io::Error),
}

/// Measures `count` times a block's write and fdatasync in `folder`, from `core`.
///
/// # Errors
/// [`DiskError`] if the folder takes no such file or a call fails.
pub fn measure(folder: &Path, core: Option<usize>, count: u32) -> Result<DiskLatency, DiskError> {
    let folder = tempfile::TempDir::with_prefix_in("etcore-bench-disk-", folder)?;
    let path = folder.path().join("zeroed");
    fill(&path)?;
    let file = open_direct(&path)?;
    process::with_core(core, || write_and_sync(&file, count))
}

fn fill(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    let zeros = vec![0; 64 * BLOCK_SIZE_BYTES];
    for chunk in 0..BLOCK_COUNT / 64 {
        file.write_all_at(&zeros, chunk * zeros.len() as u64)?;
    }
    file.sync_all()
}

fn open_direct(path: &Path) -> Result<File, DiskError> {
    let flags = OFlags::DIRECT.bits() as i32;
    OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
        .map_err(DiskError::NoDirect)
}

fn write_and_sync(file: &File, count: u32) -> Result<DiskLatency, DiskError> {
    let no_histogram = |error| io::Error::other(format!("no histogram: {error}"));
    let mut latencies =
        Histogram::<u64>::new_with_bounds(1, 600_000_000_000, 3).map_err(no_histogram)?;
    // A block of a vector twice as long is aligned somewhere.
    let mut room = vec![0xa5_u8; 2 * BLOCK_SIZE_BYTES];
    let start = room.as_ptr().align_offset(BLOCK_SIZE_BYTES);
    let block = room
        .get_mut(start..start + BLOCK_SIZE_BYTES)
        .ok_or_else(|| io::Error::other("no aligned memory"))?;
    for turn in 0..WARM_UP_COUNT + count {
        // No two writes alike, lest a clever disk leaves one out.
        block[..4].copy_from_slice(&turn.to_le_bytes());
        let offset = u64::from(turn) % BLOCK_COUNT * BLOCK_SIZE_BYTES as u64;
        let started = Instant::now();
        file.write_all_at(block, offset)?;
        file.sync_data()?;
        let took = started.elapsed();
        if turn >= WARM_UP_COUNT {
            latencies.saturating_record(nanos(took));
        }
    }
    Ok(summary(&latencies))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn summary(latencies: &Histogram<u64>) -> DiskLatency {
    let us = |ns: u64| ns as f64 / 1e3;
    let at = |quantile| us(latencies.value_at_quantile(quantile));
    DiskLatency {
        count: latencies.len(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        max_us: us(latencies.max()),
    }
}

impl DiskLatency {
    /// In words.
    pub fn to_text(&self) -> String {
        format!(
            "write + fdatasync of {BLOCK_SIZE_BYTES} B, {} times: p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, max {:.1} us\n",
            self.count, self.p50_us, self.p90_us, self.p99_us, self.max_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_syncs_have_latencies() {
        let folder = tempfile::TempDir::new().unwrap();
        let latency = match measure(folder.path(), None, 5) {
            Ok(latency) => latency,
            // A temporary folder in memory, on kernels that know no O_DIRECT there.
            Err(DiskError::NoDirect(_)) => return,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(latency.count, 5);
        assert!(
            latency.p50_us > 0.0 && latency.p50_us <= latency.max_us,
            "{latency:?}"
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left"
        );
    }

    #[test]
    fn summary_is_in_microseconds() {
        let mut latencies = Histogram::new_with_bounds(1, 600_000_000_000, 3).unwrap();
        for us in 1..=100 {
            latencies.saturating_record(us * 1_000);
        }
        let summary = summary(&latencies);
        assert!((summary.p50_us - 50.0).abs() < 0.1, "{summary:?}");
        assert!((summary.max_us - 100.0).abs() < 0.2, "{summary:?}");
    }
}
