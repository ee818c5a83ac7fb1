//! A state is what was published: all keys at several revisions, and every change that is not compacted.
//!
//! What it has behind the newest published revision is not looked at.

use engine::mvcc::RequestError;
use engine::state::View;
use prost::Message;
use proto::etcdserverpb::RangeRequest;
use proto::mvccpb::KeyValue;

use super::Violation;
use crate::history::{Change, Published};
use crate::workload;

/// Revisions that are read, from the oldest to the newest.
const REVISION_COUNT_MAX: i64 = 12;

/// What a look at a state met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What was published.
    All,
    /// That, until the store's damage made it answer with an error.
    Damage,
}

/// Reads all that can be read.
///
/// # Errors
/// An answer that is not what was published.
pub fn check(view: &View<'_>, published: &Published) -> Result<Seen, Violation> {
    let newest = view.revision().min(published.newest());
    let oldest = view.compact_revision().max(1);
    if oldest > newest {
        return Ok(Seen::All);
    }
    for step in 0..=REVISION_COUNT_MAX {
        let revision = oldest + (newest - oldest) * step / REVISION_COUNT_MAX;
        let request = RangeRequest {
            revision,
            ..workload::everything()
        };
        let answer = match view.range(&request) {
            Ok(answer) => answer,
            Err(RequestError::Damaged(_)) => return Ok(Seen::Damage),
            Err(error) => return Err(format!("all keys at {revision}: {error}")),
        };
        let kvs: Result<Vec<KeyValue>, _> = answer
            .kvs
            .iter()
            .map(|kv| KeyValue::decode(&**kv))
            .collect();
        let kvs = kvs.map_err(|e| format!("all keys at {revision}: {e}"))?;
        let expected = published.all(revision);
        if !kvs.iter().eq(expected.iter().copied()) {
            return Err(format!(
                "all keys at {revision} are {kvs:?}, published were {expected:?}"
            ));
        }
    }
    check_changes(view, oldest + 1, newest, published)
}

fn check_changes(
    view: &View<'_>,
    from: i64,
    newest: i64,
    published: &Published,
) -> Result<Seen, Violation> {
    let mut expected = (from..=newest).flat_map(|revision| {
        let changes = published.changes(revision).unwrap_or_default();
        changes.iter().map(move |change| (revision, change))
    });
    for change in view.changes(from) {
        let change = match change {
            Ok(change) => change,
            Err(RequestError::Damaged(_)) => return Ok(Seen::Damage),
            Err(error) => return Err(format!("changes from {from}: {error}")),
        };
        let revision = change.revision.main;
        if revision > newest {
            break;
        }
        let seen = Change {
            sub: change.revision.sub,
            tombstone: change.tombstone,
            pair: change.pair.to_bytes(),
        };
        if expected.next() != Some((revision, &seen)) {
            return Err(format!("revision {revision} has a change {seen:?}"));
        }
    }
    match expected.next() {
        None => Ok(Seen::All),
        Some(missing) => Err(format!("no change {missing:?}")),
    }
}
