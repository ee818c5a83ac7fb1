//! The state's other half on the disk: which changes are in the store, and the checkpoints that bring them there.
//!
//! ```text
//!   begin(seal)   the tail up to here, and the entry it stands at         Idle -> Feeding
//!   feed          in slices: deletions of a compaction, the tail's pairs, the other buckets, meta   -> Writing
//!   poll_io       pages, sync, meta page, sync                            -> Durable
//!   install       between two entries: the tree and the tail's beginning that the next View shows   -> Idle
//!   tend          once no reader can reach what was before: pages are free again, the tail forgets
//! ```
//!
//! Invariants:
//! - a checkpoint is the state after a whole entry, which its meta bucket names;
//! - a View finds each pair either in its tail or under its tree, never in neither;
//! - pages and tail that a pinned View can reach stay as they are;
//! - a failure to claim space changes nothing and is tried again; after a failed write or sync the member stops.
//!
//! Lives on the log shard, inside [`crate::state::State`]. When to begin is [`crate::node`]'s to say, and what must be
//! durable in the log before. Tested with the state, and in the simulator.

mod ahead;
mod damage;
mod feed;
mod image;
mod mover;
mod pairs;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use ahead::{Ahead, Reach};
pub use damage::Damage;
pub use image::{ImageHash, StoreImage};
pub use pairs::{KeyChange, PairRef};
pub(crate) use pairs::{PairCursor, Pairs, StoreFile, revision_of};

use crate::mvcc::Kv;
use crate::store::{CommitState, Extent, Store, StoreIo, StoreTicket, Tree};
use crate::tail::{Bucket, Tail, TailPosition, TailSize, TailView};
use crate::types::{Budget, LogIndex, Term};
use crate::wal::IoFault;
use feed::{Fed, Feed};
use image::Images;
use mover::{Mover, Moves};

/// What a checkpoint is to say about the log: where the state stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub index: LogIndex,
    pub term: Term,
    /// As bucket `meta` keeps it.
    pub conf_state: Bytes,
    /// The storage version to be noted; `None` leaves the one that is there.
    pub storage_version: Option<Bytes>,
}

/// A checkpoint that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub index: LogIndex,
    pub term: Term,
}

/// A seal, and what was in the state at that time.
#[derive(Debug)]
struct Sealed {
    seal: Seal,
    end: TailPosition,
    size: TailSize,
    /// Newest revision in it.
    revision: i64,
    /// A compaction that it knows of, and of which all is in the store already, goes on with its sweep.
    sweeps: bool,
    /// The sweep of a compaction ends with it.
    ends_sweep: bool,
    stores_freelist: bool,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Feeding(Box<Sealed>, Box<Feed>),
    Writing(Box<Sealed>),
    /// On the disk, and not shown yet.
    Durable(Box<Sealed>),
}

/// A former state that readers may still have.
#[derive(Debug)]
struct Leaving {
    /// They cannot once every pin is at this version.
    version: u64,
    /// The commit that made it a former one.
    txid: u64,
    /// Where the tail begins since.
    first: TailPosition,
    size: TailSize,
}

/// See the module text.
#[derive(Debug)]
pub struct Backend {
    store: Store,
    file: Arc<StoreFile>,
    /// Bucket `key` as of the newest installed checkpoint. The store's own is newer while one is durable and not shown.
    tree: Tree,
    phase: Phase,
    leaving: VecDeque<Leaving>,
    /// The newest commit such that no View reaches an older one.
    releasable: u64,
    images: Images,
    /// A defragmentation in progress.
    mover: Option<Mover>,
    /// For what can wait.
    ahead: Ahead,
    /// Everything before it may be forgotten by the tail.
    forgettable: TailPosition,
    /// The tail's sums when the newest installed checkpoint was sealed.
    stored_size: TailSize,
    /// The same of what nobody can reach any more.
    forgotten_size: TailSize,
    checkpoint: Checkpoint,
    stored_revision: i64,
    /// A bug for the simulator to find.
    #[cfg(feature = "sabotage")]
    sabotage: Option<crate::view::Sabotage>,
}

/// The store as a state's readers see it. Copied about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreSide<'a> {
    file: &'a StoreFile,
    tree: Tree,
}

impl<'a> StoreSide<'a> {
    pub(crate) fn new(file: &'a StoreFile, tree: Tree) -> Self {
        StoreSide { file, tree }
    }

