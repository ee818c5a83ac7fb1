//! What is measured: cases, the metrics each gives, and one measurement of one server.
//!
//! Each measurement has a server of its own in a fresh directory. Before the measured span the server is filled and
//! warmed up by the same load, so that dialling, growth of tables and first page faults are not in the figures.
//! The span lies around the whole run of the tool: the server's CPU time includes accepting the connections.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Load, LoadError, LoadKind, LoadResult, LoadTool};
use crate::server::{RunningServer, ServerCommand, ServerError};
use crate::usage::{self, CpuClock, CpuUsage, Memory};

/// How long a filled server is left alone before its idle CPU is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// The measured loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Puts, many in flight.
    Put,
    /// Linearizable point reads, many in flight.
    Range,
    /// Puts, one in flight: latency.
    PutDepth1,
    /// Nothing is asked.
    Idle,
}

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

/// Sizes of the loads and where the processes run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub tool: LoadTool,
    pub server_core: Option<usize>,
    /// Where data directories are made.
    pub folder: PathBuf,
    pub ready_limit: Duration,
    pub conn_count: u32,
    pub client_count: u32,
    pub put_total: u64,
    pub range_total: u64,
    pub depth1_total: u64,
    pub value_size_bytes: u32,
    /// Keys written before, and the keys that puts choose from.
    pub key_space: u64,
    pub idle: Duration,
}

/// A measurement failed; its figures are thrown away.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("measuring: {0}")]
    Io(#[from] std::io::Error),
}

impl Case {
    pub const ALL: [Self; 4] = [Self::Put, Self::Range, Self::PutDepth1, Self::Idle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range => "range",
            Self::PutDepth1 => "put_depth1",
            Self::Idle => "idle",
        }
    }

    /// Measures this case once, on a server started for it.
    ///
    /// # Errors
    /// [`CaseError`] if the server or the tool failed in any way.
    pub fn measure(
        self,
        command: &ServerCommand,
        settings: &Settings,
    ) -> Result<Sample, CaseError> {
        let server = command.start(&settings.folder, settings.server_core, settings.ready_limit)?;
        settings.fill(&server)?;
        let sample = match self.load(settings) {
            Some(load) => settings.measure_load(&load, &server)?,
            None => settings.measure_idle(&server)?,
        };
        server.stop()?;
        Ok(sample)
    }

    fn load(self, settings: &Settings) -> Option<Load> {
        let put = LoadKind::Put {
            key_space: settings.key_space,
        };
        let (kind, total) = match self {
            Self::Put => (put, settings.put_total),
            Self::Range => (LoadKind::Range, settings.range_total),
            Self::PutDepth1 => {
                let load = settings.load(put, settings.depth1_total);
                return Some(Load {
                    conn_count: 1,
                    client_count: 1,
                    ..load
                });
            }
            Self::Idle => return None,
        };
        Some(settings.load(kind, total))
    }
}

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

/// CPU of the server and of the machine over one span.
struct Span {
    server: CpuUsage,
    machine_busy: Duration,
    wall: Duration,
}

impl Settings {
    fn load(&self, kind: LoadKind, total: u64) -> Load {
        Load {
            kind,
            conn_count: self.conn_count,
            client_count: self.client_count,
            total,
            value_size_bytes: self.value_size_bytes,
        }
    }

    fn fill(&self, server: &RunningServer) -> Result<(), CaseError> {
        let key_space = self.key_space;
        let short = self.load(LoadKind::FillShort, 64);
        self.tool.run(
            &Load {
                conn_count: 1,
                client_count: 1,
                ..short
            },
            server.endpoint(),
        )?;
        self.tool.run(
            &self.load(LoadKind::Fill { key_space }, key_space),
            server.endpoint(),
        )?;
        Ok(())
    }

    fn measure_load(&self, load: &Load, server: &RunningServer) -> Result<Sample, CaseError> {
        // A tenth warms up, but enough of it to use each connection.
        let warm_up = (load.total / 10).max(u64::from(load.client_count));
        self.tool.run(
            &Load {
                total: warm_up,
                ..*load
            },
            server.endpoint(),
        )?;
        let (span, result) =
            Span::around(server, || Ok(self.tool.run(load, server.endpoint())?))?;
        let mut sample = load_metrics(&span, &result);
        add_memory(&mut sample, Memory::of(server.pid())?);
        add_foreign(&mut sample, &span, result.client_cpu)?;
        Ok(sample)
    }

