//! What the end-to-end tests share. The tests themselves are in `tests/tests`.
//!
//! ```text
//!  process   the program under test, on loopback and in a temporary directory; its log; its end
//!  client    a blocking gRPC client on `net::ClientConnection`
//!  api       etcd's calls and requests by name
//!  contents  all that a member holds, to compare
//!  directory copies of data directories, and a small form of them
//!  http      a GET
//!  raw       octets and hand-made frames, for what no client would send
//!  random    numbers from a printed seed
//! ```
//!
//! The program is the one named by `ETCORE_BIN`, else `etcore` as cargo builds it. The tests speak only to what
//! etcd's contract promises, so `ETCORE_BIN` may also name a real etcd: that is how the tests themselves are
//! tested. Tests of what etcore alone promises say so and are left out then ([`process::is_etcore`]).
//!
//! No test sleeps to wait for something: waiting is for an event, with a deadline.
#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod contents;
pub mod directory;
pub mod http;
pub mod ports;
pub mod process;
pub mod random;
pub mod raw;
