//! Performs the log's operations on files.
//!
//! Segments are written with O_DIRECT: write, then fdatasync, as two linked operations, or as one while few wait for it
//! ([`File::write_durably`]). Work ahead of need is spaced out so that it does not queue up in front of groups that wait.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use driver::{AlignedBuf, Caching, File, FileLock, Notify, fs};
use engine::wal::{
    FileNo, IoFault, IoTicket, Pace, SegmentName, WalFile, WalIo, WalOp, wholly_below,
};

use super::claim::claim;
use super::directory::Directory;
use super::snapshots::purge;
use super::{DiskObserver, StorageOptions};
use crate::logging;

/// Pause in front of each piece of work ahead. A piece is 256 KiB, so a segment is ready within a second, and the
/// disk spends most of its time on groups.
const AHEAD_PAUSE: Duration = Duration::from_millis(2);
/// A sync that takes longer is logged; etcd's bound.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// The log's files. Clones share them.
#[derive(Clone)]
pub struct WalDisk(Rc<Inner>);

struct Inner {
    directory: Rc<Directory>,
    files: RefCell<HashMap<FileNo, Rc<File>>>,
    /// Locks of the segments found at the start.
    locks: RefCell<BTreeMap<SegmentName, FileLock>>,
    /// Complete segments, kept open for their locks until a snapshot releases them.
    retired: RefCell<BTreeMap<SegmentName, Rc<File>>>,
    /// The last segment that a snapshot released.
    released: Cell<Option<SegmentName>>,
    /// A file whose last write was synced along with it, until its sync is asked for.
    synced: Cell<Option<FileNo>>,
    /// Zeros to write, kept between uses.
    zeros: RefCell<Option<AlignedBuf>>,
    names: NameLock,
    skips_sync: bool,
    observer: Rc<dyn DiskObserver>,
}

/// What the log will ask for behind an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Following {
    Nothing,
    Sync,
    LoneSync,
}

impl WalDisk {
    pub(super) fn new(
        directory: Rc<Directory>,
        locks: BTreeMap<SegmentName, FileLock>,
        options: &StorageOptions,
        observer: Rc<dyn DiskObserver>,
    ) -> Self {
        Self(Rc::new(Inner {
            directory,
            files: RefCell::default(),
            locks: RefCell::new(locks),
            retired: RefCell::default(),
            released: Cell::new(None),
            synced: Cell::new(None),
            zeros: RefCell::new(None),
            names: NameLock::default(),
            skips_sync: options.unsafe_no_fsync,
            observer,
        }))
    }

    /// Performs one operation; failures are logged here, with the path.
    pub async fn perform(&self, io: WalIo) -> (IoTicket, Result<(), IoFault>) {
        self.perform_as(io, Following::Nothing).await
    }

    /// The same for a write whose sync follows (`Wal::sync_follows`): both are done, and the sync is over as soon as it
    /// is asked for. `is_lone`: few wait for it, and nothing is likely to queue up behind it.
    pub async fn perform_with_sync(
        &self,
        io: WalIo,
        is_lone: bool,
    ) -> (IoTicket, Result<(), IoFault>) {
        let following = match is_lone {
            true => Following::LoneSync,
            false => Following::Sync,
        };
        self.perform_as(io, following).await
    }

    /// Gives up the segments wholly below the snapshot at `index`: their locks, and the oldest of them while more than
    /// `wals_max` segments are there (0: all stay, as in etcd).
    pub(super) async fn release(&self, index: u64, wals_max: usize) {
        if let Err(error) = self.0.release(index, wals_max).await {
            logging::warn!("cannot look for old WAL segments", "error" => error.to_string());
        }
    }

    /// Whether this operation is a sync that was done along with its write ([`Self::perform_with_sync`]). It is over
    /// then.
    pub fn is_done_along(&self, op: &WalOp) -> bool {
        let synced = &self.0.synced;
        let is_done = matches!(op, WalOp::Sync { file } if synced.get() == Some(*file));
        if is_done {
            synced.set(None);
        }
        is_done
    }

    async fn perform_as(&self, io: WalIo, following: Following) -> (IoTicket, Result<(), IoFault>) {
        let WalIo { ticket, pace, op } = io;
        let inner = &*self.0;
        let what = describe(&op);
        let result = inner.perform(pace, op, following).await;
        let result = result.map_err(|error| {
            inner.report(&what, &error);
            IoFault {
                os_error: error.raw_os_error(),
            }
        });
        (ticket, result)
    }
}

