//! One branch or leaf page, and every access to it checked.
//!
//! ```text
//!   header | element 0 | element 1 | .. | key 0, value 0, key 1, value 1, ..      a page and its overflow pages
//!   branch element   pos u32 | key length u32 | child page u64
//!   leaf element     flags u32 | pos u32 | key length u32 | value length u32      pos counts from the element's start
//! ```
//!
//! The page's frame (place, kind, length, room for the elements) is checked once, in [`Node::at_page`]; an element when
//! it is asked for. So a look-up pays for what it reads only.

use super::Pages;
use super::damage::{DamageKind, StoreDamage};
use super::page::{
    BRANCH, ELEMENT_LEN, HEADER_LEN, Header, IS_BUCKET, LEAF, PageNo, u32_at, u64_at,
};

/// Levels of a tree. Two children a branch suffice for 2^63 pages, so more is a circle.
pub(super) const DEPTH_MAX: usize = 64;

/// A page that is a branch or a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    /// The page with its overflow pages; of an inline one what the bucket's value has.
    bytes: &'a [u8],
    /// Where `bytes` begin in the file.
    offset: u64,
    count: usize,
    is_leaf: bool,
}

/// An element of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) flags: u32,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// Where the value stands in the file.
    pub(super) value_offset: u64,
}

impl Element<'_> {
    pub(super) const fn is_bucket(&self) -> bool {
        self.flags & IS_BUCKET != 0
    }
}

/// Where `page` begins in the file.
pub(super) fn offset_of(page: PageNo, page_size: u32) -> Result<u64, StoreDamage> {
    page.0.checked_mul(u64::from(page_size)).ok_or_else(|| {
        let len = u64::from(page_size);
        StoreDamage::new(u64::MAX, DamageKind::PastEnd { len })
    })
}

/// The bytes of a page and its overflow pages, and its header, with the place checked and the kind not.
pub(super) fn page_bytes(
    pages: &dyn Pages,
    page_size: u32,
    page: PageNo,
) -> Result<(u64, Header, &[u8]), StoreDamage> {
    let offset = offset_of(page, page_size)?;
    let past_end = |len| StoreDamage::new(offset, DamageKind::PastEnd { len });
    let size = page_size as usize;
    let bytes = pages
        .bytes(offset, size)
        .filter(|bytes| bytes.len() == size && size >= HEADER_LEN)
        .ok_or_else(|| past_end(size as u64))?;
    let header = Header::decode(bytes);
    if header.page != page.0 {
        let found = header.page;
        return Err(StoreDamage::new(offset, DamageKind::WrongPage { found }));
    }
    if header.overflow == 0 {
        return Ok((offset, header, bytes));
    }
    let len = (u64::from(header.overflow) + 1) * u64::from(page_size);
    let bytes = usize::try_from(len)
        .ok()
        .and_then(|len| pages.bytes(offset, len))
        .ok_or_else(|| past_end(len))?;
    Ok((offset, header, bytes))
}

impl<'a> Node<'a> {
    pub(super) fn at_page(
        pages: &'a dyn Pages,
        page_size: u32,
        page: PageNo,
    ) -> Result<Self, StoreDamage> {
        let (offset, header, bytes) = page_bytes(pages, page_size, page)?;
        Node::new(bytes, offset, header)
    }

    /// The leaf page of an inline bucket. Its header's page number says nothing.
    pub(super) fn inline(pages: &'a dyn Pages, offset: u64, len: u64) -> Result<Self, StoreDamage> {
        let bytes = usize::try_from(len)
            .ok()
            .filter(|len| *len >= HEADER_LEN)
            .and_then(|len| pages.bytes(offset, len))
            .ok_or(StoreDamage::new(offset, DamageKind::PastEnd { len }))?;
        let node = Node::new(bytes, offset, Header::decode(bytes))?;
        if !node.is_leaf {
            return Err(StoreDamage::new(offset, DamageKind::InlineBucket));
        }
        Ok(node)
    }

    /// A page that is not in the file yet.
    pub(super) fn of_bytes(bytes: &'a [u8], offset: u64) -> Result<Self, StoreDamage> {
        Node::new(bytes, offset, Header::decode(bytes))
    }

