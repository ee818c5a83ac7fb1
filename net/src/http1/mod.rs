//! HTTP/1.1 (RFC 9112) as sans-io state machines, one per connection: a server for `/metrics`, `/health`, the JSON gateway
//! and the peer routes, a client for tests and peers, and a [`Download`] for responses without an end.
//!
//! ```text
//!  on_bytes --> head (httparse) --> framing --> body --> poll_event: Request
//!                                                            |  one request is answered at a time
//!  poll_transmit <-- output queue <-- status line, fields <-- respond
//! ```
//!
//! Invariants:
//! - One request is with the caller at a time. Pipelined ones wait as bytes, at most [`PIPELINE_BYTES_MAX`]; a client that sends
//!   more has its connection closed after the answer in progress, which HTTP lets it expect.
//! - Where a message ends is never guessed: a length and chunks together, two lengths that differ, folded lines, bare
//!   line feeds inside chunk framing and unknown codings are refused and the connection closed (RFC 9112 §6.1, §11.2).
//! - Other bodies are whole and bounded; memory grows with bytes received, never with a length announced.
//! - A request of [`Limits::streamed_prefixes`] is handed on before its body, and its answer may begin before that ends
//!   and go on for ever. How much waits in either direction is the caller's to bound: by [`Server::pause`] and
//!   [`Server::wants_input`], and by looking at [`Server::output_len`].
//! - No clock: `Date` is sent only if the caller gives it. Time-outs are the caller's, by [`Server::is_idle`].
//!
//! Refusals have the bytes of Go's `net/http`. A body without an end is the connection's rest:
//! [`Server::into_body`], read by a `Download`. Left out: trailers (read, bounded and dropped), streamed requests of a client.
//! Tested by scripts of bytes, fed whole and octet by octet, by client against server, and by noise.

mod body;
mod client;
mod download;
mod head;
mod output;
mod server;
mod streamed;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientError, ClientEvent};
pub use download::{Download, DownloadEvent};
pub use server::{Event, Server};

/// Bytes of later requests kept while one is being answered, and bytes of answers kept before reading the next request.
pub const PIPELINE_BYTES_MAX: usize = 64 * 1024;

/// How many header fields a message may have. It bounds a stack array, so it is no setting.
pub const HEADER_COUNT_MAX: usize = 128;

/// What one message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Request or status line and header fields together.
    pub head_size_bytes_max: usize,
    pub body_size_bytes_max: usize,
    /// Where a path begins with one of these, a request is handed on before its body.
    pub streamed_prefixes: &'static [&'static str],
}

impl Limits {
    fn is_streamed(&self, path: &str) -> bool {
        crate::http::is_below(path, self.streamed_prefixes)
    }
}

impl Default for Limits {
    /// Room for any plausible header list, and for the largest request of the gateway (etcd's 1.5 MiB in base64).
    fn default() -> Self {
        Self {
            head_size_bytes_max: 64 * 1024,
            body_size_bytes_max: 4 * 1024 * 1024,
            streamed_prefixes: &[],
        }
    }
}
