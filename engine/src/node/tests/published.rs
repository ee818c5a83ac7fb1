//! What readers on other threads see of a node, and when.

use proto::etcdserverpb::{CompactionRequest, RequestOp, TxnRequest, request_op};

use super::*;
use crate::state::ApplyEffect;
use crate::view::ViewReader;

fn reader(member: &Member1) -> ViewReader {
    member.node.views().reader().expect("a free handle")
}

fn txn(keys: &[&str]) -> InternalRaftRequest {
    let put = |key: &&str| RequestOp {
        request: put(key).put.map(request_op::Request::RequestPut),
    };
    InternalRaftRequest {
        txn: Some(TxnRequest {
            success: keys.iter().map(put).collect(),
            ..TxnRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

fn compaction(revision: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        compaction: Some(CompactionRequest {
            revision,
            physical: true,
        }),
        ..InternalRaftRequest::default()
    }
}

/// Works a turn and checks every reply against a view that is pinned when the reply is polled.
fn turn(member: &mut Member1, reader: &mut ViewReader, units: usize) -> (bool, Vec<Applied>) {
    let more = member.node.work(&mut Budget::new(units)).expect("healthy");
    let mut answers = Vec::new();
    while let Some(event) = member.node.poll_event() {
        let NodeEvent::Applied { applied, .. } = event else {
            continue;
        };
        let view = reader.pin();
        assert!(view.applied_index() >= applied.index, "answered unseen");
        assert!(view.revision() >= applied.revision, "answered unseen");
        for effect in &applied.effects {
            if let ApplyEffect::CompactionScheduled { revision } = effect {
                assert!(view.finished_compact_revision() >= Some(*revision));
            }
        }
        answers.push(applied);
    }
    member.serve_disk(usize::MAX);
    (more, answers)
}

/// Whatever the budget, and wherever it ends.
#[test]
fn a_reply_is_polled_only_after_its_state_is_published() {
    for units in 1..40 {
        let mut member = Member1::new();
        let mut reader = reader(&member);
        let mut asked = 0;
        let mut propose = |member: &mut Member1, request| {
            member.node.propose(request).expect("room");
            asked += 1;
        };
        for round in 0..4 {
            for key in 0..9 {
                propose(&mut member, put(&format!("{round}-{key}")));
            }
            propose(&mut member, txn(&["x", "y", "z"]));
            propose(&mut member, delete_all());
            propose(&mut member, put("last"));
            propose(&mut member, compaction(4 + round));
        }
        let mut answered = 0;
        for turns in 0.. {
            let (more, answers) = turn(&mut member, &mut reader, units);
            answered += answers.len();
            if answered == asked && !more {
                break;
            }
            assert!(turns < 10_000, "{answered} of {asked} answers");
        }
        assert_eq!(reader.pin().revision(), member.node.view().revision());
        assert_eq!(reader.pin().key_count(), 1);
    }
}

/// The entries before a long one are shown, the long one itself is not before its end.
#[test]
fn what_is_whole_does_not_wait_for_a_long_entry() {
    let mut member = Member1::new();
    let mut reader = reader(&member);
    for key in 0..60 {
        member.put(&format!("key-{key}"));
    }
    member.settle();
    assert_eq!(reader.pin().key_count(), 60);
    member.put("another");
    member.node.propose(delete_all()).expect("room");
    let mut partly = 0;
    loop {
        let (more, _) = turn(&mut member, &mut reader, 7);
        let count = reader.pin().key_count();
        partly += usize::from(member.node.applying.is_some());
        match member.node.applying {
            Some(_) => assert_eq!(count, 61, "whole entries only"),
            None => assert!([60, 61, 0].contains(&count), "{count} keys"),
        }
        if !more && count == 0 {
            break;
        }
    }
    assert!(partly > 4, "the delete took {partly} slices");
}

/// A long reader delays no compaction, only the freeing behind it, and nobody spins for that.
#[test]
fn a_sweep_does_not_wait_for_a_pin() {
    let mut member = Member1::new();
    for _ in 0..5 {
        member.put("key");
        member.settle();
    }
    let stay = reader(&member).stay();
    let id = member.node.propose(compaction(6)).expect("room");
    member.settle();
    assert!(member.answer(id).is_some(), "a physical one");
    assert!(!member.work(1000), "nothing to do but to wait");
    assert!(stay.view().compact_revision() < 6);
    let mut reader = stay.leave();
    assert_eq!(reader.pin().finished_compact_revision(), Some(6));
}

/// Revision 0 can be compacted as well; its answer once came before its sweep had ended.
#[test]
fn a_compaction_of_revision_0_is_answered_after_its_sweep() {
    let mut member = Member1::new();
    let id = member.node.propose(compaction(0)).expect("room");
    let answered = (0..10_000).any(|_| {
        member.work(10);
        member.serve_disk(1);
        member.answer(id).is_some()
    });
    assert!(answered);
    assert_eq!(member.node.view().finished_compact_revision(), Some(0));
}

#[test]
fn facts_of_raft_are_there_from_the_first_turn() {
    let member = Member1::new();
    let mut reader = reader(&member);
    let view = reader.pin();
    assert!(view.is_linearizable() && !view.is_learner());
    assert_eq!(view.raft_term(), member.node.term());
    assert_eq!(view.leader_id(), own_member().id);
    let mut reader = follower().node.views().reader().expect("a free handle");
    assert!(!reader.pin().is_linearizable());
    assert_eq!(reader.pin().leader_id(), 2);
}

/// As soon as somebody else could hear that this member leads no more, no view claims that it does.
#[test]
fn a_deposed_leader_takes_its_promise_back_before_its_messages_leave() {
    let mut member = Member1::new();
    let mut reader = reader(&member);
    assert!(reader.pin().is_linearizable());
    let term = member.node.term() + 1;
    member.node.on_message(raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
        from: Some(99),
        to: Some(own_member().id),
        term: Some(term),
        ..raftpb::Message::default()
    });
    while member.node.poll_message().is_none() {
        assert!(reader.pin().is_linearizable() || member.node.term() == term);
        member.work(1000);
        assert!(!reader.pin().is_linearizable());
        member.serve_disk(1);
    }
    assert_eq!(reader.pin().raft_term(), term);
}
