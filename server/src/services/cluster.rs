//! Cluster: who is a member.

use std::rc::Rc;

use bytes::Bytes;
use engine::node::Node;
use proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::respond;
use crate::errors::FrontError;
use crate::shard::{LogShard, NodeReply};

/// The members by ascending id. The header carries no revision, as etcd's does not.
pub(crate) fn member_list(log: &Rc<LogShard>, request: MemberListRequest, reply: NodeReply) {
    let asked = Rc::clone(log);
    log.when_fresh(!request.linearizable, move |fresh| {
        reply.finish(fresh.map(|()| list(&asked)).map_err(FrontError::status));
    });
}

fn list(log: &LogShard) -> Bytes {
    let members = log.with_node(|node| {
        let members = node.membership().members();
        members.map(to_message).collect::<Vec<Member>>()
    });
    respond::message(&MemberListResponse {
        header: Some(log.header(0)),
        members,
    })
}

/// True if this member has no vote yet.
pub(crate) fn is_learner(node: &Node) -> bool {
    node.membership()
        .member(node.options().member_id)
        .is_some_and(|member| member.is_learner)
}

fn to_message(member: &engine::membership::Member) -> Member {
    Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
