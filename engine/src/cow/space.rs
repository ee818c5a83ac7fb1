//! The writer's side of a page tree, and the handles of its readers.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Layout;
use super::arena::{Arena, Owner, PageNo};
use super::publish::{Registry, SlotNo};

/// Readers at a time: a handle for each shard and some to spare. A scan of the pins costs a cache line for each that
/// was ever registered.
const READERS_MAX: usize = 256;

/// Pages that a batch took out of the tree, until no pin can reach them.
#[derive(Debug)]
struct Retired {
    version: u64,
    pages: Vec<PageNo>,
}

/// Allocates, copies and retires pages; publishes batches. The single writer owns it.
pub struct Space<L, const SIZE: usize> {
    owner: Owner<SIZE>,
    registry: Arc<Registry>,
    /// The running batch: the version that [`Space::publish`] will give it.
    batch: u64,
    /// Last in, first out, so that pages that are still in the cache are used again first.
    free: Vec<PageNo>,
    /// Shared pages that left the tree in the running batch.
    leaving: Vec<PageNo>,
    /// The same of published batches, oldest first.
    retired: VecDeque<Retired>,
    /// Pins are ignored: a bug for the simulator to find.
    #[cfg(feature = "sabotage")]
    reuses_pinned: bool,
    layout: PhantomData<L>,
}

impl<L, const SIZE: usize> fmt::Debug for Space<L, SIZE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("batch", &self.batch)
            .field("pages", &self.owner.len())
            .field("free", &self.free.len())
            .finish_non_exhaustive()
    }
}

impl<L: Layout<SIZE>, const SIZE: usize> Default for Space<L, SIZE> {
    fn default() -> Self {
        Space {
            owner: Owner::new(),
            registry: Arc::new(Registry::new(0, READERS_MAX)),
            batch: 1,
            free: Vec::new(),
            leaving: Vec::new(),
            retired: VecDeque::new(),
            #[cfg(feature = "sabotage")]
            reuses_pinned: false,
            layout: PhantomData,
        }
    }
}

impl<L: Layout<SIZE>, const SIZE: usize> Space<L, SIZE> {
    /// All pages, for reading by the writer.
    pub(crate) fn arena(&self) -> &Arena<SIZE> {
        self.owner.arena()
    }

    pub(crate) fn page(&self, no: PageNo) -> &[u8; SIZE] {
        self.arena().page(no)
    }

    /// A page that is private to the running batch: see [`Space::writable`].
    pub fn page_mut(&mut self, no: PageNo) -> &mut [u8; SIZE] {
        self.owner.page_mut(no, self.batch)
    }

    /// A private page with any content.
    pub fn allocate(&mut self) -> PageNo {
        if let Some(no) = self.free.pop() {
            self.owner.reuse(no, self.batch);
            return no;
        }
        self.owner.grow(self.batch)
    }

    /// The page itself if it is private, else a private copy; the page is then on its way out. The caller enters the
    /// number into the parent, which it made writable before.
    pub fn writable(&mut self, no: PageNo) -> PageNo {
        if self.owner.is_private(no, self.batch) {
            return no;
        }
        let copy = self.allocate();
        let (from, to) = self.owner.pair_mut(no, copy, self.batch);
        L::copy(from, to);
        self.leaving.push(no);
        copy
    }

    /// Takes a page out of the tree.
    pub fn release(&mut self, no: PageNo) {
        if self.owner.is_private(no, self.batch) {
            self.owner.free(no);
            self.free.push(no);
        } else {
            self.leaving.push(no);
        }
    }

    /// Ends the batch: readers find `meta` and what it refers to from now on.
    pub fn publish(&mut self, meta: PageNo) {
        let version = self.registry.publish(u64::from(meta.0));
        assert_eq!(version, self.batch, "a batch is published as its version");
        let pages = std::mem::take(&mut self.leaving);
        if !pages.is_empty() {
            self.retired.push_back(Retired { version, pages });
        }
        self.batch += 1;
        self.reclaim();
    }

