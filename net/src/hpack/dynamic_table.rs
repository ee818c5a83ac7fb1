//! The table of recently sent fields, first in, first out (RFC 7541 §2.3.2, §4).
//!
//! Names and values lie one behind the other in one arena, in order of insertion; an entry knows where. Evicting only
//! moves the front; the dead bytes before it are cut off when they are at least half of a full arena. So an insert costs
//! amortised one copy of its bytes, the arena stays below twice what is alive (its capacity below four times), and a
//! connection with a small table costs little memory.

use std::collections::VecDeque;

use super::FIELD_OVERHEAD_BYTES;
use super::static_table::Match;

#[derive(Debug)]
pub(super) struct DynamicTable {
    arena: Vec<u8>,
    /// The position of `arena[0]` when positions are counted over the table's whole life (wrapping).
    base: usize,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Sum of the entries' sizes, overhead included; at most `size_max`.
    size: usize,
    size_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where the name begins, counted like `base`.
    position: usize,
    name_len: u32,
    value_len: u32,
}

impl Entry {
    fn len(self) -> usize {
        self.name_len as usize + self.value_len as usize
    }
}

impl DynamicTable {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            arena: Vec::new(),
            base: 0,
            entries: VecDeque::new(),
            size: 0,
            size_max,
        }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    pub(super) fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict_to(size_max);
    }

    /// Name and value of entry `age`: 0 is the newest.
    pub(super) fn get(&self, age: usize) -> Option<(&[u8], &[u8])> {
        let index = self.entries.len().checked_sub(age.checked_add(1)?)?;
        self.entries.get(index).map(|entry| self.octets(*entry))
    }

    /// The newest entry equal to the field, else the newest one with its name.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<Match> {
        let mut with_name = None;
        for (age, entry) in self.entries.iter().rev().enumerate() {
            if entry.name_len as usize != name.len() {
                continue;
            }
            let (entry_name, entry_value) = self.octets(*entry);
            if entry_name == name {
                if entry_value == value {
                    return Some(Match::Field(age));
                }
                with_name = with_name.or(Some(Match::Name(age)));
            }
        }
        with_name
    }

    /// Whether an entry of these lengths would be kept.
    pub(super) fn would_fit(&self, name: &[u8], value: &[u8]) -> bool {
        name.len() + value.len() + FIELD_OVERHEAD_BYTES <= self.size_max
    }

    /// Adds an entry, evicting old ones. One larger than the table empties it (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        if !self.would_fit(name, value) {
            self.evict_to(0);
            return;
        }
        let octets_len = name.len() + value.len();
        let entry_size = octets_len + FIELD_OVERHEAD_BYTES;
        self.evict_to(self.size_max - entry_size);
        self.make_room(octets_len);
        // The lengths fit: tables are bounded by 32-bit sizes, and this entry is no larger than the table.
        self.entries.push_back(Entry {
            position: self.base.wrapping_add(self.arena.len()),
            name_len: name.len() as u32,
            value_len: value.len() as u32,
        });
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        self.size += entry_size;
    }

    fn octets(&self, entry: Entry) -> (&[u8], &[u8]) {
        let begin = entry.position.wrapping_sub(self.base);
        self.arena[begin..begin + entry.len()].split_at(entry.name_len as usize)
    }

    fn evict_to(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.size -= entry.len() + FIELD_OVERHEAD_BYTES;
        }
    }

    /// Cuts the dead front off rather than let the arena grow, if that frees enough to pay for the move.
    fn make_room(&mut self, octets_len: usize) {
        if self.arena.capacity() - self.arena.len() >= octets_len {
            return;
        }
        let front = self.entries.front();
        let dead_len = front.map_or(self.arena.len(), |entry| {
            entry.position.wrapping_sub(self.base)
        });
        if dead_len >= self.arena.len() - dead_len {
            self.arena.drain(..dead_len);
            self.base = self.base.wrapping_add(dead_len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_is_first_and_oldest_leaves() {
        let mut table = DynamicTable::new(3 * 34);
        for value in [b"1", b"2", b"3", b"4"] {
            table.insert(b"n", value);
        }
        assert_eq!(table.get(0), Some((&b"n"[..], &b"4"[..])));
        assert_eq!(table.get(2), Some((&b"n"[..], &b"2"[..])));
        assert_eq!(table.get(3), None);
        assert_eq!(table.get(usize::MAX), None);
        assert_eq!(table.find(b"n", b"3"), Some(Match::Field(1)));
        assert_eq!(table.find(b"n", b"1"), Some(Match::Name(0)));
        assert_eq!(table.find(b"m", b"1"), None);
        table.set_size_max(34);
        assert_eq!(table.find(b"n", b"3"), Some(Match::Name(0)));
        table.insert(b"name", b"too long for this table");
        assert_eq!(table.get(0), None);
    }

    #[test]
    fn the_arena_stays_small() {
        let mut table = DynamicTable::new(4096);
        let mut capacities = Vec::new();
        for round in 0..10_000u32 {
            let value = vec![b'v'; (round as usize * 37) % 900];
            table.insert(&round.to_be_bytes(), &value);
            assert_eq!(table.get(0), Some((&round.to_be_bytes()[..], &value[..])));
            capacities.push(table.arena.capacity());
        }
        assert!(
            table.arena.capacity() <= 4 * 4096,
            "{}",
            table.arena.capacity()
        );
        assert_eq!(
            capacities[1_000], capacities[9_999],
            "no allocation in steady state"
        );
    }
}
