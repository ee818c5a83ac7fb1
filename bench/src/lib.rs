//! Measures etcore beside the real etcd; a table of contents.
//!
//! ```text
//! load      what is asked, by which client, and what came of it
//! own       our load generator, on net's client
//! tool      one run of etcd's `benchmark` against a server
//! report    what that tool prints, read strictly
//!
//! process   a child on one core, ended by its id
//! server    one server: fresh directory, free ports, ready, stopped
//! usage     CPU and memory of a process, from /proc
//! stopwatch CPU and wall time over the measured part
//! machine   what the figures were measured on
//!
//! metric    the figures and how they are made
//! case      what is measured: put, range, depth-1 put, prefixes, memory, idle
//! stats     min, median, max; ratios within a round
//!
//! single    run: one load on a server that runs already
//! compare   compare: two servers in turns, round by round
//! floors    floors: every promise, PASS or MISS
//! steady    steady: a prober while checkpoints and a compaction run
//! extremes  extremes: crowds of watchers and leases, stalled clients, maintenance, starts
//! agree     agree: our client beside etcd's
//! profile   profile: where a put's microseconds go, by `perf`
//! null_server, disk   the denominators
//! table     results for people and for programs
//! args      the flags of `etcore-bench`
//! ```
//!
//! The rivals are programs started from outside, never linked. Usage: `bench/README.md`.
#![forbid(unsafe_code)]

pub mod agree;
pub mod args;
pub mod case;
pub mod compare;
pub mod disk;
pub mod extremes;
pub mod floors;
pub mod load;
pub mod machine;
pub mod metric;
pub mod null_server;
pub mod own;
pub mod process;
pub mod profile;
pub mod report;
pub mod server;
pub mod single;
pub mod stats;
pub mod steady;
pub mod stopwatch;
pub mod table;
pub mod tool;
pub mod usage;
