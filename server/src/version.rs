//! The versions that this server tells.
//!
//! Clients decide features by the server's version, so it is the etcd whose contract we serve; our own stands beside
//! it where the format has room.

/// The version of etcd whose contract this server keeps.
pub const ETCD: &str = "3.7.1";
/// The cluster version of members of that version.
pub const CLUSTER: &str = "3.7.0";
/// The oldest cluster version that this server can be in.
pub const MIN_CLUSTER: &str = "3.0.0";
/// etcore's own.
pub const ETCORE: &str = env!("CARGO_PKG_VERSION");
