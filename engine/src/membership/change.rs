//! Applying a configuration change to the membership.
//!
//! A change is validated here, at apply, in etcd's order; a refused one must still be told to raft, as a change of
//! node 0, so that its slot for pending changes is freed (the caller does that).

use proto::raftpb;
use serde::Deserialize;

use super::{Member, Membership};

/// A configuration change as it stands in the log, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// Request id of a change made at run time; 0 in the entries of the bootstrap.
    pub id: u64,
    pub kind: ConfChangeKind,
    pub node_id: u64,
}

/// What a configuration change does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfChangeKind {
    Add(Member),
    AddLearner(Member),
    /// A learner becomes a voter. On the wire an AddNode whose context says `isPromote`.
    Promote,
    Remove,
    /// New peer URLs for a member.
    Update(Member),
}

/// Why a configuration change was refused; the same on every member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    #[error("membership: ID removed")]
    IdRemoved,
    #[error("membership: ID exists")]
    IdExists,
    #[error("membership: ID not found")]
    IdNotFound,
    #[error("membership: peer URL exists")]
    PeerUrlExists,
    #[error("membership: can only promote a learner member")]
    MemberNotLearner,
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// The log holds bytes that no etcd writes: not this request's fault, and nothing to retry.
    #[error("membership: configuration change cannot be read: {0}")]
    Malformed(String),
}

/// The JSON in a change's context: a member and, for a promotion, a mark.
#[derive(Deserialize)]
struct Context {
    #[serde(flatten)]
    member: Member,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

impl ConfChange {
    /// Parses the entry's `ConfChange` message and the JSON in its context.
    ///
    /// # Errors
    /// [`ChangeError::Malformed`] for an unknown type or a context that is not a member.
    pub fn parse(raw: &raftpb::ConfChange) -> Result<ConfChange, ChangeError> {
        use raftpb::ConfChangeType as Type;
        let node_id = raw.node_id.unwrap_or(0);
        let kind = match Type::try_from(raw.r#type.unwrap_or(0)) {
            Ok(Type::ConfChangeAddNode) => {
                let context = parse_context(raw, node_id)?;
                if context.is_promote {
                    ConfChangeKind::Promote
                } else {
                    ConfChangeKind::Add(context.member)
                }
            }
            Ok(Type::ConfChangeAddLearnerNode) => {
                ConfChangeKind::AddLearner(parse_context(raw, node_id)?.member)
            }
            Ok(Type::ConfChangeUpdateNode) => {
                ConfChangeKind::Update(parse_context(raw, node_id)?.member)
            }
            Ok(Type::ConfChangeRemoveNode) => ConfChangeKind::Remove,
            Err(unknown) => return Err(ChangeError::Malformed(unknown.to_string())),
        };
        Ok(ConfChange {
            id: raw.id.unwrap_or(0),
            kind,
            node_id,
        })
    }
}

fn parse_context(raw: &raftpb::ConfChange, node_id: u64) -> Result<Context, ChangeError> {
    let bytes = raw.context.as_deref().unwrap_or_default();
    let context: Context =
        serde_json::from_slice(bytes).map_err(|e| ChangeError::Malformed(e.to_string()))?;
    if context.member.id != node_id {
        let text = format!(
            "node {node_id:x} with the context of member {:x}",
            context.member.id
        );
        return Err(ChangeError::Malformed(text));
    }
    Ok(context)
}

impl Membership {
    /// Applies one configuration change, or refuses it without any effect.
    ///
    /// # Errors
    /// A [`ChangeError`], decided in etcd's order: removed id first, then the rules of the kind.
    pub fn apply(&mut self, change: &ConfChange) -> Result<(), ChangeError> {
        if self.is_removed(change.node_id) {
            return Err(ChangeError::IdRemoved);
        }
        match &change.kind {
            ConfChangeKind::Add(member) => self.add(member, false),
            ConfChangeKind::AddLearner(member) => self.add(member, true),
            ConfChangeKind::Promote => self.promote(change.node_id),
            ConfChangeKind::Remove => self.remove(change.node_id),
            ConfChangeKind::Update(member) => self.update(member),
        }
    }

    fn add(&mut self, member: &Member, is_learner: bool) -> Result<(), ChangeError> {
        if self.members.contains_key(&member.id) {
            return Err(ChangeError::IdExists);
        }
        self.check_urls_free(member)?;
        if is_learner && self.members.values().filter(|m| m.is_learner).count() >= self.max_learners
        {
            return Err(ChangeError::TooManyLearners);
        }
        let added = Member {
            is_learner,
            ..member.clone()
        };
        self.members.insert(member.id, added);
        Ok(())
    }

    fn promote(&mut self, id: u64) -> Result<(), ChangeError> {
        let member = self.members.get_mut(&id).ok_or(ChangeError::IdNotFound)?;
        if !member.is_learner {
            return Err(ChangeError::MemberNotLearner);
        }
        member.is_learner = false;
        Ok(())
    }

