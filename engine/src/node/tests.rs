//! The node with the disk and the clock in the test's hands.

mod leases;
mod published;

use std::collections::BTreeMap;

use proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest};

use super::*;
use crate::backend::testing::TestDisk;
use crate::boot::{self, Found, Position, SnapshotFacts, Start};
use crate::consensus::ConsensusOptions;
use crate::lease::ExpiryOptions;
use crate::membership::{Member, cluster_id, member_id};
use crate::snap::{SnapFile, SnapOp};
use crate::state::{Response, StateOptions, db_facts};
use crate::wal::{FileNo, Recovered, Recovery, SegmentName, WalFile, WalOp, WalOptions};

/// A disk that keeps everything; work is done when the test says so.
#[derive(Default)]
struct Disk {
    store: TestDisk,
    snapshots: Vec<SnapOp>,
    files: BTreeMap<FileNo, WalFile>,
    content: BTreeMap<String, Vec<u8>>,
    names: BTreeMap<String, WalFile>,
    sync_count: usize,
}

impl Disk {
    fn perform(&mut self, op: WalOp) {
        match op {
            WalOp::Claim { file, name, len } => {
                self.files.insert(file, name);
                self.names.insert(name.to_string(), name);
                self.content.insert(name.to_string(), vec![0; len as usize]);
            }
            WalOp::Open { file, name } => {
                assert!(
                    self.content.contains_key(&name.to_string()),
                    "{name} does not exist"
                );
                self.files.insert(file, name);
            }
            WalOp::Allocate { file, len } => self.bytes(file).resize(len as usize, 0),
            WalOp::Zero { file, offset, len } => {
                self.bytes(file)[offset as usize..(offset + len) as usize].fill(0);
            }
            WalOp::Write {
                file,
                offset,
                blocks,
            } => {
                let end = offset as usize + blocks.len();
                self.bytes(file)[offset as usize..end].copy_from_slice(&blocks);
            }
            WalOp::Sync { .. } => self.sync_count += 1,
            WalOp::Rename { file, from, to } => {
                let bytes = self
                    .content
                    .remove(&from.to_string())
                    .expect("renamed file exists");
                self.names.remove(&from.to_string());
                self.content.insert(to.to_string(), bytes);
                self.names.insert(to.to_string(), to);
                self.files.insert(file, to);
            }
            WalOp::SyncDirectory => {}
            WalOp::Close { file } => drop(self.files.remove(&file)),
            WalOp::Discard { name, .. } => drop(self.content.remove(&name.to_string())),
        }
    }

    fn bytes(&mut self, file: FileNo) -> &mut Vec<u8> {
        let name = self.files[&file].to_string();
        self.content.get_mut(&name).expect("open file exists")
    }

    /// A node on what is there, as the server makes it.
    fn restart(
        &self,
        options: NodeOptions,
        wal: Wal,
        recovered: &mut Recovered,
    ) -> Result<Node, StartError> {
        let files = self.snapshots.iter().filter_map(|op| match op {
            SnapOp::Write { bytes, .. } => Some(SnapFile::decode(bytes.clone()).expect("own")),
            SnapOp::Release { .. } => None,
        });
        let snapshots: Vec<SnapshotFacts> = files
            .map(|file| SnapshotFacts {
                at: Position {
                    index: file.index,
                    term: file.term,
                },
            })
            .collect();
        let store = self.store.is_born().then(|| self.store.reopen());
        let db = store.as_ref().map(|store| db_facts(store).expect("own"));
        let start = boot::decide(&Found {
            wal: Some(recovered),
            snapshots: &snapshots,
            db: db.as_ref(),
            received_dbs: &[],
        });
        let Ok(Start::Resume(plan)) = start else {
            panic!("{start:?}");
        };
        let entries = plan.take_log(recovered);
        let store = store.unwrap_or_else(|| self.store.store());
        Node::restart(options, wal, *plan, entries, store, &mut |_| {})
    }

