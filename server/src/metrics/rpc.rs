//! `grpc_server_*`: calls by method and outcome.

use std::time::Duration;

use net::grpc::Code;

use super::exposition::{Exposition, Type};
use super::requests;
use super::value::{Counter, Histogram};
use crate::method::{METHODS, Method, MethodNo};

/// The number of gRPC's status codes; they count from 0.
const CODE_COUNT: u32 = 17;

/// Prometheus' own choice, in seconds.
static CALL_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Of these packages no series exists before a method was called.
const ON_FIRST_USE: [&str; 2] = ["v3electionpb.", "v3lockpb."];

/// Counters of all methods, by their position in [`METHODS`].
#[derive(Debug)]
pub(super) struct RpcMetrics {
    methods: Box<[MethodCounters]>,
    /// How long calls took, by method; `None` if nobody wants to know.
    durations: Option<Box<[Histogram]>>,
}

#[derive(Debug, Default)]
pub(super) struct MethodCounters {
    pub(super) started: Counter,
    pub(super) messages_received: Counter,
    pub(super) messages_sent: Counter,
    /// By code.
    handled: [Counter; CODE_COUNT as usize],
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            methods: METHODS.iter().map(|_| MethodCounters::default()).collect(),
            durations: None,
        }
    }
}

impl RpcMetrics {
    /// Has the durations of calls measured.
    pub(super) fn measure(&mut self) {
        let histograms = METHODS.iter().map(|_| Histogram::new(&CALL_BOUNDS));
        self.durations = Some(histograms.collect());
    }

    pub(super) fn of(&self, method: MethodNo) -> &MethodCounters {
        &self.methods[method]
    }

    pub(super) fn handled(&self, method: MethodNo, code: Code, elapsed: Duration) {
        self.methods[method].handled[code as usize].inc();
        if let Some(durations) = &self.durations {
            durations[method].observe(elapsed);
        }
    }

    pub(super) fn collect(shards: &[&Self], out: &mut Exposition) {
        for (number, method) in METHODS.iter().enumerate() {
            let sum = |counter: fn(&MethodCounters) -> &Counter| -> u64 {
                shards
                    .iter()
                    .map(|shard| counter(shard.of(number)).get())
                    .sum()
            };
            let started = sum(|counters| &counters.started);
            let is_late = ON_FIRST_USE
                .iter()
                .any(|package| method.service().starts_with(package));
            if is_late && started == 0 {
                continue;
            }
            let received = sum(|counters| &counters.messages_received);
            let sent = sum(|counters| &counters.messages_sent);
            collect_messages(out, method, [started, received, sent]);
            collect_handled(shards, out, number, method);
            collect_durations(shards, out, number, method);
        }
    }
}

fn collect_messages(out: &mut Exposition, method: &Method, counts: [u64; 3]) {
    let families = [
        ("grpc_server_started_total", "Calls that were started."),
        (
            "grpc_server_msg_received_total",
            "Messages received from clients.",
        ),
        ("grpc_server_msg_sent_total", "Messages sent to clients."),
    ];
    let labels = [
        ("grpc_method", method.name()),
        ("grpc_service", method.service()),
        ("grpc_type", method.shape.label()),
    ];
    for ((name, help), count) in families.into_iter().zip(counts) {
        out.number(name, help, Type::Counter, &labels, count as f64);
    }
}

fn collect_handled(shards: &[&RpcMetrics], out: &mut Exposition, number: usize, method: &Method) {
    for code in (0..CODE_COUNT).filter_map(Code::from_number) {
        let count: u64 = shards
            .iter()
            .map(|shard| shard.of(number).handled[code as usize].get())
            .sum();
        let labels = [
            ("grpc_code", code.name()),
            ("grpc_method", method.name()),
            ("grpc_service", method.service()),
            ("grpc_type", method.shape.label()),
        ];
        let help = "Calls that were completed, by their status.";
        out.number(
            "grpc_server_handled_total",
            help,
            Type::Counter,
            &labels,
            count as f64,
        );
    }
}