impl Inner {
    async fn perform(&self, pace: Pace, op: WalOp, following: Following) -> io::Result<()> {
        match op {
            WalOp::Claim { file, name, len } => self.create(file, name, len).await,
            WalOp::Open { file, name } => self.open(file, name).await,
            WalOp::Allocate { file, len } => claim(&*self.file(file)?, len).await,
            WalOp::Zero { file, offset, len } => {
                if pace == Pace::Background {
                    driver::sleep(AHEAD_PAUSE).await;
                }
                self.zero(&*self.file(file)?, offset, len).await
            }
            WalOp::Write {
                file,
                offset,
                blocks,
            } if following != Following::Nothing && !self.skips_sync => {
                let is_lone = following == Following::LoneSync;
                self.write_and_sync(&*self.file(file)?, offset, blocks, is_lone)
                    .await?;
                self.synced.set(Some(file));
                Ok(())
            }
            WalOp::Write {
                file,
                offset,
                blocks,
            } => self.write(&*self.file(file)?, offset, blocks).await,
            WalOp::Sync { file } if self.synced.take() == Some(file) => Ok(()),
            WalOp::Sync { file } => self.sync(&*self.file(file)?).await,
            WalOp::Rename { file, from, to } => self.rename(&*self.file(file)?, from, to).await,
            WalOp::SyncDirectory => self.sync_directory().await,
            WalOp::Close { file } => {
                self.retire(file).await;
                Ok(())
            }
            WalOp::Discard { file, name } => self.discard(file, name).await,
        }
    }

    async fn create(&self, no: FileNo, name: WalFile, len: u64) -> io::Result<()> {
        let file = {
            let _names = self.names.take().await;
            let path = self.directory.wal().join(name.to_string());
            File::create(path, Caching::Direct).await?
        };
        file.try_lock().map_err(io::Error::other)?;
        let file = Rc::new(file);
        self.files.borrow_mut().insert(no, file.clone());
        claim(&file, len).await
    }

    async fn open(&self, no: FileNo, name: WalFile) -> io::Result<()> {
        let _names = self.names.take().await;
        let path = self.directory.wal().join(name.to_string());
        let file = File::open(path, Caching::Direct).await?;
        // Locked since it was read. From here on the lock must be the written file's own: what a killed process has under
        // way on its ring keeps that file, and with it the lock, until it has ended. The next process would read the log too
        // early otherwise, and a late write would fall upon its own.
        if let WalFile::Segment(segment) = name {
            self.locks.borrow_mut().remove(&segment);
        }
        file.try_lock().map_err(io::Error::other)?;
        self.files.borrow_mut().insert(no, Rc::new(file));
        Ok(())
    }

    async fn zero(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let kept = self.zeros.take().filter(|zeros| zeros.len() == len);
        let zeros = kept.unwrap_or_else(|| AlignedBuf::zeroed(len));
        let (result, zeros) = file.write_at(zeros, offset).await;
        self.zeros.replace(Some(zeros));
        result
    }

    async fn write(&self, file: &File, offset: u64, blocks: Bytes) -> io::Result<()> {
        let len = blocks.len() as u64;
        let buf = AlignedBuf::copy_of(&blocks);
        drop(blocks);
        let start = driver::now();
        let (result, _) = file.write_at(buf, offset).await;
        self.observer.written(len, driver::now() - start);
        result
    }

    async fn write_and_sync(
        &self,
        file: &File,
        offset: u64,
        blocks: Bytes,
        is_lone: bool,
    ) -> io::Result<()> {
        let len = blocks.len() as u64;
        let buf = AlignedBuf::copy_of(&blocks);
        drop(blocks);
        let start = driver::now();
        let (result, _) = match is_lone {
            true => file.write_durably(buf, offset).await,
            false => file.write_and_sync(buf, offset).await,
        };
        let took = driver::now() - start;
        self.observer.written(len, took);
        self.note_sync(took);
        result
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        if self.skips_sync {
            return Ok(());
        }
        let start = driver::now();
        let result = file.datasync().await;
        self.note_sync(driver::now() - start);
        result
    }

    fn note_sync(&self, took: Duration) {
        self.observer.synced(took);
        if took > SLOW_SYNC {
            logging::warn!("slow fdatasync", "took" => took, "expected-duration" => SLOW_SYNC);
        }
    }

    async fn rename(&self, file: &File, from: WalFile, to: WalFile) -> io::Result<()> {
        let _names = self.names.take().await;
        let wal = self.directory.wal();
        let to = wal.join(to.to_string());
        fs::rename(wal.join(from.to_string()), &to).await?;
        file.set_path(to);
        Ok(())
    }

    /// Makes the names durable; the first time in a new log, its own name too.
    async fn sync_directory(&self) -> io::Result<()> {
        let _names = self.names.take().await;
        if !self.skips_sync {
            fs::sync_dir(self.directory.wal()).await?;
        }
        let before = self.directory.wal();
        self.directory.finish_log().await?;
        self.follow_directory(&before);
        Ok(())
    }

