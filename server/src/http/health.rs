//! `/health`, `/livez` and `/readyz`: which checks run, and what their results say.
//!
//! A plan knows its answer except for reads of the state, which the caller performs one after the other:
//!
//! ```text
//! while let Some(kind) = plan.poll_read() { plan.on_read(read(kind).await) }
//! plan.respond(&metrics)
//! ```
//!
//! A read is a Range of the empty key, keys only, limit 1, as root; its error is given as text.

use std::fmt::Write as _;

use net::http::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::{Alarm, NodeStatus};
use crate::config::go;
use crate::logging;
use crate::metrics::{HealthCheckKind, Metrics};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    Serializable,
    Linearizable,
}

/// Checks in progress. Inputs: [`Self::on_read`]. Outputs: [`Self::poll_read`], then [`Self::respond`].
#[derive(Debug)]
pub struct HealthPlan {
    endpoint: Endpoint,
    /// In the order in which they run and are shown.
    checks: Vec<Check>,
}

#[derive(Debug)]
enum Endpoint {
    Health,
    Checks {
        kind: HealthCheckKind,
        path: String,
        is_verbose: bool,
    },
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits for a read.
    Read(ReadKind),
    Done(Result<(), String>),
}

#[derive(Serialize)]
struct Health<'a> {
    health: &'a str,
    reason: &'a str,
}

impl HealthPlan {
    /// `/health`: alarms, then the leader, then a read; the first failure is the answer.
    pub(super) fn health(request: &HttpRequest, node: &NodeStatus) -> Self {
        let excluded = excluded(request);
        let is_excluded = |alarm: &Alarm| excluded.iter().any(|name| name == alarm_name(*alarm));
        let is_serializable = request
            .query_pairs()
            .find(|(name, _)| name == "serializable")
            .is_some_and(|(_, value)| value == "true");
        let state = if let Some(alarm) = node.alarms.iter().find(|alarm| !is_excluded(alarm)) {
            State::Done(Err(format!("ALARM {}", alarm_name(*alarm))))
        } else if is_serializable {
            State::Read(ReadKind::Serializable)
        } else if node.has_leader {
            State::Read(ReadKind::Linearizable)
        } else {
            State::Done(Err("RAFT NO LEADER".to_owned()))
        };
        Self {
            endpoint: Endpoint::Health,
            checks: vec![Check {
                name: "health",
                state,
            }],
        }
    }

    /// All checks of `/livez` or `/readyz` but the excluded ones.
    pub(super) fn all_checks(
        kind: HealthCheckKind,
        request: &HttpRequest,
        node: &NodeStatus,
    ) -> Self {
        let mut excluded = excluded(request);
        let mut checks = checks_of(kind, node);
        checks.retain(|check| !excluded.iter().any(|name| name == check.name));
        let all = checks_of(kind, node);
        excluded.retain(|name| all.iter().all(|check| check.name != name));
        if !excluded.is_empty() {
            let missing: Vec<_> = excluded.iter().map(|name| go::quote(name)).collect();
            let message = "some health checks cannot be excluded";
            logging::warn!(message, "missing-health-checks" => missing.join(","));
        }
        Self::with_checks(kind, checks, request)
    }

    /// One check by name, if there is one of that name.
    pub(super) fn one_check(
        kind: HealthCheckKind,
        name: &str,
        request: &HttpRequest,
        node: &NodeStatus,
    ) -> Option<Self> {
        let check = checks_of(kind, node)
            .into_iter()
            .find(|check| check.name == name)?;
        Some(Self::with_checks(kind, vec![check], request))
    }

    fn with_checks(kind: HealthCheckKind, checks: Vec<Check>, request: &HttpRequest) -> Self {
        let is_verbose = request.query_pairs().any(|(name, _)| name == "verbose");
        let path = request.path.clone();
        Self {
            endpoint: Endpoint::Checks {
                kind,
                path,
                is_verbose,
            },
            checks,
        }
    }

    /// The read that must come next. `None`: everything is known.
    pub fn poll_read(&self) -> Option<ReadKind> {
        self.checks.iter().find_map(|check| match check.state {
            State::Read(kind) => Some(kind),
            State::Done(_) => None,
        })
    }

    /// The read that [`Self::poll_read`] asked for ended. An unasked one is passed over.
    pub fn on_read(&mut self, result: Result<(), String>) {
        let waiting = self
            .checks
            .iter_mut()
            .find(|check| matches!(check.state, State::Read(_)));
        if let Some(check) = waiting {
            let prefix = match self.endpoint {
                Endpoint::Health => "RANGE ERROR:",
                Endpoint::Checks { .. } => "",
            };
            check.state = State::Done(result.map_err(|error| format!("{prefix}{error}")));
        }
    }

