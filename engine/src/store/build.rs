//! Elements on their way into pages: gathered in key order, cut into pages from the front.
//!
//! ```text
//!   items  [3+2] [4+9] [2+0] ..        lengths of key and value, in order
//!   data   kkkvv kkkkvvvvvvvvv kk ..   their bytes, without a gap: a page's data is one slice of it
//! ```

use super::damage::{DamageKind, StoreDamage};
use super::node::Node;
use super::page::{BRANCH, ELEMENT_LEN, HEADER_LEN, Header, LEAF, PageNo};

/// How full pages are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// For keys that come in ascending order, at the right edge: pages are filled to the last element that fits.
    Ascending,
    /// For keys that come anywhere: room is left, and a page that overflows is halved.
    Random,
}

impl Fill {
    /// What a page takes, of which more will follow.
    const fn page_len(self, page_size: usize) -> usize {
        match self {
            Fill::Ascending => page_size,
            Fill::Random => page_size / 4 * 3,
        }
    }
}

/// An element of a leaf or a child of a branch, without its bytes.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Flags of a leaf's element, page of a branch's child.
    tag: u64,
    key_len: usize,
    value_len: usize,
}

impl Item {
    const fn len(&self) -> usize {
        self.key_len + self.value_len
    }
}

/// Elements of one level, in key order.
#[derive(Debug)]
pub(super) struct Items {
    is_leaf: bool,
    items: Vec<Item>,
    data: Vec<u8>,
}

