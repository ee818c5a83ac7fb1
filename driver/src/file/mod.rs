//! Files on the ring.
//!
//! [`Caching::Direct`] passes the page cache by (O_DIRECT): the way for the log, whose writes are rewritten
//! whole blocks of claimed space. A write is durable only after [`File::datasync`]; write and sync are two
//! operations on purpose, since a single synchronous write waits milliseconds behind a busy core.
//!
//! Where a file system or its device cannot do direct I/O, a direct file is buffered; nothing else changes.
//! Renaming, locking and directories are in `fs` and `lock`; what those need of an open file is here.

mod aligned;
mod direct;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use glommio::GlommioError;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use rustix::fs::FallocateFlags;

pub use aligned::{AlignedBuf, BLOCK_SIZE_BYTES};

use crate::faults::{Op, inject, inject_write};
use crate::lock::{LockError, try_lock};
use crate::{blocking, sys};

/// New files are for their owner only.
const FILE_MODE: libc::mode_t = 0o600;

/// Whether the page cache stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// O_DIRECT where it works.
    Direct,
    Buffered,
}

/// What claiming space does to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// The file grows to cover the range.
    Grow,
    /// The length stays; space behind the end is claimed too.
    KeepSize,
    /// As `Grow`, and the range reads as zeros afterwards, without writing them.
    Zero,
}

/// An open file of this executor. [`close`](File::close) reports errors; a dropped file is closed as well.
#[derive(Debug)]
pub struct File {
    inner: Inner,
    /// Where it was opened or renamed to; for errors and faults.
    path: RefCell<PathBuf>,
}

#[derive(Debug)]
enum Inner {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        match &self.inner {
            Inner::Direct(file) => file.as_raw_fd(),
            Inner::Buffered(file) => file.as_raw_fd(),
        }
    }
}

