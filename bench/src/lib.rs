//! Measures etcore beside the real etcd; a table of contents.
//!
//! ```text
//! report    what etcd's `benchmark` tool prints, read strictly
//! stats     min, median, max; ratios within a round
//! usage     CPU and memory of a process, from /proc
//! machine   what the figures were measured on
//! process   a child on one core, ended by its id
//! server    one server: fresh directory, free ports, ready, stopped
//! load      one run of the `benchmark` tool against a server
//! case      what is measured: put, range, depth-1 put, idle
//! compare   two servers in turns, round by round
//! table     the result for people and for programs
//! profile   where a put's microseconds go, by `perf`
//! args      the flags of `etcore-compare`
//! ```
//!
//! The rivals are programs started from outside, never linked. Usage: `bench/README.md`.
#![forbid(unsafe_code)]

pub mod args;
pub mod case;
pub mod compare;
pub mod load;
pub mod machine;
pub mod process;
pub mod profile;
pub mod report;
pub mod server;
pub mod stats;
pub mod table;
pub mod usage;
