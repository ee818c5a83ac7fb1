//! gRPC over HTTP/2: messages in DATA, the status in trailers, deadlines.
//!
//! ```text
//!  request   HEADERS (POST, content-type application/grpc, grpc-timeout, metadata)  DATA…  END_STREAM
//!  response  HEADERS (200)  DATA…  HEADERS (grpc-status, grpc-message) END_STREAM
//!  refusal   HEADERS (200, grpc-status, grpc-message) END_STREAM                          "Trailers-Only"
//!  message   flag (0) | length u32 BE | bytes                                        cut anywhere by DATA
//! ```
//!
//! What is observable follows grpc-go 1.82, the library inside etcd 3.7: which refusals are HTTP errors, which are
//! statuses, and their texts. No compression is spoken; an encoded request is refused as etcd refuses it.
//!
//! `server` joins these parts to an HTTP/2 connection; the faces to the rest of the world are
//! [`crate::ServerConnection`] and [`crate::ClientConnection`].

pub(crate) mod deadlines;
pub(crate) mod deframer;
pub(crate) mod keepalive;
pub(crate) mod request;
pub(crate) mod server;
mod stalls;
mod status;
pub(crate) mod timeout;

pub use status::{Code, Status};
pub(crate) use status::{encode_message, parse_status};
