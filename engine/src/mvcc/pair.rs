//! Encoded `mvccpb.KeyValue`s: written once, and read in place afterwards.
//!
//! A pair is encoded when it is put, goes to the tail, the file, watchers and answers as these bytes, and is seldom
//! decoded. Fields stand in the order of their numbers and zeros are left out, as Go's protobuf writes them, since
//! hashes over the file must agree with etcd's.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};
use proto::mvccpb::KeyValue;

const KEY: u32 = 1;
const CREATE_REVISION: u32 = 2;
const MOD_REVISION: u32 = 3;
const VERSION: u32 = 4;
const VALUE: u32 = 5;
const LEASE: u32 = 6;

/// The fields of a pair, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl<'a> Pair<'a> {
    /// The fields of encoded bytes, which stay where they are; those that are not known are passed over.
    ///
    /// `None`: these are no `KeyValue`.
    pub fn parse(mut rest: &'a [u8]) -> Option<Self> {
        let mut pair = Pair::default();
        while !rest.is_empty() {
            let (number, wire_type) = decode_key(&mut rest).ok()?;
            match wire_type {
                WireType::Varint => {
                    let value = decode_varint(&mut rest).ok()? as i64;
                    match number {
                        CREATE_REVISION => pair.create_revision = value,
                        MOD_REVISION => pair.mod_revision = value,
                        VERSION => pair.version = value,
                        LEASE => pair.lease = value,
                        KEY | VALUE => return None,
                        _ => {}
                    }
                }
                WireType::LengthDelimited => {
                    let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                    let (bytes, behind) = rest.split_at_checked(len)?;
                    rest = behind;
                    match number {
                        KEY => pair.key = bytes,
                        VALUE => pair.value = bytes,
                        CREATE_REVISION..=VERSION | LEASE => return None,
                        _ => {}
                    }
                }
                // No field that was ever in the message.
                _ => return None,
            }
        }
        Some(pair)
    }
}

impl Pair<'_> {
    fn numbers(&self) -> [(u32, i64); 3] {
        [
            (CREATE_REVISION, self.create_revision),
            (MOD_REVISION, self.mod_revision),
            (VERSION, self.version),
        ]
    }

    /// Length of the encoded pair.
    pub fn encoded_len(&self) -> usize {
        let numbers = self.numbers().map(|(_, number)| number_len(number));
        bytes_len(self.key)
            + numbers.iter().sum::<usize>()
            + bytes_len(self.value)
            + number_len(self.lease)
    }

    /// Encodes the pair in one allocation.
    pub fn encode(&self) -> Bytes {
        let len = self.encoded_len();
        let mut buf = BytesMut::with_capacity(len);
        put_bytes(&mut buf, KEY, self.key);
        for (field, number) in self.numbers() {
            put_number(&mut buf, field, number);
        }
        put_bytes(&mut buf, VALUE, self.value);
        put_number(&mut buf, LEASE, self.lease);
        debug_assert_eq!(buf.len(), len);
        buf.freeze()
    }
}

/// All field numbers are below 16, so a tag takes one byte.
fn number_len(number: i64) -> usize {
    if number == 0 {
        0
    } else {
        1 + encoded_len_varint(number as u64)
    }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + encoded_len_varint(bytes.len() as u64) + bytes.len()
    }
}

fn put_number(buf: &mut BytesMut, field: u32, number: i64) {
    if number != 0 {
        buf.put_u8((field << 3) as u8 | WireType::Varint as u8);
        encode_varint(number as u64, buf);
    }
}

fn put_bytes(buf: &mut BytesMut, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        buf.put_u8((field << 3) as u8 | WireType::LengthDelimited as u8);
        encode_varint(bytes.len() as u64, buf);
        buf.put_slice(bytes);
    }
}

/// Decodes a pair; its key and value share the encoded bytes.
///
/// Bytes that are no `KeyValue` give an empty one: the state machine wrote them itself, or checked them when it started
/// from a file.
pub fn decode(pair: &Bytes) -> KeyValue {
    KeyValue::decode(pair.clone()).unwrap_or_default()
}

/// The key inside an encoded pair, without decoding the rest.
pub fn key_of(pair: &Bytes) -> Bytes {
    key_in(pair).map_or_else(Bytes::new, |key| pair.slice_ref(key))
}

/// The value inside an encoded pair, without decoding the rest.
pub fn value_of(pair: &Bytes) -> Bytes {
    value_in(pair).map_or_else(Bytes::new, |value| pair.slice_ref(value))
}

/// The key inside an encoded pair; `None` if it is missing.
pub fn key_in(pair: &[u8]) -> Option<&[u8]> {
    field(pair, KEY)
}

/// The value inside an encoded pair; `None` if it is empty.
pub fn value_in(pair: &[u8]) -> Option<&[u8]> {
    field(pair, VALUE)
}

/// The bytes of one length-delimited field; `None` if it is missing.
fn field(pair: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut rest = pair;
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let varint = decode_varint(&mut rest).ok()?;
        if wire_type == WireType::LengthDelimited {
            let len = usize::try_from(varint).ok()?;
            let bytes = rest.get(..len)?;
            if number == wanted {
                return Some(bytes);
            }
            rest = &rest[len..];
        } else if wire_type != WireType::Varint {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair<'a>(key: &'a [u8], value: &'a [u8], lease: i64) -> Pair<'a> {
        Pair {
            key,
            create_revision: 2,
            mod_revision: 300,
            version: 1 << 40,
            value,
            lease,
        }
    }

    #[test]
    fn encodes_as_prost_does() {
        let long = vec![b'x'; 300];
        for (key, value, lease) in [
            (&b"k"[..], &b"v"[..], 0),
            (&long, b"", 7),
            (b"k", &long, -1),
            (b"\0", b"\xff", i64::MAX),
        ] {
            let encoded = pair(key, value, lease).encode();
            let expected = KeyValue {
                key: Bytes::copy_from_slice(key),
                create_revision: 2,
                mod_revision: 300,
                version: 1 << 40,
                value: Bytes::copy_from_slice(value),
                lease,
            };
            assert_eq!(encoded, expected.encode_to_vec());
            assert_eq!(decode(&encoded), expected);
            assert_eq!(Pair::parse(&encoded), Some(pair(key, value, lease)));
            for len in 0..encoded.len() {
                let cut = &encoded[..len];
                assert_eq!(Pair::parse(cut).is_some(), KeyValue::decode(cut).is_ok());
            }
            assert_eq!(
                (key_of(&encoded), value_of(&encoded)),
                (expected.key, expected.value)
            );
        }
    }

    #[test]
    fn a_tombstone_has_only_its_key() {
        let encoded = Pair {
            key: b"gone",
            ..Pair::default()
        }
        .encode();
        assert_eq!(encoded, &b"\x0a\x04gone"[..]);
        assert_eq!(value_of(&encoded), Bytes::new());
    }

    #[test]
    fn odd_bytes_have_no_fields() {
        for odd in [&b"\x0a\x09k"[..], b"\x0d\0\0\0\0", b"\xff", b"\x0a"] {
            assert_eq!(key_of(&Bytes::copy_from_slice(odd)), Bytes::new());
        }
    }
}