    /// The answer, and the numbers it changes. A read that was not reported counts as failed.
    pub fn respond(self, metrics: &Metrics) -> HttpResponse {
        match self.endpoint {
            Endpoint::Health => respond_health(&self.checks, metrics),
            Endpoint::Checks {
                kind,
                path,
                is_verbose,
            } => respond_checks(&self.checks, kind, &path, is_verbose, metrics),
        }
    }
}

impl Check {
    fn result(&self) -> Result<(), &str> {
        match &self.state {
            State::Done(Ok(())) => Ok(()),
            State::Done(Err(reason)) => Err(reason),
            State::Read(_) => Err("the read did not end"),
        }
    }
}

/// The checks of an endpoint; those that need no read are decided at once.
fn checks_of(kind: HealthCheckKind, node: &NodeStatus) -> Vec<Check> {
    let serializable = Check {
        name: "serializable_read",
        state: State::Read(ReadKind::Serializable),
    };
    if kind == HealthCheckKind::Livez {
        return vec![serializable];
    }
    let decide = |fails: bool, reason: &str| {
        State::Done(if fails {
            Err(reason.to_owned())
        } else {
            Ok(())
        })
    };
    let is_corrupt = node.alarms.contains(&Alarm::Corrupt);
    vec![
        Check {
            name: "data_corruption",
            state: decide(is_corrupt, "alarm activated: CORRUPT"),
        },
        serializable,
        Check {
            name: "linearizable_read",
            state: State::Read(ReadKind::Linearizable),
        },
        Check {
            name: "non_learner",
            state: decide(node.is_learner, "not supported for learner"),
        },
    ]
}

/// The values of `exclude` that are not empty.
fn excluded(request: &HttpRequest) -> Vec<String> {
    request
        .query_pairs()
        .filter(|(name, value)| name == "exclude" && !value.is_empty())
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn alarm_name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
        Alarm::Other => "UNKNOWN",
    }
}

fn respond_health(checks: &[Check], metrics: &Metrics) -> HttpResponse {
    let failure = checks.iter().find_map(|check| check.result().err());
    let health = Health {
        health: if failure.is_none() { "true" } else { "false" },
        reason: failure.unwrap_or_default(),
    };
    let text = match serde_json::to_string(&health) {
        Ok(text) => text,
        Err(error) => return HttpResponse::error(500, &error.to_string()),
    };
    if failure.is_none() {
        metrics.health_success.inc();
        return HttpResponse::text(200, text);
    }
    metrics.health_failures.inc();
    logging::warn!("/health error", "output" => &text, "status-code" => 503);
    HttpResponse::error(503, &text)
}

fn respond_checks(
    checks: &[Check],
    kind: HealthCheckKind,
    path: &str,
    is_verbose: bool,
    metrics: &Metrics,
) -> HttpResponse {
    let mut lines = String::new();
    let mut is_good = true;
    for check in checks {
        let result = check.result();
        metrics.node.check_done(kind, check.name, result.is_ok());
        is_good &= result.is_ok();
        let _ = match result {
            Ok(()) => writeln!(lines, "[+]{} ok", check.name),
            Err(reason) => writeln!(lines, "[-]{} failed: {reason}", check.name),
        };
    }
    if !is_good {
        logging::error!(
            "Health check error",
            "path" => path,
            "reason" => &lines,
            "status-code" => 503,
        );
        return HttpResponse::error(503, &lines);
    }
    let shown = if is_verbose { lines.as_str() } else { "" };
    // The form of an error, as etcd has it: with its own newline and nosniff.
    HttpResponse::error(200, &format!("{shown}ok"))
}

#[cfg(test)]
mod tests {
    use net::http::Method;

    use super::super::{Access, Work, route_client};
    use super::*;
    use crate::config::Allowed;

    const OK: Result<(), String> = Ok(());

    fn healthy() -> NodeStatus {
        NodeStatus {
            has_leader: true,
            ..NodeStatus::default()
        }
    }

    /// Runs a request with these results of its reads; returns status, body and the reads asked for.
    fn run(
        target: &str,
        node: &NodeStatus,
        mut results: Vec<Result<(), String>>,
        metrics: &Metrics,
    ) -> (u16, String, Vec<ReadKind>) {
        let request = HttpRequest::new(Method::Get, target);
        let access = Access {
            hosts: &Allowed::Any,
            origins: &Allowed::Any,
            has_gateway: true,
        };
        let Work::Check(mut plan) = route_client(&request, access, node).work else {
            panic!("{target} is no check")
        };
        let mut reads = Vec::new();
        results.reverse();
        while let Some(kind) = plan.poll_read() {
            reads.push(kind);
            plan.on_read(results.pop().expect("a result for each read"));
        }
        let response = plan.respond(metrics);
        (
            response.status,
            String::from_utf8_lossy(&response.body).into_owned(),
            reads,
        )
    }

