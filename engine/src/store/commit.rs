//! The writer: one commit at a time, from `begin` to its last sync.
//!
//! ```text
//!   Idle --begin--> Open --put, delete--> Open --seal--> Writing --last sync--> Idle
//!                     |                                  |    \
//!                     | damaged page              failed |     Grow failed: ClaimFailed --retry_claim--> Writing
//!                     v                                  v
//!                   Failed                            Failed
//! ```
//!
//! Readers see nothing of an open commit: `tree` and `txid` are those of the last durable one until the new one is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::state::Progress;
use crate::tail::Bucket;
use crate::types::Budget;
use crate::wal::IoFault;

use super::ahead::{Extent, Look, Looker};
use super::build::Fill;
use super::damage::{DamageKind, OpenError, StoreDamage};
use super::high::{HighPages, Search};
use super::io::{CommitState, StoreIo, StoreTicket};
use super::open;
use super::page::{
    BucketValue, COUNT_ELSEWHERE, FREELIST, HEADER_LEN, Header, IS_BUCKET, META_LEN, Meta,
    PAGE_SIZE_NEW, PageNo, Tree,
};
use super::read::TreeReader;
use super::rewrite::{Fresh, Ground, Rewrite};
use super::scan::Scan;
use super::space::{Runs, Space};
use super::writing::{Outcome, Writing};
use super::{BUCKETS, Pages};

/// Free pages that a file may have however small it is.
const SPARE_PAGES: u64 = 256;

/// What is open between `begin` and `seal`.
#[derive(Debug, Default)]
struct Changes {
    current: Option<(Bucket, Rewrite)>,
    /// New roots of the buckets that were left.
    roots: BTreeMap<Bucket, PageNo>,
    fresh: Fresh,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    pages: Arc<dyn Pages>,
    file_len: u64,
    /// Of the last durable commit.
    meta: Meta,
    /// The meta page that holds it; `None`: nothing was ever committed.
    slot: Option<u64>,
    /// By [`Bucket`], of the last durable commit.
    trees: [Tree; BUCKETS.len()],
    space: Space,
    /// What remains to be looked at before the free pages are known.
    scan: Option<Scan>,
    /// Pages that the last durable commit's tree does not reach.
    unused_pages: u64,
    state: CommitState,
    /// The file was there, and no commit of this life has synced it yet.
    is_found: bool,
    /// The open commit is to end with the file cut.
    is_shrinking: bool,
    changes: Changes,
    writing: Option<Writing>,
    next_ticket: u64,
}

impl Store {
    /// A store in an empty file. Its first commit makes all of etcd's buckets; until it is durable the file cannot be
    /// opened ([`OpenError::Unborn`]).
    pub fn create(pages: Arc<dyn Pages>) -> Store {
        let meta = Meta {
            page_size: PAGE_SIZE_NEW,
            root: PageNo(0),
            root_sequence: 0,
            freelist: PageNo::NO_FREELIST,
            high_water: PageNo::FIRST.0,
            txid: 0,
        };
        Store::new(pages, 0, meta, None)
    }

    /// Looks at both meta pages and opens the state that the newer valid one leads to.
    ///
    /// [`Store::scan`] must be done before the first commit.
    ///
    /// # Errors
    /// The file is no such store, was cut, or is damaged at its root.
    pub fn open(pages: Arc<dyn Pages>, file_len: u64) -> Result<Store, OpenError> {
        let (meta, slot) = open::choose_meta(&*pages, file_len)?;
        let free = match meta.freelist {
            PageNo::NO_FREELIST => None,
            _ => Some(open::stored_freelist(&*pages, &meta)?),
        };
        let mut store = Store::new(pages, file_len, meta, Some(slot));
        store.is_found = true;
        store.trees = store.read_trees()?;
        match free {
            Some(free) => store.on_free_known(free),
            None => store.scan = Some(Scan::begin(&meta)?),
        }
        Ok(store)
    }

    fn new(pages: Arc<dyn Pages>, file_len: u64, meta: Meta, slot: Option<u64>) -> Store {
        Store {
            pages,
            file_len,
            meta,
            slot,
            trees: [Tree::EMPTY; BUCKETS.len()],
            space: Space::new(meta.page_size, meta.high_water, Runs::default()),
            scan: None,
            unused_pages: 0,
            state: CommitState::Idle,
            is_found: false,
            is_shrinking: false,
            changes: Changes::default(),
            writing: None,
            next_ticket: 0,
        }
    }

