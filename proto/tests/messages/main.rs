//! Compares our messages with those of the real etcd.
//!
//! `tests/golden` holds what the Go tests under `tests/compat/**/protovec` made of etcd's own
//! types: a list of all declarations, and encoded messages with a dump of their fields. Read here,
//! they must give the same fields, and written again the same bytes. The other way round,
//! `etcore.vectors` holds what our types write, and the Go tests decode it with etcd's types.
//!
//! `UPDATE_GOLDEN=1` rewrites `etcore.vectors`.

mod arbitrary;
mod dump;
mod fill;
mod golden;
mod own;
mod reference;
mod schema;
mod types;

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// The descriptors as a later user of the crate would load them.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("the build made it")
});