    fn measure_idle(&self, server: &RunningServer) -> Result<Sample, CaseError> {
        thread::sleep(SETTLE.min(self.idle));
        let (span, ()) = Span::around(server, || {
            thread::sleep(self.idle);
            Ok(())
        })?;
        let wall = span.wall.as_secs_f64();
        let mut sample = Sample::from([
            (
                Metric::ServerCpuPercent,
                span.server.on_cpu.as_secs_f64() / wall * 100.0,
            ),
            (
                Metric::ServerSwitchesPerSec,
                span.server.switch_count as f64 / wall,
            ),
        ]);
        add_memory(&mut sample, Memory::of(server.pid())?);
        add_foreign(&mut sample, &span, Duration::ZERO)?;
        Ok(sample)
    }
}

impl Span {
    fn around<T>(
        server: &RunningServer,
        work: impl FnOnce() -> Result<T, CaseError>,
    ) -> Result<(Self, T), CaseError> {
        let busy_before = usage::busy_ticks()?;
        let started = Instant::now();
        let mut clock = CpuClock::start(server.pid())?;
        let result = work()?;
        let server = clock.read()?;
        let wall = started.elapsed();
        let machine_busy = usage::busy_ticks()?.saturating_sub(busy_before);
        Ok((
            Self {
                server,
                machine_busy,
                wall,
            },
            result,
        ))
    }
}

fn load_metrics(span: &Span, result: &LoadResult) -> Sample {
    let report = &result.report;
    let requests = report.request_count as f64;
    let server_secs = span.server.on_cpu.as_secs_f64();
    let us = |secs: f64| secs * 1e6;
    let mut sample = Sample::from([
        (Metric::RequestsPerSec, report.requests_per_sec),
        (Metric::RequestsPerServerCpuSec, requests / server_secs),
        (Metric::ServerCpuUsPerRequest, us(server_secs) / requests),
        (
            Metric::ServerCpuPercent,
            server_secs / span.wall.as_secs_f64() * 100.0,
        ),
        (
            Metric::ClientCpuUsPerRequest,
            us(result.client_cpu.as_secs_f64()) / requests,
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

fn add_memory(sample: &mut Sample, memory: Memory) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    sample.insert(Metric::RssAnonMib, mib(memory.anon_bytes));
    sample.insert(Metric::RssMib, mib(memory.resident_bytes));
    sample.insert(Metric::RssPeakMib, mib(memory.peak_bytes));
}

fn add_foreign(sample: &mut Sample, span: &Span, client_cpu: Duration) -> Result<(), CaseError> {
    let own = span.server.on_cpu + client_cpu;
    let foreign = span.machine_busy.saturating_sub(own).as_secs_f64();
    let cores = thread::available_parallelism()?.get() as f64;
    let percent = foreign / (span.wall.as_secs_f64() * cores) * 100.0;
    sample.insert(Metric::ForeignCpuPercent, percent);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LoadReport;

    #[test]
    fn figures_of_a_load() {
        let report = LoadReport {
            total_secs: 2.0,
            slowest_secs: 0.02,
            requests_per_sec: 5_000.0,
            request_count: 10_000,
            p50_secs: 0.0005,
            p90_secs: Some(0.001),
            p99_secs: Some(0.002),
            p999_secs: None,
        };
        let result = LoadResult {
            report,
            client_cpu: Duration::from_secs(1),
        };
        let server = CpuUsage {
            on_cpu: Duration::from_millis(500),
            switch_count: 0,
        };
        let span = Span {
            server,
            machine_busy: Duration::ZERO,
            wall: Duration::from_millis(2_500),
        };
        let sample = load_metrics(&span, &result);
        assert_eq!(sample[&Metric::RequestsPerServerCpuSec], 20_000.0);
        assert_eq!(sample[&Metric::ServerCpuUsPerRequest], 50.0);
        assert_eq!(sample[&Metric::ClientCpuUsPerRequest], 100.0);
        assert_eq!(sample[&Metric::ServerCpuPercent], 20.0);
        assert_eq!(sample[&Metric::LatencyP50Us], 500.0);
        assert!(!sample.contains_key(&Metric::LatencyP999Us));
    }
}
