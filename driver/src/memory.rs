//! Memory at block boundaries, which direct I/O and the ring's buffers ask for.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::slice;

/// Direct I/O wants addresses, offsets and lengths in multiples of this.
pub const BLOCK_SIZE_BYTES: usize = 4096;

/// Whole blocks of zeroed memory at a block boundary, at least one. Its address never changes.
pub(crate) struct Blocks {
    start: NonNull<u8>,
    layout: Layout,
}

impl Blocks {
    /// Room for `len` bytes, rounded up to whole blocks.
    ///
    /// # Panics
    /// If the memory cannot be had. The caller bounds `len`.
    pub(crate) fn zeroed(len: usize) -> Self {
        let layout = layout_of(len);
        // SAFETY: the layout is not of size 0.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Blocks { start, layout },
            None => handle_alloc_error(layout),
        }
    }

    /// A copy of `bytes`, filled up to whole blocks with zeros.
    ///
    /// # Panics
    /// If the memory cannot be had. The caller bounds the length.
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let layout = layout_of(bytes.len());
        // SAFETY: the layout is not of size 0.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        let rest = layout.size() - bytes.len();
        // SAFETY: the block is new, so nothing overlaps it, and it holds at least `bytes.len()` bytes; what is behind them
        // is `rest` bytes long. So all of it is initialised.
        unsafe {
            start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            start.add(bytes.len()).write_bytes(0, rest);
        }
        Blocks { start, layout }
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes that we own and that nobody changes while they are
        // borrowed: an operation that writes to them owns the whole value.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }

    /// Where the blocks begin, for an operation that owns them.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

/// Whole blocks that have room for `len` bytes, at least one.
fn layout_of(len: usize) -> Layout {
    let len = len.max(1).next_multiple_of(BLOCK_SIZE_BYTES);
    Layout::from_size_align(len, BLOCK_SIZE_BYTES)
        .expect("a length that a caller bounds fits the address space")
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: `start` came from the allocator with this layout and is given back once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({} bytes)", self.len())
    }
}
