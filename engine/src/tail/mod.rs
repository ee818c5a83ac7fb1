//! The tail: what was applied since the last checkpoint, as backend mutations in revision order.
//!
//! Every change of keys, leases, alarms, members, cluster version and `meta` is one [`Mutation`], appended once and
//! never changed. The tail is three things at once: the buffer for values that are not in the file yet, the source of
//! watch events, and the input of the next checkpoint, which turns each mutation into a put or delete of a bbolt
//! bucket exactly as `storage` documents them.
//!
//! ```text
//!   position:   ...        1         2          3       ...
//!   in the store <-|  [ pair 2_0 | pair 3_0 | lease L | pair 4_0 | ...     chunks of CHUNK_LEN slots, in order
//!                  first                                      end
//!   directory: table -> blocks -> chunks, copied where it changes, so that readers on any core walk it without a lock
//! ```
//!
//! Invariants:
//! - positions only grow and never come back; pairs stand in revision order;
//! - what stands before `first` is in the store; it is forgotten here, a chunk at a time, only once no pinned state can
//!   reach it: [`crate::backend`] sees to that.
//!
//! Owned by [`crate::state::State`] on the log shard; others read it through [`TailView`]s.

mod chunk;
mod directory;
mod mutation;
mod size;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use mutation::{Bucket, Mutation, Record, meta};
pub use view::TailView;
pub(crate) use view::{TailGuard, TailReader};

use chunk::{CHUNK_LEN, Slots, new_slots};
use directory::Directory;

/// Place of a mutation in the tail; counts from 0 at the first entry of the store. An index that was read from the store
/// has 0 for all that stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TailPosition(pub u64);

impl TailPosition {
    /// Of what was never in the tail of this run, only in the store.
    pub const STORED: TailPosition = TailPosition(0);
}

/// Sums over all mutations that were ever appended; a difference of two is what stands between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TailSize {
    /// What a bbolt file takes for them.
    pub file_bytes: u64,
    pub memory_bytes: u64,
}

/// The run of mutations. See the module text.
#[derive(Debug)]
pub struct Tail {
    directory: Arc<Directory>,
    /// The same, as readers on other threads find it.
    shared: Arc<ArcSwap<Directory>>,
    /// Slots of the last chunk.
    filling: Slots,
    /// Everything before it is in the store.
    first: u64,
    /// Everything before it is forgotten; a chunk's first position.
    kept: u64,
    next: u64,
    size: TailSize,
}

impl Default for Tail {
    fn default() -> Self {
        Tail::beginning_at(0)
    }
}

impl Tail {
    pub fn new() -> Self {
        Tail::default()
    }

    /// A tail behind a store that holds something, so that no position is [`TailPosition::STORED`].
    pub fn behind_store() -> Self {
        Tail::beginning_at(1)
    }

    fn beginning_at(block_count: u64) -> Self {
        let directory = Arc::new(Directory::behind(block_count));
        let first = directory.first();
        Tail {
            shared: Arc::new(ArcSwap::new(Arc::clone(&directory))),
            directory,
            filling: Arc::new([]),
            first,
            kept: first,
            next: first,
            size: TailSize::default(),
        }
    }

