//! Campaign, Proclaim, Leader, Observe, Resign.

use std::rc::Rc;

use bytes::Bytes;
use net::grpc::Status;
use proto::etcdserverpb::{ResponseHeader, TxnRequest};
use proto::mvccpb::KeyValue;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

use super::super::failure::{Failure, end};
use super::super::respond;
use super::client::{self, Client, Found};
use super::queue::{self, Queue};
use super::serve;
use crate::errors::FrontError;
use crate::shard::{ReplyTo, Shard, StreamReply};

const NO_LEADER: &str = "election: no leader";
const NOT_LEADER: &str = "election: not leader";
const NO_LEADER_KEY: &str = "\"leader\" field must be provided";

/// Answers when the caller leads. Who campaigns again with the same lease proclaims its new value.
pub(crate) fn campaign(shard: &Rc<Shard>, request: CampaignRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    serve(reply, async move |out| win(&client, request, out).await);
}

pub(crate) fn proclaim(shard: &Rc<Shard>, request: ProclaimRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    serve(reply, async move |_| {
        let leader = resume(&client, request.leader).await?;
        let header = put_value(&client, &leader, request.value).await?;
        Ok(ProclaimResponse {
            header: Some(header),
        })
    });
}

pub(crate) fn leader(shard: &Rc<Shard>, request: LeaderRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    serve(reply, async move |_| {
        let Found { header, kvs } = client.get(Queue::new(&request.name).oldest()).await?;
        let leader = kvs.into_iter().next();
        Ok(LeaderResponse {
            header: Some(header),
            kv: Some(leader.ok_or_else(|| client::refusal(NO_LEADER))?),
        })
    });
}

/// Whether it led or not: afterwards it does not.
pub(crate) fn resign(shard: &Rc<Shard>, request: ResignRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    serve(reply, async move |_| {
        let leader = resume(&client, request.leader).await?;
        let header = leave(&client, &leader).await?;
        Ok(ResignResponse {
            header: Some(header),
        })
    });
}

/// Tells who leads, and with which value, until the client leaves.
pub(crate) fn observe(shard: &Rc<Shard>, request: LeaderRequest, reply: ReplyTo) {
    let client = Client::new(shard);
    driver::spawn(async move {
        let out = reply.into_stream();
        let queue = Queue::new(&request.name);
        let observed = loop {
            if let Err(failure) = tell_one_leader(&client, &queue, &out).await {
                break failure;
            }
        };
        let ended = match observed {
            // As in etcd an observation that cannot go on ends well, and the client asks again. One that the end of
            // the server ends, or the lack of a leader, says so, for the same reason.
            Failure::Refused(status) if !says_why(&status) => Ok(()),
            other => Err(other),
        };
        end(out, ended);
    })
    .detach();
}

fn says_why(status: &Status) -> bool {
    let told = [FrontError::Stopped, FrontError::NoLeader];
    told.iter().any(|error| error.message() == status.message)
}

async fn win(
    client: &Client,
    request: CampaignRequest,
    out: &StreamReply,
) -> Result<CampaignResponse, Failure> {
    let lease = client.session(request.lease).await?;
    let queue = Queue::new(&request.name);
    let key = queue.key(lease);
    let entered = client
        .txn(TxnRequest {
            compare: vec![client::created_at(key.clone(), 0)],
            success: vec![client::put_op(key.clone(), request.value.clone(), lease)],
            failure: vec![client::get_op(client::get_key(key.clone()))],
        })
        .await?;
    let header = entered.header.unwrap_or_default();
    let mut leader = LeaderKey {
        name: request.name,
        rev: header.revision,
        key,
        lease,
    };
    let mut is_known = true;
    if !entered.succeeded
        && let Some(former) = client::first_pair(&entered, 0)
    {
        leader.rev = former.create_revision;
        is_known = former.value == request.value;
    }
    let waited = async {
        if !is_known {
            put_value(client, &leader, request.value).await?;
        }
        queue.wait_for_older(client, out, leader.rev - 1).await
    };
    if let Err(failure) = waited.await {
        // Who does not wait any longer must not be elected.
        let _ = leave(client, &leader).await;
        return Err(failure);
    }
    Ok(CampaignResponse {
        header: Some(header),
        leader: Some(leader),
    })
}

/// The election that a client goes on with. A key without a lease gets one, as etcd does it.
async fn resume(client: &Client, leader: Option<LeaderKey>) -> Result<LeaderKey, Failure> {
    let leader = leader.ok_or_else(|| client::refusal(NO_LEADER_KEY))?;
    Ok(LeaderKey {
        lease: client.session(leader.lease).await?,
        ..leader
    })
}

async fn put_value(
    client: &Client,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<ResponseHeader, Failure> {
    let request = TxnRequest {
        compare: vec![client::created_at(leader.key.clone(), leader.rev)],
        success: vec![client::put_op(leader.key.clone(), value, leader.lease)],
        failure: Vec::new(),
    };
    let response = client.txn(request).await?;
    match response.succeeded {
        true => Ok(response.header.unwrap_or_default()),
        false => Err(client::refusal(NOT_LEADER)),
    }
}

async fn leave(client: &Client, leader: &LeaderKey) -> Result<ResponseHeader, Failure> {
    let request = TxnRequest {
        compare: vec![client::created_at(leader.key.clone(), leader.rev)],
        success: vec![client::delete_op(leader.key.clone())],
        failure: Vec::new(),
    };
    let response = client.txn(request).await?;
    Ok(response.header.unwrap_or_default())
}

/// Tells the leader of now, or of next, and all it proclaims until its key is deleted.
async fn tell_one_leader(client: &Client, queue: &Queue, out: &StreamReply) -> Result<(), Failure> {
    let Found { header, kvs } = client.get(queue.oldest()).await?;
    let (header, leader) = match kvs.into_iter().next() {
        Some(leader) => (header, leader),
        None => queue.wait_for_first(client, out, header.revision).await?,
    };
    let key = leader.key.clone();
    tell(out, header, leader).await?;
    let watch = queue::watch_key(client, out, key, header.revision + 1);
    loop {
        let response = watch.next().await?;
        for event in response.events {
            if queue::is_deletion(&event) {
                return Ok(());
            }
            tell(
                out,
                response.header.unwrap_or_default(),
                event.kv.unwrap_or_default(),
            )
            .await?;
        }
    }
}

async fn tell(out: &StreamReply, header: ResponseHeader, leader: KeyValue) -> Result<(), Failure> {
    out.send(respond::message(&LeaderResponse {
        header: Some(header),
        kv: Some(leader),
    }))?;
    Ok(out.ready().await?)
}
