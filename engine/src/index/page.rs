//! One page of the index: slotted, prefix-compressed, 2 KiB.
//!
//! ```text
//!    0  count u16 | level u16 | prefix length u16 | heap's low end u16
//!    8  bytes of the heap in use u16 | last insert's place u16 | 4 bytes unused
//!   16  prefix, padded to 8
//!       slots, upwards:    leaf    8 B  record's offset u16 (with LIVE, NEWEST) | suffix length u16 (with LONG) | head u32
//!                          branch 16 B  the same | child u32 | live keys below it u32
//!       ... gap ...
//!       records, downwards from 2048:   [value length u8, value: leaves] [overflow page u32, rest's length u32: LONG] tail
//! ```
//!
//! The *head* is a suffix's first four bytes, zero-padded, big-endian; the *tail* is the rest. The first key of a branch
//! stands for minus infinity and is kept empty; separators are cut as short as they may be.
//!
//! Left out: finding room (`build.rs`), anything that spans pages (`tree.rs`).

use std::cmp::Ordering;

use crate::cow::{Arena, Layout, PageNo};

use super::overflow;

pub(super) const PAGE_SIZE: usize = 2048;
pub(super) type Page = [u8; PAGE_SIZE];
pub(super) type Pages = Arena<PAGE_SIZE>;

pub(super) const HEADER_LEN: usize = 16;
const LEAF_SLOT_LEN: usize = 8;
const BRANCH_SLOT_LEN: usize = 16;
const HEAD_LEN: usize = 4;
pub(super) const OVERFLOW_REF_LEN: usize = 8;

/// Bytes of a key that a page keeps itself; the rest goes to overflow pages. Four entries fit a page however long.
pub(super) const INLINE_LEN_MAX: usize = 320;

/// Set in a leaf's slot: the newest version of its key.
pub(super) const NEWEST: u16 = 0x4000;
/// Set in a leaf's slot: the newest version of its key, and no tombstone.
pub(super) const LIVE: u16 = 0x8000;
const OFFSET_MASK: u16 = 0x3fff;
/// Set in a slot's suffix length: the key goes on in overflow pages.
const LONG: u16 = 0x8000;

/// The layout of the index for the copy-on-write engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexLayout;

impl Layout<PAGE_SIZE> for IndexLayout {
    fn copy(from: &Page, to: &mut Page) {
        let node = Node(from);
        let (slots_end, heap_low) = (node.slots_end(), node.heap_low());
        to[..slots_end].copy_from_slice(&from[..slots_end]);
        to[heap_low..].copy_from_slice(&from[heap_low..]);
    }

    fn is_leaf(page: &Page) -> bool {
        Node(page).is_leaf()
    }

    fn count(page: &Page) -> usize {
        Node(page).count()
    }

    fn child(page: &Page, index: usize) -> PageNo {
        Node(page).child(index)
    }
}

pub(super) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A key that is looked for, cut where pages cut it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'a> {
    pub(super) inline: &'a [u8],
    pub(super) rest: &'a [u8],
}

impl<'a> Probe<'a> {
    pub(super) fn new(key: &'a [u8]) -> Self {
        let (inline, rest) = key.split_at(key.len().min(INLINE_LEN_MAX));
        Probe { inline, rest }
    }
}

/// Where a key goes on: its first overflow page and how many bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) page: PageNo,
    pub(super) len: u32,
}

pub(super) fn slot_len(level: usize) -> usize {
    if level == 0 {
        LEAF_SLOT_LEN
    } else {
        BRANCH_SLOT_LEN
    }
}

pub(super) fn slots_start(prefix_len: usize) -> usize {
    HEADER_LEN + prefix_len.next_multiple_of(8)
}

fn head_of(suffix: &[u8]) -> u32 {
    let mut head = [0; HEAD_LEN];
    let len = suffix.len().min(HEAD_LEN);
    head[..len].copy_from_slice(&suffix[..len]);
    u32::from_be_bytes(head)
}

fn tail_of(suffix: &[u8]) -> &[u8] {
    &suffix[suffix.len().min(HEAD_LEN)..]
}

/// Length of an entry's record.
pub(super) fn record_len(level: usize, suffix_len: usize, value_len: usize, long: bool) -> usize {
    usize::from(level == 0) * (1 + value_len)
        + usize::from(long) * OVERFLOW_REF_LEN
        + suffix_len.saturating_sub(HEAD_LEN)
}

/// A page, for reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a>(pub(super) &'a Page);

impl<'a> Node<'a> {
    pub(super) fn count(self) -> usize {
        get_u16(self.0, 0).into()
    }

    /// 0 for a leaf.
    pub(super) fn level(self) -> usize {
        get_u16(self.0, 2).into()
    }

    pub(super) fn is_leaf(self) -> bool {
        self.level() == 0
    }

    fn prefix_len(self) -> usize {
        get_u16(self.0, 4).into()
    }

    pub(super) fn heap_low(self) -> usize {
        get_u16(self.0, 6).into()
    }

    /// Bytes of the heap that records use; the rest of it is dead.
    pub(super) fn heap_used(self) -> usize {
        get_u16(self.0, 8).into()
    }