impl File {
    /// Creates `path` with mode 0600, or empties it, for reading and writing.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn create(path: impl AsRef<Path>, caching: Caching) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true);
        Self::open_with(path.as_ref(), caching, options).await
    }

    /// Opens `path` for reading and writing.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn open(path: impl AsRef<Path>, caching: Caching) -> io::Result<Self> {
        Self::open_with(path.as_ref(), caching, OpenOptions::new()).await
    }

    async fn open_with(
        path: &Path,
        caching: Caching,
        mut options: OpenOptions,
    ) -> io::Result<Self> {
        inject(Op::Open, path).await?;
        options.read(true).write(true).mode(FILE_MODE);
        let inner = if caching == Caching::Direct && direct::is_supported(path).await? {
            Inner::Direct(options.dma_open(path).await.map_err(io_error)?)
        } else {
            Inner::Buffered(options.buffered_open(path).await.map_err(io_error)?)
        };
        Ok(Self {
            inner,
            path: RefCell::new(path.to_owned()),
        })
    }

    /// Whether the page cache is really passed by.
    pub fn is_direct(&self) -> bool {
        matches!(self.inner, Inner::Direct(_))
    }

    pub fn path(&self) -> PathBuf {
        self.path.borrow().clone()
    }

    /// Writes all of `buf` at `offset`, a multiple of [`BLOCK_SIZE_BYTES`].
    ///
    /// # Errors
    /// What the kernel says; the file then holds any mixture of old and new bytes in that range.
    pub async fn write_at(&self, buf: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        (self.write_whole(&buf, offset).await, buf)
    }

    async fn write_whole(&self, buf: &AlignedBuf, offset: u64) -> io::Result<()> {
        if !offset.is_multiple_of(BLOCK_SIZE_BYTES as u64) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = self.path();
        if let Some(torn_len) = inject_write(&path).await? {
            let head = AlignedBuf::copy_of(&buf.as_slice()[..torn_len.min(buf.len())]);
            self.write_once(&head, offset).await?;
            return Err(io::ErrorKind::WriteZero.into());
        }
        // A regular file takes less than asked for only for want of space or after a signal. The same bytes
        // at the same place do no harm, so one more try tells the two apart.
        for _ in 0..2 {
            if self.write_once(buf, offset).await? == buf.len() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::WriteZero.into())
    }

    async fn write_once(&self, buf: &AlignedBuf, offset: u64) -> io::Result<usize> {
        let Some(memory) = buf.share() else {
            return Ok(0);
        };
        let written = match &self.inner {
            Inner::Direct(file) => file.write_rc_at(memory, offset).await,
            Inner::Buffered(file) => file.write_at(memory.as_bytes().to_vec(), offset).await,
        };
        written.map_err(io_error)
    }

    /// Fills `buf` from `offset`, a multiple of [`BLOCK_SIZE_BYTES`], and tells how many bytes were there:
    /// fewer than asked for only at the end of the file.
    ///
    /// # Errors
    /// What the kernel says; `buf` then holds anything.
    pub async fn read_at(
        &self,
        mut buf: AlignedBuf,
        offset: u64,
    ) -> (io::Result<usize>, AlignedBuf) {
        let result = self.read_whole(&mut buf, offset).await;
        (result, buf)
    }

    async fn read_whole(&self, buf: &mut AlignedBuf, offset: u64) -> io::Result<usize> {
        if !offset.is_multiple_of(BLOCK_SIZE_BYTES as u64) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = self.path();
        let limit = inject(Op::Read, &path).await?.unwrap_or(usize::MAX);
        if buf.is_empty() {
            return Ok(0);
        }
        let read = match &self.inner {
            Inner::Direct(file) => file.read_at_aligned(offset, buf.len()).await,
            Inner::Buffered(file) => file.read_at(offset, buf.len()).await,
        };
        let read = read.map_err(io_error)?;
        let len = read.len().min(buf.len()).min(limit);
        buf.as_mut_slice()[..len].copy_from_slice(&read[..len]);
        Ok(len)
    }

    /// Waits until all that was written, and the length, is on the disk.
    ///
    /// # Errors
    /// What the kernel says. It may have dropped the data then, so a second try proves nothing.
    pub async fn datasync(&self) -> io::Result<()> {
        let path = self.path();
        inject(Op::Sync, &path).await?;
        let synced = match &self.inner {
            Inner::Direct(file) => file.fdatasync().await,
            Inner::Buffered(file) => file.fdatasync().await,
        };
        synced.map_err(io_error)
    }

    /// Claims space for `offset..offset + len`, so that writing there cannot run out of it.
    ///
    /// # Errors
    /// What the kernel says, above all `StorageFull` and `QuotaExceeded`; `Unsupported` where the file
    /// system cannot claim space, and then only writing does.
    pub async fn allocate(&self, offset: u64, len: u64, mode: Allocate) -> io::Result<()> {
        let path = self.path();
        inject(Op::Allocate, &path).await?;
        let flags = match mode {
            Allocate::Grow => FallocateFlags::empty(),
            Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
            Allocate::Zero => FallocateFlags::ZERO_RANGE,
        };
        let fd = self.share_fd()?;
        blocking(move || rustix::fs::fallocate(&fd, flags, offset, len))
            .await
            .map_err(Into::into)
    }

    /// Cuts the file or extends it by a hole.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let path = self.path();
        inject(Op::Truncate, &path).await?;
        let fd = self.share_fd()?;
        blocking(move || rustix::fs::ftruncate(&fd, len))
            .await
            .map_err(Into::into)
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn file_len(&self) -> io::Result<u64> {
        let len = match &self.inner {
            Inner::Direct(file) => file.file_size().await,
            Inner::Buffered(file) => file.file_size().await,
        };
        len.map_err(io_error)
    }

    /// Takes the file's exclusive `flock`, held until it is closed. One system call that does not wait.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another open file has it.
    pub fn try_lock(&self) -> Result<(), LockError> {
        try_lock(self.borrow_fd(), &self.path.borrow())
    }

    /// Tells the file that it is now found at `path`, for errors and faults.
    pub fn set_path(&self, path: impl Into<PathBuf>) {
        *self.path.borrow_mut() = path.into();
    }

    /// Closes the file.
    ///
    /// # Errors
    /// What the kernel says; the descriptor is gone in any case.
    pub async fn close(self) -> io::Result<()> {
        let closed = match self.inner {
            Inner::Direct(file) => file.close().await,
            Inner::Buffered(file) => file.close().await,
        };
        closed.map_err(io_error)
    }

    fn borrow_fd(&self) -> BorrowedFd<'_> {
        sys::borrow_fd(self)
    }

    /// A descriptor for a helper thread, which may outlive the caller and even this file.
    fn share_fd(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.borrow_fd(), 0)?)
    }
}

