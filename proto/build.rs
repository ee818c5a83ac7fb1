//! Compiles the `.proto` files to Rust and keeps their descriptors for run time.

use std::error::Error;
use std::path::PathBuf;

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
