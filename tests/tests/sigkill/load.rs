//! One client thread: writes, one after the other, until the server is gone.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender};

use bytes::Bytes;
use proto::etcdserverpb::{CompactionRequest, CompactionResponse, TxnRequest};
use tests::api::{COMPACT, delete, get, modified_at, op, put, revision_of, txn};
use tests::client::{CallError, Client};
use tests::random::Random;

use crate::model::{Acknowledged, COUNTER, Change, Model};

/// Values up to this length: some fill several disk blocks.
const VALUE_LEN_MAX: u64 = 9_000;

/// Runs until the connection breaks; what was in flight then is `unanswered`.
pub(crate) fn run(
    addr: SocketAddr,
    mut model: Model,
    mut random: Random,
    acknowledged: &Sender<Acknowledged>,
) -> Model {
    // The kill may come before the connection does.
    let Ok(mut client) = Client::connect(addr) else {
        return model;
    };
    loop {
        let Ok(change) = choose(&mut client, &mut model, &mut random) else {
            return model;
        };
        match perform(&mut client, &model, &change) {
            Ok(Some(revision)) => {
                model.apply(&change, revision);
                // The receiver lives until this thread has ended.
                let _ = acknowledged.send(Acknowledged { revision, change });
            }
            Ok(None) => {}
            Err(CallError::Lost(_)) => {
                model.unanswered = Some(change);
                return model;
            }
            Err(error) => panic!("thread {}: {change:?}: {error}", model.thread),
        }
    }
}

/// Compacts at the revisions it is sent, with a wait for each sweep or without, until the connection breaks. Returns the newest one that was acknowledged.
pub(crate) fn compact(addr: SocketAddr, revisions: &Receiver<i64>, physical: bool) -> i64 {
    let mut compacted = 0;
    let Ok(mut client) = Client::connect(addr) else {
        return compacted;
    };
    for revision in revisions {
        let request = CompactionRequest { revision, physical };
        match client.unary::<CompactionResponse>(COMPACT, &request) {
            Ok(_) => compacted = revision,
            Err(CallError::Lost(_)) => break,
            Err(error) => panic!("compaction at {revision}: {error}"),
        }
    }
    compacted
}

/// The next write. Fails if the server is gone.
fn choose(
    client: &mut Client,
    model: &mut Model,
    random: &mut Random,
) -> Result<Change, CallError> {
    model.serial += 1;
    let value = value(model, random);
    let key = model.key(random.number());
    let other = model.key(random.number());
    let lives = model.keys.contains_key(&key);
    Ok(match random.below(10) {
        0 => Change::Count {
            to: count(client)? + 1,
        },
        1 | 2 if lives => Change::Delete { key },
        3 if key != other => Change::PutTwo {
            keys: [key, other],
            value,
        },
        4 if lives && key != other => Change::Move {
            from: key,
            to: other,
            value,
        },
        _ => Change::Put { key, value },
    })
}

/// No two writes have the same value.
fn value(model: &Model, random: &mut Random) -> Bytes {
    let len = match random.below(8) {
        0 => random.below(VALUE_LEN_MAX),
        _ => random.below(200),
    };
    let mut value = format!("{}/{}/", model.thread, model.serial).into_bytes();
    value.extend(random.octets(len as usize));
    value.into()
}

pub(crate) fn count(client: &mut Client) -> Result<u64, CallError> {
    let answer = client.range(&get(COUNTER))?;
    let Some(pair) = answer.kvs.first() else {
        return Ok(0);
    };
    let text = String::from_utf8_lossy(&pair.value);
    Ok(text
        .parse()
        .unwrap_or_else(|_| panic!("the counter is {text:?}")))
}

/// The revision of the write; `None` if it was not to be done (someone else counted first).
fn perform(client: &mut Client, model: &Model, change: &Change) -> Result<Option<i64>, CallError> {
    match change {
        Change::Put { key, value } => Ok(Some(revision_of(client.put(key, value)?.header))),
        Change::Delete { key } => {
            let answer = client.delete_range(&delete(key))?;
            assert_eq!(answer.deleted, 1, "{key} lives");
            Ok(Some(revision_of(answer.header)))
        }
        Change::PutTwo { .. } | Change::Move { .. } => {
            let answer = client.txn(&own_txn(model, change))?;
            assert!(
                answer.succeeded,
                "nobody else writes these keys: {change:?}"
            );
            Ok(Some(revision_of(answer.header)))
        }
        Change::Count { to } => raise(client, *to),
    }
}

/// Puts and deletes in one, on the condition that they are as this thread knows them.
fn own_txn(model: &Model, change: &Change) -> TxnRequest {
    let known = |key: &str| model.keys.get(key).map_or(0, |pair| pair.mod_revision);
    let effects = change.effects();
    let compares = effects
        .iter()
        .map(|(key, _)| modified_at(key, known(key)))
        .collect();
    let ops = effects.iter().map(|(key, value)| match value {
        Some(value) => op(put(key, value)),
        None => op(delete(key)),
    });
    txn(compares, ops.collect(), vec![])
}

/// Compare-and-swap of the shared counter.
fn raise(client: &mut Client, to: u64) -> Result<Option<i64>, CallError> {
    let answer = client.range(&get(COUNTER))?;
    let read_at = answer.kvs.first().map_or(0, |pair| pair.mod_revision);
    let is_as_expected = match answer.kvs.first() {
        Some(pair) => pair.value == (to - 1).to_string(),
        None => to == 1,
    };
    if !is_as_expected {
        return Ok(None);
    }
    let swap = txn(
        vec![modified_at(COUNTER, read_at)],
        vec![op(put(COUNTER, to.to_string()))],
        vec![],
    );
    let answer = client.txn(&swap)?;
    Ok(answer.succeeded.then(|| revision_of(answer.header)))
}
