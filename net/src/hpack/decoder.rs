//! Turns header blocks into fields.

use super::dynamic_table::DynamicTable;
use super::{DEFAULT_TABLE_SIZE_BYTES, Field, HpackError, huffman, integer, static_table};

/// Buffers keep this much between blocks. Nearly every string is shorter, and a connection should not cost more for ever
/// because of one that was not.
const KEEP_LEN: usize = 4096;

/// Decodes the header blocks of one connection, in the order they arrive.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// The largest table the peer may choose: what we announced and it acknowledged.
    table_limit: usize,
    /// The limit was lowered below the table's size, so the next block must begin with a size update.
    update_is_due: bool,
    /// Kept between calls so that a string costs no allocation.
    name_buf: Vec<u8>,
    value_buf: Vec<u8>,
}

/// How a valid block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Every field was handed to the sink.
    Complete,
    /// The list is larger than allowed: the fields from the first one beyond the limit on were not handed over. The
    /// tables are still in step, so this concerns the one request, not the connection.
    ListTooLong,
}

impl Decoder {
    /// `table_size_max` is our SETTINGS_HEADER_TABLE_SIZE. Before the peer acknowledged it, 4096 holds, so a smaller
    /// one must be given by [`Decoder::set_max_table_size`] once it did.
    pub fn new(table_size_max: usize) -> Self {
        Self {
            table: DynamicTable::new(DEFAULT_TABLE_SIZE_BYTES.min(table_size_max)),
            table_limit: table_size_max,
            update_is_due: false,
            name_buf: Vec::new(),
            value_buf: Vec::new(),
        }
    }

    /// The peer acknowledged a new SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_max_table_size(&mut self, table_size_max: usize) {
        self.table_limit = table_size_max;
        self.update_is_due = self.table.size_max() > table_size_max;
    }

    /// Decodes one whole header block, handing each field to `sink`.
    ///
    /// `list_size_max` bounds the sum of the fields' sizes, each name + value + 32 (RFC 9113 §6.5.2).
    ///
    /// # Errors
    /// Any error is the peer's fault and ends the connection: the state of the table is unknown after it.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_size_max: usize,
        sink: &mut dyn FnMut(Field<'_>),
    ) -> Result<Outcome, HpackError> {
        let mut list = List {
            size: 0,
            size_max: list_size_max,
            sink,
        };
        let mut input = block;
        self.name_buf.shrink_to(KEEP_LEN);
        self.value_buf.shrink_to(KEEP_LEN);
        self.decode_size_updates(&mut input)?;
        while let Some(&first) = input.first() {
            if first & 0x80 != 0 {
                self.decode_indexed(&mut input, &mut list)?;
            } else if first & 0x40 != 0 {
                self.decode_incremental(&mut input, &mut list)?;
            } else if first & 0x20 != 0 {
                return Err(HpackError::MisplacedSizeUpdate);
            } else {
                let sensitive = first & 0x10 != 0;
                self.decode_literal(&mut input, sensitive, &mut list)?;
            }
        }
        Ok(if list.size > list_size_max {
            Outcome::ListTooLong
        } else {
            Outcome::Complete
        })
    }

    /// RFC 7541 §6.3, allowed only at the beginning of a block (§4.2).
    fn decode_size_updates(&mut self, input: &mut &[u8]) -> Result<(), HpackError> {
        while input.first().is_some_and(|first| first & 0xe0 == 0x20) {
            let size = integer::decode(input, 5)? as usize;
            if size > self.table_limit {
                return Err(HpackError::TableTooLarge {
                    size,
                    limit: self.table_limit,
                });
            }
            self.table.set_size_max(size);
            self.update_is_due = false;
        }
        if self.update_is_due {
            Err(HpackError::MissingSizeUpdate)
        } else {
            Ok(())
        }
    }

    /// RFC 7541 §6.1: a field that is in a table.
    fn decode_indexed(&self, input: &mut &[u8], list: &mut List<'_>) -> Result<(), HpackError> {
        let (name, value) = field_at(&self.table, integer::decode(input, 7)?)?;
        list.push(Field {
            name,
            value,
            sensitive: false,
        });
        Ok(())
    }

    /// RFC 7541 §6.2.1: a field that enters the table.
    fn decode_incremental(
        &mut self,
        input: &mut &[u8],
        list: &mut List<'_>,
    ) -> Result<(), HpackError> {
        let name = match integer::decode(input, 6)? {
            0 => decode_string(input, &mut self.name_buf)?,
            index => {
                // A copy: the entry that lends its name may be evicted by the one that borrows it.
                self.name_buf.clear();
                self.name_buf
                    .extend_from_slice(field_at(&self.table, index)?.0);
                &self.name_buf
            }
        };
        let value = decode_string(input, &mut self.value_buf)?;
        list.push(Field {
            name,
            value,
            sensitive: false,
        });
        self.table.insert(name, value);
        Ok(())
    }

    /// RFC 7541 §6.2.2 and §6.2.3: a field that leaves the table alone.
    fn decode_literal(
        &mut self,
        input: &mut &[u8],
        sensitive: bool,
        list: &mut List<'_>,
    ) -> Result<(), HpackError> {
        let name = match integer::decode(input, 4)? {
            0 => decode_string(input, &mut self.name_buf)?,
            index => field_at(&self.table, index)?.0,
        };
        let value = decode_string(input, &mut self.value_buf)?;
        list.push(Field {
            name,
            value,
            sensitive,
        });
        Ok(())
    }
}

/// The fields of one block on their way to the sink.
struct List<'a> {
    size: usize,
    size_max: usize,
    sink: &'a mut dyn FnMut(Field<'_>),
}

impl List<'_> {
    fn push(&mut self, field: Field<'_>) {
        self.size = self.size.saturating_add(field.size_bytes());
        if self.size <= self.size_max {
            (self.sink)(field);
        }
    }
}

/// Static entries come first, then the dynamic ones, newest first (RFC 7541 §2.3.3).
fn field_at(table: &DynamicTable, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
    let position = index as usize;
    let field = match position.checked_sub(static_table::LEN + 1) {
        None => static_table::get(position),
        Some(age) => table.get(age),
    };
    field.ok_or(HpackError::InvalidIndex(index))
}

/// RFC 7541 §5.2. The string borrows from the block, or from `buf` if it had to be decoded.
fn decode_string<'buf, 'block: 'buf>(
    input: &mut &'block [u8],
    buf: &'buf mut Vec<u8>,
) -> Result<&'buf [u8], HpackError> {
    let is_huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer::decode(input, 7)? as usize;
    let (octets, rest) = input.split_at_checked(len).ok_or(HpackError::Truncated)?;
    *input = rest;
    if !is_huffman {
        return Ok(octets);
    }
    buf.clear();
    huffman::decode(octets, buf)?;
    Ok(buf)
}
