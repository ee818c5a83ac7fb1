//! Maintenance over the wire: snapshots under writes, hashes, defragmentation, who leads. What etcd's tools make of a snapshot is tested
//! with them (`tests/compat/durability`).

use std::time::{Duration, Instant};

use bytes::Bytes;
use net::grpc::Code;
use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DefragmentRequest,
    DefragmentResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use tempfile::TempDir;
use tests::api;
use tests::client::Client;
use tests::process::{Options, Process};

const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
const HASH: &str = "/etcdserverpb.Maintenance/Hash";
const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
/// For something that the server does by itself, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the file in one message.
const BLOB_LEN: usize = 32 * 1024;

fn options(dir: &TempDir) -> Options {
    Options::new(dir.path().join("data")).two_shards()
}

/// The messages of a snapshot, with something else done between them.
fn snapshot(client: &mut Client, mut meanwhile: impl FnMut()) -> Vec<SnapshotResponse> {
    let call = client.start(SNAPSHOT).expect("a call");
    client.send(call, &SnapshotRequest {});
    client.half_close(call);
    let mut messages = Vec::new();
    while let Some(message) = client.next(call).expect("the stream lives") {
        messages.push(message);
        meanwhile();
    }
    messages
}

/// The blobs joined, without the digest.
fn file_of(messages: &[SnapshotResponse]) -> Vec<u8> {
    let (digest, blobs) = messages.split_last().expect("at least the digest");
    assert_eq!((digest.blob.len(), digest.remaining_bytes), (32, 0));
    let mut left: u64 = blobs.iter().map(|message| message.blob.len() as u64).sum();
    let mut file = Vec::new();
    for message in blobs {
        assert!(message.header.is_none());
        assert_eq!(message.version, "3.7.0");
        left -= message.blob.len() as u64;
        assert_eq!(message.remaining_bytes, left);
        assert!(message.blob.len() == BLOB_LEN || left == 0);
        file.extend_from_slice(&message.blob);
    }
    file
}

#[test]
fn a_snapshot_under_writes_is_whole_on_both_shards() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let mut clients = process.connect_both();
    let mut writer = Client::connect(process.client_addr()).expect("a listener");
    let value = Bytes::from(vec![b'v'; 10_000]);
    for (round, client) in clients.iter_mut().enumerate() {
        for n in 0..300 {
            writer
                .put(format!("before-{round}-{n:04}"), &value)
                .expect("put");
        }
        let mut count = 0;
        let messages = snapshot(client, || {
            writer
                .put(format!("while-{round}-{:04}", count % 50), &value)
                .expect("put");
            count += 1;
        });
        assert!(count > 50, "{count} messages");
        let file = file_of(&messages);
        // Everything that was answered before is in it, and both of its meta pages are.
        let last = format!("before-{round}-0299");
        let is_there = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(is_there(&last), "{last} is missing");
        for page in [0, 4096] {
            assert_eq!(file[page + 16..page + 20], 0xED0C_DAED_u32.to_le_bytes());
        }
    }
    process.stop();
}

#[test]
fn a_client_that_leaves_a_snapshot_costs_nothing() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let mut writer = Client::connect(process.client_addr()).expect("a listener");
    let value = Bytes::from(vec![b'v'; 100_000]);
    for n in 0..100 {
        writer.put(format!("{n:04}"), &value).expect("put");
    }
    for client in &mut process.connect_both() {
        let call = client.start(SNAPSHOT).expect("a call");
        client.send(call, &SnapshotRequest {});
        client.half_close(call);
        let first: Option<SnapshotResponse> = client.next(call).expect("the stream lives");
        assert!(first.expect("a message").remaining_bytes > 0);
        client.cancel(call);
        client.flush().expect("a connection");
    }
    writer.put("k", "v").expect("put");
    process.stop();
}

#[test]
fn the_hash_is_that_of_the_state_wherever_it_is_asked() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let hash = |client: &mut Client| -> HashResponse {
        client.unary(HASH, &HashRequest {}).expect("an answer")
    };
    let [mut client, mut other] = process.connect_both();
    client.put("a", "1").expect("put");
    let first = hash(&mut client);
    assert_eq!(first.hash, hash(&mut other).hash);
    assert_eq!(first.header.expect("a header").revision, 2);
    client.put("a", "2").expect("put");
    assert_ne!(first.hash, hash(&mut other).hash);
    // It does not depend on where the log stands.
    let before = hash(&mut other).hash;
    client
        .delete_range(&api::delete("nothing"))
        .expect("an answer");
    let process = Process::start(process.stop());
    let [mut client, _] = process.connect_both();
    assert_eq!(hash(&mut client).hash, before);
    process.stop();
}

