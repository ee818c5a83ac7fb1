//! Bytes received, and the numbers and pieces at their head.

use bytes::{Buf, Bytes, BytesMut};

use super::StreamError;

/// Length of a number in a frame.
const U64_LEN: usize = 8;

/// What was received and not yet understood, of a stream whose first error is its last word.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: BytesMut,
    failed: Option<StreamError>,
}

impl Received {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// # Errors
    /// The one that was noted.
    pub(super) fn check(&self) -> Result<(), StreamError> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Remembers an error, and gives back what it was given.
    pub(super) fn note<T>(&mut self, taken: Result<T, StreamError>) -> Result<T, StreamError> {
        self.failed = taken.as_ref().err().copied();
        taken
    }

    pub(super) fn take_byte(&mut self) -> Option<u8> {
        let first = *self.bytes.first()?;
        self.bytes.advance(1);
        Some(first)
    }

    pub(super) fn take_u64(&mut self) -> Option<u64> {
        let number = self.peek_u64()?;
        self.bytes.advance(U64_LEN);
        Some(number)
    }

    /// The next piece with its length before it, once it is whole.
    ///
    /// # Errors
    /// [`StreamError::TooLarge`], as soon as the length is known.
    pub(super) fn take_piece(&mut self, limit_bytes: usize) -> Result<Option<Bytes>, StreamError> {
        let Some(size_bytes) = self.peek_u64() else {
            return Ok(None);
        };
        let len = match usize::try_from(size_bytes) {
            Ok(len) if len <= limit_bytes => len,
            _ => {
                return Err(StreamError::TooLarge {
                    size_bytes,
                    limit_bytes,
                });
            }
        };
        if self.bytes.len() - U64_LEN < len {
            return Ok(None);
        }
        self.bytes.advance(U64_LEN);
        Ok(Some(self.bytes.split_to(len).freeze()))
    }

    fn peek_u64(&self) -> Option<u64> {
        let head = self.bytes.first_chunk::<U64_LEN>()?;
        Some(u64::from_be_bytes(*head))
    }
}
