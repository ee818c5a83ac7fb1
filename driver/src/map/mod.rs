//! A file that any thread reads in place: mapped, read-only, shared.
//!
//! ```text
//! addresses   |<------------- reserved, never moved ------------->|
//! file        |<--- claimed --->|
//! bytes()     |<-- told len -->|      past it: None, never a fault
//! ```
//!
//! The file grows by far less than what is reserved, so that growth never maps anew and no slice ever dangles. Reserved
//! addresses cost no memory; what is read counts as file pages, which the kernel takes back when it needs to.
//!
//! Invariants:
//! - [`MappedFile::bytes`] ends at the length that was last told ([`MappedFile::set_len`]); whoever tells it has made
//!   the file that long before. Behind the file's end there are addresses without a page, and reading there would end
//!   the process.
//! - **What is borrowed does not change.** The file is written through its descriptor, and the kernel shows that in the
//!   map at once. So whoever writes promises not to touch what somebody may still look at: `engine::store` writes only to
//!   pages that no committed tree reaches and no pin can, meta pages are read by the writer alone, and a file is cut only
//!   above everything that is pinned. The lock on the file keeps other programs out.
//! - A page that the disk cannot give ends the process with the name of the file and the place in it (`bus_error`).
//!
//! Reading a page that is not in memory stops the thread until the disk has brought it: some 100 us. Who walks far asks
//! ahead ([`MappedFile::is_loaded`], [`MappedFile::load_all`]).
//!
//! [`MemoryFile`] is the same over memory, without an executor: for the simulator and for tests.

mod bus_error;
mod memory_file;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

pub use memory_file::MemoryFile;

use crate::blocking;

/// Least that is reserved for a file: far more than etcd recommends for a database (8 GiB).
const RESERVED_SIZE_BYTES_MIN: u64 = 64 << 30;
/// How many times its present length a file may grow to.
const RESERVED_FACTOR: u64 = 8;

/// The kernel's pages on x86-64.
const PAGE_LEN: usize = 4096;
/// What one look at the kernel's table covers.
const LOOK_LEN: usize = 64 * PAGE_LEN;
/// The kernel begins to read no more than this for one request of advice, and forgets the rest.
const ASKED_LEN: usize = 128 << 10;
/// What [`MappedFile::load_all`] has in the disk's queue at most: a fraction of a millisecond of a disk's time.
const BATCH_LEN: u64 = 512 << 10;

/// A mapped file. The map lives as long as this value; the file may be closed or renamed meanwhile.
pub struct MappedFile {
    // Dropped before the map: an address means this file only while it is mapped.
    _watch: bus_error::Watch,
    map: MmapRaw,
    /// Bytes that may be read. At most the file's length and `map.len()`.
    len: AtomicU64,
    path: PathBuf,
}

impl MappedFile {
    /// Maps `file` as long as it is now, with room to grow. `path` is what messages call it.
    ///
    /// Where addresses are scarce (`ulimit -v`), less room is reserved: see [`MappedFile::len_max`].
    ///
    /// # Errors
    /// What the kernel says, if it does not even map what is there.
    pub fn new(file: impl AsFd, path: impl Into<PathBuf>) -> io::Result<Self> {
        let len = file_len(file.as_fd())?;
        let wanted = len
            .saturating_mul(RESERVED_FACTOR)
            .max(RESERVED_SIZE_BYTES_MIN);
        Self::with_reserve(file, path, wanted)
    }

    /// The same with room for `reserve` bytes, or for as many as can be had.
    ///
    /// # Errors
    /// As of [`MappedFile::new`].
    pub fn with_reserve(
        file: impl AsFd,
        path: impl Into<PathBuf>,
        reserve: u64,
    ) -> io::Result<Self> {
        let len = file_len(file.as_fd())?;
        let map = map(file.as_fd(), len, reserve)?;
        // A tree is read here and there. What walks in order asks ahead by itself. Without this: slower, not wrong.
        let _ = map.advise(Advice::Random);
        let path = path.into();
        Ok(Self {
            _watch: bus_error::Watch::new(&map, &path)?,
            map,
            len: AtomicU64::new(len),
            path,
        })
    }

