//! Log entries: etcd's bytes on disk and wire, the crate's shape inside raft.
//!
//! Only configuration changes differ. The log holds etcd's V1 `ConfChange`; the crate sees a V2 change of the same
//! node (its numbers differ: AddLearner is 2 there, 3 in etcd) and carries etcd's bytes in the entry's `context`,
//! which never reaches disk or wire. `UpdateNode`, which the crate does not know, becomes a change of node 0: both
//! rafts ignore it, while an empty list of changes would mean "leave the joint configuration".

use bytes::Bytes;
use prost::Message;
use proto::raftpb;
use raft::eraftpb;

/// What an entry is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// The empty entry of a new leader.
    Empty,
    /// An encoded `InternalRaftRequest`.
    Request(Bytes),
    /// An encoded V1 `ConfChange`.
    ConfChange(Bytes),
}

/// An entry that a quorum has, ready to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub index: u64,
    pub term: u64,
    pub payload: Payload,
}

impl Payload {
    /// The payload of an entry as the log holds it.
    pub fn of_log(entry: &raftpb::Entry) -> Payload {
        let data = entry.data.clone().unwrap_or_default();
        match entry.r#type {
            Some(kind) if kind == raftpb::EntryType::EntryConfChange as i32 => {
                Payload::ConfChange(data)
            }
            _ if data.is_empty() => Payload::Empty,
            _ => Payload::Request(data),
        }
    }

    pub(super) fn into_crate(self) -> eraftpb::Entry {
        let mut entry = eraftpb::Entry::default();
        match self {
            Payload::Empty => {}
            Payload::Request(data) => entry.data = data,
            Payload::ConfChange(data) => mark_conf_change(&mut entry, data),
        }
        entry
    }
}

/// Makes `entry` a change as the crate wants it, with etcd's bytes beside it.
///
/// Bytes that are no `ConfChange` become a change of node 0, which has no effect on raft; apply reports them.
fn mark_conf_change(entry: &mut eraftpb::Entry, data: Bytes) {
    let single = match raftpb::ConfChange::decode(data.clone()) {
        Ok(change) => crate_numbers(&change),
        Err(_) => NO_CHANGE,
    };
    let v2 = raftpb::ConfChangeV2 {
        changes: vec![raftpb::ConfChangeSingle {
            r#type: Some(single.0),
            node_id: Some(single.1),
        }],
        ..raftpb::ConfChangeV2::default()
    };
    entry.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
    entry.data = v2.encode_to_vec().into();
    entry.context = data;
}

/// `(kind as the crate numbers it, node)`.
const NO_CHANGE: (i32, u64) = (eraftpb::ConfChangeType::AddNode as i32, 0);

fn crate_numbers(change: &raftpb::ConfChange) -> (i32, u64) {
    use eraftpb::ConfChangeType as Crate;
    use raftpb::ConfChangeType as Log;
    let node_id = change.node_id.unwrap_or(0);
    match Log::try_from(change.r#type.unwrap_or(0)) {
        Ok(Log::ConfChangeAddNode) => (Crate::AddNode as i32, node_id),
        Ok(Log::ConfChangeRemoveNode) => (Crate::RemoveNode as i32, node_id),
        Ok(Log::ConfChangeAddLearnerNode) => (Crate::AddLearnerNode as i32, node_id),
        Ok(Log::ConfChangeUpdateNode) | Err(_) => NO_CHANGE,
    }
}

/// The crate's form of an applied change.
pub(super) fn change_to_crate(change: &raftpb::ConfChange) -> eraftpb::ConfChangeV2 {
    single_change(crate_numbers(change))
}

/// The crate's form of a change that was refused at apply: it frees the slot for pending changes.
pub(super) fn refused_change() -> eraftpb::ConfChangeV2 {
    single_change(NO_CHANGE)
}

fn single_change((kind, node_id): (i32, u64)) -> eraftpb::ConfChangeV2 {
    let mut single = eraftpb::ConfChangeSingle::default();
    single.set_change_type(match kind {
        1 => eraftpb::ConfChangeType::RemoveNode,
        2 => eraftpb::ConfChangeType::AddLearnerNode,
        _ => eraftpb::ConfChangeType::AddNode,
    });
    single.node_id = node_id;
    let mut v2 = eraftpb::ConfChangeV2::default();
    v2.set_changes(vec![single].into());
    v2
}

