//! How etcd derives member and cluster ids.
//!
//! A member id is the first 8 bytes, big-endian, of the SHA-1 of its sorted peer URLs and the cluster token; the
//! cluster id is the same over all bootstrap member ids. Source: contract `semantics.md` section 8.

use sha1::{Digest, Sha1};

/// Identity of a member, written as lower-case hex without leading zeros.
pub type MemberId = u64;
/// Identity of a cluster; fixed at bootstrap.
pub type ClusterId = u64;

/// The id of a member that is part of the initial cluster.
pub fn member_id(peer_urls: &[String], cluster_token: &str) -> MemberId {
    hash_member(peer_urls, cluster_token.as_bytes())
}

/// The id of a member added to a running cluster at `unix_seconds`; the token takes no part.
pub fn member_id_at(peer_urls: &[String], unix_seconds: i64) -> MemberId {
    hash_member(peer_urls, unix_seconds.to_string().as_bytes())
}

fn hash_member(peer_urls: &[String], suffix: &[u8]) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(suffix);
    first_eight(&hash.finalize())
}

/// The id of a cluster made of these bootstrap members, in any order.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<MemberId> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |id, &byte| (id << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stock `etcd` without flags names itself 8e9e05c52164694d in cluster cdf818194e3a8c32.
    #[test]
    fn ids_of_a_default_node() {
        let id = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(format!("{id:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id([id])), "cdf818194e3a8c32");
    }

    #[test]
    fn url_order_does_not_matter_and_time_does() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let swapped = ["http://a:1".to_owned(), "http://b:1".to_owned()];
        assert_eq!(member_id(&urls, "t"), member_id(&swapped, "t"));
        assert_ne!(member_id_at(&urls, 1), member_id_at(&urls, 2));
    }
}
