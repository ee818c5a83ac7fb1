//! The deterministic core of etcore: log, index, store, leases, consensus; no clock, no file, no socket.
#![deny(unsafe_code)]

pub mod alarm;
pub mod backend;
pub mod boot;
mod bump;
pub mod consensus;
pub mod cow;
pub mod index;
pub mod lease;
pub mod membership;
pub mod mvcc;
pub mod node;
pub mod peer;
pub mod random;
pub mod snap;
pub mod state;
pub mod store;
pub mod tail;
pub mod types;
pub mod view;
pub mod wal;
pub mod watch;
