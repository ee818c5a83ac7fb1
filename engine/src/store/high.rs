//! Which pages lie too far behind in the file: what a defragmentation has to move.
//!
//! A branch names the pages below it, so only branches are read. A page is told by a key that it covers: whoever has that
//! key's leaf rewritten ([`Store::touch`](super::Store::touch)) has all pages on the way to it rewritten too.
//!
//! A large tree has thousands of branches, so a search goes in slices: it ends before a page, and the next one begins there.
//! A high branch that a slice leaves half searched is told at once if nothing below it was, as the next slice sees only the
//! rest of it.

use super::Pages;
use super::damage::StoreDamage;
use super::node::Node;
use super::page::{PageNo, Root, Tree};
use super::read::TreeReader;
use crate::types::Budget;

/// The least key there is: the first leaf covers it.
const LEAST_KEY: &[u8] = &[0];

/// What a branch counts for: some hundred children are looked at.
const BRANCH_COST: usize = 4;

/// What a slice of a search came to.
#[derive(Debug)]
pub struct HighPages {
    /// Of the pages found, one each, ascending.
    pub keys: Vec<Vec<u8>>,
    /// Where to go on; `None`: this was all.
    pub rest: Option<Vec<u8>>,
}

/// A search for pages at and behind `limit`.
pub(super) struct Search<'a> {
    pub(super) pages: &'a dyn Pages,
    pub(super) page_size: u32,
    pub(super) limit: PageNo,
    /// What lies before this key was looked at already.
    pub(super) from: &'a [u8],
    /// What begins at or behind it is left to the next slice.
    pub(super) until: Option<&'a [u8]>,
    pub(super) count_max: usize,
    pub(super) budget: &'a mut Budget,
    /// What was found, ascending.
    pub(super) found: Vec<Vec<u8>>,
    /// A branch above leaves was looked at: a slice of the smallest budget gets on.
    pub(super) has_searched: bool,
    /// Where to go on; `None`: nowhere.
    pub(super) rest: Option<Vec<u8>>,
}

impl Search<'_> {
    /// Looks at the tree until enough was found or the budget is spent.
    pub(super) fn run(&mut self, tree: Tree) -> Result<(), StoreDamage> {
        let Root::Page(root) = tree.root() else {
            return Ok(());
        };
        let height = TreeReader::new(self.pages, self.page_size, tree).height()?;
        self.visit(root, LEAST_KEY, height)
    }

    fn visit(&mut self, page: PageNo, key: &[u8], height: usize) -> Result<(), StoreDamage> {
        let node = Node::at_page(self.pages, self.page_size, page)?;
        let before = self.found.len();
        if !node.is_leaf() && height > 0 {
            self.visit_children(&node, key, height)?;
        }
        // What was found below has this page rewritten as well.
        let is_high = page >= self.limit && self.found.len() == before;
        if is_high && self.found.len() < self.count_max {
            self.found.push(key.max(self.from).to_vec());
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.found.len() >= self.count_max || (self.has_searched && self.budget.is_spent())
    }

    fn visit_children(
        &mut self,
        node: &Node<'_>,
        key: &[u8],
        height: usize,
    ) -> Result<(), StoreDamage> {
        self.budget.spend(BRANCH_COST);
        let is_above_leaves = height == 1;
        for index in 0..node.count() {
            // All that this child covers lies before where the next one begins.
            if index + 1 < node.count() && node.key(index + 1)? <= self.from {
                continue;
            }
            // The first child covers whatever is below its key.
            let child_key = if index == 0 { key } else { node.key(index)? };
            let is_full = self.found.len() >= self.count_max;
            let is_beyond = self.until.is_some_and(|until| child_key >= until);
            if is_full || is_beyond || (!is_above_leaves && self.is_over()) {
                self.rest
                    .get_or_insert_with(|| child_key.max(self.from).to_vec());
                return Ok(());
            }
            if !is_above_leaves {
                self.visit(node.child(index), child_key, height - 1)?;
            } else if node.child(index) >= self.limit {
                self.found.push(child_key.max(self.from).to_vec());
            }
        }
        self.has_searched |= is_above_leaves;
        Ok(())
    }
}
