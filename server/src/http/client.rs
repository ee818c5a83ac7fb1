//! The routes of a client listener, and what surrounds each: allowed hosts, CORS, the date. A metrics listener has the
//! part of them that says how this member is, for whoever asks.

use std::borrow::Cow;

use net::http::{HttpRequest, HttpResponse, Method};

use super::health::HealthPlan;
use super::path::{Trees, locate};
use super::{NodeStatus, version_response};
use crate::config::{Allowed, go};
use crate::logging;
use crate::metrics::{self, HealthCheckKind};

/// `--host-whitelist`, `--cors` and `--enable-grpc-gateway`.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    pub hosts: &'a Allowed,
    pub origins: &'a Allowed,
    pub has_gateway: bool,
}

/// A request that is let in.
#[derive(Debug)]
pub struct Admitted<'a> {
    pub decoration: Decoration,
    /// The path of the route that it asks for.
    pub route: Cow<'a, str>,
}

/// What to do about a request, and what its response must carry.
#[derive(Debug)]
pub struct Routed {
    pub decoration: Decoration,
    pub work: Work,
}

/// How the response comes about.
#[derive(Debug)]
pub enum Work {
    Respond(HttpResponse),
    /// Render the metrics and answer with [`metrics_response`].
    RenderMetrics,
    /// Run the plan's reads and answer with what it says.
    Check(HealthPlan),
}

/// The headers that a response carries whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoration {
    /// The allowed origin, or `*`.
    origin: Option<String>,
}

impl Decoration {
    const NONE: Self = Self { origin: None };

    fn of(request: &HttpRequest, origins: &Allowed) -> Self {
        let origin = match origins {
            Allowed::Any => Some("*"),
            Allowed::Only(_) => request
                .headers
                .get_str("origin")
                .filter(|origin| origins.contains(origin)),
        };
        Self {
            origin: origin.map(str::to_owned),
        }
    }

    /// The response to send; `date` becomes its Date header.
    pub fn finish(&self, response: HttpResponse, date: &str) -> HttpResponse {
        let mut done = HttpResponse {
            body: response.body,
            ..HttpResponse::new(response.status)
        };
        if let Some(origin) = &self.origin {
            done = done
                .header(
                    "Access-Control-Allow-Headers",
                    "accept, content-type, authorization",
                )
                .header(
                    "Access-Control-Allow-Methods",
                    "POST, GET, OPTIONS, PUT, DELETE",
                )
                .header("Access-Control-Allow-Origin", origin);
        }
        // Go sorts them by name.
        let mut others: Vec<_> = response.headers.iter().collect();
        others.sort();
        for (name, value) in others {
            done.headers.push(name, value);
        }
        done.header("Date", date)
    }
}

/// Finds out what to do about a request.
pub fn route(request: &HttpRequest, access: Access<'_>, node: &NodeStatus) -> Routed {
    match admit(request, access) {
        Ok(Admitted { decoration, route }) => Routed {
            decoration,
            work: route_path(&route, request, node),
        },
        Err((decoration, response)) => Routed {
            decoration,
            work: Work::Respond(response),
        },
    }
}

/// The same on a metrics listener.
pub fn route_metrics(request: &HttpRequest, node: &NodeStatus) -> Routed {
    let work = match locate(request, Trees::METRICS) {
        Ok(route) if route == "/version" => Work::Respond(HttpResponse::not_found()),
        Ok(route) => route_path(&route, request, node),
        Err(response) => Work::Respond(response),
    };
    Routed {
        decoration: Decoration::NONE,
        work,
    }
}

/// Lets a request in, whatever it asks for, or answers it.
///
/// # Errors
/// The answer and its decoration.
pub fn admit<'a>(
    request: &'a HttpRequest,
    access: Access<'_>,
) -> Result<Admitted<'a>, (Decoration, HttpResponse)> {
    if request.method == Method::Options && request.path == "*" {
        return Err((Decoration::NONE, HttpResponse::new(200)));
    }
    let host = host_name(request.headers.get_str("host").unwrap_or_default());
    if !access.hosts.contains(host) {
        logging::warn!("rejecting HTTP request to prevent DNS rebinding attacks", "host" => host);
        let refusal = HttpResponse::error(421, &unknown_host_text(host));
        return Err((Decoration::NONE, refusal));
    }
    let decoration = Decoration::of(request, access.origins);
    // Answers browsers that ask beforehand, for any path.
    if request.method == Method::Options {
        return Err((decoration, HttpResponse::new(200)));
    }
    match locate(request, Trees::client(access.has_gateway)) {
        Ok(route) => Ok(Admitted { decoration, route }),
        Err(response) => Err((decoration, response)),
    }
}