    /// The bytes of `offset..offset + len`; `None` if that ends behind what was told of the file.
    ///
    /// May wait for the disk when they are read.
    #[allow(unsafe_code)]
    pub fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64)?;
        if end > self.len() {
            return None;
        }
        let offset = usize::try_from(offset).ok()?;
        // SAFETY: `offset + len` is at most `self.len`, which is at most the length of the map (`set_len`), so the range
        // lies in one mapping, which lives as long as `self` and so as the slice. Its pages are readable as long as the
        // file is not shorter than was told: if it is, or the disk fails, the process ends (`bus_error`), and no code
        // sees other bytes. Nobody writes to the range while it is borrowed: that is what the writer of the file
        // promises (see the module's text), for as long as a reader pins what led it here.
        Some(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(offset), len) })
    }

    /// Bytes that may be read.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length up to which the file can grow under this map.
    pub fn len_max(&self) -> u64 {
        self.map.len() as u64
    }

    /// Tells how long the file is now: after it was enlarged, before it is cut.
    ///
    /// # Errors
    /// `OutOfMemory` if no addresses are reserved for that; the length stays.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.len_max() {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the address space reserved for the file is used up; lift the limit of virtual memory and start again",
            ));
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Has the kernel begin to read what of `offset..offset + len` is not in memory. Does not wait for it, except for
    /// room in the disk's queue.
    pub fn prefetch(&self, offset: u64, len: u64) {
        let Some((offset, len)) = self.clamp(offset, len) else {
            return;
        };
        let end = offset + len;
        for at in (offset..end).step_by(ASKED_LEN) {
            // Advice: if it fails, whoever reads will wait.
            let _ = self
                .map
                .advise_range(Advice::WillNeed, at, ASKED_LEN.min(end - at));
        }
    }

    /// Brings `offset..offset + len` into memory, as far as the file goes: on a helper thread, until it is there.
    ///
    /// # Errors
    /// The disk could not give it, which is known here without ending the process.
    pub async fn load(self: &Arc<Self>, offset: u64, len: u64) -> io::Result<()> {
        self.load_all(vec![(offset, len)]).await
    }

    /// The same for several parts. They are asked for together, but for [`BATCH_LEN`] at a time: others wait for the same
    /// disk.
    ///
    /// # Errors
    /// As of [`MappedFile::load`], after all were tried.
    pub async fn load_all(self: &Arc<Self>, parts: Vec<(u64, u64)>) -> io::Result<()> {
        let this = Arc::clone(self);
        blocking(move || {
            let parts = parts
                .iter()
                .filter_map(|&(offset, len)| this.clamp(offset, len))
                .map(|(offset, len)| (offset as u64, len as u64));
            let batches = batches(parts);
            let loads = batches.iter().map(|batch| this.load_batch(batch));
            loads.fold(Ok(()), Result::and)
        })
        .await
    }

    fn load_batch(&self, parts: &[(u64, u64)]) -> io::Result<()> {
        for &(offset, len) in parts {
            self.prefetch(offset, len);
        }
        let loads = parts
            .iter()
            .map(|&(offset, len)| self.populate(offset, len));
        loads.fold(Ok(()), Result::and)
    }

    /// Waits until the range is in memory.
    fn populate(&self, offset: u64, len: u64) -> io::Result<()> {
        let Some((offset, len)) = self.clamp(offset, len) else {
            return Ok(());
        };
        match self.map.advise_range(Advice::PopulateRead, offset, len) {
            // Since 5.14; before that the best is to ask.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            loaded => loaded,
        }
    }

    /// Whether reading `offset..offset + len` waits for no disk. What the kernel cannot say, or takes away a moment later,
    /// counts as there.
    ///
    /// Costs a system call for each [`LOOK_LEN`] bytes.
    #[allow(unsafe_code)]
    pub fn is_loaded(&self, offset: u64, len: u64) -> bool {
        let Some((offset, len)) = self.clamp(offset, len) else {
            return true;
        };
        let start = offset / PAGE_LEN * PAGE_LEN;
        let end = offset + len;
        (start..end).step_by(LOOK_LEN).all(|at| {
            let len = LOOK_LEN.min(end - at);
            let mut pages = [0u8; LOOK_LEN / PAGE_LEN];
            // SAFETY: `at` is a multiple of the page's length, and `at + len` at most `self.len`, so the range lies in the map.
            // The kernel writes one octet for each page of it that was begun, of which `pages` has room for all.
            let failed = unsafe {
                let start = self.map.as_mut_ptr().add(at);
                libc::mincore(start.cast(), len, pages.as_mut_ptr())
            };
            failed != 0
                || pages[..len.div_ceil(PAGE_LEN)]
                    .iter()
                    .all(|page| page & 1 != 0)
        })
    }

    /// What messages call the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The part of a range that may be read, if any.
    fn clamp(&self, offset: u64, len: u64) -> Option<(usize, usize)> {
        let end = offset.saturating_add(len).min(self.len());
        let len = end.checked_sub(offset).filter(|&len| len > 0)?;
        Some((usize::try_from(offset).ok()?, usize::try_from(len).ok()?))
    }
}

