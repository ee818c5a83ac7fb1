//! Lock and Unlock.

use std::rc::Rc;

use bytes::Bytes;
use proto::etcdserverpb::{ResponseHeader, TxnRequest};
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::super::failure::Failure;
use super::client::{self, Client};
use super::queue::Queue;
use super::serve;
use crate::shard::{ReplyTo, Shard, StreamReply};

const SESSION_EXPIRED: &str = "mutex: session is expired";

/// Answers when the caller's key is the oldest. The same lease gets the same key again.
pub(crate) fn lock(shard: &Rc<Shard>, request: LockRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    serve(reply, async move |out| acquire(&client, request, out).await);
}

/// Whoever unlocks may be anybody; a key that is gone is fine.
pub(crate) fn unlock(shard: &Rc<Shard>, request: UnlockRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    serve(reply, async move |_| {
        let header = client.delete(request.key).await?;
        Ok(UnlockResponse {
            header: Some(header),
        })
    });
}

async fn acquire(
    client: &Client,
    request: LockRequest,
    out: &StreamReply,
) -> Result<LockResponse, Failure> {
    let lease = client.session(request.lease).await?;
    let queue = Queue::new(&request.name);
    let key = queue.key(lease);
    // Both ways tell the oldest key, so a lock that is free takes one round.
    let oldest = || client::get_op(queue.oldest());
    let entered = client
        .txn(TxnRequest {
            compare: vec![client::created_at(key.clone(), 0)],
            success: vec![client::put_op(key.clone(), Bytes::new(), lease), oldest()],
            failure: vec![client::get_op(client::get_key(key.clone())), oldest()],
        })
        .await?;
    let header = entered.header.unwrap_or_default();
    let own = match entered.succeeded {
        true => header.revision,
        false => client::first_pair(&entered, 0).map_or(0, |pair| pair.create_revision),
    };
    let first = client::first_pair(&entered, 1).map(|pair| pair.create_revision);
    let header = match first.is_none_or(|first| first == own) {
        true => header,
        false => {
            let waited = wait(client, &queue, &key, out, own).await;
            if waited.is_err() {
                // Who does not wait any longer must not get it.
                let _ = client.delete(key.clone()).await;
            }
            waited?.ok_or_else(|| client::refusal(SESSION_EXPIRED))?
        }
    };
    Ok(LockResponse {
        header: Some(header),
        key,
    })
}

/// Waits for its turn. `None`: then the key is gone, because its lease ended meanwhile or somebody deleted it.
async fn wait(
    client: &Client,
    queue: &Queue,
    key: &Bytes,
    out: &StreamReply,
    own: i64,
) -> Result<Option<ResponseHeader>, Failure> {
    queue.wait_for_older(client, out, own - 1).await?;
    let found = client.get(client::get_key(key.clone())).await?;
    Ok((!found.kvs.is_empty()).then_some(found.header))
}
