//! Requests by kind: how long they took in the server and to apply, and who sent them.

use std::sync::OnceLock;
use std::time::Duration;

use super::exposition::{Exposition, HistogramTotals, Type};
use super::value::{Counter, Histogram, doubling};
use crate::method::Shape;

static REQUEST_BOUNDS: [f64; 14] = doubling(0.001);
static APPLY_BOUNDS: [f64; 20] = doubling(0.0001);

/// The kinds of requests, named as etcd's raft entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    Alarm,
    ClusterVersionSet,
    ClusterMemberAttrSet,
    Unknown,
}

impl RequestKind {
    const ALL: [Self; 12] = [
        Self::Range,
        Self::ReadonlyTxn,
        Self::Put,
        Self::DeleteRange,
        Self::Txn,
        Self::Compaction,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::Alarm,
        Self::ClusterVersionSet,
        Self::ClusterMemberAttrSet,
        Self::Unknown,
    ];

    /// The kind that a method's bare name stands for.
    pub fn of_method(name: &str) -> Self {
        match name {
            "Range" => Self::Range,
            "Put" => Self::Put,
            "DeleteRange" => Self::DeleteRange,
            "Txn" => Self::Txn,
            "Compact" => Self::Compaction,
            "LeaseGrant" => Self::LeaseGrant,
            "LeaseRevoke" => Self::LeaseRevoke,
            "Alarm" => Self::Alarm,
            _ => Self::Unknown,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Range => "Range",
            Self::ReadonlyTxn => "ReadonlyTxn",
            Self::Put => "Put",
            Self::DeleteRange => "DeleteRange",
            Self::Txn => "Txn",
            Self::Compaction => "Compaction",
            Self::LeaseGrant => "LeaseGrant",
            Self::LeaseRevoke => "LeaseRevoke",
            Self::Alarm => "Alarm",
            Self::ClusterVersionSet => "ClusterVersionSet",
            Self::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            Self::Unknown => "unknown",
        }
    }
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// A histogram for each kind and outcome. A series appears with its first observation.
#[derive(Debug)]
struct ByKind(Box<[[Histogram; 2]]>);

impl ByKind {
    fn new(bounds: &'static [f64]) -> Self {
        let pair = |_| [Histogram::new(bounds), Histogram::new(bounds)];
        Self(RequestKind::ALL.iter().map(pair).collect())
    }

    fn observe(&self, kind: RequestKind, success: bool, duration: Duration) {
        self.0[kind as usize][usize::from(success)].observe(duration);
    }
}

/// The durations of requests.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    requests: ByKind,
    applies: ByKind,
    ranges: [Histogram; 2],
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            requests: ByKind::new(&REQUEST_BOUNDS),
            applies: ByKind::new(&APPLY_BOUNDS),
            ranges: [Histogram::new(&APPLY_BOUNDS), Histogram::new(&APPLY_BOUNDS)],
        }
    }
}

impl RequestMetrics {
    pub(super) fn request_done(&self, kind: RequestKind, success: bool, duration: Duration) {
        self.requests.observe(kind, success, duration);
    }

    pub(super) fn apply_done(&self, kind: RequestKind, success: bool, duration: Duration) {
        self.applies.observe(kind, success, duration);
    }

    pub(super) fn range_done(&self, success: bool, duration: Duration) {
        self.ranges[usize::from(success)].observe(duration);
    }

    pub(super) fn collect(shards: &[&Self], out: &mut Exposition) {
        for success in [false, true] {
            let side = usize::from(success);
            for kind in RequestKind::ALL {
                let of_request =
                    |shard: &&Self| totals_part(&shard.requests.0[kind as usize][side]);
                if let Some(totals) = observed(shards.iter().map(of_request)) {
                    let labels = [("success", truth(success)), ("type", kind.label())];
                    let name = "etcd_server_request_duration_seconds";
                    out.histogram(name, "Time of requests in the server.", &labels, &totals);
                }
                let of_apply = |shard: &&Self| totals_part(&shard.applies.0[kind as usize][side]);
                if let Some(totals) = observed(shards.iter().map(of_apply)) {
                    let labels = [
                        ("op", kind.label()),
                        ("success", truth(success)),
                        ("version", "v3"),
                    ];
                    let name = "etcd_server_apply_duration_seconds";
                    out.histogram(name, "Time to apply an entry.", &labels, &totals);
                }
            }
            let of_range = |shard: &&Self| totals_part(&shard.ranges[side]);
            if let Some(totals) = observed(shards.iter().map(of_range)) {
                let labels = [("success", truth(success))];
                let name = "etcd_server_range_duration_seconds";
                out.histogram(name, "Time of ranges in the store.", &labels, &totals);
            }
        }
    }
}

/// One shard's share.
pub(super) fn totals_part(histogram: &Histogram) -> HistogramTotals {
    HistogramTotals {
        bounds: histogram.bounds(),
        buckets: histogram.buckets().collect(),
        sum: histogram.sum(),
    }
}

