//! The program `etcore`.
#![forbid(unsafe_code)]
fn main() {}