    /// Appends one mutation and says where it stands.
    pub fn push(&mut self, mutation: Mutation) -> TailPosition {
        let position = TailPosition(self.next);
        if self.next.is_multiple_of(CHUNK_LEN as u64) {
            self.filling = new_slots();
            let slots = Arc::clone(&self.filling);
            self.change(|directory| directory.push(slots));
        }
        self.next += 1;
        self.size.file_bytes += size::file_bytes(&mutation);
        self.size.memory_bytes += size::memory_bytes(&mutation);
        let slot = (position.0 % CHUNK_LEN as u64) as usize;
        let former = self.filling[slot].set(mutation);
        debug_assert!(former.is_ok(), "a position is filled once");
        position
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Directory) -> T) -> T {
        let result = change(Arc::make_mut(&mut self.directory));
        self.shared.store(Arc::clone(&self.directory));
        result
    }

    /// All mutations that are not in the store.
    pub fn view(&self) -> TailView<'_> {
        let (first, end) = (TailPosition(self.first), self.end());
        TailView::new(&self.directory, first, end)
    }

    /// For readers on other threads.
    pub(crate) fn reader(&self) -> TailReader {
        TailReader(Arc::clone(&self.shared))
    }

    /// The mutation at `position`, unless it is in the store.
    pub fn get(&self, position: TailPosition) -> Option<&Mutation> {
        self.view().get(position)
    }

    /// From now on everything before `first` is read from the store, by states published from now on.
    pub fn begin_at(&mut self, first: TailPosition) {
        assert!(
            (self.first..=self.next).contains(&first.0),
            "the tail begins at {}, not within {}..={}",
            first.0,
            self.first,
            self.next
        );
        self.first = first.0;
    }

    /// Gives the memory of one chunk back that stands wholly before `limit`; false if there is none left. All of it is in
    /// the store, and no pinned state begins before `limit`.
    pub fn forget_before(&mut self, limit: TailPosition) -> bool {
        let end = self.kept + CHUNK_LEN as u64;
        if end > limit.0 {
            return false;
        }
        assert!(
            limit.0 <= self.first,
            "only what is stored is forgotten: up to {}, not {}",
            self.first,
            limit.0
        );
        let kept = std::mem::replace(&mut self.kept, end);
        let forgotten = self.change(|directory| {
            let slots = directory.take(kept);
            directory.drop_front();
            slots
        });
        drop(forgotten);
        true
    }

    /// The position that the next mutation will get.
    pub fn end(&self) -> TailPosition {
        TailPosition(self.next)
    }

    /// Of all mutations so far.
    pub fn size(&self) -> TailSize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Revision;

    fn pair(main: i64, len: usize) -> Mutation {
        Mutation::Pair {
            revision: Revision::new(main, 0),
            tombstone: false,
            pair: Bytes::from(vec![7; len]),
        }
    }

    fn filled(count: u64) -> Tail {
        let mut tail = Tail::new();
        for main in 0..count {
            tail.push(pair(main as i64, 10));
        }
        tail
    }

    const CHUNK: u64 = CHUNK_LEN as u64;

    /// Everything before `first` is stored and forgotten.
    fn store(tail: &mut Tail, first: u64) {
        tail.begin_at(TailPosition(first));
        while tail.forget_before(TailPosition(first)) {}
    }

    #[test]
    fn positions_stay_after_forgetting() {
        let count = 200 * CHUNK + 5;
        let mut tail = filled(count);
        let first = 150 * CHUNK + 7;
        store(&mut tail, first);
        assert!(tail.directory.first() > 0, "the front was dropped");
        assert!(tail.get(TailPosition(first - 1)).is_none());
        assert!(tail.view().pair(TailPosition(first)).is_some());
        assert_eq!(tail.push(pair(count as i64, 1)), TailPosition(count));
        store(&mut tail, count + 1);
        assert!(tail.get(TailPosition(count)).is_none());
        assert_eq!(tail.push(pair(count as i64, 1)), TailPosition(count + 1));
        assert!(tail.get(TailPosition(count + 1)).is_some());
    }

    #[test]
    fn a_tail_behind_a_store_has_no_stored_position() {
        let mut tail = Tail::behind_store();
        assert!(tail.push(pair(9, 1)) > TailPosition::STORED);
        assert!(tail.get(TailPosition::STORED).is_none());
        assert!(!tail.forget_before(TailPosition::STORED));
    }

    /// A directory that a reader holds keeps what it had, and shows what is appended.
    #[test]
    fn a_held_directory_loses_nothing() {
        let mut tail = filled(2 * CHUNK + 9);
        let guard = tail.reader().load();
        let end = tail.end();
        store(&mut tail, CHUNK + 5);
        let view = guard.view(TailPosition(0), end);
        assert!((0..end.0).all(|p| view.pair(TailPosition(p)).is_some()));
        assert!(view.pair(end).is_none());
        assert!(tail.directory.get(CHUNK - 1).is_none() && tail.directory.get(CHUNK).is_some());
    }

    #[test]
    fn seek_skips_other_buckets_and_what_is_stored() {
        let mut tail = Tail::new();
        tail.push(pair(2, 1));
        tail.push(Mutation::delete(Bucket::Lease, Bytes::from_static(b"x")));
        tail.push(pair(5, 1));
        let sought = |tail: &Tail, main| tail.view().seek(Revision::new(main, 0));
        assert!((1..=2).contains(&sought(&tail, 3).0));
        assert_eq!(sought(&tail, 6), tail.end());
        assert_eq!(sought(&tail, 0), TailPosition(0));
        tail.begin_at(TailPosition(2));
        assert_eq!(sought(&tail, 0), TailPosition(2));
    }

    #[test]
    fn sizes_are_what_a_file_takes() {
        let mut tail = Tail::new();
        for main in 0..100 {
            tail.push(pair(main, 10_000));
        }
        let large = tail.size().file_bytes;
        assert_eq!(large, 100 * 3 * 4096);
        tail.push(pair(100, 300));
        assert_eq!(tail.size().file_bytes - large, (16 + 17 + 300) * 100 / 90);
        assert!(tail.size().memory_bytes > 1_000_000);
    }
}
