//! The program `etcore`.
fn main() {}