    /// Where the last entry was inserted.
    pub(super) fn last_insert(self) -> usize {
        get_u16(self.0, 10).into()
    }

    pub(super) fn prefix(self) -> &'a [u8] {
        &self.0[HEADER_LEN..HEADER_LEN + self.prefix_len()]
    }

    fn slot(self, index: usize) -> usize {
        slots_start(self.prefix_len()) + index * slot_len(self.level())
    }

    pub(super) fn slots_end(self) -> usize {
        self.slot(self.count())
    }

    /// Bytes of the page that anything needs.
    pub(super) fn used_len(self) -> usize {
        self.slots_end() + self.heap_used()
    }

    fn offset(self, index: usize) -> usize {
        (get_u16(self.0, self.slot(index)) & OFFSET_MASK).into()
    }

    pub(super) fn flags(self, index: usize) -> u16 {
        get_u16(self.0, self.slot(index)) & !OFFSET_MASK
    }

    pub(super) fn is_live(self, index: usize) -> bool {
        self.flags(index) & LIVE != 0
    }

    fn suffix_len(self, index: usize) -> usize {
        (get_u16(self.0, self.slot(index) + 2) & !LONG).into()
    }

    fn is_long(self, index: usize) -> bool {
        get_u16(self.0, self.slot(index) + 2) & LONG != 0
    }

    fn head(self, index: usize) -> u32 {
        get_u32(self.0, self.slot(index) + 4)
    }

    pub(super) fn child(self, index: usize) -> PageNo {
        PageNo(get_u32(self.0, self.slot(index) + 8))
    }

    /// Keys that live below a child.
    pub(super) fn live_below(self, index: usize) -> u32 {
        get_u32(self.0, self.slot(index) + 12)
    }

    /// Keys that live in this page or below it.
    pub(super) fn live(self) -> u64 {
        self.live_before(self.count())
    }

    /// Keys that live in or below the entries before `index`.
    pub(super) fn live_before(self, index: usize) -> u64 {
        let leaf = self.is_leaf();
        (0..index)
            .map(|i| {
                if leaf {
                    u64::from(self.is_live(i))
                } else {
                    self.live_below(i).into()
                }
            })
            .sum()
    }

    /// A leaf's value.
    pub(super) fn value(self, index: usize) -> &'a [u8] {
        let at = self.offset(index);
        let len = usize::from(self.0[at]);
        &self.0[at + 1..at + 1 + len]
    }

    fn after_value(self, index: usize) -> usize {
        let at = self.offset(index);
        if self.is_leaf() {
            at + 1 + usize::from(self.0[at])
        } else {
            at
        }
    }

    pub(super) fn overflow(self, index: usize) -> Option<Overflow> {
        self.is_long(index).then(|| {
            let at = self.after_value(index);
            Overflow {
                page: PageNo(get_u32(self.0, at)),
                len: get_u32(self.0, at + 4),
            }
        })
    }

    fn tail(self, index: usize) -> &'a [u8] {
        let at = self.after_value(index) + usize::from(self.is_long(index)) * OVERFLOW_REF_LEN;
        &self.0[at..at + self.suffix_len(index).saturating_sub(HEAD_LEN)]
    }

    fn record_len(self, index: usize) -> usize {
        let value_len = if self.is_leaf() {
            self.value(index).len()
        } else {
            0
        };
        let (suffix_len, long) = (self.suffix_len(index), self.is_long(index));
        record_len(self.level(), suffix_len, value_len, long)
    }

    /// Appends the part of the key that the page keeps.
    pub(super) fn push_inline(self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix());
        let head = self.head(index).to_be_bytes();
        out.extend_from_slice(&head[..self.suffix_len(index).min(HEAD_LEN)]);
        out.extend_from_slice(self.tail(index));
    }

    /// The whole key.
    pub(super) fn key_into(self, pages: &Pages, index: usize, out: &mut Vec<u8>) {
        out.clear();
        self.push_inline(index, out);
        if let Some(overflow) = self.overflow(index) {
            overflow::read(pages, overflow, out);
        }
    }

    fn compare_tail(self, pages: &Pages, index: usize, suffix: &[u8], rest: &[u8]) -> Ordering {
        let inline = self.tail(index).cmp(tail_of(suffix));
        let inline = inline.then(self.suffix_len(index).cmp(&suffix.len()));
        inline.then_with(|| match self.overflow(index) {
            Some(overflow) => overflow::compare(pages, overflow, rest),
            None if rest.is_empty() => Ordering::Equal,
            None => Ordering::Less,
        })
    }

    /// How many entries sort before `probe`, or at it if `or_equal`. A branch's first one always does.
    pub(super) fn search(self, pages: &Pages, probe: Probe<'_>, or_equal: bool) -> usize {
        let first = usize::from(!self.is_leaf());
        let count = self.count();
        let prefix = self.prefix();
        let shared = probe.inline.len().min(prefix.len());
        match probe.inline[..shared].cmp(prefix) {
            Ordering::Less => return first,
            Ordering::Greater => return count,
            Ordering::Equal => {}
        }
        let suffix = &probe.inline[shared..];
        let head = head_of(suffix);
        let low = partition(first, count, |i| self.head(i) < head);
        let high = partition(low, count, |i| self.head(i) == head);
        partition(low, high, |i| {
            let order = self.compare_tail(pages, i, suffix, probe.rest);
            order == Ordering::Less || (or_equal && order == Ordering::Equal)
        })
    }

    /// The child whose keys include `probe`.
    pub(super) fn child_index(self, pages: &Pages, probe: Probe<'_>) -> usize {
        self.search(pages, probe, true) - 1
    }
}

