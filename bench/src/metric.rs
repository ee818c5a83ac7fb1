//! The figures of a measurement, and how they are made of CPU, time and counts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::LoadResult;
use crate::stopwatch::Span;
use crate::usage::Memory;

/// One figure of a case. The unit is part of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    RequestsPerSec,
    RequestsPerServerCpuSec,
    ServerCpuUsPerRequest,
    ServerCpuPercent,
    ServerSwitchesPerSec,
    ClientCpuUsPerRequest,
    LatencyP50Us,
    LatencyP90Us,
    LatencyP99Us,
    LatencyP999Us,
    LatencyMaxUs,
    RssAnonMib,
    RssMib,
    RssPeakMib,
    /// CPU used on the machine by anyone but the server and the client, of all cores: above a few percent the
    /// round was disturbed. Interrupts count here too.
    ForeignCpuPercent,
}

/// The figures of one measurement.
pub type Sample = BTreeMap<Metric, f64>;

impl Metric {
    /// The name in the JSON lines and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSec => "requests_per_sec",
            Self::RequestsPerServerCpuSec => "requests_per_server_cpu_sec",
            Self::ServerCpuUsPerRequest => "server_cpu_us_per_request",
            Self::ServerCpuPercent => "server_cpu_percent",
            Self::ServerSwitchesPerSec => "server_switches_per_sec",
            Self::ClientCpuUsPerRequest => "client_cpu_us_per_request",
            Self::LatencyP50Us => "latency_p50_us",
            Self::LatencyP90Us => "latency_p90_us",
            Self::LatencyP99Us => "latency_p99_us",
            Self::LatencyP999Us => "latency_p999_us",
            Self::LatencyMaxUs => "latency_max_us",
            Self::RssAnonMib => "rss_anon_mib",
            Self::RssMib => "rss_mib",
            Self::RssPeakMib => "rss_peak_mib",
            Self::ForeignCpuPercent => "foreign_cpu_percent",
        }
    }
}

/// What the server used of a span in which nothing was counted.
pub(crate) fn of_span(span: &Span) -> Sample {
    let Some(server) = span.server else {
        return Sample::new();
    };
    let wall = span.wall.as_secs_f64();
    Sample::from([
        (
            Metric::ServerCpuPercent,
            server.on_cpu.as_secs_f64() / wall * 100.0,
        ),
        (
            Metric::ServerSwitchesPerSec,
            server.switch_count as f64 / wall,
        ),
    ])
}

/// What a load gave and used.
pub(crate) fn of_load(span: &Span, result: &LoadResult) -> Sample {
    let report = &result.report;
    let requests = report.request_count as f64;
    let us = |secs: f64| secs * 1e6;
    let per_request = |time: Duration| us(time.as_secs_f64()) / requests;
    let mut sample = of_span(span);
    sample.remove(&Metric::ServerSwitchesPerSec);
    if let Some(server) = span.server {
        let per_second = requests / server.on_cpu.as_secs_f64();
        sample.insert(Metric::RequestsPerServerCpuSec, per_second);
        sample.insert(Metric::ServerCpuUsPerRequest, per_request(server.on_cpu));
    }
    sample.extend([
        (Metric::RequestsPerSec, report.requests_per_sec),
        (
            Metric::ClientCpuUsPerRequest,
            per_request(result.client_cpu),
        ),
        (Metric::LatencyP50Us, us(report.p50_secs)),
        (Metric::LatencyMaxUs, us(report.slowest_secs)),
    ]);
    let rarer = [
        (Metric::LatencyP90Us, report.p90_secs),
        (Metric::LatencyP99Us, report.p99_secs),
        (Metric::LatencyP999Us, report.p999_secs),
    ];
    sample.extend(
        rarer
            .into_iter()
            .filter_map(|(metric, secs)| Some((metric, us(secs?)))),
    );
    sample
}

pub(crate) fn add_memory(sample: &mut Sample, memory: Memory) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    sample.insert(Metric::RssAnonMib, mib(memory.anon_bytes));
    sample.insert(Metric::RssMib, mib(memory.resident_bytes));
    sample.insert(Metric::RssPeakMib, mib(memory.peak_bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LoadReport;
    use crate::usage::CpuUsage;

    fn result() -> LoadResult {
        LoadResult {
            report: LoadReport {
                total_secs: 2.0,
                slowest_secs: 0.02,
                requests_per_sec: 5_000.0,
                request_count: 10_000,
                p50_secs: 0.0005,
                p90_secs: Some(0.001),
                p99_secs: Some(0.002),
                p999_secs: None,
            },
            client_cpu: Duration::from_secs(1),
            answered_count: 11_000,
        }
    }

    #[test]
    fn figures_of_a_load() {
        let span = Span {
            server: Some(CpuUsage {
                on_cpu: Duration::from_millis(500),
                switch_count: 0,
            }),
            machine_busy: Duration::ZERO,
            wall: Duration::from_millis(2_500),
        };
        let sample = of_load(&span, &result());
        assert_eq!(sample[&Metric::RequestsPerServerCpuSec], 20_000.0);
        assert_eq!(sample[&Metric::ServerCpuUsPerRequest], 50.0);
        assert_eq!(sample[&Metric::ClientCpuUsPerRequest], 100.0);
        assert_eq!(sample[&Metric::ServerCpuPercent], 20.0);
        assert_eq!(sample[&Metric::LatencyP50Us], 500.0);
        assert!(!sample.contains_key(&Metric::LatencyP999Us));
    }

    #[test]
    fn without_a_process_there_is_no_server_cpu() {
        let span = Span {
            server: None,
            machine_busy: Duration::ZERO,
            wall: Duration::from_secs(2),
        };
        let sample = of_load(&span, &result());
        assert!(!sample.contains_key(&Metric::ServerCpuUsPerRequest));
        assert_eq!(sample[&Metric::RequestsPerSec], 5_000.0);
    }
}