    #[test]
    fn health_reads_linearizably_unless_asked_otherwise() {
        let metrics = Metrics::default();
        let good = "{\"health\":\"true\",\"reason\":\"\"}".to_owned();
        assert_eq!(
            run("/health", &healthy(), vec![OK], &metrics),
            (200, good.clone(), vec![ReadKind::Linearizable])
        );
        let leaderless = NodeStatus::default();
        assert_eq!(
            run("/health?serializable=true", &leaderless, vec![OK], &metrics),
            (200, good, vec![ReadKind::Serializable])
        );
        assert_eq!(
            (metrics.health_success.get(), metrics.health_failures.get()),
            (2, 0)
        );
    }

    #[test]
    fn health_names_the_first_failure() {
        let metrics = Metrics::default();
        let bad = |reason: &str| {
            (
                503,
                format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
                Vec::new(),
            )
        };
        let with = |alarms: &[Alarm]| NodeStatus {
            alarms: alarms.to_vec(),
            ..healthy()
        };
        let run = |target: &str, node: &NodeStatus| run(target, node, vec![OK], &metrics);
        assert_eq!(
            run("/health", &with(&[Alarm::NoSpace])),
            bad("ALARM NOSPACE")
        );
        assert_eq!(run("/health", &with(&[Alarm::Other])), bad("ALARM UNKNOWN"));
        let both = with(&[Alarm::NoSpace, Alarm::Corrupt]);
        assert_eq!(run("/health?exclude=NOSPACE", &both), bad("ALARM CORRUPT"));
        assert_eq!(run("/health?exclude=NOSPACE&exclude=CORRUPT", &both).0, 200);
        assert_eq!(
            run("/health", &NodeStatus::default()),
            bad("RAFT NO LEADER")
        );
        assert_eq!(metrics.health_failures.get(), 4);
    }

    #[test]
    fn a_failed_read_is_told_with_its_text() {
        let error = Err("etcdserver: request timed out".to_owned());
        let (status, body, _) = run("/health", &healthy(), vec![error], &Metrics::default());
        assert_eq!(status, 503);
        assert!(body.contains("\"RANGE ERROR:etcdserver: request timed out\""));
    }

    #[test]
    fn livez_and_readyz_say_ok_or_all() {
        let metrics = Metrics::default();
        let run = |target: &str, results| run(target, &healthy(), results, &metrics);
        assert_eq!(
            run("/livez", vec![OK]),
            (200, "ok\n".to_owned(), vec![ReadKind::Serializable])
        );
        let (status, body, reads) = run("/readyz?verbose", vec![OK, OK]);
        assert_eq!(status, 200);
        assert_eq!(
            body,
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
        );
        assert_eq!(reads, [ReadKind::Serializable, ReadKind::Linearizable]);
        let excluding = "/livez?exclude=serializable_read&exclude=foo";
        assert_eq!(run(excluding, vec![]), (200, "ok\n".to_owned(), vec![]));
        assert_eq!(
            run("/readyz/non_learner", vec![]),
            (200, "ok\n".to_owned(), vec![])
        );
    }

    #[test]
    fn a_failed_check_shows_all_of_them() {
        let metrics = Metrics::default();
        let node = NodeStatus {
            alarms: vec![Alarm::Corrupt],
            is_learner: true,
            ..healthy()
        };
        let (status, body, _) = run("/readyz", &node, vec![OK, Err("no".to_owned())], &metrics);
        assert_eq!(status, 503);
        assert_eq!(
            body,
            "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[-]linearizable_read failed: no\n[-]non_learner failed: not supported for learner\n\n"
        );
        let page = crate::metrics::render(&[&metrics]);
        assert!(
            page.contains(
                "etcd_server_healthcheck{name=\"linearizable_read\",type=\"readyz\"} 0\n"
            )
        );
        assert!(
            page.contains(
                "etcd_server_healthcheck{name=\"serializable_read\",type=\"readyz\"} 1\n"
            )
        );
    }

    #[test]
    fn an_answer_before_the_reads_ended_is_no_good_one() {
        let request = HttpRequest::new(Method::Get, "/livez");
        let plan = HealthPlan::all_checks(HealthCheckKind::Livez, &request, &healthy());
        assert_eq!(plan.respond(&Metrics::default()).status, 503);
    }
}
