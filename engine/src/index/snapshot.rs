//! The index as readers on other threads see it.
//!
//! A published state is its pages and one meta page:
//!
//! ```text
//!   0  root u32 | 8  newest main revision i64 | 16  the publisher's note, up to NOTE_LEN_MAX bytes
//! ```
//!
//! The note is whatever else readers must find together with the index; what it says is the publisher's business.

use crate::cow::{PageNo, Reader, Readers, Snapshot, Stay};

use super::Index;
use super::page::{PAGE_SIZE, Page, get_u32, put_u32};
use super::read::Reading;

const NOTE_AT: usize = 16;

/// A note is at most so long.
pub const NOTE_LEN_MAX: usize = PAGE_SIZE - NOTE_AT;

fn write_meta(page: &mut Page, root: PageNo, newest: i64, note: &[u8]) {
    put_u32(page, 0, root.0);
    page[8..16].copy_from_slice(&newest.to_le_bytes());
    page[NOTE_AT..NOTE_AT + note.len()].copy_from_slice(note);
}

impl Index {
    /// Shows all changes so far to the readers, and a note with them.
    ///
    /// # Panics
    /// If the note is longer than [`NOTE_LEN_MAX`].
    pub fn publish(&mut self, note: &[u8]) {
        let (root, newest) = (self.tree.root, self.newest);
        let space = &mut self.tree.space;
        let meta = space.allocate();
        write_meta(space.page_mut(meta), root, newest, note);
        space.publish(meta);
        // The next state has a meta page of its own.
        space.release(meta);
    }

    /// Where readers on other threads come from.
    pub fn readers(&self) -> IndexReaders {
        IndexReaders(self.tree.space.readers())
    }

    /// A handle for a reader on any thread; `None` if there are too many.
    pub fn reader(&self) -> Option<IndexReader> {
        self.readers().reader()
    }

    /// The version that the changes since the last publication will be published as.
    pub fn next_version(&self) -> u64 {
        self.tree.space.batch()
    }

    /// A bug for the simulator to find: [`crate::view::Sabotage::ReusePinnedPages`].
    #[cfg(feature = "sabotage")]
    pub fn reuse_pinned_pages(&mut self) {
        self.tree.space.reuse_pinned_pages();
    }

    /// True if no reader can see a state older than the one published as `version`, which is published.
    pub fn is_out_of_reach(&self, version: u64) -> bool {
        self.tree.space.oldest() >= version
    }
}

/// Gives out handles for readers. Shared by all threads.
#[derive(Clone, Debug)]
pub struct IndexReaders(Readers<PAGE_SIZE>);

impl IndexReaders {
    /// A handle for a reader on any thread; `None` if there are too many.
    pub fn reader(&self) -> Option<IndexReader> {
        self.0.reader().map(IndexReader)
    }
}

/// A reader's handle.
#[derive(Debug)]
pub struct IndexReader(Reader<PAGE_SIZE>);

impl IndexReader {
    /// The newest published state; `None` if there is none. Held for a slice, never across a wait.
    pub fn pin(&mut self) -> Option<IndexSnapshot<'_>> {
        self.0.pin().map(IndexSnapshot)
    }

    /// As [`IndexReader::pin`], for as long as the answer lives.
    pub fn stay(self) -> Option<IndexStay> {
        self.0.stay().map(IndexStay)
    }
}

/// A reader that keeps its pin.
#[derive(Debug)]
pub struct IndexStay(Stay<PAGE_SIZE>);

impl IndexStay {
    /// The state that was pinned.
    pub fn snapshot(&self) -> IndexSnapshot<'_> {
        IndexSnapshot(self.0.snapshot())
    }

    /// Ends the pin.
    pub fn leave(self) -> IndexReader {
        IndexReader(self.0.leave())
    }
}

/// A pinned state of the index.
#[derive(Debug)]
pub struct IndexSnapshot<'a>(Snapshot<'a, PAGE_SIZE>);

impl IndexSnapshot<'_> {
    fn meta(&self) -> &Page {
        self.0.arena().page(self.0.meta())
    }

    /// The state.
    pub fn reading(&self) -> Reading<'_> {
        let meta = self.meta();
        let newest = meta[8..16].try_into().map_or(0, i64::from_le_bytes);
        Reading {
            pages: self.0.arena(),
            root: PageNo(get_u32(meta, 0)),
            newest,
        }
    }

    /// The note of its publication; bytes behind its end are of no meaning.
    pub fn note(&self) -> &[u8; NOTE_LEN_MAX] {
        let (_, note) = self.meta().split_at(NOTE_AT);
        note.try_into().expect("a page is a header and a note")
    }
}
