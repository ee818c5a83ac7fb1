//! Cluster: who is a member.

use bytes::Bytes;
use engine::node::Node;
use net::grpc::Status;
use proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::respond;
use crate::shard::{LogShard, Read, ReplyTo};

/// The members by ascending id. The header carries no revision, as etcd's does not.
pub(crate) fn member_list(shard: &LogShard, request: MemberListRequest, reply: ReplyTo) {
    let is_local = !request.linearizable;
    shard.read(
        is_local,
        Read {
            reply,
            run: Box::new(list),
        },
    );
}

fn list(shard: &LogShard) -> Result<Bytes, Status> {
    let members = shard.with_node(|node| {
        let members = node.membership().members();
        members.map(to_message).collect::<Vec<Member>>()
    });
    Ok(respond::message(&MemberListResponse {
        header: Some(shard.header(0)),
        members,
    }))
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
