//! The checkers: each looks at the history alone and knows nothing of how it was made.
//!
//! - [`agreement`] runs along: what members publish, answer and hash is the same on all of them;
//! - [`reading`]: so does this: what readers under pins and holds saw is what was published at their revision;
//! - [`watching`]: so does this: what watchers are told is what was published, in order, once, whole, without a gap;
//! - [`leases`]: so does this: who has a lease, for how long at least, and that its keys go with it;
//! - [`durability`]: every acknowledged write is published, nothing else is, nothing twice;
//! - [`revisions`]: every answer is the state of its revision, and revisions follow real time: linearizability,
//!   transactions over several keys included;
//! - [`register`]: the same for single keys with no revision believed (after Wing and Gong, and Lowe).

pub mod agreement;
pub mod content;
pub mod durability;
pub mod flip;
pub mod leases;
pub mod reading;
pub mod register;
pub mod revisions;
pub mod store;
pub mod watching;

use crate::history::{Operation, Published};

/// A promise that was broken, said for a person.
pub type Violation = String;

/// All checks of a finished run.
///
/// # Errors
/// The first violation.
pub fn history(operations: &[Operation], published: &Published) -> Result<(), Violation> {
    durability::check(operations, published)?;
    revisions::check(operations, published)?;
    register::check(operations)
}
