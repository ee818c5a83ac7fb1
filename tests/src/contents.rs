//! All that a member holds, as far as clients can see it, in a form to compare and to keep.

use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, MemberListRequest, MemberListResponse, RangeRequest,
};
use proto::mvccpb::KeyValue;
use serde_json::{Value, json};

use crate::api::{ALARM, HASH_KV, LEASE_TIME_TO_LIVE, MEMBER_LIST, OPEN_END, get_at, revision_of};
use crate::client::Client;

/// Distances from the newest revision that are looked at.
const OLDER: [i64; 5] = [0, 1, 10, 50, 150];
/// Leases with these ids are looked at.
const LEASES: std::ops::Range<i64> = 1..20;

/// Everything. Keys and values must be text.
///
/// # Panics
/// If the member does not answer.
pub fn contents(client: &mut Client) -> Value {
    let newest: HashKvResponse = hash(client, 0);
    let revision = revision_of(newest.header);
    let past = OLDER.map(|distance| revision - distance);
    let past = past.iter().filter(|at| **at > newest.compact_revision);
    let past: Vec<_> = past.map(|at| at_revision(client, *at)).collect();
    let leases: Vec<_> = LEASES.filter_map(|id| lease(client, id)).collect();
    let members: MemberListResponse = client
        .unary(MEMBER_LIST, &MemberListRequest::default())
        .expect("the members");
    let members: Vec<_> = members.members.iter().map(|member| member.id).collect();
    let alarms: AlarmResponse = client
        .unary(ALARM, &AlarmRequest::default())
        .expect("the alarms");
    json!({
        "revision": revision,
        "compacted": newest.compact_revision,
        "past": past,
        "leases": leases,
        "members": members,
        "alarms": alarms.alarms.len(),
    })
}

fn hash(client: &mut Client, revision: i64) -> HashKvResponse {
    let request = HashKvRequest { revision };
    client.unary(HASH_KV, &request).expect("a hash")
}

fn at_revision(client: &mut Client, revision: i64) -> Value {
    let all = RangeRequest {
        range_end: OPEN_END.into(),
        ..get_at("\0", revision)
    };
    let answer = client.range(&all).expect("a read");
    let pairs: Vec<_> = answer.kvs.iter().map(pair).collect();
    json!({ "revision": revision, "hash": hash(client, revision).hash, "pairs": pairs })
}

fn pair(pair: &KeyValue) -> Value {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    json!([
        text(&pair.key),
        text(&pair.value),
        pair.create_revision,
        pair.mod_revision,
        pair.version,
        pair.lease
    ])
}

fn lease(client: &mut Client, id: i64) -> Option<Value> {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let answer: LeaseTimeToLiveResponse = client
        .unary(LEASE_TIME_TO_LIVE, &request)
        .expect("the lease's time");
    let mut keys: Vec<_> = answer
        .keys
        .iter()
        .map(|key| String::from_utf8_lossy(key).into_owned())
        .collect();
    keys.sort();
    // How long it lives begins anew with a restart.
    (answer.ttl >= 0).then(|| json!([id, answer.granted_ttl, keys]))
}