    fn segments(&self) -> Vec<(SegmentName, Vec<u8>)> {
        let named = self.names.iter().filter_map(|(text, file)| match file {
            WalFile::Segment(name) => Some((*name, self.content[text].clone())),
            WalFile::Next(_) => None,
        });
        let mut segments: Vec<_> = named.collect();
        segments.sort_by_key(|(name, _)| *name);
        segments
    }
}

/// One member, its disk, and what it told.
struct Member1 {
    node: Node,
    disk: Disk,
    told: Vec<NodeEvent>,
}

fn wal_options() -> WalOptions {
    WalOptions {
        segment_bytes: 64 * 1024,
        ..WalOptions::default()
    }
}

fn options(own: &Member) -> NodeOptions {
    NodeOptions {
        member_id: own.id,
        cluster_id: cluster_id([own.id]),
        max_request_bytes: 10_000,
        consensus: ConsensusOptions {
            id: own.id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            seed: 1,
            catch_up_entry_count: 10,
            catch_up_size_bytes: 1 << 20,
        },
        state: StateOptions::default(),
        started_unix_ms: 1_000,
        max_learners: 1,
        snapshot_count: 10_000,
        checkpoints: CheckpointOptions::default(),
        leases: ExpiryOptions::default(),
        tick: Duration::from_millis(100),
    }
}

fn own_member() -> Member {
    let peer_urls = vec!["http://localhost:2380".to_owned()];
    let id = member_id(&peer_urls, "etcd-cluster");
    Member {
        id,
        peer_urls,
        name: "default".to_owned(),
        ..Member::default()
    }
}

impl Member1 {
    fn new() -> Self {
        Self::with_leases(ExpiryOptions::default())
    }

    fn with_leases(leases: ExpiryOptions) -> Self {
        let own = own_member();
        let (entries, hard_state) = bootstrap_log(std::slice::from_ref(&own)).expect("JSON");
        let wal = Wal::create("metadata".into(), wal_options());
        let disk = Disk::default();
        let store = disk.store.store();
        let options = NodeOptions {
            leases,
            ..options(&own)
        };
        let node = Node::bootstrap(options, wal, entries, hard_state, store).expect("starts");
        let mut member = Member1 {
            node,
            disk,
            told: Vec::new(),
        };
        member.settle();
        member
    }

    /// Starts again from what is on the disk.
    fn restart(self) -> Self {
        let mut recovery = Recovery::new();
        for (name, bytes) in self.disk.segments() {
            recovery
                .on_segment(name, bytes.into())
                .expect("own segment");
        }
        let mut recovered = recovery.finish().expect("own log");
        let wal = Wal::resume(&recovered, wal_options());
        let node = self
            .disk
            .restart(options(&own_member()), wal, &mut recovered);
        let node = node.expect("starts again");
        let mut member = Member1 {
            node,
            disk: self.disk,
            told: Vec::new(),
        };
        member.settle();
        member
    }

    /// Works and serves the disk until nothing moves.
    fn settle(&mut self) {
        loop {
            let more = self.work(1000);
            let io_count = self.serve_disk(usize::MAX);
            if !more && io_count == 0 {
                break;
            }
        }
    }

    fn work(&mut self, units: usize) -> bool {
        let more = self.node.work(&mut Budget::new(units)).expect("healthy");
        while let Some(event) = self.node.poll_event() {
            self.told.push(event);
        }
        more
    }

    fn serve_disk(&mut self, at_most: usize) -> usize {
        let mut count = 0;
        while count < at_most
            && let Some(io) = self.node.poll_io()
        {
            self.disk.perform(io.op);
            self.node.on_io_done(io.ticket, Ok(()));
            count += 1;
        }
        count + self.serve_store(at_most - count)
    }

    fn serve_store(&mut self, at_most: usize) -> usize {
        let mut count = 0;
        while count < at_most
            && let Some(io) = self.node.poll_store_io()
        {
            let result = self.disk.store.perform(&io);
            self.node.on_store_io_done(io.ticket, result);
            count += 1;
        }
        while let Some(io) = self.node.poll_snap_io() {
            self.disk.snapshots.push(io.op);
            self.node.on_snap_io_done(io.ticket, Ok(()));
            count += 1;
        }
        count
    }

