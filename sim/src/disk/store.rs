//! The files beside the log: the store, which the node also reads through a map, and snapshot files.
//!
//! - The store is made under another name and gets its own with the second sync, as the shell does it.
//! - Claimed space is zeros until it is written. A power cut may take back what was claimed since the last sync.
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
/// The page size of new stores.
pub const PAGE_BYTES: u64 = 4096;
/// Where the pages begin that are no meta pages.
const PAGES_AT: u64 = 2 * PAGE_BYTES;

/// See the module text.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreFile {
    /// As far as anything was ever written.
    file: SimFile,
    /// Bytes that are claimed, and those of them that a power cut leaves.
    len: u64,
    durable_len: u64,
    /// The file as this life's node reads it.
    map: Arc<MemoryPages>,
    syncs: u32,
    /// The last write was that of a meta page.
    wrote_meta: bool,
    snapshots: BTreeMap<u64, Bytes>,
}

impl StoreFile {
    fn has_name(&self) -> bool {
        self.syncs >= SYNCS_OF_FIRST_COMMIT
    }

    fn grow(&mut self, len: u64) {
        assert!(len > self.len, "{len} bytes are claimed already");
        self.len = len;
        self.map.grow(len);
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.len, "a write past the claimed space");
        if self.file.now.len() < end as usize {
            self.file.now.resize(end as usize, 0);
        }
        self.file.write(offset, bytes);
        self.map.write(offset, bytes);
        self.wrote_meta = offset < PAGES_AT;
    }

    /// A power cut leaves the old length or the new one; what was behind is lost either way.
    fn cut(&mut self, len: u64) {
        assert!(self.file.pending.is_empty(), "cut before all is synced");
        self.len = len;
        self.map.cut(len);
        self.file.now.truncate(len as usize);
        self.file.durable.truncate(len as usize);
    }

    fn sync(&mut self) {
        self.file.sync();
        self.durable_len = self.len;
        self.syncs += 1;
    }

    /// The process ended.
    pub(super) fn close(&mut self) {
        if !self.has_name() {
            let snapshots = std::mem::take(&mut self.snapshots);
            *self = StoreFile {
                snapshots,
                ..StoreFile::default()
            };
        }
    }

    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        self.close();
        self.file.lose_power(rng);
        if rng.one_in(2) {
            self.len = self.durable_len.max(self.file.now.len() as u64);
        }
        self.durable_len = self.len;
    }
}

impl SimDisk {
    /// Maps the store for a new life; gives its length, 0 if there is none.
    pub fn open_store(&mut self) -> (Arc<MemoryPages>, u64) {
        let store = &mut self.store;
        let map = MemoryPages::from_bytes(&store.file.now);
        map.grow(store.len);
        store.map = Arc::new(map);
        (Arc::clone(&store.map), store.len)
    }

    /// What was ever written to the store.
    pub fn store_bytes(&self) -> &[u8] {
        &self.store.file.now
    }

    /// Flips a bit of the store, for good. Not while a node has it open.
    pub fn flip_store_bit(&mut self, byte: usize, bit: u32) {
        let file = &mut self.store.file;
        file.now[byte] ^= 1 << bit;
        if let Some(durable) = file.durable.get_mut(byte) {
            *durable ^= 1 << bit;
        }
    }

    /// True if the next sync is the one before a commit's meta page.
    pub fn is_store_sync_of_pages(&self) -> bool {
        !self.store.wrote_meta
    }

    /// A sync of the store that is not done, and looks as if it was.
    pub fn skip_store_sync(&mut self) {
        self.store.syncs += 1;
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
                self.store.grow(*len);
            }
            StoreOp::Write { offset, bytes } => {
                let is_failing = self.take_fault(Fail::Write);
                let kept = match is_failing {
                    true => rng.below(bytes.len() as u64 / 512 + 1) as usize * 512,
                    false => bytes.len(),
                };
                self.store.write(*offset, &bytes[..kept]);
                if is_failing {
                    return Err(fault(EIO));
                }
            }
            StoreOp::Sync => {
                if self.take_fault(Fail::Sync) {
                    return Err(fault(EIO));
                }
                self.store.sync();
            }
            StoreOp::Cut { len } => self.store.cut(*len),
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
