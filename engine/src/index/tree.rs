//! The tree of index pages: inserts, removals, counts.
//!
//! Writing goes top down and makes each page of the path writable on its way (a copy once a batch), so splits, counts
//! and merges on the way back need no second copy. Live counts of the path change by what changed in the leaf.
//!
//! Invariants, walked by [`Tree::check`]:
//! - all leaves have the same depth; only the root may be without entries;
//! - the keys below child `i` lie in `separator i..separator i + 1`;
//! - a branch knows how many keys live below each child.

use crate::cow::{Cursor, PageNo, Space, Step};

use super::build::{Entries, separator};
use super::overflow;
use super::page::{Body, IndexLayout, LIVE, Node, NodeMut, PAGE_SIZE, Pages, Probe};

/// A page that uses less is joined with a neighbour if that leaves room.
const SPARSE_LEN: usize = PAGE_SIZE / 4;
/// A joined page is at most so full, so that it is not split again soon.
const JOINED_LEN_MAX: usize = PAGE_SIZE * 3 / 4;

/// See the module text.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) space: Space<IndexLayout, PAGE_SIZE>,
    pub(super) root: PageNo,
}

/// What an insertion may change in the entry before the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// It is of another key.
    Stranger,
    /// It was the key's newest version and is so no more.
    Superseded,
}

impl Default for Tree {
    fn default() -> Self {
        let mut space = Space::default();
        let root = space.allocate();
        NodeMut(space.page_mut(root)).reset(0, b"");
        Tree { space, root }
    }
}

/// The path to where `probe` stands or would.
pub(super) fn seek(pages: &Pages, root: PageNo, key: &[u8]) -> Cursor {
    let probe = Probe::new(key);
    let mut cursor = Cursor::default();
    let mut no = root;
    loop {
        let node = Node(pages.page(no));
        if node.is_leaf() {
            cursor.push(no, node.search(pages, probe, false));
            return cursor;
        }
        let index = node.child_index(pages, probe);
        cursor.push(no, index);
        no = node.child(index);
    }
}

/// Keys that live before `key`.
pub(super) fn rank(pages: &Pages, root: PageNo, key: &[u8]) -> u64 {
    let path = seek(pages, root, key);
    let live = |step: &Step| Node(pages.page(step.page)).live_before(step.index);
    path.steps().iter().map(live).sum()
}

