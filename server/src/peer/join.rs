//! Joining a cluster that runs: asking its members who they are, and which of them this one is to be.
//!
//! Source: contract `semantics.md` section 8, `config.md` (start-up failures).

use std::time::Duration;

use engine::membership::Member;
use net::http::{HttpRequest, HttpResponse, Method};
use serde::Deserialize;

use super::exchange::{Exchange, ExchangeError};
use super::headers;
use crate::config::{Bootstrap, Config, Url, same_urls};
use crate::identity::Identity;
use crate::logging;
use crate::version;

/// Why a cluster cannot be joined. The texts are etcd's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    #[error("cannot fetch cluster info from peer urls: {0}")]
    NoMembers(&'static str),
    #[error("error validating peerURLs {cluster}: {reason}")]
    OtherMembers { cluster: String, reason: String },
    #[error("incompatible with current running cluster")]
    Incompatible,
}

/// What the cluster said.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Of this member.
    pub(crate) identity: Identity,
    /// All others.
    pub(crate) remotes: Vec<Member>,
}

/// Asks the other members of `bootstrap` for the cluster and finds this one among them.
///
/// # Errors
/// A [`JoinError`]: nothing was written.
pub(crate) async fn join(config: &Config, bootstrap: &Bootstrap) -> Result<Joined, JoinError> {
    let patience = config.request_timeout();
    let others = bootstrap.members.iter().filter(|m| m.name != config.name);
    let mut urls: Vec<&Url> = others.flat_map(|member| &member.peer_urls).collect();
    urls.sort_by_cached_key(|url| url.to_string());
    let cluster = fetch_cluster(&urls, patience).await?;
    let member_id = find_own(config, bootstrap, &cluster).map_err(|reason| {
        let cluster = describe(&cluster);
        JoinError::OtherMembers { cluster, reason }
    })?;
    let remotes: Vec<Member> = cluster
        .members
        .into_iter()
        .filter(|member| member.id != member_id)
        .collect();
    if !is_compatible(&remotes, patience).await {
        return Err(JoinError::Incompatible);
    }
    Ok(Joined {
        identity: Identity {
            member_id,
            cluster_id: cluster.id,
        },
        remotes,
    })
}

/// A cluster as one of its members tells it.
#[derive(Debug, PartialEq)]
struct Cluster {
    id: u64,
    members: Vec<Member>,
}

/// The first answer counts.
async fn fetch_cluster(urls: &[&Url], patience: Duration) -> Result<Cluster, JoinError> {
    for url in urls {
        match fetch(url, "/members", patience).await {
            Ok(response) => match read_cluster(&response) {
                Some(cluster) if cluster.members.is_empty() => {
                    return Err(JoinError::NoMembers(
                        "failed to get raft cluster member(s) from the given URLs",
                    ));
                }
                Some(cluster) => return Ok(cluster),
                None => {
                    logging::warn!("failed to read a cluster response", "address" => url.to_string());
                }
            },
            Err(error) => logging::warn!(
                "failed to get cluster response",
                "address" => url.to_string(),
                "error" => error.to_string()
            ),
        }
    }
    Err(JoinError::NoMembers(
        "could not retrieve cluster information from the given URLs",
    ))
}

fn read_cluster(response: &HttpResponse) -> Option<Cluster> {
    let id = headers::parse_id(response.headers.get_str(headers::CLUSTER_ID)?)?;
    let members = serde_json::from_slice(&response.body).ok()?;
    Some(Cluster { id, members })
}

async fn fetch(url: &Url, path: &str, patience: Duration) -> Result<HttpResponse, ExchangeError> {
    let mut exchange = Exchange::connect(url).await?;
    exchange
        .ask(HttpRequest::new(Method::Get, path), patience)
        .await
}