    fn tick(&mut self, seconds: u64) {
        self.node.on_tick(Duration::from_secs(seconds));
        self.settle();
    }

    fn answer(&self, id: u64) -> Option<&Applied> {
        self.told.iter().find_map(|event| match event {
            NodeEvent::Applied { id: told, applied } if *told == id => Some(applied),
            _ => None,
        })
    }

    fn put(&mut self, key: &str) -> u64 {
        self.node.propose(put(key)).expect("room")
    }

    fn count(&self) -> i64 {
        let everything = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            count_only: true,
            ..RangeRequest::default()
        };
        self.node
            .view()
            .range(&everything)
            .expect("newest revision")
            .count
    }
}

fn put(key: &str) -> InternalRaftRequest {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        ..PutRequest::default()
    };
    InternalRaftRequest {
        put: Some(put),
        ..InternalRaftRequest::default()
    }
}

fn delete_all() -> InternalRaftRequest {
    let delete = DeleteRangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..DeleteRangeRequest::default()
    };
    InternalRaftRequest {
        delete_range: Some(delete),
        ..InternalRaftRequest::default()
    }
}

#[test]
fn a_sole_voter_leads_at_once_and_its_view_is_linearizable() {
    let member = Member1::new();
    assert!(member.node.leadership().is_leader);
    assert!(member.node.is_view_linearizable());
    assert_eq!(member.node.term(), 2, "the bootstrap was term 1");
    assert_eq!(
        member.node.applied_index(),
        2,
        "one member and the leader's empty entry"
    );
    assert_eq!(member.node.membership().members().count(), 1);
}

#[test]
fn a_put_is_answered_only_once_the_disk_has_it() {
    let mut member = Member1::new();
    let id = member.put("a");
    member.work(1000);
    while member.answer(id).is_none() {
        let synced_before = member.disk.sync_count;
        assert_eq!(member.count(), 0, "invisible before it is durable");
        assert_eq!(
            member.serve_disk(1),
            1,
            "the answer waits for nothing but the disk"
        );
        member.work(1000);
        if member.answer(id).is_some() {
            assert!(
                member.disk.sync_count > synced_before,
                "answered by the sync, not the write"
            );
        }
    }
    assert_eq!(member.count(), 1);
}

#[test]
fn what_was_answered_is_there_after_a_restart_and_over_segments() {
    let mut member = Member1::new();
    for round in 0..300 {
        let id = member.put(&format!("key-{round:0>500}"));
        member.settle();
        assert!(
            member
                .answer(id)
                .is_some_and(|applied| applied.result.is_ok())
        );
    }
    assert!(member.disk.segments().len() > 2, "several segments");
    let (revision, index) = (member.node.view().revision(), member.node.applied_index());
    for _ in 0..3 {
        member = member.restart();
        assert_eq!(member.node.view().revision(), revision);
        assert!(
            member.node.applied_index() > index,
            "a new leader's entry follows"
        );
        assert_eq!(member.count(), 300);
        assert!(member.node.is_view_linearizable());
    }
}

#[test]
fn a_huge_delete_is_sliced_and_unseen_until_whole() {
    let mut member = Member1::new();
    for key in 0..2000 {
        member.put(&format!("key-{key}"));
        if key % 100 == 0 {
            member.settle();
        }
    }
    member.settle();
    let id = member.node.propose(delete_all()).expect("room");
    let mut slices = 0;
    while member.answer(id).is_none() {
        assert_eq!(
            member.count(),
            2000,
            "readers see the state before the delete"
        );
        member.work(10);
        member.serve_disk(usize::MAX);
        member.node.on_tick(Duration::from_secs(slices));
        slices += 1;
        assert!(slices < 10_000, "the delete ends");
    }
    assert!(slices > 50, "{slices} slices of 10 units for 2000 keys");
    assert_eq!(member.count(), 0);
    let Ok(Response::DeleteRange(response)) = &member.answer(id).expect("answered").result else {
        panic!("a delete's response")
    };
    assert_eq!(response.deleted, 2000);
}

