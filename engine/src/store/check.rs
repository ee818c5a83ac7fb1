//! The whole file, page by page, as `bbolt check` does it: for tests, the simulator and tools.
//!
//! - every page below the high water is reached once from the root bucket, or is free, and not both;
//! - keys ascend within a page, and lie within what the branches above promise;
//! - the root bucket holds nothing but buckets;
//! - the leaves of a tree are at one depth, kinds and places are right.

use super::Pages;
use super::damage::{DamageKind, OpenError, StoreDamage};
use super::node::{DEPTH_MAX, Node};
use super::open;
use super::page::{Meta, PageNo};
use super::scan::{PageSet, bucket_root, mark};
use super::space::Runs;

/// What was found in a file that is as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    pub txid: u64,
    /// Pages below the high water, with the two meta pages.
    pub pages: u64,
    pub free_pages: u64,
    pub branch_pages: u64,
    pub leaf_pages: u64,
    /// Pages that belong to one before them.
    pub overflow_pages: u64,
    /// Pages of the list of free pages; 0: none is stored.
    pub freelist_pages: u64,
    /// Buckets, inline ones and nested ones too.
    pub buckets: u64,
    pub inline_buckets: u64,
    /// Elements of all leaves but the names of buckets.
    pub elements: u64,
    /// Levels of the deepest tree.
    pub depth: usize,
    /// Bytes of branch and leaf pages (with overflow) that are in use.
    pub used_bytes: u64,
    /// Legal, but bbolt fails when it rebalances below one.
    pub single_child_branches: u64,
    /// Legal; the root of an empty bucket is not counted.
    pub empty_leaves: u64,
}

/// Walks the whole file.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check(pages: &dyn Pages, file_len: u64) -> Result<CheckReport, OpenError> {
    let (meta, _) = open::choose_meta(pages, file_len)?;
    Ok(check_meta(pages, &meta)?)
}

fn check_meta(pages: &dyn Pages, meta: &Meta) -> Result<CheckReport, StoreDamage> {
    let mut walk = Walk {
        pages,
        meta,
        seen: PageSet::default(),
        trees: vec![meta.root],
        report: CheckReport::default(),
    };
    walk.report.txid = meta.txid;
    walk.report.pages = meta.high_water;
    while let Some(root) = walk.trees.pop() {
        let mut tree = TreeWalk {
            leaf_depth: None,
            root,
        };
        walk.page(&mut tree, root, 0, None, None)?;
    }
    walk.free_pages()?;
    Ok(walk.report)
}

struct Walk<'a> {
    pages: &'a dyn Pages,
    meta: &'a Meta,
    seen: PageSet,
    /// Roots still to be walked.
    trees: Vec<PageNo>,
    report: CheckReport,
}

struct TreeWalk {
    leaf_depth: Option<usize>,
    root: PageNo,
}

impl<'a> Walk<'a> {
    /// Keys of this page and below are in `low..high`.
    fn page(
        &mut self,
        tree: &mut TreeWalk,
        page: PageNo,
        depth: usize,
        low: Option<&'a [u8]>,
        high: Option<&'a [u8]>,
    ) -> Result<(), StoreDamage> {
        let meta = self.meta;
        let seen = &mut self.seen;
        let node = mark(self.pages, meta.page_size, meta.high_water, seen, page)?;
        if depth >= DEPTH_MAX {
            return Err(node.damage(DamageKind::TooDeep));
        }
        self.report.overflow_pages += (node.len() / meta.page_size as usize) as u64 - 1;
        self.report.used_bytes += node.used_len()? as u64;
        self.report.depth = self.report.depth.max(depth + 1);
        check_order(&node, low, high)?;
        if node.is_leaf() {
            if *tree.leaf_depth.get_or_insert(depth) != depth {
                return Err(node.damage(DamageKind::Unbalanced));
            }
            self.report.empty_leaves += u64::from(node.count() == 0 && page != tree.root);
            return self.leaf(tree, &node);
        }
        self.report.branch_pages += 1;
        self.report.single_child_branches += u64::from(node.count() == 1);
        for index in 0..node.count() {
            let low = Some(node.key(index)?);
            let high = match index + 1 {
                next if next < node.count() => Some(node.key(next)?),
                _ => high,
            };
            self.page(tree, node.child(index), depth + 1, low, high)?;
        }
        Ok(())
    }

    fn leaf(&mut self, tree: &TreeWalk, node: &Node<'a>) -> Result<(), StoreDamage> {
        self.report.leaf_pages += 1;
        for index in 0..node.count() {
            if !node.is_bucket(index) {
                if tree.root == self.meta.root {
                    let offset = node.element(index)?.value_offset;
                    return Err(StoreDamage::new(offset, DamageKind::NotABucket));
                }
                self.report.elements += 1;
                continue;
            }
            self.report.buckets += 1;
            match bucket_root(self.pages, node, index)? {
                Some(root) => self.trees.push(root),
                None => self.inline(node, index)?,
            }
        }
        Ok(())
    }

    fn inline(&mut self, node: &Node<'a>, index: usize) -> Result<(), StoreDamage> {
        self.report.inline_buckets += 1;
        let element = node.element(index)?;
        let header = super::page::BUCKET_HEADER_LEN;
        let offset = element.value_offset + header as u64;
        let len = (element.value.len() - header) as u64;
        let inline = Node::inline(self.pages, offset, len)?;
        check_order(&inline, None, None)?;
        self.report.elements += inline.count() as u64;
        inline.used_len().map(|_| ())
    }

    fn free_pages(&mut self) -> Result<(), StoreDamage> {
        let meta = self.meta;
        if meta.freelist == PageNo::NO_FREELIST {
            self.report.free_pages = self.missing().count();
            return Ok(());
        }
        let own = open::freelist_len(self.pages, meta)?;
        self.report.freelist_pages = own;
        for page in meta.freelist.0..meta.freelist.0 + own {
            self.insert(page, DamageKind::ReachedTwice { page })?;
        }
        let free = open::stored_freelist(self.pages, meta)?;
        self.report.free_pages = free.count();
        for page in free.iter().flat_map(|(start, len)| start..start + len) {
            self.insert(page, DamageKind::FreelistEntry { page })?;
        }
        match self.missing().iter().next() {
            Some((page, _)) => Err(self.damage(page, DamageKind::Lost { page })),
            None => Ok(()),
        }
    }

    fn missing(&self) -> Runs {
        self.seen.missing(PageNo::FIRST.0, self.meta.high_water)
    }

    fn insert(&mut self, page: u64, or: DamageKind) -> Result<(), StoreDamage> {
        if self.seen.insert(page) {
            return Ok(());
        }
        Err(self.damage(page, or))
    }

    fn damage(&self, page: u64, what: DamageKind) -> StoreDamage {
        StoreDamage::new(page.saturating_mul(u64::from(self.meta.page_size)), what)
    }
}

fn check_order<'a>(
    node: &Node<'a>,
    low: Option<&[u8]>,
    high: Option<&[u8]>,
) -> Result<(), StoreDamage> {
    let mut former: Option<&'a [u8]> = None;
    for index in 0..node.count() {
        let key = node.key(index)?;
        if key.is_empty() {
            return Err(node.damage(DamageKind::EmptyKey { index }));
        }
        let is_above = former.is_none_or(|former| former < key);
        let is_inside = low.is_none_or(|low| low <= key) && high.is_none_or(|high| key < high);
        if !is_above || !is_inside {
            return Err(node.damage(DamageKind::NotAscending));
        }
        former = Some(key);
    }
    Ok(())
}
