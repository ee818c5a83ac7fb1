//! The etcore server as a library: the program's parts, from flags to shards.
#![forbid(unsafe_code)]

pub mod config;
pub mod errors;
pub mod gateway;
pub mod http;
mod identity;
pub mod logging;
pub mod member;
pub mod method;
pub mod metrics;
mod peer;
mod services;
mod shard;
pub mod storage;
pub mod tls;
pub mod version;
