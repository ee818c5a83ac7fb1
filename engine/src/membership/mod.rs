//! Who is in the cluster: members, their URLs, who was removed, and the cluster version.
//!
//! The membership is part of the replicated state: it changes only when a configuration change or one of the
//! cluster requests is applied, so it is the same on every member at the same log index. The raft configuration
//! (voters and learners) is derived from it, never kept beside it.
//!
//! Invariants:
//! - an id that was removed never comes back;
//! - no two members share a peer URL;
//! - `members` is ordered by id, which is the order in which etcd lists them.
//!
//! Owned by [`crate::node::Node`]; read through its getters. Tested at the foot of each file and, against a real
//! etcd's log, in `tests/compat`.

mod change;
mod ids;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use change::{ChangeError, ConfChange, ConfChangeKind};
pub use ids::{ClusterId, MemberId, cluster_id, member_id, member_id_at};

/// One member as the log, the `members` bucket and `/members` of the peer URL write it (JSON).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Identity; see [`member_id`].
    pub id: u64,
    /// URLs that peers dial. `null` is accepted: a promotion's context carries it.
    #[serde(rename = "peerURLs", deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// True while it only receives the log and has no vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Empty until the member has started and published itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// URLs that clients dial; empty until published.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(d)?.unwrap_or_default())
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The members of one cluster at one log index.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// Text `X.Y.0`, once the leader has set it.
    cluster_version: Option<String>,
    /// `X.Y.0` while the cluster prepares for members of that version.
    downgrade_target: Option<String>,
    max_learners: usize,
}

impl Membership {
    /// An empty membership that will admit at most `max_learners` learners at once.
    pub fn new(max_learners: usize) -> Self {
        Membership {
            max_learners,
            ..Membership::default()
        }
    }

    /// Members by ascending id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this id, if it is in the cluster now.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// True if the id once belonged to a member that was removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// Ids of members that were removed, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// The cluster version as stored: `X.Y.0`; `None` until the leader has set it.
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// The version `X.Y.0` that members are to be downgraded to; `None`: no downgrade is under way.
    pub fn downgrade_target(&self) -> Option<&str> {
        self.downgrade_target.as_deref()
    }

    /// Voter and learner ids, ascending: raft's configuration at this log index.
    pub fn conf_state(&self) -> (Vec<u64>, Vec<u64>) {
        let (learners, voters): (Vec<&Member>, Vec<&Member>) =
            self.members.values().partition(|m| m.is_learner);
        let ids = |list: Vec<&Member>| list.into_iter().map(|m| m.id).collect();
        (ids(voters), ids(learners))
    }

    /// Records what a started member published about itself. Unknown ids are ignored, as etcd ignores them.
    pub fn set_attributes(&mut self, id: u64, name: String, client_urls: Vec<String>) {
        if let Some(member) = self.members.get_mut(&id) {
            member.name = name;
            member.client_urls = client_urls;
        }
    }

    /// Records the cluster version that the leader decided (`X.Y.0`).
    pub fn set_cluster_version(&mut self, version: String) {
        self.cluster_version = Some(version);
    }
}
