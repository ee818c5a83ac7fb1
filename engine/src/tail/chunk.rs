//! A chunk of the tail: a fixed stretch of positions, filled once, dropped as a whole.

use std::sync::{Arc, OnceLock};

use super::Mutation;

/// Mutations per chunk: small enough that dropping one is a short piece of work, large enough to be cheap to keep.
pub(super) const CHUNK_LEN: usize = 512;

/// Slots in order; those of the last chunk are filled one by one.
pub(super) type Slots = Arc<[OnceLock<Mutation>]>;

/// `None`: forgotten.
pub(super) type Chunk = Option<Slots>;

pub(super) fn new_slots() -> Slots {
    (0..CHUNK_LEN).map(|_| OnceLock::new()).collect()
}