impl std::fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "MappedFile({}, {} bytes)",
            self.path.display(),
            self.len()
        )
    }
}

/// The parts in order, cut at [`BATCH_LEN`], as far as such cuts let them be asked for together.
fn batches(parts: impl Iterator<Item = (u64, u64)>) -> Vec<Vec<(u64, u64)>> {
    let mut batches = vec![Vec::new()];
    let mut room = BATCH_LEN;
    for (mut offset, mut len) in parts {
        while len > 0 {
            if room == 0 {
                batches.push(Vec::new());
                room = BATCH_LEN;
            }
            let piece = len.min(room);
            if let Some(batch) = batches.last_mut() {
                batch.push((offset, piece));
            }
            (offset, len, room) = (offset + piece, len - piece, room - piece);
        }
    }
    batches
}

fn file_len(file: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = rustix::fs::fstat(file)?;
    u64::try_from(stat.st_size).map_err(io::Error::other)
}

/// Maps `reserve` bytes, or half as many until the kernel agrees, but not less than the file has.
fn map(file: BorrowedFd<'_>, len: u64, reserve: u64) -> io::Result<MmapRaw> {
    let mut size = reserve.max(len).max(1);
    loop {
        let wanted = usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory));
        let mapped = wanted.and_then(|wanted| {
            MmapOptions::new()
                .len(wanted)
                .map_raw_read_only(file.as_raw_fd())
        });
        match mapped {
            Err(_) if size / 2 >= len.max(1) => size /= 2,
            Err(_) if size > len.max(1) => size = len.max(1),
            mapped => return mapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::{ExecutorConfig, run};

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf, std::fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, bytes).unwrap();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        (dir, path, file)
    }

    #[test]
    fn batches_hold_all_parts_and_no_more_than_their_length() {
        let parts = [
            (0, 4096),
            (8192, BATCH_LEN),
            (BATCH_LEN * 4, 0),
            (BATCH_LEN * 5, 3 * BATCH_LEN + 1),
        ];
        let batches = batches(parts.into_iter());
        let lens = batches
            .iter()
            .map(|batch| batch.iter().map(|part| part.1).sum::<u64>());
        let lens: Vec<u64> = lens.collect();
        assert_eq!(lens, [BATCH_LEN, BATCH_LEN, BATCH_LEN, BATCH_LEN, 4097]);
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (offset, len) in batches.into_iter().flatten() {
            match joined.last_mut() {
                Some(last) if last.0 + last.1 == offset => last.1 += len,
                _ => joined.push((offset, len)),
            }
        }
        assert_eq!(joined, [parts[0], parts[1], parts[3]]);
    }

    #[test]
    fn nothing_is_read_past_the_told_length() {
        let (_dir, path, file) = file_of(&[7; 10_000]);
        let map = MappedFile::new(&file, &path).unwrap();
        assert_eq!(map.bytes(0, 10_000), Some(&[7; 10_000][..]));
        assert_eq!(map.bytes(9_999, 1), Some(&[7][..]));
        assert_eq!(map.bytes(10_000, 0), Some(&[][..]));
        for (offset, len) in [
            (10_000, 1),
            (9_999, 2),
            (10_001, 0),
            (u64::MAX, 1),
            (u64::MAX, 0),
            (0, usize::MAX),
            (1, usize::MAX),
            (u64::MAX - 5, usize::MAX),
        ] {
            assert_eq!(map.bytes(offset, len), None, "{offset} {len}");
        }
    }

    #[test]
    fn growth_shows_in_place_and_old_slices_stay() {
        let (_dir, path, file) = file_of(&[1; 4096]);
        let map = MappedFile::new(&file, &path).unwrap();
        let old = map.bytes(0, 4096).unwrap();
        let address = old.as_ptr();
        for round in 1..200_u64 {
            let end = 4096 + round * 65_536;
            file.set_len(end).unwrap();
            file.write_all_at(&[round as u8; 4096], end - 4096).unwrap();
            assert_eq!(map.bytes(end - 4096, 4096), None);
            map.set_len(end).unwrap();
            assert_eq!(map.bytes(end - 4096, 4096), Some(&[round as u8; 4096][..]));
        }
        assert_eq!(old, [1; 4096]);
        assert_eq!(map.bytes(0, 1).unwrap().as_ptr(), address);
        map.set_len(4096).unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(map.bytes(4096, 1), None);
    }

    #[test]
    fn an_empty_file_grows_too_and_the_reserve_is_a_bound() {
        let (_dir, path, file) = file_of(&[]);
        let map = MappedFile::with_reserve(&file, &path, 8192).unwrap();
        assert!(map.is_empty() && map.bytes(0, 0).is_some() && map.bytes(0, 1).is_none());
        file.set_len(100_000).unwrap();
        map.set_len(8192).unwrap();
        assert_eq!(map.bytes(0, 8192), Some(&[0; 8192][..]));
        let error = map.set_len(8193).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(map.len(), 8192);
    }

    #[test]
    fn less_is_reserved_where_more_cannot_be_had() {
        let (_dir, path, file) = file_of(&[3; 5000]);
        // More than there are addresses.
        let map = MappedFile::with_reserve(&file, &path, 1 << 50).unwrap();
        assert!(
            map.len_max() >= RESERVED_SIZE_BYTES_MIN,
            "{}",
            map.len_max()
        );
        assert_eq!(map.bytes(4999, 1), Some(&[3][..]));
    }

    #[test]
    fn ranges_are_asked_for_ahead() {
        let (_dir, path, file) = file_of(&vec![5; 1 << 20]);
        run(ExecutorConfig::new("t"), || async {
            let map = Arc::new(MappedFile::new(&file, &path).unwrap());
            for (offset, len) in [
                (0, 1),
                (5000, 1 << 19),
                (0, u64::MAX),
                (1 << 20, 1),
                (u64::MAX, u64::MAX),
            ] {
                map.prefetch(offset, len);
                map.load(offset, len).await.unwrap();
                assert!(map.is_loaded(offset, len), "{offset} {len}");
            }
            assert_eq!(map.bytes(0, 1 << 20).unwrap(), vec![5; 1 << 20]);
            // The file is shorter than was told: an error here, where a read would end the process.
            file.set_len(4096).unwrap();
            map.load(0, 1 << 20).await.unwrap_err();
        })
        .unwrap();
    }

    #[test]
    fn readers_on_other_threads_see_what_was_told() {
        let (_dir, path, file) = file_of(&[0; 4096]);
        let map = Arc::new(MappedFile::new(&file, &path).unwrap());
        let pages = 500_u64;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let map = Arc::clone(&map);
                scope.spawn(move || {
                    while map.len() < pages * 4096 {
                        let last = map.len() / 4096 - 1;
                        let page = map.bytes(last * 4096, 4096).unwrap();
                        assert_eq!(page, [last as u8; 4096]);
                    }
                });
            }
            for page in 1..pages {
                file.set_len((page + 1) * 4096).unwrap();
                file.write_all_at(&[page as u8; 4096], page * 4096).unwrap();
                map.set_len((page + 1) * 4096).unwrap();
            }
        });
    }
}
