//! Reads a log back: segments in, one [`Recovered`] out.
//!
//! A segment is judged when the next one arrives, because only the last may end torn. There a record
//! that does not verify is *torn* if a crash can explain it: the file ends inside it, or one of its
//! 512-byte sectors is zero. Everything behind it was never acknowledged and is cut. Whatever a
//! crash cannot explain is *damage*, and the log is refused with segment and offset.
//!
//! Data of entries are slices of the segments handed in, except for those of mostly empty segments:
//! a few entries must not hold on to a whole preallocated file.
//!
//! Not decided here: which snapshot to start from, and whether the log suits it
//! ([`crate::boot`]).

use super::entries::EntryRun;
use super::frame::{self, Frame};
use super::record::{self, Record, RecordType};
use super::recovered::{Cut, CutReason, Damage, Recovered, RecoveryError, Tail};
use super::{BLOCK_BYTES, SegmentName};
use bytes::Bytes;
use prost::Message;
use proto::{raftpb, walpb};

/// A log being read. Give it every segment in order of the names, then call `finish`.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The newest segment, not yet read: it may be the last.
    pending: Option<Segment>,
    /// The running crc; `None` until the first record gives it.
    chain: Option<u32>,
    metadata: Option<Bytes>,
    hard_state: raftpb::HardState,
    run: EntryRun,
    snapshots: Vec<walpb::Snapshot>,
    /// Index of the last entry or, if ahead of it, snapshot.
    last_index: u64,
}

#[derive(Debug)]
struct Segment {
    name: SegmentName,
    bytes: Bytes,
    /// One past the last byte that is not zero.
    used: usize,
}

/// Where reading a segment stopped.
struct End {
    offset: usize,
    torn: Option<CutReason>,
    /// A record other than the leading crc was read.
    has_head: bool,
}

impl Recovery {
    pub fn new() -> Self {
        Self::default()
    }

    /// Input: the whole content of the next segment.
    ///
    /// # Errors
    /// [`RecoveryError::SegmentMissing`] if it does not follow the one before; what is wrong with
    /// the one before.
    pub fn on_segment(&mut self, name: SegmentName, bytes: Bytes) -> Result<(), RecoveryError> {
        if let Some(former) = self.pending.take() {
            if former.name.sequence.checked_add(1) != Some(name.sequence) {
                return Err(RecoveryError::SegmentMissing {
                    former: former.name,
                    found: name,
                });
            }
            let end = self.replay(&former)?;
            if end.torn.is_some() {
                return Err(former.damaged(end.offset, Damage::TornInside));
            }
        }
        if name.sequence == u64::MAX {
            return Err(RecoveryError::SequenceEnds { segment: name });
        }
        self.pending = Some(Segment::new(name, bytes));
        Ok(())
    }

    /// Reads the last segment and tells how to go on.
    ///
    /// # Errors
    /// As [`RecoveryError`] says; a torn end is not one.
    pub fn finish(mut self) -> Result<Recovered, RecoveryError> {
        let last = self.pending.take().ok_or(RecoveryError::NoSegment)?;
        let chain_before = self.chain;
        let mut end = self.replay(&last)?;
        let Some(metadata) = self.metadata.clone() else {
            return Err(RecoveryError::NoMetadata { segment: last.name });
        };
        if !end.has_head {
            // Only a disk that reorders past a sync leaves this. Nothing can follow such a head.
            self.chain = chain_before;
            end.offset = 0;
            end.torn = Some(CutReason::HeadMissing);
        }
        Ok(Recovered {
            cut: last.cut(&end),
            tail: last.tail(end.offset, self.chain.unwrap_or(0), self.last_index),
            metadata,
            hard_state: self.hard_state,
            entries: self.run.into_entries(),
            snapshots: self.snapshots,
        })
    }

    fn replay(&mut self, segment: &Segment) -> Result<End, RecoveryError> {
        let mut end = End {
            offset: 0,
            torn: None,
            has_head: false,
        };
        loop {
            let damaged = |damage| segment.damaged(end.offset, damage);
            let (record, next) = match segment.record_at(end.offset).map_err(damaged)? {
                Found::End => return Ok(end),
                Found::Torn(reason) => {
                    end.torn = Some(reason);
                    return Ok(end);
                }
                Found::Record(record, next) => (record, next),
            };
            if let Err(damage) = self.check(&record) {
                if segment.is_torn(end.offset, next) {
                    end.torn = Some(CutReason::MissingSector);
                    return Ok(end);
                }
                return Err(damaged(damage));
            }
            end.has_head |= record.kind != RecordType::Crc as i64;
            self.accept(record).map_err(damaged)?;
            end.offset = next;
        }
    }

    /// Compares the record with the chain and moves the chain on, or leaves it alone.
    fn check(&mut self, record: &Record) -> Result<(), Damage> {
        let stored = record.crc;
        if record.kind == RecordType::Crc as i64 {
            return match self.chain {
                Some(computed) if computed != stored => Err(Damage::Chain { stored, computed }),
                _ => {
                    self.chain = Some(stored);
                    Ok(())
                }
            };
        }
        let computed = crc32c::crc32c_append(self.chain.unwrap_or(0), &record.data);
        if computed != stored {
            return Err(Damage::Crc { stored, computed });
        }
        self.chain = Some(computed);
        Ok(())
    }

