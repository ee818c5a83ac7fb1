//! The tail: what was applied since the last checkpoint, as backend mutations in revision order.
//!
//! Every change of keys, leases, alarms, members, cluster version and `meta` is one [`Mutation`], appended once and
//! never changed. The tail is three things at once: the buffer for values that are not in the file yet, the source of
//! watch events, and the input of the next checkpoint, which turns each mutation into a put or delete of a bbolt
//! bucket exactly as `storage` documents them.
//!
//! ```text
//!   position:  0        1         2          3       ...
//!            [ pair 2_0 | pair 3_0 | lease L | pair 4_0 | ...     chunks of CHUNK_LEN slots, in order
//!   directory: table -> blocks -> chunks, copied where it changes, so that readers on any core walk it without a lock
//! ```
//!
//! Invariants:
//! - positions only grow and never come back; pairs stand in revision order;
//! - a forgotten position (compacted away) reads as `None` for ever; a chunk with nothing left gives its memory back;
//! - a position is forgotten only once no pinned state can reach it: whoever compacts sees to that;
//! - `size` counts what a bbolt file with these pairs would take, so that the quota, Status and metrics agree.
//!
//! Until checkpoints exist the tail begins at the first entry and is the only value store. Owned by
//! [`crate::state::State`] on the log shard; others read it through [`TailView`]s.

mod chunk;
mod directory;
mod mutation;
mod size;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

pub use mutation::{Bucket, Mutation, Record, meta};
pub use view::TailView;
pub(crate) use view::{TailGuard, TailReader};

use chunk::{CHUNK_LEN, Chunk, SlotSet, Slots, new_slots};
use directory::Directory;
use size::Size;

/// Place of a mutation in the tail; counts from 0 at the first entry of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TailPosition(pub u64);

/// The run of mutations. See the module text.
#[derive(Debug)]
pub struct Tail {
    directory: Arc<Directory>,
    /// The same, as readers on other threads find it.
    shared: Arc<ArcSwap<Directory>>,
    /// Slots of the last chunk.
    filling: Slots,
    next: u64,
    size: Size,
}

impl Default for Tail {
    fn default() -> Self {
        let directory = Arc::new(Directory::default());
        Tail {
            shared: Arc::new(ArcSwap::new(Arc::clone(&directory))),
            directory,
            filling: Arc::new([]),
            next: 0,
            size: Size::default(),
        }
    }
}

impl Tail {
    pub fn new() -> Self {
        Tail::default()
    }

    /// Appends one mutation and says where it stands.
    pub fn push(&mut self, mutation: Mutation) -> TailPosition {
        let position = TailPosition(self.next);
        if self.next.is_multiple_of(CHUNK_LEN as u64) {
            self.filling = new_slots();
            let chunk = Chunk::Dense(Arc::clone(&self.filling));
            self.change(|directory| directory.push(chunk));
        }
        self.next += 1;
        self.size.add(&mutation);
        let slot = (position.0 % CHUNK_LEN as u64) as usize;
        let former = self.filling[slot].set(mutation);
        debug_assert!(former.is_ok(), "a position is filled once");
        position
    }

    fn change(&mut self, change: impl FnOnce(&mut Directory)) {
        change(Arc::make_mut(&mut self.directory));
        self.shared.store(Arc::clone(&self.directory));
    }