/// First index of `low..high` for which `before` does not hold.
fn partition(mut low: usize, mut high: usize, before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// What an entry consists of but for its key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) flags: u16,
    pub(super) value: &'a [u8],
    pub(super) overflow: Option<Overflow>,
    pub(super) child: PageNo,
    pub(super) live: u32,
}

/// A page, for writing. Whoever inserts has made sure that there is room.
#[derive(Debug)]
pub(super) struct NodeMut<'a>(pub(super) &'a mut Page);

impl NodeMut<'_> {
    pub(super) fn as_node(&self) -> Node<'_> {
        Node(self.0)
    }

    /// Empties the page.
    pub(super) fn reset(&mut self, level: usize, prefix: &[u8]) {
        self.0[..HEADER_LEN].fill(0);
        put_u16(self.0, 2, level);
        put_u16(self.0, 4, prefix.len());
        put_u16(self.0, 6, PAGE_SIZE);
        self.0[HEADER_LEN..HEADER_LEN + prefix.len()].copy_from_slice(prefix);
    }

    pub(super) fn set_last_insert(&mut self, index: usize) {
        put_u16(self.0, 10, index);
    }

    /// True if an entry was inserted between the others without moving a record.
    pub(super) fn try_insert(&mut self, index: usize, inline: &[u8], body: &Body<'_>) -> bool {
        let node = self.as_node();
        let Some(suffix) = inline.strip_prefix(node.prefix()) else {
            return false;
        };
        let long = body.overflow.is_some();
        let record = record_len(node.level(), suffix.len(), body.value.len(), long);
        if node.slots_end() + slot_len(node.level()) + record > node.heap_low() {
            return false;
        }
        self.insert(index, suffix, record, body);
        true
    }

    fn insert(&mut self, index: usize, suffix: &[u8], record: usize, body: &Body<'_>) {
        let node = self.as_node();
        let (level, count, end) = (node.level(), node.count(), node.slots_end());
        let (slot, offset) = (node.slot(index), node.heap_low() - record);
        let used = node.heap_used() + record;
        self.0.copy_within(slot..end, slot + slot_len(level));
        let long = body.overflow.is_some();
        put_u16(self.0, slot, offset | usize::from(body.flags));
        let length = suffix.len() | (usize::from(long) * usize::from(LONG));
        put_u16(self.0, slot + 2, length);
        put_u32(self.0, slot + 4, head_of(suffix));
        if level > 0 {
            put_u32(self.0, slot + 8, body.child.0);
            put_u32(self.0, slot + 12, body.live);
        }
        self.write_record(offset, level, suffix, body);
        put_u16(self.0, 0, count + 1);
        put_u16(self.0, 6, offset);
        put_u16(self.0, 8, used);
    }

    fn write_record(&mut self, mut at: usize, level: usize, suffix: &[u8], body: &Body<'_>) {
        if level == 0 {
            self.0[at] = body.value.len() as u8;
            self.0[at + 1..at + 1 + body.value.len()].copy_from_slice(body.value);
            at += 1 + body.value.len();
        }
        if let Some(overflow) = body.overflow {
            put_u32(self.0, at, overflow.page.0);
            put_u32(self.0, at + 4, overflow.len);
            at += OVERFLOW_REF_LEN;
        }
        let tail = tail_of(suffix);
        self.0[at..at + tail.len()].copy_from_slice(tail);
    }

    pub(super) fn remove(&mut self, index: usize) {
        let node = self.as_node();
        let (slot, next, end) = (node.slot(index), node.slot(index + 1), node.slots_end());
        let (count, used) = (node.count(), node.heap_used() - node.record_len(index));
        self.0.copy_within(next..end, slot);
        put_u16(self.0, 0, count - 1);
        put_u16(self.0, 8, used);
        if count == 1 {
            put_u16(self.0, 6, PAGE_SIZE);
        }
    }

    pub(super) fn set_flags(&mut self, index: usize, flags: u16) {
        let slot = self.as_node().slot(index);
        let offset = self.as_node().offset(index);
        put_u16(self.0, slot, offset | usize::from(flags));
    }

    pub(super) fn set_child(&mut self, index: usize, child: PageNo) {
        let slot = self.as_node().slot(index);
        put_u32(self.0, slot + 8, child.0);
    }

    pub(super) fn set_live_below(&mut self, index: usize, live: u32) {
        let slot = self.as_node().slot(index);
        put_u32(self.0, slot + 12, live);
    }
}
