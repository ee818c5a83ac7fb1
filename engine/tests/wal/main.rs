//! The WAL over a simulated disk, and logs of real etcds.

mod arbitrary;
mod crash;
mod faults;
mod golden;
mod sim_disk;