#[test]
fn an_expired_lease_takes_its_keys_along() {
    let mut member = Member1::new();
    let grant = LeaseGrantRequest { id: 7, ttl: 5 };
    let request = InternalRaftRequest {
        lease_grant: Some(grant),
        ..InternalRaftRequest::default()
    };
    member.tick(1);
    member.node.propose(request).expect("room");
    member.settle();
    let attached = PutRequest {
        key: "k".into(),
        lease: 7,
        ..PutRequest::default()
    };
    member
        .node
        .propose(InternalRaftRequest {
            put: Some(attached),
            ..InternalRaftRequest::default()
        })
        .expect("room");
    member.settle();
    let time = member
        .node
        .lease_time(LeaseId(7), true, Duration::from_secs(2))
        .expect("known");
    assert_eq!((time.granted_seconds, time.remaining_seconds), (5, 4));
    assert_eq!(time.keys, ["k"]);

    member.tick(5);
    assert_eq!(member.count(), 1, "a second is left");
    member.tick(7);
    assert_eq!(member.count(), 0);
    assert_eq!(
        member
            .node
            .lease_time(LeaseId(7), true, Duration::from_secs(7)),
        None
    );
}

#[test]
fn a_failed_sync_stops_the_member() {
    let mut member = Member1::new();
    let id = member.put("a");
    member.work(1000);
    while let Some(io) = member.node.poll_io() {
        let is_sync = matches!(io.op, WalOp::Sync { .. });
        let fault = IoFault { os_error: Some(5) };
        member
            .node
            .on_io_done(io.ticket, if is_sync { Err(fault) } else { Ok(()) });
    }
    let error = member.node.work(&mut Budget::new(10)).expect_err("stops");
    assert!(
        matches!(error, NodeFailure::Wal(IoFault { os_error: Some(5) })),
        "{error}"
    );
    assert!(member.answer(id).is_none());
}

#[test]
fn what_is_too_large_or_too_much_is_refused_before_the_log() {
    let mut member = Member1::new();
    let big = "k".repeat(10_000);
    assert!(matches!(
        member.node.propose(put(&big)),
        Err(ProposeError::TooLarge { .. })
    ));
    let key = "k".repeat(9_000);
    let taken = (0..100_000)
        .take_while(|_| member.node.propose(put(&key)).is_ok())
        .count();
    assert!(taken * 9_000 <= UNAPPLIED_SIZE_BYTES_MAX + 20_000);
    assert_eq!(
        member.node.propose(put("x")),
        Err(ProposeError::TooManyRequests)
    );
    member.settle();
    assert!(
        member.node.propose(put("x")).is_ok(),
        "there is room again once it is applied"
    );
}

/// They were once refused, and a client that wrote faster than the disk takes it had errors instead of a slower server.
#[test]
fn proposals_wait_for_a_store_that_is_behind() {
    let mut member = Member1::new();
    let key = |no: u64| format!("{no:04}{}", "k".repeat(9_000));
    let mut proposed_count = 0;
    while !member.node.holds_proposals() {
        for _ in 0..100 {
            member.put(&key(proposed_count));
            proposed_count += 1;
        }
        // Nothing reaches the store.
        member.work(1000);
        while let Some(io) = member.node.poll_io() {
            member.disk.perform(io.op);
            member.node.on_io_done(io.ticket, Ok(()));
        }
    }
    let held: Vec<u64> = (0..10)
        .map(|no| member.put(&key(proposed_count + no)))
        .collect();
    member.work(1000);
    assert!(member.node.poll_io().is_none(), "nothing goes to the log");
    assert!(held.iter().all(|&id| member.answer(id).is_none()));
    // Two clients have waited long enough: what they asked for is not done, now or later.
    let given_up = BTreeSet::from([held[2], held[7]]);
    assert_eq!(member.node.withdraw(&given_up), given_up);
    member.settle();
    for id in held {
        assert_eq!(member.answer(id).is_some(), !given_up.contains(&id));
    }
    assert_eq!(member.count(), (proposed_count + 8).cast_signed());
}

