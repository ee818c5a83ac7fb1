//! One tree with changes merged in that come in ascending key order; only what they touch is written anew.
//!
//! ```text
//!   height   old page, read from the left       what becomes new pages
//!     2      [a| f  n  t]   next child: n       (a', 17) (f', 31)          children: first key, page
//!     1      [f  h| k]      next child: k       (f', 30) (h', 18)
//!     0      [h h1| h2 h3]  next element: h2    h h1 h1x h1y               elements
//!                    |
//!             the next change is at or behind h1y
//! ```
//!
//! Each height has an old page that is being left (`Source`), if the changes so far led into one, and the items of the new
//! pages to come (`Items`). A change first moves the sources on until the leaf is open that covers its key: what lies
//! between is carried over, and a child that no change leads into is carried over as it is, by its page number. Before
//! that is done, the items of all heights below become pages, because they come before it. So neighbouring
//! leaves that change are packed together, and others are not touched.
//!
//! Invariants:
//! - everything in the items of a height comes before everything left in the sources;
//! - below the lowest source with children left, all heights but the open leaf are used up;
//! - no branch with a single child is written: bbolt fails when it rebalances below one. Its child moves to the page
//!   before, or the next page is opened too;
//! - a page with less than a quarter in use is joined with the page before or behind, if both fit into one.
//!
//! A call costs some pages for each height. It runs on bytes of the disk, so a damaged tree ends it with an error; then
//! the commit cannot go on.

use super::Pages;
use super::build::{Fill, Items};
use super::damage::{DamageKind, StoreDamage};
use super::node::{DEPTH_MAX, Node};
use super::page::{IS_BUCKET, PageNo, Root, Tree};
use super::read::TreeReader;
use super::space::Space;
use std::collections::BTreeMap;

/// Pages that the open commit made, by number, with their overflow pages.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pages: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Fresh {
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn insert(&mut self, page: PageNo, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        let former = self.pages.insert(page.0, bytes);
        assert!(former.is_none(), "page {} made twice", page.0);
    }

    fn remove(&mut self, page: PageNo) -> Option<Vec<u8>> {
        let bytes = self.pages.remove(&page.0)?;
        self.bytes -= bytes.len() as u64;
        Some(bytes)
    }

    pub(super) fn into_pages(self) -> BTreeMap<u64, Vec<u8>> {
        self.pages
    }
}

/// What a rewrite works with.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) pages: &'a dyn Pages,
    pub(super) space: &'a mut Space,
    pub(super) fresh: &'a mut Fresh,
}

impl Ground<'_> {
    fn page_size(&self) -> usize {
        self.space.page_size() as usize
    }

    fn old(&self, page: PageNo) -> Result<Node<'_>, StoreDamage> {
        Node::at_page(self.pages, self.space.page_size(), page)
    }

    fn old_or_fresh(&self, page: PageNo) -> Result<Node<'_>, StoreDamage> {
        match self.fresh.pages.get(&page.0) {
            Some(bytes) => Node::of_bytes(bytes, page.0 * u64::from(self.space.page_size())),
            None => self.old(page),
        }
    }

    /// `page`, of this commit or an older one, is in the tree no longer.
    fn drop_page(&mut self, page: PageNo, len: usize) -> Result<(), StoreDamage> {
        if self.fresh.remove(page).is_some() {
            self.space.give_back(page, self.page_count(len));
            return Ok(());
        }
        self.retire(page, len)
    }

    /// `page` of an older commit is in the tree no longer.
    fn retire(&mut self, page: PageNo, len: usize) -> Result<(), StoreDamage> {
        self.space.retire(page, self.page_count(len))
    }

    fn page_count(&self, len: usize) -> u64 {
        (len / self.page_size()) as u64
    }
}

/// An old page whose elements or children are carried over one after the other.
#[derive(Clone, Copy, Debug)]
struct Source {
    root: Root,
    next: usize,
    count: usize,
    /// What keys and values not carried over yet can take at most.
    room: usize,
}

