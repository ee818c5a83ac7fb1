//! The cluster's version while it is downgraded, and after that was called off.
//!
//! A leader without company decides by itself; with others the lowest of their versions would count, which takes
//! peers to ask. Looked at on each tick, so the version follows at once; etcd takes up to four seconds.

use std::rc::Rc;

use engine::node::Node;
use engine::state::ClusterVersion;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::{ClusterVersionSetRequest, DowngradeInfoSetRequest};

use super::{LogShard, Waiter};
use crate::version;

/// What is to be proposed next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    SetVersion(ClusterVersion),
    /// The members have the version that they were to be downgraded to.
    EndDowngrade,
}

impl LogShard {
    /// A downgrade was called off by this member: the version may rise to its own again.
    ///
    /// It does not rise by itself at a start, so a directory of a lower version stays one until its owner says otherwise.
    pub(crate) fn raise_version(&self) {
        self.raises_version.set(true);
    }

    /// Proposes what is next, unless that is under way.
    pub(super) fn follow_downgrade(self: &Rc<Self>) {
        if self.is_version_asked.get() {
            return;
        }
        let step = self.with_node(|node| step_of(node, self.raises_version.get()));
        let Some(step) = step else { return };
        let (sender, outcome) = driver::oneshot();
        if self.propose(step.request(), Waiter::Task(sender)).is_err() {
            return;
        }
        crate::logging::info!("versions: following a downgrade", "step" => format!("{step:?}"));
        self.is_version_asked.set(true);
        let shard = Rc::clone(self);
        driver::spawn(async move {
            // If nothing became of it the next tick asks again.
            let _ = outcome.await;
            shard.is_version_asked.set(false);
        })
        .detach();
    }
}

fn step_of(node: &Node, raises: bool) -> Option<Step> {
    let membership = node.membership();
    let target = membership.downgrade_target();
    if (target.is_none() && !raises) || !node.leadership().is_leader {
        return None;
    }
    if membership.members().nth(1).is_some() {
        return None;
    }
    let own = ClusterVersion::parse(version::CLUSTER)?;
    let cluster = ClusterVersion::parse(membership.cluster_version()?)?;
    match target {
        Some(target) => toward(ClusterVersion::parse(target)?, own, cluster),
        None => (cluster.major == own.major && cluster < own).then_some(Step::SetVersion(own)),
    }
}

/// A target is one version below the cluster's and this member's, or else reached.
fn toward(target: ClusterVersion, own: ClusterVersion, cluster: ClusterVersion) -> Option<Step> {
    if target == own {
        return Some(Step::EndDowngrade);
    }
    let is_next = cluster.before() == Some(target) && own.before() == Some(target);
    is_next.then_some(Step::SetVersion(target))
}

impl Step {
    fn request(&self) -> InternalRaftRequest {
        match self {
            Step::SetVersion(version) => InternalRaftRequest {
                cluster_version_set: Some(Box::new(ClusterVersionSetRequest {
                    ver: version.to_string(),
                })),
                ..InternalRaftRequest::default()
            },
            Step::EndDowngrade => InternalRaftRequest {
                downgrade_info_set: Some(Box::new(DowngradeInfoSetRequest {
                    enabled: false,
                    ver: String::new(),
                })),
                ..InternalRaftRequest::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_version_below_is_gone_to() {
        let version = |minor| ClusterVersion { major: 3, minor };
        let toward = |target, cluster| toward(version(target), version(7), version(cluster));
        assert_eq!(toward(6, 7), Some(Step::SetVersion(version(6))));
        assert_eq!(toward(6, 6), None);
        assert_eq!(toward(5, 6), None);
        assert_eq!(toward(5, 7), None);
        assert_eq!(toward(7, 7), Some(Step::EndDowngrade));
    }
}
