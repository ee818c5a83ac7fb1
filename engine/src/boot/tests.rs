//! Directories as crashes, restores and mistakes leave them, and what is done with each.

use super::*;
use crate::wal::{Recovered, Recovery, SegmentName, Tail};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use proto::etcdserverpb::Metadata;
use proto::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use proto::walpb;

/// Entries (index, term).
type At = (u64, u64);

fn position((index, term): At) -> Position {
    Position { index, term }
}

/// Entries of term 1 up to 100, of term 2 behind: enough to tell histories apart.
fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<At> {
    range
        .map(|index| (index, 1 + u64::from(index > 100)))
        .collect()
}

fn recovered(entries: &[At], snapshots: &[At], (term, vote, commit): (u64, u64, u64)) -> Recovered {
    let entry = |&(index, term): &At| Entry {
        index: Some(index),
        term: Some(term),
        ..Entry::default()
    };
    let snapshot = |&(index, term): &At| walpb::Snapshot {
        index: Some(index),
        term: Some(term),
        ..walpb::Snapshot::default()
    };
    Recovered {
        metadata: Metadata::explicit(7, 1).encode_to_vec().into(),
        hard_state: HardState {
            term: Some(term),
            vote: Some(vote),
            commit: Some(commit),
        },
        entries: entries.iter().map(entry).collect(),
        snapshots: snapshots.iter().map(snapshot).collect(),
        cut: None,
        tail: Tail {
            segment: SegmentName {
                sequence: 0,
                first_index: 0,
            },
            end: 0,
            dirty_end: 0,
            file_len: 0,
            last_block: Bytes::new(),
            chain: 0,
            last_index: 0,
        },
    }
}

fn members() -> ConfState {
    ConfState {
        voters: vec![7],
        ..ConfState::default()
    }
}

fn database((consistent_index, term): At) -> DbFacts {
    DbFacts {
        consistent_index,
        term: Some(term),
        conf_state: Some(members()),
        members: members(),
        removed_members: Vec::new(),
        storage_version: Some((3, 7)),
    }
}

/// A directory; `start` decides about it.
struct Directory {
    wal: Option<Recovered>,
    db: Option<DbFacts>,
    snapshots: Vec<At>,
    received_dbs: Vec<u64>,
}

impl Directory {
    /// A log from `first` to 120, snapshots at 50 and 110, the state of the last entry but one.
    fn usual(first: u64, db: At) -> Self {
        Directory {
            wal: Some(recovered(
                &entries(first..=120),
                &[(0, 0), (50, 1), (110, 2)],
                (2, 7, 119),
            )),
            db: Some(database(db)),
            snapshots: vec![(110, 2), (50, 1)],
            received_dbs: Vec::new(),
        }
    }

    fn start(&self) -> Result<Start, BootError> {
        let file = |&at: &At| SnapshotFacts { at: position(at) };
        decide(&Found {
            wal: self.wal.as_ref(),
            snapshots: &self.snapshots.iter().map(file).collect::<Vec<_>>(),
            db: self.db.as_ref(),
            received_dbs: &self.received_dbs,
        })
    }

    fn plan(&self) -> StartPlan {
        match self.start() {
            Ok(Start::Resume(plan)) => *plan,
            other => panic!("{other:?}"),
        }
    }
}

/// Applied, offset, last, commit.
fn places(plan: &StartPlan) -> (At, At, At, u64) {
    let at = |position: Position| (position.index, position.term);
    (
        at(plan.applied),
        at(plan.offset),
        at(plan.last),
        plan.hard_state.commit(),
    )
}

#[test]
fn the_database_is_ahead_of_the_snapshot() {
    let directory = Directory::usual(1, (115, 2));
    let plan = directory.plan();
    assert_eq!(places(&plan), ((115, 2), (0, 0), (120, 2), 119));
    assert_eq!(plan.snapshot, position((110, 2)));
    assert_eq!(plan.conf_state, members());
    assert_eq!((plan.hard_state.term(), plan.hard_state.vote()), (2, 7));
    assert_eq!(plan.notes, Vec::<String>::new());
    let log = plan.take_log(&mut directory.wal.unwrap());
    assert_eq!((log.len(), log[0].index()), (120, 1));
}

