//! Files on the ring.
//!
//! [`Caching::Direct`] passes the page cache by (O_DIRECT): the way for the log, whose writes are rewritten
//! whole blocks of claimed space. A write is durable only after [`File::datasync`].
//! [`File::write_and_sync`] links the two, so that the sync begins without a wake-up in between;
//! [`File::write_durably`] makes them one operation where that is the quicker way (`durable`).
//!
//! Where a file system cannot do direct I/O, a direct file is buffered; nothing else changes.
//! Renaming, locking and directories are in `fs` and `lock`; what those need of an open file is here.

mod aligned;
mod durable;

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FallocateFlags;

pub use aligned::{AlignedBuf, BLOCK_SIZE_BYTES};
use durable::{Durable, Mark};

use crate::blocking;
use crate::executor::with_kernel;
use crate::faults::{Op as FaultOp, inject, inject_write};
use crate::lock::{LockError, try_lock};
use crate::ring::{Op, Request, WithSync};
use crate::time::now;

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
    durable: Durable,
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
            durable: Durable::new(),
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
        match self.inject_write(&buf, offset).await {
            Ok(()) => self.write_whole(buf, offset).await,
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
        if let Err(error) = self.inject_write(&buf, offset).await {
            return (Err(error), buf);
        }
        let can_link = with_kernel(|kernel| kernel.can_link());
        if !can_link || buf.is_empty() {
            return self.write_then_sync(buf, offset).await;
        }
        let mark = self.durable.mark();
        let (result, buf) = self.write_once(buf, offset, WithSync::Linked).await;
        match result {
            Ok(_) => (self.end_sync(mark).await, buf),
            // Less than all was written. The same once more, step by step, tells why.
            Err(error) if error.kind() == io::ErrorKind::WriteZero => {
                self.write_then_sync(buf, offset).await
            }
            Err(error) => (Err(error), buf),
        }
    }

    /// The same for a caller who has nothing else for the disk: as a single operation while those are quick.
    ///
    /// # Errors
    /// As [`File::write_and_sync`].
    pub async fn write_durably(
        &self,
        buf: AlignedBuf,
        offset: u64,
    ) -> (io::Result<()>, AlignedBuf) {
        let start = now();
        if !self.is_direct || buf.is_empty() || !self.durable.allows_single(start) {
            return self.write_and_sync(buf, offset).await;
        }
        if let Err(error) = self.inject_write(&buf, offset).await {
            return (Err(error), buf);
        }
        let (len, mark) = (buf.len(), self.durable.mark());
        let (result, buf) = self.write_once(buf, offset, WithSync::Within).await;
        let end = now();
        self.durable.on_single(end, end.saturating_sub(start));
        match result {
            Ok(count) if count == len => (self.end_sync(mark).await, buf),
            Ok(_) => self.write_then_sync(buf, offset).await,
            Err(error) => (Err(error), buf),
        }
    }

    /// What comes after all bytes were written and synced: it may be told to have failed.
    async fn end_sync(&self, mark: Mark) -> io::Result<()> {
        if cfg!(feature = "faults") {
            inject(FaultOp::Sync, &self.path()).await?;
        }
        self.durable.on_synced(mark);
        Ok(())
    }

    /// What comes before a write: it may be told to fail, having written a part.
    async fn inject_write(&self, buf: &AlignedBuf, offset: u64) -> io::Result<()> {
        if cfg!(not(feature = "faults")) {
            return Ok(());
        }
        let Some(torn_len) = inject_write(&self.path()).await? else {
            return Ok(());
        };
        let head = AlignedBuf::copy_of(&buf.as_slice()[..torn_len.min(buf.len())]);
        let (result, _) = self.write_once(head, offset, WithSync::No).await;
        result.and_then(|_| Err(io::ErrorKind::WriteZero.into()))
    }

    async fn write_then_sync(&self, buf: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        let (written, buf) = self.write_whole(buf, offset).await;
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
            let (result, back) = self.write_once(buf, offset, WithSync::No).await;
            buf = back;
            match result {
                Ok(count) if count == len => return (Ok(()), buf),
                Ok(_) => {}
                Err(error) => return (Err(error), buf),
            }
        }
        (Err(io::ErrorKind::WriteZero.into()), buf)
    }

    /// How much was written; 0 if that and a linked sync succeeded.
    async fn write_once(
        &self,
        buf: AlignedBuf,
        offset: u64,
        sync: WithSync,
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
            sync,
        });
        let (result, request) = writing.await;
        let Request::Write { blocks, .. } = request else {
            unreachable!("an operation gives back what it was given");
        };
        if sync == WithSync::No || result.is_err() {
            self.durable.on_changed();
        }
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
        if cfg!(feature = "faults") {
            inject(FaultOp::Sync, &self.path()).await?;
        }
        let mark = self.durable.mark();
        let syncing = Op::new(Request::Sync {
            file: self.file.clone(),
        });
        syncing.await.0?;
        self.durable.on_synced(mark);
        Ok(())
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
        let result = blocking(move || rustix::fs::fallocate(&fd, flags, offset, len)).await;
        self.durable.on_changed();
        result.map_err(Into::into)
    }

    /// Cuts the file or extends it by a hole.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let path = self.path();
        inject(FaultOp::Truncate, &path).await?;
        let fd = self.share_fd()?;
        let result = blocking(move || rustix::fs::ftruncate(&fd, len)).await;
        self.durable.on_changed();
        result.map_err(Into::into)
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn file_len(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.file)?;
        u64::try_from(stat.st_size).map_err(io::Error::other)
    }

    /// Has reads through the page cache bring in what they ask for and no more. The kernel otherwise reads ahead, as far as
    /// it was set up to (megabytes, at some places), and whoever waits for the same disk waits for that first.
    pub fn reads_nothing_ahead(&self) {
        // Advice: if it fails, reads do more than they have to.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random);
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

    /// Whether `write_durably` would be a single operation now.
    fn is_single_next(file: &File) -> bool {
        file.durable.allows_single(now())
    }

    #[test]
    fn durable_writes_are_read_back() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            let mut buf = AlignedBuf::zeroed(8192);
            for round in 0..40u8 {
                buf.as_mut_slice().fill(round);
                let offset = u64::from(round % 4) * 4096;
                let result;
                (result, buf) = match round % 2 {
                    0 => file.write_durably(buf, offset).await,
                    _ => file.write_and_sync(buf, offset).await,
                };
                result.unwrap();
                assert_eq!(buf.len(), 8192);
            }
            let (result, _) = file.write_durably(AlignedBuf::zeroed(0), 0).await;
            result.unwrap();
            file.close().await;
            let on_disk = std::fs::read(&path).unwrap();
            assert_eq!(on_disk[..4096], [36; 4096]);
            assert_eq!(on_disk[12_288..], [39; 8192]);
        });
    }

    #[test]
    fn a_single_operation_waits_until_all_before_it_is_synced() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            let block = || AlignedBuf::copy_of(&[1; 4096]);
            assert!(!is_single_next(&file));
            file.write_durably(block(), 0).await.0.unwrap();
            assert!(is_single_next(&file), "the linked sync covers the creation");
            file.write_at(block(), 4096).await.0.unwrap();
            assert!(!is_single_next(&file));
            file.datasync().await.unwrap();
            assert!(is_single_next(&file));
            file.allocate(0, 1 << 20, Allocate::Grow).await.unwrap();
            assert!(!is_single_next(&file));
            file.write_and_sync(block(), 8192).await.0.unwrap();
            file.set_len(1 << 21).await.unwrap();
            assert!(!is_single_next(&file));
        });
    }

    /// A file cannot be longer than the file system allows: what crosses that end is written in part.
    #[test]
    fn a_write_in_part_is_an_error_in_either_way() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            let mut len_max = 4096;
            for bit in (12..62).rev() {
                if file.set_len(len_max + (1 << bit)).await.is_ok() {
                    len_max += 1 << bit;
                }
            }
            file.set_len(0).await.unwrap();
            file.datasync().await.unwrap();
            let offset = len_max / 4096 * 4096 - 4096;
            assert!(is_single_next(&file));
            let block = || AlignedBuf::copy_of(&[1; 8192]);
            let (result, buf) = file.write_durably(block(), offset).await;
            assert!(result.is_err());
            assert_eq!(buf.as_slice(), [1; 8192]);
            let (result, _) = file.write_and_sync(block(), offset).await;
            assert!(result.is_err());
            assert!(!is_single_next(&file));
        });
    }

    #[cfg(feature = "faults")]
    #[test]
    fn durable_writes_fail_where_they_are_told_to() {
        both(async |path, caching| {
            let file = File::create(&path, caching).await.unwrap();
            let buf = |byte: u8| AlignedBuf::copy_of(&[byte; 8192]);
            file.write_and_sync(buf(1), 0).await.0.unwrap();
            for is_lone in [true, false, true] {
                let write = async |byte| match is_lone {
                    true => file.write_durably(buf(byte), 0).await.0,
                    false => file.write_and_sync(buf(byte), 0).await.0,
                };
                let hit = |op: &str, effect: &str| {
                    let path = path.display();
                    crate::faults::install(&format!("{op}:{path}:times=1:{effect}")).unwrap()
                };
                let fault = hit("write", "EIO");
                assert_eq!(write(2).await.unwrap_err().raw_os_error(), Some(libc::EIO));
                assert_eq!(
                    std::fs::read(&path).unwrap(),
                    [1; 8192],
                    "nothing is written"
                );
                drop(fault);

                let fault = hit("write", "short=4096");
                write(3).await.unwrap_err();
                assert_eq!(std::fs::read(&path).unwrap()[..4096], [3; 4096]);
                assert_eq!(std::fs::read(&path).unwrap()[4096..], [1; 4096]);
                drop(fault);
                file.datasync().await.unwrap();

                let fault = hit("sync", "EIO");
                assert_eq!(write(4).await.unwrap_err().raw_os_error(), Some(libc::EIO));
                drop(fault);
                write(1).await.unwrap();
            }
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