    /// All mutations so far.
    pub fn view(&self) -> TailView<'_> {
        TailView::new(&self.directory, TailPosition(self.next))
    }

    /// For readers on other threads.
    pub(crate) fn reader(&self) -> TailReader {
        TailReader(Arc::clone(&self.shared))
    }

    /// The mutation at `position`, unless it was forgotten.
    pub fn get(&self, position: TailPosition) -> Option<&Mutation> {
        self.view().get(position)
    }

    /// The encoded `mvccpb.KeyValue` at `position`, if a pair stands there.
    pub fn pair(&self, position: TailPosition) -> Option<&Bytes> {
        self.view().pair(position)
    }

    /// Drops mutations that a compaction has made unreachable, also from every pinned state. All stand in one chunk
    /// ([`Tail::share_chunk`]).
    pub fn forget(&mut self, positions: &[TailPosition]) {
        let Some(first) = positions.first() else {
            return;
        };
        let mut dead = SlotSet::default();
        for position in positions {
            assert!(Tail::share_chunk(*first, *position));
            if let Some(mutation) = self.view().get(*position) {
                let bytes = size::element_bytes(mutation);
                self.size.remove(bytes);
                dead.insert((position.0 % CHUNK_LEN as u64) as usize);
            }
        }
        let Some((chunk, _)) = self.directory.locate(first.0).filter(|_| !dead.is_empty()) else {
            return;
        };
        let is_filling = first.0 / CHUNK_LEN as u64 == self.next / CHUNK_LEN as u64;
        let left = match is_filling {
            true => {
                self.filling = chunk.refilled_without(&dead);
                Chunk::Dense(Arc::clone(&self.filling))
            }
            false => chunk.without(&dead),
        };
        self.change(|directory| {
            directory.replace(first.0, left);
            directory.drop_front();
        });
    }

    /// True if two positions are forgotten together, for the price of one.
    pub fn share_chunk(one: TailPosition, other: TailPosition) -> bool {
        one.0 / CHUNK_LEN as u64 == other.0 / CHUNK_LEN as u64
    }

    /// The position that the next mutation will get.
    pub fn end(&self) -> TailPosition {
        TailPosition(self.next)
    }

    /// Bytes that the database file takes: never shrinks, as a bbolt file does not, until [`Tail::defragment`].
    pub fn db_size(&self) -> u64 {
        self.size.allocated()
    }

    /// Bytes of the database file that hold something.
    pub fn db_size_in_use(&self) -> u64 {
        self.size.in_use()
    }

    /// Gives back what deletions left free.
    pub fn defragment(&mut self) {
        self.size.defragment();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Revision;

    fn pair(main: i64, len: usize) -> Mutation {
        Mutation::Pair {
            revision: Revision::new(main, 0),
            tombstone: false,
            pair: Bytes::from(vec![7; len]),
        }
    }

    fn filled(count: i64) -> Tail {
        let mut tail = Tail::new();
        for main in 0..count {
            tail.push(pair(main, 10));
        }
        tail
    }

    fn forget(tail: &mut Tail, positions: std::ops::Range<u64>) {
        let positions: Vec<TailPosition> = positions.map(TailPosition).collect();
        for chunk in positions.chunk_by(|a, b| Tail::share_chunk(*a, *b)) {
            tail.forget(chunk);
        }
    }

    const CHUNK: u64 = CHUNK_LEN as u64;

    #[test]
    fn positions_stay_after_forgetting() {
        let count = 200 * CHUNK + 5;
        let mut tail = filled(count as i64);
        forget(&mut tail, 0..150 * CHUNK + 7);
        assert!(tail.directory.first() > 0, "the front was dropped");
        assert!(tail.get(TailPosition(3)).is_none());
        let after = TailPosition(150 * CHUNK + 7);
        assert!(tail.pair(after).is_some());
        assert_eq!(tail.view().next_from(TailPosition(0)).unwrap().0, after);
        assert_eq!(tail.push(pair(count as i64, 1)), TailPosition(count));
        let last = tail.view().next_from(TailPosition(count)).unwrap().0;
        assert_eq!(last, TailPosition(count));
    }

    #[test]
    fn a_hole_in_the_middle_gives_its_memory_back() {
        let mut tail = filled(3 * CHUNK as i64);
        forget(&mut tail, CHUNK..2 * CHUNK);
        assert!(tail.directory.locate(CHUNK).unwrap().0.is_empty());
        let behind = TailPosition(2 * CHUNK);
        let view = tail.view();
        assert_eq!(view.next_from(TailPosition(CHUNK)).unwrap().0, behind);
        let sought = view.seek(Revision::new(CHUNK as i64 + 3, 0));
        assert_eq!(view.next_from(sought).unwrap().0, behind);
    }

    #[test]
    fn forgetting_everything_and_again_is_harmless() {
        let mut tail = filled(CHUNK as i64);
        let in_use = Tail::new().db_size_in_use();
        for _ in 0..2 {
            forget(&mut tail, 0..CHUNK);
            assert_eq!(tail.db_size_in_use(), in_use);
        }
        assert!(tail.view().next_from(TailPosition(0)).is_none());
        tail.push(pair(9999, 1));
        let only = tail.view().next_from(TailPosition(0)).unwrap().0;
        assert_eq!(only, TailPosition(CHUNK));
    }

    #[test]
    fn the_chunk_that_is_being_filled_forgets_too() {
        let mut tail = filled(10);
        forget(&mut tail, 0..9);
        assert!(tail.get(TailPosition(8)).is_none() && tail.get(TailPosition(9)).is_some());
        assert_eq!(tail.push(pair(10, 1)), TailPosition(10));
        assert!(tail.get(TailPosition(10)).is_some());
    }

    /// A directory that a reader holds keeps what it had, and shows what is appended.
    #[test]
    fn a_held_directory_loses_nothing() {
        let mut tail = filled(2 * CHUNK as i64 + 9);
        let guard = tail.reader().load();
        let end = tail.end();
        forget(&mut tail, 0..CHUNK + 5);
        let view = guard.view(end);
        assert!((0..end.0).all(|p| view.pair(TailPosition(p)).is_some()));
        assert!(view.next_from(end).is_none());
    }

    #[test]
    fn seek_skips_other_buckets() {
        let mut tail = Tail::new();
        tail.push(pair(2, 1));
        tail.push(Mutation::delete(Bucket::Lease, Bytes::from_static(b"x")));
        tail.push(pair(5, 1));
        let view = tail.view();
        let position = view.seek(Revision::new(3, 0));
        assert_eq!(view.pair(TailPosition(2)), {
            let found = view.next_from(TailPosition(position.0.max(2)));
            found.and_then(|(_, mutation)| mutation.value())
        });
        assert!(position.0 > 0 && position.0 <= 2);
        assert_eq!(view.seek(Revision::new(6, 0)), tail.end());
        assert_eq!(view.seek(Revision::new(0, 0)), TailPosition(0));
    }

    #[test]
    fn sizes_follow_pushes_forgets_and_defragmentation() {
        let mut tail = Tail::new();
        let empty = tail.db_size();
        for main in 0..100 {
            tail.push(pair(main, 10_000));
        }
        let full = tail.db_size();
        assert!(
            full > empty + 1_000_000 && full < empty + 1_300_000,
            "{full}"
        );
        forget(&mut tail, 0..90);
        assert_eq!(tail.db_size(), full);
        assert!(tail.db_size_in_use() < empty + 130_000);
        tail.defragment();
        assert_eq!(tail.db_size(), tail.db_size_in_use());
    }
}
