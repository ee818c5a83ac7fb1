//! Makes tonic's client of etcd's API, from the same files that the server is made of.

use std::error::Error;

const ROOT: &str = "../../../proto/proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let files = [
        "etcdserverpb/kv.proto",
        "etcdserverpb/lease.proto",
        "etcdserverpb/maintenance.proto",
        "etcdserverpb/watch.proto",
        "health.proto",
    ];
    let descriptors = protox::compile(files, [ROOT])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
