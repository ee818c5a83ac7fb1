//! The decision itself, as a chain of questions: which snapshot counts, where the database stands, whether the log joins
//! on, what raft begins from.

use super::log::Log;
use super::plan::StartPlan;
use super::{BootError, DbFacts, Found, Position};
use crate::wal::Recovered;
use prost::Message;
use proto::etcdserverpb::Metadata;
use proto::raftpb::{ConfState, HardState};

/// What to do first.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Nothing was written here yet: the member starts the first time.
    Bootstrap,
    /// The database received for this snapshot was never swapped in: rename `<index>.snap.db` over `db`, sync the
    /// directory, gather the facts anew and decide again.
    SwapIn(Position),
    /// Go on where the last run ended.
    Resume(Box<StartPlan>),
}

/// Decides how to start.
///
/// # Errors
/// [`BootError`]: the files contradict each other.
///
/// Source: etcd `server/etcdserver/bootstrap.go` (`recoverSnapshot`, `buildConfStateFromV3store`),
/// `server/storage/backend.go` (`RecoverSnapshotBackend`), `server/storage/wal/wal.go` (`ValidSnapshotEntries`).
pub fn decide(found: &Found<'_>) -> Result<Start, BootError> {
    let consistent_index = found.db.map_or(0, |db| db.consistent_index);
    let Some(recovered) = found.wal else {
        return match found.snapshots.iter().map(|file| file.at.index).max() {
            None if consistent_index == 0 => Ok(Start::Bootstrap),
            snapshot => Err(BootError::LogMissing {
                index: snapshot.unwrap_or(0).max(consistent_index),
            }),
        };
    };
    let log = Log::new(recovered, found.snapshots);
    let snapshot = newest_snapshot(recovered);
    if snapshot.index > consistent_index {
        if found.received_dbs.contains(&snapshot.index) {
            return Ok(Start::SwapIn(snapshot));
        }
        if !log.covers(consistent_index, snapshot) {
            return Err(BootError::DatabaseBehindSnapshot {
                database: found.db.map(|db| db.consistent_index),
                snapshot: snapshot.index,
            });
        }
    }
    let plan = resume(found, recovered, &log, snapshot)?;
    Ok(Start::Resume(Box::new(plan)))
}

/// The last snapshot record that the last state record covers; (0, 0) if there is none but the log's first.
fn newest_snapshot(recovered: &Recovered) -> Position {
    let commit = recovered.hard_state.commit();
    let records = recovered.snapshots.iter().rev();
    let mut valid = records.filter(|record| record.index() <= commit);
    valid
        .next()
        .map_or_else(Position::default, |record| Position {
            index: record.index(),
            term: record.term(),
        })
}

fn resume(
    found: &Found<'_>,
    recovered: &Recovered,
    log: &Log<'_>,
    snapshot: Position,
) -> Result<StartPlan, BootError> {
    let no_db = DbFacts::default();
    let db = found.db.unwrap_or(&no_db);
    check_storage_version(db)?;
    check_ends(db, recovered, log)?;
    check_owner(recovered, db, log)?;
    let applied = Position {
        index: db.consistent_index,
        term: applied_term(db, log)?,
    };
    let offset = log.offset(applied);
    let last = log.last_entry().unwrap_or(offset);
    // An older run of entries, below an installed snapshot, is no part of raft's log.
    let last = if last.index < offset.index {
        offset
    } else {
        last
    };
    // A snapshot record may say that the log goes on behind entries which nobody has.
    let commit = recovered.hard_state.commit().max(applied.index);
    if commit > last.index {
        let last = last.index;
        return Err(BootError::CommitMissing { commit, last });
    }
    let mut notes = Vec::new();
    note_snapshots(found, snapshot, applied, &mut notes);
    Ok(StartPlan {
        hard_state: hard_state(&recovered.hard_state, applied, last, &mut notes),
        conf_state: conf_state(db, &mut notes)?,
        applied,
        offset,
        last,
        snapshot,
        notes,
    })
}

/// Without one it is a database of 3.5 or before, whose schema is part of the later ones.
///
/// Source: etcd `server/storage/schema/schema.go` (`Validate`).
fn check_storage_version(db: &DbFacts) -> Result<(), BootError> {
    match db.storage_version {
        None | Some((3, 5..=7)) => Ok(()),
        Some((major, minor)) => Err(BootError::StorageVersion { major, minor }),
    }
}

/// Log and database must be of one member.
///
/// A database of the time before this member was added does not know it yet: a member that joins may be given the log from
/// its beginning. So it counts only if the log has it as a member before the database's entry.
fn check_owner(recovered: &Recovered, db: &DbFacts, log: &Log<'_>) -> Result<(), BootError> {
    let metadata = Metadata::decode(recovered.metadata.clone());
    let Some(member_id) = metadata.ok().and_then(|metadata| metadata.node_id) else {
        // A log that does not say whose it is has nothing to compare; whether it may be used is not asked here.
        return Ok(());
    };
    let index = db.consistent_index;
    let ConfState {
        voters, learners, ..
    } = &db.members;
    let mut known = voters.iter().chain(learners).chain(&db.removed_members);
    if index == 0 || known.any(|id| *id == member_id) || !log.has_member(member_id, index) {
        return Ok(());
    }
    Err(BootError::OtherMember { member_id, index })
}

