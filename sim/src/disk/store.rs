//! The files beside the log: the store, which the node also reads through a map, and snapshot files.
//!
//! - The store is made under another name and gets its own with the second sync, as the shell does it.
//! - What was written shows in the map at once, whether or not a power cut would keep it.
//! - A snapshot file is whole and durable, or not there: the shell performs all its steps as one operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use engine::snap::{SnapFile, SnapOp};
use engine::store::{MemoryPages, StoreOp};
use engine::wal::{IoFault, SegmentName, wholly_below};

use super::{EIO, Fail, SimDisk, SimFile, fault};
use crate::random::Rng;

/// A first commit: pages, sync, meta pages, sync.
const SYNCS_OF_FIRST_COMMIT: u32 = 2;

/// See the module text.
#[derive(Debug, Default)]
pub(super) struct StoreFile {
    file: SimFile,
    /// The file as this life's node reads it.
    map: Arc<MemoryPages>,
    syncs: u32,
    snapshots: BTreeMap<u64, Bytes>,
}

impl StoreFile {
    fn has_name(&self) -> bool {
        self.syncs >= SYNCS_OF_FIRST_COMMIT
    }

    /// The process ended.
    pub(super) fn close(&mut self) {
        if !self.has_name() {
            self.file = SimFile::default();
            self.syncs = 0;
        }
    }

    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        self.close();
        self.file.lose_power(rng);
    }
}

impl SimDisk {
    /// Maps the store for a new life; gives its length, 0 if there is none.
    pub fn open_store(&mut self) -> (Arc<MemoryPages>, u64) {
        let store = &mut self.store;
        store.map = Arc::new(MemoryPages::from_bytes(&store.file.now));
        let map = Arc::clone(&store.map);
        let len = map.len();
        (map, len)
    }

    /// The snapshot files that are there.
    pub fn snapshots(&self) -> impl Iterator<Item = SnapFile> {
        let files = self.store.snapshots.values();
        files.map(|bytes| SnapFile::decode(bytes.clone()).expect("snapshot files are whole"))
    }

    /// Performs one operation on the store.
    ///
    /// # Errors
    /// The fault that was asked for, or a full disk.
    pub fn perform_store(&mut self, op: &StoreOp, rng: &mut Rng) -> Result<(), IoFault> {
        match op {
            StoreOp::Grow { len } => {
                self.check_space()?;
                self.store.file.now.resize(*len as usize, 0);
                self.store.map.grow(*len);
            }
            StoreOp::Write { offset, bytes } => {
                let is_failing = self.take_fault(Fail::Write);
                let kept = match is_failing {
                    true => rng.below(bytes.len() as u64 / 512 + 1) as usize * 512,
                    false => bytes.len(),
                };
                self.store.file.write(*offset, &bytes[..kept]);
                self.store.map.write(*offset, &bytes[..kept]);
                if is_failing {
                    return Err(fault(EIO));
                }
            }
            StoreOp::Sync => {
                if self.take_fault(Fail::Sync) {
                    return Err(fault(EIO));
                }
                self.store.file.sync();
                self.store.syncs += 1;
            }
        }
        Ok(())
    }

    /// Performs one operation on snapshot files, keeping `segments_max` segments of the log.
    ///
    /// # Errors
    /// A full disk.
    pub fn perform_snap(&mut self, op: &SnapOp, segments_max: usize) -> Result<(), IoFault> {
        match op {
            SnapOp::Write { index, bytes, .. } => {
                self.check_space()?;
                self.store.snapshots.insert(*index, bytes.clone());
            }
            SnapOp::Release { index } => {
                self.store.snapshots.retain(|at, _| at >= index);
                self.release(*index, segments_max);
            }
        }
        Ok(())
    }

    fn release(&mut self, index: u64, segments_max: usize) {
        let names = self.names.keys().filter_map(|name| name.parse().ok());
        let names: Vec<SegmentName> = names.collect();
        let surplus = names.len().saturating_sub(segments_max);
        let below = wholly_below(&names, index);
        for name in below.iter().take(surplus) {
            self.names.remove(&name.to_string());
        }
    }
}