fn route_path(path: &str, request: &HttpRequest, node: &NodeStatus) -> Work {
    let plan = match path {
        "/version" => return Work::Respond(version_response(&request.method, node)),
        // Go's handler asks for no particular method.
        "/metrics" => return Work::RenderMetrics,
        "/health" => Some(HealthPlan::health(request, node)),
        _ => check_plan(path, request, node),
    };
    match plan {
        None => Work::Respond(HttpResponse::not_found()),
        Some(_) if request.method != Method::Get => {
            logging::warn!("Health request error", "path" => path, "status-code" => 405);
            Work::Respond(HttpResponse::method_not_allowed("GET"))
        }
        Some(plan) => Work::Check(plan),
    }
}

/// `/livez`, `/readyz` and their sub-paths.
fn check_plan(path: &str, request: &HttpRequest, node: &NodeStatus) -> Option<HealthPlan> {
    [HealthCheckKind::Livez, HealthCheckKind::Readyz]
        .into_iter()
        .find_map(|kind| {
            let rest = path.strip_prefix('/')?.strip_prefix(kind.name())?;
            match rest.strip_prefix('/') {
                None if rest.is_empty() => Some(HealthPlan::all_checks(kind, request, node)),
                None => None,
                Some(name) => HealthPlan::one_check(kind, name, request, node),
            }
        })
}

/// The answer to a scrape.
pub fn metrics_response(page: String) -> HttpResponse {
    HttpResponse::with_body(200, metrics::CONTENT_TYPE, page)
}

