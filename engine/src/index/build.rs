//! Rebuilding pages: entries taken out of one or two of them, changed, and written again as one or two.

use std::ops::Range;

use crate::cow::PageNo;

use super::page::{
    Body, INLINE_LEN_MAX, Node, NodeMut, Overflow, PAGE_SIZE, Page, record_len, slot_len,
    slots_start,
};

/// One entry of [`Entries`]; ranges are of its bytes.
#[derive(Clone, Debug)]
struct Item {
    key: Range<usize>,
    value: Range<usize>,
    flags: u16,
    overflow: Option<Overflow>,
    child: PageNo,
    live: u32,
}

/// The entries of pages of one level, in order, uncompressed.
#[derive(Debug)]
pub(super) struct Entries {
    level: usize,
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Of [`Entries::push`]: length of the prefix that all share, and of the page that they need.
    pushed: (usize, usize),
}

impl Entries {
    pub(super) fn new(level: usize) -> Self {
        Entries {
            level,
            bytes: Vec::with_capacity(4 * PAGE_SIZE),
            items: Vec::new(),
            pushed: (0, 0),
        }
    }

    pub(super) fn of(node: Node<'_>) -> Self {
        let mut entries = Entries::new(node.level());
        entries.items.reserve(node.count() + 1);
        entries.append(node);
        entries
    }

    /// Adds an entry at the end of those that were pushed before, and keeps count for [`Entries::is_full`].
    pub(super) fn push(&mut self, inline: &[u8], body: &Body<'_>) {
        let last = self.items.len();
        self.insert(last, inline, body);
        let prefix_len = self.prefix(&(0..last + 1)).len();
        let len = if last > 1 && prefix_len == self.pushed.0 {
            let long = body.overflow.is_some();
            let suffix_len = inline.len() - prefix_len;
            let record = record_len(self.level, suffix_len, body.value.len(), long);
            self.pushed.1 + slot_len(self.level) + record
        } else {
            self.page_len(0..last + 1)
        };
        self.pushed = (prefix_len, len);
    }

    /// True if what was pushed does not fit a page any more.
    pub(super) fn is_full(&self) -> bool {
        self.pushed.1 > PAGE_SIZE
    }

    /// Forgets the first entries, all but one at most.
    pub(super) fn keep_from(&mut self, first: usize) {
        let kept = self.items.split_off(first.min(self.items.len()));
        let from = std::mem::take(&mut self.bytes);
        self.items.clear();
        self.bytes.reserve(4 * PAGE_SIZE);
        for mut item in kept {
            for range in [&mut item.key, &mut item.value] {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(&from[range.clone()]);
                *range = start..self.bytes.len();
            }
            self.items.push(item);
        }
        self.pushed = (
            self.prefix(&(0..self.len())).len(),
            self.page_len(0..self.len()),
        );
    }

    pub(super) fn append(&mut self, node: Node<'_>) {
        for index in 0..node.count() {
            let key_start = self.bytes.len();
            node.push_inline(index, &mut self.bytes);
            let value_start = self.bytes.len();
            let leaf = node.is_leaf();
            if leaf {
                self.bytes.extend_from_slice(node.value(index));
            }
            self.items.push(Item {
                key: key_start..value_start,
                value: value_start..self.bytes.len(),
                flags: node.flags(index),
                overflow: node.overflow(index),
                child: if leaf {
                    PageNo::NONE
                } else {
                    node.child(index)
                },
                live: if leaf { 0 } else { node.live_below(index) },
            });
        }
    }

    pub(super) fn insert(&mut self, index: usize, inline: &[u8], body: &Body<'_>) {
        let key_start = self.bytes.len();
        self.bytes.extend_from_slice(inline);
        let value_start = self.bytes.len();
        self.bytes.extend_from_slice(body.value);
        let item = Item {
            key: key_start..value_start,
            value: value_start..self.bytes.len(),
            flags: body.flags,
            overflow: body.overflow,
            child: body.child,
            live: body.live,
        };
        self.items.insert(index, item);
    }

    /// Gives an entry the key that a parent had for it: a branch's first one, when branches are joined.
    pub(super) fn set_key(&mut self, index: usize, inline: &[u8], overflow: Option<Overflow>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(inline);
        self.items[index].key = start..self.bytes.len();
        self.items[index].overflow = overflow;
    }