fn collect_durations(shards: &[&RpcMetrics], out: &mut Exposition, number: usize, method: &Method) {
    let durations = shards.iter().filter_map(|shard| shard.durations.as_ref());
    let parts = durations.map(|durations| requests::totals_part(&durations[number]));
    if let Some(totals) = requests::sum(parts) {
        let labels = [
            ("grpc_method", method.name()),
            ("grpc_service", method.service()),
            ("grpc_type", method.shape.label()),
        ];
        let help = "Time from a call's request to its status, in seconds.";
        out.histogram("grpc_server_handling_seconds", help, &labels, &totals);
    }
}

/// `etcd_network_server_stream_failures_total`: streams that ended by an error that is not their client's leaving. A
/// series appears with its first failure.
#[derive(Debug, Default)]
pub struct StreamFailures {
    pub watch_receive: Counter,
    pub watch_send: Counter,
    pub keep_alive_receive: Counter,
    pub keep_alive_send: Counter,
}

impl StreamFailures {
    pub(super) fn collect(shards: &[&Self], out: &mut Exposition) {
        type Pick = fn(&StreamFailures) -> &Counter;
        let series: [(&str, &str, Pick); 4] = [
            ("lease-keepalive", "receive", |s| &s.keep_alive_receive),
            ("lease-keepalive", "send", |s| &s.keep_alive_send),
            ("watch", "receive", |s| &s.watch_receive),
            ("watch", "send", |s| &s.watch_send),
        ];
        for (api, kind, pick) in series {
            let count: u64 = shards.iter().map(|shard| pick(shard).get()).sum();
            if count > 0 {
                out.number(
                    "etcd_network_server_stream_failures_total",
                    "Streams that ended by an error.",
                    Type::Counter,
                    &[("API", api), ("Type", kind)],
                    count as f64,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method;

    fn page(shards: &[&RpcMetrics]) -> String {
        let mut out = Exposition::default();
        RpcMetrics::collect(shards, &mut out);
        out.finish()
    }

    #[test]
    fn all_but_lock_and_election_are_there_from_the_start() {
        let text = page(&[&RpcMetrics::default()]);
        let count = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(count("grpc_server_started_total{"), 45);
        assert_eq!(count("grpc_server_msg_received_total{"), 45);
        assert_eq!(count("grpc_server_msg_sent_total{"), 45);
        assert_eq!(count("grpc_server_handled_total{"), 45 * 17);
        assert!(!text.contains("v3lockpb"));
    }

    #[test]
    fn durations_are_measured_if_wanted() {
        let put = method::find("/etcdserverpb.KV/Put").unwrap();
        let name = "grpc_server_handling_seconds";
        assert!(!page(&[&RpcMetrics::default()]).contains(name));
        let (mut one, mut two) = (RpcMetrics::default(), RpcMetrics::default());
        one.measure();
        two.measure();
        one.handled(put, Code::Ok, Duration::from_millis(7));
        two.handled(put, Code::Internal, Duration::from_millis(20));
        let text = page(&[&one, &two]);
        let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        for line in [
            format!("# TYPE {name} histogram\n"),
            format!("{name}_bucket{{{labels},le=\"0.005\"}} 0\n"),
            format!("{name}_bucket{{{labels},le=\"0.01\"}} 1\n"),
            format!("{name}_bucket{{{labels},le=\"0.025\"}} 2\n"),
            format!("{name}_sum{{{labels}}} 0.027\n"),
            format!("{name}_count{{{labels}}} 2\n"),
        ] {
            assert!(text.contains(&line), "{line}");
        }
        // All but lock and election are there from the start.
        assert_eq!(text.matches(&format!("{name}_count{{")).count(), 45);
    }

    #[test]
    fn shards_are_summed_and_lines_look_like_etcds() {
        let put = method::find("/etcdserverpb.KV/Put").unwrap();
        let lock = method::find("/v3lockpb.Lock/Lock").unwrap();
        let (one, two) = (RpcMetrics::default(), RpcMetrics::default());
        one.of(put).started.inc();
        two.of(put).started.inc();
        two.handled(put, Code::Ok, Duration::ZERO);
        two.of(lock).started.inc();
        let text = page(&[&one, &two]);
        for line in [
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 2\n",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n",
            "grpc_server_started_total{grpc_method=\"Lock\",grpc_service=\"v3lockpb.Lock\",grpc_type=\"unary\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
