//! Segments of records whose framing and checksums are right unless the input wants otherwise.
//!
//! Changed octets nearly always end at the checksum; what lies behind it is reached from here.

use bytes::Bytes;
use prost::Message;
use proto::{raftpb, walpb};

use crate::input::Input;

const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CRC: i64 = 4;
const SNAPSHOT: i64 = 5;

const SEGMENT_COUNT_MAX: usize = 4;

#[derive(Default)]
struct Builder {
    segments: Vec<Vec<u8>>,
    chain: u32,
    /// Of the last sound entry or snapshot.
    index: u64,
}

pub(super) fn segments(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let mut builder = Builder::default();
    let bits = input.byte();
    builder.begin_segment();
    if bits & 1 == 0 {
        builder.put(METADATA, b"whose", 0);
        builder.put_snapshot(0, 0, 0);
    }
    while !input.is_empty() {
        builder.put_any(input);
    }
    if let Some(last) = builder.segments.last_mut() {
        last.resize(last.len() + usize::from(bits) * 16, 0);
    }
    builder.segments
}

impl Builder {
    fn begin_segment(&mut self) {
        self.segments.push(Vec::new());
        self.put(CRC, &[], 0);
    }

    fn put_any(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        // The faults; three of four records have none.
        let faults = if what >> 6 == 3 { input.byte() } else { 0 };
        match what & 0xf {
            0..=4 => self.put_entry(input, faults),
            5 | 6 => {
                let state =
                    raftpb::HardState::explicit(input.byte().into(), 0, input.byte().into());
                self.put(STATE, &state.encode_to_vec(), faults);
            }
            7 | 8 => {
                let (ahead, term) = (u64::from(input.byte() % 8), u64::from(input.byte() % 4));
                self.put_snapshot(self.index.saturating_add(ahead), term, faults);
            }
            9 => self.put(METADATA, b"whose", faults),
            10 if self.segments.len() < SEGMENT_COUNT_MAX => {
                self.begin_segment();
                self.put(METADATA, b"whose", faults);
            }
            11 => self.put(CRC, &[], faults),
            12 => self.put_octets(input),
            _ => {
                let kind = i64::from(input.byte() % 7);
                let data = input.piece();
                self.put(kind, data, faults);
            }
        }
    }

    fn put_entry(&mut self, input: &mut Input<'_>, faults: u8) {
        let bits = input.byte();
        // Mostly the next one; else one that replaces former ones, or leaves a hole.
        let index = match bits & 7 {
            0 => u64::from(input.byte()),
            1 => self.index.saturating_sub(u64::from(input.byte() % 4)),
            2 if bits == 2 => u64::MAX - u64::from(input.byte() % 3),
            _ => self.index.saturating_add(1),
        };
        let kind = match bits >> 3 & 7 {
            0 => raftpb::EntryType::EntryConfChange,
            _ => raftpb::EntryType::EntryNormal,
        };
        let term = u64::from(bits >> 6);
        let data = Bytes::copy_from_slice(input.piece());
        let entry = raftpb::Entry::explicit(kind, term, index, data);
        self.index = index;
        self.put(ENTRY, &entry.encode_to_vec(), faults);
    }

    fn put_snapshot(&mut self, index: u64, term: u64, faults: u8) {
        let snapshot = walpb::Snapshot::explicit(index, term, None);
        self.put(SNAPSHOT, &snapshot.encode_to_vec(), faults);
    }

    fn put_octets(&mut self, input: &mut Input<'_>) {
        let octets = input.piece();
        self.out().extend_from_slice(octets);
    }

    /// A record: length field, `walpb.Record`, zeros up to a multiple of 8.
    fn put(&mut self, kind: i64, data: &[u8], faults: u8) {
        let mut crc = self.chain;
        if kind != CRC {
            crc = crc32c::crc32c_append(self.chain, data);
        }
        self.chain = crc;
        let stored = if faults & 1 == 0 { crc } else { !crc };
        let data = Bytes::copy_from_slice(data);
        let record = walpb::Record::explicit(kind, stored, data).encode_to_vec();
        let len = record.len() as u64 ^ u64::from(faults >> 1 & 3);
        let pad_len = record.len().wrapping_neg() % 8;
        let flags = match pad_len {
            0 => 0,
            pad_len => 0x80 | pad_len as u64,
        };
        let field = len | (flags ^ u64::from(faults >> 3 & 1)) << 56;
        let out = self.out();
        out.extend_from_slice(&field.to_le_bytes());
        out.extend_from_slice(&record);
        out.resize(out.len() + pad_len, 0);
        if faults & 0x10 != 0 {
            let sector = out.len().saturating_sub(1) / 512 * 512;
            out[sector..].fill(0);
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        self.segments.last_mut().expect("one was begun")
    }
}
