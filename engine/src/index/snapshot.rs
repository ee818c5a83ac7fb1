//! The index as readers on other threads see it.
//!
//! A published state is its pages and one meta page:
//!
//! ```text
//!   0  root u32 | 8  newest main revision i64
//! ```

use crate::cow::{PageNo, Reader, Snapshot};
use crate::types::Revision;

use super::page::{PAGE_SIZE, Page, get_u32, put_u32};
use super::read::Reading;
use super::{Index, KeyRange, Version, Walked};

fn write_meta(page: &mut Page, root: PageNo, newest: i64) {
    put_u32(page, 0, root.0);
    page[8..16].copy_from_slice(&newest.to_le_bytes());
}

impl Index {
    /// Shows all changes so far to the readers.
    pub fn publish(&mut self) {
        let (root, newest) = (self.tree.root, self.newest);
        let space = &mut self.tree.space;
        let meta = space.allocate();
        write_meta(space.page_mut(meta), root, newest);
        space.publish(meta);
        // The next state has a meta page of its own.
        space.release(meta);
    }

    /// A handle for a reader on any thread; `None` if there are too many.
    pub fn reader(&self) -> Option<IndexReader> {
        self.tree.space.reader().map(IndexReader)
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
}

/// A pinned state of the index.
#[derive(Debug)]
pub struct IndexSnapshot<'a>(Snapshot<'a, PAGE_SIZE>);

impl IndexSnapshot<'_> {
    fn reading(&self) -> Reading<'_> {
        let pages = self.0.arena();
        let meta = pages.page(self.0.meta());
        let newest = meta[8..16].try_into().map_or(0, i64::from_le_bytes);
        Reading {
            pages,
            root: PageNo(get_u32(meta, 0)),
            newest,
        }
    }

    /// Newest main revision of any version.
    pub fn newest(&self) -> i64 {
        self.reading().newest
    }

    /// As [`Index::get`].
    pub fn get(&self, key: &[u8], at: i64) -> Option<Version> {
        self.reading().get(key, at)
    }

    /// As [`Index::walk`].
    pub fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        at: i64,
        visit: impl FnMut(&[u8], Option<&Version>) -> bool,
    ) -> Walked {
        self.reading().walk(range, after, at, visit)
    }

    /// As [`Index::count_newest`].
    pub fn count_newest(&self, range: &KeyRange, after: Option<&[u8]>, at: i64) -> Option<u64> {
        (at >= self.newest()).then(|| self.reading().count_newest(range, after))
    }

    /// As [`Index::holds`].
    pub fn holds(&self, key: &[u8], revision: Revision) -> bool {
        self.reading().holds(key, revision)
    }

    pub fn live_count(&self) -> u64 {
        self.reading().live()
    }
}