/// The error with its `errno`, which glommio's own conversion loses.
pub(crate) fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecutorConfig, run};

    fn both(test: impl AsyncFn(PathBuf, Caching)) {
        let dir = tempfile::tempdir().unwrap();
        for caching in [Caching::Direct, Caching::Buffered] {
            let path = dir.path().join(format!("{caching:?}"));
            run(ExecutorConfig::new("t"), || test(path, caching)).unwrap();
        }
    }

    #[test]
    fn what_was_written_and_synced_is_read_back() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            let block: Vec<u8> = (0..8192u32).map(|i| (i % 251) as u8).collect();
            let (result, buf) = file.write_at(AlignedBuf::copy_of(&block), 4096).await;
            result.unwrap();
            assert_eq!(buf.as_slice(), block);
            file.datasync().await.unwrap();
            assert_eq!(file.file_len().await.unwrap(), 12288);

            // More than there is: the hole, the bytes, then the end.
            let (count, buf) = file.read_at(AlignedBuf::zeroed(65536), 0).await;
            assert_eq!(count.unwrap(), 12288);
            assert!(buf.as_slice()[..4096].iter().all(|&b| b == 0));
            assert_eq!(buf.as_slice()[4096..12288], block);
            let (count, _) = file.read_at(buf, 12288).await;
            assert_eq!(count.unwrap(), 0);
            file.close().await.unwrap();

            let on_disk = std::fs::read(&path).unwrap();
            assert_eq!(on_disk[4096..], block);
        });
    }

    #[test]
    fn a_buffer_is_reused_without_a_copy() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            let mut buf = AlignedBuf::zeroed(4096);
            let address = buf.as_slice().as_ptr();
            for round in 0..20u8 {
                buf.as_mut_slice().fill(round);
                let (result, back) = file.write_at(buf, 0).await;
                result.unwrap();
                buf = back;
            }
            assert_eq!(buf.as_slice().as_ptr(), address);
            file.close().await.unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), [19; 4096]);
        });
    }

    #[test]
    fn space_is_claimed_in_three_ways() {
        use std::os::unix::fs::MetadataExt;
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            file.allocate(0, 1 << 20, Allocate::KeepSize).await.unwrap();
            assert_eq!(file.file_len().await.unwrap(), 0);
            assert!(std::fs::metadata(&path).unwrap().blocks() >= (1 << 20) / 512);
            file.allocate(0, 1 << 20, Allocate::Grow).await.unwrap();
            assert_eq!(file.file_len().await.unwrap(), 1 << 20);

            let ones = AlignedBuf::copy_of(&[1; 8192]);
            file.write_at(ones, 0).await.0.unwrap();
            file.allocate(4096, 4096, Allocate::Zero).await.unwrap();
            let (count, buf) = file.read_at(AlignedBuf::zeroed(8192), 0).await;
            assert_eq!(count.unwrap(), 8192);
            assert!(buf.as_slice()[..4096] == [1; 4096] && buf.as_slice()[4096..] == [0; 4096]);

            file.set_len(4096).await.unwrap();
            assert_eq!(file.file_len().await.unwrap(), 4096);
        });
    }

    #[test]
    fn errors_keep_their_number_and_new_files_are_private() {
        use std::os::unix::fs::MetadataExt;
        both(async |path, caching| {
            let error = File::open(&path, caching).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
            let file = File::create(&path, caching).await.unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            let (result, _) = file.write_at(AlignedBuf::zeroed(4096), 100).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        });
    }
}
