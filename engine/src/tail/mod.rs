//! The tail: what was applied since the last checkpoint, as backend mutations in revision order.
//!
//! Every change of keys, leases, alarms, members, cluster version and `meta` is one [`Mutation`], appended once and
//! never changed. The tail is three things at once: the buffer for values that are not in the file yet, the source of
//! watch events, and the input of the next checkpoint, which turns each mutation into a put or delete of a bbolt
//! bucket exactly as `storage` documents them.
//!
//! ```text
//!   position:  0        1         2          3       ...
//!            [ pair 2_0 | pair 3_0 | lease L | pair 4_0 | ...     chunks of CHUNK_LEN, in order
//! ```
//!
//! Invariants:
//! - positions only grow and never come back; pairs stand in revision order;
//! - a forgotten position (compacted away) reads as `None` for ever; a chunk with nothing left gives its memory back;
//! - `size` counts what a bbolt file with these pairs would take, so that the quota, Status and metrics agree.
//!
//! Until checkpoints exist the tail begins at the first entry and is the only value store. Owned by
//! [`crate::state::State`] on the log shard.

mod mutation;
mod size;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::Revision;

pub use mutation::{Bucket, Mutation, meta};
use size::Size;

/// Mutations per chunk: small enough that compaction frees memory soon, large enough to be cheap to keep.
const CHUNK_LEN: usize = 512;

/// Place of a mutation in the tail; counts from 0 at the first entry of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TailPosition(pub u64);

#[derive(Debug, Default)]
struct Chunk {
    /// `None` where a compaction forgot the mutation. Empty (no allocation) once all are forgotten.
    mutations: Vec<Option<Mutation>>,
    live: usize,
}

/// The run of mutations. See the module text.
#[derive(Debug, Default)]
pub struct Tail {
    /// Chunk `i` begins at position `i * CHUNK_LEN`; every chunk but the last one was once full.
    chunks: VecDeque<Chunk>,
    /// Chunks dropped from the front, all of whose mutations are forgotten.
    dropped: u64,
    next: u64,
    size: Size,
}

impl Tail {
    pub fn new() -> Self {
        Tail::default()
    }