impl Source {
    const fn new(root: Root, node: &Node<'_>) -> Self {
        Source {
            root,
            next: 0,
            count: node.count(),
            room: node.len(),
        }
    }

    fn node<'a>(&self, pages: &'a dyn Pages, page_size: u32) -> Result<Node<'a>, StoreDamage> {
        match self.root {
            Root::Page(page) => Node::at_page(pages, page_size, page),
            Root::Inline { offset, len } => Node::inline(pages, offset, len),
            Root::Empty => unreachable!("no source is made of an empty tree"),
        }
    }

    const fn has_more(&self) -> bool {
        self.next < self.count
    }
}

#[derive(Debug)]
struct Level {
    source: Option<Source>,
    items: Items,
}

impl Level {
    const fn new(height: usize) -> Self {
        Level {
            source: None,
            items: Items::new(height == 0),
        }
    }
}

/// What came of making pages of everything below a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Done,
    /// A page was too empty, so the next one of its height was opened: the sources are others now.
    Opened,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rewrite {
    fill: Fill,
    /// From the leaves up.
    levels: Vec<Level>,
    /// Of the last change.
    last_key: Vec<u8>,
}

impl Rewrite {
    /// Begins at the left end of `tree`, whose root page thereby leaves it.
    pub(super) fn begin(
        ground: &mut Ground<'_>,
        tree: Tree,
        fill: Fill,
    ) -> Result<Self, StoreDamage> {
        let mut levels = Vec::new();
        let height = TreeReader::new(ground.pages, ground.space.page_size(), tree).height()?;
        levels.extend((0..=height).map(Level::new));
        let mut rewrite = Rewrite {
            fill,
            levels,
            last_key: Vec::new(),
        };
        match tree.root() {
            Root::Empty => {}
            Root::Page(page) => rewrite.open(ground, height, page)?,
            root @ Root::Inline { offset, len } => {
                let node = Node::inline(ground.pages, offset, len)?;
                rewrite.levels[0].source = Some(Source::new(root, &node));
            }
        }
        Ok(rewrite)
    }

    /// Adds or replaces an element; `flags` say whether it is a bucket.
    ///
    /// # Errors
    /// Pages on the way are damaged, or what is replaced is a bucket and the new one is not, or the other way round.
    pub(super) fn put(
        &mut self,
        ground: &mut Ground<'_>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreDamage> {
        self.check_order(key);
        self.move_on(ground, Some(key))?;
        if let Some((node, index)) =
            self.carry_below(ground.pages, ground.space.page_size(), key)?
        {
            let was_bucket = node.is_bucket(index);
            if was_bucket != (flags & IS_BUCKET != 0) {
                let what = if was_bucket {
                    DamageKind::UnexpectedBucket
                } else {
                    DamageKind::NotABucket
                };
                return Err(node.damage(what));
            }
            self.skip();
        }
        self.levels[0].items.push_element(flags, key, value);
        self.spill(ground, 0);
        Ok(())
    }

    /// Leaves out the element with this key, unless it is a bucket. Was it there?
    ///
    /// # Errors
    /// Pages on the way are damaged.
    pub(super) fn delete(
        &mut self,
        ground: &mut Ground<'_>,
        key: &[u8],
    ) -> Result<bool, StoreDamage> {
        self.check_order(key);
        self.move_on(ground, Some(key))?;
        let found = self.carry_below(ground.pages, ground.space.page_size(), key)?;
        let found = found.is_some_and(|(node, index)| !node.is_bucket(index));
        if found {
            self.skip();
        }
        self.spill(ground, 0);
        Ok(found)
    }

    /// Rewrites the leaf that covers `key`. Order as for `put`.
    ///
    /// # Errors
    /// Pages on the way are damaged.
    pub(super) fn touch(&mut self, ground: &mut Ground<'_>, key: &[u8]) -> Result<(), StoreDamage> {
        self.check_order(key);
        self.move_on(ground, Some(key))?;
        self.carry_below(ground.pages, ground.space.page_size(), key)?;
        self.spill(ground, 0);
        Ok(())
    }

