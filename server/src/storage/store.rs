//! Performs the store's operations on `member/snap/db`, and maps the file for reading.
//!
//! ```text
//!   db             locked as bbolt locks it: etcd and its tools keep out, and are kept out
//!   db.tmp.first   a database that is being made; called `db` once its first commit is durable
//! ```
//!
//! Writes go through the page cache, which the map shows at once. They keep a distance ([`Pacer`]), and each few megabytes are
//! sent to the disk before more is written: what waits in the disk's queue in front of a group of the log is bounded by
//! that, and not by the size of a checkpoint, as it would be if the sync sent all. Sending each piece by itself is no
//! better: then every sync of the log has some of it to wait for (`driver/examples/log_beside_pages.rs`).
//!
//! - What is written was claimed before, so no write runs out of space. Failing to claim is an answer; the store refuses
//!   proposals and tries again.
//! - A failed write or sync leaves unknown what is on the disk; the store then stops the member.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::{AlignedBuf, BLOCK_SIZE_BYTES, Caching, File, MappedFile, fs};
use engine::snap::SnapDbName;
use engine::store::{Extent, Pages, StoreIo, StoreOp, StoreTicket};
use engine::wal::IoFault;

use super::claim::claim;
use super::directory::Directory;
use super::pacer::Pacer;
use super::{StorageError, lock};
use crate::logging;

/// Pause in front of each step in which the file is cut.
const CUT_PAUSE: Duration = Duration::from_millis(2);
/// Bytes that are written before they are sent to the disk.
const BATCH_SIZE_BYTES: u64 = 4 << 20;
/// Bytes read at once before a walk.
const LOAD_SIZE_BYTES: usize = 1 << 20;
/// A sync that takes longer is logged; etcd's bound.
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// A store's first commit: pages, sync, meta pages, sync.
const SYNCS_OF_FIRST_COMMIT: u32 = 2;
/// The store's name, and the one under which it is made. etcd removes what begins so when it starts.
const NAME: &str = "db";
const NAME_OF_FIRST: &str = "db.tmp.first";

/// The store's file. Clones share it.
#[derive(Clone)]
pub struct StoreDisk(Rc<Inner>);

struct Inner {
    directory: Rc<Directory>,
    file: File,
    map: Arc<MappedFile>,
    /// Syncs until the file gets its name; 0: it has it.
    syncs_to_name: Cell<u32>,
    unsent: Cell<Unsent>,
    /// See [`StoreDisk::hurry`].
    hurries: Cell<bool>,
    pacer: Pacer,
    /// How long the file was at the start; 0: there was none.
    found_len: u64,
    skips_sync: bool,
}

/// What was written since the last batch was sent: so many bytes, somewhere in `start..end`.
#[derive(Clone, Copy)]
struct Unsent {
    start: u64,
    end: u64,
    len: u64,
}

impl Unsent {
    const NOTHING: Self = Self {
        start: u64::MAX,
        end: 0,
        len: 0,
    };

    fn add(&mut self, offset: u64, len: u64) {
        self.start = self.start.min(offset);
        self.end = self.end.max(offset + len);
        self.len += len;
    }
}

/// The map, as the engine reads it.
#[derive(Debug)]
struct StorePages(Arc<MappedFile>);

impl Pages for StorePages {
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.0.bytes(offset, len)
    }

    fn is_loaded(&self, offset: u64, len: u64) -> bool {
        self.0.is_loaded(offset, len)
    }
}

impl StoreDisk {
    /// Opens, locks and maps the file, or begins one if there is none.
    pub(super) async fn open(
        directory: &Rc<Directory>,
        skips_sync: bool,
    ) -> Result<Self, StorageError> {
        let path = directory.snap().join(NAME);
        let failed = |action| {
            let path = path.clone();
            move |error| StorageError::new(&path, action, error)
        };
        let found = fs::metadata(&path).await.map_err(failed("look at it"))?;
        if found.is_some_and(|found| found.is_dir) {
            return Err(StorageError::NotAFile { path });
        }
        // An empty one was created and never written to.
        let found = found.filter(|found| found.len > 0);
        let (file, syncs_to_name) = match found {
            Some(_) => {
                let file = File::open(&path, Caching::Buffered).await;
                let file = file.map_err(failed("open the database for writing"))?;
                lock::patiently(|| file.try_lock()).await?;
                (file, 0)
            }
            None => {
                let path = directory.snap().join(NAME_OF_FIRST);
                let file = File::create(&path, Caching::Buffered).await;
                let file =
                    file.map_err(|error| StorageError::new(&path, "create the database", error))?;
                lock::patiently(|| file.try_lock()).await?;
                (file, SYNCS_OF_FIRST_COMMIT)
            }
        };
        let map = MappedFile::new(&file, &path).map_err(failed("map the database"))?;
        let found_len = map.len();
        if found.is_some() {
            Self::claim_holes(&file, found_len).await?;
        }
        Ok(Self(Rc::new(Inner {
            directory: Rc::clone(directory),
            file,
            map: Arc::new(map),
            syncs_to_name: Cell::new(syncs_to_name),
            unsent: Cell::new(Unsent::NOTHING),
            hurries: Cell::new(false),
            pacer: Pacer::default(),
            found_len,
            skips_sync,
        })))
    }

