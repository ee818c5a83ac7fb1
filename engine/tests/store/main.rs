//! The store over files in memory: against a model, through crashes and faults, on damaged bytes and etcd's files.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends a test")]

mod cost;
mod crash;
mod damage;
mod disk;
mod faults;
mod golden;
mod model;