    /// Makes pages of all that is left, and says where the new tree begins.
    ///
    /// # Errors
    /// Pages on the way are damaged.
    pub(super) fn finish(mut self, ground: &mut Ground<'_>) -> Result<PageNo, StoreDamage> {
        self.move_on(ground, None)?;
        let mut height = 0;
        loop {
            let is_top = self.levels[height + 1..]
                .iter()
                .all(|level| level.items.is_empty());
            let items = &self.levels[height].items;
            if is_top && items.cut_of_last(self.fill, ground.page_size()) == items.len() {
                return self.finish_root(ground, height);
            }
            let drained = self.flush(ground, height)?;
            assert_eq!(drained, Drained::Done, "nothing is left to be opened");
            height += 1;
        }
    }

    fn finish_root(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
    ) -> Result<PageNo, StoreDamage> {
        if height == 0 || self.levels[height].items.len() > 1 {
            let count = self.levels[height].items.len();
            return Ok(self.write_page(ground, height, count));
        }
        let only = self.levels[height].items.last_child();
        let mut root = only.expect("no height above the leaves is the top one without a child");
        // What is below can only be such a branch if another program wrote it.
        for _ in 0..DEPTH_MAX {
            let node = ground.old_or_fresh(root)?;
            if node.is_leaf() || node.count() > 1 {
                break;
            }
            let (child, len) = (node.child(0), node.len());
            ground.drop_page(root, len)?;
            root = child;
        }
        Ok(root)
    }

    fn check_order(&mut self, key: &[u8]) {
        assert!(
            self.last_key.as_slice() < key,
            "changes ascend, and no key is empty"
        );
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    /// Moves the sources on until the leaf is open that covers `key`; `None`: to the end of the tree.
    fn move_on(&mut self, ground: &mut Ground<'_>, key: Option<&[u8]>) -> Result<(), StoreDamage> {
        let page_size = ground.space.page_size();
        loop {
            let Some((height, source)) = self.lowest_with_more(1) else {
                if key.is_none() {
                    self.close_leaf(ground)?;
                }
                return Ok(());
            };
            let node = source.node(ground.pages, page_size)?;
            if let Some(key) = key
                && self.levels[0].source.is_some()
                && key < node.key(source.next)?
            {
                return Ok(());
            }
            self.close_leaf(ground)?;
            let until = match key {
                Some(key) => self.covering_child(ground, height, &node, key)?,
                None => source.count,
            };
            if until > source.next {
                if self.drain_below(ground, height)? == Drained::Done {
                    self.carry_children(ground, height, until)?;
                }
            } else {
                self.open_next(ground, height)?;
            }
        }
    }

    /// The lowest height from `from` on whose source is not used up.
    fn lowest_with_more(&self, from: usize) -> Option<(usize, Source)> {
        (from..self.levels.len()).find_map(|height| {
            let source = self.levels[height].source.filter(Source::has_more)?;
            Some((height, source))
        })
    }

    /// Which child at `height` covers `key`, from the next one on; the number of children if none does.
    fn covering_child(
        &self,
        ground: &Ground<'_>,
        height: usize,
        node: &Node<'_>,
        key: &[u8],
    ) -> Result<usize, StoreDamage> {
        let source = self.levels[height].source;
        let next = source.map_or(0, |source| source.next);
        let (index, found) = node.search(next, key)?;
        let child = if found {
            index
        } else {
            index.saturating_sub(1).max(next)
        };
        if child + 1 < node.count() {
            return Ok(child);
        }
        // The last child goes up to where the next page of this height begins.
        let Some((_, above)) = self.lowest_with_more(height + 1) else {
            return Ok(child);
        };
        let limit = above.node(ground.pages, ground.space.page_size())?;
        let is_behind = key >= limit.key(above.next)?;
        Ok(if is_behind { node.count() } else { child })
    }

    /// Carries over what is left of the open leaf.
    fn close_leaf(&mut self, ground: &mut Ground<'_>) -> Result<(), StoreDamage> {
        let level = &mut self.levels[0];
        if let Some(mut source) = level.source.take() {
            let node = source.node(ground.pages, ground.space.page_size())?;
            let rest = source.next..source.count;
            level.items.push_from(&node, rest, &mut source.room)?;
            self.spill(ground, 0);
        }
        Ok(())
    }

    /// Carries over the elements of the open leaf below `key`. Returns where `key` is, if it is there.
    fn carry_below<'a>(
        &mut self,
        pages: &'a dyn Pages,
        page_size: u32,
        key: &[u8],
    ) -> Result<Option<(Node<'a>, usize)>, StoreDamage> {
        let level = &mut self.levels[0];
        let Some(source) = &mut level.source else {
            return Ok(None);
        };
        if !source.has_more() {
            return Ok(None);
        }
        let node = source.node(pages, page_size)?;
        let (index, found) = node.search(source.next, key)?;
        let below = source.next..index;
        level.items.push_from(&node, below, &mut source.room)?;
        source.next = index;
        Ok(found.then_some((node, index)))
    }

