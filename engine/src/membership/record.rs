//! What the backend keeps of the membership: buckets `members` and `members_removed`, in etcd's form.

use bytes::Bytes;

use super::{ConfChange, Member, Membership};
use crate::backend::Damage;
use crate::state::{ApplyEffect, State};
use crate::tail::Bucket;

/// The value of a removed member's id.
const REMOVED: &[u8] = b"removed";

impl Membership {
    /// The membership as buckets `members` and `members_removed` have it.
    ///
    /// # Errors
    /// [`Damage`] if one of them holds what no etcd writes.
    pub(crate) fn restored(
        members: &[(Bytes, Bytes)],
        removed: &[Bytes],
        cluster_version: Option<String>,
        downgrade_target: Option<String>,
        max_learners: usize,
    ) -> Result<Self, Damage> {
        let mut membership = Membership::new(max_learners);
        membership.cluster_version = cluster_version;
        membership.downgrade_target = downgrade_target;
        for (key, value) in members {
            let bucket = Bucket::Members;
            let id = id_of(key).ok_or_else(|| Damage::bad_key(bucket, key))?;
            let member = serde_json::from_slice::<Member>(value).ok();
            let member = member.filter(|member| member.id == id);
            let what = "a member";
            let member = member.ok_or(Damage::BadValue { bucket, what })?;
            membership.members.insert(id, member);
        }
        for key in removed {
            let id = id_of(key).ok_or_else(|| Damage::bad_key(Bucket::MembersRemoved, key))?;
            membership.removed.insert(id);
        }
        Ok(membership)
    }

    /// Takes what an applied entry means for the members.
    pub(crate) fn on_effect(&mut self, effect: &ApplyEffect, state: &mut State) {
        match effect {
            ApplyEffect::ClusterVersionSet { version } => self.set_cluster_version(version.clone()),
            ApplyEffect::DowngradeInfoSet { enabled, target } => {
                self.downgrade_target = enabled.then(|| target.clone());
            }
            ApplyEffect::MemberAttributesSet {
                member_id,
                attributes,
            } => {
                let (name, urls) = (attributes.name.clone(), attributes.client_urls.clone());
                self.set_attributes(*member_id, name, urls);
                self.record_member(*member_id, state);
            }
            _ => {}
        }
    }

    /// Records an applied change of the configuration; a refused one leaves no trace.
    pub(crate) fn record(&self, change: &ConfChange, is_applied: bool, state: &mut State) {
        if !is_applied {
            return;
        }
        self.record_member(change.node_id, state);
        if self.is_removed(change.node_id) {
            let removed = Some(Bytes::from_static(REMOVED));
            state.record(Bucket::MembersRemoved, bucket_key(change.node_id), removed);
        }
    }

    fn record_member(&self, id: u64, state: &mut State) {
        // A member is strings and numbers, which JSON can always hold.
        let value = self
            .member(id)
            .and_then(|member| serde_json::to_vec(member).ok());
        state.record(Bucket::Members, bucket_key(id), value.map(Bytes::from));
    }
}

fn id_of(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()
}

fn bucket_key(id: u64) -> Bytes {
    format!("{id:x}").into()
}
