//! What of a walk's next pages is not in memory: whoever reads such a page waits for the disk, and all others with it.
//!
//! ```text
//!   height 2          [a . . n . .]            read here, from the root down
//!   height 1     [a d h]     [n p s]
//!   height 0    a  d  h       n  p  s          a look at height 0 from `e` on: d, h, until `n`
//! ```
//!
//! A look ends with the branch above: so it names the pages of one stretch of keys, all of them children of one branch. If a
//! page on the way is missing itself, that one is the answer, and the next look goes further.

use super::Pages;
use super::damage::{DamageKind, StoreDamage};
use super::node::{DEPTH_MAX, Node, offset_of};
use super::page::{Header, PageNo, Root, Tree};

/// Bytes that one look names at most, but for a single page that is longer.
const LOOK_BYTES_MAX: u64 = 2 << 20;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub len: u64,
}

/// What a look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Not in memory. If it is empty, everything up to `until` is.
    pub missing: Vec<Extent>,
    /// The first key that was not looked at; `None`: there is none.
    pub until: Option<Vec<u8>>,
}

/// Looks at one tree.
pub(super) struct Looker<'a> {
    pages: &'a dyn Pages,
    page_size: u32,
    tree: Tree,
    missing: Vec<Extent>,
}

impl<'a> Looker<'a> {
    pub(super) const fn new(pages: &'a dyn Pages, page_size: u32, tree: Tree) -> Self {
        Looker {
            pages,
            page_size,
            tree,
            missing: Vec::new(),
        }
    }

    /// Looks at the pages of `height`, 0 for leaves, from the one that covers `from` on.
    pub(super) fn look(mut self, height: usize, from: &[u8]) -> Result<Look, StoreDamage> {
        let until = self.look_at(height, from)?;
        Ok(Look {
            missing: self.missing,
            until,
        })
    }

    /// The same for the leaves that cover these keys.
    pub(super) fn look_for<'k>(
        mut self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<Vec<Extent>, StoreDamage> {
        for key in keys {
            self.look_for_leaf(key)?;
        }
        self.missing.sort_unstable_by_key(|extent| extent.offset);
        Ok(self.missing)
    }

    fn look_at(&mut self, height: usize, from: &[u8]) -> Result<Option<Vec<u8>>, StoreDamage> {
        let (Root::Page(mut page), Some(tree_height)) = (self.tree.root(), self.height()?) else {
            return Ok(None);
        };
        let Some(depth) = tree_height.checked_sub(height) else {
            return Ok(None);
        };
        let mut until = None;
        for above in (0..depth).rev() {
            let Some(node) = self.read(page)? else {
                return Ok(None);
            };
            // A tree that is not balanced is damaged, which is for those to say who walk it.
            if node.is_leaf() {
                return Ok(None);
            }
            let index = node.child_for(from)?;
            if above == 0 {
                let end = self.look_at_children(&node, index);
                return match end < node.count() {
                    true => node.key(end).map(|key| Some(key.to_vec())),
                    false => Ok(until),
                };
            }
            if index + 1 < node.count() {
                until = Some(node.key(index + 1)?.to_vec());
            }
            page = node.child(index);
        }
        self.note(page);
        Ok(None)
    }

    /// From `index` on, until there are too many bytes; where it ended.
    fn look_at_children(&mut self, node: &Node<'_>, index: usize) -> usize {
        let mut len = 0;
        for at in index..node.count() {
            len += self.note(node.child(at));
            if len >= LOOK_BYTES_MAX {
                return at + 1;
            }
        }
        node.count()
    }

    fn look_for_leaf(&mut self, key: &[u8]) -> Result<(), StoreDamage> {
        let Root::Page(mut page) = self.tree.root() else {
            return Ok(());
        };
        let Some(height) = self.height()? else {
            return Ok(());
        };
        for _ in 0..height {
            match self.read(page)? {
                Some(node) if !node.is_leaf() => page = node.child(node.child_for(key)?),
                _ => return Ok(()),
            }
        }
        self.note(page);
        Ok(())
    }

    /// How far the leaves are below the root, by the leftmost way down; `None` if a page on it is missing.
    fn height(&mut self) -> Result<Option<usize>, StoreDamage> {
        let Root::Page(mut page) = self.tree.root() else {
            return Ok(None);
        };
        for height in 0..DEPTH_MAX {
            match self.read(page)? {
                None => return Ok(None),
                Some(node) if node.is_leaf() => return Ok(Some(height)),
                Some(node) => page = node.child(0),
            }
        }
        let offset = offset_of(page, self.page_size)?;
        Err(StoreDamage::new(offset, DamageKind::TooDeep))
    }

    /// The page if it is in memory; otherwise it is noted.
    fn read(&mut self, page: PageNo) -> Result<Option<Node<'a>>, StoreDamage> {
        let before = self.missing.len();
        self.note(page);
        match self.missing.len() == before {
            true => Node::at_page(self.pages, self.page_size, page).map(Some),
            false => Ok(None),
        }
    }

    /// Notes a page that is not in memory, or its overflow pages; returns the length, as far as it is known.
    fn note(&mut self, page: PageNo) -> u64 {
        let size = u64::from(self.page_size);
        let Ok(offset) = offset_of(page, self.page_size) else {
            return size;
        };
        if !self.pages.is_loaded(offset, size) {
            self.miss(Extent { offset, len: size });
            return size;
        }
        let len = self.len_by_header(page, offset);
        if len > size && !self.pages.is_loaded(offset, len) {
            self.miss(Extent { offset, len });
        }
        len
    }

    fn len_by_header(&self, page: PageNo, offset: u64) -> u64 {
        let size = self.page_size as usize;
        let header = self.pages.bytes(offset, size).map(Header::decode);
        match header {
            Some(header) if header.page == page.0 => {
                (u64::from(header.overflow) + 1) * u64::from(self.page_size)
            }
            // Whoever reads it says what is wrong.
            _ => u64::from(self.page_size),
        }
    }

    fn miss(&mut self, extent: Extent) {
        match self.missing.last_mut() {
            Some(last) if last.offset + last.len == extent.offset => last.len += extent.len,
            Some(last) if *last == extent => {}
            _ => self.missing.push(extent),
        }
    }
}
