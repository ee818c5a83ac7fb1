//! Segments of any bytes: recovery gives an answer, in memory bounded by what it was given.

use bytes::Bytes;
use engine::wal::{Recovered, Recovery, RecoveryError, SegmentName, Wal, WalOptions};
use proptest::prelude::*;

const OURS: &[u8] = include_bytes!("../golden/etcore.wal");

fn recover(segments: &[Vec<u8>]) -> Result<Recovered, RecoveryError> {
    let mut recovery = Recovery::new();
    for (sequence, content) in segments.iter().enumerate() {
        let name = SegmentName {
            sequence: sequence as u64,
            first_index: 0,
        };
        recovery.on_segment(name, Bytes::copy_from_slice(content))?;
    }
    recovery.finish()
}

/// Whatever was accepted can be gone on from.
fn check(result: Result<Recovered, RecoveryError>, given: usize) {
    let Ok(recovered) = result else {
        return;
    };
    let options = WalOptions::default();
    assert!(recovered.entries.len() + recovered.snapshots.len() <= given / 8);
    let tail = &recovered.tail;
    assert!(tail.end <= tail.dirty_end);
    assert_eq!(tail.last_block.len() as u64, tail.end % 4096);
    let mut wal = Wal::resume(&recovered, options);
    while let Some(io) = wal.poll_io() {
        wal.on_io_done(io.ticket, Ok(()));
    }
    assert!(wal.is_settled());
}

proptest! {
    #[test]
    fn any_bytes(segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..4)) {
        let given = segments.iter().map(Vec::len).sum();
        check(recover(&segments), given);
    }

    #[test]
    fn a_changed_log(
        changes in prop::collection::vec((0..OURS.len(), any::<u8>()), 0..4),
        len in 0..OURS.len() * 2,
        padding in 0usize..2000,
    ) {
        let mut segment = OURS.to_vec();
        for (at, byte) in changes {
            segment[at] = byte;
        }
        segment.truncate(len);
        segment.resize(segment.len() + padding, 0);
        let given = segment.len();
        check(recover(&[segment.clone()]), given);
        check(recover(&[segment, OURS.to_vec()]), given + OURS.len());
    }
}
