//! Where the chunks of a tail are: a table of blocks of chunks, shared with readers.
//!
//! A change copies the table and one block and leaves the rest shared. It comes once for many mutations: when a chunk
//! is begun, and when some are forgotten.

use std::sync::Arc;

use super::Mutation;
use super::chunk::{CHUNK_LEN, Chunk, Slots};

/// Chunks per block.
const BLOCK_LEN: usize = 64;
/// Positions per block.
pub(super) const BLOCK_POSITION_COUNT: u64 = (BLOCK_LEN * CHUNK_LEN) as u64;

/// See the module text.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// Blocks dropped from the front, with nothing left in them.
    dropped: u64,
    /// Every block but the last one is full.
    blocks: Vec<Arc<Vec<Chunk>>>,
}

impl Directory {
    /// One that begins behind `count` blocks which it never had.
    pub(super) fn behind(count: u64) -> Self {
        Directory {
            dropped: count,
            blocks: Vec::new(),
        }
    }

    /// The first position that a chunk here has.
    pub(super) fn first(&self) -> u64 {
        self.dropped * BLOCK_POSITION_COUNT
    }

    /// The mutation at a position.
    pub(super) fn get(&self, position: u64) -> Option<&Mutation> {
        let (block, chunk, slot) = self.place(position)?;
        let slots = self.blocks.get(block)?.get(chunk)?.as_ref()?;
        slots.get(slot)?.get()
    }

    fn place(&self, position: u64) -> Option<(usize, usize, usize)> {
        let offset = position.checked_sub(self.first())?;
        let block = usize::try_from(offset / BLOCK_POSITION_COUNT).ok()?;
        let within = (offset % BLOCK_POSITION_COUNT) as usize;
        Some((block, within / CHUNK_LEN, within % CHUNK_LEN))
    }

    pub(super) fn push(&mut self, slots: Slots) {
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK_LEN => Arc::make_mut(block).push(Some(slots)),
            _ => self.blocks.push(Arc::new(vec![Some(slots)])),
        }
    }

    /// Takes out the chunk of a position.
    pub(super) fn take(&mut self, position: u64) -> Option<Slots> {
        let (block, chunk, _) = self.place(position)?;
        let block = self.blocks.get_mut(block)?;
        Arc::make_mut(block).get_mut(chunk)?.take()
    }

    /// Drops blocks from the front that have nothing left and get nothing new.
    pub(super) fn drop_front(&mut self) {
        let is_done =
            |block: &Arc<Vec<Chunk>>| block.len() == BLOCK_LEN && block.iter().all(Option::is_none);
        let count = self
            .blocks
            .iter()
            .take_while(|block| is_done(block))
            .count();
        self.blocks.drain(..count);
        self.dropped += count as u64;
    }
}
