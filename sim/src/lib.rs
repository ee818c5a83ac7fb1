//! Whole members in one deterministic world: disk, network, clock, clients and checkers.
//!
//! ```text
//!   plan      what one seed means: sizes, rates, faults
//!   world     virtual time; carries events between the parts below
//!     member    engine::node::Node and what a shell does for it
//!     disk      files that forget and fail as a disk does; the bytes are the production WAL's
//!     network   ordered streams between members that drop, delay and part
//!     workload  clients that call and wait
//!   history   what clients saw; what members published
//!   check     durability, linearizability, agreement: apart from the workload
//!   runner    a seed to a verdict; a failing one is shrunk
//! ```
//!
//! One seed replays a run exactly: there is one thread, no clock but the event queue, and every random number comes
//! from the seed. Each part draws from a stream of its own, so that a fault left out while shrinking disturbs the
//! others little.
//!
//! Not simulated yet: checkpoints, the mapped store and readers that pin pages (the scans of [`world`] that go on over
//! several turns are where a pin will be held), snapshots to followers that lag (catch-up windows are larger than any
//! run), membership changes.
#![forbid(unsafe_code)]

pub mod check;
pub mod disk;
pub mod history;
pub mod member;
pub mod network;
pub mod plan;
pub mod random;
pub mod runner;
pub mod workload;
pub mod world;
