//! Members agree: on every revision, on the answer to every log entry, on hashes.
//!
//! Whoever publishes something first defines it; everybody else, and the same member after a restart, must say the
//! same. What a single member published and lost again shows in the same way.

use std::collections::BTreeMap;

use engine::mvcc::HashKv;
use engine::state::{Applied, View};

use super::Violation;
use crate::history::{Change, Published};

/// Every so many revisions the hash of the key space is compared.
const HASH_EVERY_REVISIONS: i64 = 16;

/// What was said first.
#[derive(Debug, Default)]
pub struct Agreement {
    pub published: Published,
    /// Term and answer of log entries by index.
    entries: BTreeMap<u64, (u64, String)>,
    /// Hash by revision and the compact revision it was made at.
    hashes: BTreeMap<(i64, i64), u32>,
}

impl Agreement {
    /// A member applied an entry.
    ///
    /// # Errors
    /// If another one applied something else there, or answered otherwise.
    pub fn on_applied(&mut self, member: usize, applied: &Applied) -> Result<(), Violation> {
        let told = format!("{:?} at revision {}", applied.result, applied.revision);
        let told = (applied.term.0, told);
        let index = applied.index.0;
        let first = self.entries.entry(index).or_insert_with(|| told.clone());
        match *first == told {
            true => Ok(()),
            false => Err(format!(
                "agreement: entry {index} of member {member} is {told:?}, elsewhere {first:?}"
            )),
        }
    }

    /// A member shows a new View; `from` is the first revision that it had not shown in this life.
    ///
    /// # Errors
    /// If a revision differs from what was published first.
    pub fn on_view(&mut self, member: usize, from: i64, view: &View<'_>) -> Result<(), Violation> {
        let newest = view.revision();
        if newest + 1 < from {
            return Err(format!(
                "agreement: member {member} went back to revision {newest} from {}",
                from - 1
            ));
        }
        let mut shown: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for change in view.changes(from) {
            let change = change.map_err(|e| format!("agreement: member {member}: {e}"))?;
            let changes = shown.entry(change.revision.main).or_default();
            changes.push(Change {
                sub: change.revision.sub,
                tombstone: change.tombstone,
                pair: change.pair.to_bytes(),
            });
        }
        for revision in from..=newest {
            let changes = shown.remove(&revision).unwrap_or_default();
            let is_compacted = revision <= view.compact_revision();
            self.compare(member, revision, changes, is_compacted)?;
        }
        self.compare_hashes(member, from, view)
    }

    fn compare(
        &mut self,
        member: usize,
        revision: i64,
        changes: Vec<Change>,
        is_compacted: bool,
    ) -> Result<(), Violation> {
        let Some(first) = self.published.changes(revision) else {
            let is_next = revision == self.published.newest() + 1;
            if !is_next || is_compacted || changes.is_empty() {
                return Err(format!(
                    "agreement: member {member} shows revision {revision} with {} changes (compacted: \
                     {is_compacted}), the newest published is {}",
                    changes.len(),
                    self.published.newest()
                ));
            }
            self.published.push(changes);
            return Ok(());
        };
        // A compaction removes whole changes, never alters one.
        let is_same = match is_compacted {
            true => changes.iter().all(|change| first.contains(change)),
            false => first == changes,
        };
        match is_same {
            true => Ok(()),
            false => Err(format!(
                "agreement: revision {revision} of member {member} is {changes:?}, published was {first:?}"
            )),
        }
    }

    fn compare_hashes(
        &mut self,
        member: usize,
        from: i64,
        view: &View<'_>,
    ) -> Result<(), Violation> {
        let newest = view.revision();
        let revision = newest - newest % HASH_EVERY_REVISIONS;
        if revision < from || revision <= view.compact_revision() {
            return Ok(());
        }
        let hash = view.hash_kv(revision);
        let hash = hash.map_err(|e| format!("agreement: no hash at {revision}: {e}"))?;
        self.compare_hash(member, hash)
    }

    /// A member told the hash of a revision.
    ///
    /// # Errors
    /// If another one told another hash.
    pub fn compare_hash(&mut self, member: usize, told: HashKv) -> Result<(), Violation> {
        let at = (told.hash_revision, told.compact_revision);
        let first = *self.hashes.entry(at).or_insert(told.hash);
        match first == told.hash {
            true => Ok(()),
            false => Err(format!(
                "agreement: hash at revision {} (compacted {}) is {:#x} on member {member}, elsewhere {first:#x}",
                at.0, at.1, told.hash
            )),
        }
    }

    /// All members are settled: the whole state is the same, and is what was published.
    ///
    /// # Errors
    /// If two members differ, or one lost something.
    pub fn on_settled(&mut self, views: &[(u64, View<'_>)]) -> Result<(), Violation> {
        let newest = self.published.newest();
        let mut states = Vec::new();
        for (member, (applied_index, view)) in views.iter().enumerate() {
            if view.revision() != newest {
                return Err(format!(
                    "durability: member {member} settled at revision {}, published was {newest}",
                    view.revision()
                ));
            }
            let hash = view.hash_kv(newest).map_err(|e| e.to_string())?;
            self.compare_hash(member, hash)?;
            states.push(summary(*applied_index, view));
        }
        match states.iter().position(|state| *state != states[0]) {
            None => Ok(()),
            Some(other) => Err(format!(
                "agreement: settled member {other} is at {}, member 0 at {}",
                states[other], states[0]
            )),
        }
    }
}

/// What of a state is in no revision: it must be the same on all members that applied as much.
pub fn summary(applied_index: u64, view: &View<'_>) -> String {
    let leases: Vec<_> = view.leases().iter().map(|(id, _)| id).collect();
    let leases: Vec<_> = leases
        .iter()
        .map(|id| (*id, view.lease(*id, true)))
        .collect();
    format!(
        "entry {applied_index}, revision {}, compacted {}, {} keys, leases {leases:?}, alarms {:?}",
        view.revision(),
        view.compact_revision(),
        view.key_count(),
        view.alarms(0)
    )
}
