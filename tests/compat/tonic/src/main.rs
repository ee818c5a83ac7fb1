//! Unary and streaming calls of a tonic client, against the server that is named.
//!
//! ```text
//! tonic-smoke http://HOST:PORT
//! tonic-smoke https://HOST:PORT CA CERTIFICATE KEY
//! ```
//!
//! Ends with 0 and a line for each part, or with the first thing that is not as etcd has it.

use std::error::Error;
use std::fs;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

mod etcdserverpb {
    #![allow(clippy::all, dead_code)]
    tonic::include_proto!("etcdserverpb");
}
mod mvccpb {
    #![allow(clippy::all, dead_code)]
    tonic::include_proto!("mvccpb");
}
mod health {
    #![allow(clippy::all, dead_code)]
    tonic::include_proto!("grpc.health.v1");
}

use etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcdserverpb::kv_client::KvClient;
use etcdserverpb::lease_client::LeaseClient;
use etcdserverpb::maintenance_client::MaintenanceClient;
use etcdserverpb::watch_client::WatchClient;
use etcdserverpb::watch_request::RequestUnion;
use etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, SnapshotRequest, StatusRequest, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, request_op,
};
use health::health_check_response::ServingStatus;
use health::health_client::HealthClient;

type Outcome = Result<(), Box<dyn Error>>;

/// Bounds the whole run; nothing in it waits for time to pass.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tokio::time::timeout(LIMIT, run(&arguments)).await?
}

async fn run(arguments: &[String]) -> Outcome {
    let channel = connect(arguments).await?;
    unary(channel.clone()).await?;
    println!("unary");
    refusals(channel.clone()).await?;
    println!("refusals");
    watch(channel.clone()).await?;
    println!("watch");
    keep_alive(channel.clone()).await?;
    println!("keep-alive");
    range_stream(channel.clone()).await?;
    println!("range stream");
    snapshot(channel).await?;
    println!("snapshot");
    Ok(())
}

async fn connect(arguments: &[String]) -> Result<Channel, Box<dyn Error>> {
    let [url, files @ ..] = arguments else {
        return Err("no URL is named".into());
    };
    let endpoint = Endpoint::from_shared(url.clone())?;
    let endpoint = match files {
        [] => endpoint,
        [authority, certificate, key] => {
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(fs::read(authority)?))
                .identity(Identity::from_pem(fs::read(certificate)?, fs::read(key)?));
            endpoint.tls_config(tls)?
        }
        _ => return Err("an authority, a certificate and a key are needed".into()),
    };
    Ok(endpoint.connect().await?)
}

/// Fails with what was wanted and what came.
fn require<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what}: {got:?}, wanted {wanted:?}").into())
}

fn put(key: &str, value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.to_vec(),
        ..PutRequest::default()
    }
}

fn prefix(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

async fn unary(channel: Channel) -> Outcome {
    let mut health = HealthClient::new(channel.clone());
    let serving = health.check(health::HealthCheckRequest::default()).await?;
    require(
        "health",
        serving.into_inner().status(),
        ServingStatus::Serving,
    )?;

    // Many calls on one connection, and a message that takes many frames each way.
    let kv = KvClient::new(channel.clone());
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let mut kv = kv.clone();
        writers.spawn(async move { kv.put(put(&format!("u/{number:03}"), b"v")).await });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let mut kv = kv;
    let large: Vec<u8> = (0..1_000_000u32).map(|byte| byte as u8).collect();
    kv.put(put("u/large", &large)).await?;
    let all = kv.range(prefix("u/", "u0")).await?.into_inner();
    require("count", all.count, 101)?;
    require("large value", all.kvs[100].value == large, true)?;

    let created = |version| TxnRequest {
        compare: vec![Compare {
            key: "txn".into(),
            result: CompareResult::Equal as i32,
            target: CompareTarget::Version as i32,
            target_union: Some(TargetUnion::Version(version)),
            ..Compare::default()
        }],
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestPut(put("txn", b"1"))),
        }],
        failure: vec![RequestOp {
            request: Some(request_op::Request::RequestRange(prefix("txn", ""))),
        }],
    };
    require(
        "first txn",
        kv.txn(created(0)).await?.into_inner().succeeded,
        true,
    )?;
    let second = kv.txn(created(0)).await?.into_inner();
    require(
        "second txn",
        (second.succeeded, second.responses.len()),
        (false, 1),
    )?;

    let status = MaintenanceClient::new(channel)
        .status(StatusRequest {})
        .await?;
    require("status", status.into_inner().errors, Vec::new())
}

