//! HTTP/2, HPACK, gRPC and HTTP/1.1 as sans-io state machines: bytes in, events and bytes out.
#![forbid(unsafe_code)]

mod client;
pub mod grpc;
pub mod h2;
pub mod hpack;
pub mod http;
pub mod http1;
mod limits;
mod metadata;
mod server;
pub mod tls;

pub use client::{ClientConnection, ClientEvent};
pub use limits::{Limits, Rate};
pub use metadata::{Metadata, Records};
pub use server::{CallId, ServerConnection, ServerEvent};
