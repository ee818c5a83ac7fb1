//! Filling an empty index with versions that come in its own order.
//!
//! ```text
//!   push ... push         the leaf at the right edge fills up; full, it is written, and its parent gets to know it
//!   finish                what is open on each level is written, the last one is the root
//! ```
//!
//! Nothing is searched and no page is rewritten, so a version costs little more than its bytes; an insertion goes down
//! the tree twice. The tree is the one that ascending insertions make: full pages but at its right edge.
//!
//! Used at the start, for what the store or a saved index holds. Tested against insertions (`properties.rs`).

use std::cmp::Ordering;

use super::build::{Entries, separator};
use super::page::{Body, LIVE, NEWEST, Node, Overflow, Probe};
use super::tree::Tree;
use super::version::{self, Version};
use super::{Index, key, overflow};

/// A version that does not stand behind the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("versions are out of order")]
pub struct NotAscending;

/// See the module text.
#[derive(Debug)]
pub struct Bulk {
    tree: Tree,
    /// What is open at the right edge, leaves first.
    levels: Vec<Level>,
    /// What came last. Whether it is its key's newest is known with the next one.
    last: Last,
    len: usize,
    newest: i64,
}

/// The page of one level that is being filled.
#[derive(Debug)]
struct Level {
    entries: Entries,
    /// What parts it from the page on its left; nothing for the first one.
    begins: (Vec<u8>, Option<Overflow>),
}

#[derive(Debug, Default)]
struct Last {
    /// Empty: nothing came yet.
    index_key: Vec<u8>,
    revision_len: usize,
    record: Vec<u8>,
    is_live: bool,
}

impl Last {
    /// The key and its terminator, as the index key begins.
    fn named(&self) -> &[u8] {
        &self.index_key[..self.index_key.len() - self.revision_len]
    }
}

impl Default for Bulk {
    fn default() -> Self {
        Bulk {
            tree: Tree::default(),
            levels: vec![Level::new(0)],
            last: Last::default(),
            len: 0,
            newest: 0,
        }
    }
}

impl Bulk {
    /// Adds the next version.
    ///
    /// # Errors
    /// [`NotAscending`]; the builder is of no use any more.
    pub fn push(&mut self, key: &[u8], version: &Version) -> Result<(), NotAscending> {
        let index_key = key::at(key, version.revision);
        let revision_len = index_key.len() - key::before_len(key);
        let record = version::encode(version, revision_len);
        self.push_record(&index_key, &record, version.is_live())
    }

    /// The same of a version that is encoded already: `record` is what [`version::encode`] makes, and `index_key` has at
    /// least as many bytes as it says.
    pub(super) fn push_record(
        &mut self,
        index_key: &[u8],
        record: &[u8],
        is_live: bool,
    ) -> Result<(), NotAscending> {
        if index_key.cmp(&self.last.index_key) != Ordering::Greater {
            return Err(NotAscending);
        }
        let revision_len = version::revision_len(record);
        let named = &index_key[..index_key.len() - revision_len];
        let is_new = self.last.index_key.is_empty() || named != self.last.named();
        self.end_last(is_new);
        self.len += usize::from(is_new);
        let revision = key::revision(index_key, revision_len);
        self.newest = self.newest.max(revision.main);
        let last = &mut self.last;
        last.index_key.clear();
        last.index_key.extend_from_slice(index_key);
        last.record.clear();
        last.record.extend_from_slice(record);
        last.revision_len = revision_len;
        last.is_live = is_live;
        Ok(())
    }

    /// The index of all that was pushed.
    pub fn finish(mut self) -> Index {
        self.end_last(true);
        let mut level = 0;
        while level + 1 < self.levels.len() {
            let count = self.levels[level].entries.len();
            self.write(level, count, Vec::new(), None);
            level += 1;
        }
        // The root that an empty tree begins with becomes the root of the full one.
        let root = self.tree.root;
        let entries = &self.levels[level].entries;
        entries.write(0..entries.len(), self.tree.space.page_mut(root));
        Index {
            tree: self.tree,
            len: self.len,
            newest: self.newest,
        }
    }

    fn end_last(&mut self, is_newest: bool) {
        if self.last.index_key.is_empty() {
            return;
        }
        let last = std::mem::take(&mut self.last);
        let flags = match (is_newest, last.is_live) {
            (true, true) => NEWEST | LIVE,
            (true, false) => NEWEST,
            (false, _) => 0,
        };
        let probe = Probe::new(&last.index_key);
        let body = Body {
            flags,
            value: &last.record,
            overflow: overflow::write(&mut self.tree.space, probe.rest),
            ..Body::default()
        };
        self.add(0, probe.inline, &body);
        // Its memory is used again.
        self.last = last;
    }

    /// Adds an entry at the right edge of a level.
    fn add(&mut self, level: usize, inline: &[u8], body: &Body<'_>) {
        if level == self.levels.len() {
            self.levels.push(Level::new(level));
        }
        let entries = &mut self.levels[level].entries;
        entries.push(inline, body);
        if entries.is_full() {
            let cut = entries.len() - 1;
            let (inline, overflow) = if level > 0 {
                entries.take_key(cut)
            } else {
                self.leaf_separator(cut)
            };
            self.write(level, cut, inline, overflow);
        }
    }

    fn leaf_separator(&mut self, cut: usize) -> (Vec<u8>, Option<Overflow>) {
        let entries = &self.levels[0].entries;
        let (left, right) = (entries.key(cut - 1), entries.key(cut));
        if let Some(short) = separator(left, right) {
            return (short.to_vec(), None);
        }
        // It differs from its neighbour behind what a page keeps.
        let mut rest = Vec::new();
        if let Some(overflow) = entries.overflow(cut) {
            overflow::read(self.tree.space.arena(), overflow, &mut rest);
        }
        let right = right.to_vec();
        (right, overflow::write(&mut self.tree.space, &rest))
    }

    /// Writes the first `count` entries of a level as a page and tells the level above; what is left begins the next
    /// page, which the given key parts from this one.
    fn write(&mut self, level: usize, count: usize, inline: Vec<u8>, overflow: Option<Overflow>) {
        let page = self.tree.space.allocate();
        let open = &mut self.levels[level];
        open.entries.write(0..count, self.tree.space.page_mut(page));
        open.entries.keep_from(count);
        let begins = std::mem::replace(&mut open.begins, (inline, overflow));
        let live = Node(self.tree.space.page(page)).live();
        let body = Body {
            child: page,
            live: u32::try_from(live).expect("there are less than 2^32 keys"),
            overflow: begins.1,
            ..Body::default()
        };
        self.add(level + 1, &begins.0, &body);
    }
}

impl Level {
    fn new(level: usize) -> Self {
        Level {
            entries: Entries::new(level),
            begins: (Vec::new(), None),
        }
    }
}
