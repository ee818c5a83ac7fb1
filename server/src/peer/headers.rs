//! The fields by which members know each other, and what they must agree on.

use net::http::{Headers, HttpRequest, Method};

use crate::identity::Identity;
use crate::version;

pub(super) const CLUSTER_ID: &str = "X-Etcd-Cluster-ID";
pub(super) const SERVER_VERSION: &str = "X-Server-Version";
const SERVER_FROM: &str = "X-Server-From";
const MIN_CLUSTER_VERSION: &str = "X-Min-Cluster-Version";
const PEER_URLS: &str = "X-PeerURLs";
const RAFT_TO: &str = "X-Raft-To";

/// What a member without a version is taken for.
const OLDEST_VERSION: (u64, u64) = (2, 0);

/// Why two members cannot talk. The texts are etcd's, which know each other by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("incompatible version")]
    Version,
    #[error("cluster ID mismatch")]
    Cluster,
}

/// A request of this member's to another one.
pub(super) fn request(
    method: Method,
    path: &str,
    identity: Identity,
    own_urls: &str,
    to: Option<u64>,
) -> HttpRequest {
    let mut request = HttpRequest::new(method, path);
    let fields = &mut request.headers;
    fields.push(SERVER_FROM, format!("{:x}", identity.member_id));
    fields.push(SERVER_VERSION, version::ETCD);
    fields.push(MIN_CLUSTER_VERSION, version::MIN_CLUSTER);
    fields.push(CLUSTER_ID, format!("{:x}", identity.cluster_id));
    fields.push(PEER_URLS, own_urls);
    if let Some(id) = to {
        fields.push(RAFT_TO, format!("{id:x}"));
    }
    request
}

/// Whether the sender of a request may be talked with.
///
/// # Errors
/// A [`Mismatch`]; versions count before clusters.
pub(super) fn check(headers: &Headers, identity: Identity) -> Result<(), Mismatch> {
    let told = |name| match headers.get_str(name) {
        Some(text) => parse_version(text),
        None => Some(OLDEST_VERSION),
    };
    let ours = parse_version(version::ETCD);
    let min_cluster = parse_version(version::MIN_CLUSTER);
    let (theirs, their_min_cluster) = (told(SERVER_VERSION), told(MIN_CLUSTER_VERSION));
    if theirs.is_none()
        || their_min_cluster.is_none()
        || theirs < min_cluster
        || ours < their_min_cluster
    {
        return Err(Mismatch::Version);
    }
    match headers.get_str(CLUSTER_ID) == Some(&format!("{:x}", identity.cluster_id)) {
        true => Ok(()),
        false => Err(Mismatch::Cluster),
    }
}

/// Major and minor: the rest does not count.
pub(super) fn parse_version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((major, minor))
}

/// An id as members write it.
pub(super) fn parse_id(text: &str) -> Option<u64> {
    let is_hex = text.bytes().all(|octet| octet.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

/// Whom the request says it is for.
pub(super) fn is_to(headers: &Headers, identity: Identity) -> bool {
    headers.get_str(RAFT_TO) == Some(&format!("{:x}", identity.member_id))
}

/// Where the sender says it is.
pub(super) fn peer_urls(headers: &Headers) -> Option<Vec<String>> {
    let urls = headers.get_str(PEER_URLS).filter(|urls| !urls.is_empty())?;
    Some(urls.split(',').map(str::to_owned).collect())
}

/// Who the sender says it is.
pub(super) fn sender(headers: &Headers) -> Option<u64> {
    parse_id(headers.get_str(SERVER_FROM)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        member_id: 0xa1,
        cluster_id: 0xc1,
    };

    fn fields(version: &str, min_cluster: &str, cluster: &str) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in [
            (SERVER_VERSION, version),
            (MIN_CLUSTER_VERSION, min_cluster),
            (CLUSTER_ID, cluster),
        ] {
            if !value.is_empty() {
                headers.push(name, value);
            }
        }
        headers
    }

    #[test]
    fn our_own_requests_are_ours() {
        let request = request(
            Method::Get,
            "/x",
            IDENTITY,
            "http://a:1,http://b:2",
            Some(0xa1),
        );
        let headers = &request.headers;
        assert_eq!(check(headers, IDENTITY), Ok(()));
        assert!(is_to(headers, IDENTITY));
        assert_eq!(sender(headers), Some(0xa1));
        let urls = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
        assert_eq!(peer_urls(headers), Some(urls));
    }

    #[test]
    fn versions_count_before_clusters() {
        let cases = [
            (fields("3.7.9", "3.7.0", "c1"), Ok(())),
            (fields("3.0.0", "3.0.0", "c1"), Ok(())),
            (fields("4.0.0-rc.1", "", "c1"), Ok(())),
            (fields("2.3.8", "2.1.0", "c1"), Err(Mismatch::Version)),
            (fields("3.8.0", "3.8.0", "c1"), Err(Mismatch::Version)),
            (fields("", "", "c1"), Err(Mismatch::Version)),
            (fields("x", "3.0.0", "c2"), Err(Mismatch::Version)),
            (fields("3.7.1", "3.0.0", "c2"), Err(Mismatch::Cluster)),
            (fields("3.7.1", "3.0.0", ""), Err(Mismatch::Cluster)),
        ];
        for (headers, expected) in cases {
            assert_eq!(check(&headers, IDENTITY), expected, "{headers:?}");
        }
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(parse_id("8e9e05c52164694d"), Some(0x8e9e_05c5_2164_694d));
        for text in ["", "+1", "-1", "0x1", "g", "10000000000000000"] {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
