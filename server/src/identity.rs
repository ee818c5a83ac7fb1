//! Who this member is: from the flags of its first start, later from the log's own head.

use bytes::Bytes;
use engine::membership::{Member, cluster_id, member_id};
use prost::Message;
use proto::etcdserverpb::Metadata;

use crate::config::{Bootstrap, Url};

/// Ids of this member and its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub member_id: u64,
    pub cluster_id: u64,
}

/// The head of the log does not say whose log it is. It was damaged, or is no log of an etcd.
#[derive(Debug, thiserror::Error)]
#[error("the write-ahead log does not name its member and cluster: {0}")]
pub struct BadMetadata(String);

impl Identity {
    /// Of the member called `name` in a cluster of `members`.
    pub(crate) fn of_bootstrap(name: &str, members: &[Member]) -> Self {
        let own = members.iter().find(|member| member.name == name);
        Identity {
            member_id: own.map_or(0, |member| member.id),
            cluster_id: cluster_id(members.iter().map(|member| member.id)),
        }
    }

    /// As the log's first record tells.
    ///
    /// # Errors
    /// [`BadMetadata`] if that record is something else.
    pub(crate) fn of_log(metadata: &Bytes) -> Result<Self, BadMetadata> {
        let metadata =
            Metadata::decode(metadata.clone()).map_err(|error| BadMetadata(error.to_string()))?;
        match (metadata.node_id, metadata.cluster_id) {
            (Some(member_id), Some(cluster_id)) if member_id != 0 => Ok(Identity {
                member_id,
                cluster_id,
            }),
            _ => Err(BadMetadata("an id is missing".to_owned())),
        }
    }

    /// The log's first record.
    pub(crate) fn metadata(self) -> Bytes {
        Metadata::explicit(self.member_id, self.cluster_id)
            .encode_to_vec()
            .into()
    }
}

/// The members that a new cluster's log begins with.
pub(crate) fn initial_members(bootstrap: &Bootstrap) -> Vec<Member> {
    let members = bootstrap.members.iter().map(|member| {
        let peer_urls: Vec<String> = member.peer_urls.iter().map(Url::to_string).collect();
        Member {
            id: member_id(&peer_urls, &bootstrap.token),
            peer_urls,
            name: member.name.clone(),
            ..Member::default()
        }
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_log() {
        let identity = Identity {
            member_id: u64::MAX,
            cluster_id: 7,
        };
        assert_eq!(
            Identity::of_log(&identity.metadata()).expect("own bytes"),
            identity
        );
    }

    #[test]
    fn a_log_without_ids_is_refused() {
        assert!(Identity::of_log(&Bytes::new()).is_err());
        assert!(Identity::of_log(&Bytes::from_static(b"\xff")).is_err());
    }
}
