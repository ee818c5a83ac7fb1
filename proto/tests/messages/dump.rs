//! The fields of a message as text, alike in Go (`dump.go`) and Rust.
//!
//! Ordered by number, `{name=value ...}`, enums as numbers, bytes in hexadecimal between angle
//! brackets, lists in square brackets, maps ordered by key. A field is written if it is present;
//! without presence, if it is not zero.

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Syntax, Value};

use crate::golden::to_hex;

/// Which zeros are written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Zeros {
    /// All that were set.
    Kept,
    /// No zeros and no empty messages in proto2 messages, since a 3.6 member writes most of them
    /// whether they were set or not.
    Bare,
}

pub(crate) fn dump(message: &DynamicMessage, zeros: Zeros) -> String {
    let mut fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    let parts: Vec<String> = fields
        .iter()
        .filter(|field| message.has_field(field))
        .map(|field| (field, message.get_field(field)))
        .filter(|(field, value)| zeros == Zeros::Kept || !is_bare_zero(field, value))
        .map(|(field, value)| format!("{}={}", field.name(), dump_value(&value, zeros)))
        .collect();
    format!("{{{}}}", parts.join(" "))
}

fn is_bare_zero(field: &FieldDescriptor, value: &Value) -> bool {
    if field.parent_message().parent_file().syntax() != Syntax::Proto2 {
        return false;
    }
    match value {
        Value::List(_) | Value::Map(_) => false,
        Value::Message(message) => dump(message, Zeros::Bare) == "{}",
        scalar => scalar.is_default(&field.kind()),
    }
}

fn dump_value(value: &Value, zeros: Zeros) -> String {
    match value {
        Value::Message(message) => dump(message, zeros),
        Value::Bytes(bytes) => format!("<{}>", to_hex(bytes)),
        Value::String(text) => format!("\"{text}\""),
        Value::Bool(is_set) => is_set.to_string(),
        Value::EnumNumber(number) | Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::List(items) => {
            let parts: Vec<_> = items.iter().map(|item| dump_value(item, zeros)).collect();
            format!("[{}]", parts.join(" "))
        }
        Value::Map(entries) => {
            let mut parts: Vec<_> = entries
                .iter()
                .map(|(key, item)| {
                    let key = dump_value(&Value::from(key.clone()), zeros);
                    format!("{key}:{}", dump_value(item, zeros))
                })
                .collect();
            parts.sort();
            format!("({})", parts.join(" "))
        }
        Value::F32(_) | Value::F64(_) => panic!("no message of ours has a floating-point field"),
    }
}
