//! Metrics under etcd's names, so that its dashboards and alerts work.
//!
//! One [`Metrics`] per shard holds plain numbers that only this shard changes; a scrape adds those of all
//! shards up and writes the page. Types and buckets are etcd's, even where a `…_total` is a gauge.
//!
//! - Only what is fed appears: a gauge from its first value on, a labelled series from its first
//!   observation on (but `grpc_server_*` from the start). A name that etcore cannot feed is missing rather
//!   than a lie; whoever adds the feature adds the series.
//! - No string that a client chooses makes series without end.
//!
//! ```text
//! family.rs      the table of series without labels: names, helps, buckets
//! requests.rs    durations by kind of request, client versions      rpc.rs  calls by method and code
//! node.rs        versions, ids, alarms, health checks               process.rs  /proc
//! value.rs       counter, gauge, histogram                          exposition.rs  the text format
//! ```

mod exposition;
mod family;
mod node;
mod process;
mod requests;
mod rpc;
mod value;

use std::time::Duration;

use net::grpc::Code;

use crate::method::{MethodNo, Shape};
use exposition::{Exposition, Type};

pub use family::Metrics;
pub use node::HealthCheckKind;
pub use requests::RequestKind;
pub use value::{Counter, Gauge, Histogram};

/// The Content-Type of [`render`]'s page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Writes the page that a scrape gets.
///
/// Reads a few files of `/proc`, which the kernel makes from memory. The first of `shards` is the caller's
/// own; it counts the scrape.
pub fn render(shards: &[&Metrics]) -> String {
    let mut out = Exposition::default();
    family::collect(shards, &mut out);
    process::collect(&mut out);
    collect_scrapes(shards, &mut out);
    if let Some(own) = shards.first() {
        own.scrapes.inc();
    }
    out.finish()
}

/// Scrapes that ended before this one, which is itself in flight.
fn collect_scrapes(shards: &[&Metrics], out: &mut Exposition) {
    let done: u64 = shards.iter().map(|shard| shard.scrapes.get()).sum();
    for (code, count) in [("200", done), ("500", 0), ("503", 0)] {
        out.number(
            "promhttp_metric_handler_requests_total",
            "Scrapes by HTTP status.",
            Type::Counter,
            &[("code", code)],
            count as f64,
        );
    }
    let name = "promhttp_metric_handler_requests_in_flight";
    out.number(
        name,
        "Scrapes that are being answered.",
        Type::Gauge,
        &[],
        1.0,
    );
}

impl Metrics {
    /// Of a new shard; with the durations of calls by method, if they are wanted.
    pub fn new(call_durations: bool) -> Self {
        let mut metrics = Self::default();
        if call_durations {
            metrics.rpc.measure();
        }
        metrics
    }

    /// A call was taken.
    pub fn rpc_started(&self, method: MethodNo) {
        self.rpc.of(method).started.inc();
    }

    /// A message of `len` bytes came.
    pub fn rpc_received(&self, method: MethodNo, len: usize) {
        self.rpc.of(method).messages_received.inc();
        self.client_received_bytes.add(len as u64);
    }

    /// A message of `len` bytes was handed to the connection.
    pub fn rpc_sent(&self, method: MethodNo, len: usize) {
        self.rpc.of(method).messages_sent.inc();
        self.client_sent_bytes.add(len as u64);
    }

    /// A call ended.
    pub fn rpc_handled(&self, method: MethodNo, code: Code, elapsed: Duration) {
        self.rpc.handled(method, code, elapsed);
    }

    /// A call came from a client that says it has this version of the API.
    pub fn client_request(&self, shape: Shape, version: &str) {
        self.client_requests.count(shape, version);
    }

    /// A request of the method with this bare name was answered; `success` unless proposing it failed.
    pub fn request_done(&self, method_name: &str, success: bool, elapsed: Duration) {
        self.requests
            .request_done(RequestKind::of_method(method_name), success, elapsed);
    }

