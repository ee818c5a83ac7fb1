//! How many bytes mutations take: in memory, and in a bbolt file.
//!
//! Of the file it is an estimate until a checkpoint has written them: leaf elements and their pages at the fill that
//! bucket `key` is written with.

use super::Mutation;
use crate::types::REVISION_LEN;

const PAGE_SIZE_BYTES: u64 = 4096;
/// A leaf element's header; see bbolt's page layout.
const ELEMENT_HEADER_BYTES: u64 = 16;
/// Bucket `key` is written in sequence with 90 % fill; branch pages add less than 1 %.
const FILL_PERCENT: u64 = 90;
/// Elements larger than this take pages of their own, filled up to whole pages.
const OVERFLOW_BYTES: u64 = PAGE_SIZE_BYTES * FILL_PERCENT / 100;

/// What a mutation will take of the file, with its share of the page.
pub(super) fn file_bytes(mutation: &Mutation) -> u64 {
    let Some(value) = mutation.value() else {
        return 0;
    };
    let key = match mutation {
        Mutation::Pair { tombstone, .. } => REVISION_LEN + usize::from(*tombstone),
        Mutation::Record(record) => record.key.len(),
    };
    let bytes = ELEMENT_HEADER_BYTES + (key + value.len()) as u64;
    if bytes > OVERFLOW_BYTES {
        bytes.next_multiple_of(PAGE_SIZE_BYTES)
    } else {
        bytes * 100 / FILL_PERCENT
    }
}

/// What a mutation takes of memory.
pub(super) fn memory_bytes(mutation: &Mutation) -> u64 {
    let held = match mutation {
        Mutation::Pair { pair, .. } => pair.len(),
        Mutation::Record(record) => {
            size_of_val(&**record) + record.key.len() + record.value.as_ref().map_or(0, |v| v.len())
        }
    };
    (size_of::<std::sync::OnceLock<Mutation>>() + held) as u64
}