    /// Takes in a record whose bytes are what was written.
    fn accept(&mut self, record: Record) -> Result<(), Damage> {
        match RecordType::from_number(record.kind) {
            None => Err(Damage::UnknownType { kind: record.kind }),
            Some(RecordType::Crc) => Ok(()),
            Some(RecordType::Metadata) => self.on_metadata(record.data),
            Some(RecordType::Entry) => self.on_entry(decode(record.data)?),
            Some(RecordType::State) => {
                self.hard_state = decode(record.data)?;
                Ok(())
            }
            Some(RecordType::Snapshot) => {
                let snapshot: walpb::Snapshot = decode(record.data)?;
                self.run.on_snapshot(&snapshot);
                self.last_index = self.last_index.max(snapshot.index());
                self.snapshots.push(snapshot);
                Ok(())
            }
        }
    }

    fn on_metadata(&mut self, data: Bytes) -> Result<(), Damage> {
        match &self.metadata {
            Some(known) if *known != data => Err(Damage::MetadataConflict),
            Some(_) => Ok(()),
            None => {
                // A copy: these few bytes must not keep the first segment in memory.
                self.metadata = Some(Bytes::copy_from_slice(&data));
                Ok(())
            }
        }
    }

    fn on_entry(&mut self, entry: raftpb::Entry) -> Result<(), Damage> {
        let found = entry.index();
        self.last_index = found;
        self.run
            .push(entry)
            .map_err(|former| Damage::EntryGap { former, found })
    }
}

fn decode<M: Message + Default>(data: Bytes) -> Result<M, Damage> {
    M::decode(data).map_err(|_| Damage::Undecodable)
}

/// What [`Segment::record_at`] found.
enum Found {
    End,
    Torn(CutReason),
    Record(Record, usize),
}

impl Segment {
    fn new(name: SegmentName, bytes: Bytes) -> Self {
        let used = used_len(&bytes);
        Self { name, bytes, used }
    }

    fn record_at(&self, offset: usize) -> Result<Found, Damage> {
        match frame::read(&self.bytes, offset) {
            Frame::End => Ok(Found::End),
            Frame::Malformed { field } => Err(Damage::Length { field }),
            Frame::CutShort { record_len: None } => Ok(Found::Torn(CutReason::ShortFile)),
            Frame::CutShort {
                record_len: Some(record_len),
            } => match self.contradicts(offset, record_len) {
                true => Err(Damage::LengthDisagrees { record_len }),
                false => Ok(Found::Torn(CutReason::ShortFile)),
            },
            Frame::Whole {
                start,
                record_len,
                next,
            } => match record::get(self.slice(start, start + record_len)) {
                Some(record) => Ok(Found::Record(record, next)),
                None if self.is_torn(offset, next) => Ok(Found::Torn(CutReason::MissingSector)),
                None => Err(Damage::Undecodable),
            },
        }
    }

    /// A few records of a mostly empty file are copied out of it, so that it can be freed.
    fn slice(&self, from: usize, to: usize) -> Bytes {
        if self.used < self.bytes.len() / 2 {
            Bytes::copy_from_slice(&self.bytes[from..to])
        } else {
            self.bytes.slice(from..to)
        }
    }

    /// Whether a crash explains that the frame at `offset..next` does not verify.
    fn is_torn(&self, offset: usize, next: usize) -> bool {
        let body = &self.bytes[offset + frame::LENGTH_BYTES..next];
        let pad_len = frame::pad_len(&self.bytes[offset..]);
        frame::lacks_a_sector(body, offset)
            && !self.contradicts(offset, (body.len() - pad_len) as u64)
    }

    fn contradicts(&self, offset: usize, record_len: u64) -> bool {
        let start = offset + frame::LENGTH_BYTES;
        let sector_end = (offset + 1).next_multiple_of(frame::SECTOR_BYTES);
        let in_sector = &self.bytes[start..sector_end.min(self.bytes.len())];
        record::contradicts(in_sector, record_len)
    }

    fn damaged(&self, offset: usize, damage: Damage) -> RecoveryError {
        RecoveryError::Damaged {
            segment: self.name,
            offset: offset as u64,
            damage,
        }
    }

    fn cut(&self, end: &End) -> Option<Cut> {
        let behind_end = (self.used > end.offset).then_some(CutReason::BytesAfterEnd);
        Some(Cut {
            segment: self.name,
            offset: end.offset as u64,
            lost_bytes: self.used.saturating_sub(end.offset) as u64,
            reason: end.torn.or(behind_end)?,
        })
    }

    fn tail(&self, end: usize, chain: u32, last_index: u64) -> Tail {
        let block_start = end - end % BLOCK_BYTES as usize;
        Tail {
            segment: self.name,
            end: end as u64,
            dirty_end: self.used.max(end) as u64,
            file_len: self.bytes.len() as u64,
            last_block: Bytes::copy_from_slice(&self.bytes[block_start..end]),
            chain,
            last_index,
        }
    }
}

/// One past the last byte that is not zero. Whole blocks of zeros are compared at once: most of a
/// preallocated segment is zero.
fn used_len(bytes: &[u8]) -> usize {
    const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
    let mut end = bytes.len();
    for chunk in bytes.rchunks(ZEROS.len()) {
        if *chunk != ZEROS[..chunk.len()] {
            break;
        }
        end -= chunk.len();
    }
    let at = bytes[..end].iter().rposition(|&byte| byte != 0);
    at.map_or(0, |at| at + 1)
}