    /// A read was answered; `success` unless it was refused.
    pub fn read_done(&self, kind: RequestKind, success: bool, elapsed: Duration) {
        self.requests.request_done(kind, success, elapsed);
    }

    /// One entry was applied, or refused by its apply.
    pub fn apply_done(&self, kind: RequestKind, success: bool, elapsed: Duration) {
        self.requests.apply_done(kind, success, elapsed);
    }

    /// One range was read in the store.
    pub fn range_done(&self, success: bool, elapsed: Duration) {
        self.requests.range_done(success, elapsed);
    }

    /// Raft says who leads; 0 is nobody.
    pub fn on_leadership(&self, leader_id: u64, is_leader: bool) {
        self.node.on_leader(leader_id, &self.leader_changes);
        self.has_leader.set_bool(leader_id != 0);
        self.is_leader.set_bool(is_leader);
    }

    /// A lease was granted for so long.
    pub fn lease_granted(&self, ttl_seconds: i64) {
        self.lease_granted.inc();
        self.lease_ttl.observe_float(ttl_seconds as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::method;

    #[test]
    fn two_shards_make_one_page_in_prometheus_order() {
        let (one, two) = (Metrics::default(), Metrics::default());
        one.put_total.inc();
        two.put_total.add(2);
        one.wal_fsync.observe(Duration::from_micros(300));
        two.wal_fsync.observe(Duration::from_millis(3));
        one.proposals_applied.set(7);
        let page = render(&[&one, &two]);
        for text in [
            "# TYPE etcd_mvcc_put_total counter\netcd_mvcc_put_total 3\n",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1\n",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 2\n",
            "# TYPE etcd_server_proposals_applied_total gauge\netcd_server_proposals_applied_total 7\n",
        ] {
            assert!(page.contains(text), "{text}");
        }
        let names: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        assert!(
            names.windows(2).all(|pair| pair[0] < pair[1]),
            "unsorted or doubled families"
        );
    }

    #[test]
    fn a_scrape_is_counted_by_the_next_one() {
        let metrics = Metrics::default();
        for count in 0..3 {
            let line = format!("promhttp_metric_handler_requests_total{{code=\"200\"}} {count}\n");
            assert!(render(&[&metrics]).contains(&line));
        }
    }

    #[test]
    fn what_nobody_feeds_is_not_on_the_page() {
        let page = render(&[&Metrics::default()]);
        for name in [
            "etcd_server_has_leader",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_server_id",
        ] {
            assert!(!page.contains(name), "{name}");
        }
        assert!(page.contains("\netcd_server_slow_apply_total 0\n"));
    }

    #[test]
    fn leaders_are_counted_when_they_change_to_a_real_one() {
        let metrics = Metrics::default();
        for leader in [0, 5, 5, 0, 5, 6, 0] {
            metrics.on_leadership(leader, leader == 5);
        }
        assert_eq!(metrics.leader_changes.get(), 2);
        assert_eq!(metrics.has_leader.get(), Some(0.0));
        assert_eq!(metrics.is_leader.get(), Some(0.0));
    }

    #[test]
    fn calls_feed_the_byte_counters_too() {
        let metrics = Metrics::default();
        let put = method::find("/etcdserverpb.KV/Put").unwrap();
        metrics.rpc_started(put);
        metrics.rpc_received(put, 10);
        metrics.rpc_sent(put, 20);
        metrics.rpc_handled(put, Code::Ok, Duration::ZERO);
        assert_eq!(metrics.client_received_bytes.get(), 10);
        assert_eq!(metrics.client_sent_bytes.get(), 20);
    }

    #[test]
    fn every_line_parses_and_no_series_is_doubled() {
        let metrics = Metrics::default();
        metrics.on_leadership(1, true);
        metrics.lease_granted(60);
        metrics.request_done("Put", true, Duration::from_millis(1));
        metrics.client_request(Shape::Unary, "3.7\"\n\\");
        let page = render(&[&metrics]);
        let mut series = BTreeSet::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect(line);
            assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name.to_owned()), "doubled: {name}");
        }
        assert!(series.len() > 900);
    }
}
