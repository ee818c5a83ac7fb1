//! Fuzz targets: one function for each decoder that reads what a client, a server, a user or the disk gives.
//!
//! ```text
//!  fuzz/src          the targets, plain functions of bytes          member of the workspace
//!  fuzz/corpus       inputs that reach different code, by target    replayed by `cargo test -p fuzz`
//!  fuzz/regressions  inputs that once failed, by target             likewise, kept for ever
//!  fuzz/libfuzzer    libFuzzer around the targets                   no member: it needs a C++ compiler
//! ```
//!
//! - A target returns for every input. It panics when a promise of the decoder is broken, and promises are more than not
//!   to panic: what one fragmentation shows, each shows; what is decoded can be encoded and decoded again; a call ends
//!   once; no window is overdrawn.
//! - A target is a function of its bytes: no clock, no file, no thread, so that an input replays.
//! - What it allocates stays below [`Target::memory_bytes_max`], which both runners enforce in the allocator.
//!
//! `cargo xtask fuzz` builds and runs them. Left out: what raft makes of the messages of peers, and the rules of
//! `driver::faults` (tests only).
#![forbid(unsafe_code)]

mod check;
mod config;
mod frames;
mod gateway;
mod grpc;
mod h2_client;
mod h2_server;
mod hpack;
mod http1;
mod input;
mod peer;
mod planted;
mod protobuf;
mod service;
mod snap;
mod wal;

/// One decoder under test.
#[derive(Debug)]
pub struct Target {
    /// Names the folders of its corpus and its regressions.
    pub name: &'static str,
    /// # Panics
    /// When a promise is broken.
    pub run: fn(&[u8]),
    /// Longer inputs show nothing new.
    pub input_len_max: usize,
    /// What one input may have allocated at any time.
    pub memory_bytes_max: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    input_len_max: usize,
    memory_bytes_max: usize,
) -> Target {
    Target {
        name,
        run,
        input_len_max,
        memory_bytes_max,
    }
}

/// All targets, by name.
pub static TARGETS: &[Target] = &[
    target("config", config::run, 2 * KIB, MIB),
    target("gateway", gateway::run, 4 * KIB, 8 * MIB),
    target("grpc", grpc::run, 8 * KIB, 8 * MIB),
    target("h2_client", h2_client::run, 8 * KIB, 8 * MIB),
    target("h2_frames", h2_server::run_frames, 4 * KIB, 8 * MIB),
    target("h2_server", h2_server::run_octets, 8 * KIB, 8 * MIB),
    target("hpack", hpack::run, 4 * KIB, MIB),
    target("http1_client", http1::run_client, 8 * KIB, MIB),
    target("http1_server", http1::run_server, 8 * KIB, MIB),
    target("peer", peer::run, 4 * KIB, MIB),
    target("protobuf", protobuf::run, 8 * KIB, 8 * MIB),
    target("snap", snap::run, 4 * KIB, MIB),
    target("wal", wal::run, 16 * KIB, 8 * MIB),
];

/// Has two faults, behind four letters: `cargo xtask fuzz` believes a fuzzer only after it has found them.
pub static PLANTED: Target = target("planted", planted::run, 64, MIB);

/// The target of this name, the planted one included.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS
        .iter()
        .chain([&PLANTED])
        .find(|target| target.name == name)
}
