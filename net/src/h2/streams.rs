//! The streams of a connection: a slab of slots, and the way from stream ids to slots.
//!
//! Ids only grow, on both sides (RFC 9113 §5.1.1), so the index is a queue sorted by construction: opening appends,
//! looking up is a binary search, ending leaves a hole that is closed later. No hash function, no collisions to choose,
//! no allocation in steady state.

use std::collections::VecDeque;
use std::time::Duration;

use super::stream::{Key, Stream};

/// Marks a hole in the index.
const GONE: u32 = u32::MAX;

/// So many slots are kept when all streams are gone.
const KEEP_SLOTS: usize = 256;

/// All streams that are not closed.
#[derive(Debug)]
pub(crate) struct Streams<X> {
    slots: Vec<Stream<X>>,
    free: Vec<u32>,
    index: Index,
    live: usize,
    serial: u32,
}

impl<X: Default> Streams<X> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Index::default(),
            live: 0,
            serial: 0,
        }
    }

    /// How many streams there are, opened or waiting to be.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// How many slots a walk over all streams looks at.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Makes a stream. Its wire id comes with [`Streams::assign_id`].
    pub(super) fn insert(&mut self, send_window: u32, recv_window: u32, now: Duration) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::new());
            self.slots.len() as u32 - 1
        });
        // 0 means a free slot. After 2^32 streams a key could be mistaken, but ids end at 2^30 streams.
        self.serial = self.serial.wrapping_add(1).max(1);
        let key = Key {
            slot,
            serial: self.serial,
        };
        let stream = &mut self.slots[slot as usize];
        stream.renew(send_window, recv_window);
        stream.id = 0;
        stream.serial = key.serial;
        stream.since = now;
        self.live += 1;
        key
    }

    /// Gives a stream its id, which is larger than all before.
    pub(super) fn assign_id(&mut self, key: Key, id: u32) {
        if let Some(stream) = self.get_mut(key) {
            stream.id = id;
            self.index.push(id, key.slot);
        }
    }

    /// Ends a stream and hands out what the layer above kept.
    pub(super) fn remove(&mut self, key: Key) -> Option<X> {
        let stream = self.get_mut(key)?;
        let (id, ext) = (stream.id, std::mem::take(&mut stream.ext));
        stream.serial = 0;
        stream.clear();
        if id != 0 {
            self.index.remove(id);
        }
        self.free.push(key.slot);
        self.live -= 1;
        if self.live == 0 && self.slots.len() > KEEP_SLOTS {
            self.slots.truncate(KEEP_SLOTS);
            self.slots.shrink_to_fit();
            self.free = (0..KEEP_SLOTS as u32).collect();
        }
        Some(ext)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Stream<X>> {
        self.slots
            .get(key.slot as usize)
            .filter(|stream| stream.serial == key.serial && key.serial != 0)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Stream<X>> {
        self.slots
            .get_mut(key.slot as usize)
            .filter(|stream| stream.serial == key.serial && key.serial != 0)
    }

    /// The open stream with the wire id `id`.
    pub(super) fn find(&self, id: u32) -> Option<Key> {
        let slot = self.index.find(id)?;
        let stream = self.slots.get(slot as usize)?;
        Some(Key {
            slot,
            serial: stream.serial,
        })
    }

    /// Every stream's key, in the order of the slots.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.slots.iter().enumerate().filter_map(|(slot, stream)| {
            (stream.serial != 0).then_some(Key {
                slot: slot as u32,
                serial: stream.serial,
            })
        })
    }
}

/// Pairs of id and slot, sorted by id.
#[derive(Debug, Default)]
struct Index {
    pairs: VecDeque<(u32, u32)>,
    holes: usize,
}

impl Index {
    fn push(&mut self, id: u32, slot: u32) {
        debug_assert!(self.pairs.back().is_none_or(|(last, _)| *last < id));
        self.pairs.push_back((id, slot));
    }

    fn position(&self, id: u32) -> Option<usize> {
        // Most frames are about the newest stream.
        if self.pairs.back().is_some_and(|(last, _)| *last == id) {
            return Some(self.pairs.len() - 1);
        }
        self.pairs.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn find(&self, id: u32) -> Option<u32> {
        let (_, slot) = self.pairs[self.position(id)?];
        (slot != GONE).then_some(slot)
    }

    fn remove(&mut self, id: u32) {
        let Some(position) = self.position(id) else {
            return;
        };
        self.pairs[position].1 = GONE;
        self.holes += 1;
        while self.pairs.front().is_some_and(|(_, slot)| *slot == GONE) {
            self.pairs.pop_front();
            self.holes -= 1;
        }
        // Behind one old stream holes gather; closing them costs as much as was removed since the last time.
        if self.holes > 32 && self.holes > self.pairs.len() / 2 {
            self.pairs.retain(|(_, slot)| *slot != GONE);
            self.holes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn old_keys_find_nothing() {
        let mut streams = Streams::<u8>::new();
        let first = streams.insert(1, 1, Duration::ZERO);
        streams.assign_id(first, 1);
        streams.get_mut(first).unwrap().ext = 9;
        assert_eq!(streams.find(1), Some(first));
        assert_eq!(streams.remove(first), Some(9));
        assert_eq!(streams.remove(first), None);
        assert_eq!(streams.find(1), None);
        let second = streams.insert(1, 1, Duration::ZERO);
        assert_eq!(second.slot, first.slot);
        assert!(streams.get(first).is_none());
        assert_eq!(streams.get(second).unwrap().ext, 0);
        assert_eq!(streams.keys().collect::<Vec<_>>(), [second]);
        let none = Key { slot: 0, serial: 0 };
        streams.remove(second);
        assert!(streams.get(none).is_none());
    }

    #[test]
    fn slots_of_a_crowd_are_given_back() {
        let mut streams = Streams::<u8>::new();
        let insert = |streams: &mut Streams<u8>| streams.insert(1, 1, Duration::ZERO);
        let keys: Vec<Key> = (0..1000).map(|_| insert(&mut streams)).collect();
        for key in &keys {
            assert!(streams.remove(*key).is_some());
        }
        assert_eq!(
            (streams.slots.len(), streams.free.len()),
            (KEEP_SLOTS, KEEP_SLOTS)
        );
        let again: Vec<Key> = (0..100).map(|_| insert(&mut streams)).collect();
        assert!(keys.iter().all(|key| streams.get(*key).is_none()));
        assert!(again.iter().all(|key| streams.get(*key).is_some()));
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_map(ops in prop::collection::vec((any::<bool>(), 0usize..64), 0..600)) {
            let mut index = Index::default();
            let mut map = BTreeMap::new();
            let mut next = 1;
            for (opens, pick) in ops {
                if opens {
                    index.push(next, next * 10);
                    map.insert(next, next * 10);
                    next += 2;
                } else if let Some(id) = map.keys().nth(pick).copied() {
                    index.remove(id);
                    map.remove(&id);
                }
                prop_assert!(index.pairs.len() <= 2 * map.len() + 64);
            }
            for id in 0..next + 2 {
                prop_assert_eq!(index.find(id), map.get(&id).copied());
            }
        }
    }
}
