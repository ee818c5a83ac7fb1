//! How many bytes a bbolt file with the pairs of the tail would take.
//!
//! An estimate until the store exists: leaf elements and their pages at etcd's fill, plus the pages every file has.

use super::Mutation;

const PAGE_SIZE_BYTES: u64 = 4096;

/// Two meta pages, the freelist and root of bucket buckets, the buckets' first leaves: what an empty store takes.
const EMPTY_PAGES: u64 = 5;

/// A leaf element's header; see bbolt's page layout.
const ELEMENT_HEADER_BYTES: u64 = 16;

/// Bucket `key` is written in sequence with 90 % fill; branch pages add less than 1 %.
const FILL_PERCENT: u64 = 90;

/// Elements larger than this take pages of their own, filled up to whole pages.
const OVERFLOW_BYTES: u64 = PAGE_SIZE_BYTES * FILL_PERCENT / 100;

#[derive(Debug, Default)]
pub(super) struct Size {
    element_bytes: u64,
    /// The most that was ever in use since the last defragmentation: a file does not shrink by itself.
    high_water: u64,
}

impl Size {
    pub(super) fn add(&mut self, mutation: &Mutation) {
        self.element_bytes += element_bytes(mutation);
        self.high_water = self.high_water.max(self.in_use());
    }

    /// Takes a mutation's [`element_bytes`] off.
    pub(super) fn remove(&mut self, bytes: u64) {
        self.element_bytes = self.element_bytes.saturating_sub(bytes);
    }

    pub(super) fn in_use(&self) -> u64 {
        let pages = (self.element_bytes * 100 / FILL_PERCENT).div_ceil(PAGE_SIZE_BYTES);
        (EMPTY_PAGES + pages) * PAGE_SIZE_BYTES
    }

    pub(super) fn allocated(&self) -> u64 {
        self.high_water.max(self.in_use())
    }

    pub(super) fn defragment(&mut self) {
        self.high_water = self.in_use();
    }
}

pub(super) fn element_bytes(mutation: &Mutation) -> u64 {
    let Some(value) = mutation.value() else {
        return 0;
    };
    let key = match mutation {
        Mutation::Pair { tombstone, .. } => crate::types::REVISION_LEN + usize::from(*tombstone),
        Mutation::Record(record) => record.key.len(),
    };
    let bytes = ELEMENT_HEADER_BYTES + (key + value.len()) as u64;
    if bytes > OVERFLOW_BYTES {
        // What `in_use` adds for the fill is taken off here, since overflow pages are filled wholly.
        bytes.next_multiple_of(PAGE_SIZE_BYTES) * FILL_PERCENT / 100
    } else {
        bytes
    }
}
