//! A chunk of the tail: a fixed stretch of positions, filled once, thinned out by compactions.
//!
//! A chunk is never changed but by filling its empty slots in order. What a compaction leaves of it is another chunk,
//! which takes its place in the directory; readers that still hold the former one read on.

use std::sync::{Arc, OnceLock};

use super::Mutation;

/// Mutations per chunk: small enough that compaction frees memory soon, large enough to be cheap to keep.
pub(super) const CHUNK_LEN: usize = 512;
const WORD_BITS: usize = u64::BITS as usize;
const WORD_COUNT: usize = CHUNK_LEN / WORD_BITS;

/// Slots that the writer still fills.
pub(super) type Slots = Arc<[OnceLock<Mutation>]>;

/// A set of slots of one chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet([u64; WORD_COUNT]);

impl SlotSet {
    pub(super) fn insert(&mut self, slot: usize) {
        self.0[slot / WORD_BITS] |= 1 << (slot % WORD_BITS);
    }

    pub(super) fn contains(&self, slot: usize) -> bool {
        self.0[slot / WORD_BITS] >> (slot % WORD_BITS) & 1 == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many slots below `slot` are in it.
    fn rank(&self, slot: usize) -> usize {
        let whole = self.0[..slot / WORD_BITS].iter().map(|w| w.count_ones());
        let below = self.0[slot / WORD_BITS] & ((1 << (slot % WORD_BITS)) - 1);
        (whole.sum::<u32>() + below.count_ones()) as usize
    }

    /// The first slot of the set that is not below `slot`.
    fn first_from(&self, slot: usize) -> Option<usize> {
        let word = slot / WORD_BITS;
        let first = *self.0.get(word)? & (u64::MAX << (slot % WORD_BITS));
        let mut later = self.0.iter().enumerate().skip(word + 1);
        let (word, bits) = match first {
            0 => later.find(|(_, bits)| **bits != 0).map(|(w, b)| (w, *b))?,
            bits => (word, bits),
        };
        Some(word * WORD_BITS + bits.trailing_zeros() as usize)
    }
}

/// What a compaction left of a chunk.
#[derive(Debug)]
pub(super) struct Sparse {
    present: SlotSet,
    /// Those of the slots in `present`, in order.
    mutations: Box<[Mutation]>,
}

/// See the module text.
#[derive(Clone, Debug)]
pub(super) enum Chunk {
    /// Nothing is left.
    Empty,
    /// Being filled, or full and never thinned out. An empty slot is not filled yet, or was forgotten.
    Dense(Slots),
    Sparse(Arc<Sparse>),
}

pub(super) fn new_slots() -> Slots {
    (0..CHUNK_LEN).map(|_| OnceLock::new()).collect()
}

impl Chunk {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Chunk::Empty)
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Mutation> {
        match self {
            Chunk::Dense(slots) => slots.get(slot)?.get(),
            Chunk::Sparse(sparse) => {
                let there = sparse.present.contains(slot);
                there.then(|| &sparse.mutations[sparse.present.rank(slot)])
            }
            Chunk::Empty => None,
        }
    }

    /// The first mutation at or after `slot`, and its slot.
    pub(super) fn first_from(&self, slot: usize) -> Option<(usize, &Mutation)> {
        match self {
            Chunk::Dense(slots) => {
                let mut rest = slots.iter().enumerate().skip(slot);
                rest.find_map(|(slot, mutation)| Some((slot, mutation.get()?)))
            }
            Chunk::Sparse(sparse) => {
                let slot = sparse.present.first_from(slot)?;
                Some((slot, &sparse.mutations[sparse.present.rank(slot)]))
            }
            Chunk::Empty => None,
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &Mutation)> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let found = self.first_from(next)?;
            next = found.0 + 1;
            Some(found)
        })
    }

    /// The chunk without the mutations in `dead`; for one that is full.
    pub(super) fn without(&self, dead: &SlotSet) -> Chunk {
        let (mut present, mut mutations) = (SlotSet::default(), Vec::new());
        for (slot, mutation) in self.iter().filter(|(slot, _)| !dead.contains(*slot)) {
            present.insert(slot);
            mutations.push(mutation.clone());
        }
        if mutations.is_empty() {
            return Chunk::Empty;
        }
        let mutations = mutations.into_boxed_slice();
        Chunk::Sparse(Arc::new(Sparse { present, mutations }))
    }

    /// As [`Chunk::without`], for one that is still being filled.
    pub(super) fn refilled_without(&self, dead: &SlotSet) -> Slots {
        let slots = new_slots();
        for (slot, mutation) in self.iter().filter(|(slot, _)| !dead.contains(*slot)) {
            // The slot is new, so it is empty.
            let _ = slots[slot].set(mutation.clone());
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Revision;

    fn full() -> Chunk {
        let slots = new_slots();
        for (main, slot) in slots.iter().enumerate() {
            let mutation = Mutation::Pair {
                revision: Revision::new(main as i64, 0),
                tombstone: false,
                pair: Bytes::from_static(b"p"),
            };
            slot.set(mutation).unwrap();
        }
        Chunk::Dense(slots)
    }

    fn number(found: Option<&Mutation>) -> Option<i64> {
        match found? {
            Mutation::Pair { revision, .. } => Some(revision.main),
            Mutation::Record(_) => None,
        }
    }

    #[test]
    fn what_is_left_of_a_chunk_keeps_its_slots() {
        let chunk = full();
        let mut dead = SlotSet::default();
        (0..CHUNK_LEN)
            .filter(|s| s % 3 != 1)
            .for_each(|s| dead.insert(s));
        let sparse = chunk.without(&dead);
        let refilled = Chunk::Dense(chunk.refilled_without(&dead));
        for left in [&sparse, &refilled] {
            for slot in 0..CHUNK_LEN {
                let expected = (slot % 3 == 1).then_some(slot as i64);
                assert_eq!(number(left.get(slot)), expected, "slot {slot}");
                let next = (slot..CHUNK_LEN).find(|s| s % 3 == 1);
                assert_eq!(left.first_from(slot).map(|(s, _)| s), next);
            }
        }
        assert_eq!(sparse.iter().count(), CHUNK_LEN / 3 + 1);
        assert!(sparse.first_from(CHUNK_LEN).is_none());
    }

    #[test]
    fn a_chunk_without_anything_is_empty() {
        let mut dead = SlotSet::default();
        (0..CHUNK_LEN).for_each(|slot| dead.insert(slot));
        assert!(!dead.is_empty() && full().without(&dead).is_empty());
    }
}