    /// All pairs, those of the tail included.
    pub(crate) fn pairs(&self, tail: TailView<'a>) -> Pairs<'a> {
        Pairs::new(tail, self.file, self.tree)
    }
}

impl Backend {
    /// Around a store that holds everything up to `checkpoint` and `revision`.
    pub(crate) fn new(store: Store, checkpoint: Checkpoint, revision: i64) -> Self {
        let file = StoreFile::new(Arc::clone(store.pages()), store.page_size());
        Backend {
            tree: store.tree(Bucket::Key),
            store,
            file: Arc::new(file),
            phase: Phase::Idle,
            leaving: VecDeque::new(),
            releasable: 0,
            images: Images::default(),
            mover: None,
            ahead: Ahead::default(),
            forgettable: TailPosition::default(),
            stored_size: TailSize::default(),
            forgotten_size: TailSize::default(),
            checkpoint,
            stored_revision: revision,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// Plants a bug.
    #[cfg(feature = "sabotage")]
    pub(crate) fn sabotage(&mut self, sabotage: crate::view::Sabotage) {
        self.sabotage = Some(sabotage);
    }

    pub(crate) fn file(&self) -> &Arc<StoreFile> {
        &self.file
    }

    pub(crate) fn side(&self) -> StoreSide<'_> {
        StoreSide::new(&self.file, self.tree)
    }

    /// Where bucket `key` begins for states that are published now.
    pub(crate) fn tree(&self) -> Tree {
        self.tree
    }

    /// Begins a defragmentation, unless one is in progress: the next checkpoints move pages, then cut the file.
    pub(crate) fn defragment(&mut self) {
        self.mover.get_or_insert_default();
    }

    /// True until the last of these checkpoints is installed.
    pub(crate) fn is_defragmenting(&self) -> bool {
        self.mover.is_some()
    }

    /// True if a defragmentation knows what its next checkpoint is to do.
    pub(crate) fn is_ready_to_move(&self) -> bool {
        self.mover.as_ref().is_some_and(Mover::is_ready)
    }

    /// The newest durable commit, which stays in the file while the answer or a clone of it lives. `None` before the first.
    pub(crate) fn image(&mut self) -> Option<StoreImage> {
        let pin = self.images.pin(self.store.txid());
        StoreImage::new(&self.store, Arc::clone(&self.file), pin)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The newest checkpoint that is durable and shown.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// True if nothing of a checkpoint is under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Bytes of memory that the tail takes.
    pub(crate) fn tail_bytes(&self, tail: &Tail) -> u64 {
        tail.size().memory_bytes - self.forgotten_size.memory_bytes
    }

    /// Bytes of memory that changes take which no checkpoint has.
    pub(crate) fn unsaved_bytes(&self, tail: &Tail) -> u64 {
        tail.size().memory_bytes - self.stored_size.memory_bytes
    }

    /// Bytes that the file takes, or will once the tail is in it.
    pub(crate) fn db_size(&self, tail: &Tail) -> u64 {
        let (file, used) = (self.store.file_bytes(), self.db_size_in_use(tail));
        file.max(used)
    }

    /// Bytes of the file that hold something, or will.
    pub(crate) fn db_size_in_use(&self, tail: &Tail) -> u64 {
        let coming = tail.size().file_bytes - self.stored_size.file_bytes;
        let page = u64::from(self.store.page_size());
        self.store.in_use_bytes() + coming.next_multiple_of(page)
    }

    /// Begins a checkpoint of the state as it is.
    ///
    /// # Panics
    /// If one is under way.
    pub(crate) fn begin(&mut self, seal: Seal, kv: &Kv, tail: &Tail, stores_freelist: bool) {
        assert!(self.is_idle(), "one checkpoint at a time");
        let due = kv.compactor().wants_store();
        let sweeps = due.is_some_and(|revision| self.stored_revision >= revision);
        // Both go through bucket `key` from its beginning; moving can wait.
        let moves = match &mut self.mover {
            Some(mover) if !sweeps => mover.take(),
            _ => Moves::new(),
        };
        self.store.begin();
        if self.mover.is_some() {
            self.store.shrink();
        }
        let feed = Feed::new(&seal, tail.view().first(), moves);
        #[cfg(feature = "sabotage")]
        let feed = match self.sabotage {
            Some(crate::view::Sabotage::LoseLeases) => feed.without_leases(),
            _ => feed,
        };
        let sealed = Sealed {
            seal,
            end: tail.end(),
            size: tail.size(),
            revision: kv.revision(),
            sweeps,
            ends_sweep: false,
            stores_freelist,
        };
        self.phase = Phase::Feeding(Box::new(sealed), Box::new(feed));
    }

    /// Does a slice of putting changes into the commit that is open; true while there is more to do now.
    ///
    /// # Errors
    /// [`Damage`] of the file, which the member does not survive.
    pub(crate) fn feed(
        &mut self,
        kv: &mut Kv,
        tail: &Tail,
        budget: &mut Budget,
    ) -> Result<bool, Damage> {
        let Phase::Feeding(sealed, feed) = &mut self.phase else {
            return Ok(false);
        };
        let sweep = kv.store_sweep().filter(|_| sealed.sweeps);
        let tail = tail.view();
        let ahead = &mut self.ahead;
        match feed.step(&mut self.store, ahead, sweep, tail, sealed.end, budget)? {
            Fed::Some => return Ok(true),
            Fed::Waits => return Ok(false),
            Fed::All => {}
        }
        sealed.ends_sweep = feed.ends_sweep();
        self.store.seal(sealed.stores_freelist)?;
        if let Phase::Feeding(sealed, _) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.phase = Phase::Writing(sealed);
        }
        Ok(false)
    }

    /// Output: the next operation on the file.
    pub(crate) fn poll_io(&mut self) -> Option<StoreIo> {
        match self.phase {
            Phase::Writing(_) => self.store.poll_io(),
            _ => None,
        }
    }

    /// Input: an operation on the file ended.
    pub(crate) fn on_io_done(&mut self, ticket: StoreTicket, result: Result<(), IoFault>) {
        self.store.on_io_done(ticket, result);
        if self.store.state() != CommitState::Idle {
            return;
        }
        if let Phase::Writing(sealed) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.phase = Phase::Durable(sealed);
        }
    }