    /// Tells the open files where they are since the directory has its final name.
    fn follow_directory(&self, before: &Path) {
        let now = self.directory.wal();
        if before == now {
            return;
        }
        for file in self.files.borrow().values() {
            if let Some(name) = file.path().file_name() {
                file.set_path(now.join(name));
            }
        }
    }

    /// Keeps a complete segment for its lock, unless a snapshot has released it before the log was done with it.
    async fn retire(&self, no: FileNo) {
        let Some(file) = self.files.borrow_mut().remove(&no) else {
            return;
        };
        let path = file.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(segment) = name.and_then(|name| name.parse().ok()) else {
            return;
        };
        self.retired.borrow_mut().insert(segment, file);
        if self.released.get() >= Some(segment) {
            self.let_go(segment).await;
        }
    }

    async fn release(&self, index: u64, wals_max: usize) -> Result<(), super::StorageError> {
        let segments = self.directory.segments().await?;
        let below = wholly_below(&segments, index);
        let excess = match wals_max {
            0 => 0,
            max => segments.len().saturating_sub(max),
        };
        let wal = self.directory.wal();
        for (no, segment) in below.iter().enumerate() {
            // Oldest first, and not past one that stays: a log has no holes.
            if no < excess && !purge(&wal.join(segment.to_string())).await {
                break;
            }
            self.released.set(self.released.get().max(Some(*segment)));
            self.let_go(*segment).await;
        }
        Ok(())
    }

    /// Gives up the lock of a segment. The space of a removed one comes back only then, which takes a while.
    async fn let_go(&self, segment: SegmentName) {
        let lock = self.locks.borrow_mut().remove(&segment);
        let file = self.retired.borrow_mut().remove(&segment);
        if let Some(lock) = lock {
            driver::blocking(move || drop(lock)).await;
        }
        if let Some(file) = file.and_then(|file| Rc::try_unwrap(file).ok()) {
            file.close().await;
        }
    }

    async fn discard(&self, no: FileNo, name: WalFile) -> io::Result<()> {
        // Its last reference closes it. The space comes back only then.
        drop(self.files.borrow_mut().remove(&no));
        let _names = self.names.take().await;
        match fs::remove(self.directory.wal().join(name.to_string())).await {
            // It was never made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn file(&self, no: FileNo) -> io::Result<Rc<File>> {
        self.files
            .borrow()
            .get(&no)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn report(&self, what: &Described, error: &io::Error) {
        let path = match (&what.name, what.file.and_then(|no| self.file(no).ok())) {
            (Some(name), _) => self.directory.wal().join(name.to_string()),
            (None, Some(file)) => file.path(),
            (None, None) => self.directory.wal(),
        };
        let path = path.display().to_string();
        let error = error.to_string();
        if what.is_survivable {
            logging::warn!(
                "cannot claim space for the next WAL segment; trying again",
                "operation" => what.operation,
                "path" => path,
                "error" => error
            );
        } else {
            logging::error!(
                "WAL operation failed",
                "operation" => what.operation,
                "path" => path,
                "error" => error
            );
        }
    }
}

/// An operation in the words of the log lines.
struct Described {
    operation: &'static str,
    file: Option<FileNo>,
    name: Option<WalFile>,
    /// The log goes on without it, for now or for ever.
    is_survivable: bool,
}

fn describe(op: &WalOp) -> Described {
    let of = |operation, file, name, is_survivable| Described {
        operation,
        file,
        name,
        is_survivable,
    };
    match *op {
        WalOp::Claim { file, name, .. } => of("claim", Some(file), Some(name), true),
        WalOp::Open { file, name } => of("open", Some(file), Some(name), false),
        WalOp::Allocate { file, .. } => of("allocate", Some(file), None, true),
        WalOp::Zero { file, .. } => of("zero", Some(file), None, false),
        WalOp::Write { file, .. } => of("write", Some(file), None, false),
        WalOp::Sync { file } => of("sync", Some(file), None, false),
        WalOp::Rename { file, to, .. } => of("rename", Some(file), Some(to), false),
        WalOp::SyncDirectory => of("sync directory", None, None, false),
        WalOp::Close { file } => of("close", Some(file), None, true),
        WalOp::Discard { file, name } => of("discard", Some(file), Some(name), true),
    }
}

/// Held by operations that use a path, since the directory itself is renamed once. The log has at most two
/// operations under way, so at most one waits.
#[derive(Default)]
struct NameLock {
    is_taken: Cell<bool>,
    free: Notify,
}

struct NameGuard<'a>(&'a NameLock);

impl NameLock {
    async fn take(&self) -> NameGuard<'_> {
        while self.is_taken.get() {
            self.free.notified().await;
        }
        self.is_taken.set(true);
        NameGuard(self)
    }
}

impl Drop for NameGuard<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        self.0.free.notify();
    }
}
