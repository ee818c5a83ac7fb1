//! The first start of a member: does `--initial-cluster` describe it?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};

use super::go;
use super::url::{Url, UrlError};
use super::{ClusterState, Config};

/// The members that a new cluster begins with, or that one is said to have which is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// By name.
    pub members: Vec<BootstrapMember>,
    pub token: String,
}

/// One member of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapMember {
    pub name: String,
    /// Sorted by text; at least one.
    pub peer_urls: Vec<Url>,
}

/// Why this member cannot make a cluster. The user is at fault; the texts are etcd's except for what
/// etcore cannot do yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(#[from] UrlError),
    #[error("couldn't find local name {} in the initial cluster configuration", go::quote(.0))]
    NameMissing(String),
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        missing: String,
        advertised: String,
        reason: String,
    },
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotInCluster { missing: String, cluster: String },
    #[error("failed to resolve {advertised} to match --initial-cluster={cluster} ({reason})")]
    NotResolved {
        advertised: String,
        cluster: String,
        reason: String,
    },
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    #[error("etcore cannot form a cluster of several members yet: --initial-cluster names {0}")]
    SeveralMembers(usize),
}

impl Config {
    /// Checks the flags that matter only as long as this member has no log, in etcd's order.
    ///
    /// May ask the resolver for host names, and then blocks: call it before the executors run.
    ///
    /// # Errors
    /// The flags contradict each other, or ask for what etcore cannot do yet.
    pub fn bootstrap(&self) -> Result<Bootstrap, BootstrapError> {
        let members = parse_initial_cluster(&self.initial_cluster)?;
        let own = members
            .get(&self.name)
            .ok_or_else(|| BootstrapError::NameMissing(self.name.clone()))?;
        if self.initial_cluster_state == ClusterState::New {
            self.check_advertised(own)?;
        }
        if has_duplicate_url(&members) {
            return Err(BootstrapError::DuplicateUrl(cluster_text(&members)));
        }
        if self.initial_cluster_state == ClusterState::New && members.len() > 1 {
            return Err(BootstrapError::SeveralMembers(members.len()));
        }
        let members = members
            .into_iter()
            .map(|(name, peer_urls)| BootstrapMember { name, peer_urls })
            .collect();
        Ok(Bootstrap {
            members,
            token: self.initial_cluster_token.clone(),
        })
    }

    /// The URLs given for this member must be the ones it advertises, by text or once resolved.
    fn check_advertised(&self, own: &[Url]) -> Result<(), BootstrapError> {
        let advertised = sorted_texts(&self.advertise_peer_urls);
        let in_cluster = sorted_texts(own);
        let Err(reason) = compare(&self.advertise_peer_urls, own, resolve) else {
            return Ok(());
        };
        let missing: Vec<_> = in_cluster
            .iter()
            .filter(|text| !advertised.contains(text))
            .map(|text| format!("{}={text}", self.name))
            .collect();
        if !missing.is_empty() {
            return Err(BootstrapError::NotAdvertised {
                missing: missing.join(","),
                advertised: advertised.join(","),
                reason,
            });
        }
        let missing: Vec<_> = advertised
            .iter()
            .filter(|text| !in_cluster.contains(text))
            .cloned()
            .collect();
        let cluster: Vec<_> = advertised
            .iter()
            .map(|text| format!("{}={text}", self.name))
            .collect();
        let cluster = cluster.join(",");
        if missing.is_empty() {
            let advertised = advertised.join(",");
            return Err(BootstrapError::NotResolved {
                advertised,
                cluster,
                reason,
            });
        }
        let missing = missing.join(",");
        Err(BootstrapError::NotInCluster { missing, cluster })
    }
}

/// Whether two lists name the same URLs, by text or once resolved; the error says how they differ.
///
/// May ask the resolver, and then blocks.
///
/// # Errors
/// What differs, or what cannot be resolved.
pub fn same_urls(a: &[Url], b: &[Url]) -> Result<(), String> {
    compare(a, b, resolve)
}

type Members = BTreeMap<String, Vec<Url>>;