    /// Appends one mutation and says where it stands.
    pub fn push(&mut self, mutation: Mutation) -> TailPosition {
        let position = TailPosition(self.next);
        if self.next.is_multiple_of(CHUNK_LEN as u64) {
            self.chunks.push_back(Chunk {
                mutations: Vec::with_capacity(CHUNK_LEN),
                live: 0,
            });
        }
        self.next += 1;
        self.size.add(&mutation);
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.mutations.push(Some(mutation));
            chunk.live += 1;
        }
        position
    }

    /// The mutation at `position`, unless it was forgotten.
    pub fn get(&self, position: TailPosition) -> Option<&Mutation> {
        let (chunk, slot) = self.locate(position)?;
        self.chunks.get(chunk)?.mutations.get(slot)?.as_ref()
    }

    /// The encoded `mvccpb.KeyValue` at `position`, if a pair stands there.
    pub fn pair(&self, position: TailPosition) -> Option<&Bytes> {
        match self.get(position)? {
            Mutation::Pair { pair, .. } => Some(pair),
            _ => None,
        }
    }

    /// The first mutation at or after `from` that was not forgotten.
    pub fn next_from(&self, from: TailPosition) -> Option<(TailPosition, &Mutation)> {
        let first = self.dropped * CHUNK_LEN as u64;
        let mut at = from.0.max(first);
        while at < self.next {
            let (chunk, slot) = self.locate(TailPosition(at))?;
            let chunk = &self.chunks[chunk];
            if chunk.live > 0
                && let Some((skip, mutation)) = chunk
                    .mutations
                    .iter()
                    .skip(slot)
                    .enumerate()
                    .find_map(|(skip, m)| Some((skip, m.as_ref()?)))
            {
                return Some((TailPosition(at + skip as u64), mutation));
            }
            at = (at / CHUNK_LEN as u64 + 1) * CHUNK_LEN as u64;
        }
        None
    }

    /// Where the first pair with a revision of at least `revision` stands, or the end. Feeds watches that catch up.
    pub fn seek(&self, revision: Revision) -> TailPosition {
        let (mut low, mut high) = (self.dropped * CHUNK_LEN as u64, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_pair(TailPosition(middle)) {
                Some((position, found)) if found < revision => low = position.0 + 1,
                _ => high = middle,
            }
        }
        TailPosition(low)
    }

    fn next_pair(&self, mut from: TailPosition) -> Option<(TailPosition, Revision)> {
        while let Some((position, mutation)) = self.next_from(from) {
            if let Mutation::Pair { revision, .. } = mutation {
                return Some((position, *revision));
            }
            from = TailPosition(position.0 + 1);
        }
        None
    }

    /// Drops the mutation at `position`, which a compaction has made unreachable.
    pub fn forget(&mut self, position: TailPosition) {
        let Some((index, slot)) = self.locate(position) else {
            return;
        };
        let Some(chunk) = self.chunks.get_mut(index) else {
            return;
        };
        let Some(mutation) = chunk.mutations.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.size.remove(&mutation);
        chunk.live -= 1;
        if chunk.live == 0 && chunk.mutations.len() == CHUNK_LEN {
            // Reads of a missing slot give `None` as reads of a forgotten one do.
            chunk.mutations = Vec::new();
        }
        self.drop_front();
    }

    fn drop_front(&mut self) {
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|chunk| chunk.live == 0) {
            self.chunks.pop_front();
            self.dropped += 1;
        }
    }

    fn locate(&self, position: TailPosition) -> Option<(usize, usize)> {
        let chunk = (position.0 / CHUNK_LEN as u64).checked_sub(self.dropped)?;
        Some((
            usize::try_from(chunk).ok()?,
            (position.0 % CHUNK_LEN as u64) as usize,
        ))
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

    #[test]
    fn positions_stay_after_forgetting() {
        let count = 3 * CHUNK_LEN as i64 + 5;
        let mut tail = filled(count);
        for position in 0..2 * CHUNK_LEN as u64 {
            tail.forget(TailPosition(position));
        }
        assert_eq!(tail.dropped, 2);
        assert!(tail.get(TailPosition(3)).is_none());
        let after = TailPosition(2 * CHUNK_LEN as u64);
        assert!(tail.pair(after).is_some());
        assert_eq!(tail.next_from(TailPosition(0)).unwrap().0, after);
        assert_eq!(tail.push(pair(count, 1)), TailPosition(count as u64));
    }

    #[test]
    fn a_hole_in_the_middle_gives_its_memory_back() {
        let mut tail = filled(3 * CHUNK_LEN as i64);
        for position in CHUNK_LEN as u64..2 * CHUNK_LEN as u64 {
            tail.forget(TailPosition(position));
        }
        assert_eq!(tail.chunks[1].mutations.capacity(), 0);
        assert_eq!(
            tail.next_from(TailPosition(CHUNK_LEN as u64)).unwrap().0,
            TailPosition(2 * CHUNK_LEN as u64)
        );
        assert_eq!(tail.seek(Revision::new(CHUNK_LEN as i64 + 3, 0)), {
            let position = tail.seek(Revision::new(2 * CHUNK_LEN as i64, 0));
            assert_eq!(
                tail.next_from(position).unwrap().0,
                TailPosition(2 * CHUNK_LEN as u64)
            );
            position
        });
    }

    #[test]
    fn forgetting_everything_and_again_is_harmless() {
        let mut tail = filled(CHUNK_LEN as i64);
        for _ in 0..2 {
            for position in 0..CHUNK_LEN as u64 {
                tail.forget(TailPosition(position));
            }
        }
        assert!(tail.next_from(TailPosition(0)).is_none());
        tail.push(pair(9999, 1));
        assert_eq!(
            tail.next_from(TailPosition(0)).unwrap().0,
            TailPosition(CHUNK_LEN as u64)
        );
    }

    #[test]
    fn seek_skips_other_buckets() {
        let mut tail = Tail::new();
        tail.push(pair(2, 1));
        tail.push(Mutation::Delete {
            bucket: Bucket::Lease,
            key: Bytes::from_static(b"x"),
        });
        tail.push(pair(5, 1));
        let position = tail.seek(Revision::new(3, 0));
        let (_, mutation) = tail.next_pair(position).map(|p| (p.0, p.1)).unwrap();
        assert_eq!(mutation, Revision::new(5, 0));
        assert_eq!(tail.seek(Revision::new(6, 0)), tail.end());
        assert_eq!(tail.seek(Revision::new(0, 0)), TailPosition(0));
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
        for position in 0..90 {
            tail.forget(TailPosition(position));
        }
        assert_eq!(tail.db_size(), full);
        assert!(tail.db_size_in_use() < empty + 130_000);
        tail.defragment();
        assert_eq!(tail.db_size(), tail.db_size_in_use());
    }
}