impl Items {
    pub(super) const fn new(is_leaf: bool) -> Self {
        Items {
            is_leaf,
            items: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Everything that a page has.
    pub(super) fn of_node(node: &Node<'_>) -> Result<Self, StoreDamage> {
        let mut items = Items::new(node.is_leaf());
        items.push_from(node, 0..node.count(), &mut node.len())?;
        Ok(items)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What a page of all items needs.
    pub(super) fn page_len(&self) -> usize {
        HEADER_LEN + self.items.len() * ELEMENT_LEN + self.data.len()
    }

    pub(super) fn push_element(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        assert!(self.is_leaf, "an element in a branch");
        self.push(u64::from(flags), key, value);
    }

    pub(super) fn push_child(&mut self, key: &[u8], page: PageNo) {
        assert!(!self.is_leaf, "a child in a leaf");
        self.push(page.0, key, &[]);
    }

    fn push(&mut self, tag: u64, key: &[u8], value: &[u8]) {
        assert!(!key.is_empty(), "bbolt cannot read an empty key");
        let (key_len, value_len) = (key.len(), value.len());
        self.items.push(Item {
            tag,
            key_len,
            value_len,
        });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    /// Copies elements or children of a page, whose keys and values take `room` bytes at most: in a damaged page
    /// they may overlap, and all together be far longer than the page.
    pub(super) fn push_from(
        &mut self,
        node: &Node<'_>,
        range: std::ops::Range<usize>,
        room: &mut usize,
    ) -> Result<(), StoreDamage> {
        for index in range {
            let len = node.data_len(index)?;
            *room = room
                .checked_sub(len)
                .ok_or_else(|| node.damage(DamageKind::ElementOutside { index }))?;
            if self.is_leaf {
                let element = node.element(index)?;
                self.check_key(node, element.key, index)?;
                self.push(u64::from(element.flags), element.key, element.value);
            } else {
                let key = node.key(index)?;
                self.check_key(node, key, index)?;
                self.push(node.child(index).0, key, &[]);
            }
        }
        Ok(())
    }

    /// What the assertion of `push` says, about bytes of the disk.
    fn check_key(&self, node: &Node<'_>, key: &[u8], index: usize) -> Result<(), StoreDamage> {
        if key.is_empty() {
            return Err(node.damage(DamageKind::EmptyKey { index }));
        }
        Ok(())
    }

    pub(super) fn last_child(&self) -> Option<PageNo> {
        assert!(!self.is_leaf, "elements of leaves are no children");
        self.items.last().map(|item| PageNo(item.tag))
    }

    pub(super) fn pop(&mut self) {
        if let Some(item) = self.items.pop() {
            self.data.truncate(self.data.len() - item.len());
        }
    }

    /// Puts `before` in front.
    pub(super) fn prepend(&mut self, mut before: Items) {
        assert_eq!(self.is_leaf, before.is_leaf);
        before.items.append(&mut self.items);
        before.data.append(&mut self.data);
        *self = before;
    }

    /// The fewest items that a page may have: bbolt cannot rebalance below a branch with a single child.
    const fn page_items_min(&self) -> usize {
        if self.is_leaf { 1 } else { 2 }
    }

    /// How many items the first page takes, if more are known to follow these.
    pub(super) fn cut_of_many(&self, fill: Fill, page_size: usize) -> usize {
        self.cut(fill.page_len(page_size), page_size)
    }

    /// The same, if these are all for now. All of them, if they fit or cannot be parted.
    pub(super) fn cut_of_last(&self, fill: Fill, page_size: usize) -> usize {
        let len = self.page_len();
        if len <= page_size {
            return self.len();
        }
        let wanted = match fill {
            Fill::Ascending => page_size,
            Fill::Random if len <= 2 * page_size => len / 2,
            Fill::Random => fill.page_len(page_size),
        };
        self.cut(wanted, page_size)
    }

    /// The first items that `wanted` bytes hold. Where the least a page may have is more than that, it gets overflow
    /// pages, and items that fit into what these leave over come along.
    fn cut(&self, wanted: usize, page_size: usize) -> usize {
        let least = self.page_items_min();
        let mut len = HEADER_LEN;
        let mut room = wanted;
        let mut count = 0;
        for item in &self.items {
            len += ELEMENT_LEN + item.len();
            if count < least {
                room = if len <= wanted {
                    wanted
                } else {
                    len.next_multiple_of(page_size)
                };
            } else if len > room {
                break;
            }
            count += 1;
        }
        // What is left must make a page too.
        let left = self.len() - count;
        if left > 0 && left < least {
            count = self.len() - least;
            if count < least {
                count = self.len();
            }
        }
        count
    }

    /// The key of the first item.
    pub(super) fn first_key(&self) -> &[u8] {
        &self.data[..self.items.first().map_or(0, |item| item.key_len)]
    }

    /// What a page of the first `count` items needs.
    pub(super) fn page_len_of(&self, count: usize) -> usize {
        let data: usize = self.items[..count].iter().map(Item::len).sum();
        HEADER_LEN + count * ELEMENT_LEN + data
    }

    /// Writes the first `count` items as page `page` and forgets them. `pages` have room for them.
    pub(super) fn take_page(
        &mut self,
        count: usize,
        page: PageNo,
        pages: &mut [u8],
        page_size: usize,
    ) {
        let header = Header {
            page: page.0,
            flags: if self.is_leaf { LEAF } else { BRANCH },
            count: u16::try_from(count).expect("an element takes 16 bytes of at most some 2^17"),
            overflow: u32::try_from(pages.len() / page_size - 1)
                .expect("a value is below 2^31 bytes"),
        };
        header.encode(pages);
        let mut data_at = HEADER_LEN + count * ELEMENT_LEN;
        let data_start = data_at;
        for (index, item) in self.items[..count].iter().enumerate() {
            let at = HEADER_LEN + index * ELEMENT_LEN;
            let pos = word(data_at - at);
            let element = &mut pages[at..at + ELEMENT_LEN];
            if self.is_leaf {
                let flags = u32::try_from(item.tag).expect("flags of a leaf's element");
                element[..4].copy_from_slice(&flags.to_le_bytes());
                element[4..8].copy_from_slice(&pos);
                element[8..12].copy_from_slice(&word(item.key_len));
                element[12..].copy_from_slice(&word(item.value_len));
            } else {
                element[..4].copy_from_slice(&pos);
                element[4..8].copy_from_slice(&word(item.key_len));
                element[8..].copy_from_slice(&item.tag.to_le_bytes());
            }
            data_at += item.len();
        }
        let data_len = data_at - data_start;
        pages[data_start..data_at].copy_from_slice(&self.data[..data_len]);
        self.items.drain(..count);
        self.data.drain(..data_len);
    }
}

fn word(len: usize) -> [u8; 4] {
    u32::try_from(len)
        .expect("keys and values of one page are below 2^32 bytes")
        .to_le_bytes()
}
