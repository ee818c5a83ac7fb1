//! Compiles the `.proto` files to Rust and keeps their descriptors for run time.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use protox::prost_reflect::Kind;

const ROOT: &str = "proto";

/// Every file with a package of its own or a part of one; their imports follow by themselves.
const FILES: [&str; 19] = [
    "authpb.proto",
    "etcdserverpb/auth.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/header.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/metadata.proto",
    "etcdserverpb/raft_internal.proto",
    "etcdserverpb/watch.proto",
    "health.proto",
    "leasepb.proto",
    "membershippb.proto",
    "mvccpb.proto",
    "raftpb.proto",
    "snappb.proto",
    "v3electionpb.proto",
    "v3lockpb.proto",
    "walpb.proto",
];

/// Fields of `InternalRaftRequest` that are large and seldom there.
const RARE_REQUESTS: [&str; 16] = [
    "range",
    "authenticate",
    "auth_user_add",
    "auth_user_delete",
    "auth_user_get",
    "auth_user_change_password",
    "auth_user_grant_role",
    "auth_user_revoke_role",
    "auth_role_add",
    "auth_role_delete",
    "auth_role_get",
    "auth_role_grant_permission",
    "auth_role_revoke_permission",
    "cluster_version_set",
    "cluster_member_attr_set",
    "downgrade_info_set",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_imports(true).open_files(FILES)?;
    // This encoding keeps the custom options, which `file_descriptor_set()` would drop.
    std::fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    std::fs::write(out.join("schema.rs"), schema(&compiler)?)?;

    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    // One order of encoding, so that equal messages are equal bytes.
    config.btree_map(["."]);
    config.enable_type_names();
    // Every proposal is one of these; boxed is what few of them are, so that a put is not a kilobyte to be moved about.
    for field in RARE_REQUESTS {
        config.boxed(format!(".etcdserverpb.InternalRaftRequest.{field}"));
    }
    config.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The tables of `proto::schema`.
fn schema(compiler: &protox::Compiler) -> Result<String, std::fmt::Error> {
    let pool = compiler.descriptor_pool();
    let messages: Vec<_> = pool.all_messages().collect();
    let enums: Vec<_> = pool.all_enums().collect();
    let message_no = |name: &str| {
        messages
            .iter()
            .position(|m| m.full_name() == name)
            .unwrap_or(0)
    };
    let enum_no = |name: &str| {
        enums
            .iter()
            .position(|e| e.full_name() == name)
            .unwrap_or(0)
    };
    let mut text = String::new();
    writeln!(
        text,
        "/// All message types.\npub static MESSAGES: [Message; {}] = [",
        messages.len()
    )?;
    for message in &messages {
        writeln!(
            text,
            "Message {{ name: {:?}, fields: &[",
            message.full_name()
        )?;
        // In the order of the file, which `fields()` does not keep.
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(|field| field.path().last().copied());
        for field in fields {
            let kind = match field.kind() {
                Kind::Bool => "Kind::Bool".to_owned(),
                Kind::Int32 => "Kind::Int32".to_owned(),
                Kind::Int64 => "Kind::Int64".to_owned(),
                Kind::Uint32 => "Kind::Uint32".to_owned(),
                Kind::Uint64 => "Kind::Uint64".to_owned(),
                Kind::String => "Kind::String".to_owned(),
                Kind::Bytes => "Kind::Bytes".to_owned(),
                Kind::Enum(e) => format!("Kind::Enum({})", enum_no(e.full_name())),
                Kind::Message(m) => format!("Kind::Message({})", message_no(m.full_name())),
                _ => "Kind::Other".to_owned(),
            };
            let oneof = field.containing_oneof();
            let oneof = oneof.as_ref().map(|oneof| oneof.full_name());
            writeln!(
                text,
                "Field {{ number: {}, name: {:?}, json_name: {:?}, kind: {kind}, is_repeated: {}, oneof: {oneof:?} }},",
                field.number(),
                field.name(),
                field.json_name(),
                field.is_list() || field.is_map(),
            )?;
        }
        writeln!(text, "] }},")?;
    }
    writeln!(
        text,
        "];\n/// All enum types.\npub static ENUMS: [Enum; {}] = [",
        enums.len()
    )?;
    for item in &enums {
        let values: Vec<_> = item
            .values()
            .map(|v| (v.name().to_owned(), v.number()))
            .collect();
        writeln!(
            text,
            "Enum {{ name: {:?}, values: &{values:?} }},",
            item.full_name()
        )?;
    }
    let methods: Vec<_> = pool
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .collect();
    writeln!(
        text,
        "];\n/// All methods.\npub static METHODS: [Method; {}] = [",
        methods.len()
    )?;
    for method in &methods {
        writeln!(
            text,
            "Method {{ path: \"/{}/{}\", input: {}, output: {} }},",
            method.parent_service().full_name(),
            method.name(),
            message_no(method.input().full_name()),
            message_no(method.output().full_name()),
        )?;
    }
    writeln!(text, "];")?;
    Ok(text)
}
