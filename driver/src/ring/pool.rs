//! Buffers that the kernel picks from when bytes arrive, so that an idle connection owns none.

#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::memory::{BLOCK_SIZE_BYTES, Blocks};

/// The ring's number for our group of buffers.
pub(super) const GROUP: u16 = 0;
/// A power of two; the entries fill one block.
const BUFFER_COUNT: u16 = 256;
/// Most bytes that one receive brings.
pub(super) const BUFFER_SIZE_BYTES: usize = 16 * 1024;

/// The buffers and the queue in which the kernel finds the free ones.
pub(super) struct Pool {
    entries: Blocks,
    buffers: Blocks,
    /// How many buffers were ever queued, modulo 2^16.
    tail: u16,
}

impl Pool {
    /// Registers the buffers with a ring. They must stay alive for as long as the ring does.
    ///
    /// # Errors
    /// `InvalidInput` before Linux 5.19.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let size = usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>();
        debug_assert!(size == BLOCK_SIZE_BYTES);
        let mut pool = Pool {
            entries: Blocks::zeroed(size),
            buffers: Blocks::zeroed(usize::from(BUFFER_COUNT) * BUFFER_SIZE_BYTES),
            tail: 0,
        };
        let address = pool.entries.as_ptr() as u64;
        // SAFETY: the memory is block-aligned, has room for all entries, and `Kernel` drops the pool after its ring.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFER_COUNT, GROUP, 0)? };
        for number in 0..BUFFER_COUNT {
            pool.give_back(number);
        }
        Ok(pool)
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    pub(super) fn filled(&self, number: u16, len: usize) -> &[u8] {
        let start = usize::from(number % BUFFER_COUNT) * BUFFER_SIZE_BYTES;
        &self.buffers.as_slice()[start..start + len.min(BUFFER_SIZE_BYTES)]
    }

    /// Lets the kernel use a buffer again.
    pub(super) fn give_back(&mut self, number: u16) {
        let number = number % BUFFER_COUNT;
        let base = self.entries.as_ptr().cast::<BufRingEntry>();
        let index = usize::from(self.tail % BUFFER_COUNT);
        // SAFETY: `index` is within the entries, and the kernel reads an entry only once the tail has passed it.
        // Entry 0 shares its last two bytes with the tail; the setters below leave them alone.
        let entry = unsafe { &mut *base.add(index) };
        let offset = usize::from(number) * BUFFER_SIZE_BYTES;
        entry.set_addr(self.buffers.as_ptr() as u64 + offset as u64);
        entry.set_len(BUFFER_SIZE_BYTES as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the first of the registered entries; the tail lies in it, 2-byte aligned, and is only
        // ever accessed as an atomic by us. Release: the kernel sees the entry before the tail.
        unsafe {
            let tail = BufRingEntry::tail(base).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}