/// An entry as the WAL and peers write it: all fields set, zeros too, because some readers insist on them.
pub(super) fn to_log(entry: &eraftpb::Entry) -> raftpb::Entry {
    let is_change = entry.get_entry_type() == eraftpb::EntryType::EntryConfChangeV2;
    let (kind, data) = if is_change {
        (raftpb::EntryType::EntryConfChange, entry.context.clone())
    } else {
        (raftpb::EntryType::EntryNormal, entry.data.clone())
    };
    raftpb::Entry {
        r#type: Some(kind as i32),
        term: Some(entry.term),
        index: Some(entry.index),
        data: if data.is_empty() { None } else { Some(data) },
    }
}

/// The reverse of [`to_log`].
pub(super) fn from_log(entry: raftpb::Entry) -> eraftpb::Entry {
    let mut converted = Payload::of_log(&entry).into_crate();
    converted.term = entry.term.unwrap_or(0);
    converted.index = entry.index.unwrap_or(0);
    converted
}

pub(super) fn hard_state_to_log(state: &eraftpb::HardState) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(state.term),
        vote: Some(state.vote),
        commit: Some(state.commit),
    }
}

pub(super) fn hard_state_from_log(state: &raftpb::HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term.unwrap_or(0),
        vote: state.vote.unwrap_or(0),
        commit: state.commit.unwrap_or(0),
        ..eraftpb::HardState::default()
    }
}

impl From<eraftpb::Entry> for Committed {
    fn from(entry: eraftpb::Entry) -> Self {
        let (index, term) = (entry.index, entry.term);
        let payload = if entry.get_entry_type() == eraftpb::EntryType::EntryConfChangeV2 {
            Payload::ConfChange(entry.context)
        } else if entry.data.is_empty() {
            Payload::Empty
        } else {
            Payload::Request(entry.data)
        };
        Committed {
            index,
            term,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: raftpb::ConfChangeType, node_id: u64) -> Bytes {
        let change = raftpb::ConfChange {
            r#type: Some(kind as i32),
            node_id: Some(node_id),
            context: Some("{}".into()),
            ..raftpb::ConfChange::default()
        };
        change.encode_to_vec().into()
    }

    fn log_entry(kind: raftpb::ConfChangeType) -> raftpb::Entry {
        raftpb::Entry {
            r#type: Some(raftpb::EntryType::EntryConfChange as i32),
            term: Some(2),
            index: Some(5),
            data: Some(change(kind, 9)),
        }
    }

    #[test]
    fn configuration_changes_survive_the_round_trip_byte_for_byte() {
        use raftpb::ConfChangeType as T;
        for kind in [
            T::ConfChangeAddNode,
            T::ConfChangeRemoveNode,
            T::ConfChangeUpdateNode,
            T::ConfChangeAddLearnerNode,
        ] {
            let original = log_entry(kind);
            let inside = from_log(original.clone());
            assert_eq!(to_log(&inside), original);
            assert_eq!(
                inside.get_entry_type(),
                eraftpb::EntryType::EntryConfChangeV2
            );
        }
    }

    #[test]
    fn a_learner_is_number_two_in_the_crate_and_an_update_changes_nothing() {
        let learner = raftpb::ConfChange {
            r#type: Some(raftpb::ConfChangeType::ConfChangeAddLearnerNode as i32),
            node_id: Some(9),
            ..raftpb::ConfChange::default()
        };
        let v2 = change_to_crate(&learner);
        assert_eq!(
            v2.get_changes()[0].get_change_type(),
            eraftpb::ConfChangeType::AddLearnerNode
        );
        let update = raftpb::ConfChange {
            r#type: Some(raftpb::ConfChangeType::ConfChangeUpdateNode as i32),
            ..learner
        };
        assert_eq!(change_to_crate(&update).get_changes()[0].node_id, 0);
        assert_eq!(refused_change().get_changes()[0].node_id, 0);
    }

    #[test]
    fn bytes_that_are_no_change_do_not_reach_raft_as_one() {
        let entry = Payload::ConfChange(Bytes::from_static(&[0xff, 0xff])).into_crate();
        let v2 = raftpb::ConfChangeV2::decode(entry.data.clone()).expect("ours");
        assert_eq!(v2.changes[0].node_id, Some(0));
        assert_eq!(entry.context, Bytes::from_static(&[0xff, 0xff]));
    }

    #[test]
    fn an_empty_normal_entry_is_the_new_leaders() {
        let entry = raftpb::Entry {
            term: Some(1),
            index: Some(2),
            ..raftpb::Entry::default()
        };
        assert_eq!(Payload::of_log(&entry), Payload::Empty);
        assert_eq!(Committed::from(from_log(entry)).payload, Payload::Empty);
    }
}
