//! A member makes itself known to the cluster before it serves.

use std::rc::Rc;
use std::time::Duration;

use engine::node::Node;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use crate::config::{Config, Url};
use crate::shard::{LogShard, Waiter};
use crate::version;

/// Pause between two tries to publish this member when the former one was not applied.
const PUBLISH_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// True if the cluster knows this member; a sole voter also must be ready to answer reads at once.
pub(super) fn is_published(shard: &LogShard) -> bool {
    shard.with_node(|node| {
        let own = node.membership().member(node.options().member_id);
        let is_named = own.is_some_and(|m| {
            m.name == shard.config.name && m.client_urls == client_urls(&shard.config)
        });
        let can_read = node.is_view_linearizable() || !node.is_sole_voter();
        is_named && node.membership().cluster_version().is_some() && can_read
    })
}

fn client_urls(config: &Config) -> Vec<String> {
    config
        .advertise_client_urls
        .iter()
        .map(Url::to_string)
        .collect()
}

/// Tells the cluster this member's name and client URLs, and as its only voter the cluster's version: where there are
/// others, their leader finds out which version all of them serve.
pub(super) async fn publish(shard: &Rc<LogShard>) {
    let member_id = shard.with_node(|node| node.options().member_id);
    while !is_published(shard) {
        let attributes = Attributes {
            name: shard.config.name.clone(),
            client_urls: client_urls(&shard.config),
        };
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest {
                member_id,
                member_attributes: Some(attributes),
            })),
            ..InternalRaftRequest::default()
        };
        let is_done = propose_and_wait(shard, request).await && publish_version(shard).await;
        if !is_done {
            driver::sleep(PUBLISH_RETRY_INTERVAL).await;
        }
    }
}

async fn publish_version(shard: &Rc<LogShard>) -> bool {
    let is_others =
        |node: &Node| node.membership().cluster_version().is_some() || !node.is_sole_voter();
    if shard.with_node(is_others) {
        return true;
    }
    let request = InternalRaftRequest {
        cluster_version_set: Some(Box::new(ClusterVersionSetRequest {
            ver: version::CLUSTER.to_owned(),
        })),
        ..InternalRaftRequest::default()
    };
    propose_and_wait(shard, request).await
}

/// True if the request was applied.
async fn propose_and_wait(shard: &LogShard, request: InternalRaftRequest) -> bool {
    let (sender, outcome) = driver::oneshot();
    if shard.propose(request, Waiter::Task(sender)).is_err() {
        return false;
    }
    matches!(outcome.await, Ok(Ok(Ok(_))))
}
