//! Where the chunks of a tail are: a table of blocks of chunks, shared with readers.
//!
//! A change copies the table and one block and leaves the rest shared. It comes once for many mutations: when a chunk
//! is begun, and when a compaction has thinned one out.

use std::sync::Arc;

use super::chunk::{CHUNK_LEN, Chunk};

/// Chunks per block.
const BLOCK_LEN: usize = 64;
/// Positions per block.
const BLOCK_POSITION_COUNT: u64 = (BLOCK_LEN * CHUNK_LEN) as u64;

/// See the module text.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// Blocks dropped from the front, with nothing left in them.
    dropped: u64,
    /// Every block but the last one is full.
    blocks: Vec<Arc<Vec<Chunk>>>,
}

impl Directory {
    /// The first position that a chunk here has.
    pub(super) fn first(&self) -> u64 {
        self.dropped * BLOCK_POSITION_COUNT
    }

    /// The chunk of a position and the slot in it.
    pub(super) fn locate(&self, position: u64) -> Option<(&Chunk, usize)> {
        let (block, chunk, slot) = self.place(position)?;
        Some((self.blocks.get(block)?.get(chunk)?, slot))
    }

    fn place(&self, position: u64) -> Option<(usize, usize, usize)> {
        let offset = position.checked_sub(self.first())?;
        let block = usize::try_from(offset / BLOCK_POSITION_COUNT).ok()?;
        let within = (offset % BLOCK_POSITION_COUNT) as usize;
        Some((block, within / CHUNK_LEN, within % CHUNK_LEN))
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK_LEN => Arc::make_mut(block).push(chunk),
            _ => self.blocks.push(Arc::new(vec![chunk])),
        }
    }

    /// Puts another chunk in the place of the one with this position.
    pub(super) fn replace(&mut self, position: u64, with: Chunk) {
        let Some((block, chunk, _)) = self.place(position) else {
            return;
        };
        if let Some(place) = self
            .blocks
            .get_mut(block)
            .and_then(|block| Arc::make_mut(block).get_mut(chunk))
        {
            *place = with;
        }
    }

    /// Drops blocks from the front that have nothing left and get nothing new.
    pub(super) fn drop_front(&mut self) {
        let is_done =
            |block: &Arc<Vec<Chunk>>| block.len() == BLOCK_LEN && block.iter().all(Chunk::is_empty);
        let count = self
            .blocks
            .iter()
            .take_while(|block| is_done(block))
            .count();
        self.blocks.drain(..count);
        self.dropped += count as u64;
    }
}
