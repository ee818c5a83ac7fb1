//! Facts of the node that change rarely: who it is, who leads, alarms and the results of health checks.
//!
//! They are changed outside the hot path, so a lock keeps them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exposition::{Exposition, Type};
use super::value::Counter;
use crate::version;

/// The two endpoints that run checks by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthCheckKind {
    Livez,
    Readyz,
}

impl HealthCheckKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct NodeMetrics(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    member_id: Option<u64>,
    /// Every cluster version seen; the last one is in force.
    cluster_versions: Vec<String>,
    last_leader_id: u64,
    /// By member and name of the alarm: is it up?
    alarms: BTreeMap<(u64, &'static str), bool>,
    checks: BTreeMap<(HealthCheckKind, &'static str), CheckCounts>,
    /// Members of the cluster: those of now, and former ones.
    known_peers: BTreeMap<u64, bool>,
}

#[derive(Debug, Default)]
struct CheckCounts {
    last_is_good: bool,
    good: u64,
    bad: u64,
}

impl NodeMetrics {
    /// This member has this id.
    pub fn set_member_id(&self, id: u64) {
        self.lock().member_id = Some(id);
    }

    /// The cluster version in force, such as `3.7`.
    pub fn set_cluster_version(&self, version: &str) {
        let mut facts = self.lock();
        facts.cluster_versions.retain(|former| former != version);
        facts.cluster_versions.push(version.to_owned());
    }

    /// A member's alarm (`NOSPACE` or `CORRUPT`) was raised or lowered.
    pub fn set_alarm(&self, member_id: u64, alarm: &'static str, is_up: bool) {
        self.lock().alarms.insert((member_id, alarm), is_up);
    }

    /// The members of the cluster, this one too. Those that were and are no more stay, with 0.
    pub fn set_known_peers(&self, ids: Vec<u64>) {
        let mut facts = self.lock();
        facts
            .known_peers
            .values_mut()
            .for_each(|is_known| *is_known = false);
        facts
            .known_peers
            .extend(ids.into_iter().map(|id| (id, true)));
    }

    /// A health check ended.
    pub fn check_done(&self, kind: HealthCheckKind, name: &'static str, is_good: bool) {
        let mut facts = self.lock();
        let counts = facts.checks.entry((kind, name)).or_default();
        counts.last_is_good = is_good;
        if is_good {
            counts.good += 1;
        } else {
            counts.bad += 1;
        }
    }

    /// Counts a change to a leader other than the last real one.
    pub(super) fn on_leader(&self, leader_id: u64, changes: &Counter) {
        let mut facts = self.lock();
        if leader_id != 0 && leader_id != facts.last_leader_id {
            facts.last_leader_id = leader_id;
            changes.inc();
        }
    }

    /// No code panics while it holds the lock, so a poisoned one still guards whole facts.
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The facts are the node's, and one shard keeps them: the first that has any.
    pub(super) fn collect(shards: &[&Self], out: &mut Exposition) {
        let gauge = Type::Gauge;
        let labels = [("server_version", version::ETCD)];
        out.number(
            "etcd_server_version",
            "1 for the version in use.",
            gauge,
            &labels,
            1.0,
        );
        let owner = shards.iter().find(|shard| shard.lock().member_id.is_some());
        let Some(facts) = owner.or(shards.first()).map(|shard| shard.lock()) else {
            return;
        };
        if let Some(id) = facts.member_id {
            let id = format!("{id:x}");
            let labels = [("server_id", id.as_str())];
            out.number(
                "etcd_server_id",
                "1 for the id of this member.",
                gauge,
                &labels,
                1.0,
            );
        }
        for (position, version) in facts.cluster_versions.iter().enumerate() {
            let is_last = position + 1 == facts.cluster_versions.len();
            let labels = [("cluster_version", version.as_str())];
            let help = "1 for the version of the cluster, 0 for former ones.";
            out.number(
                "etcd_cluster_version",
                help,
                gauge,
                &labels,
                f64::from(u8::from(is_last)),
            );
        }
        for ((member_id, alarm), is_up) in &facts.alarms {
            let id = format!("{member_id:x}");
            let labels = [("alarm_type", *alarm), ("server_id", id.as_str())];
            let value = f64::from(u8::from(*is_up));
            out.number(
                "etcd_debugging_server_alarms",
                "1 for an alarm that is up.",
                gauge,
                &labels,
                value,
            );
        }
        collect_peers(&facts, out);
        collect_checks(&facts, out);
    }
}

fn collect_peers(facts: &Facts, out: &mut Exposition) {
    let Some(own) = facts.member_id else { return };
    let own = format!("{own:x}");
    for (id, is_known) in &facts.known_peers {
        let id = format!("{id:x}");
        out.number(
            "etcd_network_known_peers",
            "1 for a member of the cluster, 0 for a former one.",
            Type::Gauge,
            &[("Local", own.as_str()), ("Remote", id.as_str())],
            f64::from(u8::from(*is_known)),
        );
    }
}

fn collect_checks(facts: &Facts, out: &mut Exposition) {
    for ((kind, name), counts) in &facts.checks {
        let labels = [("name", *name), ("type", kind.name())];
        out.number(
            "etcd_server_healthcheck",
            "1 if the check succeeded the last time.",
            Type::Gauge,
            &labels,
            f64::from(u8::from(counts.last_is_good)),
        );
        for (status, count) in [("success", counts.good), ("error", counts.bad)] {
            if count > 0 {
                let labels = [("name", *name), ("status", status), ("type", kind.name())];
                let series = "etcd_server_healthchecks_total";
                let help = "Health checks by their result.";
                out.number(series, help, Type::Counter, &labels, count as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(metrics: &NodeMetrics) -> String {
        let mut out = Exposition::default();
        NodeMetrics::collect(&[&NodeMetrics::default(), metrics], &mut out);
        out.finish()
    }

    #[test]
    fn facts_of_the_node_are_labels() {
        let metrics = NodeMetrics::default();
        metrics.set_member_id(0x2e12);
        metrics.set_cluster_version("3.6");
        metrics.set_cluster_version("3.7");
        metrics.set_alarm(0x2e12, "NOSPACE", true);
        metrics.set_alarm(0x2e12, "NOSPACE", false);
        let text = page(&metrics);
        for line in [
            "etcd_server_id{server_id=\"2e12\"} 1\n",
            "etcd_server_version{server_version=\"3.7.1\"} 1\n",
            "etcd_cluster_version{cluster_version=\"3.6\"} 0\n",
            "etcd_cluster_version{cluster_version=\"3.7\"} 1\n",
            "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"2e12\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn checks_are_counted_by_result() {
        let metrics = NodeMetrics::default();
        metrics.set_member_id(1);
        metrics.check_done(HealthCheckKind::Livez, "serializable_read", true);
        metrics.check_done(HealthCheckKind::Livez, "serializable_read", false);
        let text = page(&metrics);
        let name = "etcd_server_healthcheck";
        assert!(text.contains(&format!(
            "{name}{{name=\"serializable_read\",type=\"livez\"}} 0\n"
        )));
        for status in ["success", "error"] {
            let labels =
                format!("{{name=\"serializable_read\",status=\"{status}\",type=\"livez\"}}");
            assert!(text.contains(&format!("{name}s_total{labels} 1\n")));
        }
    }
}