#[test]
fn older_segments_are_released() {
    // The entry before the first at hand is a snapshot's: its term is known.
    let plan = Directory::usual(111, (115, 2)).plan();
    assert_eq!(places(&plan), ((115, 2), (110, 2), (120, 2), 119));
    // Nothing tells the term of entry 104: raft's log begins behind the first entry instead.
    let directory = Directory::usual(105, (115, 2));
    let plan = directory.plan();
    assert_eq!(places(&plan), ((115, 2), (105, 2), (120, 2), 119));
    let log = plan.take_log(&mut directory.wal.unwrap());
    assert_eq!((log.len(), log[0].index()), (15, 106));
    // The log joins on directly: the database tells the term.
    let plan = Directory::usual(116, (115, 2)).plan();
    assert_eq!(places(&plan), ((115, 2), (115, 2), (120, 2), 119));
}

#[test]
fn the_database_is_ahead_of_the_recorded_commit() {
    let plan = Directory::usual(105, (120, 2)).plan();
    assert_eq!(places(&plan), ((120, 2), (105, 2), (120, 2), 120));
    assert!(
        plan.notes[0].contains("ahead of the recorded commit 119"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn the_database_is_ahead_of_the_log() {
    let error = Directory::usual(1, (121, 2)).start().unwrap_err();
    assert_eq!(
        error,
        BootError::DatabaseAheadOfLog {
            database: 121,
            last: 120
        }
    );
    let text = error.to_string();
    assert!(text.starts_with("the database (member/snap/db) is at entry 121, but the write-ahead log ends at entry 120: put "), "{text}");
}

/// As after restoring an older copy of `db`. etcd refuses; the log has all that is missing.
#[test]
fn the_database_is_behind_the_snapshot_but_the_log_is_whole() {
    let plan = Directory::usual(31, (30, 1)).plan();
    assert_eq!(places(&plan), ((30, 1), (30, 1), (120, 2), 119));
    assert!(
        plan.notes[0].contains("behind the snapshot of entry 110"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn the_database_is_behind_the_snapshot_and_the_log_too_short() {
    let error = Directory::usual(105, (103, 2)).start().unwrap_err();
    let behind = BootError::DatabaseBehindSnapshot {
        database: Some(103),
        snapshot: 110,
    };
    assert_eq!(error, behind);
    assert!(
        error
            .to_string()
            .contains("member/snap/000000000000006e.snap.db is not there"),
        "{error}"
    );
    let mut directory = Directory::usual(105, (0, 0));
    directory.db = None;
    let error = directory.start().unwrap_err();
    assert_eq!(
        error,
        BootError::DatabaseBehindSnapshot {
            database: None,
            snapshot: 110
        }
    );
}

/// The log is older than the snapshot that was installed, and the crash came before the new database was swapped in.
#[test]
fn a_received_database_is_swapped_in_first() {
    let mut directory = Directory::usual(1, (40, 1));
    directory.wal = Some(recovered(
        &entries(1..=50),
        &[(0, 0), (200, 5)],
        (5, 0, 200),
    ));
    let behind = BootError::DatabaseBehindSnapshot {
        database: Some(40),
        snapshot: 200,
    };
    assert_eq!(directory.start(), Err(behind));
    directory.received_dbs = vec![110, 200];
    assert_eq!(directory.start(), Ok(Start::SwapIn(position((200, 5)))));

    directory.received_dbs = vec![110];
    directory.db = Some(database((200, 5)));
    let plan = directory.plan();
    assert_eq!(places(&plan), ((200, 5), (200, 5), (200, 5), 200));
    assert_eq!(plan.take_log(&mut directory.wal.unwrap()), []);
}

/// The snapshot's record was written, but not the state that makes it valid: the leader will send it again.
#[test]
fn a_received_database_of_an_uncommitted_snapshot_is_ignored() {
    let mut directory = Directory::usual(1, (40, 1));
    directory.wal = Some(recovered(&entries(1..=50), &[(0, 0), (200, 5)], (1, 0, 45)));
    directory.snapshots = vec![(200, 5)];
    directory.received_dbs = vec![200];
    let plan = directory.plan();
    assert_eq!(places(&plan), ((40, 1), (0, 0), (50, 1), 45));
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
}

/// A crash between the snapshot file and its record, or a record that was torn: the older one counts.
#[test]
fn a_snapshot_file_without_a_record_is_ignored() {
    let mut directory = Directory::usual(1, (115, 2));
    directory.wal = Some(recovered(
        &entries(1..=120),
        &[(0, 0), (50, 1)],
        (2, 7, 119),
    ));
    let plan = directory.plan();
    assert_eq!(plan.snapshot, position((50, 1)));
    assert_eq!(places(&plan), ((115, 2), (0, 0), (120, 2), 119));
    assert!(
        plan.notes[0].contains("snapshot file of entry 110 is ignored"),
        "{:?}",
        plan.notes
    );
}

/// The record may be of a history that lost, so it must not tell a term.
#[test]
fn a_record_above_the_commit_tells_nothing() {
    let mut directory = Directory::usual(1, (115, 2));
    directory.wal = Some(recovered(
        &entries(116..=120),
        &[(50, 1), (115, 9)],
        (2, 7, 114),
    ));
    assert_eq!(directory.plan().offset, position((115, 2)));
    directory.db.as_mut().unwrap().term = None;
    assert_eq!(
        directory.start(),
        Err(BootError::TermUnknown { index: 115 })
    );
}

#[test]
fn a_gap_between_database_and_log_is_refused() {
    let mut directory = Directory::usual(1, (60, 1));
    directory.wal = Some(recovered(
        &entries(62..=120),
        &[(0, 0), (50, 1)],
        (2, 7, 119),
    ));
    assert_eq!(
        directory.start(),
        Err(BootError::LogGap {
            database: 60,
            first: 62
        })
    );
    directory.db = Some(database((61, 1)));
    assert_eq!(directory.plan().offset, position((61, 1)));
}

#[test]
fn a_log_without_its_last_segments_is_refused() {
    let mut directory = Directory::usual(1, (60, 1));
    directory.wal = Some(recovered(
        &entries(1..=100),
        &[(0, 0), (50, 1)],
        (2, 7, 119),
    ));
    assert_eq!(
        directory.start(),
        Err(BootError::CommitMissing {
            commit: 119,
            last: 100
        })
    );
}

#[test]
fn no_database_and_a_whole_log() {
    let mut directory = Directory::usual(1, (0, 0));
    directory.db = None;
    let plan = directory.plan();
    assert_eq!(places(&plan), ((0, 0), (0, 0), (120, 2), 119));
    assert_eq!(plan.conf_state, ConfState::default());
    assert!(!plan.is_blank());
    // So it is with a database that was made and never written to.
    directory.db = Some(DbFacts::default());
    assert_eq!(places(&directory.plan()), ((0, 0), (0, 0), (120, 2), 119));
}

#[test]
fn a_database_without_a_log_is_refused() {
    let mut directory = Directory::usual(1, (115, 2));
    directory.wal = None;
    directory.snapshots.clear();
    assert_eq!(directory.start(), Err(BootError::LogMissing { index: 115 }));
    directory.db = None;
    directory.snapshots = vec![(50, 1)];
    assert_eq!(directory.start(), Err(BootError::LogMissing { index: 50 }));
    // The database is made before the log: a crash between leaves it alone.
    directory.db = Some(DbFacts::default());
    directory.snapshots.clear();
    assert_eq!(directory.start(), Ok(Start::Bootstrap));
    directory.db = None;
    assert_eq!(directory.start(), Ok(Start::Bootstrap));
}

#[test]
fn an_empty_log_beside_a_database_is_refused() {
    let mut directory = Directory::usual(1, (115, 2));
    directory.wal = Some(recovered(&[], &[(0, 0)], (0, 0, 0)));
    assert_eq!(
        directory.start(),
        Err(BootError::DatabaseAheadOfLog {
            database: 115,
            last: 0
        })
    );
    directory.db = None;
    assert!(directory.plan().is_blank());
    // It has voted for somebody already: no first start any more.
    directory.wal = Some(recovered(&[], &[(0, 0)], (1, 7, 0)));
    assert!(!directory.plan().is_blank());
}

#[test]
fn a_database_of_another_history_is_refused() {
    let error = Directory::usual(1, (90, 2)).start();
    let other = BootError::OtherLog {
        index: 90,
        by_log: 1,
        by_db: 2,
    };
    assert_eq!(error, Err(other));
    // Without a term, as before etcd 3.5, nothing can be told.
    let mut directory = Directory::usual(1, (90, 2));
    directory.db.as_mut().unwrap().term = None;
    assert_eq!(directory.plan().applied, position((90, 1)));
}

/// Index and term that etcd read while it changed them.
#[test]
fn the_term_may_be_of_the_entry_beside() {
    for db in [(100, 2), (101, 1)] {
        let plan = Directory::usual(1, db).plan();
        assert_eq!(plan.applied, position((db.0, 1 + u64::from(db.0 > 100))));
    }
    assert!(Directory::usual(1, (99, 2)).start().is_err());
    assert!(Directory::usual(1, (102, 1)).start().is_err());
}

/// Entries of a new term are on the disk, the state behind them is torn off.
#[test]
fn the_term_is_not_below_that_of_the_log() {
    let mut directory = Directory::usual(1, (60, 1));
    directory.wal = Some(recovered(&entries(1..=120), &[(0, 0)], (1, 7, 100)));
    let state = directory.plan().hard_state;
    assert_eq!((state.term(), state.vote(), state.commit()), (2, 0, 100));
}

#[test]
fn members_count_more_than_the_conf_state() {
    let mut directory = Directory::usual(1, (115, 2));
    let db = directory.db.as_mut().unwrap();
    db.members = ConfState {
        voters: vec![7, 8],
        learners: vec![9],
        ..ConfState::default()
    };
    let plan = directory.plan();
    assert_eq!(
        (plan.conf_state.voters, plan.conf_state.learners),
        (vec![7, 8], vec![9])
    );
    assert_eq!(plan.notes.len(), 1);
    directory.db.as_mut().unwrap().members = ConfState::default();
    assert_eq!(directory.start(), Err(BootError::NoMembers { index: 115 }));
}

/// etcd 3.7 with `--max-wals=1`, killed behind entry 94: its first segment is purged, the state record says 93.
#[test]
fn a_purged_log_of_etcd() {
    let mut recovery = Recovery::new();
    let name = "0000000000000001-0000000000000046.wal".parse().unwrap();
    let bytes = include_bytes!("../../tests/golden/etcd-3.7-purged.wal");
    recovery
        .on_segment(name, Bytes::from_static(bytes))
        .unwrap();
    let text = br#"{"voters":[17088423831775458271],"auto_leave":false}"#;
    let conf_state = meta::decode_conf_state(text).unwrap();
    let members = ConfState {
        auto_leave: None,
        ..conf_state.clone()
    };
    let db = |consistent_index| {
        Some(DbFacts {
            consistent_index,
            term: Some(2),
            conf_state: Some(conf_state.clone()),
            members: members.clone(),
            ..DbFacts::default()
        })
    };
    let mut directory = Directory {
        wal: Some(recovery.finish().unwrap()),
        db: db(94),
        snapshots: vec![(88, 2)],
        received_dbs: Vec::new(),
    };
    let plan = directory.plan();
    assert_eq!(places(&plan), ((94, 2), (70, 2), (94, 2), 94));
    assert_eq!(plan.snapshot, position((88, 2)));
    assert_eq!(plan.conf_state.voters, [0xed26_46ef_c84b_b3df]);
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);

    // Without a database, or with one that is too old, etcd ends with a panic.
    for too_old in [None, db(68)] {
        let database = too_old.as_ref().map(|db| db.consistent_index);
        directory.db = too_old;
        let snapshot = 88;
        let behind = BootError::DatabaseBehindSnapshot { database, snapshot };
        assert_eq!(directory.start(), Err(behind));
    }
    // One that the log reaches is good.
    directory.db = db(69);
    let again = directory.plan();
    assert_eq!(places(&again), ((69, 2), (69, 2), (94, 2), 93));
    let log = plan.take_log(&mut directory.wal.unwrap());
    assert_eq!((log.len(), log[0].index()), (24, 71));
}

/// etcd 3.7 knows as much, and says so with the same words.
#[test]
fn a_storage_version_of_the_future() {
    let mut directory = Directory::usual(1, (115, 2));
    for version in [None, Some((3, 5)), Some((3, 6)), Some((3, 7))] {
        directory.db.as_mut().unwrap().storage_version = version;
        directory.plan();
    }
    for (major, minor) in [(3, 4), (3, 8), (3, 9), (4, 0), (2, 6)] {
        directory.db.as_mut().unwrap().storage_version = Some((major, minor));
        let refusal = directory.start().unwrap_err();
        assert_eq!(refusal, BootError::StorageVersion { major, minor });
        let text = format!("version \"{major}.{minor}.0\" is not supported");
        assert!(refusal.to_string().starts_with(&text), "{refusal}");
    }
}

fn add(index: u64, id: u64) -> Entry {
    let change = ConfChange {
        r#type: Some(ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(id),
        ..ConfChange::default()
    };
    Entry {
        index: Some(index),
        term: Some(1),
        r#type: Some(EntryType::EntryConfChange as i32),
        data: Some(change.encode_to_vec().into()),
    }
}

/// A database of members 8 and 9 beside a log of member 7, which was added by entry 60.
#[test]
fn a_database_that_does_not_know_the_member() {
    let strangers = ConfState {
        voters: vec![8, 9],
        ..ConfState::default()
    };
    let at = |index| {
        let mut directory = Directory::usual(1, (index, 1 + u64::from(index > 100)));
        directory.db.as_mut().unwrap().members = strangers.clone();
        directory.wal.as_mut().unwrap().entries[59] = add(60, 7);
        directory.wal.as_mut().unwrap().entries[70] = add(71, 8);
        directory
    };
    let (member_id, index) = (7, 60);
    let other = BootError::OtherMember { member_id, index };
    assert_eq!(at(60).start(), Err(other));
    // From before it joined: a member that joins may be given the log from its beginning.
    assert_eq!(at(59).plan().applied, position((59, 1)));
    // So it is if the entry that adds it did not come yet.
    let mut joining = at(115);
    joining.wal.as_mut().unwrap().entries[59] = add(60, 9);
    joining.plan();
    // Removed, or a learner.
    let mut removed = at(115);
    removed.db.as_mut().unwrap().removed_members = vec![6, 7];
    removed.plan();
    let mut learner = at(115);
    learner.db.as_mut().unwrap().members.learners = vec![7];
    learner.plan();

    // The entry is gone with its segment, but a snapshot's record has the member.
    let mut purged = Directory::usual(80, (115, 2));
    purged.db.as_mut().unwrap().members = strangers.clone();
    purged.plan();
    purged.wal.as_mut().unwrap().snapshots[2].conf_state = Some(members());
    let index = 115;
    let other = BootError::OtherMember { member_id, index };
    assert_eq!(purged.start(), Err(other));
    // A database that is not there yet knows nobody.
    let mut fresh = at(60);
    fresh.wal.as_mut().unwrap().snapshots.truncate(1);
    fresh.db = None;
    fresh.plan();
    fresh.db = Some(DbFacts::default());
    fresh.plan();
}

/// A directory that a member may leave: terms of all entries ever, and four places in them.
#[derive(Debug)]
struct Honest {
    terms: Vec<u64>,
    snapshot: u64,
    first: u64,
    commit: u64,
    database: u64,
}

fn honest() -> impl Strategy<Value = Honest> {
    let steps = prop::collection::vec(prop::bool::weighted(0.2), 1..40);
    (steps, any::<[prop::sample::Index; 4]>()).prop_map(|(steps, [a, b, c, d])| {
        let mut terms = vec![0];
        let mut term = 1;
        for step in &steps {
            term += u64::from(*step);
            terms.push(term);
        }
        let last = steps.len() as u64;
        let commit = a.index(steps.len() + 1) as u64;
        let snapshot = b.index(commit as usize + 1) as u64;
        let first = 1 + c.index(snapshot as usize + 1) as u64;
        let database = snapshot + d.index((last - snapshot) as usize + 1) as u64;
        Honest {
            terms,
            snapshot,
            first: first.min(last),
            commit,
            database,
        }
    })
}

impl Honest {
    fn directory(&self) -> Directory {
        let at = |index: u64| (index, self.terms[index as usize]);
        let last = self.terms.len() as u64 - 1;
        Directory {
            wal: Some(recovered(
                &entries_of(self, self.first),
                &[(0, 0), at(self.snapshot)],
                (at(last).1, 7, self.commit),
            )),
            db: (self.database > 0).then(|| database(at(self.database))),
            snapshots: vec![at(self.snapshot)],
            received_dbs: Vec::new(),
        }
    }
}

fn entries_of(honest: &Honest, first: u64) -> Vec<At> {
    let last = honest.terms.len() as u64 - 1;
    let at = |index: u64| (index, honest.terms[index as usize]);
    (first..=last).map(at).collect()
}

/// A record of a snapshot at the commit, an older one behind it, and neither entries nor a database: the plan once promised
/// eleven committed entries of which none was there (found by the property below).
#[test]
fn a_commit_that_only_a_lost_snapshot_reaches_is_refused() {
    let directory = Directory {
        wal: Some(recovered(&[], &[(11, 0), (0, 0)], (0, 0, 11))),
        db: None,
        snapshots: Vec::new(),
        received_dbs: Vec::new(),
    };
    let refused = BootError::CommitMissing {
        commit: 11,
        last: 0,
    };
    assert_eq!(directory.start(), Err(refused));
}

proptest! {
    #[test]
    fn what_a_member_leaves_is_taken_up(honest in honest()) {
        let directory = honest.directory();
        let plan = directory.plan();
        let term = |index: u64| honest.terms[index as usize];
        let last = honest.terms.len() as u64 - 1;
        prop_assert_eq!(plan.applied, position((honest.database, term(honest.database))));
        prop_assert_eq!(plan.last, position((last, term(last))));
        prop_assert_eq!(plan.hard_state.commit(), honest.commit.max(honest.database));
        prop_assert_eq!(plan.hard_state.vote(), 7);
        prop_assert_eq!(plan.offset.term, term(plan.offset.index));
        prop_assert!(plan.offset.index <= plan.applied.index && plan.offset.index <= honest.first);
        let log = plan.take_log(&mut directory.wal.unwrap());
        let indexes: Vec<u64> = log.iter().map(Entry::index).collect();
        prop_assert_eq!(indexes, (plan.offset.index + 1..=last).collect::<Vec<_>>());
    }

    /// A decision upon the newer segments that is taken is the one that the whole log gives.
    #[test]
    fn a_part_that_suffices_tells_the_same(
        honest in honest(), older in any::<prop::sample::Index>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        database_at in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let last = honest.terms.len() as u64 - 1;
        let mut directory = honest.directory();
        let at = |index: u64| (index, honest.terms[index as usize]);
        // A database may have been put back.
        if let Some(index) = database_at {
            let index = index.index(last as usize + 1) as u64;
            directory.db = (index > 0).then(|| database(at(index)));
        }
        let older = older.index(honest.snapshot as usize + 1) as u64;
        directory.snapshots = vec![at(honest.snapshot), at(older)];
        let mut records = vec![(0, 0), at(older), at(honest.snapshot)];
        let whole = recovered(&entries_of(&honest, honest.first), &records, (at(last).1, 7, honest.commit));

        let mut firsts: Vec<u64> = cuts.iter().map(|cut| honest.first + cut.index((last - honest.first) as usize + 1) as u64).collect();
        firsts.push(honest.first);
        firsts.sort_unstable();
        firsts.dedup();
        let segments: Vec<SegmentName> = (7..).zip(&firsts).map(|(sequence, first)| SegmentName { sequence, first_index: *first }).collect();
        let read_from = first_needed(&segments, &[at(honest.snapshot).0, older]);
        let first = firsts[read_from];
        if read_from > 0 {
            // A record stands behind the entry that it names.
            records.retain(|(index, _)| *index >= first);
        }
        let part = recovered(&entries_of(&honest, first), &records, (at(last).1, 7, honest.commit));

        directory.wal = Some(part.clone());
        let by_part = directory.start();
        directory.wal = Some(whole);
        let by_whole = directory.start();
        if by_part.as_ref().is_ok_and(|start| suffices(start, &part)) {
            let (Ok(Start::Resume(by_part)), Ok(Start::Resume(by_whole))) = (by_part, by_whole) else { panic!() };
            prop_assert!(by_part.offset.index >= by_whole.offset.index && by_part.offset.index <= by_part.snapshot.index);
            prop_assert_eq!(StartPlan { offset: by_whole.offset, ..*by_part }, *by_whole);
        } else if database_at.is_none() && read_from > 0 && honest.snapshot <= honest.commit && older < honest.snapshot {
            prop_assert!(false, "the usual directory is settled by {:?}", directory.wal);
        }
    }

    /// Any numbers in any place: a plan that is given holds together.
    #[test]
    fn no_directory_breaks_the_rules(
        first in 0u64..6, count in 0u64..6, terms in prop::collection::vec(0u64..4, 6), state in (0u64..4, 0u64..2, 0u64..12),
        records in prop::collection::vec((0u64..12, 0u64..4), 0..3), files in prop::collection::vec((0u64..12, 0u64..4), 0..3),
        db in prop::option::of((0u64..12, prop::option::of(0u64..4))), received_dbs in prop::collection::vec(0u64..12, 0..2),
    ) {
        let at = |offset: u64| (first + offset, terms[offset as usize]);
        let log: Vec<At> = (0..count).map(at).collect();
        let db = db.map(|(index, term)| DbFacts { term, ..database((index, 0)) });
        let wal = Some(recovered(&log, &records, state));
        let directory = Directory { wal, db, snapshots: files, received_dbs };
        if let Ok(Start::Resume(plan)) = directory.start() {
            prop_assert_eq!(plan.applied.index, directory.db.as_ref().map_or(0, |db| db.consistent_index));
            prop_assert!(plan.offset.index <= plan.applied.index);
            prop_assert!(plan.applied.index <= plan.hard_state.commit());
            prop_assert!(plan.hard_state.commit() <= plan.last.index);
            prop_assert!(plan.hard_state.term() >= plan.last.term);
            let entries = plan.take_log(&mut directory.wal.unwrap());
            let indexes: Vec<u64> = entries.iter().map(Entry::index).collect();
            prop_assert_eq!(indexes, (plan.offset.index + 1..=plan.last.index).collect::<Vec<_>>());
        }
    }
}
