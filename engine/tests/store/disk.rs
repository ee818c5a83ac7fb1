//! A shell for a store, over a file in memory that forgets as a disk does.
//!
//! A crash keeps for each 512-byte sector with unsynced writes one of the contents that it had since the last sync, drawn
//! from a seed, and a file enlarged since then keeps some length between.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::store::{MemoryPages, Pages, StoreIo, StoreOp};
use engine::wal::IoFault;

use engine::random::SplitMix64 as Rng;

const SECTOR: usize = 512;

pub(crate) const FAULT: IoFault = IoFault { os_error: Some(5) };

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) now: Arc<MemoryPages>,
    /// Up to the last byte that was ever written.
    durable: Vec<u8>,
    durable_len: u64,
    /// What it was cut to since the last sync.
    cut_len: Option<u64>,
    /// Contents since the last sync of each sector written since, oldest first.
    pending: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    pub(crate) written_bytes: u64,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Disk::from_bytes(&[], 0)
    }

    /// A file whose first bytes are `content`, and which has `len` bytes.
    pub(crate) fn from_bytes(content: &[u8], len: u64) -> Self {
        let now = MemoryPages::from_bytes(content);
        now.grow(len);
        Disk {
            durable_len: now.len(),
            cut_len: None,
            now: Arc::new(now),
            durable: content.to_vec(),
            pending: BTreeMap::new(),
            written_bytes: 0,
        }
    }

    pub(crate) fn pages(&self) -> Arc<dyn Pages> {
        Arc::clone(&self.now) as Arc<dyn Pages>
    }

    pub(crate) fn perform(&mut self, io: &StoreIo) {
        match &io.op {
            StoreOp::Grow { len } => self.now.grow(*len),
            StoreOp::Write { offset, bytes } => {
                self.written_bytes += bytes.len() as u64;
                assert!(
                    bytes.len() <= 256 * 1024,
                    "a piece of {} bytes",
                    bytes.len()
                );
                assert_eq!((offset % 1024, bytes.len() % 1024), (0, 0), "whole pages");
                self.now.write(*offset, bytes);
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    let at = *offset as usize / SECTOR + index;
                    let content = sector.try_into().unwrap();
                    self.pending.entry(at).or_default().push(content);
                }
            }
            StoreOp::Sync => self.sync(),
            StoreOp::Cut { len } => {
                assert!(self.pending.is_empty(), "cut before all is synced");
                let lost = self.now.len() - len;
                assert!(lost <= 16 << 20, "{lost} bytes at once");
                self.now.cut(*len);
                self.cut_len = Some(*len);
            }
        }
    }

    fn sync(&mut self) {
        for (sector, contents) in std::mem::take(&mut self.pending) {
            self.keep(sector, contents.last().unwrap());
        }
        self.durable_len = self.now.len();
        self.cut_len = None;
    }

    fn keep(&mut self, sector: usize, content: &[u8; SECTOR]) {
        let start = sector * SECTOR;
        if self.durable.len() < start + SECTOR {
            self.durable.resize(start + SECTOR, 0);
        }
        self.durable[start..start + SECTOR].copy_from_slice(content);
    }

    /// What a power cut leaves.
    pub(crate) fn crash(mut self, rng: &mut Rng) -> Disk {
        if let Some(len) = self.cut_len.take()
            && rng.one_in(2)
        {
            self.durable_len = self.durable_len.min(len);
            self.durable.truncate(len as usize);
        }
        let grown = self.now.len().saturating_sub(self.durable_len);
        if grown > 0 {
            self.durable_len += if rng.one_in(2) {
                grown
            } else {
                rng.below(grown)
            };
        }
        // Some crashes lose or keep nearly everything, some mix.
        let mood = rng.below(3);
        for (sector, contents) in std::mem::take(&mut self.pending) {
            let pick = match mood {
                0 if !rng.one_in(20) => 0,
                1 if !rng.one_in(20) => contents.len(),
                _ => rng.below(contents.len() as u64 + 1) as usize,
            };
            if pick > 0 {
                self.keep(sector, &contents[pick - 1]);
            }
        }
        let content = &self.durable[..self.durable.len().min(self.durable_len as usize)];
        Disk::from_bytes(content, self.durable_len)
    }
}
