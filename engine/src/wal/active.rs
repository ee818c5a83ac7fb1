//! The segment that records go to: its end, its last block, its room.

use super::ahead::{self, Claimed};
use super::io::{BLOCK_BYTES, FileNo, WalFile, WalOp};
use super::{SegmentName, Tail, WalOptions};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// A segment as far as it is started to be written.
///
/// Writes are whole blocks. The block that holds the end is written again with each group: it keeps
/// its former bytes, so a crash that loses sectors of it loses only what the group added.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: FileNo,
    pub(super) name: SegmentName,
    /// Offset of the next frame. 0: the head comes first.
    pub(super) end: u64,
    /// Claimed length; whole blocks.
    pub(super) capacity: u64,
    /// The segment's bytes from the last block boundary to `end`.
    last_block: Vec<u8>,
    /// Still to be overwritten with zeros; behind `end`, whole blocks.
    unzeroed: Range<u64>,
    /// A `Zero` that is under way.
    zeroing: Option<Range<u64>>,
}

impl Active {
    /// A claimed file as the segment `name`.
    pub(super) fn begin(claimed: Claimed, name: SegmentName) -> Self {
        Self {
            file: claimed.file,
            name,
            end: 0,
            capacity: claimed.len,
            last_block: Vec::new(),
            unzeroed: claimed.unzeroed,
            zeroing: None,
        }
    }

    /// The segment that recovery ended in. Whether its free blocks were ever written is not known,
    /// so all of them are zeroed once more.
    pub(super) fn resume(file: FileNo, tail: &Tail, options: &WalOptions) -> Self {
        // A last block that is there in part is claimed as a whole, since what is in it is overwritten.
        let whole_blocks = tail.file_len.next_multiple_of(BLOCK_BYTES);
        let capacity = whole_blocks.max(options.segment_bytes);
        let lead = (tail.end + options.zero_lead_bytes).min(capacity);
        let clean = tail.dirty_end.max(lead).next_multiple_of(BLOCK_BYTES);
        Self {
            file,
            name: tail.segment,
            end: tail.end,
            capacity,
            last_block: tail.last_block.to_vec(),
            unzeroed: clean..capacity.max(clean),
            zeroing: None,
        }
    }

    /// What must be durable before the first append: the claimed length, zeros from `end` on, the name.
    /// Zeros where zeros are already, up to the lead, are for the speed of the first groups.
    pub(super) fn repair(&self, tail: &Tail, options: &WalOptions) -> VecDeque<WalOp> {
        let file = self.file;
        let name = WalFile::Segment(self.name);
        let mut steps = VecDeque::from([WalOp::Open { file, name }]);
        if tail.file_len < self.capacity {
            let len = self.capacity;
            steps.push_back(WalOp::Allocate { file, len });
        }
        let mut unzeroed = tail.end.next_multiple_of(BLOCK_BYTES)..self.unzeroed.start;
        if tail.dirty_end > tail.end && !self.last_block.is_empty() {
            let mut block = self.last_block.clone();
            block.resize(BLOCK_BYTES as usize, 0);
            steps.push_back(WalOp::Write {
                file,
                offset: self.write_start(),
                blocks: block.into(),
            });
        }
        let zeros = || ahead::take_zero_piece(file, &mut unzeroed, options);
        steps.extend(std::iter::from_fn(zeros));
        steps.push_back(WalOp::Sync { file });
        // The last life may have ended between the rename of this segment and the sync of its name.
        steps.push_back(WalOp::SyncDirectory);
        steps
    }

    /// Offset of the block that the next frame begins in.
    fn write_start(&self) -> u64 {
        self.end - self.end % BLOCK_BYTES
    }

    /// Whether frames of this many bytes end within the claimed length.
    pub(super) fn fits(&self, len_max: u64) -> bool {
        self.end + len_max <= self.capacity
    }

    /// Whether no `Zero` is under way where frames of this many bytes may go.
    pub(super) fn is_free(&self, len_max: u64) -> bool {
        let write_end = (self.end + len_max).next_multiple_of(BLOCK_BYTES);
        let is_behind = |zeroing: &Range<u64>| zeroing.start >= write_end;
        self.zeroing.as_ref().is_none_or(is_behind)
    }

    /// The first bytes of the next write: what the last block holds already.
    pub(super) fn begin_write(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.last_block)
    }

    /// Makes a write of what `begin_write` gave and the frames appended to it.
    pub(super) fn end_write(&mut self, mut bytes: Vec<u8>) -> WalOp {
        let offset = self.write_start();
        self.end = offset + bytes.len() as u64;
        assert!(
            self.end <= self.capacity,
            "end {} past {}",
            self.end,
            self.capacity
        );
        let block_len = (self.end % BLOCK_BYTES) as usize;
        self.last_block = bytes[bytes.len() - block_len..].to_vec();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        let write_end = offset + bytes.len() as u64;
        self.unzeroed.start = self.unzeroed.start.max(write_end);
        WalOp::Write {
            file: self.file,
            offset,
            blocks: Bytes::from(bytes),
        }
    }

    /// The next piece to zero in front of the writer.
    pub(super) fn poll_zero(&mut self, options: &WalOptions) -> Option<WalOp> {
        assert!(self.zeroing.is_none(), "two pieces at a time");
        let lead = (self.end + options.zero_lead_bytes).next_multiple_of(BLOCK_BYTES);
        let start = self.unzeroed.start.max(lead);
        self.unzeroed.start = start;
        let op = ahead::take_zero_piece(self.file, &mut self.unzeroed, options)?;
        self.zeroing = Some(start..self.unzeroed.start);
        Some(op)
    }

    /// Input: the piece is done.
    pub(super) fn on_zeroed(&mut self) {
        self.zeroing = None;
    }
}
