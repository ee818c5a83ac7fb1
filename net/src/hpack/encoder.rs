//! Turns fields into header blocks.

use super::dynamic_table::DynamicTable;
use super::static_table::{self, Match};
use super::{DEFAULT_TABLE_SIZE_BYTES, huffman, integer};

/// The largest table we fill, whatever the peer allows: its memory is ours, and our responses need less.
pub const ENCODER_TABLE_SIZE_BYTES_MAX: usize = DEFAULT_TABLE_SIZE_BYTES;

/// Encodes the header blocks of one connection, in the order they are sent.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    pending: SizeUpdate,
}

/// Whether a field enters the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexing {
    /// Yes: the next one like it costs one octet. For values that come again.
    Incremental,
    /// No. For values that do not come again.
    Without,
    /// No, neither here nor at any later hop: secrets (RFC 7541 §7.1.3).
    Never,
}

/// What the next block must say first about the table's size (RFC 7541 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeUpdate {
    None,
    /// The size fell to `lowest` in between and is now the table's.
    Due {
        lowest: usize,
    },
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self {
            table: DynamicTable::new(DEFAULT_TABLE_SIZE_BYTES),
            pending: SizeUpdate::None,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE changed. To be called between header blocks only; the next block tells
    /// the peer which size was taken.
    pub fn set_max_table_size(&mut self, table_size_max: u32) {
        let size = (table_size_max as usize).min(ENCODER_TABLE_SIZE_BYTES_MAX);
        if size == self.table.size_max() {
            return;
        }
        let lowest = match self.pending {
            SizeUpdate::None => size,
            SizeUpdate::Due { lowest } => lowest.min(size),
        };
        self.pending = SizeUpdate::Due { lowest };
        self.table.set_size_max(size);
    }

    /// Appends one field to the block in `out`.
    pub fn encode(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        self.encode_size_update(out);
        let found = self.find(name, value);
        if let (Some(Match::Field(index)), true) = (found, indexing != Indexing::Never) {
            integer::encode(index, 7, 0x80, out);
            return;
        }
        let is_added = indexing == Indexing::Incremental && self.table.would_fit(name, value);
        let (flags, prefix_bits) = match indexing {
            Indexing::Never => (0x10, 4),
            _ if is_added => (0x40, 6),
            _ => (0x00, 4),
        };
        match found {
            Some(Match::Field(index) | Match::Name(index)) => {
                integer::encode(index, prefix_bits, flags, out);
            }
            None => {
                out.push(flags);
                encode_string(name, out);
            }
        }
        encode_string(value, out);
        if is_added {
            self.table.insert(name, value);
        }
    }

    /// The index of the field or else of its name, in the numbering of both tables.
    fn find(&self, name: &[u8], value: &[u8]) -> Option<Match> {
        let in_static = static_table::find(name, value);
        if let Some(Match::Field(_)) = in_static {
            return in_static;
        }
        match self.table.find(name, value) {
            Some(Match::Field(age)) => Some(Match::Field(static_table::LEN + 1 + age)),
            Some(Match::Name(age)) => in_static.or(Some(Match::Name(static_table::LEN + 1 + age))),
            None => in_static,
        }
    }

    fn encode_size_update(&mut self, out: &mut Vec<u8>) {
        let SizeUpdate::Due { lowest } = self.pending else {
            return;
        };
        self.pending = SizeUpdate::None;
        if lowest < self.table.size_max() {
            integer::encode(lowest, 5, 0x20, out);
        }
        integer::encode(self.table.size_max(), 5, 0x20, out);
    }
}

/// In Huffman code if that is shorter.
fn encode_string(octets: &[u8], out: &mut Vec<u8>) {
    let huffman_len = huffman::encoded_len(octets);
    if huffman_len < octets.len() {
        integer::encode(huffman_len, 7, 0x80, out);
        huffman::encode(octets, out);
    } else {
        integer::encode(octets.len(), 7, 0x00, out);
        out.extend_from_slice(octets);
    }
}
