//! HPACK: blocks of any octets, with tables that change their size.
//!
//! A decoder hands out no more than the list may hold; what it hands out, the encoder writes so that another decoder
//! reads the same.

use net::hpack::{Decoder, Encoder, FIELD_OVERHEAD_BYTES, Field, Indexing, Outcome};

use crate::input::Input;

/// Of the second decoder, which reads what we wrote: the list is within the first one's limit, so anything.
const NO_LIMIT: usize = usize::MAX;

/// Our own decoder's table is never set above this by `net`; neither here.
const TABLE_SIZE_BYTES_MAX: usize = 8192;

#[derive(Debug, PartialEq, Eq)]
struct Owned {
    name: Vec<u8>,
    value: Vec<u8>,
    sensitive: bool,
}

impl From<Field<'_>> for Owned {
    fn from(field: Field<'_>) -> Self {
        Self {
            name: field.name.to_vec(),
            value: field.value.to_vec(),
            sensitive: field.sensitive,
        }
    }
}

impl Owned {
    fn size_bytes(&self) -> usize {
        self.name.len() + self.value.len() + FIELD_OVERHEAD_BYTES
    }
}

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mut decoder = Decoder::new(TABLE_SIZE_BYTES_MAX);
    let mut pair = (Encoder::new(), Decoder::new(TABLE_SIZE_BYTES_MAX));
    while !input.is_empty() {
        let resize = input.byte();
        if resize & 1 != 0 {
            let size = u32::from(input.u16());
            decoder.set_max_table_size((size as usize).min(TABLE_SIZE_BYTES_MAX));
            pair.0.set_max_table_size(size);
        }
        let list_size_max = usize::from(input.u16());
        let block = input.long_piece();
        let mut fields: Vec<Owned> = Vec::new();
        let outcome = decoder.decode(block, list_size_max, &mut |field| fields.push(field.into()));
        let size: usize = fields.iter().map(Owned::size_bytes).sum();
        assert!(size <= list_size_max, "{size} beyond {list_size_max}");
        match outcome {
            Ok(Outcome::Complete) => check_again(&fields, &mut pair),
            Ok(Outcome::ListTooLong) => {}
            Err(_) => return,
        }
    }
}

/// Writes the fields and reads them.
fn check_again(fields: &[Owned], (encoder, decoder): &mut (Encoder, Decoder)) {
    let mut block = Vec::new();
    for (number, field) in fields.iter().enumerate() {
        let indexing = match (field.sensitive, number % 3) {
            (true, _) => Indexing::Never,
            (false, 0) => Indexing::Without,
            (false, _) => Indexing::Incremental,
        };
        encoder.encode(&field.name, &field.value, indexing, &mut block);
    }
    let mut read: Vec<Owned> = Vec::new();
    let outcome = decoder.decode(&block, NO_LIMIT, &mut |field| read.push(field.into()));
    assert_eq!(outcome, Ok(Outcome::Complete), "{block:02x?}");
    assert_eq!(read, fields);
}
