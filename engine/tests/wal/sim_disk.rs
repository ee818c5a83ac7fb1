//! A directory in memory that forgets as a disk does.
//!
//! A crash keeps, for each 512-byte sector with unsynced writes, one of the contents it had since
//! the last sync (the old one included), drawn from a seed; a file enlarged since its last sync
//! keeps some length between. Renames survive only with a directory sync, else by chance, and a
//! renamed file whose own bytes were not synced has no special luck.

use bytes::Bytes;
use engine::wal::{BLOCK_BYTES, FileNo, IoFault, Recovery, SegmentName, WalFile, WalIo, WalOp};
use std::collections::BTreeMap;

use engine::random::SplitMix64 as Rng;

const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

#[derive(Debug, Default, Clone)]
struct SimFile {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Contents since the last sync of each sector written since, oldest first.
    pending: BTreeMap<usize, Vec<Sector>>,
}

impl SimFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let offset = offset as usize;
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let content = sector_of(&self.now, sector);
            self.pending.entry(sector).or_default().push(content);
        }
    }

    fn sync(&mut self) {
        self.durable = self.now.clone();
        self.pending.clear();
    }

    fn crash(&mut self, rng: &mut Rng) {
        let grown = (self.now.len() - self.durable.len()) as u64;
        if grown > 0 {
            let kept = if rng.one_in(2) {
                grown
            } else {
                rng.below(grown)
            };
            self.durable.resize(self.durable.len() + kept as usize, 0);
        }
        for (sector, contents) in std::mem::take(&mut self.pending) {
            let pick = rng.below(contents.len() as u64 + 1) as usize;
            let start = sector * SECTOR;
            if pick > 0 && start < self.durable.len() {
                let end = self.durable.len().min(start + SECTOR);
                self.durable[start..end].copy_from_slice(&contents[pick - 1][..end - start]);
            }
        }
        self.now = self.durable.clone();
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> Sector {
    let mut content = [0; SECTOR];
    let start = sector * SECTOR;
    let end = bytes.len().min(start + SECTOR);
    content[..end - start].copy_from_slice(&bytes[start..end]);
    content
}

#[derive(Debug, Default)]
pub(crate) struct SimDisk {
    files: BTreeMap<u64, SimFile>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    open: BTreeMap<FileNo, u64>,
    /// Claims and allocations fail while this is set.
    pub(crate) is_full: bool,
}

impl SimDisk {
    /// Performs one operation as a shell does, refusing whatever a real one could not do.
    pub(crate) fn perform(&mut self, io: &WalIo) -> Result<(), IoFault> {
        match &io.op {
            WalOp::Claim { file, name, len } => {
                self.claim_space()?;
                // Emptying a file that is in use would destroy a segment not yet renamed.
                let former = self.names.get(&name.to_string());
                let is_in_use = former.is_some_and(|inode| self.open.values().any(|o| o == inode));
                assert!(!is_in_use, "{name} is in use");
                self.next_inode += 1;
                let mut claimed = SimFile::default();
                claimed.now.resize(*len as usize, 0);
                self.files.insert(self.next_inode, claimed);
                self.names.insert(name.to_string(), self.next_inode);
                self.open.insert(*file, self.next_inode);
            }
            WalOp::Open { file, name } => {
                let inode = self.names[&name.to_string()];
                self.open.insert(*file, inode);
            }
            WalOp::Allocate { file, len } => {
                self.claim_space()?;
                let file = self.file(*file);
                assert!(*len as usize > file.now.len(), "nothing to allocate");
                file.now.resize(*len as usize, 0);
            }
            WalOp::Zero { file, offset, len } => {
                assert_aligned(*offset, *len);
                let zeros = vec![0; *len as usize];
                self.file(*file).write(*offset, &zeros);
            }
            WalOp::Write {
                file,
                offset,
                blocks,
            } => {
                assert_aligned(*offset, blocks.len() as u64);
                let file = self.file(*file);
                let end = *offset as usize + blocks.len();
                assert!(end <= file.now.len(), "a write past the claimed space");
                file.write(*offset, blocks);
            }
            WalOp::Sync { file } => self.file(*file).sync(),
            WalOp::Rename { file, from, to } => {
                let inode = self.names.remove(&from.to_string()).unwrap();
                assert_eq!(self.open[file], inode);
                let replaced = self.names.insert(to.to_string(), inode);
                assert_eq!(replaced, None, "{to} existed");
            }
            WalOp::SyncDirectory => self.durable_names = self.names.clone(),
            WalOp::Close { file } => {
                self.open.remove(file).unwrap();
            }
            WalOp::Discard { file, name } => {
                self.open.remove(file);
                self.names.remove(&name.to_string());
            }
        }
        Ok(())
    }

    fn claim_space(&self) -> Result<(), IoFault> {
        match self.is_full {
            true => Err(IoFault { os_error: Some(28) }),
            false => Ok(()),
        }
    }

    fn file(&mut self, file: FileNo) -> &mut SimFile {
        self.files.get_mut(&self.open[&file]).unwrap()
    }

    /// The program ended: what it wrote stays, its files are closed.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    /// Leaves what a power cut may leave.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        // A journal keeps the directory's operations in order: all since the last sync, or none.
        if rng.one_in(2) {
            self.durable_names = self.names.clone();
        }
        self.names = self.durable_names.clone();
        self.open.clear();
        for file in self.files.values_mut() {
            file.crash(rng);
        }
        let names = &self.names;
        self.files
            .retain(|inode, _| names.values().any(|named| named == inode));
    }

    pub(crate) fn segments(&self) -> Vec<(SegmentName, Bytes)> {
        let segment = |(name, inode): (&String, &u64)| {
            let content = Bytes::copy_from_slice(&self.files[inode].now);
            Some((name.parse().ok()?, content))
        };
        self.names.iter().filter_map(segment).collect()
    }

    pub(crate) fn recovery(&self) -> Recovery {
        let mut recovery = Recovery::new();
        for (name, content) in self.segments() {
            recovery.on_segment(name, content).unwrap();
        }
        recovery
    }

    /// Puts a segment on the disk as some other program left it.
    pub(crate) fn insert(&mut self, name: SegmentName, content: &[u8]) {
        self.next_inode += 1;
        let mut file = SimFile::default();
        file.write(0, content);
        file.sync();
        self.files.insert(self.next_inode, file);
        let name = WalFile::Segment(name).to_string();
        self.names.insert(name, self.next_inode);
        self.durable_names = self.names.clone();
    }
}

fn assert_aligned(offset: u64, len: u64) {
    assert_eq!(offset % BLOCK_BYTES, 0, "offset {offset}");
    assert_eq!(len % BLOCK_BYTES, 0, "length {len}");
    assert!(len > 0, "an empty write");
}
