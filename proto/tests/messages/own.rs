//! What our types write, kept for the Go tests to read with etcd's types.

use std::fs;

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

use crate::dump::{Zeros, dump};
use crate::fill::{Variant, filled};
use crate::golden::{self, Vector};
use crate::schema::messages;
use crate::types;

const FILE: &str = "etcore.vectors";

#[test]
fn own_bytes_are_as_etcd_has_read_them() {
    let lines: Vec<String> = own_vectors().iter().map(Vector::line).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = format!("# written by the types of etcore\n{}\n", lines.join("\n"));
        fs::write(golden::path(FILE), text).expect("the golden directory can be written");
    }
    let kept = golden::lines(FILE);
    for (line, kept) in lines.iter().zip(&kept) {
        assert_eq!(line, kept, "see the module text for how to rewrite {FILE}");
    }
    assert_eq!(lines.len(), kept.len());
}

/// The typed code and the descriptors agree on the legal forms that no writer of ours makes.
#[test]
fn odd_wire_forms_are_read() {
    let recoders = types::recoders();
    for descriptor in messages() {
        let odd = odd_vector(&descriptor);
        let written = recoders[&odd.name](odd.bytes.clone()).expect("the form is legal");
        let again = DynamicMessage::decode(descriptor, written.as_slice()).expect("ours");
        assert_eq!(dump(&again, Zeros::Kept), odd.dump, "{}", odd.name);
    }
}

fn own_vectors() -> Vec<Vector> {
    let recoders = types::recoders();
    let mut vectors = Vec::new();
    for descriptor in messages() {
        let recode = recoders[descriptor.full_name()];
        for variant in variants(&descriptor) {
            let message = filled(&descriptor, variant);
            let bytes = recode(message.encode_to_vec().into()).expect("the descriptor wrote it");
            vectors.push(Vector {
                name: descriptor.full_name().to_owned(),
                variant: variant.name(),
                bytes: bytes.into(),
                dump: dump(&message, Zeros::Kept),
                bare: dump(&message, Zeros::Bare),
            });
        }
        vectors.push(odd_vector(&descriptor));
    }
    vectors
}

fn variants(descriptor: &MessageDescriptor) -> Vec<Variant> {
    let members = descriptor
        .oneofs()
        .map(|oneof| oneof.fields().len())
        .max()
        .unwrap_or(1);
    let mut variants: Vec<_> = (0..members).map(Variant::Full).collect();
    if descriptor.fields().len() > 0 {
        variants.extend([Variant::Zeros, Variant::Limits, Variant::Mixed]);
    }
    variants
}

/// Explicit zeros in every field, packed fields unpacked and the reverse, unknown fields.
fn odd_vector(descriptor: &MessageDescriptor) -> Vector {
    let mut bytes = Vec::new();
    for field in descriptor.fields() {
        if field.full_name() != "etcdserverpb.InternalRaftRequest.v2" {
            put_odd(&field, &mut bytes);
        }
    }
    encode_key(15_000, WireType::Varint, &mut bytes);
    encode_varint(7, &mut bytes);
    encode_key(15_001, WireType::LengthDelimited, &mut bytes);
    bytes.extend_from_slice(&[2, 0xff, 0xff]);
    let message = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).expect("legal");
    Vector {
        name: descriptor.full_name().to_owned(),
        variant: "wire-odd".to_owned(),
        bytes: bytes.into(),
        dump: dump(&message, Zeros::Kept),
        bare: dump(&message, Zeros::Bare),
    }
}

fn put_odd(field: &FieldDescriptor, bytes: &mut Vec<u8>) {
    let number = field.number();
    let is_delimited = matches!(field.kind(), Kind::Message(_) | Kind::Bytes | Kind::String);
    if !is_delimited && field.is_list() {
        encode_key(number, WireType::Varint, bytes);
        encode_varint(1, bytes);
        encode_key(number, WireType::LengthDelimited, bytes);
        bytes.extend_from_slice(&[2, 0, 1]);
        return;
    }
    let wire_type = if is_delimited {
        WireType::LengthDelimited
    } else {
        WireType::Varint
    };
    encode_key(number, wire_type, bytes);
    // The value zero, or the length zero.
    encode_varint(0, bytes);
}
