//! A directory in memory that forgets and fails as a disk does.
//!
//! - A power cut keeps, for each 512-byte sector with unsynced writes, one of the contents it had since the last sync,
//!   the old one included; a file enlarged since its last sync keeps some length between, zeros where nothing came.
//! - Names survive only with a directory sync, else by chance; all operations since the last one, or none.
//! - The end of the process alone loses nothing that was written.
//! - Space can run out, and one write, sync or read can be told to fail.
//!
//! What a real file system would refuse (a write past the claimed space, an unaligned one) ends the run by a panic: it
//! is a bug of the WAL. Tested below, and by the seeds.

mod store;

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::wal::{BLOCK_BYTES, FileNo, IoFault, SegmentName, WalFile, WalOp};

use crate::random::Rng;
pub use store::PAGE_BYTES;
use store::StoreFile;

/// What the hardware writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// errno of a full disk and of a failed one.
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

type Sector = [u8; SECTOR_BYTES];

#[derive(Clone, Debug, Default)]
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
        assert!(end <= self.now.len(), "a write past the claimed space");
        self.now[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let content = sector_of(&self.now, sector);
            self.pending.entry(sector).or_default().push(content);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.pending).into_keys() {
            let start = sector * SECTOR_BYTES;
            let end = self.now.len().min(start + SECTOR_BYTES);
            self.durable[start..end].copy_from_slice(&self.now[start..end]);
        }
    }

    fn lose_power(&mut self, rng: &mut Rng) {
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
            let start = sector * SECTOR_BYTES;
            if pick > 0 && start < self.durable.len() {
                let end = self.durable.len().min(start + SECTOR_BYTES);
                self.durable[start..end].copy_from_slice(&contents[pick - 1][..end - start]);
            }
        }
        self.now = self.durable.clone();
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> Sector {
    let mut content = [0; SECTOR_BYTES];
    let start = sector * SECTOR_BYTES;
    let end = bytes.len().min(start + SECTOR_BYTES);
    content[..end - start].copy_from_slice(&bytes[start..end]);
    content
}

/// Operations that can be told to fail once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    Write,
    Sync,
}

/// The directory; see the module text. `WalIo`s are performed by [`SimDisk::perform`], one at a time.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    files: BTreeMap<u64, SimFile>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    open: BTreeMap<FileNo, u64>,
    /// Claims and allocations fail while this is set.
    pub is_full: bool,
    /// The next operation of this kind fails, after it did some of its work.
    pub fail_next: Option<Fail>,
    /// The next start finds a segment that cannot be read.
    pub fail_read: bool,
    store: StoreFile,
}

impl SimDisk {
    /// Performs one operation.
    ///
    /// # Errors
    /// The fault that was asked for, or a full disk.
    pub fn perform(&mut self, op: &WalOp, rng: &mut Rng) -> Result<(), IoFault> {
        match op {
            WalOp::Claim { file, name, len } => self.claim(*file, *name, *len)?,
            WalOp::Open { file, name } => {
                let inode = self.names[&name.to_string()];
                self.open.insert(*file, inode);
            }
            WalOp::Allocate { file, len } => {
                self.check_space()?;
                let file = self.file(*file);
                assert!(*len as usize > file.now.len(), "nothing to allocate");
                file.now.resize(*len as usize, 0);
            }
            WalOp::Zero { file, offset, len } => {
                assert_aligned(*offset, *len);
                self.file(*file).write(*offset, &vec![0; *len as usize]);
            }
            WalOp::Write {
                file,
                offset,
                blocks,
            } => {
                assert_aligned(*offset, blocks.len() as u64);
                if self.take_fault(Fail::Write) {
                    let half = rng.below(blocks.len() as u64 / 512 + 1) as usize * 512;
                    self.file(*file).write(*offset, &blocks[..half]);
                    return Err(fault(EIO));
                }
                self.file(*file).write(*offset, blocks);
            }
            WalOp::Sync { file } => {
                if self.take_fault(Fail::Sync) {
                    return Err(fault(EIO));
                }
                self.file(*file).sync();
            }
            WalOp::Rename { file, from, to } => {
                let inode = self.names.remove(&from.to_string());
                let inode = inode.expect("the WAL renames only what it claimed");
                assert_eq!(self.open[file], inode);
                let replaced = self.names.insert(to.to_string(), inode);
                assert_eq!(replaced, None, "{to} existed");
            }
            WalOp::SyncDirectory => self.durable_names = self.names.clone(),
            WalOp::Close { file } => drop(self.open.remove(file)),
            WalOp::Discard { file, name } => {
                self.open.remove(file);
                self.names.remove(&name.to_string());
            }
        }
        Ok(())
    }

    /// A sync that the process did not wait for: it may come when the file is closed already.
    pub fn sync_late(&mut self, file: FileNo) {
        if let Some(inode) = self.open.get(&file)
            && let Some(file) = self.files.get_mut(inode)
        {
            file.sync();
        }
    }

    fn claim(&mut self, file: FileNo, name: WalFile, len: u64) -> Result<(), IoFault> {
        self.check_space()?;
        // Emptying a file that is in use would destroy a segment not yet renamed.
        let former = self.names.get(&name.to_string());
        let is_in_use = former.is_some_and(|inode| self.open.values().any(|o| o == inode));
        assert!(!is_in_use, "{name} is in use");
        self.next_inode += 1;
        let mut claimed = SimFile::default();
        claimed.now.resize(len as usize, 0);
        self.files.insert(self.next_inode, claimed);
        self.names.insert(name.to_string(), self.next_inode);
        self.open.insert(file, self.next_inode);
        Ok(())
    }