/// The members must be those of `--initial-cluster`, by their URLs; names do not count.
fn find_own(config: &Config, bootstrap: &Bootstrap, cluster: &Cluster) -> Result<u64, String> {
    if cluster.members.len() != bootstrap.members.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut own = None;
    let mut left: Vec<_> = bootstrap.members.iter().collect();
    for member in &cluster.members {
        let urls: Result<Vec<Url>, _> = member.peer_urls.iter().map(|u| Url::parse(u)).collect();
        let urls = urls.map_err(|error| error.to_string())?;
        let mut reason = String::new();
        let mut is_same = |ours: &[Url]| same_urls(ours, &urls).map_err(|why| reason = why).is_ok();
        let Some(position) = left.iter().position(|m| is_same(&m.peer_urls)) else {
            return Err(format!(
                "PeerURLs: no match found for existing member ({:x}, [{}]), last resolver error ({reason})",
                member.id,
                member.peer_urls.join(" ")
            ));
        };
        if left.swap_remove(position).name == config.name {
            own = Some(member.id);
        }
    }
    own.ok_or_else(|| "this member is not among them".to_owned())
}

/// In words, for whoever has to find out what is wrong.
fn describe(cluster: &Cluster) -> String {
    let members = cluster
        .members
        .iter()
        .map(|member| format!("{:x}={}", member.id, member.peer_urls.join(",")));
    let members: Vec<String> = members.collect();
    format!(
        "{{ClusterID:{:x} Members:[{}]}}",
        cluster.id,
        members.join(" ")
    )
}

/// What `/version` answers.
#[derive(Deserialize)]
struct Versions {
    etcdcluster: String,
}

/// At least one member must tell its cluster's version, and each that does one that we can serve.
async fn is_compatible(remotes: &[Member], patience: Duration) -> bool {
    let mut is_compatible = false;
    for remote in remotes {
        let Some(told) = fetch_cluster_version(remote, patience).await else {
            continue;
        };
        if !is_served(told) {
            logging::warn!(
                "cluster version of remote member is not compatible",
                "remote-member-id" => format!("{:x}", remote.id),
                "remote-member-cluster-version" => format!("{}.{}", told.0, told.1)
            );
            return false;
        }
        is_compatible = true;
    }
    is_compatible
}

async fn fetch_cluster_version(remote: &Member, patience: Duration) -> Option<(u64, u64)> {
    for text in &remote.peer_urls {
        let Ok(url) = Url::parse(text) else { continue };
        let Ok(response) = fetch(&url, "/version", patience).await else {
            continue;
        };
        if let Ok(versions) = serde_json::from_slice::<Versions>(&response.body) {
            return headers::parse_version(&versions.etcdcluster);
        }
    }
    None
}

fn is_served(cluster_version: (u64, u64)) -> bool {
    let (oldest, newest) = (
        headers::parse_version(version::MIN_CLUSTER),
        headers::parse_version(version::CLUSTER),
    );
    oldest <= Some(cluster_version) && Some(cluster_version) <= newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_read_as_its_members_tell_it() {
        let body = r#"[{"id":7,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]},{"id":9,"peerURLs":["http://b:1"],"isLearner":true}]"#;
        let answer = |id: &str, body: &'static str| {
            HttpResponse::json(200, body).header("X-Etcd-Cluster-Id", id)
        };
        let cluster = read_cluster(&answer("c1", body)).expect("as etcd writes it");
        assert_eq!(cluster.id, 0xc1);
        assert!(!cluster.members[0].is_learner && cluster.members[1].is_learner);
        assert_eq!(
            describe(&cluster),
            "{ClusterID:c1 Members:[7=http://a:1 9=http://b:1]}"
        );
        for bad in [
            answer("zz", body),
            answer("c1", "{"),
            HttpResponse::json(200, body),
        ] {
            assert_eq!(read_cluster(&bad), None);
        }
    }

    #[test]
    fn versions_from_the_oldest_to_our_own_are_served() {
        assert!(is_served((3, 0)) && is_served((3, 6)) && is_served((3, 7)));
        assert!(!is_served((2, 9)) && !is_served((3, 8)) && !is_served((4, 0)));
    }
}