    fn new(bytes: &'a [u8], offset: u64, header: Header) -> Result<Self, StoreDamage> {
        let is_leaf = match header.flags {
            LEAF => true,
            BRANCH => false,
            found => return Err(StoreDamage::new(offset, DamageKind::WrongKind { found })),
        };
        let count = usize::from(header.count);
        if HEADER_LEN + count * ELEMENT_LEN > bytes.len() {
            let what = DamageKind::TooManyElements { count };
            return Err(StoreDamage::new(offset, what));
        }
        if !is_leaf && count == 0 {
            return Err(StoreDamage::new(offset, DamageKind::EmptyBranch));
        }
        Ok(Node {
            bytes,
            offset,
            count,
            is_leaf,
        })
    }

    pub(super) const fn is_leaf(&self) -> bool {
        self.is_leaf
    }

    /// Elements of a leaf, children of a branch; a branch has at least one.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The page's length with its overflow pages.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// An error about this page.
    pub(super) const fn damage(&self, what: DamageKind) -> StoreDamage {
        StoreDamage::new(self.offset, what)
    }

    pub(super) fn key(&self, index: usize) -> Result<&'a [u8], StoreDamage> {
        let element = self.element_at(index);
        let fields = if self.is_leaf { element + 4 } else { element };
        let pos = u32_at(self.bytes, fields) as usize;
        let key_len = u32_at(self.bytes, fields + 4) as usize;
        self.slice(index, element, pos, key_len)
    }

    /// The element of a leaf.
    pub(super) fn element(&self, index: usize) -> Result<Element<'a>, StoreDamage> {
        assert!(self.is_leaf, "children are no elements");
        let element = self.element_at(index);
        let flags = u32_at(self.bytes, element);
        let pos = u32_at(self.bytes, element + 4) as usize;
        let key_len = u32_at(self.bytes, element + 8) as usize;
        let value_len = u32_at(self.bytes, element + 12) as usize;
        let both = self.slice(index, element, pos, key_len.saturating_add(value_len))?;
        let (key, value) = both.split_at(key_len);
        Ok(Element {
            flags,
            key,
            value,
            value_offset: self.offset + (element + pos + key_len) as u64,
        })
    }

    /// True if the element of a leaf says that its value is a bucket.
    pub(super) fn is_bucket(&self, index: usize) -> bool {
        self.is_leaf && u32_at(self.bytes, self.element_at(index)) & IS_BUCKET != 0
    }

    /// The page of a branch's child.
    pub(super) fn child(&self, index: usize) -> PageNo {
        assert!(!self.is_leaf, "elements of leaves are no children");
        PageNo(u64_at(self.bytes, self.element_at(index) + 8))
    }

    /// What the elements need, with the header: the page's length if nothing were left unused.
    pub(super) fn used_len(&self) -> Result<usize, StoreDamage> {
        let mut len = HEADER_LEN + self.count * ELEMENT_LEN;
        for index in 0..self.count {
            len = len.saturating_add(self.data_len(index)?);
        }
        Ok(len)
    }

    /// The length of an element's key and value.
    pub(super) fn data_len(&self, index: usize) -> Result<usize, StoreDamage> {
        if !self.is_leaf {
            return self.key(index).map(<[u8]>::len);
        }
        let element = self.element(index)?;
        Ok(element.key.len() + element.value.len())
    }

    /// The first index in `from..count` whose key is not below `key`, and whether it is equal.
    pub(super) fn search(&self, from: usize, key: &[u8]) -> Result<(usize, bool), StoreDamage> {
        let (mut low, mut high) = (from, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle)?.cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok((middle, true)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok((low, false))
    }

    /// The child of a branch that covers `key`: the last one whose key is not above it, or the first.
    pub(super) fn child_for(&self, key: &[u8]) -> Result<usize, StoreDamage> {
        // The first child takes whatever is below the second one's key, so its own key need not be read.
        let (index, found) = self.search(1.min(self.count), key)?;
        Ok(if found {
            index
        } else {
            index.saturating_sub(1)
        })
    }

    fn element_at(&self, index: usize) -> usize {
        assert!(
            index < self.count,
            "element {index} of {count}",
            count = self.count
        );
        HEADER_LEN + index * ELEMENT_LEN
    }

    fn slice(
        &self,
        index: usize,
        element: usize,
        pos: usize,
        len: usize,
    ) -> Result<&'a [u8], StoreDamage> {
        element
            .checked_add(pos)
            .and_then(|start| Some(start..start.checked_add(len)?))
            .and_then(|range| self.bytes.get(range))
            .ok_or_else(|| self.damage(DamageKind::ElementOutside { index }))
    }
}
