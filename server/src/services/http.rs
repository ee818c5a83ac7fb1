//! Plain HTTP requests on the listeners for clients and for metrics, and what they and those of peers tell of the node.
//!
//! The routes are pure functions in [`crate::http`]; here they get what they ask of the node. They are rare, so all of
//! them are answered on the log shard.

use std::rc::Rc;
use std::time::SystemTime;

use net::http::{HttpRequest, HttpResponse};
use proto::etcdserverpb::{AlarmType, RangeRequest};

use crate::config::{Allowed, Config};
use crate::http::{
    Access, Alarm, HealthPlan, MemberStatus, NodeStatus, ReadKind, Work, metrics_response,
    route_client, route_metrics,
};
use crate::logging::http_date;
use crate::metrics::{self, Metrics};
use crate::shard::{LogShard, NodeHttpReply, Role};

/// Answers a request, at once or after the reads that a health check needs.
pub(crate) fn answer(
    shard: &Rc<LogShard>,
    role: Role,
    request: &HttpRequest,
    reply: NodeHttpReply,
) {
    let date = http_date(SystemTime::now());
    let status = node_status(shard);
    let routed = match role {
        Role::Metrics => route_metrics(request, &status),
        _ => route_client(request, access(&shard.config, role), &status),
    };
    let decoration = routed.decoration;
    match routed.work {
        Work::Respond(response) => reply.finish(decoration.finish(response, &date)),
        Work::RenderMetrics => reply.finish(decoration.finish(render_metrics(shard), &date)),
        Work::Check(plan) => {
            let shard = Rc::clone(shard);
            driver::spawn(async move {
                let response = check(&shard, plan).await;
                reply.finish(decoration.finish(response, &date));
            })
            .detach();
        }
    }
}

/// Who may ask.
pub(crate) fn access(config: &Config, role: Role) -> Access<'_> {
    Access {
        // A name in a certificate is proof enough.
        hosts: match role {
            Role::SecureClient => &Allowed::Any,
            _ => &config.host_whitelist,
        },
        origins: &config.cors,
        has_gateway: config.grpc_gateway,
    }
}

async fn check(shard: &Rc<LogShard>, mut plan: HealthPlan) -> HttpResponse {
    while let Some(kind) = plan.poll_read() {
        let result = match kind {
            ReadKind::Linearizable => shard.wait_linearizable().await,
            ReadKind::Serializable => Ok(()),
        };
        plan.on_read(result.and_then(|()| read_one_key(shard)));
    }
    plan.respond(&shard.metrics)
}

/// The read that a health check makes: of one key, to see that the store answers.
fn read_one_key(shard: &LogShard) -> Result<(), String> {
    let request = RangeRequest {
        key: "health".into(),
        limit: 1,
        keys_only: true,
        ..RangeRequest::default()
    };
    shard
        .with_node(|node| node.view().range(&request))
        .map(drop)
        .map_err(|e| e.to_string())
}

fn render_metrics(shard: &LogShard) -> HttpResponse {
    shard.update_gauges();
    let all: Vec<&Metrics> = shard.all_metrics().iter().map(|m| &**m).collect();
    metrics_response(metrics::render(&all))
}

/// What routes tell about this node.
pub(crate) fn node_status(shard: &LogShard) -> NodeStatus {
    shard.with_node(|node| {
        let version = node.membership().cluster_version().map(str::to_owned);
        NodeStatus {
            cluster_id: node.options().cluster_id,
            storage_version: version.clone(),
            cluster_version: version,
            has_leader: node.leadership().leader_id != 0,
            is_learner: super::cluster::is_learner(node),
            is_downgrading: node.membership().downgrade_target().is_some(),
            alarms: node
                .view()
                .alarms(AlarmType::None as i32)
                .iter()
                .map(|alarm| match AlarmType::try_from(alarm.alarm) {
                    Ok(AlarmType::Nospace) => Alarm::NoSpace,
                    Ok(AlarmType::Corrupt) => Alarm::Corrupt,
                    _ => Alarm::Other,
                })
                .collect(),
            members: node.membership().members().map(member_status).collect(),
        }
    })
}

fn member_status(member: &engine::membership::Member) -> MemberStatus {
    MemberStatus {
        id: member.id,
        peer_urls: member.peer_urls.clone(),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_urls.clone(),
    }
}
