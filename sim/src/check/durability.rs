//! Every acknowledged write is among what was published, and every published change was asked for, once.
//!
//! Together with [`super::agreement`], which compares every member's state to what was published, this says that what
//! was acknowledged is on every member in the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::mvcc;

use super::Violation;
use crate::history::{Call, Operation, Outcome, Published};

/// # Errors
/// The first write that is missing, was invented, or came twice.
pub fn check(operations: &[Operation], published: &Published) -> Result<(), Violation> {
    let revisions = revisions_of_values(published)?;
    for operation in operations {
        let Some(value) = operation.call.value() else {
            continue;
        };
        let at = revisions.get(value);
        match (&operation.outcome, at) {
            (Outcome::Written { revision, .. }, Some(at)) if at == revision => {}
            (Outcome::Unknown, _) => {}
            (Outcome::Refused | Outcome::Failed { .. } | Outcome::Read { .. }, None) => {}
            (outcome, at) => {
                return Err(format!(
                    "durability: {operation:?} ended as {outcome:?}, but its value is published at {at:?}"
                ));
            }
        }
    }
    check_origins(operations, published)
}

/// Where each value was published. Clients never use a value twice.
fn revisions_of_values(published: &Published) -> Result<BTreeMap<Bytes, i64>, Violation> {
    let mut revisions = BTreeMap::new();
    for (revision, changes) in published.iter() {
        for change in changes.iter().filter(|change| !change.tombstone) {
            let value = mvcc::decode(&change.pair).value;
            let former = revisions.insert(value.clone(), revision);
            if former.is_some_and(|former| former != revision) {
                return Err(format!(
                    "durability: {value:?} was written at revision {revision} and at {former:?}"
                ));
            }
        }
    }
    Ok(revisions)
}

/// Whether somebody asked for each change.
fn check_origins(operations: &[Operation], published: &Published) -> Result<(), Violation> {
    let mut asked: BTreeMap<&Bytes, &Call> = BTreeMap::new();
    for operation in operations {
        if let Some(value) = operation.call.value() {
            asked.insert(value, &operation.call);
        }
    }
    for (revision, changes) in published.iter() {
        for change in changes {
            let kv = mvcc::decode(&change.pair);
            let is_asked = match asked.get(&kv.value) {
                _ if change.tombstone => true,
                Some(Call::Put { key, .. } | Call::Swap { key, .. }) => *key == kv.key,
                Some(Call::PutPair { keys, .. }) => keys.contains(&kv.key),
                _ => false,
            };
            if !is_asked {
                return Err(format!(
                    "durability: nobody asked for {kv:?} of revision {revision}"
                ));
            }
        }
    }
    Ok(())
}