    /// Finds the free pages, where no list of them is stored, by walking all trees. A unit of the budget is a page.
    ///
    /// # Errors
    /// A page is damaged, or reached twice.
    pub fn scan(&mut self, budget: &mut Budget) -> Result<Progress<()>, StoreDamage> {
        if let Some(scan) = &mut self.scan {
            if let Progress::More = scan.run(&*self.pages, budget)? {
                return Ok(Progress::More);
            }
            let free = scan.free_pages();
            self.scan = None;
            self.on_free_known(free);
        }
        Ok(Progress::Done(()))
    }

    fn on_free_known(&mut self, free: Runs) {
        self.unused_pages = free.count();
        self.space = Space::new(self.meta.page_size, self.meta.high_water, free);
    }

    pub fn pages(&self) -> &Arc<dyn Pages> {
        &self.pages
    }

    pub const fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// Where the bucket begins as of the last durable commit.
    pub const fn tree(&self, bucket: Bucket) -> Tree {
        self.trees[bucket as usize]
    }

    pub fn reader(&self, bucket: Bucket) -> TreeReader<'_> {
        TreeReader::new(&*self.pages, self.meta.page_size, self.tree(bucket))
    }

    /// Names the last durable commit: its meta page without the header.
    pub fn meta_page(&self) -> [u8; META_LEN] {
        self.meta.encode()
    }

    /// Both meta pages of a file whose only state is the last durable commit's: the newer one, and an older one that
    /// leads there too. `None`: there is none.
    pub fn meta_pages(&self) -> Option<Bytes> {
        self.slot?;
        let newer = self.meta.txid % 2;
        let pages = [0, 1].map(|slot| {
            let txid = self.meta.txid - u64::from(slot != newer);
            let mut page = vec![0; self.meta.page_size as usize];
            Meta { txid, ..self.meta }.encode_page(slot, &mut page);
            page
        });
        Some(pages.concat().into())
    }

    /// Of the last durable commit; 0 in a store that has none.
    pub const fn txid(&self) -> u64 {
        self.meta.txid
    }

    /// The part of the file that was ever used, as of the last durable commit: what etcd reports as the db's size.
    pub const fn file_bytes(&self) -> u64 {
        self.meta.high_water * self.meta.page_size as u64
    }

    /// The same without free pages. Before the scan is done no free page is known.
    pub const fn in_use_bytes(&self) -> u64 {
        (self.meta.high_water - self.unused_pages) * self.meta.page_size as u64
    }

    pub const fn state(&self) -> CommitState {
        self.state
    }

    /// Bytes of the pages that the open commit has made so far.
    pub const fn dirty_bytes(&self) -> u64 {
        self.changes.fresh.bytes()
    }

    /// Command: no pin reaches a root older than commit `txid`, so pages that left the tree in commits up to and with
    /// `txid` may be used again. (Those of the newest commit wait for another one: the older meta page leads to them.)
    pub fn release(&mut self, txid: u64) {
        assert!(
            txid <= self.meta.txid,
            "commit {txid} is not durable, the newest is {}",
            self.meta.txid
        );
        self.space.on_released(txid);
    }

    /// Command: makes pages free that were released. A unit of the budget is a run of pages. True if there are more.
    pub fn reclaim(&mut self, budget: &mut Budget) -> bool {
        self.space.reclaim(self.meta.txid, budget)
    }

    /// Command: begins a commit. The last one must be durable, the scan done.
    pub fn begin(&mut self) {
        assert_eq!(self.state, CommitState::Idle, "one commit at a time");
        assert!(self.scan.is_none(), "free pages are not known yet");
        self.space.begin(self.meta.txid);
        self.changes = Changes::default();
        self.state = CommitState::Open;
    }

    /// Command: adds or replaces a pair. Keys of a bucket ascend, none is empty; a bucket that was left for another one
    /// is not touched again in this commit.
    ///
    /// # Errors
    /// A page on the way is damaged. The commit is over, and the store with it.
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: &[u8]) -> Result<(), StoreDamage> {
        let change =
            |rewrite: &mut Rewrite, ground: &mut Ground<'_>| rewrite.put(ground, 0, key, value);
        self.change(bucket, change)
    }

    /// Command: leaves out a pair; true if it was there. Order as for [`Store::put`].
    ///
    /// # Errors
    /// As for [`Store::put`].
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) -> Result<bool, StoreDamage> {
        self.change(bucket, |rewrite, ground| rewrite.delete(ground, key))
    }

    /// Command: rewrites the leaf that covers `key`, and the pages on the way to it, though nothing is changed: they go where
    /// there is room nearer to the beginning. Order as for [`Store::put`].
    ///
    /// # Errors
    /// As for [`Store::put`].
    pub fn touch(&mut self, bucket: Bucket, key: &[u8]) -> Result<(), StoreDamage> {
        self.change(bucket, |rewrite, ground| rewrite.touch(ground, key))
    }

    /// Command: the open commit ends with the file cut behind its last page, and the former commit's.
    pub fn shrink(&mut self) {
        assert_eq!(self.state, CommitState::Open, "no commit is open");
        self.is_shrinking = true;
        self.space.pack();
    }

    /// Looks which pages of `height`, 0 for leaves, are not in memory, from the one that covers `from` on: so many as can
    /// be loaded at once. Of the last durable commit.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn look_ahead(
        &self,
        bucket: Bucket,
        height: usize,
        from: &[u8],
    ) -> Result<Look, StoreDamage> {
        self.looker(bucket).look(height, from)
    }

    /// The same for the leaves that cover these keys, or for pages on the way to them.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn look_ahead_for<'k>(
        &self,
        bucket: Bucket,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<Vec<Extent>, StoreDamage> {
        self.looker(bucket).look_for(keys)
    }

    fn looker(&self, bucket: Bucket) -> Looker<'_> {
        Looker::new(&*self.pages, self.meta.page_size, self.tree(bucket))
    }

    /// Looks for leaves that cover keys at and behind `from`, and for branches above them, that lie at or behind the page
    /// that the file would end with if it had few free pages. Of the last durable commit. Ends before `until`.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn high_pages(
        &self,
        bucket: Bucket,
        from: &[u8],
        until: Option<&[u8]>,
        count_max: usize,
        budget: &mut Budget,
    ) -> Result<HighPages, StoreDamage> {
        let used = self.meta.high_water - self.unused_pages;
        // Each commit needs new pages before it can do without the old ones.
        let limit = PageNo(used + used / 64 + SPARE_PAGES);
        let mut search = Search {
            pages: &*self.pages,
            page_size: self.meta.page_size,
            limit,
            from,
            until,
            count_max,
            budget,
            found: Vec::new(),
            has_searched: false,
            rest: None,
        };
        if limit.0 < self.meta.high_water {
            search.run(self.tree(bucket))?;
        }
        Ok(HighPages {
            keys: search.found,
            rest: search.rest,
        })
    }

    fn change<T>(
        &mut self,
        bucket: Bucket,
        change: impl FnOnce(&mut Rewrite, &mut Ground<'_>) -> Result<T, StoreDamage>,
    ) -> Result<T, StoreDamage> {
        assert_eq!(self.state, CommitState::Open, "no commit is open");
        let result = self.enter(bucket).and_then(|mut rewrite| {
            let result = change(&mut rewrite, &mut self.ground());
            self.changes.current = Some((bucket, rewrite));
            result
        });
        self.fail_on_damage(result)
    }

    fn fail_on_damage<T>(&mut self, result: Result<T, StoreDamage>) -> Result<T, StoreDamage> {
        if result.is_err() {
            self.state = CommitState::Failed;
        }
        result
    }

    fn ground(&mut self) -> Ground<'_> {
        Ground {
            pages: &*self.pages,
            space: &mut self.space,
            fresh: &mut self.changes.fresh,
        }
    }

    /// The bucket's rewrite; that of the former bucket is finished.
    fn enter(&mut self, bucket: Bucket) -> Result<Rewrite, StoreDamage> {
        match self.changes.current.take() {
            Some((current, rewrite)) if current == bucket => return Ok(rewrite),
            Some((left, rewrite)) => self.leave(left, rewrite)?,
            None => {}
        }
        assert!(
            !self.changes.roots.contains_key(&bucket),
            "bucket {} was left before",
            bucket.name()
        );
        let tree = self.tree(bucket);
        Rewrite::begin(&mut self.ground(), tree, fill_of(bucket))
    }

    fn leave(&mut self, bucket: Bucket, rewrite: Rewrite) -> Result<(), StoreDamage> {
        let root = rewrite.finish(&mut self.ground())?;
        self.changes.roots.insert(bucket, root);
        Ok(())
    }

    /// Command: ends the changes; what is to be written stands ready. `stores_freelist`: with a list of the free pages,
    /// so that opening does not scan (etcd does without it, and reads both).
    ///
    /// The list costs time and space in proportion to the free pages.
    ///
    /// # Errors
    /// As for [`Store::put`].
    pub fn seal(&mut self, stores_freelist: bool) -> Result<(), StoreDamage> {
        assert_eq!(self.state, CommitState::Open, "no commit is open");
        let result = self.try_seal(stores_freelist);
        self.fail_on_damage(result)
    }

    fn try_seal(&mut self, stores_freelist: bool) -> Result<(), StoreDamage> {
        if let Some((bucket, rewrite)) = self.changes.current.take() {
            self.leave(bucket, rewrite)?;
        }
        if self.slot.is_none() {
            self.make_missing_buckets()?;
        }
        let root = self.rewrite_root()?;
        self.space.trim();
        let freelist = self.rewrite_freelist(stores_freelist)?;
        // The next page in turn is the older one's, unless another program put the newer meta page where it does not
        // belong.
        let next = self.meta.txid + 1;
        let txid = if self.slot == Some(next % 2) {
            next + 1
        } else {
            next
        };
        let meta = Meta {
            root,
            freelist,
            high_water: self.space.high_water(),
            txid,
            ..self.meta
        };
        let slots = match self.slot {
            Some(_) => txid % 2..=txid % 2,
            None => 0..=1,
        };
        let pages = std::mem::take(&mut self.changes.fresh).into_pages();
        let mut writing = Writing::new(meta, slots, pages, self.file_len);
        if std::mem::take(&mut self.is_found) {
            writing.sync_found_first();
        }
        if std::mem::take(&mut self.is_shrinking) {
            writing.cut_behind(&self.meta, self.file_len);
        }
        self.writing = Some(writing);
        self.state = CommitState::Writing;
        Ok(())
    }

    fn make_missing_buckets(&mut self) -> Result<(), StoreDamage> {
        for bucket in BUCKETS {
            if !self.changes.roots.contains_key(&bucket) {
                let empty = Rewrite::begin(&mut self.ground(), Tree::EMPTY, Fill::Random)?;
                self.leave(bucket, empty)?;
            }
        }
        Ok(())
    }

    /// The root bucket with the new roots; buckets that did not change, and those that are not etcd's, stay.
    fn rewrite_root(&mut self) -> Result<PageNo, StoreDamage> {
        if self.changes.roots.is_empty() {
            return Ok(self.meta.root);
        }
        let tree = Tree::at_page(self.meta.root);
        let roots = std::mem::take(&mut self.changes.roots);
        let mut values = Vec::with_capacity(roots.len());
        for (bucket, root) in roots {
            let sequence = self.bucket_value(bucket)?.map_or(0, |value| value.sequence);
            values.push((bucket, BucketValue::encode(root, sequence)));
        }
        let mut ground = self.ground();
        let mut rewrite = Rewrite::begin(&mut ground, tree, Fill::Random)?;
        for (bucket, value) in values {
            rewrite.put(&mut ground, IS_BUCKET, bucket.name().as_bytes(), &value)?;
        }
        rewrite.finish(&mut ground)
    }

    fn rewrite_freelist(&mut self, stores_freelist: bool) -> Result<PageNo, StoreDamage> {
        let page_size = self.meta.page_size as usize;
        if self.meta.freelist != PageNo::NO_FREELIST {
            let len = open::freelist_len(&*self.pages, &self.meta)?;
            self.space.retire(self.meta.freelist, len)?;
        }
        if !stores_freelist {
            return Ok(PageNo::NO_FREELIST);
        }
        // Taking pages for the list makes it shorter, never longer.
        let words = self.space.listed() as usize + 1;
        let page_count = (HEADER_LEN + words * 8).div_ceil(page_size);
        let page = self.space.allocate(page_count as u64);
        let mut bytes = vec![0; page_count * page_size];
        let count = self.space.listed();
        let (field, mut at) = match u16::try_from(count) {
            Ok(count) if count < COUNT_ELSEWHERE => (count, HEADER_LEN),
            _ => (COUNT_ELSEWHERE, HEADER_LEN + 8),
        };
        if field == COUNT_ELSEWHERE {
            bytes[HEADER_LEN..at].copy_from_slice(&count.to_le_bytes());
        }
        for free in self.space.listed_pages() {
            bytes[at..at + 8].copy_from_slice(&free.to_le_bytes());
            at += 8;
        }
        let header = Header {
            page: page.0,
            flags: FREELIST,
            count: field,
            overflow: u32::try_from(page_count - 1).expect("fewer than 2^41 free pages"),
        };
        header.encode(&mut bytes);
        self.changes.fresh.insert(page, bytes);
        Ok(page)
    }

    /// Output: the next operation on the file.
    pub fn poll_io(&mut self) -> Option<StoreIo> {
        if self.state != CommitState::Writing {
            return None;
        }
        let io = self
            .writing
            .as_mut()?
            .poll_io(StoreTicket(self.next_ticket))?;
        self.next_ticket += 1;
        Some(io)
    }

    /// Input: an operation ended. The file shows what it did already.
    pub fn on_io_done(&mut self, ticket: StoreTicket, result: Result<(), IoFault>) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let outcome = writing.on_io_done(ticket, result.is_ok());
        if self.state == CommitState::Failed {
            return;
        }
        match outcome {
            Outcome::GoOn => {}
            Outcome::Resized { len } => self.file_len = len,
            Outcome::NoRoom => self.state = CommitState::ClaimFailed,
            Outcome::Failed => self.state = CommitState::Failed,
            Outcome::Durable => self.on_durable(),
            Outcome::Cut { len } => {
                self.file_len = len;
                self.on_durable();
            }
        }
    }

    /// Command: asks for room again, after it was refused.
    pub fn retry_claim(&mut self) {
        if self.state == CommitState::ClaimFailed
            && let Some(writing) = &mut self.writing
        {
            writing.retry();
            self.state = CommitState::Writing;
        }
    }

    fn on_durable(&mut self) {
        let Some(writing) = self.writing.take() else {
            return;
        };
        self.meta = writing.meta();
        self.slot = Some(self.meta.txid % 2);
        self.space.on_committed(self.meta.txid);
        self.unused_pages = self.space.unused();
        match self.read_trees() {
            Ok(trees) => {
                self.trees = trees;
                self.state = CommitState::Idle;
            }
            // What was written is not what is read.
            Err(_) => self.state = CommitState::Failed,
        }
    }

    fn read_trees(&self) -> Result<[Tree; BUCKETS.len()], StoreDamage> {
        let mut trees = [Tree::EMPTY; BUCKETS.len()];
        for bucket in BUCKETS {
            if let Some(value) = self.bucket_value(bucket)? {
                trees[bucket as usize] = value.tree;
            }
        }
        Ok(trees)
    }

    /// What the root bucket has under the bucket's name.
    fn bucket_value(&self, bucket: Bucket) -> Result<Option<BucketValue>, StoreDamage> {
        let root = Tree::at_page(self.meta.root);
        let reader = TreeReader::new(&*self.pages, self.meta.page_size, root);
        let Some(element) = reader.element(bucket.name().as_bytes())? else {
            return Ok(None);
        };
        if !element.is_bucket() {
            return Err(StoreDamage::new(
                element.value_offset,
                DamageKind::NotABucket,
            ));
        }
        BucketValue::decode(element.value, element.value_offset).map(Some)
    }
}

/// Revisions only ever ascend; other keys come as they come.
const fn fill_of(bucket: Bucket) -> Fill {
    match bucket {
        Bucket::Key => Fill::Ascending,
        _ => Fill::Random,
    }
}
