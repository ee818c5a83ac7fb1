//! The memory of a page tree: pages of `SIZE` bytes that never move.
//!
//! Chunks double, so that a page's place follows from its number and the table of chunks stays short:
//!
//! ```text
//!   chunk 0: pages 0..64    chunk 1: 64..192    chunk 2: 192..448   ...   chunk k: 64 << k pages
//! ```
//!
//! A chunk is claimed zeroed and untouched, so the kernel gives memory only to pages that are used.
//!
//! The one module of the engine with unsafe code. Its rules: [`Owner`] exists once for an arena and hands out `&mut` to
//! a page only through its own `&mut`, and only if the page is *private*, i.e. allocated in the running batch. Whoever
//! else reads does so through [`Arena::page`] with numbers that it found, starting from a published meta page, in pages
//! that a pin keeps from being used again. Those are not private. Keeping to that is up to [`super::Space`] (which
//! publishes and reclaims) and to the tree (which must not make page numbers up).
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Identity of a page in its arena. 0 is never allocated and stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u32);

impl PageNo {
    pub const NONE: PageNo = PageNo(0);
}

const FIRST_CHUNK_BITS: u32 = 6;
/// Enough for every `u32`.
const CHUNK_COUNT: usize = 27;

/// Stamp of a page that is on the free list.
const FREE: u64 = 0;

#[repr(transparent)]
struct Cell<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

type Chunk<const SIZE: usize> = Box<[Cell<SIZE>]>;

/// Pages, for reading. See the module text.
pub struct Arena<const SIZE: usize> {
    chunks: [OnceLock<Chunk<SIZE>>; CHUNK_COUNT],
}

// SAFETY: pages are written through `Owner` alone, and only while no other thread reads them: a private page's number
// was not published yet, and publishing orders the writes before any read (`publish.rs`).
unsafe impl<const SIZE: usize> Sync for Arena<SIZE> {}
// SAFETY: a page is plain bytes, bound to no thread.
unsafe impl<const SIZE: usize> Send for Arena<SIZE> {}

impl<const SIZE: usize> fmt::Debug for Arena<SIZE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").finish_non_exhaustive()
    }
}

/// Chunk and place in it.
fn locate(no: PageNo) -> (usize, usize) {
    let shifted = u64::from(no.0) + (1 << FIRST_CHUNK_BITS);
    let log = shifted.ilog2();
    (
        (log - FIRST_CHUNK_BITS) as usize,
        (shifted - (1 << log)) as usize,
    )
}

fn new_chunk<const SIZE: usize>(index: usize) -> Chunk<SIZE> {
    let pages = vec![[0_u8; SIZE]; 1 << (FIRST_CHUNK_BITS as usize + index)].into_boxed_slice();
    // SAFETY: `Cell` is a transparent wrapper of `UnsafeCell`, which is one of `[u8; SIZE]`, so layout and allocation
    // are the same; the box was just made and nothing else points into it.
    unsafe { Box::from_raw(Box::into_raw(pages) as *mut [Cell<SIZE>]) }
}

impl<const SIZE: usize> Arena<SIZE> {
    fn cell(&self, no: PageNo) -> &Cell<SIZE> {
        let (chunk, place) = locate(no);
        let chunk = self.chunks[chunk]
            .get()
            .expect("only allocated pages have numbers");
        &chunk[place]
    }

    /// A page that is reached from a pinned root, or any page if the writer asks.
    pub(crate) fn page(&self, no: PageNo) -> &[u8; SIZE] {
        // SAFETY: for the writer's thread, `Owner::page_mut` takes `&mut Owner`, and the tree's read access borrows the
        // owner's space, so no `&mut` lives beside this. For others the page is published and pinned (module text), so
        // it is not private, and only private pages are written.
        unsafe { &*self.cell(no).0.get() }
    }
}

/// The right to write an arena's private pages; one for each arena.
#[derive(Debug)]
pub(super) struct Owner<const SIZE: usize> {
    arena: Arc<Arena<SIZE>>,
    /// Batch in which each page was last allocated; [`FREE`] if it is not in use.
    stamps: Vec<u64>,
}