/// Reads `name=url,name=url2,other=url`. Empty parts do not count; a part without `=` is a name
/// without a URL, which is refused.
fn parse_initial_cluster(text: &str) -> Result<Members, UrlError> {
    let mut members = Members::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        members
            .entry(name.to_owned())
            .or_default()
            .push(Url::parse(url)?);
    }
    for urls in members.values_mut() {
        urls.sort_by_cached_key(Url::to_string);
    }
    Ok(members)
}

fn cluster_text(members: &Members) -> String {
    let mut pairs: Vec<_> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort();
    pairs.join(",")
}

fn has_duplicate_url(members: &Members) -> bool {
    let mut texts: Vec<_> = members.values().flatten().map(Url::to_string).collect();
    let count = texts.len();
    texts.sort();
    texts.dedup();
    texts.len() < count
}

fn sorted_texts(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<_> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    texts
}

type Resolver = fn(&Url) -> Result<SocketAddr, String>;

/// Compares two lists of URLs; the error says how they differ, in etcd's words.
fn compare(advertised: &[Url], in_cluster: &[Url], resolver: Resolver) -> Result<(), String> {
    let (ours, theirs) = (sorted_texts(advertised), sorted_texts(in_cluster));
    if ours.len() != theirs.len() {
        return Err(format!(
            "len({}) != len({})",
            go::quote_list(&ours),
            go::quote_list(&theirs)
        ));
    }
    if ours == theirs {
        return Ok(());
    }
    let (ours, theirs) = (
        resolve_all(advertised, resolver)?,
        resolve_all(in_cluster, resolver)?,
    );
    match ours.iter().zip(&theirs).find(|(our, their)| our != their) {
        None => Ok(()),
        Some((our, their)) => Err(format!(
            "resolved urls: {} != {}",
            go::quote(our),
            go::quote(their)
        )),
    }
}

/// The URLs with addresses in place of host names, sorted. `localhost` stays as it is.
fn resolve_all(urls: &[Url], resolver: Resolver) -> Result<Vec<String>, String> {
    let mut texts = Vec::with_capacity(urls.len());
    for url in urls {
        if url.scheme().is_socket_file() || url.host() == "localhost" {
            texts.push(url.to_string());
            continue;
        }
        let address = resolver(url).map_err(|error| {
            format!(
                "failed to resolve {} ({error})",
                go::quote(&url.to_string())
            )
        })?;
        let mut text = String::new();
        let _ = write!(text, "{}://{address}", url.scheme().name());
        texts.push(text);
    }
    texts.sort();
    Ok(texts)
}