/// The host of `host:port`; a text that is not of this form is the host.
fn host_name(host: &str) -> &str {
    if let Some((name, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return if port.starts_with(':') { name } else { host };
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// What to say to a request that may come from a web page which plays tricks with DNS.
fn unknown_host_text(host: &str) -> String {
    let quoted = go::quote(host);
    format!(
        "\n\
         This server did not recognise the Host header of your request.\n\
         \n\
         There are two ways out:\n\
         - Use TLS; HTTPS requests may name any host.\n\
         - Allow this host name:\n  \
           etcd --host-whitelist {quoted}\n\
         \n\
         The check protects against DNS rebinding (CVE-2018-5702).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sat, 21 Nov 2026 04:01:41 GMT";
    const ANY: Access<'static> = Access {
        hosts: &Allowed::Any,
        origins: &Allowed::Any,
        has_gateway: true,
    };

    fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let mut request = HttpRequest::new(method, path);
        for (name, value) in headers {
            request.headers.push(name, value);
        }
        request
    }

    /// The response of a route that needs no reads.
    fn respond(request: &HttpRequest, access: Access<'_>) -> HttpResponse {
        let routed = route(request, access, &NodeStatus::default());
        match routed.work {
            Work::Respond(response) => routed.decoration.finish(response, DATE),
            other => panic!("{other:?}"),
        }
    }

    fn header_lines(response: &HttpResponse) -> Vec<String> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let lines = response.headers.iter();
        lines
            .map(|(name, value)| format!("{}: {}", text(name), text(value)))
            .collect()
    }

    #[test]
    fn an_unknown_path_is_answered_to_the_letter() {
        for path in [
            "/",
            "/nope",
            "/version/",
            "/livez/foo",
            "/livezz",
            "/v2/keys",
            "/members",
        ] {
            let response = respond(&request(Method::Get, path, &[]), ANY);
            assert_eq!(response.status, 404, "{path}");
            assert_eq!(response.body, &b"404 page not found\n"[..]);
            assert_eq!(
                header_lines(&response),
                [
                    "Access-Control-Allow-Headers: accept, content-type, authorization",
                    "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE",
                    "Access-Control-Allow-Origin: *",
                    "Content-Type: text/plain; charset=utf-8",
                    "X-Content-Type-Options: nosniff",
                    "Date: Sat, 21 Nov 2026 04:01:41 GMT",
                ]
            );
        }
    }

    #[test]
    fn wrong_methods_are_refused_by_name() {
        for path in ["/version", "/health", "/livez", "/readyz/non_learner"] {
            for method in [Method::Post, Method::Head, Method::Delete] {
                let response = respond(&request(method, path, &[]), ANY);
                assert_eq!(response.status, 405, "{path}");
                assert_eq!(response.headers.get_str("allow"), Some("GET"));
            }
        }
    }

    #[test]
    fn metrics_are_rendered_for_any_method() {
        for method in [Method::Get, Method::Post, Method::Head] {
            let routed = route(
                &request(method, "/metrics", &[]),
                ANY,
                &NodeStatus::default(),
            );
            assert!(matches!(routed.work, Work::RenderMetrics));
        }
        let response = metrics_response("a 1\n".to_owned());
        assert_eq!(
            response.headers.get_str("content-type"),
            Some(metrics::CONTENT_TYPE)
        );
    }

    #[test]
    fn metrics_listeners_say_how_this_member_is_and_no_more() {
        let answer = |method, path: &str| {
            let request = request(method, path, &[("Host", "evil"), ("Origin", "http://a:1")]);
            let routed = route_metrics(&request, &NodeStatus::default());
            assert_eq!(routed.decoration, Decoration::NONE);
            match routed.work {
                Work::Respond(response) => response.status,
                Work::RenderMetrics | Work::Check(_) => 200,
            }
        };
        for path in ["/metrics", "/health", "/livez", "/readyz/non_learner"] {
            assert_eq!(answer(Method::Get, path), 200, "{path}");
        }
        for path in ["/version", "/", "/v3/kv/range", "/livez/foo"] {
            assert_eq!(answer(Method::Get, path), 404, "{path}");
        }
        assert_eq!(answer(Method::Options, "/health"), 405);
        assert_eq!(answer(Method::Get, "//health"), 307);
    }

    #[test]
    fn options_are_answered_for_every_path() {
        for path in ["/version", "/nope"] {
            let response = respond(&request(Method::Options, path, &[]), ANY);
            assert_eq!((response.status, response.body.len()), (200, 0));
            assert!(response.headers.contains("access-control-allow-origin"));
            assert!(!response.headers.contains("content-type"));
        }
    }

    #[test]
    fn only_allowed_origins_are_named() {
        let origins = Allowed::Only(vec!["http://a:1".to_owned()]);
        let access = Access {
            hosts: &Allowed::Any,
            origins: &origins,
            has_gateway: true,
        };
        let allowed = respond(
            &request(Method::Get, "/", &[("Origin", "http://a:1")]),
            access,
        );
        assert_eq!(
            allowed.headers.get_str("access-control-allow-origin"),
            Some("http://a:1")
        );
        for headers in [&[("Origin", "http://b:1")][..], &[]] {
            let refused = respond(&request(Method::Get, "/", headers), access);
            assert!(!refused.headers.contains("access-control-allow-origin"));
        }
    }

    #[test]
    fn hosts_outside_the_whitelist_are_refused_without_cors() {
        let hosts = Allowed::Only(vec!["good".to_owned(), "::1".to_owned()]);
        let access = Access {
            hosts: &hosts,
            origins: &Allowed::Any,
            has_gateway: true,
        };
        for host in ["good", "good:2379", "[::1]:2379"] {
            assert_eq!(
                respond(&request(Method::Get, "/", &[("Host", host)]), access).status,
                404
            );
        }
        let refused = respond(
            &request(Method::Get, "/version", &[("Host", "evil:2379")]),
            access,
        );
        assert_eq!(refused.status, 421);
        assert!(!refused.headers.contains("access-control-allow-origin"));
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(text.contains("etcd --host-whitelist \"evil\"") && text.contains("CVE-2018-5702"));
        assert_eq!(respond(&request(Method::Get, "/", &[]), access).status, 421);
    }
}
