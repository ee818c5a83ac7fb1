//! Fills messages with values from a fixed seed.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// Bounds recursive messages: the message itself is at depth 0, and messages at this depth get no
/// message fields.
const DEPTH_MAX: usize = 2;

/// Which values a message gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Variant {
    /// Every field that can be set apart from zero is set to zero.
    Zeros,
    /// Every field is set, to the highest and lowest numbers in turn.
    Limits,
    /// Every field is set; the number chooses the members of oneofs.
    Full(usize),
    /// About half of the fields are set.
    Mixed,
}

impl Variant {
    pub(crate) fn name(self) -> String {
        match self {
            Variant::Zeros => "zeros".to_owned(),
            Variant::Limits => "limits".to_owned(),
            Variant::Full(member) => format!("full{member}"),
            Variant::Mixed => "mixed".to_owned(),
        }
    }
}

/// The same message and variant always get the same values.
pub(crate) fn filled(descriptor: &MessageDescriptor, variant: Variant) -> DynamicMessage {
    let seed = format!("{}/{}", descriptor.full_name(), variant.name());
    let state = seed.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Filler { variant, state }.message(descriptor, 0)
}

struct Filler {
    variant: Variant,
    state: u64,
}

impl Filler {
    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut fields: Vec<_> = descriptor.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        for field in fields {
            let is_too_deep = field.kind().as_message().is_some() && depth >= DEPTH_MAX;
            if !is_too_deep && self.is_chosen(&field, depth) {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn is_chosen(&mut self, field: &FieldDescriptor, depth: usize) -> bool {
        // etcd reads another type there, or none.
        if field.full_name() == "etcdserverpb.InternalRaftRequest.v2" {
            return false;
        }
        if let Some(oneof) = field.containing_oneof() {
            let Variant::Full(member) = self.variant else {
                return oneof.fields().len() == 1 || oneof.fields().next().as_ref() == Some(field);
            };
            return oneof
                .fields()
                .nth((member + depth) % oneof.fields().len())
                .as_ref()
                == Some(field);
        }
        self.variant != Variant::Mixed || self.below(2) == 0
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        if field.is_list() {
            let count = 1 + self.below(2);
            return Value::List(
                (0..count)
                    .map(|_| self.item(&field.kind(), depth))
                    .collect(),
            );
        }
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                // One entry, with a key: Go writes zero keys and values, and we do not.
                let item = self.item(&entry.map_entry_value_field().kind(), depth);
                Value::Map([(MapKey::String("k".to_owned()), item)].into())
            }
            kind => self.item(&kind, depth),
        }
    }

    fn item(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Message(descriptor) => Value::Message(self.message(descriptor, depth + 1)),
            kind if self.variant == Variant::Zeros => Value::default_value(kind),
            kind if self.variant == Variant::Limits => self.limit(kind),
            kind => self.ordinary(kind),
        }
    }

    fn limit(&mut self, kind: &Kind) -> Value {
        let is_high = self.below(2) == 0;
        match kind {
            Kind::Int64 => Value::I64(if is_high { i64::MAX } else { i64::MIN }),
            Kind::Uint64 => Value::U64(if is_high { u64::MAX } else { 1 }),
            Kind::Uint32 => Value::U32(if is_high { u32::MAX } else { 1 }),
            Kind::Bool => Value::Bool(true),
            // Go keeps unknown numbers of closed enums apart from the field.
            Kind::Enum(declared) if is_closed(kind) => Value::EnumNumber(
                declared
                    .values()
                    .map(|value| value.number())
                    .max()
                    .unwrap_or(0),
            ),
            Kind::Enum(_) => Value::EnumNumber(if is_high { i32::MAX } else { i32::MIN }),
            Kind::Bytes => Value::Bytes(vec![if is_high { 0xff } else { 0 }; 2].into()),
            Kind::String => Value::String(if is_high { "\u{10ffff}" } else { " " }.to_owned()),
            other => panic!("no message of ours has a field of kind {other:?}"),
        }
    }

    fn ordinary(&mut self, kind: &Kind) -> Value {
        // A random width makes varints of all lengths.
        let width = self.below(64);
        let number = self.next() >> width;
        match kind {
            Kind::Int64 => Value::I64(number.cast_signed()),
            Kind::Uint64 => Value::U64(number),
            Kind::Uint32 => Value::U32((number & u64::from(u32::MAX)) as u32),
            Kind::Bool => Value::Bool(!number.is_multiple_of(4)),
            Kind::Enum(declared) => {
                let chosen = self.below(declared.values().len());
                Value::EnumNumber(
                    declared
                        .values()
                        .nth(chosen)
                        .map_or(0, |value| value.number()),
                )
            }
            Kind::Bytes => {
                let count = self.below(6);
                Value::Bytes(number.to_le_bytes()[..count].to_vec().into())
            }
            Kind::String => {
                let count = self.below(6);
                Value::String("a/:9\u{e4}\u{20ac}".chars().take(count).collect())
            }
            other => panic!("no message of ours has a field of kind {other:?}"),
        }
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn is_closed(kind: &Kind) -> bool {
    kind.as_enum()
        .is_some_and(|e| e.parent_file().syntax() == prost_reflect::Syntax::Proto2)
}
