//! Records: what a frame holds, and the checksum chain through them.
//!
//! A record is `walpb.Record { type = 1, crc = 2, data = 3 }`. `crc` is the CRC-32C of the `data`
//! of every record of the log so far, this one included, whichever segment they lie in. A `Crc`
//! record begins each segment; it repeats the running value and adds nothing to it.
//!
//! Fields are always written, zero or not: `etcd-dump-logs` of 3.7 fails on entries without a type,
//! and readers of 3.6 and older never met an unset field.

use super::frame;
use bytes::Bytes;
use prost::Message;
use proto::{raftpb, walpb};

/// What the `data` of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordType {
    /// The member's and the cluster's id (`etcdserverpb.Metadata`); opaque here.
    Metadata = 1,
    /// `raftpb.Entry`.
    Entry = 2,
    /// `raftpb.HardState`.
    State = 3,
    /// No data; the running crc.
    Crc = 4,
    /// `walpb.Snapshot`.
    Snapshot = 5,
}

impl RecordType {
    pub(super) fn from_number(number: i64) -> Option<Self> {
        [
            Self::Metadata,
            Self::Entry,
            Self::State,
            Self::Crc,
            Self::Snapshot,
        ]
        .into_iter()
        .find(|&kind| kind as i64 == number)
    }
}

/// Appends a whole frame to `out` and returns the chain's value after it.
pub(super) fn put(out: &mut Vec<u8>, chain: u32, kind: RecordType, data: &[u8]) -> u32 {
    let chain = crc32c::crc32c_append(chain, data);
    let start = frame::begin(out);
    out.extend_from_slice(&[0x08, kind as u8, 0x10]);
    prost::encoding::encode_varint(u64::from(chain), out);
    if kind != RecordType::Crc {
        out.push(0x1a);
        prost::encoding::encode_varint(data.len() as u64, out);
        out.extend_from_slice(data);
    }
    frame::end(out, start);
    chain
}

/// A record as read: its type, the crc stored with it, its data (a slice of the segment).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: i64,
    pub(super) crc: u32,
    pub(super) data: Bytes,
}

/// Decodes the record in a frame; `None` if it is no `walpb.Record`.
pub(super) fn get(bytes: Bytes) -> Option<Record> {
    let record = walpb::Record::decode(bytes).ok()?;
    Some(Record {
        kind: record.r#type(),
        crc: record.crc(),
        data: record.data.unwrap_or_default(),
    })
}

/// Whether the start of a record tells another length than its frame does.
///
/// A crash loses whole sectors, so a length field and the record's own head in the same sector
/// agree, or the head was never written. If they disagree the bytes were changed: what looks like a
/// record without its end is damage. `in_sector` holds the record's bytes that share a sector with
/// the length field.
pub(super) fn contradicts(in_sector: &[u8], record_len: u64) -> bool {
    if in_sector.iter().all(|&byte| byte == 0) {
        return false;
    }
    let mut rest = in_sector;
    let known = (|| {
        take_tag(&mut rest, 0x08)?;
        take_tag(&mut rest, 0x10)?;
        let head = |rest: &[u8]| (in_sector.len() - rest.len()) as u64;
        if head(rest) == record_len {
            return Some(record_len);
        }
        let data_len = take_tag(&mut rest, 0x1a)?;
        head(rest).checked_add(data_len)
    })();
    // A head that leaves its sector, or was written in a way unknown here, tells nothing.
    known.is_some_and(|known| known != record_len)
}

fn take_tag(rest: &mut &[u8], tag: u8) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    if first != tag {
        return None;
    }
    prost::encoding::decode_varint(rest).ok()
}

/// `data` of an entry record, appended to `out`.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &raftpb::Entry) {
    let head = raftpb::Entry {
        r#type: Some(entry.r#type.unwrap_or_default()),
        term: Some(entry.term()),
        index: Some(entry.index()),
        data: None,
    };
    put_explicit(out, &head);
    // The last field; the derived encoder would share the bytes first, only to copy them.
    if let Some(data) = &entry.data {
        out.push(0x22);
        prost::encoding::encode_varint(data.len() as u64, out);
        out.extend_from_slice(data);
    }
}

/// `data` of a state record, appended to `out`.
pub(super) fn put_state(out: &mut Vec<u8>, state: &raftpb::HardState) {
    put_explicit(
        out,
        &raftpb::HardState {
            term: Some(state.term()),
            vote: Some(state.vote()),
            commit: Some(state.commit()),
        },
    );
}

/// `data` of a snapshot record, appended to `out`.
pub(super) fn put_snapshot(out: &mut Vec<u8>, snapshot: &walpb::Snapshot) {
    put_explicit(
        out,
        &walpb::Snapshot {
            index: Some(snapshot.index()),
            term: Some(snapshot.term()),
            conf_state: snapshot.conf_state.clone(),
        },
    );
}

fn put_explicit(out: &mut Vec<u8>, message: &impl Message) {
    message
        .encode(out)
        .expect("a vector grows as far as a message needs");
}

/// No vote, no term, no commit: such a state is never written.
pub(super) fn is_empty_state(state: &raftpb::HardState) -> bool {
    state.term() == 0 && state.vote() == 0 && state.commit() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_fields_are_written() {
        let mut out = Vec::new();
        put_entry(&mut out, &raftpb::Entry::default());
        assert_eq!(out, [8, 0, 16, 0, 24, 0]);
        out.clear();
        put_state(&mut out, &raftpb::HardState::default());
        assert_eq!(out, [8, 0, 16, 0, 24, 0]);
        out.clear();
        put_snapshot(&mut out, &walpb::Snapshot::default());
        assert_eq!(out, [8, 0, 16, 0]);
    }

    #[test]
    fn the_chain_runs_over_data_only() {
        let mut out = Vec::new();
        let first = put(&mut out, 0, RecordType::Entry, b"12345");
        let again = put(&mut out, first, RecordType::Crc, b"");
        assert_eq!(first, again);
        assert_eq!(
            put(&mut out, again, RecordType::State, b"6789"),
            0xe306_9283
        );
    }

    #[test]
    fn a_head_that_disagrees_with_its_frame_is_seen() {
        let mut out = Vec::new();
        put(&mut out, 7, RecordType::Entry, &[9; 100]);
        let record = &out[8..];
        let len = u64::from(out[0]);
        assert!(!contradicts(record, len));
        assert!(contradicts(record, len + 8));
        assert!(contradicts(record, len ^ (1 << 40)));
        assert!(!contradicts(&record[..3], len + 8));
        assert!(!contradicts(&[0; 100], len));
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_written(kind in 1i64..=5, chain: u32, data in prop::collection::vec(any::<u8>(), 0..300)) {
            let kind = RecordType::from_number(kind).unwrap();
            let data = if kind == RecordType::Crc { Vec::new() } else { data };
            let mut out = Vec::new();
            let crc = put(&mut out, chain, kind, &data);
            prop_assert!(out.len() <= data.len() + frame::OVERHEAD_MAX);
            let frame::Frame::Whole { start, record_len, .. } = frame::read(&out, 0) else {
                panic!("no frame");
            };
            let record = get(Bytes::from(out).slice(start..start + record_len)).unwrap();
            prop_assert_eq!(record, Record { kind: kind as i64, crc, data: data.into() });
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), len: u64) {
            contradicts(&bytes, len);
            if let Some(record) = get(Bytes::from(bytes.clone())) {
                prop_assert!(record.data.len() <= bytes.len());
            }
        }
    }
}