/// The sum of histograms with the same bounds. `None` without any.
pub(super) fn sum(parts: impl Iterator<Item = HistogramTotals>) -> Option<HistogramTotals> {
    parts.reduce(|mut total, part| {
        for (bucket, more) in total.buckets.iter_mut().zip(&part.buckets) {
            *bucket += more;
        }
        total.sum += part.sum;
        total
    })
}

/// The sum, if anything was observed.
fn observed(parts: impl Iterator<Item = HistogramTotals>) -> Option<HistogramTotals> {
    sum(parts).filter(|totals| totals.buckets.iter().any(|count| *count > 0))
}

/// Different client versions that get a series of their own. The name comes from the client, so without
/// a bound anyone could fill the memory of the server and of whatever scrapes it.
const CLIENT_VERSION_COUNT_MAX: usize = 32;
const CLIENT_VERSION_LEN_MAX: usize = 64;
const OTHER_VERSIONS: &str = "other";

/// `etcd_server_client_requests_total`.
#[derive(Debug, Default)]
pub(super) struct ClientRequests {
    /// Filled from the front; the owning shard alone adds one.
    versions: [ClientVersion; CLIENT_VERSION_COUNT_MAX],
    /// Everything that found no place.
    others: StreamCounts,
}

#[derive(Debug, Default)]
struct ClientVersion {
    name: OnceLock<Box<str>>,
    counts: StreamCounts,
}

#[derive(Debug, Default)]
struct StreamCounts {
    unary: Counter,
    stream: Counter,
}

impl StreamCounts {
    fn count(&self, shape: Shape) {
        match shape {
            Shape::Unary => self.unary.inc(),
            Shape::ServerStream | Shape::BidiStream => self.stream.inc(),
        }
    }
}

impl ClientRequests {
    pub(super) fn count(&self, shape: Shape, version: &str) {
        self.counts_of(version).count(shape);
    }

    fn counts_of(&self, version: &str) -> &StreamCounts {
        if version.len() > CLIENT_VERSION_LEN_MAX {
            return &self.others;
        }
        for place in &self.versions {
            if **place.name.get_or_init(|| version.into()) == *version {
                return &place.counts;
            }
        }
        &self.others
    }

    pub(super) fn collect(shards: &[&Self], out: &mut Exposition) {
        let mut totals = std::collections::BTreeMap::<(&str, &str), u64>::new();
        let mut add = |version, counts: &StreamCounts| {
            for (kind, counter) in [("unary", &counts.unary), ("stream", &counts.stream)] {
                if counter.get() > 0 {
                    *totals.entry((version, kind)).or_default() += counter.get();
                }
            }
        };
        for shard in shards {
            add(OTHER_VERSIONS, &shard.others);
            for place in &shard.versions {
                if let Some(name) = place.name.get() {
                    add(name, &place.counts);
                }
            }
        }
        for ((version, kind), count) in totals {
            out.number(
                "etcd_server_client_requests_total",
                "Requests by the version of the client.",
                Type::Counter,
                &[("client_api_version", version), ("type", kind)],
                count as f64,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_own_position() {
        for (position, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, position);
        }
        assert_eq!(RequestKind::of_method("Compact"), RequestKind::Compaction);
    }

    #[test]
    fn only_observed_series_appear() {
        let metrics = RequestMetrics::default();
        metrics.request_done(RequestKind::Put, true, Duration::from_millis(3));
        metrics.apply_done(RequestKind::Txn, false, Duration::from_micros(150));
        metrics.range_done(true, Duration::from_micros(50));
        let mut out = Exposition::default();
        RequestMetrics::collect(&[&metrics, &RequestMetrics::default()], &mut out);
        let page = out.finish();
        for line in [
            "etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"0.002\"} 0\n",
            "etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"0.004\"} 1\n",
            "etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"8.192\"} 1\n",
            "etcd_server_apply_duration_seconds_bucket{op=\"Txn\",success=\"false\",version=\"v3\",le=\"0.0002\"} 1\n",
            "etcd_server_range_duration_seconds_count{success=\"true\"} 1\n",
        ] {
            assert!(page.contains(line), "{line}");
        }
        assert_eq!(page.matches("_count{").count(), 3);
    }

    #[test]
    fn clients_cannot_make_series_without_end() {
        let requests = ClientRequests::default();
        requests.count(Shape::Unary, "3.7");
        requests.count(Shape::Unary, "3.7");
        requests.count(Shape::BidiStream, "3.7");
        requests.count(Shape::Unary, &"x".repeat(CLIENT_VERSION_LEN_MAX + 1));
        for number in 0..100 {
            requests.count(Shape::Unary, &number.to_string());
        }
        let mut out = Exposition::default();
        ClientRequests::collect(&[&requests], &mut out);
        let page = out.finish();
        let name = "etcd_server_client_requests_total";
        assert!(page.contains(&format!(
            "{name}{{client_api_version=\"3.7\",type=\"unary\"}} 2\n"
        )));
        assert!(page.contains(&format!(
            "{name}{{client_api_version=\"3.7\",type=\"stream\"}} 1\n"
        )));
        let others = 100 - (CLIENT_VERSION_COUNT_MAX - 1) + 1;
        assert!(page.contains(&format!(
            "{{client_api_version=\"other\",type=\"unary\"}} {others}\n"
        )));
    }
}
