//! The copy-on-write page engine: one writer, readers on any core that neither wait nor disturb.
//!
//! ```text
//!   Space      the writer: allocates pages, makes them writable (copies once a batch), retires, publishes
//!   Registry   publish, pin, reclaim: three kinds of atomic words and nothing else (`publish.rs`, model-checked)
//!   Arena      the memory; the only unsafe code of the engine (`arena.rs`)
//!   Cursor     a path from the root to a leaf entry, moving both ways
//!
//!   batch 7:   meta' -> root' -> branch' -> leaf'      pages made or copied in batch 7: written in place
//!                          \-> branch  -> leaf ...     pages of former batches: shared with readers, never written
//! ```
//!
//! A tree brings a [`Layout`], which says how a page is copied and how its children are found. What a published state
//! consists of beside its pages stands in a *meta page* of the tree's own making; its number is what is published.
//!
//! Invariants:
//! - a page is written only in the batch in which it was allocated, and no reader can know its number before that
//!   batch is published;
//! - a page that left the tree in the batch published as version `v` is used again only once every pin is at `v` or
//!   later.
//!
//! Owned by the log shard. Left out: files; a layout on mapped memory brings its own arena.

mod arena;
mod cursor;
pub mod publish;
mod space;

pub use arena::{Arena, PageNo};
pub use cursor::{Cursor, Step};
pub use space::{Reader, Readers, Snapshot, Space, Stay};

/// What `publish.rs` synchronizes with. Its model test compiles that file with shuttle's types in this place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// How a tree's pages are laid out, as far as copying and walking them needs it.
pub trait Layout<const SIZE: usize> {
    /// Copies what is used of a page into another one, whose bytes may be anything.
    fn copy(from: &[u8; SIZE], to: &mut [u8; SIZE]);

    /// True for a page whose entries are no children.
    fn is_leaf(page: &[u8; SIZE]) -> bool;

    /// Entries of a leaf, children of a branch.
    fn count(page: &[u8; SIZE]) -> usize;

    /// The child of a branch at `index < count`.
    fn child(page: &[u8; SIZE], index: usize) -> PageNo;
}
