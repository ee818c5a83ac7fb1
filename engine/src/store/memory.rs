//! A file in memory behind [`Pages`], for tests and the simulator.
//!
//! Readers hold plain slices of it while the writer goes on, so nothing that was ever written is changed or dropped
//! before the file is: a write adds a *version* to the chain of each block that it covers. That takes the memory of all
//! writes together, which tests can afford, and no unsafe code.
//!
//! ```text
//!   block 7   write 3: bytes of blocks 7 8 9  ->  write 8: bytes of block 7
//!   block 8   write 3: bytes of blocks 8 9
//! ```
//! A read of blocks 7 and 8 then finds that block 8 is not in what write 8 wrote: it puts both together as one more
//! version. So the slice that a reader gets is always of one piece.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};

use super::Pages;

const BLOCK: usize = 1024;
/// Blocks for which room is made together.
const SHELF: usize = 1024;
/// The largest file: 1 GiB.
const SHELVES: usize = 1024;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What a block and those behind it held from some write on.
#[derive(Debug)]
struct Version {
    /// Number of the write.
    write: u64,
    /// From the block's beginning on, whole blocks.
    bytes: Bytes,
    newer: OnceLock<Box<Version>>,
}

#[derive(Debug, Default)]
struct Block {
    first: OnceLock<Box<Version>>,
}

impl Block {
    fn newest(&self) -> Option<&Version> {
        let mut version = self.first.get()?;
        while let Some(newer) = version.newer.get() {
            version = newer;
        }
        Some(version)
    }

    fn add(&self, write: u64, bytes: Bytes) -> &Version {
        let slot = match self.newest() {
            Some(version) => &version.newer,
            None => &self.first,
        };
        let newer = OnceLock::new();
        slot.get_or_init(|| {
            Box::new(Version {
                write,
                bytes,
                newer,
            })
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct MemoryPages {
    shelves: Box<[OnceLock<Box<[Block]>>]>,
    len: AtomicU64,
    /// The next write's number. Held while a version is added.
    writes: Mutex<u64>,
}

impl Default for MemoryPages {
    fn default() -> Self {
        MemoryPages {
            shelves: std::iter::repeat_with(OnceLock::new)
                .take(SHELVES)
                .collect(),
            len: AtomicU64::new(0),
            writes: Mutex::new(1),
        }
    }
}

impl MemoryPages {
    /// A file with this content.
    pub fn from_bytes(content: &[u8]) -> Self {
        let file = MemoryPages::default();
        file.grow(content.len() as u64);
        file.write(0, content);
        file
    }

    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enlarges the file by zeros. Panics past 1 GiB.
    pub fn grow(&self, len: u64) {
        assert!(len <= (SHELVES * SHELF * BLOCK) as u64, "{len} bytes");
        self.len.fetch_max(len, Ordering::AcqRel);
    }

    /// Makes the file shorter. Should it grow again, zeros are there.
    pub fn cut(&self, len: u64) {
        let cut_len = self.len().saturating_sub(len);
        if cut_len > 0 {
            self.write(len, &vec![0; cut_len as usize]);
            self.len.store(len, Ordering::Release);
        }
    }

    /// Overwrites within the file.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.len(), "a write up to {end} of {}", self.len());
        let mut writes = self.lock();
        let (first, within) = place_of(offset);
        let limit = (end as usize).div_ceil(BLOCK);
        let mut content = BytesMut::with_capacity((limit - first) * BLOCK);
        // The ends of the first and the last block that stay.
        for block in first..limit {
            content.extend_from_slice(self.newest_block(block));
        }
        content[within..within + bytes.len()].copy_from_slice(bytes);
        let content = content.freeze();
        for block in first..limit {
            let from_here = content.slice((block - first) * BLOCK..);
            self.block(block).add(*writes, from_here);
        }
        *writes += 1;
    }

    /// All that was written, without the zeros behind it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let blocks: BTreeMap<usize, &[u8]> = (0..(self.len() as usize).div_ceil(BLOCK))
            .filter(|block| self.shelves[block / SHELF].get().is_some())
            .filter_map(|block| Some((block, self.block(block).newest()?)))
            .map(|(block, version)| (block, &version.bytes[..BLOCK]))
            .collect();
        for (block, bytes) in blocks {
            content.resize(block * BLOCK, 0);
            content.extend_from_slice(bytes);
        }
        content
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block(&self, block: usize) -> &Block {
        let shelf = self.shelves[block / SHELF]
            .get_or_init(|| std::iter::repeat_with(Block::default).take(SHELF).collect());
        &shelf[block % SHELF]
    }

    fn newest_block(&self, block: usize) -> &[u8] {
        self.block(block)
            .newest()
            .map_or(&ZEROS, |version| &version.bytes[..BLOCK])
    }

    /// Puts blocks together into a version of the first one.
    fn assemble(&self, first: usize, limit: usize) -> &Version {
        let mut writes = self.lock();
        let mut content = BytesMut::with_capacity((limit - first) * BLOCK);
        for block in first..limit {
            content.extend_from_slice(self.newest_block(block));
        }
        let version = self.block(first).add(*writes, content.freeze());
        *writes += 1;
        version
    }

    fn is_current(&self, version: &Version, first: usize, limit: usize) -> bool {
        version.bytes.len() >= (limit - first) * BLOCK
            && (first + 1..limit).all(|block| {
                self.block(block)
                    .newest()
                    .is_none_or(|other| other.write <= version.write)
            })
    }
}

fn place_of(offset: u64) -> (usize, usize) {
    let offset = offset as usize;
    (offset / BLOCK, offset % BLOCK)
}

impl Pages for MemoryPages {
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64)?;
        if end > self.len() {
            return None;
        }
        let (first, within) = place_of(offset);
        let limit = (end as usize).div_ceil(BLOCK).max(first + 1);
        let version = match self.block(first).newest() {
            Some(version) if self.is_current(version, first, limit) => version,
            _ => self.assemble(first, limit),
        };
        version.bytes.get(within..within + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_of_one_piece_and_stay() {
        let file = MemoryPages::default();
        assert_eq!(file.bytes(0, 1), None);
        file.grow(10 * BLOCK as u64);
        assert_eq!(file.bytes(BLOCK as u64 - 1, 2), Some(&[0, 0][..]));
        file.write(100, &[1; 3 * BLOCK]);
        let before = file.bytes(0, 4 * BLOCK).expect("inside");
        file.write(2 * BLOCK as u64, &[2; 10]);
        let after = file.bytes(0, 4 * BLOCK).expect("inside");
        assert_eq!(before[2 * BLOCK], 1);
        assert_eq!(
            (after[2 * BLOCK], after[2 * BLOCK + 10], after[0]),
            (2, 1, 0)
        );
        assert_eq!(file.bytes(0, 10 * BLOCK).map(<[u8]>::len), Some(10 * BLOCK));
        assert_eq!(file.bytes(1, 10 * BLOCK), None);
        assert_eq!(file.bytes(u64::MAX, 10), None);
        assert_eq!(file.to_bytes()[..100 + 3 * BLOCK].len(), 100 + 3 * BLOCK);
    }
}