impl Tree {
    fn node(&self, no: PageNo) -> Node<'_> {
        Node(self.space.page(no))
    }

    fn node_mut(&mut self, no: PageNo) -> NodeMut<'_> {
        NodeMut(self.space.page_mut(no))
    }

    /// As [`seek`], with all pages of the path writable.
    pub(super) fn seek_mut(&mut self, key: &[u8]) -> Cursor {
        let probe = Probe::new(key);
        let mut cursor = Cursor::default();
        self.root = self.space.writable(self.root);
        let mut no = self.root;
        loop {
            let node = self.node(no);
            if node.is_leaf() {
                cursor.push(no, node.search(self.space.arena(), probe, false));
                return cursor;
            }
            let index = node.child_index(self.space.arena(), probe);
            let child = node.child(index);
            let copy = self.space.writable(child);
            if copy != child {
                self.node_mut(no).set_child(index, copy);
            }
            cursor.push(no, index);
            no = copy;
        }
    }

    /// Adds to the live counts above a leaf.
    fn add_live(&mut self, path: &Cursor, delta: i64) {
        if delta == 0 {
            return;
        }
        let (_, above) = path.steps().split_last().unwrap_or((&NOWHERE, &[]));
        for step in above {
            let live = self.node(step.page).live_below(step.index);
            let live = live.checked_add_signed(delta as i32);
            let live = live.expect("as many keys live as leaves say");
            self.node_mut(step.page).set_live_below(step.index, live);
        }
    }

    /// Inserts a key that is not there, where `path` of [`Tree::seek_mut`] leads. With [`Former::Superseded`] the entry
    /// before it loses its flags.
    pub(super) fn insert(
        &mut self,
        mut path: Cursor,
        key: &[u8],
        value: &[u8],
        flags: u16,
        former: Former,
    ) {
        let Step { page, index } = path.leaf();
        let mut delta = i64::from(flags & LIVE != 0);
        if former == Former::Superseded && index > 0 {
            delta -= i64::from(self.node(page).is_live(index - 1));
            self.node_mut(page).set_flags(index - 1, 0);
        }
        self.add_live(&path, delta);
        let probe = Probe::new(key);
        let body = Body {
            flags,
            value,
            overflow: overflow::write(&mut self.space, probe.rest),
            ..Body::default()
        };
        self.put(&mut path, probe.inline, &body);
        if former == Former::Superseded && index == 0 {
            self.clear_before(key);
        }
    }

    /// Takes the flags of the entry before `key`, which stands in another leaf.
    fn clear_before(&mut self, key: &[u8]) {
        let mut path = seek(self.space.arena(), self.root, key);
        if let Some(index) = path.leaf().index.checked_sub(1) {
            path.set_index(index);
        } else if !path.former_leaf::<IndexLayout, PAGE_SIZE>(self.space.arena()) {
            return;
        }
        let Step { page, index } = path.leaf();
        let mut former = Vec::new();
        self.node(page)
            .key_into(self.space.arena(), index, &mut former);
        let path = self.seek_mut(&former);
        let Step { page, index } = path.leaf();
        let delta = -i64::from(self.node(page).is_live(index));
        self.node_mut(page).set_flags(index, 0);
        self.add_live(&path, delta);
    }

    /// Inserts an entry at the end of the path, splitting pages upwards as needed.
    fn put(&mut self, path: &mut Cursor, inline: &[u8], body: &Body<'_>) {
        let Some(Step { page, index }) = path.pop() else {
            return;
        };
        let hint = self.node(page).last_insert();
        let mut node = self.node_mut(page);
        if node.try_insert(index, inline, body) {
            node.set_last_insert(index);
            return;
        }
        let mut entries = Entries::of(self.node(page));
        entries.insert(index, inline, body);
        let wanted = ascending_cut(hint, index, entries.len());
        let Some(cut) = entries.cut(wanted) else {
            let all = 0..entries.len();
            entries.write(all, self.space.page_mut(page));
            self.node_mut(page).set_last_insert(index);
            return;
        };
        self.split(path, page, entries, cut, index);
    }

    fn split(
        &mut self,
        path: &mut Cursor,
        page: PageNo,
        mut entries: Entries,
        cut: usize,
        inserted: usize,
    ) {
        let (key, overflow) = if entries.level() > 0 {
            entries.take_key(cut)
        } else {
            self.leaf_separator(&entries, cut)
        };
        let right = self.space.allocate();
        entries.write(0..cut, self.space.page_mut(page));
        entries.write(cut..entries.len(), self.space.page_mut(right));
        if inserted < cut {
            self.node_mut(page).set_last_insert(inserted);
        } else {
            self.node_mut(right).set_last_insert(inserted - cut);
        }
        let live = |tree: &Tree, no| {
            u32::try_from(tree.node(no).live()).expect("there are less than 2^32 keys")
        };
        let body = Body {
            overflow,
            child: right,
            live: live(self, right),
            ..Body::default()
        };
        let left_live = live(self, page);
        let Some(above) = path.pop() else {
            self.grow_root(page, left_live, &key, &body);
            return;
        };
        self.node_mut(above.page)
            .set_live_below(above.index, left_live);
        path.push(above.page, above.index + 1);
        self.put(path, &key, &body);
    }

    fn leaf_separator(
        &mut self,
        entries: &Entries,
        cut: usize,
    ) -> (Vec<u8>, Option<super::page::Overflow>) {
        let (left, right) = (entries.key(cut - 1), entries.key(cut));
        if let Some(short) = separator(left, right) {
            return (short.to_vec(), None);
        }
        let mut rest = Vec::new();
        if let Some(overflow) = entries.overflow(cut) {
            overflow::read(self.space.arena(), overflow, &mut rest);
        }
        (right.to_vec(), overflow::write(&mut self.space, &rest))
    }

    fn grow_root(&mut self, left: PageNo, left_live: u32, key: &[u8], right: &Body<'_>) {
        let level = self.node(left).level() + 1;
        let root = self.space.allocate();
        let mut node = self.node_mut(root);
        node.reset(level, b"");
        let first = Body {
            child: left,
            live: left_live,
            ..Body::default()
        };
        let done = node.try_insert(0, b"", &first) && node.try_insert(1, key, right);
        assert!(done, "an empty page has room for two entries");
        self.root = root;
    }

    /// Removes a key; false if it is not there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let mut path = self.seek_mut(key);
        let Step { page, index } = path.leaf();
        let mut found = Vec::new();
        if index < self.node(page).count() {
            self.node(page)
                .key_into(self.space.arena(), index, &mut found);
        }
        if found != key {
            return false;
        }
        let node = self.node(page);
        let (live, overflow) = (node.is_live(index), node.overflow(index));
        overflow::release(&mut self.space, overflow);
        self.node_mut(page).remove(index);
        self.add_live(&path, -i64::from(live));
        path.pop();
        self.tidy(&mut path, page);
        true
    }

    /// After a removal from `page`: takes it out if it is empty, joins it with a neighbour if it is sparse, and so on
    /// up the path.
    fn tidy(&mut self, path: &mut Cursor, mut page: PageNo) {
        while let Some(above) = path.pop() {
            let node = self.node(page);
            if node.count() == 0 {
                self.space.release(page);
                self.remove_child(above.page, above.index);
            } else if node.used_len() >= SPARSE_LEN || !self.join(above) {
                return;
            }
            page = above.page;
        }
        self.shrink_root();
    }

    fn shrink_root(&mut self) {
        while !self.node(self.root).is_leaf() && self.node(self.root).count() <= 1 {
            let former = self.root;
            if self.node(former).count() == 0 {
                self.node_mut(former).reset(0, b"");
                return;
            }
            self.root = self.node(former).child(0);
            self.space.release(former);
        }
    }

    fn remove_child(&mut self, branch: PageNo, index: usize) {
        let overflow = self.node(branch).overflow(index);
        overflow::release(&mut self.space, overflow);
        self.node_mut(branch).remove(index);
        if index == 0 && self.node(branch).count() > 0 {
            // The next child's separator is the branch's first one now, which is minus infinity.
            let mut entries = Entries::of(self.node(branch));
            let (_, overflow) = entries.take_key(0);
            overflow::release(&mut self.space, overflow);
            entries.write(0..entries.len(), self.space.page_mut(branch));
        }
    }

    /// Joins a child with the one on its right or left, if they fit one page.
    fn join(&mut self, above: Step) -> bool {
        let count = self.node(above.page).count();
        let right_too = above.index + 1 < count && self.join_pair(above.page, above.index);
        right_too || (above.index > 0 && self.join_pair(above.page, above.index - 1))
    }

    /// Joins child `index` and the next one.
    fn join_pair(&mut self, branch: PageNo, index: usize) -> bool {
        let node = self.node(branch);
        let (left, right) = (node.child(index), node.child(index + 1));
        let live = node.live_below(index) + node.live_below(index + 1);
        let overflow = node.overflow(index + 1);
        let (left_node, right_node) = (self.node(left), self.node(right));
        if left_node.used_len() + right_node.used_len() > PAGE_SIZE {
            return false;
        }
        let mut entries = Entries::of(left_node);
        let seam = entries.len();
        entries.append(right_node);
        let is_branch = entries.level() > 0;
        if is_branch {
            let mut key = Vec::new();
            node.push_inline(index + 1, &mut key);
            entries.set_key(seam, &key, overflow);
        }
        if entries.page_len(0..entries.len()) > JOINED_LEN_MAX {
            return false;
        }
        let copy = self.space.writable(left);
        entries.write(0..entries.len(), self.space.page_mut(copy));
        let mut node = self.node_mut(branch);
        node.set_child(index, copy);
        node.set_live_below(index, live);
        node.remove(index + 1);
        if !is_branch {
            overflow::release(&mut self.space, overflow);
        }
        self.space.release(right);
        true
    }

    /// Walks the whole tree and asserts its invariants; returns the number of entries.
    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        let mut pages = 0;
        let count = self.check_page(self.root, None, None, &mut pages);
        let expected = pages + self.space.held_count();
        assert_eq!(self.space.used_count(), expected, "pages leaked");
        count
    }

    #[cfg(test)]
    fn check_page(
        &self,
        no: PageNo,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        pages: &mut usize,
    ) -> usize {
        let node = self.node(no);
        let root = no == self.root;
        *pages += 1;
        assert!(root || node.count() > 0, "page {no:?} is empty");
        assert!(node.slots_end() <= node.heap_low());
        assert!(node.heap_used() <= PAGE_SIZE - node.heap_low());
        let mut keys = Vec::new();
        for index in 0..node.count() {
            let mut key = Vec::new();
            node.key_into(self.space.arena(), index, &mut key);
            *pages += node
                .overflow(index)
                .map_or(0, |o| (o.len as usize).div_ceil(PAGE_SIZE - 4));
            keys.push(key);
        }
        let first = usize::from(!node.is_leaf());
        let named = keys.get(first..).unwrap_or_default();
        assert!(named.is_sorted_by(|a, b| a < b), "keys of {no:?}");
        let above_low = |key: &Vec<u8>| low.is_none_or(|low| key.as_slice() >= low);
        let below_high = |key: &Vec<u8>| high.is_none_or(|high| key.as_slice() < high);
        assert!(named.iter().all(|k| above_low(k) && below_high(k)));
        if node.is_leaf() {
            return node.count();
        }
        let mut count = 0;
        for index in 0..node.count() {
            let child = node.child(index);
            assert_eq!(self.node(child).level() + 1, node.level(), "depth");
            let live = u64::from(node.live_below(index));
            assert_eq!(self.node(child).live(), live, "live count of {child:?}");
            let low = if index == 0 {
                low
            } else {
                Some(&keys[index][..])
            };
            let high = keys.get(index + 1).map_or(high, |key| Some(&key[..]));
            count += self.check_page(child, low, high, pages);
        }
        count
    }
}

/// Where entries that come in ascending order want a page of `count` cut, the new one being at `index`, so that they
/// leave full pages behind: at the page's end before the new one; in the middle behind it, which parts the run from the
/// greater entries that it would push along otherwise.
fn ascending_cut(hint: usize, index: usize, count: usize) -> Option<usize> {
    if index + 1 == count {
        return Some(index);
    }
    (index > 0 && hint + 1 == index).then_some(index + 1)
}

const NOWHERE: Step = Step {
    page: PageNo::NONE,
    index: 0,
};
