//! Bump allocation of short-lived [`Bytes`]: many to one piece of memory.
//!
//! Entries and pairs come by the ten thousand a second, are shared, and go in the order in which they came. Each in an
//! allocation of its own costs two calls of the allocator when it comes (its bytes, and the count of those who share
//! them) and two when it goes, on memory that has long left the cache. Here they lie behind each other in a chunk, which
//! is freed as a whole with the last of them.
//!
//! So whoever keeps one keeps its chunk: what stays for long must be a copy.

use bytes::{Bytes, BytesMut};

/// Some hundred usual entries.
const CHUNK_LEN: usize = 32 * 1024;
/// Longer ones get an allocation of their own, so that the rest of a chunk that goes to waste is small.
const LEN_MAX: usize = CHUNK_LEN / 8;

/// Where the next bytes are put.
#[derive(Debug, Default)]
pub(crate) struct Bump {
    chunk: BytesMut,
}

impl Bump {
    /// The bytes that `write` appends; `len` of them.
    pub(crate) fn make(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if len > LEN_MAX {
            let mut own = BytesMut::with_capacity(len);
            write(&mut own);
            return own.freeze();
        }
        if self.chunk.capacity() < len {
            self.chunk = BytesMut::with_capacity(CHUNK_LEN);
        }
        write(&mut self.chunk);
        debug_assert_eq!(self.chunk.len(), len);
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn filled(bump: &mut Bump, len: usize, byte: u8) -> Bytes {
        bump.make(len, |out| out.put_bytes(byte, len))
    }

    #[test]
    fn bytes_stay_as_they_were_written_whatever_comes_and_goes() {
        let mut bump = Bump::default();
        let lens = [0, 1, 300, LEN_MAX, LEN_MAX + 1, 5000, 17, CHUNK_LEN, 4000];
        let mut kept = Vec::new();
        for (round, len) in lens.iter().cycle().take(400).enumerate() {
            let bytes = filled(&mut bump, *len, round as u8);
            if round % 3 == 0 {
                kept.push((round, *len, bytes));
            }
        }
        for (round, len, bytes) in kept {
            assert_eq!(bytes.len(), len);
            assert!(bytes.iter().all(|byte| *byte == round as u8));
        }
    }

    #[test]
    fn small_ones_lie_behind_each_other() {
        let mut bump = Bump::default();
        let first = filled(&mut bump, 100, 1);
        let second = filled(&mut bump, 100, 2);
        assert_eq!(first.as_ptr().wrapping_add(100), second.as_ptr());
    }
}