#[test]
fn reads_that_come_before_the_leader_is_ready_are_answered() {
    let own = own_member();
    let (entries, hard_state) = bootstrap_log(std::slice::from_ref(&own)).expect("JSON");
    let wal = Wal::create("metadata".into(), wal_options());
    let disk = Disk::default();
    let store = disk.store.store();
    let node = Node::bootstrap(options(&own), wal, entries, hard_state, store).expect("starts");
    let mut member = Member1 {
        node,
        disk,
        told: Vec::new(),
    };
    assert!(!member.node.is_view_linearizable());
    let first = member.node.read_index();
    member.settle();
    let second = member.node.read_index();
    member.settle();
    let ready = |id| {
        member
            .told
            .iter()
            .any(|event| matches!(event, NodeEvent::ReadReady { id: r } if *r == id))
    };
    assert!(ready(first) && ready(second));
}

/// A follower of three with a leader that is known, and a disk.
fn follower() -> Member1 {
    let peer = |id: u64| Member {
        id,
        peer_urls: vec![format!("http://h{id}:2380")],
        ..Member::default()
    };
    let peers = [peer(1), peer(2), peer(3)];
    let (entries, hard_state) = bootstrap_log(&peers).expect("JSON");
    let wal = Wal::create("metadata".into(), wal_options());
    let disk = Disk::default();
    let store = disk.store.store();
    let node =
        Node::bootstrap(options(&peers[0]), wal, entries, hard_state, store).expect("starts");
    let mut member = Member1 {
        node,
        disk,
        told: Vec::new(),
    };
    member.settle();
    member.node.on_message(raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
        from: Some(2),
        to: Some(1),
        term: Some(2),
        ..raftpb::Message::default()
    });
    member.settle();
    assert_eq!(member.node.leadership().leader_id, 2);
    member
}

/// A follower passes proposals on to its leader. Those that got lost on the way once counted as waiting for ever, and
/// after 64 MiB of them the member refused every proposal until it was restarted.
#[test]
fn proposals_that_got_lost_do_not_count_as_waiting() {
    let mut member = follower();
    let key = "k".repeat(9_000);
    for _ in 0..UNAPPLIED_SIZE_BYTES_MAX / 9_000 + 10 {
        member.node.propose(put(&key)).expect("nothing waits here");
        member.settle();
        while member.node.poll_message().is_some() {}
    }
}

/// Without a leader a proposal waits for one, but not for ever: what its client has given up was once written when a
/// leader came, hours later perhaps, over what had been written meanwhile.
#[test]
fn a_proposal_that_nobody_waits_for_is_not_made() {
    let mut member = follower();
    let lost = member.node.propose(put("passed on")).expect("room");
    member.settle();
    while member.node.poll_message().is_some() {}
    // The leader is silent: there is none.
    let mut second = 0;
    while member.node.leadership().leader_id != 0 {
        second += 1;
        member.tick(second);
    }
    let given_up = member.node.propose(put("given up")).expect("room");
    let kept = member.node.propose(put("kept")).expect("room");
    member.settle();
    let asked = BTreeSet::from([lost, given_up]);
    assert_eq!(member.node.withdraw(&asked), BTreeSet::from([given_up]));
    assert!(member.node.withdraw(&asked).is_empty());
    while member.node.poll_message().is_some() {}

    member.node.on_message(raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
        from: Some(2),
        to: Some(1),
        term: Some(100),
        ..raftpb::Message::default()
    });
    member.settle();
    let mut passed_on = Vec::new();
    while let Some(message) = member.node.poll_message() {
        if message.r#type == Some(raftpb::MessageType::MsgProp as i32) {
            let requests = message
                .entries
                .iter()
                .filter_map(|entry| entry.data.clone());
            let requests = requests.map(|data| InternalRaftRequest::decode(data).expect("one"));
            passed_on.extend(requests.map(|request| request.header.expect("a header").id));
        }
    }
    assert_eq!(passed_on, [kept]);
}

