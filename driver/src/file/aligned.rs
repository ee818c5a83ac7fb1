//! Owned memory for direct I/O.

pub use crate::memory::BLOCK_SIZE_BYTES;
use crate::memory::Blocks;

/// A buffer of whole blocks at a block-aligned address. Goes into an operation and comes back with it.
pub struct AlignedBuf {
    /// `None` for a buffer of no blocks.
    blocks: Option<Blocks>,
}

impl AlignedBuf {
    /// `len` bytes of zeros, `len` rounded up to whole blocks.
    ///
    /// # Panics
    /// If the memory cannot be had. The caller bounds `len`.
    pub fn zeroed(len: usize) -> Self {
        Self {
            blocks: (len > 0).then(|| Blocks::zeroed(len)),
        }
    }

    /// A copy of `bytes`, filled up to whole blocks with zeros.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self {
            blocks: (!bytes.is_empty()).then(|| Blocks::copy_of(bytes)),
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_none()
    }

    pub fn as_slice(&self) -> &[u8] {
        self.blocks.as_ref().map_or(&[], Blocks::as_slice)
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.blocks.as_mut().map_or(&mut [], Blocks::as_mut_slice)
    }

    /// Gives the memory to an operation.
    pub(super) fn into_blocks(self) -> Option<Blocks> {
        self.blocks
    }

    pub(super) fn from_blocks(blocks: Blocks) -> Self {
        Self {
            blocks: Some(blocks),
        }
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
}
