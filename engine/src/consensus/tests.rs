//! Raft behind our borders: one voter and three, with the disk and the network in the test's hands.

use bytes::Bytes;
use prost::Message;

use super::*;

fn options(id: u64, seed: u64) -> ConsensusOptions {
    ConsensusOptions {
        id,
        election_ticks: 10,
        heartbeat_ticks: 1,
        pre_vote: true,
        seed,
        catch_up_entry_count: 100,
        catch_up_size_bytes: 1 << 20,
    }
}

fn start(voters: &[u64]) -> LogStart {
    LogStart {
        voters: voters.to_vec(),
        ..LogStart::default()
    }
}

fn request(text: &'static str) -> Payload {
    Payload::Request(Bytes::from_static(text.as_bytes()))
}

/// Members joined by perfect wires; every ready is persisted at once unless `is_disk_stuck`.
struct Cluster {
    members: Vec<Consensus>,
    committed: Vec<Vec<Committed>>,
    trace: Vec<String>,
}

impl Cluster {
    fn new(count: u64, seed: u64) -> Self {
        let voters: Vec<u64> = (1..=count).collect();
        let members = voters
            .iter()
            .map(|&id| Consensus::new(&options(id, seed + id), start(&voters)).expect("starts"))
            .collect();
        Cluster {
            members,
            committed: vec![Vec::new(); count as usize],
            trace: Vec::new(),
        }
    }

    /// Delivers and persists until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut mail = Vec::new();
            let mut is_idle = true;
            for (member, committed) in self.members.iter_mut().zip(&mut self.committed) {
                while let Some(ready) = member.poll_ready() {
                    is_idle = false;
                    member.on_persisted(ready.number);
                    mail.extend(ready.messages);
                    mail.extend(ready.after_persist);
                    if let Some(last) = ready.committed.last() {
                        member.on_applied(last.index);
                    }
                    committed.extend(ready.committed);
                }
            }
            for message in mail {
                self.trace.push(format!("{message:?}"));
                // Over the wire and back, as a peer would get it.
                let bytes = message.encode_to_vec();
                let message = raftpb::Message::decode(bytes.as_slice()).expect("own bytes");
                let to = message.to.unwrap_or(0) as usize;
                self.members[to - 1].on_message(message);
            }
            if is_idle {
                return;
            }
        }
    }

    fn tick_until_leader(&mut self) -> usize {
        for _ in 0..100 {
            for member in &mut self.members {
                member.on_tick();
            }
            self.settle();
            if let Some(leader) = self.members.iter().position(|m| m.leadership().is_leader) {
                return leader;
            }
        }
        panic!("no leader after 100 ticks");
    }
}

#[test]
fn a_sole_voter_commits_only_what_its_disk_has() {
    let mut raft = Consensus::new(&options(1, 7), start(&[1])).expect("starts");
    raft.campaign();
    let elected = raft.poll_ready().expect("the new leader's entry");
    assert!(elected.must_sync && elected.entries.len() == 1);
    raft.propose(vec![request("a"), request("b")])
        .expect("leads");
    let proposed = raft.poll_ready().expect("two entries");
    assert_eq!(proposed.entries.len(), 2);
    assert!(proposed.committed.is_empty());
    assert!(
        raft.poll_ready().is_none(),
        "nothing commits before the disk answers"
    );

    raft.on_persisted(proposed.number);
    let committed = raft.poll_ready().expect("all three").committed;
    let payloads: Vec<Payload> = committed.into_iter().map(|c| c.payload).collect();
    assert_eq!(payloads, [Payload::Empty, request("a"), request("b")]);
}

#[test]
fn a_proposal_without_a_leader_is_dropped() {
    let mut raft = Consensus::new(&options(1, 7), start(&[1, 2, 3])).expect("starts");
    assert!(matches!(
        raft.propose(vec![request("a")]),
        Err(ConsensusError::Dropped)
    ));
}

#[test]
fn a_commit_index_outside_the_log_refuses_the_start() {
    let hard_state = raftpb::HardState {
        commit: Some(5),
        ..raftpb::HardState::default()
    };
    let start = LogStart {
        hard_state,
        ..start(&[1])
    };
    let error = Consensus::new(&options(1, 7), start)
        .err()
        .expect("refused");
    assert!(matches!(
        error,
        ConsensusError::CommitOutsideLog {
            commit: 5,
            last: 0,
            ..
        }
    ));
}