impl<const SIZE: usize> Owner<SIZE> {
    pub(super) fn new() -> Self {
        let arena = Arena {
            chunks: std::array::from_fn(|_| OnceLock::new()),
        };
        Owner {
            arena: Arc::new(arena),
            // Page 0 stands for none: its stamp is never a batch.
            stamps: vec![u64::MAX],
        }
    }

    pub(super) fn arena(&self) -> &Arc<Arena<SIZE>> {
        &self.arena
    }

    /// Pages that were ever used.
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Adds a page to the arena.
    pub(super) fn grow(&mut self, batch: u64) -> PageNo {
        let no = u32::try_from(self.stamps.len()).expect("2^32 pages are more than a machine has");
        let (chunk, _) = locate(PageNo(no));
        self.arena.chunks[chunk].get_or_init(|| new_chunk(chunk));
        self.stamps.push(batch);
        PageNo(no)
    }

    pub(super) fn reuse(&mut self, no: PageNo, batch: u64) {
        let stamp = &mut self.stamps[no.0 as usize];
        assert_eq!(*stamp, FREE, "page {} is in use", no.0);
        *stamp = batch;
    }

    /// The caller has made sure that no pin can reach the page any more.
    pub(super) fn free(&mut self, no: PageNo) {
        let stamp = &mut self.stamps[no.0 as usize];
        assert_ne!(*stamp, FREE, "page {} is freed twice", no.0);
        *stamp = FREE;
    }

    pub(super) fn is_private(&self, no: PageNo, batch: u64) -> bool {
        self.stamps[no.0 as usize] == batch
    }

    pub(super) fn page_mut(&mut self, no: PageNo, batch: u64) -> &mut [u8; SIZE] {
        assert!(
            self.is_private(no, batch),
            "page {} is shared with readers",
            no.0
        );
        // SAFETY: `&mut self` is the only way to write and excludes the writer's own reads. The stamp says that the
        // page was allocated in the running batch, so no published page refers to it and no reader has its number.
        unsafe { &mut *self.arena.cell(no).0.get() }
    }

    /// A private page to write and another one to read.
    pub(super) fn pair_mut(
        &mut self,
        from: PageNo,
        to: PageNo,
        batch: u64,
    ) -> (&[u8; SIZE], &mut [u8; SIZE]) {
        assert_ne!(from, to, "a page is not copied onto itself");
        assert!(
            self.is_private(to, batch),
            "page {} is shared with readers",
            to.0
        );
        // SAFETY: as in `page_mut`; the two pages differ, so the references do not overlap.
        unsafe {
            (
                &*self.arena.cell(from).0.get(),
                &mut *self.arena.cell(to).0.get(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_number_has_a_place_of_its_own() {
        assert_eq!(locate(PageNo(0)), (0, 0));
        assert_eq!(locate(PageNo(63)), (0, 63));
        assert_eq!(locate(PageNo(64)), (1, 0));
        assert_eq!(locate(PageNo(191)), (1, 127));
        assert_eq!(locate(PageNo(192)), (2, 0));
        let (chunk, _) = locate(PageNo(u32::MAX));
        assert!(chunk < CHUNK_COUNT);
    }

    #[test]
    fn pages_keep_what_was_written() {
        let mut owner = Owner::<64>::new();
        let pages: Vec<PageNo> = (0..500).map(|_| owner.grow(1)).collect();
        for no in &pages {
            owner.page_mut(*no, 1).fill(no.0 as u8);
        }
        for no in &pages {
            assert_eq!(owner.arena().page(*no), &[no.0 as u8; 64]);
        }
    }

    #[test]
    #[should_panic(expected = "shared with readers")]
    fn a_page_of_a_former_batch_is_not_written() {
        let mut owner = Owner::<64>::new();
        let no = owner.grow(1);
        owner.page_mut(no, 2);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_page_is_freed_once() {
        let mut owner = Owner::<64>::new();
        let no = owner.grow(1);
        owner.free(no);
        owner.free(no);
    }
}
