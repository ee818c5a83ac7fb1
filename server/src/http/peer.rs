//! The routes of a peer listener: who the members are, and which version runs.

use net::http::{HttpRequest, HttpResponse, Method};

use super::{MemberStatus, NodeStatus, json_response, version_response};

const DOWNGRADE_ENABLED: &str = "/downgrade/enabled";

/// Answers a request; `date` becomes the Date header.
pub fn route(request: &HttpRequest, node: &NodeStatus, date: &str) -> HttpResponse {
    let response = match request.path.as_str() {
        "/version" => version_response(&request.method, node),
        "/members" => members_response(&request.method, node),
        DOWNGRADE_ENABLED => downgrade_response(&request.method, node),
        _ => HttpResponse::not_found(),
    };
    response.header("Date", date)
}

/// Whether this path tells what all members have agreed on, so that a read must come before it.
pub fn is_linearizable(path: &str) -> bool {
    path == DOWNGRADE_ENABLED
}

/// Whether the cluster is being downgraded; a member of a lower version may join then.
fn downgrade_response(method: &Method, node: &NodeStatus) -> HttpResponse {
    if *method != Method::Get {
        return HttpResponse::method_not_allowed("GET");
    }
    let body = if node.is_downgrading { "true" } else { "false" };
    HttpResponse::with_body(200, "text/plain", body)
        .header("X-Etcd-Cluster-Id", format!("{:x}", node.cluster_id))
}

/// All members, ascending by id.
fn members_response(method: &Method, node: &NodeStatus) -> HttpResponse {
    if *method != Method::Get {
        return HttpResponse::method_not_allowed("GET");
    }
    let mut members: Vec<&MemberStatus> = node.members.iter().collect();
    members.sort_by_key(|member| member.id);
    json_response(&members, "\n").header("X-Etcd-Cluster-Id", format!("{:x}", node.cluster_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sat, 21 Nov 2026 04:01:41 GMT";

    fn get(path: &str, node: &NodeStatus) -> HttpResponse {
        route(&HttpRequest::new(Method::Get, path), node, DATE)
    }

    #[test]
    fn members_are_sorted_and_leave_out_what_is_empty() {
        let node = NodeStatus {
            cluster_id: 0x0482_76a8_f75b_6a87,
            members: vec![
                MemberStatus {
                    id: u64::MAX,
                    peer_urls: vec!["http://127.0.0.1:2".to_owned()],
                    is_learner: true,
                    ..MemberStatus::default()
                },
                MemberStatus {
                    id: 3_319_814_642_761_637_952,
                    peer_urls: vec!["http://127.0.0.1:23800".to_owned()],
                    name: "n1".to_owned(),
                    client_urls: vec!["http://127.0.0.1:23790".to_owned()],
                    ..MemberStatus::default()
                },
            ],
            ..NodeStatus::default()
        };
        let response = get("/members", &node);
        assert_eq!(
            response.headers.get_str("x-etcd-cluster-id"),
            Some("48276a8f75b6a87")
        );
        assert_eq!(response.headers.get_str("date"), Some(DATE));
        let expected = concat!(
            r#"[{"id":3319814642761637952,"peerURLs":["http://127.0.0.1:23800"],"name":"n1","#,
            r#""clientURLs":["http://127.0.0.1:23790"]},"#,
            r#"{"id":18446744073709551615,"peerURLs":["http://127.0.0.1:2"],"isLearner":true}]"#,
            "\n"
        );
        assert_eq!(response.body, expected.as_bytes());
    }

    #[test]
    fn a_downgrade_is_told_in_a_word() {
        for (is_downgrading, word) in [(false, "false"), (true, "true")] {
            let node = NodeStatus {
                is_downgrading,
                ..NodeStatus::default()
            };
            let response = get("/downgrade/enabled", &node);
            assert_eq!((response.status, &*response.body), (200, word.as_bytes()));
            assert_eq!(response.headers.get_str("content-type"), Some("text/plain"));
        }
        assert!(is_linearizable("/downgrade/enabled"));
        assert!(!is_linearizable("/members"));
    }

    #[test]
    fn other_routes_are_not_found_and_other_methods_not_allowed() {
        let node = NodeStatus::default();
        for path in ["/", "/health", "/metrics", "/members/", "/version/"] {
            assert_eq!(get(path, &node).status, 404, "{path}");
        }
        for method in [Method::Post, Method::Head, Method::Options] {
            let response = route(&HttpRequest::new(method, "/members"), &node, DATE);
            assert_eq!(response.status, 405);
            assert!(response.headers.get("x-etcd-cluster-id").is_none());
        }
    }
}