/// The log must reach from the database to its own commit.
fn check_ends(db: &DbFacts, recovered: &Recovered, log: &Log<'_>) -> Result<(), BootError> {
    let (database, last) = (db.consistent_index, log.last_index());
    if database > last {
        return Err(BootError::DatabaseAheadOfLog { database, last });
    }
    let commit = recovered.hard_state.commit();
    if commit > last {
        return Err(BootError::CommitMissing { commit, last });
    }
    match log.first_index() {
        Some(first) if first > database.saturating_add(1) => {
            Err(BootError::LogGap { database, first })
        }
        _ => Ok(()),
    }
}

/// The term of the last applied entry, by the log and the database alike.
fn applied_term(db: &DbFacts, log: &Log<'_>) -> Result<u64, BootError> {
    let index = db.consistent_index;
    if index == 0 {
        return Ok(0);
    }
    match (log.term(index), db.term) {
        (Some(by_log), Some(by_db)) if by_log != by_db && !is_neighbour(index, by_db, log) => {
            Err(BootError::OtherLog {
                index,
                by_log,
                by_db,
            })
        }
        (Some(term), _) | (None, Some(term)) => Ok(term),
        (None, None) => Err(BootError::TermUnknown { index }),
    }
}

/// etcd reads index and term one after the other while it may be changing them, so a database written at the border of
/// two terms can have the term of the entry before or behind.
fn is_neighbour(index: u64, by_db: u64, log: &Log<'_>) -> bool {
    let at = |index| log.term(index) == Some(by_db);
    at(index - 1) || at(index.saturating_add(1))
}

/// The recorded state, raised to what is known besides it.
fn hard_state(
    recorded: &HardState,
    applied: Position,
    last: Position,
    notes: &mut Vec<String>,
) -> HardState {
    let (recorded_commit, recorded_term) = (recorded.commit(), recorded.term());
    if recorded_commit < applied.index {
        notes.push(format!(
            "the database is at entry {}, ahead of the recorded commit {recorded_commit}, which is written lazily",
            applied.index
        ));
    }
    // Entries reach the disk before the state of their term. A vote in that term would have reached it before
    // them, so none was given.
    let term = last.term.max(applied.term);
    let (term, vote) = match term > recorded_term {
        true => {
            notes.push(format!(
                "the log has entries of term {term}, ahead of the recorded term {recorded_term}"
            ));
            (term, 0)
        }
        false => (recorded_term, recorded.vote()),
    };
    HardState {
        term: Some(term),
        vote: Some(vote),
        commit: Some(recorded_commit.max(applied.index)),
    }
}

/// The configuration at the database's consistent index.
///
/// By its members, as in etcd 3.7: they change in the same transaction as the consistent index, whereas `confState` lags behind
/// it for a moment while etcd 3.6 applies configuration changes to raft once more at start.
fn conf_state(db: &DbFacts, notes: &mut Vec<String>) -> Result<ConfState, BootError> {
    let members = &db.members;
    if db.consistent_index == 0 {
        return Ok(ConfState::default());
    }
    if members.voters.is_empty() && members.learners.is_empty() {
        let index = db.consistent_index;
        return Err(BootError::NoMembers { index });
    }
    if let Some(by_meta) = &db.conf_state
        && !is_same_configuration(by_meta, members)
    {
        notes.push(format!(
            "the database's confState (voters {:x?}, learners {:x?}) differs from its members (voters {:x?}, learners \
             {:x?}); the members count",
            by_meta.voters, by_meta.learners, members.voters, members.learners
        ));
    }
    Ok(ConfState {
        voters: members.voters.clone(),
        learners: members.learners.clone(),
        ..ConfState::default()
    })
}

fn is_same_configuration(a: &ConfState, b: &ConfState) -> bool {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    sorted(&a.voters) == sorted(&b.voters) && sorted(&a.learners) == sorted(&b.learners)
}

fn note_snapshots(
    found: &Found<'_>,
    snapshot: Position,
    applied: Position,
    notes: &mut Vec<String>,
) {
    if snapshot.index > applied.index {
        notes.push(format!(
            "the database is at entry {}, behind the snapshot of entry {}; the log still has all entries between, which \
             are applied again",
            applied.index, snapshot.index
        ));
    }
    let newer = |index: &&u64| **index > snapshot.index;
    let files: Vec<u64> = found.snapshots.iter().map(|file| file.at.index).collect();
    for index in files.iter().filter(newer) {
        notes.push(format!(
            "the snapshot file of entry {index} is ignored: the write-ahead log has no committed record of it"
        ));
    }
    for index in found.received_dbs.iter().filter(newer) {
        notes.push(format!(
            "the received database of entry {index} is ignored: the write-ahead log has no committed record of its snapshot"
        ));
    }
}
