//! Linearizability by the order that the members themselves claim: revisions.
//!
//! The published revisions are one sequential history of all keys. It is a linearization of what clients saw if every
//! answer is what that history says at the answer's revision, and if no answer is older than one that was known before
//! its call began. Transactions over several keys and scans are covered, since a revision is one state of everything.

use proto::mvccpb::KeyValue;

use super::Violation;
use crate::history::{Call, Operation, Outcome, Published};

/// # Errors
/// The first answer that no order explains.
pub fn check(operations: &[Operation], published: &Published) -> Result<(), Violation> {
    for operation in operations {
        check_content(operation, published)
            .map_err(|why| format!("linearizability: {why}: {operation:?}"))?;
    }
    check_real_time(operations)
}

fn check_content(operation: &Operation, published: &Published) -> Result<(), Violation> {
    let Some(revision) = operation.outcome.revision() else {
        return Ok(());
    };
    if revision > published.newest() {
        return Err(format!("revision {revision} was never published"));
    }
    match &operation.outcome {
        Outcome::Read { kvs, .. } => check_read(&operation.call, revision, kvs, published),
        Outcome::Written { former, .. } => {
            check_write(&operation.call, revision, former, published)
        }
        _ => Ok(()),
    }
}

fn check_read(
    call: &Call,
    revision: i64,
    kvs: &[KeyValue],
    published: &Published,
) -> Result<(), Violation> {
    let expected: Vec<&KeyValue> = match call {
        Call::Scan => published.all(revision),
        Call::Get { key, .. } => published.get(key, revision).into_iter().collect(),
        Call::Swap { key, expected, .. } => {
            let now = published.get(key, revision);
            if now.map(|kv| &kv.value) == expected.as_ref() {
                return Err("the swap should have succeeded".to_owned());
            }
            now.into_iter().collect()
        }
        _ => return Err("a read was answered to a write".to_owned()),
    };
    match kvs.iter().eq(expected.iter().copied()) {
        true => Ok(()),
        false => Err(format!("at revision {revision} stood {expected:?}")),
    }
}

fn check_write(
    call: &Call,
    revision: i64,
    former: &[KeyValue],
    published: &Published,
) -> Result<(), Violation> {
    let before = revision - 1;
    let replaced: Vec<&KeyValue> = match call {
        Call::Put { key, .. } => published.get(key, before).into_iter().collect(),
        // A delete that found nothing made no revision.
        Call::Delete { key } if former.is_empty() => {
            published.get(key, revision).into_iter().collect()
        }
        Call::DeleteAll if former.is_empty() => published.all(revision),
        Call::Delete { key } => published.get(key, before).into_iter().collect(),
        Call::DeleteAll => published.all(before),
        Call::Swap { key, expected, .. } => {
            let now = published.get(key, before).map(|kv| &kv.value);
            if now != expected.as_ref() {
                return Err(format!("the swap succeeded over {now:?}"));
            }
            Vec::new()
        }
        _ => Vec::new(),
    };
    match former.iter().eq(replaced.iter().copied()) {
        true => Ok(()),
        false => Err(format!("it replaced {replaced:?}")),
    }
}

/// True if the operation made the revision of its answer.
fn makes_revision(operation: &Operation) -> bool {
    match (&operation.call, &operation.outcome) {
        (Call::Delete { .. } | Call::DeleteAll, Outcome::Written { former, .. }) => {
            !former.is_empty()
        }
        (_, Outcome::Written { .. }) => true,
        _ => false,
    }
}

fn check_real_time(operations: &[Operation]) -> Result<(), Violation> {
    let mut known: Vec<(u64, i64)> = operations
        .iter()
        .filter_map(|o| Some((o.returned?, o.outcome.revision()?)))
        .collect();
    known.sort_unstable();
    let mut floors: Vec<(u64, i64)> = Vec::new();
    for (at, revision) in known {
        let floor = floors.last().map_or(revision, |(_, f)| revision.max(*f));
        floors.push((at, floor));
    }
    for operation in operations.iter().filter(|o| !o.call.is_serializable()) {
        let Some(revision) = operation.outcome.revision() else {
            continue;
        };
        let count = floors.partition_point(|(at, _)| *at < operation.called);
        let floor = floors[..count].last().map_or(0, |(_, floor)| *floor);
        let least = floor + i64::from(makes_revision(operation));
        if revision < least {
            return Err(format!(
                "linearizability: revision {floor} was known when this began: {operation:?}"
            ));
        }
    }
    Ok(())
}
