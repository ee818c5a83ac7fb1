//! Groups of records between `seal` and their write, and their encoding.
//!
//! Records wait as bare `data`: their crc is known only when the group is started, since a new
//! segment's head comes in between and takes part in the chain.

use super::frame;
use super::io::BLOCK_BYTES;
use super::record::{self, RecordType};
use super::{Durability, GroupNo};
use bytes::Bytes;
use proto::raftpb;
use std::collections::VecDeque;

/// What the log says at some point between two records.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Position {
    /// Index of the last entry or, if ahead of it, snapshot.
    pub(super) last_index: u64,
    /// Empty until the first state record.
    pub(super) hard_state: raftpb::HardState,
}

/// Records in the order appended, `data` after `data`.
#[derive(Debug, Default)]
pub(super) struct Records {
    heads: Vec<(RecordType, usize)>,
    data: Vec<u8>,
}

/// Room that the records of a group are given at once.
const ROOM_MAX: usize = 64 * 1024;

impl Records {
    /// An empty one with room for as much as this one had.
    fn successor(&self) -> Self {
        Records {
            heads: Vec::with_capacity(self.heads.len().min(ROOM_MAX / 64)),
            data: Vec::with_capacity(self.data.len().min(ROOM_MAX)),
        }
    }

    /// Adds a record whose `data` is what `encode` appends.
    pub(super) fn push(&mut self, kind: RecordType, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.data.len();
        encode(&mut self.data);
        self.heads.push((kind, self.data.len() - start));
    }

    /// No less than the bytes of the frames.
    pub(super) fn frames_len_max(&self) -> usize {
        self.data.len() + self.heads.len() * frame::OVERHEAD_MAX
    }

    /// Appends the frames to `out`; returns the chain's value after them.
    pub(super) fn encode(&self, mut chain: u32, out: &mut Vec<u8>) -> u32 {
        let mut rest = &self.data[..];
        for &(kind, len) in &self.heads {
            let (data, after) = rest.split_at(len);
            chain = record::put(out, chain, kind, data);
            rest = after;
        }
        chain
    }
}

/// The head of a segment: crc, metadata, then the snapshot at 0 in a log's first segment or the
/// state so far in every other.
pub(super) fn encode_head(
    metadata: &Bytes,
    position: Option<&Position>,
    chain: u32,
    out: &mut Vec<u8>,
) -> u32 {
    let mut head = Records::default();
    head.push(RecordType::Crc, |_| ());
    head.push(RecordType::Metadata, |data| {
        data.extend_from_slice(metadata)
    });
    match position {
        None => head.push(RecordType::Snapshot, |data| {
            record::put_snapshot(data, &Default::default());
        }),
        Some(position) if !record::is_empty_state(&position.hard_state) => {
            head.push(RecordType::State, |data| {
                record::put_state(data, &position.hard_state);
            });
        }
        Some(_) => {}
    }
    head.encode(chain, out)
}

/// No less than the bytes of a head.
pub(super) fn head_len_max(metadata: &Bytes) -> usize {
    const STATE_OR_SNAPSHOT_MAX: usize = 3 * 11;
    metadata.len() + STATE_OR_SNAPSHOT_MAX + 3 * frame::OVERHEAD_MAX
}

#[derive(Debug)]
struct Sealed {
    no: GroupNo,
    records: Records,
    /// The position after this group.
    position: Position,
}

/// Groups not yet started, oldest first, and the records of the one being gathered.
#[derive(Debug, Default)]
pub(super) struct Queue {
    gathering: Records,
    /// The position after everything appended.
    pub(super) position: Position,
    sealed: VecDeque<Sealed>,
    last_no: GroupNo,
    /// The newest group that must be written without waiting for another.
    wanted: GroupNo,
    /// Bytes of `data` in here.
    bytes: usize,
}

/// Sealed groups that are written together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) last_no: GroupNo,
    pub(super) position: Position,
    pub(super) records: Vec<Records>,
}

impl Batch {
    /// No less than the bytes of the frames, filled up to whole blocks.
    pub(super) fn frames_len_max(&self) -> usize {
        let frames: usize = self.records.iter().map(Records::frames_len_max).sum();
        frames + BLOCK_BYTES as usize
    }

    /// Groups without a record have nothing to wait for but those before them.
    pub(super) fn is_empty(&self) -> bool {
        self.records.iter().all(|records| records.heads.is_empty())
    }
}

