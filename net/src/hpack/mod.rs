//! HPACK, the header compression of HTTP/2 (RFC 7541).
//!
//! ```text
//!  header block --> Decoder::decode --> Field, Field, …       one pair of coders per connection,
//!  Field, Field --> Encoder::encode --> header block          each with its own dynamic table
//! ```
//!
//! Invariants:
//! - The two ends of a direction hold the same dynamic table. So a block is decoded to its end even if its fields are
//!   unwanted ([`Outcome::ListTooLong`]), and an error ends the connection: after it the tables are unknown.
//! - Nothing is allocated by a length a peer names: a string must be whole inside its block, and the dynamic table
//!   is bounded by the limit we announced (decoder) or by [`ENCODER_TABLE_SIZE_BYTES_MAX`] (encoder).
//! - In steady state no field costs an allocation: strings go through buffers that are kept, table entries live in
//!   one arena.
//!
//! What names and values may hold (lower case, no `\r\n`) is HTTP/2's affair, not checked here. Tested by the
//! vectors of RFC 7541 Appendix C, by round trips through evictions and by arbitrary bytes.

mod decoder;
mod dynamic_table;
mod encoder;
mod huffman;
mod integer;
mod static_table;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Outcome};
pub use encoder::{ENCODER_TABLE_SIZE_BYTES_MAX, Encoder, Indexing};

/// Both ends start with this table size (RFC 9113 §6.5.2, SETTINGS_HEADER_TABLE_SIZE).
pub const DEFAULT_TABLE_SIZE_BYTES: usize = 4096;

/// What one field costs beyond its octets, in a table (RFC 7541 §4.1) and in a list (RFC 9113 §6.5.2).
pub const FIELD_OVERHEAD_BYTES: usize = 32;

/// One header field. Lives as long as the call it is handed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// The sender asked that no hop ever puts this field into a table (RFC 7541 §6.2.3).
    pub sensitive: bool,
}

impl Field<'_> {
    /// The size that limits and tables count.
    fn size_bytes(&self) -> usize {
        self.name.len() + self.value.len() + FIELD_OVERHEAD_BYTES
    }
}

/// The peer broke RFC 7541. All of them end the connection with COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block is cut short")]
    Truncated,
    /// An integer above 2^32-1, or spelled with more octets than that needs.
    #[error("integer is too large")]
    IntegerOverflow,
    /// Index 0, or past the end of the dynamic table.
    #[error("no field at index {0}")]
    InvalidIndex(u32),
    /// The end-of-string symbol inside a string, or padding that is not up to 7 one-bits.
    #[error("malformed huffman string")]
    Huffman,
    /// A table size above the limit this side acknowledged.
    #[error("table size {size} is above the limit {limit}")]
    TableTooLarge { size: usize, limit: usize },
    /// A table size update after the first field of a block.
    #[error("table size update inside a header block")]
    MisplacedSizeUpdate,
    /// The limit was lowered, and the next block did not begin with the update this asks for (RFC 7541 §4.2).
    #[error("table size update is missing")]
    MissingSizeUpdate,
}
