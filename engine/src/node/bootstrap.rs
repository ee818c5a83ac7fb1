//! The first entries of a new cluster's log.
//!
//! Every member writes the same ones: an AddNode per initial member, ascending by id, in term 1, all committed.

use prost::Message;
use proto::raftpb;

use crate::membership::Member;

/// Term of the entries that no leader proposed.
const BOOTSTRAP_TERM: u64 = 1;

/// The entries of a new cluster and the hard state that declares them committed.
///
/// # Errors
/// If a member cannot be written as JSON, which no member can cause.
pub fn bootstrap_log(
    members: &[Member],
) -> Result<(Vec<raftpb::Entry>, raftpb::HardState), serde_json::Error> {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by_key(|m| m.id);
    let entries: Vec<raftpb::Entry> = sorted
        .into_iter()
        .zip(1..)
        .map(|(member, index)| {
            Ok(add_node_entry(
                serde_json::to_vec(member)?,
                member.id,
                index,
            ))
        })
        .collect::<Result<_, serde_json::Error>>()?;
    let hard_state = raftpb::HardState {
        term: Some(BOOTSTRAP_TERM),
        vote: Some(0),
        commit: Some(entries.len() as u64),
    };
    Ok((entries, hard_state))
}

fn add_node_entry(context: Vec<u8>, node_id: u64, index: u64) -> raftpb::Entry {
    let change = raftpb::ConfChange {
        r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(node_id),
        context: Some(context.into()),
        ..raftpb::ConfChange::default()
    };
    raftpb::Entry {
        r#type: Some(raftpb::EntryType::EntryConfChange as i32),
        term: Some(BOOTSTRAP_TERM),
        index: Some(index),
        data: Some(change.encode_to_vec().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_by_id_and_are_all_committed() {
        let member = |id: u64| Member {
            id,
            peer_urls: vec![format!("http://h{id}:2380")],
            name: format!("m{id}"),
            ..Member::default()
        };
        let (entries, hard_state) = bootstrap_log(&[member(9), member(3)]).expect("JSON");
        assert_eq!(hard_state.commit, Some(2));
        let change =
            raftpb::ConfChange::decode(entries[0].data.clone().expect("data")).expect("pb");
        assert_eq!(change.node_id, Some(3));
        assert_eq!(change.id, None);
        let context = String::from_utf8(change.context.expect("json").to_vec()).expect("utf-8");
        assert_eq!(
            context,
            r#"{"id":3,"peerURLs":["http://h3:2380"],"name":"m3"}"#
        );
    }
}