/// A round of reads is known by its context, and raft serves with it every read that its leader was asked before. A
/// read was once asked for again with the context of its first round: when that round had ended meanwhile, a late
/// acknowledgement of its heartbeat ended the second one too, and with it reads that no heartbeat had been sent for. A
/// leader that was deposed without knowing answered them from an old state (simulator, three members, seed 1453).
#[test]
fn a_read_is_asked_for_again_with_a_context_of_its_own() {
    let mut member = follower();
    let read = member.node.read_index();
    let mut contexts = Vec::new();
    for second in 0..=READ_RETRY_TICKS {
        member.tick(second);
        while let Some(message) = member.node.poll_message() {
            if message.r#type == Some(raftpb::MessageType::MsgReadIndex as i32) {
                contexts.push(message.entries[0].data.clone().expect("a context"));
            }
        }
    }
    assert_eq!(contexts.len(), 2, "{contexts:?}");
    assert_ne!(contexts[0], contexts[1]);

    let applied = member.node.applied_index();
    member.node.on_message(raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgReadIndexResp as i32),
        from: Some(2),
        to: Some(1),
        term: Some(2),
        index: Some(applied),
        entries: vec![raftpb::Entry {
            data: contexts.pop(),
            ..raftpb::Entry::default()
        }],
        ..raftpb::Message::default()
    });
    member.settle();
    let is_ready = |event: &NodeEvent| matches!(event, NodeEvent::ReadReady { id } if *id == read);
    assert!(member.told.iter().any(is_ready));
}

/// A killed process leaves writes in the page cache that were never synced. A follower that starts from them once
/// acknowledged them to its leader at once; a power cut right after lost entries that were committed with its help.
#[test]
fn a_restarted_follower_promises_nothing_before_its_log_is_synced() {
    let before = follower();
    let mut recovery = Recovery::new();
    for (name, bytes) in before.disk.segments() {
        recovery
            .on_segment(name, bytes.into())
            .expect("own segment");
    }
    let mut recovered = recovery.finish().expect("own log");
    let wal = Wal::resume(&recovered, wal_options());
    let options = before.node.options().clone();
    let node = before.disk.restart(options, wal, &mut recovered);
    let node = node.expect("starts");
    let mut member = Member1 {
        node,
        disk: before.disk,
        told: Vec::new(),
    };
    member.node.on_message(raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgApp as i32),
        from: Some(2),
        to: Some(1),
        term: Some(2),
        log_term: Some(1),
        index: Some(3),
        ..raftpb::Message::default()
    });
    let synced_before = member.disk.sync_count;
    loop {
        member.work(1000);
        if member.node.poll_message().is_some() {
            break;
        }
        assert_eq!(member.serve_disk(1), 1, "the answer waits for the disk");
    }
    assert!(member.disk.sync_count > synced_before);
}

/// A full disk is asked for space now and then, not in every turn. The refusal itself brings the next turn, so a retry in
/// each of them once kept the core busy for a tick in five.
#[test]
fn a_store_without_space_is_tried_again_once_in_a_while() {
    let mut member = Member1::new();
    member.put("key");
    let mut refused = 0;
    for second in 0..40 {
        member.node.on_tick(Duration::from_secs(second));
        for _ in 0..20 {
            member.work(1000);
            while let Some(io) = member.node.poll_io() {
                member.disk.perform(io.op);
                member.node.on_io_done(io.ticket, Ok(()));
            }
            while let Some(io) = member.node.poll_store_io() {
                assert!(matches!(io.op, crate::store::StoreOp::Grow { .. }));
                refused += 1;
                let fault = IoFault { os_error: Some(28) };
                member.node.on_store_io_done(io.ticket, Err(fault));
            }
        }
    }
    assert!((2..=8).contains(&refused), "{refused} in 40 ticks");
    assert_eq!(member.node.propose(put("x")), Err(ProposeError::NoSpace));
    (0..20).for_each(|second| member.tick(40 + second));
    assert!(
        member.node.propose(put("x")).is_ok(),
        "there is space again"
    );
}
