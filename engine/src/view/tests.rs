//! The published state from other threads.
