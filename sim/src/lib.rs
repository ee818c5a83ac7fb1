//! Whole members in one deterministic world: disk, network, clock, clients and checkers.
//!
//! ```text
//!   plan      what one seed means: sizes, rates, faults
//!   world     virtual time; carries events between the parts below
//!     member    engine::node::Node and what a shell does for it
//!     disk      files that forget and fail as a disk does; the bytes are the production WAL's and store's
//!     network   ordered streams between members that drop, delay and part
//!     workload  clients that call and wait
//!     reader    other cores: they read under pins and holds while the node goes on
//!     watching  hubs, and clients that listen, fall behind, lose their stream and go on elsewhere
//!   history   what clients saw; what members published
//!   check     durability, linearizability, agreement, watches, the store at the end: apart from the workload
//!     alone   a member aside from the world, to see what it makes of a directory
//!   runner    a seed to a verdict; a failing one is shrunk
//! ```
//!
//! One seed replays a run exactly: there is one thread, no clock but the event queue, and every random number comes
//! from the seed. Each part draws from a stream of its own, so that a fault left out while shrinking disturbs the
//! others little.
//!
//! Readers run in turns with the node, on one thread: what two threads do to each other at one moment is the business of
//! the model tests in `engine`.
//!
//! Not simulated yet: snapshots to followers that lag (catch-up windows are larger than any run), membership changes.
#![forbid(unsafe_code)]

pub mod alone;
pub mod check;
pub mod disk;
pub mod history;
pub mod member;
pub mod network;
pub mod plan;
pub mod random;
pub mod reader;
pub mod runner;
pub mod watching;
pub mod workload;
pub mod world;
