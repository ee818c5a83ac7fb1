//! What must be true after a start.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use net::grpc::Code;
use proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, RangeRequest, ResponseHeader, WatchCreateRequest, WatchRequest,
    WatchResponse, watch_request,
};
use proto::mvccpb::{KeyValue, event::EventType};
use tests::api::{HASH_KV, OPEN_END, WATCH, get, get_at};
use tests::client::Client;

use crate::errand::check_leases;
use crate::load::count;
use crate::model::{Acknowledged, COUNTER, Change, LEASED, Ledger, Model, Pair};

/// Checks everything that one start can show, and settles what was unanswered.
pub(crate) fn check_start(client: &mut Client, models: &mut [Model], ledger: &mut Ledger) {
    let unanswered = models
        .iter()
        .filter(|model| model.unanswered.is_some())
        .count() as i64;
    let all = RangeRequest {
        range_end: OPEN_END.into(),
        ..get("\0")
    };
    let answer = client.range(&all).expect("a read");
    let header = answer.header.expect("a header");
    check_header(header, unanswered, ledger);
    let mut pairs: BTreeMap<String, KeyValue> = answer
        .kvs
        .into_iter()
        .map(|pair| (text(&pair.key), pair))
        .filter(|(key, _)| !key.starts_with(LEASED))
        .collect();
    ledger.of_leases = check_leases(client) as i64;
    check_counter(client, pairs.remove(COUNTER).as_ref(), models, ledger);
    for model in models.iter_mut() {
        settle(model, &pairs);
        for key in model.all_keys() {
            let stored = pairs.remove(&key).map(pair);
            assert_eq!(stored.as_ref(), model.keys.get(&key), "{key}");
        }
    }
    assert!(pairs.is_empty(), "keys nobody wrote: {:?}", pairs.keys());
    let compacted = compacted(client, ledger);
    check_past(client, ledger, compacted);
}

/// Where the store is compacted: not before what was acknowledged, not behind what was asked for.
fn compacted(client: &mut Client, ledger: &mut Ledger) -> i64 {
    let answer: HashKvResponse = client
        .unary(HASH_KV, &HashKvRequest::default())
        .expect("a hash");
    // Never compacted is told as -1 by some.
    let compacted = answer.compact_revision.max(0);
    let (told, asked) = (ledger.compacted, ledger.compaction_asked);
    assert!(
        (told..=asked).contains(&compacted),
        "compacted at {compacted}; told {told}, asked {asked}"
    );
    ledger.compacted = compacted;
    compacted
}

fn check_header(header: ResponseHeader, unanswered: i64, ledger: &mut Ledger) {
    let (revision, seen) = (header.revision, ledger.revision_seen);
    assert!(
        revision >= seen,
        "the revision went back: {seen} -> {revision}"
    );
    // A fresh store is at 1.
    let most = seen.max(1) + unanswered + ledger.of_leases;
    assert!(
        revision <= most,
        "{revision} writes, of which {most} were asked for"
    );
    assert!(
        header.raft_term >= ledger.term,
        "the term went back: {header:?}"
    );
    let ids = (header.cluster_id, header.member_id);
    assert_eq!(*ledger.ids.get_or_insert(ids), ids, "another member");
    ledger.revision_seen = revision;
    ledger.term = header.raft_term;
}

/// Each acknowledged raise has its own number, later ones higher ones, and none is lost.
fn check_counter(
    client: &mut Client,
    stored: Option<&KeyValue>,
    models: &[Model],
    ledger: &mut Ledger,
) {
    let raises = ledger.writes.iter().filter_map(|write| match write.change {
        Change::Count { to } => Some((write.revision, to)),
        _ => None,
    });
    let by_revision: BTreeMap<i64, u64> = raises.collect();
    let numbers: Vec<u64> = by_revision.values().copied().collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "out of order: {by_revision:?}"
    );
    // A raise that nobody was told of may have been found done in an earlier round.
    let told = numbers.last().copied().unwrap_or(0).max(ledger.count_seen);
    let counter = count(client).expect("a read");
    let is_count = |model: &&Model| matches!(model.unanswered, Some(Change::Count { .. }));
    let unanswered = models.iter().filter(is_count).count() as u64;
    assert!(
        (told..=told + unanswered).contains(&counter),
        "{counter}, told {told}"
    );
    ledger.count_seen = counter;
    let version = stored.map_or(0, |pair| pair.version as u64);
    assert_eq!(version, counter, "each raise is one version");
}