#[test]
fn three_members_agree_and_the_same_seed_gives_the_same_messages() {
    let run = |seed| {
        let mut cluster = Cluster::new(3, seed);
        let leader = cluster.tick_until_leader();
        for text in ["a", "b", "c"] {
            cluster.members[leader]
                .propose(vec![request(text)])
                .expect("leads");
            cluster.settle();
        }
        for member in &mut cluster.members {
            member.on_tick();
        }
        cluster.settle();
        cluster
    };
    let first = run(1);
    assert!(
        first.committed[0].len() >= 4,
        "the leader's entry and three requests"
    );
    assert!(first.committed.iter().all(|c| *c == first.committed[0]));
    assert_eq!(first.trace, run(1).trace);
    assert_ne!(
        first.trace,
        run(50).trace,
        "the seed decides who campaigns and when"
    );
}

#[test]
fn a_follower_learns_a_new_voter_from_etcds_bytes() {
    let mut raft = Consensus::new(&options(1, 7), start(&[1])).expect("starts");
    raft.campaign();
    let change = raftpb::ConfChange {
        r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(2),
        ..raftpb::ConfChange::default()
    };
    raft.propose(vec![Payload::ConfChange(change.encode_to_vec().into())])
        .expect("leads");
    let ready = raft.poll_ready().expect("entries");
    raft.on_persisted(ready.number);
    let committed = raft.poll_ready().expect("committed").committed;
    let last = committed.last().expect("the change");
    let Payload::ConfChange(bytes) = &last.payload else {
        panic!("{last:?}")
    };
    assert_eq!(*bytes, change.encode_to_vec());
    assert!(raft.is_sole_voter());
    raft.on_conf_change(Some(&change)).expect("taken");
    assert!(!raft.is_sole_voter());
}

#[test]
fn messages_that_the_crate_cannot_bear_are_dropped() {
    let mut raft = Consensus::new(&options(1, 7), start(&[1, 2, 3])).expect("starts");
    // Elected by member 2, so that the leader's branches are reached.
    raft.campaign();
    let persist = |raft: &mut Consensus| {
        while let Some(ready) = raft.poll_ready() {
            raft.on_persisted(ready.number);
        }
    };
    persist(&mut raft);
    for kind in [
        raftpb::MessageType::MsgPreVoteResp,
        raftpb::MessageType::MsgVoteResp,
        raftpb::MessageType::MsgAppResp,
    ] {
        raft.on_message(raftpb::Message {
            r#type: Some(kind as i32),
            from: Some(2),
            to: Some(1),
            term: Some(1),
            index: Some(1),
            ..raftpb::Message::default()
        });
        persist(&mut raft);
    }
    assert!(raft.leadership().is_leader);
    assert_eq!(raft.commit_index(), 1);
    for kind in [
        raftpb::MessageType::MsgProp,
        raftpb::MessageType::MsgReadIndex,
    ] {
        raft.on_message(raftpb::Message {
            r#type: Some(kind as i32),
            from: Some(2),
            to: Some(1),
            ..raftpb::Message::default()
        });
        persist(&mut raft);
    }
    assert!(raft.leadership().is_leader);
}

/// Each of these would end the process inside the crate.
#[test]
fn what_contradicts_the_committed_log_is_passed_over() {
    let mut cluster = Cluster::new(3, 5);
    let leader = cluster.tick_until_leader();
    let (leader_id, follower) = (leader as u64 + 1, (leader + 1) % 3);
    cluster.members[leader]
        .propose(vec![request("a"), request("b")])
        .expect("leads");
    cluster.settle();
    let follower_id = follower as u64 + 1;
    let follower = &mut cluster.members[follower];
    let (term, commit, last) = (
        follower.term(),
        follower.commit_index(),
        follower.last_index(),
    );
    assert_eq!((commit, last), (3, 3));
    let message = |kind| raftpb::Message {
        r#type: Some(kind),
        to: Some(follower_id),
        from: Some(leader_id),
        term: Some(term),
        ..raftpb::Message::default()
    };
    let entry = |index, term| raftpb::Entry {
        index: Some(index),
        term: Some(term),
        ..raftpb::Entry::default()
    };
    let heartbeat = raftpb::Message {
        commit: Some(last + 1),
        ..message(8)
    };
    let other_history = raftpb::Message {
        term: Some(term + 1),
        index: Some(1),
        log_term: Some(term),
        entries: vec![entry(2, term + 1)],
        ..message(3)
    };
    let older = raftpb::Message {
        index: Some(last),
        ..message(3)
    };
    for unsound in [heartbeat, other_history, older] {
        follower.on_message(unsound);
    }
    assert_eq!(follower.commit_index(), commit);
    assert_eq!(follower.last_index(), last);
    cluster.members[leader].on_message(raftpb::Message {
        to: Some(leader_id),
        from: Some(follower_id),
        index: Some(last + 9),
        ..message(4)
    });
    cluster.settle();
    assert_eq!(cluster.members[leader].commit_index(), commit);
}
