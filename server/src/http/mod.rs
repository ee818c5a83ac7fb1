//! Plain HTTP on the listeners for clients, metrics and peers, as pure functions.
//!
//! ```text
//! request, NodeStatus -> client::route -> Routed { decoration, work }
//!     work: Respond(response)       the answer is known
//!           RenderMetrics           the caller renders the page: `metrics_response`
//!           Check(plan)             the caller reads as `plan.poll_read` asks, tells `plan.on_read`,
//!                                   and takes `plan.respond`
//! response, date -> decoration.finish -> what is sent
//! ```
//!
//! Routing reads no clock and waits for nothing; a check that needs the state to be read is a small state
//! machine, since a linearizable read takes a round of raft. Texts, headers and their order are those of
//! Go's `net/http` under etcd 3.7.
//!
//! The JSON gateway has a module of its own (`crate::gateway`). The raft routes are [`crate::peer`]'s. Left out until its issue: `/debug/…`.

mod client;
mod health;
mod path;
mod peer;

use bytes::Bytes;
use net::http::{HttpResponse, Method};
use serde::Serialize;

use crate::version;

pub use client::{
    Access, Admitted, Decoration, Routed, Work, admit, metrics_response, route as route_client,
    route_metrics,
};
pub use health::{HealthPlan, ReadKind};
pub use path::{Trees, locate};
pub use peer::{is_linearizable, route as route_peer};

/// What routes tell about this node, as it is when a request comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    pub cluster_id: u64,
    /// Three numbers, such as `3.7.0`; `None` before it is decided.
    pub cluster_version: Option<String>,
    /// Three numbers; `None` if unknown.
    pub storage_version: Option<String>,
    pub has_leader: bool,
    pub is_learner: bool,
    pub is_downgrading: bool,
    /// The alarms that are up, on any member.
    pub alarms: Vec<Alarm>,
    pub members: Vec<MemberStatus>,
}

/// The kind of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    NoSpace,
    Corrupt,
    /// One that this version does not know.
    Other,
}

/// A member as `/members` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    pub id: u64,
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "is_false")]
    pub is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize)]
struct Versions<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

/// `/version`, on both kinds of listeners.
fn version_response(method: &Method, node: &NodeStatus) -> HttpResponse {
    if *method != Method::Get {
        return HttpResponse::method_not_allowed("GET");
    }
    let versions = Versions {
        etcdserver: version::ETCD,
        etcdcluster: node.cluster_version.as_deref().unwrap_or("not_decided"),
        storage: node.storage_version.as_deref().unwrap_or("unknown"),
    };
    json_response(&versions, "")
}

/// A value as JSON, followed by `end`.
fn json_response(value: &impl Serialize, end: &str) -> HttpResponse {
    match serde_json::to_string(value) {
        Ok(text) => HttpResponse::json(200, Bytes::from(text + end)),
        // Strings and numbers always have a form in JSON; still no reason to panic.
        Err(error) => HttpResponse::error(500, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_etcds() {
        let node = NodeStatus {
            cluster_version: Some("3.7.0".to_owned()),
            storage_version: Some("3.7.0".to_owned()),
            ..NodeStatus::default()
        };
        let response = version_response(&Method::Get, &node);
        assert_eq!(response.status, 200);
        assert_eq!(
            response.headers.get_str("content-type"),
            Some("application/json")
        );
        assert_eq!(
            response.body,
            &br#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#[..]
        );
        let early = version_response(&Method::Get, &NodeStatus::default());
        assert_eq!(
            early.body,
            &br#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}"#[..]
        );
    }

    #[test]
    fn only_get_asks_for_versions() {
        for method in [Method::Head, Method::Post, Method::Options] {
            let response = version_response(&method, &NodeStatus::default());
            assert_eq!(response.status, 405);
            assert_eq!(response.headers.get_str("allow"), Some("GET"));
            assert_eq!(response.body, &b"Method Not Allowed\n"[..]);
        }
    }
}