    /// Puts the database received for the snapshot at `index` in place of this one, durably, and opens it. Pages of the
    /// old one can be read as long as somebody has them.
    ///
    /// # Errors
    /// [`StorageError`]; the old file is still in place if the new one could not be renamed.
    pub async fn swap_in(&self, index: u64) -> Result<Self, StorageError> {
        let snap = self.0.directory.snap();
        let received = snap.join(SnapDbName { index }.to_string());
        match fs::rename(&received, self.path()).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::ReceivedDatabaseMissing {
                    path: received,
                    index,
                });
            }
            renamed => renamed.map_err(|error| {
                StorageError::new(&received, "rename it over the database", error)
            })?,
        }
        fs::sync_dir(&snap)
            .await
            .map_err(|error| StorageError::new(&snap, "sync the directory", error))?;
        Self::open(&self.0.directory, self.0.skips_sync).await
    }

    /// bbolt enlarges a file without claiming the space: writing there could fail in the middle of a commit.
    async fn claim_holes(file: &File, len: u64) -> Result<(), StorageError> {
        match claim(file, len).await {
            Err(error) if len > 0 => Err(StorageError::new(
                &file.path(),
                "claim the space that the database counts as its own",
                error,
            )),
            _ => Ok(()),
        }
    }

    /// Leaves the pauses out from now on, or makes them again. Whoever fills memory faster than it is written has to wait for
    /// that anyway, and longer.
    pub fn hurry(&self, hurries: bool) {
        self.0.hurries.set(hurries);
    }

    /// Bytes found at the start. 0: a new store ([`engine::store`]'s `create`).
    pub fn found_len(&self) -> u64 {
        self.0.found_len
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.0.directory
    }

    /// What readers on all cores read, and the writer.
    pub fn pages(&self) -> Arc<dyn Pages> {
        Arc::new(StorePages(Arc::clone(&self.0.map)))
    }

    /// The same, for asking ahead of a walk ([`MappedFile::load`]).
    pub fn map(&self) -> &Arc<MappedFile> {
        &self.0.map
    }

    /// Brings the beginning of the file into memory, for a walk through all of it: page by page the disk would be waited
    /// for each time.
    ///
    /// By plain reads, whose order the kernel sees and runs ahead of. Advice about the map is cut short by it to what the
    /// disk takes at once, and all behind that would be faulted in page by page after all.
    ///
    /// # Errors
    /// The disk could not give it.
    pub async fn load_ahead(&self, len: u64) -> Result<(), StorageError> {
        let mut buf = AlignedBuf::zeroed(LOAD_SIZE_BYTES);
        let mut offset = 0;
        while offset < len {
            let (read, back) = self.0.file.read_at(buf, offset).await;
            let read =
                read.map_err(|error| StorageError::new(&self.path(), "read the database", error))?;
            if read == 0 {
                break;
            }
            buf = back;
            offset += LOAD_SIZE_BYTES as u64;
        }
        Ok(())
    }

    /// Brings parts of the file into memory for slow work, off this core's thread.
    pub async fn load(&self, parts: Vec<Extent>) {
        let parts = parts.iter().map(|part| (part.offset, part.len)).collect();
        // Whoever reads a page that the disk cannot give says so, with its place.
        let _ = self.0.map.load_all(parts).await;
    }

    /// What the file is called, or will be once its first commit is durable.
    pub fn path(&self) -> PathBuf {
        self.0.directory.snap().join(NAME)
    }

    /// Performs one operation; failures are logged here, with the path.
    pub async fn perform(&self, io: StoreIo) -> (StoreTicket, Result<(), IoFault>) {
        let StoreIo { ticket, op } = io;
        let (operation, is_survivable, result) = match op {
            StoreOp::Grow { len } => ("claim", true, self.grow(len).await),
            StoreOp::Write { offset, bytes } => ("write", false, self.write(offset, bytes).await),
            StoreOp::Sync => ("sync", false, self.sync().await),
            StoreOp::Cut { len } => ("cut", true, self.cut(len).await),
        };
        let result = result.map_err(|error| {
            self.report(operation, is_survivable, &error);
            IoFault {
                os_error: error.raw_os_error(),
            }
        });
        (ticket, result)
    }

    fn report(&self, operation: &'static str, is_survivable: bool, error: &io::Error) {
        let path = self.0.file.path().display().to_string();
        let error = error.to_string();
        if is_survivable {
            logging::warn!(
                "cannot change the length of the database; trying again",
                "operation" => operation,
                "path" => path,
                "error" => error
            );
        } else {
            logging::error!(
                "database operation failed",
                "operation" => operation,
                "path" => path,
                "error" => error
            );
        }
    }

    /// Claims space up to `len` and shows it to readers.
    ///
    /// # Errors
    /// No space, above all; nothing has changed then, and a later try may succeed.
    pub(super) async fn grow(&self, len: u64) -> io::Result<()> {
        let Inner { file, map, .. } = &*self.0;
        if len <= map.len() {
            return Ok(());
        }
        if len > map.len_max() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        claim(file, len).await?;
        map.set_len(len)
    }

    /// Gives what is behind `len` back to the file system. No reader is led there any more.
    ///
    /// # Errors
    /// What the kernel says; the file has its old length then.
    pub(super) async fn cut(&self, len: u64) -> io::Result<()> {
        let Inner { file, map, .. } = &*self.0;
        let before = map.len();
        if len >= before {
            return Ok(());
        }
        driver::sleep(CUT_PAUSE).await;
        map.set_len(len)?;
        let cut = file.set_len(len).await;
        if cut.is_err() {
            map.set_len(before)?;
        }
        cut
    }

    /// Writes whole blocks within what was claimed. They are on their way to the disk, not yet durable.
    ///
    /// # Errors
    /// What the kernel says; what the file holds there is unknown then.
    pub(super) async fn write(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let Inner { file, map, .. } = &*self.0;
        let len = bytes.len() as u64;
        let is_claimed = offset.checked_add(len).is_some_and(|end| end <= map.len());
        if !is_claimed || !bytes.len().is_multiple_of(BLOCK_SIZE_BYTES) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if !self.0.hurries.get() {
            let pause = self.0.pacer.pause(bytes.len(), driver::now());
            if let Some(pause) = pause {
                driver::sleep(pause).await;
            }
        }
        let buf = AlignedBuf::copy_of(&bytes);
        drop(bytes);
        file.write_at(buf, offset).await.0?;
        let mut unsent = self.0.unsent.get();
        unsent.add(offset, len);
        if self.0.skips_sync || unsent.len < BATCH_SIZE_BYTES {
            self.0.unsent.set(unsent);
            return Ok(());
        }
        self.0.unsent.set(Unsent::NOTHING);
        file.write_back(unsent.start, unsent.end - unsent.start)
            .await
    }

    /// Makes all that was written durable; with the first commit the file's name too.
    ///
    /// # Errors
    /// What the kernel says; what is on the disk is unknown then.
    pub(super) async fn sync(&self) -> io::Result<()> {
        let inner = &*self.0;
        inner.unsent.set(Unsent::NOTHING);
        if !inner.skips_sync {
            let start = driver::now();
            inner.file.datasync().await?;
            let took = driver::now() - start;
            if took > SLOW_SYNC {
                logging::warn!("slow fdatasync of the database", "took" => took, "expected-duration" => SLOW_SYNC);
            }
        }
        match inner.syncs_to_name.get() {
            0 => Ok(()),
            1 => {
                self.give_name().await?;
                inner.syncs_to_name.set(0);
                Ok(())
            }
            more => {
                inner.syncs_to_name.set(more - 1);
                Ok(())
            }
        }
    }

    async fn give_name(&self) -> io::Result<()> {
        let inner = &*self.0;
        let path = self.path();
        fs::rename(inner.file.path(), &path).await?;
        inner.file.set_path(path);
        if inner.skips_sync {
            return Ok(());
        }
        fs::sync_dir(inner.directory.snap()).await
    }
}
