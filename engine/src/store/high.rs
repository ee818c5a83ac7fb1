//! Which pages lie too far behind in the file: what a defragmentation has to move.
//!
//! A branch names the pages below it, so only branches are read. A page is told by a key that it covers: whoever has that
//! key's leaf rewritten ([`Store::touch`](super::Store::touch)) has all pages on the way to it rewritten too.

use super::Pages;
use super::damage::{DamageKind, StoreDamage};
use super::node::{DEPTH_MAX, Node};
use super::page::{PageNo, Root, Tree};

/// The least key there is: the first leaf covers it.
const LEAST_KEY: &[u8] = &[0];

/// A search for pages at and behind `limit`.
pub(super) struct Search<'a> {
    pub(super) pages: &'a dyn Pages,
    pub(super) page_size: u32,
    pub(super) limit: PageNo,
    pub(super) count_max: usize,
    /// What was found, ascending.
    pub(super) found: Vec<Vec<u8>>,
}

impl Search<'_> {
    /// Looks at what of the tree lies behind the key `after`, until enough was found.
    pub(super) fn run(&mut self, tree: Tree, after: &[u8]) -> Result<(), StoreDamage> {
        let Root::Page(root) = tree.root() else {
            return Ok(());
        };
        self.visit(root, LEAST_KEY, after, 0)
    }

    fn visit(
        &mut self,
        page: PageNo,
        key: &[u8],
        after: &[u8],
        depth: usize,
    ) -> Result<(), StoreDamage> {
        let node = Node::at_page(self.pages, self.page_size, page)?;
        if depth >= DEPTH_MAX {
            return Err(node.damage(DamageKind::TooDeep));
        }
        let before = self.found.len();
        if !node.is_leaf() {
            self.visit_children(&node, key, after, depth)?;
        }
        // What was found below has this page rewritten as well.
        let is_high = page >= self.limit && self.found.len() == before;
        if is_high && key > after && self.found.len() < self.count_max {
            self.found.push(key.to_vec());
        }
        Ok(())
    }

    fn visit_children(
        &mut self,
        node: &Node<'_>,
        key: &[u8],
        after: &[u8],
        depth: usize,
    ) -> Result<(), StoreDamage> {
        let is_above_leaves = node.count() > 0 && {
            let first = Node::at_page(self.pages, self.page_size, node.child(0))?;
            first.is_leaf()
        };
        for index in 0..node.count() {
            if self.found.len() >= self.count_max {
                return Ok(());
            }
            // All that this child covers lies before where the next one begins.
            if index + 1 < node.count() && node.key(index + 1)? <= after {
                continue;
            }
            // The first child covers whatever is below its key.
            let child_key = if index == 0 { key } else { node.key(index)? };
            if is_above_leaves {
                if node.child(index) >= self.limit && child_key > after {
                    self.found.push(child_key.to_vec());
                }
            } else {
                self.visit(node.child(index), child_key, after, depth + 1)?;
            }
        }
        Ok(())
    }
}
