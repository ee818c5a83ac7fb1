//! Reading a tree: a point, a range, its end. Runs on any core, allocates nothing for a point.
//!
//! Nested buckets that a foreign tool may have put into a bucket of etcd's are passed over, as etcd does.

use super::Pages;
use super::damage::{DamageKind, StoreDamage};
use super::node::{DEPTH_MAX, Element, Node};
use super::page::{Root, Tree};

/// Empty leaf pages in a row that a cursor passes over. bbolt leaves none behind; a circle of them must end.
const EMPTY_LEAVES_MAX: usize = 1024;

/// A key and its value, as they stand in the file.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// A tree for reading. Cheap to make.
#[derive(Clone, Copy, Debug)]
pub struct TreeReader<'a> {
    pages: &'a dyn Pages,
    page_size: u32,
    tree: Tree,
}

impl<'a> TreeReader<'a> {
    pub const fn new(pages: &'a dyn Pages, page_size: u32, tree: Tree) -> Self {
        TreeReader {
            pages,
            page_size,
            tree,
        }
    }

    /// The value of `key`.
    ///
    /// Costs one page for each level; nothing is allocated.
    ///
    /// # Errors
    /// Bytes on the way contradict the format.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>, StoreDamage> {
        Ok(self
            .element(key)?
            .filter(|element| !element.is_bucket())
            .map(|element| element.value))
    }

    /// The element with this key, a bucket or not.
    pub(super) fn element(&self, key: &[u8]) -> Result<Option<Element<'a>>, StoreDamage> {
        let Some(mut node) = self.root()? else {
            return Ok(None);
        };
        for _ in 0..DEPTH_MAX {
            if node.is_leaf() {
                let (index, found) = node.search(0, key)?;
                return if found {
                    node.element(index).map(Some)
                } else {
                    Ok(None)
                };
            }
            node = self.child(&node, node.child_for(key)?)?;
        }
        Err(node.damage(DamageKind::TooDeep))
    }

    /// A cursor at the first element whose key is not below `key`.
    ///
    /// # Errors
    /// Bytes on the way contradict the format.
    pub fn seek(&self, key: &[u8]) -> Result<Cursor<'a>, StoreDamage> {
        let mut cursor = Cursor {
            reader: *self,
            path: Vec::with_capacity(6),
            last_key: None,
        };
        let Some(mut node) = self.root()? else {
            return Ok(cursor);
        };
        for _ in 0..DEPTH_MAX {
            if node.is_leaf() {
                let (next, _) = node.search(0, key)?;
                cursor.path.push(Step { node, next });
                return Ok(cursor);
            }
            let index = node.child_for(key)?;
            let next = index + 1;
            cursor.path.push(Step { node, next });
            node = self.child(&node, index)?;
        }
        Err(node.damage(DamageKind::TooDeep))
    }

    /// The last element.
    ///
    /// # Errors
    /// Bytes on the way contradict the format.
    pub fn last(&self) -> Result<Option<Pair<'a>>, StoreDamage> {
        let Some(mut node) = self.root()? else {
            return Ok(None);
        };
        for _ in 0..DEPTH_MAX {
            if node.is_leaf() {
                return last_of(&node);
            }
            node = self.child(&node, node.count() - 1)?;
        }
        Err(node.damage(DamageKind::TooDeep))
    }

    /// How far the leaves are below the root, by the leftmost way down. Where another way is longer or shorter the tree is
    /// damaged, and whoever walks it finds that.
    pub(super) fn height(&self) -> Result<usize, StoreDamage> {
        let Some(mut node) = self.root()? else {
            return Ok(0);
        };
        for height in 0..DEPTH_MAX {
            if node.is_leaf() {
                return Ok(height);
            }
            node = self.child(&node, 0)?;
        }
        Err(node.damage(DamageKind::TooDeep))
    }

    pub(super) fn root(&self) -> Result<Option<Node<'a>>, StoreDamage> {
        match self.tree.root() {
            Root::Empty => Ok(None),
            Root::Page(page) => Node::at_page(self.pages, self.page_size, page).map(Some),
            Root::Inline { offset, len } => Node::inline(self.pages, offset, len).map(Some),
        }
    }

    fn child(&self, node: &Node<'a>, index: usize) -> Result<Node<'a>, StoreDamage> {
        Node::at_page(self.pages, self.page_size, node.child(index))
    }
}

fn last_of<'a>(leaf: &Node<'a>) -> Result<Option<Pair<'a>>, StoreDamage> {
    for index in (0..leaf.count()).rev() {
        let element = leaf.element(index)?;
        if !element.is_bucket() {
            return Ok(Some((element.key, element.value)));
        }
    }
    Ok(None)
}

/// A way from the root to the next element.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    reader: TreeReader<'a>,
    /// From the root down; empty at the end.
    path: Vec<Step<'a>>,
    /// Of the leaf that was left last. The next leaf must begin above it, so a damaged tree ends.
    last_key: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    node: Node<'a>,
    /// The element or child to take next.
    next: usize,
}

impl<'a> Cursor<'a> {
    /// The next key and value, in ascending order; `None` at the end.
    ///
    /// # Errors
    /// Bytes on the way contradict the format. The cursor is at its end then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would let `for` and `collect` go on behind an error"
    )]
    pub fn next(&mut self) -> Result<Option<Pair<'a>>, StoreDamage> {
        loop {
            match self.next_element() {
                Ok(Some(element)) if element.is_bucket() => {}
                Ok(Some(element)) => return Ok(Some((element.key, element.value))),
                Ok(None) => return Ok(None),
                Err(damage) => {
                    self.path.clear();
                    return Err(damage);
                }
            }
        }
    }

    /// The same with buckets.
    pub(super) fn next_element(&mut self) -> Result<Option<Element<'a>>, StoreDamage> {
        for _ in 0..EMPTY_LEAVES_MAX {
            let Some(leaf) = self.path.last_mut() else {
                return Ok(None);
            };
            if leaf.next < leaf.node.count() {
                let element = leaf.node.element(leaf.next)?;
                leaf.next += 1;
                return Ok(Some(element));
            }
            if !self.next_leaf()? {
                return Ok(None);
            }
        }
        let offset = self.path.last().map_or(0, |step| step.node.offset());
        Err(StoreDamage::new(offset, DamageKind::EmptyLeaves))
    }

    /// Moves to the beginning of the next leaf.
    fn next_leaf(&mut self) -> Result<bool, StoreDamage> {
        if let Some(Step { node, .. }) = self.path.pop()
            && node.count() > 0
        {
            self.last_key = Some(node.key(node.count() - 1)?);
        }
        while self
            .path
            .last()
            .is_some_and(|step| step.next >= step.node.count())
        {
            self.path.pop();
        }
        loop {
            let Some(step) = self.path.last_mut() else {
                return Ok(false);
            };
            let index = step.next;
            step.next += 1;
            let node = step.node;
            let node = self.reader.child(&node, index)?;
            if self.path.len() >= DEPTH_MAX {
                return Err(node.damage(DamageKind::TooDeep));
            }
            self.path.push(Step { node, next: 0 });
            if node.is_leaf() {
                return self.check_order(&node).map(|()| true);
            }
        }
    }

    fn check_order(&self, leaf: &Node<'a>) -> Result<(), StoreDamage> {
        match self.last_key {
            Some(last) if leaf.count() > 0 && leaf.key(0)? <= last => {
                Err(leaf.damage(DamageKind::NotAscending))
            }
            _ => Ok(()),
        }
    }
}