    /// Output: parts of the file that are to be brought into memory, all at once.
    pub(crate) fn poll_load(&mut self) -> Option<Vec<Extent>> {
        self.ahead.poll()
    }

    /// Input: they are, or cannot be.
    pub(crate) fn on_loaded(&mut self) {
        self.ahead.on_loaded();
    }

    /// What the commit that is under way is up to.
    pub(crate) fn commit_state(&self) -> CommitState {
        self.store.state()
    }

    /// Tries again to claim space for the file.
    pub(crate) fn retry_claim(&mut self) {
        self.store.retry_claim();
    }

    /// Takes over a checkpoint that has become durable, if there is one; to be followed at once by a publication, whose
    /// version is `version`.
    pub(crate) fn install(&mut self, kv: &mut Kv, tail: &mut Tail, version: u64) -> bool {
        if !matches!(self.phase, Phase::Durable(_)) {
            return false;
        }
        let Phase::Durable(sealed) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return false;
        };
        self.tree = self.store.tree(Bucket::Key);
        tail.begin_at(sealed.end);
        if sealed.ends_sweep {
            kv.compactor_mut().on_swept();
        }
        self.leaving.push_back(Leaving {
            version,
            txid: self.store.txid(),
            first: sealed.end,
            size: sealed.size,
        });
        if self.mover.as_ref().is_some_and(Mover::is_done) {
            self.mover = None;
        }
        self.stored_size = sealed.size;
        self.stored_revision = sealed.revision;
        self.checkpoint = Checkpoint {
            index: sealed.seal.index,
            term: sealed.seal.term,
        };
        true
    }

    /// Gives back what no reader can reach any more, and looks for what a defragmentation is to move; true while there is
    /// more of either to do now.
    pub(crate) fn tend(&mut self, kv: &Kv, tail: &mut Tail, budget: &mut Budget) -> bool {
        #[cfg(feature = "sabotage")]
        if self.sabotage == Some(crate::view::Sabotage::ReuseStorePages) {
            self.store.release(self.store.txid());
        }
        while let Some(leaving) = self.leaving.front()
            && kv.index().is_out_of_reach(leaving.version)
        {
            self.releasable = leaving.txid;
            self.forgettable = leaving.first;
            self.forgotten_size = leaving.size;
            self.leaving.pop_front();
        }
        self.store.release(self.images.oldest(self.releasable));
        if self.store.reclaim(budget) {
            return true;
        }
        while tail.forget_before(self.forgettable) {
            budget.spend(FORGET_COST);
            if budget.is_spent() {
                return true;
            }
        }
        if let Some(mover) = &mut self.mover
            && matches!(self.phase, Phase::Idle)
            && !mover.is_ready()
        {
            if let Err(damage) = mover.search(&self.store, &mut self.ahead, budget) {
                // The member stops when it looks at the file next.
                self.file.fail(damage);
            }
            return !mover.is_ready() && !self.ahead.is_loading();
        }
        false
    }
}

/// What freeing a chunk of the tail counts for: some hundred pairs.
const FORGET_COST: usize = 64;