    /// Takes the key of an entry away, which becomes a branch's first one.
    pub(super) fn take_key(&mut self, index: usize) -> (Vec<u8>, Option<Overflow>) {
        let key = self.key(index).to_vec();
        self.items[index].key = 0..0;
        (key, self.items[index].overflow.take())
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn level(&self) -> usize {
        self.level
    }

    pub(super) fn key(&self, index: usize) -> &[u8] {
        &self.bytes[self.items[index].key.clone()]
    }

    pub(super) fn overflow(&self, index: usize) -> Option<Overflow> {
        self.items[index].overflow
    }

    /// First entry of a page that begins with `range` whose key counts.
    fn first_key(&self, range: &Range<usize>) -> usize {
        range.start + usize::from(self.level > 0)
    }

    fn prefix(&self, range: &Range<usize>) -> &[u8] {
        let first = self.first_key(range);
        if first >= range.end {
            return &[];
        }
        let (first, last) = (self.key(first), self.key(range.end - 1));
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        &first[..shared]
    }

    /// Bytes that a page of these entries needs.
    pub(super) fn page_len(&self, range: Range<usize>) -> usize {
        let prefix = self.prefix(&range).len();
        let first = self.first_key(&range);
        let records = range.clone().map(|index| {
            let item = &self.items[index];
            let named = index >= first;
            let suffix = if named { item.key.len() - prefix } else { 0 };
            let long = named && item.overflow.is_some();
            record_len(self.level, suffix, item.value.len(), long)
        });
        slots_start(prefix) + range.len() * slot_len(self.level) + records.sum::<usize>()
    }

    /// Where to cut the entries in two pages, as near to `wanted` as they fit. `None`: they fit one.
    ///
    /// There is a cut: what came new to a page that held the others either shares the page's prefix, then a cut in the
    /// middle fits, or stands at an end, then one beside it does.
    pub(super) fn cut(&self, wanted: Option<usize>) -> Option<usize> {
        if self.page_len(0..self.len()) <= PAGE_SIZE {
            return None;
        }
        let wanted = wanted.unwrap_or_else(|| self.middle());
        let fits = |at: &usize| {
            (1..self.len()).contains(at)
                && self.page_len(0..*at) <= PAGE_SIZE
                && self.page_len(*at..self.len()) <= PAGE_SIZE
        };
        let mut outwards = (0..=self.len()).flat_map(|d| [wanted + d, wanted.saturating_sub(d)]);
        let cut = outwards.find(fits);
        Some(cut.expect("an entry takes at most a quarter of a page"))
    }

    fn middle(&self) -> usize {
        let size = |item: &Item| item.key.len() + item.value.len() + slot_len(self.level);
        let total: usize = self.items.iter().map(size).sum();
        let mut sum = 0;
        let at = self.items.iter().position(|item| {
            sum += size(item);
            sum * 2 >= total
        });
        at.unwrap_or(0)
    }

    pub(super) fn write(&self, range: Range<usize>, page: &mut Page) {
        let first = self.first_key(&range);
        let prefix = self.prefix(&range);
        let mut node = NodeMut(page);
        node.reset(self.level, prefix);
        for (place, index) in range.enumerate() {
            let item = &self.items[index];
            let named = index >= first;
            let body = Body {
                flags: item.flags,
                value: &self.bytes[item.value.clone()],
                overflow: item.overflow.filter(|_| named),
                child: item.child,
                live: item.live,
            };
            // A branch's first key is never looked at; the prefix makes it an empty suffix.
            let key = if named { self.key(index) } else { prefix };
            let done = node.try_insert(place, key, &body);
            assert!(done, "a page has room for what was measured");
        }
    }
}

/// The shortest key above `left` and not above `right`: `right` cut behind the first byte that differs. Both are inline
/// parts; `None` if these are equal.
pub(super) fn separator<'a>(left: &[u8], right: &'a [u8]) -> Option<&'a [u8]> {
    let shared = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    debug_assert!(shared <= INLINE_LEN_MAX);
    (shared < right.len()).then(|| &right[..shared + 1])
}