/// Finds out whether the unanswered write happened: wholly or not at all.
fn settle(model: &mut Model, pairs: &BTreeMap<String, KeyValue>) {
    let Some(change) = model.unanswered.take() else {
        return;
    };
    let effects = change.effects();
    let is_done = |(key, value): &(&str, Option<Bytes>)| {
        pairs.get(*key).map(|pair| &pair.value) == value.as_ref()
    };
    if matches!(change, Change::Count { .. }) || !effects.iter().any(is_done) {
        return;
    }
    assert!(effects.iter().all(is_done), "half done: {change:?}");
    let revisions = effects
        .iter()
        .filter_map(|(key, _)| Some(pairs.get(*key)?.mod_revision));
    // A delete leaves no trace of its revision here, and needs none.
    let revision = revisions.max().unwrap_or(0);
    model.apply(&change, revision);
}

/// Each write of the last round is what the store shows at its revision, and is not there one revision earlier. What is
/// older than `compacted` cannot be read.
fn check_past(client: &mut Client, ledger: &mut Ledger, compacted: i64) {
    let mut revisions = HashSet::new();
    assert!(
        ledger
            .writes
            .iter()
            .all(|write| revisions.insert(write.revision)),
        "two writes at one revision"
    );
    for write in &ledger.writes[ledger.checked..] {
        if write.revision < compacted {
            let read = client.range(&get_at(COUNTER, write.revision));
            let refusal = read.expect_err("a read of what is compacted");
            let code = refusal.status().map(|(code, _)| code);
            assert_eq!(code, Some(Code::OutOfRange), "{refusal}");
            continue;
        }
        for (key, value) in write.change.effects() {
            let mut value_at = |revision| {
                let answer = client.range(&get_at(key, revision));
                let pair = answer.expect("a read of the past").kvs.pop();
                pair.map(|pair| pair.value)
            };
            assert_eq!(
                value_at(write.revision),
                value,
                "{key} at {}",
                write.revision
            );
            if write.revision > compacted.max(1) {
                assert_ne!(
                    value_at(write.revision - 1),
                    value,
                    "{key} before {}",
                    write.revision
                );
            }
        }
    }
    ledger.checked = ledger.writes.len();
}

/// The whole history, as a watch from the first revision on tells it.
pub(crate) fn check_history(client: &mut Client, ledger: &Ledger) {
    let mut history = read_history(client, ledger.revision_seen);
    for Acknowledged { revision, change } in &ledger.writes {
        let mut events = history.remove(revision).unwrap_or_default();
        for (key, value) in change.effects() {
            assert_eq!(
                events.remove(key),
                Some(value),
                "{key} at {revision}: {change:?}"
            );
        }
        assert!(events.is_empty(), "more at {revision} than {change:?}");
    }
    // What is left was never answered: at most one write of each thread per round, so no bound worth a check here;
    // that they were asked for at all was checked when they were settled.
    let last = history.keys().max().copied().unwrap_or(0);
    assert!(
        last <= ledger.revision_seen,
        "events after the last revision"
    );
}

/// Per revision and key: the new value, or `None` for a delete.
type History = HashMap<i64, HashMap<String, Option<Bytes>>>;

fn read_history(client: &mut Client, last_revision: i64) -> History {
    let call = client.start(WATCH).expect("a call");
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: OPEN_END.into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let union = watch_request::RequestUnion::CreateRequest(create);
    client.send(
        call,
        &WatchRequest {
            request_union: Some(union),
        },
    );
    let mut history = History::new();
    let mut seen = 1;
    while seen < last_revision {
        let answer: WatchResponse = client
            .next(call)
            .expect("the stream lives")
            .expect("goes on");
        assert!(!answer.canceled, "{answer:?}");
        for event in answer.events {
            let is_put = event.r#type == i32::from(EventType::Put);
            let pair = event.kv.expect("an event has a pair");
            assert!(
                pair.mod_revision >= seen,
                "{} after {seen}",
                pair.mod_revision
            );
            seen = pair.mod_revision;
            let value = is_put.then_some(pair.value);
            let former = history
                .entry(seen)
                .or_default()
                .insert(text(&pair.key), value);
            assert_eq!(former, None, "two events of one key at {seen}");
        }
    }
    client.cancel(call);
    history
}

fn pair(pair: KeyValue) -> Pair {
    assert_eq!(pair.lease, 0, "nobody attached a lease");
    Pair {
        value: pair.value,
        create_revision: pair.create_revision,
        mod_revision: pair.mod_revision,
        version: pair.version,
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
