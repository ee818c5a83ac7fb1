//! From a message's bytes to JSON, led by the tables of its type.
//!
//! The rules are those of proto3's JSON as etcd asks Go's `protojson` for it: names of the file, 64-bit numbers as strings,
//! bytes in base64, enums by name, and no field that has its default value. Fields come in the order of the file.
//!
//! The bytes are our own responses. What they would not hold (fields that the type does not have, groups) is passed over,
//! and nesting ends at [`DEPTH_MAX`].

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use proto::schema::{ENUMS, Field, Kind, MESSAGES};

use super::base64;

/// Protobuf's own limit is a hundred.
const DEPTH_MAX: usize = 110;

/// Bytes that are no message of the type they should have: a mistake of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a response cannot be read")]
pub(super) struct NoMessage;

/// Appends the message of this type as JSON.
pub(super) fn message(bytes: &[u8], message_no: usize, out: &mut Vec<u8>) -> Result<(), NoMessage> {
    write_message(bytes, message_no, 0, out)
}

/// A field's value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

fn write_message(
    bytes: &[u8],
    message_no: usize,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), NoMessage> {
    if depth > DEPTH_MAX {
        return Err(NoMessage);
    }
    let message = &MESSAGES[message_no];
    let mut values = split(bytes)?;
    let place = |number: u32| message.fields.iter().position(|f| f.number == number);
    // Stable, so that the elements of a list keep their order.
    values.sort_by_key(|(number, _)| place(*number));
    out.push(b'{');
    let mut is_first = true;
    let mut rest = &values[..];
    while let Some(&(number, _)) = rest.first() {
        let same = rest.iter().take_while(|(other, _)| *other == number);
        let (group, more) = rest.split_at(same.count());
        rest = more;
        let Some(field) = place(number).and_then(|at| message.fields.get(at)) else {
            continue;
        };
        // Of a field that is not repeated the last value counts.
        let group = match field.is_repeated {
            true => group,
            false => &group[group.len() - 1..],
        };
        if is_default(field, group) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        write_text(field.name, out);
        out.push(b':');
        write_values(field, group, depth, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_values(
    field: &Field,
    group: &[(u32, Wire<'_>)],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), NoMessage> {
    if !field.is_repeated {
        let last = group.last();
        return last.map_or(Ok(()), |(_, value)| write_value(field, *value, depth, out));
    }
    out.push(b'[');
    for (at, (_, value)) in group.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_value(field, *value, depth, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Whether a field is left out: it says what its absence says.
fn is_default(field: &Field, group: &[(u32, Wire<'_>)]) -> bool {
    if field.is_repeated || field.oneof.is_some() || matches!(field.kind, Kind::Message(_)) {
        return false;
    }
    matches!(
        group.last(),
        Some((_, Wire::Varint(0) | Wire::Bytes([]))) | None
    )
}

fn write_value(
    field: &Field,
    value: Wire<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), NoMessage> {
    match (field.kind, value) {
        (Kind::Bool, Wire::Varint(number)) => {
            out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
        }
        (Kind::Int32, Wire::Varint(number)) => put(out, number.cast_signed() as i32),
        (Kind::Uint32, Wire::Varint(number)) => put(out, number as u32),
        (Kind::Int64, Wire::Varint(number)) => {
            put(out, format_args!("\"{}\"", number.cast_signed()));
        }
        (Kind::Uint64, Wire::Varint(number)) => put(out, format_args!("\"{number}\"")),
        (Kind::Enum(no), Wire::Varint(number)) => {
            let number = number.cast_signed() as i32;
            match ENUMS[no].name_of(number) {
                Some(name) => write_text(name, out),
                None => put(out, number),
            }
        }
        (Kind::String, Wire::Bytes(octets)) => {
            write_text(&String::from_utf8_lossy(octets), out);
        }
        (Kind::Bytes, Wire::Bytes(octets)) => {
            out.push(b'"');
            base64::encode(octets, out);
            out.push(b'"');
        }
        (Kind::Message(no), Wire::Bytes(octets)) => write_message(octets, no, depth + 1, out)?,
        _ => return Err(NoMessage),
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, shown: impl std::fmt::Display) {
    use std::io::Write as _;
    // Memory takes everything.
    let _ = write!(out, "{shown}");
}

/// Appends a string with its quotes.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for octet in text.bytes() {
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..=0x1f => put(out, format_args!("\\u{octet:04x}")),
            _ => out.push(octet),
        }
    }
    out.push(b'"');
}

/// The fields of a message with their numbers, as they come.
fn split(mut rest: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, NoMessage> {
    let mut values = Vec::new();
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest).map_err(|_| NoMessage)?;
        let value = match wire_type {
            WireType::Varint => Wire::Varint(decode_varint(&mut rest).map_err(|_| NoMessage)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut rest).map_err(|_| NoMessage)?;
                let len = usize::try_from(len).map_err(|_| NoMessage)?;
                let (octets, more) = rest.split_at_checked(len).ok_or(NoMessage)?;
                rest = more;
                Wire::Bytes(octets)
            }
            _ => return Err(NoMessage),
        };
        values.push((number, value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{
        AlarmMember, AlarmResponse, HashKvResponse, RangeResponse, ResponseHeader, ResponseOp,
        TxnResponse, response_op,
    };
    use proto::mvccpb::KeyValue;

    use super::*;

    fn json(path: &str, message: &impl prost::Message) -> String {
        let mut out = Vec::new();
        let output = proto::schema::method(path).unwrap().output;
        super::message(&message.encode_to_vec(), output, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn defaults_are_left_out_and_numbers_of_64_bits_are_strings() {
        let range = RangeResponse {
            header: Some(ResponseHeader {
                cluster_id: u64::MAX,
                member_id: 0,
                revision: -1,
                raft_term: 2,
            }),
            kvs: vec![
                KeyValue {
                    key: "foo".into(),
                    value: "bar!".into(),
                    version: 1,
                    ..KeyValue::default()
                },
                KeyValue::default(),
            ],
            more: true,
            count: 2,
        };
        assert_eq!(
            json("/etcdserverpb.KV/Range", &range),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"-1","raft_term":"2"},"kvs":[{"key":"Zm9v","version":"1","value":"YmFyIQ=="},{}],"more":true,"count":"2"}"#
        );
        assert_eq!(
            json("/etcdserverpb.KV/Range", &RangeResponse::default()),
            "{}"
        );
    }

    #[test]
    fn enums_have_names_and_small_numbers_are_numbers() {
        let alarms = AlarmResponse {
            header: None,
            alarms: vec![
                AlarmMember {
                    member_id: 1,
                    alarm: 1,
                },
                AlarmMember {
                    member_id: 0,
                    alarm: 99,
                },
            ],
        };
        assert_eq!(
            json("/etcdserverpb.Maintenance/Alarm", &alarms),
            r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"},{"alarm":99}]}"#
        );
        let hash = HashKvResponse {
            hash: u32::MAX,
            ..HashKvResponse::default()
        };
        assert_eq!(
            json("/etcdserverpb.Maintenance/HashKV", &hash),
            r#"{"hash":4294967295}"#
        );
    }

    #[test]
    fn a_member_of_a_oneof_is_there_even_if_empty() {
        let txn = TxnResponse {
            succeeded: true,
            responses: vec![ResponseOp {
                response: Some(response_op::Response::ResponseRange(
                    RangeResponse::default(),
                )),
            }],
            ..TxnResponse::default()
        };
        assert_eq!(
            json("/etcdserverpb.KV/Txn", &txn),
            r#"{"succeeded":true,"responses":[{"response_range":{}}]}"#
        );
    }

    #[test]
    fn text_is_escaped_as_go_does() {
        let mut out = Vec::new();
        write_text("a\"\\\n\u{1}\u{1f}é<", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#""a\"\\\n\u0001\u001fé<""#
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for bytes in [&b"\x0a"[..], b"\x0a\x05a", b"\xff", b"\x0b", b"\x08\x01"] {
            assert_eq!(
                message(
                    bytes,
                    MESSAGES
                        .iter()
                        .position(|m| m.name == "etcdserverpb.RangeResponse")
                        .unwrap(),
                    &mut Vec::new()
                ),
                Err(NoMessage)
            );
        }
    }
}