async fn refusals(channel: Channel) -> Outcome {
    let mut kv = KvClient::new(channel);
    let refused = |status: tonic::Status| (status.code(), status.message().to_owned());
    let empty = kv.put(put("", b"")).await.err().map(refused);
    let wanted = (
        Code::InvalidArgument,
        "etcdserver: key is not provided".into(),
    );
    require("a put without a key", empty, Some(wanted))?;
    let future = RangeRequest {
        revision: 1_000_000,
        ..prefix("u/", "")
    };
    let future = kv.range(future).await.err().map(refused);
    let text = "etcdserver: mvcc: required revision is a future revision";
    require(
        "a future revision",
        future,
        Some((Code::OutOfRange, text.into())),
    )
}

async fn watch(channel: Channel) -> Outcome {
    let (requests, stream) = mpsc::channel(8);
    let ask = |union| WatchRequest {
        request_union: Some(union),
    };
    let create = WatchCreateRequest {
        key: "w/".into(),
        range_end: "w0".into(),
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    requests
        .send(ask(RequestUnion::CreateRequest(create)))
        .await?;
    let mut responses = WatchClient::new(channel.clone())
        .watch(ReceiverStream::new(stream))
        .await?
        .into_inner();
    let created = next(&mut responses).await?;
    require("created", (created.created, created.watch_id), (true, 0))?;

    let mut kv = KvClient::new(channel);
    for number in 0..50u8 {
        kv.put(put("w/a", &[number])).await?;
    }
    let mut seen = 0u8;
    while seen < 50 {
        for event in next(&mut responses).await?.events {
            let value = event.kv.ok_or("an event without a pair")?.value;
            require("value", value, vec![seen])?;
            let before = event.prev_kv.map(|pair| pair.value);
            require(
                "value before",
                before,
                seen.checked_sub(1).map(|last| vec![last]),
            )?;
            seen += 1;
        }
    }
    requests
        .send(ask(RequestUnion::ProgressRequest(WatchProgressRequest {})))
        .await?;
    require("progress", next(&mut responses).await?.watch_id, -1)?;
    requests
        .send(ask(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: 0,
        })))
        .await?;
    require("cancelled", next(&mut responses).await?.canceled, true)
}

async fn next(
    responses: &mut tonic::Streaming<WatchResponse>,
) -> Result<WatchResponse, Box<dyn Error>> {
    Ok(responses.message().await?.ok_or("the stream has ended")?)
}

async fn keep_alive(channel: Channel) -> Outcome {
    let mut lease = LeaseClient::new(channel);
    let grant = LeaseGrantRequest { ttl: 100, id: 77 };
    require(
        "granted",
        lease.lease_grant(grant).await?.into_inner().ttl,
        100,
    )?;
    let (requests, stream) = mpsc::channel(8);
    requests.send(LeaseKeepAliveRequest { id: 77 }).await?;
    let mut responses = lease
        .lease_keep_alive(ReceiverStream::new(stream))
        .await?
        .into_inner();
    for _ in 0..20 {
        let renewed = responses.message().await?.ok_or("the stream has ended")?;
        require("renewed", (renewed.id, renewed.ttl), (77, 100))?;
        requests.send(LeaseKeepAliveRequest { id: 77 }).await?;
    }
    responses.message().await?;
    lease.lease_revoke(LeaseRevokeRequest { id: 77 }).await?;
    requests.send(LeaseKeepAliveRequest { id: 77 }).await?;
    let gone = responses.message().await?.ok_or("the stream has ended")?;
    require("revoked", (gone.id, gone.ttl), (77, 0))
}

async fn range_stream(channel: Channel) -> Outcome {
    let mut messages = KvClient::new(channel)
        .range_stream(prefix("u/", "u0"))
        .await?
        .into_inner();
    let (mut pairs, mut count) = (0, 0);
    while let Some(message) = messages.message().await? {
        let part = message
            .range_response
            .ok_or("a message without a response")?;
        pairs += part.kvs.len() as i64;
        count = part.count;
    }
    require("streamed", (pairs, count), (101, 101))
}

async fn snapshot(channel: Channel) -> Outcome {
    let mut messages = MaintenanceClient::new(channel)
        .snapshot(SnapshotRequest {})
        .await?
        .into_inner();
    let mut whole = 0;
    let mut left = None;
    while let Some(message) = messages.message().await? {
        whole += message.blob.len();
        left = Some(message.remaining_bytes);
    }
    require("bytes left", left, Some(0))?;
    // Whole sectors, and the digest behind them.
    require("length of a digest", whole % 512, 32)
}
