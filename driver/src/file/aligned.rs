//! Owned memory for direct I/O.

use std::rc::Rc;

use glommio::allocate_dma_buffer_global;
use glommio::io::DmaBuffer;

/// Direct I/O wants addresses, offsets and lengths in multiples of this.
pub const BLOCK_SIZE_BYTES: usize = 4096;

/// A buffer of whole blocks at a block-aligned address. Goes into an operation and comes back with it.
pub struct AlignedBuf {
    /// `None` for a buffer of no blocks. Shared with the ring only while an operation is under way.
    memory: Option<Rc<DmaBuffer>>,
}

impl AlignedBuf {
    /// `len` bytes of zeros, `len` rounded up to whole blocks.
    ///
    /// # Panics
    /// If the memory cannot be had. The caller bounds `len`.
    pub fn zeroed(len: usize) -> Self {
        let len = len.next_multiple_of(BLOCK_SIZE_BYTES);
        if len == 0 {
            return Self { memory: None };
        }
        let mut memory = allocate_dma_buffer_global(len);
        memory.as_bytes_mut().fill(0);
        Self {
            memory: Some(Rc::new(memory)),
        }
    }

    /// A copy of `bytes`, filled up to whole blocks with zeros.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let len = bytes.len().next_multiple_of(BLOCK_SIZE_BYTES);
        if len == 0 {
            return Self { memory: None };
        }
        let mut memory = allocate_dma_buffer_global(len);
        let (head, tail) = memory.as_bytes_mut().split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        tail.fill(0);
        Self {
            memory: Some(Rc::new(memory)),
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.memory.is_none()
    }

    pub fn as_slice(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| memory.as_bytes())
    }

    /// The bytes to write to. Copies them first in the one case that a former operation on this buffer was
    /// given up and the ring still holds it.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let Some(memory) = &mut self.memory else {
            return &mut [];
        };
        if Rc::get_mut(memory).is_none() {
            let mut copy = allocate_dma_buffer_global(memory.len());
            copy.as_bytes_mut().copy_from_slice(memory.as_bytes());
            *memory = Rc::new(copy);
        }
        Rc::get_mut(memory)
            .expect("made unique just above")
            .as_bytes_mut()
    }

    /// Shares the memory with an operation on the ring.
    pub(super) fn share(&self) -> Option<Rc<DmaBuffer>> {
        self.memory.clone()
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_whole_aligned_blocks() {
        for len in [1, 4095, 4096, 4097, 100_000] {
            let buf = AlignedBuf::copy_of(&vec![7; len]);
            assert_eq!(buf.len(), len.next_multiple_of(BLOCK_SIZE_BYTES));
            assert_eq!(buf.as_slice().as_ptr() as usize % BLOCK_SIZE_BYTES, 0);
            assert!(buf.as_slice()[..len].iter().all(|&b| b == 7));
            assert!(buf.as_slice()[len..].iter().all(|&b| b == 0));
            assert!(AlignedBuf::zeroed(len).as_slice().iter().all(|&b| b == 0));
        }
        assert!(AlignedBuf::zeroed(0).is_empty());
        assert_eq!(AlignedBuf::copy_of(&[]).as_mut_slice(), []);
    }

    #[test]
    fn shared_memory_is_not_written_to() {
        let mut buf = AlignedBuf::copy_of(b"old");
        let held = buf.share().unwrap();
        buf.as_mut_slice()[..3].copy_from_slice(b"new");
        assert_eq!(&held.as_bytes()[..3], b"old");
        assert_eq!(&buf.as_slice()[..3], b"new");
    }
}
