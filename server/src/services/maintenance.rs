//! Maintenance: status, alarms, hashes, defragmentation.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use engine::backend::ImageHash;
use engine::mvcc::{HashKv, HashRun, RequestError};
use engine::node::Node;
use engine::types::Budget;
use net::grpc::Status;
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, DowngradeInfo, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, InternalRaftRequest, MoveLeaderRequest, MoveLeaderResponse,
    StatusRequest, StatusResponse,
};

use super::{refused, respond};
use crate::errors::FrontError;
use crate::shard::{LogShard, NodeReply, ReplyTo, Shard};
use crate::version;

/// Pairs that one slice of a hash visits at most.
const HASH_SLICE_UNITS: usize = 2048;
/// How long one takes on the shard of the log.
const HASH_SLICE_TIME: Duration = Duration::from_micros(100);

/// All actions go through the log, reading too: that is how etcd orders them.
pub(crate) fn alarm(log: &LogShard, request: AlarmRequest, reply: NodeReply) {
    log.propose_for(
        InternalRaftRequest {
            alarm: Some(request),
            ..Default::default()
        },
        reply,
    );
}

/// This member's own view of itself; no agreement is asked for.
pub(crate) fn status(shard: &LogShard, _request: StatusRequest, reply: NodeReply) {
    let response = shard.with_node(|node| {
        let leader = node.leadership().leader_id;
        let mut errors = Vec::new();
        if leader == 0 {
            errors.push(FrontError::NoLeader.status().message.into_owned());
        }
        errors.extend(
            node.view()
                .alarms(AlarmType::None as i32)
                .iter()
                .map(|alarm| alarm_text(alarm.member_id, alarm.alarm)),
        );
        StatusResponse {
            header: Some(shard.header(node.view().revision())),
            version: version::ETCD.to_owned(),
            db_size: node.view().db_size() as i64,
            db_size_in_use: node.view().db_size_in_use() as i64,
            leader,
            raft_index: node.commit_index(),
            raft_term: node.term(),
            raft_applied_index: node.applied_index(),
            errors,
            is_learner: super::cluster::is_learner(node),
            storage_version: node
                .membership()
                .cluster_version()
                .unwrap_or_default()
                .to_owned(),
            db_size_quota: quota_bytes(shard),
            downgrade_info: Some(downgrade_info(node)),
        }
    });
    reply.finish(Ok(respond::message(&response)));
}

fn downgrade_info(node: &Node) -> DowngradeInfo {
    let target = node.membership().downgrade_target();
    DowngradeInfo {
        enabled: target.is_some(),
        target_version: target.unwrap_or_default().to_owned(),
    }
}

/// An alarm as etcd prints it among the errors of a status.
fn alarm_text(member_id: u64, alarm: i32) -> String {
    let name = AlarmType::try_from(alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name());
    format!("memberID:{member_id} alarm:{name}")
}

/// The limit in force as etcd tells it: 0 when there is none.
fn quota_bytes(shard: &LogShard) -> i64 {
    shard
        .config
        .quota_backend_bytes
        .map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// The hash over all revisions up to the asked one, in slices: it visits every stored revision.
pub(crate) fn hash_kv(shard: &Rc<LogShard>, request: HashKvRequest, reply: NodeReply) {
    let shard = Rc::clone(shard);
    driver::spawn(async move {
        let started = driver::now();
        let result = run_hash(&shard, request.revision).await;
        shard
            .metrics
            .hash_kv
            .observe(driver::now().saturating_sub(started));
        reply.finish(result.map_err(refused).map(|hash| {
            respond::message(&HashKvResponse {
                header: Some(shard.header(hash.revision)),
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.hash_revision,
            })
        }));
    })
    .detach();
}

/// The hash over all buckets of the store, with everything in it that was applied before.
pub(crate) fn hash(shard: &Rc<Shard>, _request: HashRequest, reply: ReplyTo) {
    let shard = Rc::clone(shard);
    driver::spawn(async move { reply.finish(hash_image(&shard).await) }).detach();
}

async fn hash_image(shard: &Shard) -> Result<Bytes, Status> {
    let started = driver::now();
    let image = shard.image().await.map_err(FrontError::status)?;
    let mut run = ImageHash::new(image);
    loop {
        let mut slice = shard.slice(HASH_SLICE_UNITS).await;
        let step = run.step(&mut slice.budget);
        if let Some(hash) = step.map_err(refused)? {
            let took = driver::now().saturating_sub(started);
            shard.metrics.hash.observe(took);
            let header = shard.with_view(|view| shard.header_at(view, view.revision()));
            return Ok(respond::message(&HashResponse {
                header: Some(header),
                hash,
            }));
        }
    }
}

/// Answered when the file is as small as it gets; everything else goes on meanwhile.
pub(crate) fn defragment(log: &Rc<LogShard>, _request: DefragmentRequest, reply: NodeReply) {
    log.defragment(reply);
}

/// With one voter there is nobody to move to but the leader itself, which is there at once.
pub(crate) fn move_leader(log: &LogShard, request: MoveLeaderRequest, reply: NodeReply) {
    let result = log.with_node(|node| {
        let is_voter = |id| node.membership().member(id).is_some_and(|m| !m.is_learner);
        if !node.leadership().is_leader {
            Err(FrontError::NotLeader)
        } else if !is_voter(request.target_id) {
            Err(FrontError::BadLeaderTransferee)
        } else if request.target_id == node.leadership().leader_id {
            Ok(respond::message(&MoveLeaderResponse::default()))
        } else {
            // Only a member that reaches others can hand the lead on.
            Err(FrontError::Timeout)
        }
    });
    reply.finish(result.map_err(FrontError::status));
}

async fn run_hash(shard: &LogShard, revision: i64) -> Result<HashKv, RequestError> {
    if let Some(hash) = shard.with_node(|node| node.view().remembered_hash(revision)) {
        return Ok(hash);
    }
    let mut run = shard.with_node(|node| HashRun::new(revision, node.view().reader()))?;
    loop {
        let mut budget = Budget::new(HASH_SLICE_UNITS).within(driver::now, HASH_SLICE_TIME);
        let step = shard.with_node(|node| run.step(node.view().reader(), &mut budget))?;
        match step {
            Some(hash) => return Ok(hash),
            None => driver::yield_now().await,
        }
    }
}
