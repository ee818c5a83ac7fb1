//! Finding the free pages by walking all trees, in slices.
//!
//! Every page that is reached is marked, with its overflow pages; one that is reached twice is damage. What is not
//! marked in the end is free. Memory is a bit for each page that was reached, and the way down to the page at hand.

use std::collections::BTreeMap;

use crate::state::Progress;
use crate::types::Budget;

use super::Pages;
use super::damage::{DamageKind, StoreDamage};
use super::node::{DEPTH_MAX, Node};
use super::page::{BucketValue, Meta, PageNo, Root};
use super::space::Runs;

const WORDS: usize = 64;
const CHUNK_PAGES: u64 = WORDS as u64 * 64;

/// A set of page numbers. It takes memory where it has members, so a meta page with a huge high water costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct PageSet {
    chunks: BTreeMap<u64, Box<[u64; WORDS]>>,
}

impl PageSet {
    /// False: it was there.
    pub(super) fn insert(&mut self, page: u64) -> bool {
        let (word, bit) = place_of(page);
        let chunk = self
            .chunks
            .entry(page / CHUNK_PAGES)
            .or_insert_with(|| Box::new([0; WORDS]));
        let is_new = chunk[word] & bit == 0;
        chunk[word] |= bit;
        is_new
    }

    pub(super) fn remove(&mut self, page: u64) {
        let (word, bit) = place_of(page);
        if let Some(chunk) = self.chunks.get_mut(&(page / CHUNK_PAGES)) {
            chunk[word] &= !bit;
        }
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        let (word, bit) = place_of(page);
        let chunk = self.chunks.get(&(page / CHUNK_PAGES));
        chunk.is_some_and(|chunk| chunk[word] & bit != 0)
    }

    /// The pages of `from..limit` that are not in the set.
    pub(super) fn missing(&self, from: u64, limit: u64) -> Runs {
        let mut runs = Runs::default();
        let mut start = from;
        for (number, chunk) in &self.chunks {
            let first = number * CHUNK_PAGES;
            for page in first.max(from)..(first + CHUNK_PAGES).min(limit) {
                let (word, bit) = place_of(page);
                if chunk[word] & bit != 0 {
                    if page > start {
                        runs.insert(start, page - start);
                    }
                    start = page + 1;
                }
            }
        }
        if limit > start {
            runs.insert(start, limit - start);
        }
        runs
    }
}

const fn place_of(page: u64) -> (usize, u64) {
    let within = page % CHUNK_PAGES;
    ((within / 64) as usize, 1 << (within % 64))
}

/// A branch on the way down.
#[derive(Debug)]
struct Branch {
    page: PageNo,
    next: usize,
    depth: usize,
}

#[derive(Debug)]
pub(super) struct Scan {
    page_size: u32,
    limit: u64,
    seen: PageSet,
    branches: Vec<Branch>,
    /// Pages to look at next, and their depth: children and roots of buckets.
    todo: Vec<(PageNo, usize)>,
}

impl Scan {
    pub(super) fn begin(meta: &Meta) -> Result<Self, StoreDamage> {
        Ok(Scan {
            page_size: meta.page_size,
            limit: meta.high_water,
            seen: PageSet::default(),
            branches: Vec::new(),
            todo: vec![(meta.root, 0)],
        })
    }

    pub(super) fn run(
        &mut self,
        pages: &dyn Pages,
        budget: &mut Budget,
    ) -> Result<Progress<()>, StoreDamage> {
        while let Some((page, depth)) = self.next_page(pages)? {
            if budget.is_spent() {
                self.todo.push((page, depth));
                return Ok(Progress::More);
            }
            budget.spend(1);
            self.visit(pages, page, depth)?;
        }
        Ok(Progress::Done(()))
    }

    /// Once `run` is done.
    pub(super) fn free_pages(&self) -> Runs {
        self.seen.missing(PageNo::FIRST.0, self.limit)
    }

    fn next_page(&mut self, pages: &dyn Pages) -> Result<Option<(PageNo, usize)>, StoreDamage> {
        if let Some(next) = self.todo.pop() {
            return Ok(Some(next));
        }
        while let Some(branch) = self.branches.last_mut() {
            let node = Node::at_page(pages, self.page_size, branch.page)?;
            if branch.next < node.count() {
                let child = node.child(branch.next);
                branch.next += 1;
                return Ok(Some((child, branch.depth + 1)));
            }
            self.branches.pop();
        }
        Ok(None)
    }

    fn visit(&mut self, pages: &dyn Pages, page: PageNo, depth: usize) -> Result<(), StoreDamage> {
        let node = mark(pages, self.page_size, self.limit, &mut self.seen, page)?;
        if depth >= DEPTH_MAX {
            return Err(node.damage(DamageKind::TooDeep));
        }
        if !node.is_leaf() {
            let next = 0;
            self.branches.push(Branch { page, next, depth });
            return Ok(());
        }
        for index in 0..node.count() {
            if node.is_bucket(index)
                && let Some(root) = bucket_root(pages, &node, index)?
            {
                self.todo.push((root, 0));
            }
        }
        Ok(())
    }
}

/// The page, once it and its overflow pages are marked as reached.
pub(super) fn mark<'a>(
    pages: &'a dyn Pages,
    page_size: u32,
    limit: u64,
    seen: &mut PageSet,
    page: PageNo,
) -> Result<Node<'a>, StoreDamage> {
    let outside = DamageKind::PageOutside {
        page: page.0,
        limit,
    };
    let offset = page.0.saturating_mul(u64::from(page_size));
    let outside = StoreDamage::new(offset, outside);
    if page < PageNo::FIRST || page.0 >= limit {
        return Err(outside);
    }
    let node = Node::at_page(pages, page_size, page)?;
    let count = (node.len() / page_size as usize) as u64;
    if limit - page.0 < count {
        return Err(outside);
    }
    for page in page.0..page.0 + count {
        if !seen.insert(page) {
            return Err(node.damage(DamageKind::ReachedTwice { page }));
        }
    }
    Ok(node)
}

/// The root page of the bucket at `index` of a leaf; `None` if it is inline, and checked.
pub(super) fn bucket_root(
    pages: &dyn Pages,
    leaf: &Node<'_>,
    index: usize,
) -> Result<Option<PageNo>, StoreDamage> {
    let element = leaf.element(index)?;
    match BucketValue::decode(element.value, element.value_offset)?
        .tree
        .root()
    {
        Root::Page(page) => Ok(Some(page)),
        Root::Empty => Ok(None),
        Root::Inline { offset, len } => {
            let inline = Node::inline(pages, offset, len)?;
            let nests = (0..inline.count()).any(|index| inline.is_bucket(index));
            if nests {
                return Err(inline.damage(DamageKind::InlineBucket));
            }
            Ok(None)
        }
    }
}
