//! The etcore server as a library.