    /// Leaves out the next element of the open leaf.
    fn skip(&mut self) {
        if let Some(source) = &mut self.levels[0].source {
            source.next += 1;
        }
    }

    /// Carries children at `height` over as they are, up to `until` (exclusive).
    fn carry_children(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
        until: usize,
    ) -> Result<(), StoreDamage> {
        let level = &mut self.levels[height];
        if let Some(source) = &mut level.source {
            let node = source.node(ground.pages, ground.space.page_size())?;
            let untouched = source.next..until;
            level.items.push_from(&node, untouched, &mut source.room)?;
            source.next = until;
        }
        self.spill(ground, height);
        Ok(())
    }

    /// Opens the next child at `height` as the source of the height below.
    fn open_next(&mut self, ground: &mut Ground<'_>, height: usize) -> Result<(), StoreDamage> {
        let Some(source) = &mut self.levels[height].source else {
            return Ok(());
        };
        let node = source.node(ground.pages, ground.space.page_size())?;
        let child = node.child(source.next);
        source.next += 1;
        self.open(ground, height - 1, child)
    }

    fn open(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
        page: PageNo,
    ) -> Result<(), StoreDamage> {
        let node = ground.old(page)?;
        if node.is_leaf() != (height == 0) {
            return Err(node.damage(DamageKind::Unbalanced));
        }
        let (source, len) = (Source::new(Root::Page(page), &node), node.len());
        ground.retire(page, len)?;
        self.levels[height].source = Some(source);
        Ok(())
    }

    /// Makes pages of all items below `height`, whose source has children left.
    fn drain_below(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
    ) -> Result<Drained, StoreDamage> {
        for below in 0..height {
            if self.flush(ground, below)? == Drained::Opened {
                return Ok(Drained::Opened);
            }
        }
        Ok(Drained::Done)
    }

    /// Makes pages of all items of a height, none of which is too empty if that can be helped.
    fn flush(&mut self, ground: &mut Ground<'_>, height: usize) -> Result<Drained, StoreDamage> {
        self.flush_but_last(ground, height);
        let items = &self.levels[height].items;
        if items.is_empty() {
            return Ok(Drained::Done);
        }
        let must = height > 0 && items.len() < 2;
        let page_size = ground.page_size();
        if must || items.page_len() < page_size / 4 {
            let room = if must { usize::MAX } else { page_size };
            if self.join_previous(ground, height, room)? {
                self.flush_but_last(ground, height);
            } else if self.open_following(ground, height, room)? {
                return Ok(Drained::Opened);
            }
        }
        let count = self.levels[height].items.len();
        self.write_child(ground, height, count);
        Ok(Drained::Done)
    }

    fn flush_but_last(&mut self, ground: &mut Ground<'_>, height: usize) {
        loop {
            let items = &self.levels[height].items;
            let count = items.cut_of_last(self.fill, ground.page_size());
            if count == items.len() {
                return;
            }
            self.write_child(ground, height, count);
        }
    }

