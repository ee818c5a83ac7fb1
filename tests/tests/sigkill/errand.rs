//! What else goes on while the server is killed.
//!
//! An errand says when it is under way for certain; then the load begins, and with the load the way to the kill.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use proto::etcdserverpb::{
    DefragmentRequest, DefragmentResponse, LeaseLeasesRequest, LeaseLeasesResponse, PutRequest,
    PutResponse, RangeRequest, SnapshotRequest, SnapshotResponse, WatchCreateRequest, WatchRequest,
    WatchResponse, watch_request,
};
use tests::api::{LEASE_LEASES, PUT, WATCH, get, put};
use tests::client::{CallError, Client};

use crate::model::LEASED;

const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
/// Leases that end in the same second.
pub(crate) const STAMPEDE_LEASES: i64 = 400;
/// In seconds; the shortest that etcd grants.
const STAMPEDE_TTL: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    None,
    /// A client is in the middle of a snapshot.
    Snapshot,
    /// One defragmentation follows the other.
    Defragmentation,
    /// Many, each waited for to the end of its sweep; the thread that compacts in each round does it.
    Compaction,
    /// Leases with keys are being revoked, with more to come.
    Stampede,
}

impl Errand {
    /// That of a round: a stampede takes seconds, so there are few.
    pub(crate) fn of(round: u64) -> Self {
        match round % 10 {
            1 | 5 => Errand::Snapshot,
            2 | 6 => Errand::Defragmentation,
            3 | 7 => Errand::Compaction,
            8 => Errand::Stampede,
            _ => Errand::None,
        }
    }

    /// Runs until the server is gone; tells when it is under way.
    pub(crate) fn run(self, addr: SocketAddr, round: u64, begun: &Sender<()>) {
        let Ok(mut client) = Client::connect(addr) else {
            return;
        };
        let result = match self {
            Errand::None | Errand::Compaction => {
                let _ = begun.send(());
                Ok(())
            }
            Errand::Snapshot => snapshot(&mut client, begun),
            Errand::Defragmentation => defragment(&mut client, begun),
            Errand::Stampede => stampede(&mut client, round, begun),
        };
        match result {
            Ok(()) | Err(CallError::Lost(_)) => {}
            Err(error) => panic!("{self:?}: {error}"),
        }
    }
}

/// One read to the first message and kept open, others to their ends.
fn snapshot(client: &mut Client, begun: &Sender<()>) -> Result<(), CallError> {
    let begin = |client: &mut Client| {
        let call = client.start(SNAPSHOT)?;
        client.send(call, &SnapshotRequest {});
        client.half_close(call);
        client.next::<SnapshotResponse>(call)?;
        Ok::<_, CallError>(call)
    };
    begin(client)?;
    // The receiver is gone if the kill was faster; so below.
    let _ = begun.send(());
    loop {
        let call = begin(client)?;
        while client.next::<SnapshotResponse>(call)?.is_some() {}
    }
}

fn defragment(client: &mut Client, begun: &Sender<()>) -> Result<(), CallError> {
    let _ = begun.send(());
    loop {
        let _: DefragmentResponse = client.unary(DEFRAGMENT, &DefragmentRequest {})?;
    }
}

/// Grants leases with a key each, and waits for the first of them to end.
fn stampede(client: &mut Client, round: u64, begun: &Sender<()>) -> Result<(), CallError> {
    let call = client.start(WATCH)?;
    let create = WatchCreateRequest {
        key: LEASED.into(),
        range_end: "lease0".into(),
        // No puts.
        filters: vec![0],
        ..WatchCreateRequest::default()
    };
    let union = watch_request::RequestUnion::CreateRequest(create);
    let request = WatchRequest {
        request_union: Some(union),
    };
    client.send(call, &request);
    for number in 0..STAMPEDE_LEASES {
        let id = (round as i64 + 1) * 10_000 + number;
        client.lease_grant(STAMPEDE_TTL, id)?;
        let request = PutRequest {
            lease: id,
            ..put(key_of(id), "")
        };
        client.unary::<PutResponse>(PUT, &request)?;
    }
    loop {
        let response: Option<WatchResponse> = client.next(call)?;
        if response.is_some_and(|response| !response.events.is_empty()) {
            let _ = begun.send(());
        }
    }
}

fn key_of(id: i64) -> String {
    format!("{LEASED}{id}")
}

/// A lease and its key live and end together, whenever the kill came. Returns how many there are.
pub(crate) fn check_leases(client: &mut Client) -> usize {
    let keys = |client: &mut Client| {
        let request = RangeRequest {
            range_end: "lease0".into(),
            keys_only: true,
            ..get(LEASED)
        };
        let answer = client.range(&request).expect("a read");
        let keys = answer.kvs.into_iter();
        keys.map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect::<Vec<_>>()
    };
    // They may go on to end meanwhile: what is there later was there earlier.
    let before = keys(client);
    let leases: LeaseLeasesResponse = client
        .unary(LEASE_LEASES, &LeaseLeasesRequest {})
        .expect("a list");
    let leases: Vec<String> = leases.leases.iter().map(|l| key_of(l.id)).collect();
    let after = keys(client);
    // One was granted perhaps and the kill came before its key.
    let lone = leases.iter().filter(|key| !before.contains(key)).count();
    assert!(lone <= 1, "{lone} leases without their key");
    for key in &after {
        assert!(leases.contains(key), "{key} without its lease");
    }
    leases.len()
}
