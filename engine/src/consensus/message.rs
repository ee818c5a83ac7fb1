//! Messages between members: etcd's types outside, the crate's inside.
//!
//! Two fields of the crate must never be written: `priority` (its number means something else to etcd) and an
//! entry's `context`. Messages that are local to a process, that this version cannot serve (snapshots), or that no raft
//! would send are dropped before they reach raft: the crate takes much for granted and ends the process otherwise.

use proto::raftpb;
use raft::eraftpb;

use super::entry;

/// The crate's form of a peer's message; `None` if a peer has no business sending it, or we none to take it.
pub(super) fn from_peer(message: raftpb::Message) -> Option<eraftpb::Message> {
    let kind = kind_from_peer(message.r#type.unwrap_or(0))?;
    if !is_sound(kind, &message) {
        return None;
    }
    let mut converted = eraftpb::Message::default();
    converted.set_msg_type(kind);
    converted.to = message.to.unwrap_or(0);
    converted.from = message.from.unwrap_or(0);
    converted.term = message.term.unwrap_or(0);
    converted.log_term = message.log_term.unwrap_or(0);
    converted.index = message.index.unwrap_or(0);
    converted.commit = message.commit.unwrap_or(0);
    converted.reject = message.reject.unwrap_or(false);
    converted.reject_hint = message.reject_hint.unwrap_or(0);
    converted.context = message.context.unwrap_or_default();
    let entries: Vec<_> = message.entries.into_iter().map(entry::from_log).collect();
    converted.set_entries(entries.into());
    Some(converted)
}

/// What every raft keeps to, and the crate does not check.
fn is_sound(kind: eraftpb::MessageType, message: &raftpb::Message) -> bool {
    use eraftpb::MessageType as Kind;
    match kind {
        // Reads carry their context in an entry. These two are of no term.
        Kind::MsgPropose | Kind::MsgReadIndex => !message.entries.is_empty(),
        // A message of term 0 would pass for one of our own.
        _ if message.term() == 0 => false,
        Kind::MsgAppend => has_sound_entries(message),
        _ => true,
    }
}

/// Entries are numbered without a hole from the append's place on, and their terms never fall.
fn has_sound_entries(message: &raftpb::Message) -> bool {
    let terms = message.entries.iter().map(raftpb::Entry::term);
    let indexes = message.entries.iter().map(raftpb::Entry::index);
    let begin = message.index().checked_add(1);
    let is_numbered = indexes
        .zip(0_u64..)
        .all(|(index, offset)| begin.and_then(|begin| begin.checked_add(offset)) == Some(index));
    let mut newest = message.log_term();
    let mut ascends = |term: u64| std::mem::replace(&mut newest, term) <= term;
    is_numbered && terms.chain([message.term()]).all(&mut ascends)
}

/// Kinds have the same numbers up to 18; see the crate's and etcd's tables.
fn kind_from_peer(number: i32) -> Option<eraftpb::MessageType> {
    use eraftpb::MessageType as Kind;
    Some(match number {
        2 => Kind::MsgPropose,
        3 => Kind::MsgAppend,
        4 => Kind::MsgAppendResponse,
        5 => Kind::MsgRequestVote,
        6 => Kind::MsgRequestVoteResponse,
        8 => Kind::MsgHeartbeat,
        9 => Kind::MsgHeartbeatResponse,
        13 => Kind::MsgTransferLeader,
        14 => Kind::MsgTimeoutNow,
        15 => Kind::MsgReadIndex,
        16 => Kind::MsgReadIndexResp,
        17 => Kind::MsgRequestPreVote,
        18 => Kind::MsgRequestPreVoteResponse,
        _ => return None,
    })
}

/// etcd's form of a message that raft wants sent.
pub(super) fn to_peer(message: eraftpb::Message) -> raftpb::Message {
    raftpb::Message {
        r#type: Some(message.get_msg_type() as i32),
        to: Some(message.to),
        from: Some(message.from),
        term: Some(message.term),
        log_term: Some(message.log_term),
        index: Some(message.index),
        entries: message.get_entries().iter().map(entry::to_log).collect(),
        commit: Some(message.commit),
        reject: Some(message.reject),
        reject_hint: Some(message.reject_hint),
        context: if message.context.is_empty() {
            None
        } else {
            Some(message.context)
        },
        ..raftpb::Message::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_survives_the_round_trip() {
        let original = raftpb::Message {
            r#type: Some(3),
            to: Some(1),
            from: Some(2),
            term: Some(3),
            log_term: Some(2),
            index: Some(7),
            entries: vec![raftpb::Entry {
                r#type: Some(0),
                term: Some(3),
                index: Some(8),
                data: Some("x".into()),
            }],
            commit: Some(6),
            reject: Some(false),
            reject_hint: Some(0),
            ..raftpb::Message::default()
        };
        let inside = from_peer(original.clone()).expect("known kind");
        assert_eq!(to_peer(inside), original);
    }

    #[test]
    fn local_and_unknown_kinds_never_reach_raft() {
        for kind in [0, 1, 7, 10, 11, 12, 19, 23, 99, -1] {
            let message = raftpb::Message {
                r#type: Some(kind),
                term: Some(1),
                ..raftpb::Message::default()
            };
            assert!(from_peer(message).is_none(), "kind {kind}");
        }
    }

    fn append(log_term: u64, index: u64, entries: &[(u64, u64)]) -> raftpb::Message {
        let entry = |&(term, index): &(u64, u64)| raftpb::Entry {
            term: Some(term),
            index: Some(index),
            ..raftpb::Entry::default()
        };
        raftpb::Message {
            r#type: Some(3),
            term: Some(5),
            log_term: Some(log_term),
            index: Some(index),
            entries: entries.iter().map(entry).collect(),
            ..raftpb::Message::default()
        }
    }

    #[test]
    fn appends_that_no_leader_sends_never_reach_raft() {
        assert!(from_peer(append(3, 7, &[])).is_some());
        assert!(from_peer(append(3, 7, &[(3, 8), (5, 9), (5, 10)])).is_some());
        for unsound in [
            append(3, 7, &[(3, 9)]),
            append(3, 7, &[(3, 8), (3, 8)]),
            append(3, 7, &[(3, 7)]),
            append(3, 7, &[(4, 8), (3, 9)]),
            append(3, 7, &[(2, 8)]),
            append(3, 7, &[(6, 8)]),
            append(6, 7, &[]),
            append(3, u64::MAX, &[(3, 0)]),
            raftpb::Message {
                term: None,
                ..append(0, 7, &[])
            },
        ] {
            assert!(from_peer(unsound.clone()).is_none(), "{unsound:?}");
        }
    }
}
