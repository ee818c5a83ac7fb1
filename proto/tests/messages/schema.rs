//! Our declarations against those of etcd: messages, fields, enum values, methods, versions.

use std::collections::BTreeSet;

use prost_reflect::{
    Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};

use crate::{POOL, golden, types};

const PACKAGES: [&str; 12] = [
    "authpb",
    "etcdserverpb",
    "grpc.health.v1",
    "leasepb",
    "membershippb",
    "mvccpb",
    "raftpb",
    "snappb",
    "v3electionpb",
    "v3lockpb",
    "versionpb",
    "walpb",
];

/// What we declare and etcd 3.7.1 does not.
const ONLY_OURS: [&str; 1] = [
    // Up to 3.6 a message; kept undecoded so that old logs can be told from empty requests.
    "field etcdserverpb.InternalRaftRequest.v2 2 bytes implicit since -",
];

/// What etcd 3.7.1 declares and we do not.
const ONLY_THEIRS: [&str; 0] = [];

#[test]
fn declarations_equal_the_reference() {
    let ours: BTreeSet<String> = schema().into_iter().collect();
    let theirs: BTreeSet<String> = golden::lines("etcd-3.7.1.schema").into_iter().collect();
    let only_ours: Vec<&str> = ours.difference(&theirs).map(String::as_str).collect();
    let only_theirs: Vec<&str> = theirs.difference(&ours).map(String::as_str).collect();
    assert_eq!(
        (only_ours, only_theirs),
        (ONLY_OURS.to_vec(), ONLY_THEIRS.to_vec())
    );
}

#[test]
fn typed_list_holds_every_message() {
    let declared: BTreeSet<String> = messages()
        .iter()
        .map(|m| m.full_name().to_owned())
        .collect();
    let typed: BTreeSet<String> = types::recoders().into_keys().collect();
    assert_eq!(typed, declared);
}

/// The messages of all packages, without the entries of maps.
pub(crate) fn messages() -> Vec<MessageDescriptor> {
    let mut messages: Vec<_> = POOL
        .all_messages()
        .filter(|message| PACKAGES.contains(&message.package_name()) && !message.is_map_entry())
        .collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    messages
}

fn schema() -> Vec<String> {
    let mut lines = Vec::new();
    for message in messages() {
        let since = since(&message.options());
        lines.push(format!("message {} since {since}", message.full_name()));
        lines.extend(message.fields().map(|field| field_line(&field)));
    }
    for declared in POOL
        .all_enums()
        .filter(|e| PACKAGES.contains(&e.package_name()))
    {
        enum_lines(&declared, &mut lines);
    }
    for service in POOL
        .services()
        .filter(|s| PACKAGES.contains(&s.package_name()))
    {
        lines.extend(service.methods().map(|method| method_line(&method)));
    }
    for extension in POOL.all_extensions() {
        lines.push(format!(
            "extension {} {} {} of {}",
            extension.full_name(),
            extension.number(),
            type_name(&extension.kind()),
            extension.containing_message().full_name(),
        ));
    }
    lines
}

fn field_line(field: &FieldDescriptor) -> String {
    let kind = if let Some(entry) = field.kind().as_message().filter(|_| field.is_map()) {
        let key = type_name(&entry.map_entry_key_field().kind());
        format!(
            "map:{key}:{}",
            type_name(&entry.map_entry_value_field().kind())
        )
    } else {
        type_name(&field.kind())
    };
    let since = since(&field.options());
    let (name, number, label) = (field.full_name(), field.number(), label(field));
    format!("field {name} {number} {kind} {label} since {since}")
}

fn label(field: &FieldDescriptor) -> String {
    if field.is_packed() {
        "packed".to_owned()
    } else if field.cardinality() == Cardinality::Repeated {
        "repeated".to_owned()
    } else if let Some(oneof) = field.containing_oneof() {
        format!("oneof:{}", oneof.name())
    } else if field.supports_presence() {
        "optional".to_owned()
    } else {
        "implicit".to_owned()
    }
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(declared) => declared.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn enum_lines(declared: &EnumDescriptor, lines: &mut Vec<String>) {
    let name = declared.full_name();
    lines.push(format!("enum {name} since {}", since(&declared.options())));
    lines.extend(declared.values().map(|value| {
        let since = since(&value.options());
        format!(
            "value {name}.{} {} since {since}",
            value.name(),
            value.number()
        )
    }));
}

fn method_line(method: &MethodDescriptor) -> String {
    let mark = |is_stream| if is_stream { "stream:" } else { "" };
    format!(
        "method {} {}{} {}{}",
        method.full_name(),
        mark(method.is_client_streaming()),
        method.input().full_name(),
        mark(method.is_server_streaming()),
        method.output().full_name(),
    )
}

fn since(options: &DynamicMessage) -> String {
    options
        .extensions()
        .find(|(extension, _)| extension.package_name() == "versionpb")
        .and_then(|(_, value)| value.as_str().map(str::to_owned))
        .unwrap_or_else(|| "-".to_owned())
}
