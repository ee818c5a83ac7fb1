//! The etcore server as a library.

pub mod config;
pub mod errors;
pub mod http;
pub mod logging;
pub mod method;
pub mod metrics;
pub mod version;
