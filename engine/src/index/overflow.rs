//! The rest of keys that are too long for a page, in chains of pages.
//!
//! ```text
//!   0  next page u32, 0: none | 4  up to 2044 bytes
//! ```
//!
//! A chain belongs to one entry, leaf's or branch's, is never changed, and moves with its entry.

use std::cmp::Ordering;

use crate::cow::{PageNo, Space};

use super::page::{IndexLayout, Overflow, PAGE_SIZE, Pages, get_u32, put_u32};

const LINK_LEN: usize = 4;
const CHUNK_LEN: usize = PAGE_SIZE - LINK_LEN;

/// The pieces of a chain.
fn pieces(pages: &Pages, overflow: Overflow) -> impl Iterator<Item = (PageNo, &[u8])> {
    let (mut no, mut left) = (overflow.page, overflow.len as usize);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let (page, here) = (pages.page(no), left.min(CHUNK_LEN));
        let piece = (no, &page[LINK_LEN..LINK_LEN + here]);
        (no, left) = (PageNo(get_u32(page, 0)), left - here);
        Some(piece)
    })
}

pub(super) fn read(pages: &Pages, overflow: Overflow, out: &mut Vec<u8>) {
    for (_, piece) in pieces(pages, overflow) {
        out.extend_from_slice(piece);
    }
}

/// How the chain's bytes compare with `rest`.
pub(super) fn compare(pages: &Pages, overflow: Overflow, mut rest: &[u8]) -> Ordering {
    for (_, piece) in pieces(pages, overflow) {
        let (here, later) = rest.split_at(rest.len().min(piece.len()));
        let order = piece.cmp(here);
        if order != Ordering::Equal {
            return order;
        }
        rest = later;
    }
    if rest.is_empty() {
        Ordering::Equal
    } else {
        Ordering::Less
    }
}

/// Writes a chain; `None` if there is no rest.
pub(super) fn write(space: &mut Space<IndexLayout, PAGE_SIZE>, rest: &[u8]) -> Option<Overflow> {
    let mut next = PageNo::NONE;
    for piece in rest.chunks(CHUNK_LEN).rev() {
        let no = space.allocate();
        // Copied as a whole by nobody, so what is behind the piece may stay as it is.
        let page = space.page_mut(no);
        put_u32(page, 0, next.0);
        page[LINK_LEN..LINK_LEN + piece.len()].copy_from_slice(piece);
        next = no;
    }
    let len = u32::try_from(rest.len()).expect("a request is shorter than 4 GiB");
    (len > 0).then_some(Overflow { page: next, len })
}

pub(super) fn release(space: &mut Space<IndexLayout, PAGE_SIZE>, overflow: Option<Overflow>) {
    let Some(overflow) = overflow else { return };
    let chain: Vec<PageNo> = pieces(space.arena(), overflow).map(|(no, _)| no).collect();
    for no in chain {
        space.release(no);
    }
}