    /// Makes pages that no pin reaches any more free again.
    pub fn reclaim(&mut self) {
        let oldest = self.registry.oldest();
        #[cfg(feature = "sabotage")]
        let oldest = if self.reuses_pinned {
            self.batch
        } else {
            oldest
        };
        while let Some(batch) = self.retired.pop_front_if(|batch| batch.version <= oldest) {
            for no in batch.pages {
                self.owner.free(no);
                self.free.push(no);
            }
        }
    }

    /// Where readers on other threads come from.
    pub fn readers(&self) -> Readers<SIZE> {
        Readers {
            arena: Arc::clone(self.owner.arena()),
            registry: Arc::clone(&self.registry),
        }
    }

    /// The version that the running batch will be published as.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// The oldest version that a pin may reach, the newest published one if there is no pin.
    pub fn oldest(&self) -> u64 {
        self.registry.oldest()
    }

    /// From now on pages are used again while they are pinned. Only for readers on the writer's own thread: others would
    /// race with it.
    #[cfg(feature = "sabotage")]
    pub fn reuse_pinned_pages(&mut self) {
        self.reuses_pinned = true;
    }

    /// Pages in the tree, those that pins hold back included.
    pub fn used_count(&self) -> usize {
        self.owner.len() - 1 - self.free.len()
    }

    /// Pages that have left the tree and wait for pins to end, or for the batch to.
    pub fn held_count(&self) -> usize {
        self.leaving.len() + self.retired.iter().map(|r| r.pages.len()).sum::<usize>()
    }
}

/// Gives out handles for readers.
#[derive(Clone, Debug)]
pub struct Readers<const SIZE: usize> {
    arena: Arc<Arena<SIZE>>,
    registry: Arc<Registry>,
}

impl<const SIZE: usize> Readers<SIZE> {
    /// A handle for a reader on any thread; `None` if there are too many.
    pub fn reader(&self) -> Option<Reader<SIZE>> {
        let slot = self.registry.register()?;
        Some(Reader {
            arena: Arc::clone(&self.arena),
            registry: Arc::clone(&self.registry),
            slot: Some(slot),
        })
    }
}

/// One reader's handle. It pins one state at a time.
#[derive(Debug)]
pub struct Reader<const SIZE: usize> {
    arena: Arc<Arena<SIZE>>,
    registry: Arc<Registry>,
    /// Gone only in `drop`.
    slot: Option<SlotNo>,
}

impl<const SIZE: usize> Reader<SIZE> {
    /// Pins the newest state; `None` before the first one is published. Held for a slice, never across a wait.
    pub fn pin(&mut self) -> Option<Snapshot<'_, SIZE>> {
        let slot = self.slot.as_mut()?;
        let meta = meta_of(self.registry.pin(slot));
        let snapshot = Snapshot {
            arena: &self.arena,
            pin: Some((&self.registry, slot)),
            meta,
        };
        (meta != PageNo::NONE).then_some(snapshot)
    }

    /// As [`Reader::pin`], for as long as the answer lives.
    pub fn stay(mut self) -> Option<Stay<SIZE>> {
        let slot = self.slot.as_mut()?;
        let meta = meta_of(self.registry.pin(slot));
        (meta != PageNo::NONE).then_some(Stay { reader: self, meta })
    }
}

/// A published root is a page number.
fn meta_of(root: u64) -> PageNo {
    PageNo(u32::try_from(root).unwrap_or_default())
}

/// A reader that keeps its pin. Dropping it ends the pin and gives the handle back.
#[derive(Debug)]
pub struct Stay<const SIZE: usize> {
    reader: Reader<SIZE>,
    meta: PageNo,
}

