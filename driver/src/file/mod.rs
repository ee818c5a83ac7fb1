//! Files on the ring.
//!
//! [`Caching::Direct`] passes the page cache by (O_DIRECT): the way for the log, whose writes are rewritten
//! whole blocks of claimed space. A write is durable only after [`File::datasync`]; write and sync are two
//! operations on purpose, since a single synchronous write waits milliseconds behind a busy core.
//! [`File::write_and_sync`] links them, so that the sync begins without a wake-up in between.
//!
//! Where a file system cannot do direct I/O, a direct file is buffered; nothing else changes.
//! Renaming, locking and directories are in `fs` and `lock`; what those need of an open file is here.

mod aligned;

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FallocateFlags;

pub use aligned::{AlignedBuf, BLOCK_SIZE_BYTES};

use crate::blocking;
use crate::executor::with_kernel;
use crate::faults::{Op as FaultOp, inject, inject_write};
use crate::lock::{LockError, try_lock};
use crate::ring::{Op, Request};

/// New files are for their owner only.
const FILE_MODE: u32 = 0o600;

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
    file: Rc<OwnedFd>,
    is_direct: bool,
    /// Where it was opened or renamed to; for errors and faults.
    path: RefCell<PathBuf>,
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
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
        inject(FaultOp::Open, path).await?;
        options.read(true).write(true).mode(FILE_MODE);
        let opened = path.to_owned();
        let (file, is_direct) = blocking(move || open(&opened, caching, &mut options)).await?;
        Ok(Self {
            file: Rc::new(file),
            is_direct,
            path: RefCell::new(path.to_owned()),
        })
    }

    /// Whether the page cache is really passed by.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    pub fn path(&self) -> PathBuf {
        self.path.borrow().clone()
    }

    /// Writes all of `buf` at `offset`, a multiple of [`BLOCK_SIZE_BYTES`].
    ///
    /// # Errors
    /// What the kernel says; the file then holds any mixture of old and new bytes in that range.
    pub async fn write_at(&self, buf: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        match inject_write(&self.path()).await {
            Ok(None) => self.write_whole(buf, offset).await,
            Ok(Some(torn_len)) => {
                let head = AlignedBuf::copy_of(&buf.as_slice()[..torn_len.min(buf.len())]);
                let (result, _) = self.write_once(head, offset, false).await;
                (
                    result.and_then(|_| Err(io::ErrorKind::WriteZero.into())),
                    buf,
                )
            }
            Err(error) => (Err(error), buf),
        }
    }

    /// [`File::write_at`] and then [`File::datasync`], with one wake-up where the kernel can link the two.
    ///
    /// # Errors
    /// Of either.
    pub async fn write_and_sync(
        &self,
        buf: AlignedBuf,
        offset: u64,
    ) -> (io::Result<()>, AlignedBuf) {
        let is_plain = cfg!(not(feature = "faults")) && with_kernel(|kernel| kernel.can_link());
        if is_plain && !buf.is_empty() {
            let (result, buf) = self.write_once(buf, offset, true).await;
            let is_short = |error: &io::Error| error.kind() == io::ErrorKind::WriteZero;
            if !result.as_ref().is_err_and(is_short) {
                return (result.map(drop), buf);
            }
            return self.write_then_sync(buf, offset).await;
        }
        self.write_then_sync(buf, offset).await
    }

    async fn write_then_sync(&self, buf: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        let (written, buf) = self.write_at(buf, offset).await;
        match written {
            Ok(()) => (self.datasync().await, buf),
            Err(error) => (Err(error), buf),
        }
    }

    async fn write_whole(&self, mut buf: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        // A regular file takes less than asked for only for want of space or after a signal. The same bytes
        // at the same place do no harm, so one more try tells the two apart.
        for _ in 0..2 {
            let len = buf.len();
            let (result, back) = self.write_once(buf, offset, false).await;
            buf = back;
            match result {
                Ok(count) if count == len => return (Ok(()), buf),
                Ok(_) => {}
                Err(error) => return (Err(error), buf),
            }
        }
        (Err(io::ErrorKind::WriteZero.into()), buf)
    }

    /// How much was written, or 0 if that and the sync succeeded.
    async fn write_once(
        &self,
        buf: AlignedBuf,
        offset: u64,
        then_sync: bool,
    ) -> (io::Result<usize>, AlignedBuf) {
        if !offset.is_multiple_of(BLOCK_SIZE_BYTES as u64) {
            return (Err(io::ErrorKind::InvalidInput.into()), buf);
        }
        let Some(blocks) = buf.into_blocks() else {
            return (Ok(0), AlignedBuf::zeroed(0));
        };
        let writing = Op::new(Request::Write {
            file: self.file.clone(),
            blocks,
            offset,
            then_sync,
        });
        let (result, request) = writing.await;
        let Request::Write { blocks, .. } = request else {
            unreachable!("an operation gives back what it was given");
        };
        (
            result.map(|count| count as usize),
            AlignedBuf::from_blocks(blocks),
        )
    }

    /// Fills `buf` from `offset`, a multiple of [`BLOCK_SIZE_BYTES`], and tells how many bytes were there:
    /// fewer than asked for only at the end of the file.
    ///
    /// # Errors
    /// What the kernel says; `buf` then holds anything.
    pub async fn read_at(&self, buf: AlignedBuf, offset: u64) -> (io::Result<usize>, AlignedBuf) {
        if !offset.is_multiple_of(BLOCK_SIZE_BYTES as u64) {
            return (Err(io::ErrorKind::InvalidInput.into()), buf);
        }
        let limit = match inject(FaultOp::Read, &self.path()).await {
            Ok(limit) => limit.unwrap_or(usize::MAX),
            Err(error) => return (Err(error), buf),
        };
        let Some(blocks) = buf.into_blocks() else {
            return (Ok(0), AlignedBuf::zeroed(0));
        };
        let reading = Op::new(Request::Read {
            file: self.file.clone(),
            blocks,
            offset,
        });
        let (result, request) = reading.await;
        let Request::Read { blocks, .. } = request else {
            unreachable!("an operation gives back what it was given");
        };
        let result = result.map(|count| (count as usize).min(limit));
        (result, AlignedBuf::from_blocks(blocks))
    }

    /// Waits until all that was written, and the length, is on the disk.
    ///
    /// # Errors
    /// What the kernel says. It may have dropped the data then, so a second try proves nothing.
    pub async fn datasync(&self) -> io::Result<()> {
        let path = self.path();
        inject(FaultOp::Sync, &path).await?;
        let syncing = Op::new(Request::Sync {
            file: self.file.clone(),
        });
        syncing.await.0.map(drop)
    }

    /// Has what was written to `offset..offset + len` sent to the disk now and waits for it, so that a later
    /// [`File::datasync`] finds little to do. Makes nothing durable by itself.
    ///
    /// # Errors
    /// What the kernel says: that the disk failed, which the next sync would not say again.
    pub async fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        // To the kernel 0 means up to the end of the file, which is more than enough.
        let len = u32::try_from(len).unwrap_or(0);
        let writing = Op::new(Request::WriteBack {
            file: self.file.clone(),
            offset,
            len,
        });
        writing.await.0.map(drop)
    }

    /// Claims space for `offset..offset + len`, so that writing there cannot run out of it.
    ///
    /// # Errors
    /// What the kernel says, above all `StorageFull` and `QuotaExceeded`; `Unsupported` where the file
    /// system cannot claim space, and then only writing does.
    pub async fn allocate(&self, offset: u64, len: u64, mode: Allocate) -> io::Result<()> {
        let path = self.path();
        inject(FaultOp::Allocate, &path).await?;
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
        inject(FaultOp::Truncate, &path).await?;
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
        let stat = rustix::fs::fstat(&self.file)?;
        u64::try_from(stat.st_size).map_err(io::Error::other)
    }

    /// Takes the file's exclusive `flock`, held until it is closed. One system call that does not wait.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another open file has it.
    pub fn try_lock(&self) -> Result<(), LockError> {
        try_lock(self.as_fd(), &self.path.borrow())
    }

    /// Tells the file that it is now found at `path`, for errors and faults.
    pub fn set_path(&self, path: impl Into<PathBuf>) {
        *self.path.borrow_mut() = path.into();
    }

    /// Closes the file, on a helper thread, since the last descriptor of a removed file takes a while. Says nothing
    /// about what was written: only [`File::datasync`] does.
    pub async fn close(self) {
        if let Ok(file) = Rc::try_unwrap(self.file) {
            blocking(move || drop(file)).await;
        }
    }

    /// A descriptor for a helper thread, which may outlive the caller and even this file.
    fn share_fd(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.as_fd(), 0)?)
    }
}

/// Opens for direct I/O if that is asked for and the file system can do it; tells whether.
fn open(path: &Path, caching: Caching, options: &mut OpenOptions) -> io::Result<(OwnedFd, bool)> {
    if caching == Caching::Direct {
        match options.custom_flags(libc::O_DIRECT).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                options.custom_flags(0);
            }
            opened => return Ok((opened?.into(), true)),
        }
    }
    Ok((options.open(path)?.into(), false))
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
            file.close().await;

            let on_disk = std::fs::read(&path).unwrap();
            assert_eq!(on_disk[4096..], block);
        });
    }

    #[test]
    fn what_was_written_is_sent_to_the_disk_early() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            file.write_at(AlignedBuf::copy_of(&[7; 65_536]), 4096)
                .await
                .0
                .unwrap();
            file.write_back(4096, 65_536).await.unwrap();
            file.write_back(1 << 30, 4096).await.unwrap();
            file.write_back(0, 1 << 32).await.unwrap();
            file.datasync().await.unwrap();
            assert_eq!(std::fs::read(&path).unwrap()[4096..], [7; 65_536]);
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
            file.close().await;
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