fn resolve(url: &Url) -> Result<SocketAddr, String> {
    let port = url.port().parse::<u16>().unwrap_or(0);
    let mut addresses = (url.host(), port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no address".to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::{Environment, Startup, read};
    use super::*;

    fn bootstrap(name: &str, cluster: &str, advertised: &str) -> Result<Bootstrap, String> {
        bootstrap_in("new", name, cluster, advertised)
    }

    fn bootstrap_in(
        state: &str,
        name: &str,
        cluster: &str,
        advertised: &str,
    ) -> Result<Bootstrap, String> {
        let words = [
            "etcore".to_owned(),
            format!("--name={name}"),
            format!("--initial-cluster={cluster}"),
            format!("--initial-advertise-peer-urls={advertised}"),
            format!("--initial-cluster-state={state}"),
        ];
        let default_host = || Ok(IpAddr::from([10, 1, 2, 3]));
        match read(
            &words,
            &Environment {
                variables: Vec::new(),
                default_host,
            },
        ) {
            Startup::Run(config, _) => config.bootstrap().map_err(|error| error.to_string()),
            Startup::Exit(exit) => panic!("refused: {:?}", exit.notices),
        }
    }

    const URL: &str = "http://127.0.0.1:23801";

    #[test]
    fn one_member_with_its_urls_is_a_cluster() {
        let cluster = "a=http://127.0.0.1:2,a=http://127.0.0.1:1,";
        let made = bootstrap("a", cluster, "http://127.0.0.1:1,http://127.0.0.1:2").unwrap();
        assert_eq!(made.token, "etcd-cluster");
        assert_eq!(made.members.len(), 1);
        assert_eq!(made.members[0].name, "a");
        let urls: Vec<_> = made.members[0]
            .peer_urls
            .iter()
            .map(Url::to_string)
            .collect();
        assert_eq!(urls, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    }

    #[test]
    fn refusals_have_etcds_texts() {
        let cases = [
            (
                "b=http://127.0.0.1:23801",
                "couldn't find local name \"a\" in the initial cluster configuration",
            ),
            (
                "",
                "couldn't find local name \"a\" in the initial cluster configuration",
            ),
            (
                "a=http://127.0.0.1:23802",
                "--initial-cluster has a=http://127.0.0.1:23802 but missing from --initial-advertise-peer-urls=http://127.0.0.1:23801 (resolved urls: \"http://127.0.0.1:23801\" != \"http://127.0.0.1:23802\")",
            ),
            (
                "a=http://127.0.0.1:23801,a=http://127.0.0.1:23803",
                "--initial-cluster has a=http://127.0.0.1:23803 but missing from --initial-advertise-peer-urls=http://127.0.0.1:23801 (len([\"http://127.0.0.1:23801\"]) != len([\"http://127.0.0.1:23801\" \"http://127.0.0.1:23803\"]))",
            ),
            (
                "a=http://127.0.0.1:23801,a=http://127.0.0.1:23801",
                "failed to resolve http://127.0.0.1:23801 to match --initial-cluster=a=http://127.0.0.1:23801 (len([\"http://127.0.0.1:23801\"]) != len([\"http://127.0.0.1:23801\" \"http://127.0.0.1:23801\"]))",
            ),
            (
                "a=http://127.0.0.1:23801,b=http://127.0.0.1:23801",
                "initial cluster a=http://127.0.0.1:23801,b=http://127.0.0.1:23801 has duplicate url",
            ),
            (
                "a=http://localhost:23801",
                "--initial-cluster has a=http://localhost:23801 but missing from --initial-advertise-peer-urls=http://127.0.0.1:23801 (resolved urls: \"http://127.0.0.1:23801\" != \"http://localhost:23801\")",
            ),
            (
                "a=ftp://localhost:23801",
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ftp://localhost:23801",
            ),
            (
                "a",
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
            ),
        ];
        for (cluster, text) in cases {
            assert_eq!(bootstrap("a", cluster, URL).unwrap_err(), text, "{cluster}");
        }
    }

    #[test]
    fn advertised_urls_must_be_in_the_cluster() {
        let error = bootstrap(
            "a",
            "a=http://127.0.0.1:1",
            "http://127.0.0.1:1,http://127.0.0.1:2",
        );
        assert_eq!(
            error.unwrap_err(),
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2"
        );
    }

    #[test]
    fn what_needs_peers_is_refused_after_etcds_own_checks() {
        let two = format!("a={URL},b=http://127.0.0.1:23802");
        assert!(
            bootstrap("a", &two, URL)
                .unwrap_err()
                .contains("several members yet")
        );
        let one = format!("a={URL}");
        // Who joins names the others, and is known to them by its URLs already.
        let joined = bootstrap_in("existing", "a", &two, "http://127.0.0.1:1").unwrap();
        assert_eq!(joined.members.len(), 2);
        let error = bootstrap_in("existing", "b", &one, URL).unwrap_err();
        assert!(error.starts_with("couldn't find local name \"b\""));
    }

    #[test]
    fn names_that_resolve_alike_are_equal() {
        let resolver: Resolver = |url| match url.host() {
            "one" | "uno" => Ok(SocketAddr::from(([10, 0, 0, 1], 1))),
            other => Err(format!("no such host {other}")),
        };
        let urls = |text: &str| Url::parse_list(text).unwrap();
        assert_eq!(
            compare(&urls("http://one:1"), &urls("http://uno:1"), resolver),
            Ok(())
        );
        assert_eq!(
            compare(&urls("http://one:1"), &urls("http://due:1"), resolver),
            Err("failed to resolve \"http://due:1\" (no such host due)".to_owned())
        );
    }
}