#[test]
fn the_lead_moves_to_voters_only() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    for client in &mut process.connect_both() {
        let status: StatusResponse = client
            .unary(api::STATUS, &StatusRequest {})
            .expect("an answer");
        let mut move_to = |target_id| {
            client.unary::<MoveLeaderResponse>(MOVE_LEADER, &MoveLeaderRequest { target_id })
        };
        let moved = move_to(status.leader).expect("it leads already");
        assert!(moved.header.is_none());
        let refused = move_to(7).expect_err("a stranger");
        let expected = (
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee",
        );
        assert_eq!(refused.status(), Some(expected));
    }
    process.stop();
}

#[test]
fn a_defragmentation_makes_the_file_small_while_puts_go_on() {
    let dir = TempDir::new().expect("a temporary directory");
    let process = Process::start(options(&dir));
    let mut clients = process.connect_both();
    let mut writer = Client::connect(process.client_addr()).expect("a listener");
    let value = Bytes::from(vec![b'v'; 100_000]);
    let file = process.options().data_dir.join("member/snap/db");
    let len = || std::fs::metadata(&file).expect("a database").len();
    for client in &mut clients {
        for n in 0..800 {
            writer.put(format!("{n:04}"), &value).expect("put");
        }
        // A snapshot of it all waits for a checkpoint of it all.
        let long = snapshot(client, || {})[0].remaining_bytes;
        writer
            .delete_range(&api::delete_range("0002", "0799"))
            .expect("deleted");
        let revision = writer.revision().expect("an answer");
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        let _: CompactionResponse = writer.unary(api::COMPACT, &request).expect("compacted");
        let before = len();
        assert!(before > 60 << 20, "{before}");
        let call = client.start(DEFRAGMENT).expect("a call");
        client.send(call, &DefragmentRequest {});
        client.half_close(call);
        client.flush().expect("a connection");
        for n in 0..50 {
            writer.put(format!("beside-{n:04}"), "v").expect("put");
        }
        let answer: Option<DefragmentResponse> = client.next(call).expect("it ends well");
        assert!(answer.expect("an answer").header.is_none());
        let after = len();
        assert!(after < 40 << 20, "{before} -> {after}");
        let status: StatusResponse = writer
            .unary(api::STATUS, &StatusRequest {})
            .expect("an answer");
        assert!(
            status.db_size < 8 << 20,
            "{} of {long} are left",
            status.db_size
        );
        for key in ["0001", "0799", "beside-0049"] {
            let answer = writer.range(&api::get(key)).expect("an answer");
            assert_eq!(answer.count, 1, "{key}");
        }
    }
    let process = Process::start(process.kill());
    let mut client = Client::connect(process.client_addr()).expect("a listener");
    assert_eq!(client.range(&api::get("0799")).expect("an answer").count, 1);
    process.stop();
}

/// A member that is full, compacted and defragmented takes writes again; without the flag it waits for an operator.
#[test]
fn a_space_alarm_ends_by_itself_if_it_is_told_to() {
    for (flag, ends) in [("true", true), ("false", false)] {
        let dir = TempDir::new().expect("a temporary directory");
        let process = Process::start(
            options(&dir)
                .arg("--quota-backend-bytes=8388608")
                .arg(format!("--auto-disarm-space-alarm={flag}")),
        );
        let [mut client, mut other] = process.connect_both();
        let value = vec![b'v'; 100_000];
        let refused = loop {
            if let Err(error) = other.put("k", &value) {
                break error;
            }
        };
        let no_space = "etcdserver: mvcc: database space exceeded";
        assert_eq!(refused.status(), Some((Code::ResourceExhausted, no_space)));
        let revision = client.revision().expect("a revision");
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        let _: CompactionResponse = client.unary(api::COMPACT, &request).expect("compacted");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let _: DefragmentResponse = client
                .unary(DEFRAGMENT, &DefragmentRequest {})
                .expect("defragmented");
            let alarms = alarms(&mut client);
            let status: StatusResponse = client
                .unary(api::STATUS, &StatusRequest {})
                .expect("a status");
            // A tenth of the quota must be free before it ends, and with the next tick it has.
            let has_space = status.db_size <= 8_388_608 / 10 * 9;
            match (ends, has_space) {
                (true, _) if alarms == 0 => break,
                (false, true) => {
                    assert_eq!(alarms, 1);
                    break;
                }
                _ => assert!(Instant::now() < deadline, "{status:?}"),
            }
        }
        assert_eq!(other.put("k", &value).is_ok(), ends);
        process.stop();
    }
}

/// How many alarms are up.
fn alarms(client: &mut Client) -> usize {
    let request = AlarmRequest::default();
    let answer: AlarmResponse = client.unary(api::ALARM, &request).expect("an answer");
    answer.alarms.len()
}
