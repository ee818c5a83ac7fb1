//! The WAL over a simulated disk, and logs of real etcds.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends a test")]

mod arbitrary;
mod crash;
mod faults;
mod golden;
mod released;
mod sim_disk;