impl Queue {
    pub(super) fn push(&mut self, kind: RecordType, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.gathering.data.len();
        self.gathering.push(kind, encode);
        self.bytes += self.gathering.data.len() - before;
    }

    pub(super) fn seal(&mut self, durability: Durability) -> GroupNo {
        self.last_no.0 += 1;
        if durability == Durability::Sync {
            self.wanted = self.last_no;
        }
        let next = self.gathering.successor();
        self.sealed.push_back(Sealed {
            no: self.last_no,
            records: std::mem::replace(&mut self.gathering, next),
            position: self.position,
        });
        self.last_no
    }

    /// Every group sealed so far is to be written now.
    pub(super) fn flush(&mut self) {
        self.wanted = self.last_no;
    }

    pub(super) fn last_no(&self) -> GroupNo {
        self.last_no
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some group waits to be written.
    pub(super) fn is_due(&self) -> bool {
        self.sealed
            .front()
            .is_some_and(|group| group.no <= self.wanted)
    }

    /// The groups of the next write: as many as `limit` bytes hold, at least one.
    fn batch_count(&self, limit: usize) -> usize {
        let mut len = 0;
        let fits = |group: &&Sealed| {
            len += group.records.frames_len_max();
            len <= limit
        };
        self.sealed.iter().take_while(fits).count().max(1)
    }

    /// No less than the bytes that `take_batch` would encode to.
    pub(super) fn batch_len_max(&self, limit: usize) -> usize {
        let groups = self.sealed.iter().take(self.batch_count(limit));
        groups.map(|group| group.records.frames_len_max()).sum()
    }

    /// Takes the next write's groups out; `None` if there is none.
    pub(super) fn take_batch(&mut self, limit: usize) -> Option<Batch> {
        let count = self.batch_count(limit).min(self.sealed.len());
        let mut records = Vec::with_capacity(count);
        let mut last = None;
        for group in self.sealed.drain(..count) {
            self.bytes -= group.records.data.len();
            records.push(group.records);
            last = Some((group.no, group.position));
        }
        let (last_no, position) = last?;
        Some(Batch {
            last_no,
            position,
            records,
        })
    }

    /// Forgets everything: nothing will be written any more.
    pub(super) fn clear(&mut self) {
        self.gathering = Records::default();
        self.sealed.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(groups: &[(Durability, usize)]) -> Queue {
        let mut queue = Queue::default();
        for &(durability, len) in groups {
            queue.push(RecordType::Entry, |data| data.resize(len, 1));
            queue.seal(durability);
        }
        queue
    }

    #[test]
    fn lazy_groups_wait_for_a_sync_group_or_a_flush() {
        let mut queue = queue(&[(Durability::Lazy, 10), (Durability::Lazy, 10)]);
        assert!(!queue.is_due());
        queue.seal(Durability::Sync);
        assert!(queue.is_due());
        let batch = queue.take_batch(1 << 20).unwrap();
        assert_eq!((batch.last_no, batch.records.len()), (GroupNo(3), 3));
        queue.seal(Durability::Lazy);
        assert!(!queue.is_due());
        queue.flush();
        assert!(queue.is_due());
    }

    #[test]
    fn a_batch_has_a_bound_but_never_no_group() {
        let mut queue = queue(&[(Durability::Sync, 1000); 3]);
        assert_eq!(queue.bytes(), 3000);
        let limit = 2 * (1000 + frame::OVERHEAD_MAX);
        assert_eq!(queue.batch_len_max(limit), limit);
        assert_eq!(queue.take_batch(limit).unwrap().last_no, GroupNo(2));
        assert_eq!(queue.take_batch(10).unwrap().last_no, GroupNo(3));
        assert!(queue.take_batch(10).is_none());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_head_is_never_longer_than_told() {
        let metadata = Bytes::from_static(&[7; 30]);
        let hard_state = raftpb::HardState {
            term: Some(u64::MAX),
            vote: Some(u64::MAX),
            commit: Some(u64::MAX),
        };
        let position = Position {
            last_index: 9,
            hard_state,
        };
        for position in [None, Some(&position)] {
            let mut out = Vec::new();
            encode_head(&metadata, position, u32::MAX, &mut out);
            assert!(out.len() <= head_len_max(&metadata));
        }
    }
}
