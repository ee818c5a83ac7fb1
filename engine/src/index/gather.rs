//! Versions that come in the order of their revisions, brought into the order of their keys.
//!
//! A version takes its index key, its record and 24 bytes. The order is made by eight bytes of the key at a time: those
//! behind what all keys of a group share, kept beside the entry, so that most comparisons touch no key. Groups whose
//! eight bytes are equal follow with the next ones.

use std::ops::Range;

use super::bulk::{Bulk, NotAscending};
use super::version::{self, Version};
use super::{Index, key};

/// So much is gathered before it goes to the index: a million and a half of usual keys. What comes later is inserted
/// one by one, in the order of keys, so that each page is visited once.
const SIZE_BYTES_MAX: usize = 128 << 20;
/// Groups of so many are ordered by comparing keys.
const SMALL_COUNT: usize = 12;
const HEAD_LEN: usize = 8;

/// See the module text.
#[derive(Debug, Default)]
pub struct Gather {
    /// Index key and record of each entry.
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    /// Eight bytes of the key, as a number whose order is theirs.
    head: u64,
    start: usize,
    key_len: u32,
    record_len: u8,
    is_live: bool,
}

impl Item {
    fn key(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.start + self.key_len as usize]
    }

    fn record(self, bytes: &[u8]) -> &[u8] {
        let start = self.start + self.key_len as usize;
        &bytes[start..start + usize::from(self.record_len)]
    }
}

impl Gather {
    /// Adds a version, which is newer than all that were added before.
    pub fn push(&mut self, key: &[u8], version: &Version) {
        let start = self.bytes.len();
        key::push_at(&mut self.bytes, key, version.revision);
        let key_len = self.bytes.len() - start;
        let record = version::encode(version, key_len - key::before_len(key));
        self.bytes.extend_from_slice(&record);
        self.items.push(Item {
            head: 0,
            start,
            key_len: u32::try_from(key_len).expect("a pair in a file is shorter than 4 GiB"),
            record_len: record.len() as u8,
            is_live: version.is_live(),
        });
    }

    /// True if it is time to [`Gather::pour`].
    pub fn is_full(&self) -> bool {
        self.bytes.len() + self.items.len() * size_of::<Item>() >= SIZE_BYTES_MAX
    }

    /// Moves everything to the index, which nobody reads yet. An empty one is filled in bulk.
    ///
    /// # Errors
    /// [`NotAscending`]: the index has a version of a key that is not older; what it holds then is of no use.
    pub fn pour(&mut self, index: &mut Index) -> Result<(), NotAscending> {
        let Gather { bytes, items } = std::mem::take(self);
        let mut items = items;
        sort(&mut items, &bytes);
        if index.is_empty() {
            let mut bulk = Bulk::default();
            for item in items {
                bulk.push_record(item.key(&bytes), item.record(&bytes), item.is_live)?;
            }
            *index = bulk.finish();
            return Ok(());
        }
        let mut buffer = Vec::new();
        for item in items {
            let (index_key, record) = (item.key(&bytes), item.record(&bytes));
            let revision_len = version::revision_len(record);
            let version = version::decode(record, key::revision(index_key, revision_len));
            let key = key::user_key(index_key, revision_len, &mut buffer);
            index.insert_newer(key, &version)?;
        }
        Ok(())
    }
}

/// Brings entries into the order of their keys. No key begins another one.
fn sort(items: &mut [Item], bytes: &[u8]) {
    let mut groups: Vec<(Range<usize>, usize)> = vec![(0..items.len(), 0)];
    while let Some((range, shared)) = groups.pop() {
        let group = &mut items[range.clone()];
        if group.len() <= SMALL_COUNT {
            group.sort_unstable_by(|a, b| a.key(bytes).cmp(b.key(bytes)));
            continue;
        }
        let depth = shared_len(group, bytes, shared);
        if depth >= group[0].key_len as usize {
            // All the same; whoever fills an index refuses that.
            continue;
        }
        for item in group.iter_mut() {
            item.head = head_at(item.key(bytes), depth);
        }
        group.sort_unstable_by_key(|item| item.head);
        let mut start = 0;
        while start < group.len() {
            let head = group[start].head;
            let count = group[start..].partition_point(|item| item.head == head);
            if count > 1 {
                let from = range.start + start;
                groups.push((from..from + count, depth + HEAD_LEN));
            }
            start += count;
        }
    }
}

/// How many bytes all keys of a group begin with; they are known to share `least`.
fn shared_len(group: &[Item], bytes: &[u8], least: usize) -> usize {
    let first = group[0].key(bytes);
    let mut shared = first.len();
    for item in &group[1..] {
        let key = item.key(bytes);
        let tails = first[least.min(shared)..shared]
            .iter()
            .zip(key.get(least..).unwrap_or_default());
        shared = least.min(shared) + tails.take_while(|(a, b)| a == b).count();
        if shared <= least {
            break;
        }
    }
    shared.max(least)
}

fn head_at(key: &[u8], depth: usize) -> u64 {
    let rest = key.get(depth..).unwrap_or_default();
    let mut head = [0; HEAD_LEN];
    let len = rest.len().min(HEAD_LEN);
    head[..len].copy_from_slice(&rest[..len]);
    u64::from_be_bytes(head)
}