    fn remove(&mut self, id: u64) -> Result<(), ChangeError> {
        self.members.remove(&id).ok_or(ChangeError::IdNotFound)?;
        self.removed.insert(id);
        Ok(())
    }

    fn update(&mut self, member: &Member) -> Result<(), ChangeError> {
        if !self.members.contains_key(&member.id) {
            return Err(ChangeError::IdNotFound);
        }
        self.check_urls_free(member)?;
        if let Some(known) = self.members.get_mut(&member.id) {
            known.peer_urls.clone_from(&member.peer_urls);
        }
        Ok(())
    }

    fn check_urls_free(&self, member: &Member) -> Result<(), ChangeError> {
        let mut others = self.members.values().filter(|m| m.id != member.id);
        if others.any(|m| m.peer_urls.iter().any(|url| member.peer_urls.contains(url))) {
            return Err(ChangeError::PeerUrlExists);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str) -> Member {
        Member {
            id,
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    fn change(node_id: u64, kind: ConfChangeKind) -> ConfChange {
        ConfChange {
            id: 0,
            kind,
            node_id,
        }
    }

    fn add(m: &Member) -> ConfChange {
        change(m.id, ConfChangeKind::Add(m.clone()))
    }

    #[test]
    fn parses_what_etcd_writes_at_bootstrap() {
        let raw = raftpb::ConfChange {
            r#type: Some(0),
            node_id: Some(7),
            context: Some(r#"{"id":7,"peerURLs":["http://a:1"],"name":"m3"}"#.into()),
            ..raftpb::ConfChange::default()
        };
        let parsed = ConfChange::parse(&raw).expect("parses");
        let ConfChangeKind::Add(m) = parsed.kind else {
            panic!("not an add")
        };
        assert_eq!((m.id, m.name.as_str()), (7, "m3"));
    }

    #[test]
    fn a_promotion_has_null_urls() {
        let raw = raftpb::ConfChange {
            r#type: Some(0),
            node_id: Some(7),
            context: Some(r#"{"id":7,"peerURLs":null,"isPromote":true}"#.into()),
            ..raftpb::ConfChange::default()
        };
        assert_eq!(
            ConfChange::parse(&raw).expect("parses").kind,
            ConfChangeKind::Promote
        );
    }

    #[test]
    fn a_foreign_context_or_type_is_malformed() {
        let raw = raftpb::ConfChange {
            r#type: Some(0),
            node_id: Some(8),
            context: Some(r#"{"id":7,"peerURLs":[]}"#.into()),
            ..raftpb::ConfChange::default()
        };
        assert!(matches!(
            ConfChange::parse(&raw),
            Err(ChangeError::Malformed(_))
        ));
        let raw = raftpb::ConfChange {
            r#type: Some(99),
            ..raftpb::ConfChange::default()
        };
        assert!(matches!(
            ConfChange::parse(&raw),
            Err(ChangeError::Malformed(_))
        ));
    }

    #[test]
    fn refusals_have_no_effect() {
        let mut cluster = Membership::new(1);
        cluster
            .apply(&add(&member(1, "http://a:1")))
            .expect("first");
        assert_eq!(
            cluster.apply(&add(&member(1, "http://b:1"))),
            Err(ChangeError::IdExists)
        );
        assert_eq!(
            cluster.apply(&add(&member(2, "http://a:1"))),
            Err(ChangeError::PeerUrlExists)
        );
        assert_eq!(
            cluster.apply(&change(1, ConfChangeKind::Promote)),
            Err(ChangeError::MemberNotLearner)
        );
        assert_eq!(
            cluster.apply(&change(9, ConfChangeKind::Remove)),
            Err(ChangeError::IdNotFound)
        );
        assert_eq!(cluster.conf_state(), (vec![1], vec![]));
    }

    #[test]
    fn learners_are_counted_and_promoted() {
        let mut cluster = Membership::new(1);
        let learner = |m: Member| change(m.id, ConfChangeKind::AddLearner(m));
        cluster
            .apply(&learner(member(1, "http://a:1")))
            .expect("learner");
        assert_eq!(
            cluster.apply(&learner(member(2, "http://b:1"))),
            Err(ChangeError::TooManyLearners)
        );
        cluster
            .apply(&change(1, ConfChangeKind::Promote))
            .expect("promote");
        assert_eq!(cluster.conf_state(), (vec![1], vec![]));
    }

    #[test]
    fn a_removed_id_never_comes_back() {
        let mut cluster = Membership::new(1);
        cluster
            .apply(&add(&member(1, "http://a:1")))
            .expect("first");
        cluster
            .apply(&change(1, ConfChangeKind::Remove))
            .expect("remove");
        assert_eq!(
            cluster.apply(&add(&member(1, "http://a:1"))),
            Err(ChangeError::IdRemoved)
        );
    }
}