impl<const SIZE: usize> Stay<SIZE> {
    /// The state that was pinned.
    pub fn snapshot(&self) -> Snapshot<'_, SIZE> {
        Snapshot {
            arena: &self.reader.arena,
            pin: None,
            meta: self.meta,
        }
    }

    /// Ends the pin.
    pub fn leave(mut self) -> Reader<SIZE> {
        if let Some(slot) = &mut self.reader.slot {
            self.reader.registry.unpin(slot);
        }
        self.reader
    }
}

impl<const SIZE: usize> Drop for Reader<SIZE> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.registry.unregister(slot);
        }
    }
}

/// A pinned state: none of its pages changes while this lives.
#[derive(Debug)]
pub struct Snapshot<'a, const SIZE: usize> {
    arena: &'a Arena<SIZE>,
    /// `None`: somebody else keeps the pin for as long as this lives.
    pin: Option<(&'a Registry, &'a mut SlotNo)>,
    meta: PageNo,
}

impl<const SIZE: usize> Snapshot<'_, SIZE> {
    /// Where reading begins.
    pub fn meta(&self) -> PageNo {
        self.meta
    }

    pub(crate) fn arena(&self) -> &Arena<SIZE> {
        self.arena
    }
}

impl<const SIZE: usize> Drop for Snapshot<'_, SIZE> {
    fn drop(&mut self) {
        if let Some((registry, slot)) = &mut self.pin {
            registry.unpin(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flat;

    impl Layout<64> for Flat {
        fn copy(from: &[u8; 64], to: &mut [u8; 64]) {
            *to = *from;
        }
        fn is_leaf(_: &[u8; 64]) -> bool {
            true
        }
        fn count(_: &[u8; 64]) -> usize {
            0
        }
        fn child(_: &[u8; 64], _: usize) -> PageNo {
            PageNo::NONE
        }
    }

    fn with_page(byte: u8) -> (Space<Flat, 64>, PageNo) {
        let mut space = Space::default();
        let no = space.allocate();
        space.page_mut(no).fill(byte);
        space.publish(no);
        (space, no)
    }

    /// Writes the page through the copy that the batch makes of it, and publishes.
    fn overwrite(space: &mut Space<Flat, 64>, no: PageNo, byte: u8) -> PageNo {
        let copy = space.writable(no);
        space.page_mut(copy).fill(byte);
        space.publish(copy);
        copy
    }

    #[test]
    fn a_pinned_page_is_neither_changed_nor_used_again() {
        let (mut space, first) = with_page(1);
        let mut reader = space.readers().reader().unwrap();
        let snapshot = reader.pin().unwrap();
        let mut page = first;
        for byte in 2..9 {
            page = overwrite(&mut space, page, byte);
        }
        assert_eq!(snapshot.arena().page(snapshot.meta()), &[1; 64]);
        assert_eq!((space.used_count(), space.held_count()), (8, 7));
        drop(snapshot);
        space.reclaim();
        assert_eq!((space.used_count(), space.held_count()), (1, 0));
        let snapshot = reader.pin().unwrap();
        assert_eq!(snapshot.arena().page(snapshot.meta()), &[8; 64]);
    }

    #[test]
    fn a_batch_copies_a_page_once() {
        let (mut space, first) = with_page(1);
        let copy = space.writable(first);
        assert_ne!(copy, first);
        assert_eq!(space.writable(copy), copy);
        space.release(copy);
        assert_eq!(space.allocate(), copy);
    }

    #[test]
    fn handles_are_given_back() {
        let (space, _) = with_page(1);
        let mut handles: Vec<_> = (0..READERS_MAX)
            .filter_map(|_| space.readers().reader())
            .collect();
        assert_eq!(handles.len(), READERS_MAX);
        assert!(space.readers().reader().is_none());
        handles.pop();
        assert!(space.readers().reader().is_some());
    }

    #[test]
    fn nothing_is_to_be_read_before_the_first_batch_ends() {
        let space = Space::<Flat, 64>::default();
        assert!(space.readers().reader().unwrap().pin().is_none());
    }
}