    fn check_space(&self) -> Result<(), IoFault> {
        match self.is_full {
            true => Err(fault(ENOSPC)),
            false => Ok(()),
        }
    }

    fn take_fault(&mut self, kind: Fail) -> bool {
        self.fail_next.take_if(|fail| *fail == kind).is_some()
    }

    fn file(&mut self, file: FileNo) -> &mut SimFile {
        let inode = self.open[&file];
        self.files.get_mut(&inode).expect("open files exist")
    }

    /// The process ended: what it wrote stays, its files are closed.
    pub fn close_all(&mut self) {
        self.open.clear();
        self.fail_next = None;
        self.store.close();
    }

    /// Leaves what a power cut may leave.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        if rng.one_in(2) {
            self.durable_names = self.names.clone();
        }
        self.names = self.durable_names.clone();
        self.close_all();
        for file in self.files.values_mut() {
            file.lose_power(rng);
        }
        self.store.lose_power(rng);
        let names = &self.names;
        self.files
            .retain(|inode, _| names.values().any(|named| named == inode));
    }

    /// All segments in order, as a start reads them.
    ///
    /// # Errors
    /// A read that was told to fail.
    pub fn read_segments(&mut self) -> Result<Vec<(SegmentName, Bytes)>, IoFault> {
        let segment = |(name, inode): (&String, &u64)| {
            let content = Bytes::copy_from_slice(&self.files[inode].now);
            Some((name.parse().ok()?, content))
        };
        let segments: Vec<_> = self.names.iter().filter_map(segment).collect();
        match std::mem::take(&mut self.fail_read) && !segments.is_empty() {
            true => Err(fault(EIO)),
            false => Ok(segments),
        }
    }
}

fn fault(os_error: i32) -> IoFault {
    IoFault {
        os_error: Some(os_error),
    }
}

fn assert_aligned(offset: u64, len: u64) {
    assert_eq!(offset % BLOCK_BYTES, 0, "offset {offset}");
    assert_eq!(len % BLOCK_BYTES, 0, "length {len}");
    assert!(len > 0, "an empty write");
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileNo = FileNo(1);

    fn claimed(rng: &mut Rng) -> SimDisk {
        let mut disk = SimDisk::default();
        let name = WalFile::Segment(SegmentName {
            sequence: 0,
            first_index: 0,
        });
        let (file, len) = (FILE, 8192);
        let steps = [
            WalOp::Claim { file, name, len },
            WalOp::Sync { file },
            WalOp::SyncDirectory,
        ];
        for op in steps {
            disk.perform(&op, rng).expect("space");
        }
        disk
    }

    fn write(disk: &mut SimDisk, rng: &mut Rng, byte: u8) {
        let blocks = vec![byte; 4096].into();
        let op = WalOp::Write {
            file: FILE,
            offset: 0,
            blocks,
        };
        disk.perform(&op, rng).expect("claimed");
    }

    #[test]
    fn a_power_cut_mixes_old_and_new_sectors_but_keeps_what_was_synced() {
        let mut mixed = 0;
        for seed in 0..50 {
            let mut rng = Rng::new(seed, 0);
            let mut disk = claimed(&mut rng);
            write(&mut disk, &mut rng, 1);
            let sync = WalOp::Sync { file: FILE };
            disk.perform(&sync, &mut rng).expect("healthy");
            write(&mut disk, &mut rng, 2);
            disk.lose_power(&mut rng);
            let segments = disk.read_segments().expect("readable");
            let content = &segments[0].1[..4096];
            assert!(content.iter().all(|b| [1, 2].contains(b)));
            assert!(content.chunks(512).all(|s| s.iter().all(|b| *b == s[0])));
            mixed += u32::from(content.contains(&1) && content.contains(&2));
        }
        assert!(mixed > 30, "{mixed} of 50 tore");
    }

    #[test]
    fn the_end_of_the_process_loses_nothing() {
        let mut rng = Rng::new(1, 0);
        let mut disk = claimed(&mut rng);
        write(&mut disk, &mut rng, 7);
        disk.close_all();
        let segments = disk.read_segments().expect("readable");
        assert!(segments[0].1[..4096].iter().all(|b| *b == 7));
    }

    #[test]
    fn faults_come_once_and_when_asked_for() {
        let mut rng = Rng::new(1, 0);
        let mut disk = claimed(&mut rng);
        let sync = WalOp::Sync { file: FILE };
        disk.fail_next = Some(Fail::Sync);
        write(&mut disk, &mut rng, 7);
        assert_eq!(disk.perform(&sync, &mut rng), Err(fault(EIO)));
        assert_eq!(disk.perform(&sync, &mut rng), Ok(()));
        disk.is_full = true;
        let op = WalOp::Allocate {
            file: FILE,
            len: 16384,
        };
        assert_eq!(disk.perform(&op, &mut rng), Err(fault(ENOSPC)));
        disk.fail_read = true;
        assert!(disk.read_segments().is_err() && disk.read_segments().is_ok());
    }
}