    /// Takes the page before these items apart, if both together need at most `room`. False: there is none, or it is
    /// too full.
    fn join_previous(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
        room: usize,
    ) -> Result<bool, StoreDamage> {
        let must = room == usize::MAX;
        if must {
            self.refill(ground, height + 1)?;
        }
        let Some(page) = self.last_child(height + 1) else {
            return Ok(false);
        };
        let node = ground.old_or_fresh(page)?;
        let fits = node.used_len()? + self.levels[height].items.page_len() <= room;
        if !must && !fits {
            return Ok(false);
        }
        self.take_apart(ground, height, page)?;
        Ok(true)
    }

    fn last_child(&self, height: usize) -> Option<PageNo> {
        self.levels.get(height)?.items.last_child()
    }

    /// Sees to it that there are items at `height`, by taking apart the last page before.
    fn refill(&mut self, ground: &mut Ground<'_>, height: usize) -> Result<(), StoreDamage> {
        if self
            .levels
            .get(height)
            .is_none_or(|level| !level.items.is_empty())
        {
            return Ok(());
        }
        self.refill(ground, height + 1)?;
        match self.last_child(height + 1) {
            Some(page) => self.take_apart(ground, height, page),
            None => Ok(()),
        }
    }

    /// Puts what `page`, the last child of the height above, has before the items of `height`.
    fn take_apart(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
        page: PageNo,
    ) -> Result<(), StoreDamage> {
        let node = ground.old_or_fresh(page)?;
        if node.is_leaf() != (height == 0) {
            return Err(node.damage(DamageKind::Unbalanced));
        }
        let (before, len) = (Items::of_node(&node)?, node.len());
        ground.drop_page(page, len)?;
        self.levels[height + 1].items.pop();
        self.levels[height].items.prepend(before);
        Ok(())
    }

    /// Opens the page behind these items, if both together need at most `room` and it is under the same branch; if
    /// there is no bound, wherever it is.
    fn open_following(
        &mut self,
        ground: &mut Ground<'_>,
        height: usize,
        room: usize,
    ) -> Result<bool, StoreDamage> {
        let Some((above, source)) = self.lowest_with_more(height + 1) else {
            return Ok(false);
        };
        if room < usize::MAX {
            if above > height + 1 {
                return Ok(false);
            }
            let parent = source.node(ground.pages, ground.space.page_size())?;
            let following = ground.old(parent.child(source.next))?;
            if following.used_len()? + self.levels[height].items.page_len() > room {
                return Ok(false);
            }
        }
        for from in (height + 1..=above).rev() {
            self.open_next(ground, from)?;
        }
        Ok(true)
    }

    /// Makes pages while more items are here than two pages hold.
    fn spill(&mut self, ground: &mut Ground<'_>, height: usize) {
        let page_size = ground.page_size();
        loop {
            let items = &self.levels[height].items;
            if items.page_len() <= 2 * page_size {
                return;
            }
            let count = items.cut_of_many(self.fill, page_size);
            if count == items.len() {
                return;
            }
            self.write_child(ground, height, count);
        }
    }

    /// Makes a page of the first `count` items, a child of the height above.
    fn write_child(&mut self, ground: &mut Ground<'_>, height: usize, count: usize) {
        let key = self.levels[height].items.first_key().to_vec();
        let page = self.write_page(ground, height, count);
        if self.levels.len() == height + 1 {
            self.levels.push(Level::new(height + 1));
        }
        self.levels[height + 1].items.push_child(&key, page);
        self.spill(ground, height + 1);
    }

    fn write_page(&mut self, ground: &mut Ground<'_>, height: usize, count: usize) -> PageNo {
        let items = &mut self.levels[height].items;
        let page_size = ground.page_size();
        let page_count = items.page_len_of(count).div_ceil(page_size);
        let page = ground.space.allocate(page_count as u64);
        let mut bytes = vec![0; page_count * page_size];
        items.take_page(count, page, &mut bytes, page_size);
        ground.fresh.insert(page, bytes);
        page
    }
}
