//! What an etcd is worst at: crowds of watchers, clients that stand still, leases that end together, maintenance, starts.
//!
//! ```text
//!   round 1: case 1 on etcd, case 1 on etcore, case 2 on etcd, ..      each on a server of its own, in a fresh directory
//!   round 2: ..
//! ```
//!
//! Each case is a file: it gives figures by name. [`report`] makes tables and promises of them. All of them run on
//! [`Crowd`](crate::own::crowd) or on the loads of [`crate::own`], the server on one core and the client on another.

mod idle;
mod keepalive;
mod maintenance;
mod report;
mod stalled;
mod stampede;
mod starts;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::case::{CaseError, Settings};
use crate::own::OwnClient;
use crate::server::{RunningServer, ServerCommand};
use crate::stopwatch::Span;

/// The cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extreme {
    /// Many watchers of one key.
    Watch,
    /// Memory of connections, streams and watchers that have nothing to do.
    Idle,
    /// Puts beside watchers that do not read.
    Stalled,
    /// Keep-alives on streams.
    KeepAlive,
    /// Leases that end in the same second.
    Stampede,
    /// A prober beside a compaction, a snapshot and a defragmentation.
    Maintenance,
    /// Until the first answer.
    Starts,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct ExtremesRun {
    pub etcd: ServerCommand,
    pub etcore: ServerCommand,
    pub cases: Vec<Extreme>,
    pub round_count: u32,
    /// The cores, the folder, the sizes of keys and values, the load of puts beside stalled watchers.
    pub settings: Settings,
    pub client: OwnClient,
    pub sizes: ExtremeSizes,
}

/// Sizes of the cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExtremeSizes {
    pub conn_count: usize,
    /// Of one key, on `conn_count` connections.
    pub watcher_count: usize,
    /// Least length of a measured part.
    pub measured: Duration,
    pub idle_conn_count: usize,
    pub idle_streams_per_conn: usize,
    pub idle_watchers_per_stream: usize,
    /// What a server is left alone for before its memory is read.
    pub settle: Duration,
    pub stalled_count: usize,
    /// Rounds of that case at least: its spread is judged.
    pub stalled_round_count: u32,
    pub lease_count: u64,
    pub keepalives_in_flight: usize,
    pub stampede_count: u64,
    pub maintenance_key_count: u64,
    pub maintenance_value_len: usize,
    pub start_key_count: u64,
}

/// Figures by name; the unit is part of it.
pub type Figures = BTreeMap<&'static str, f64>;

/// Of each case the rounds, etcd's figures and etcore's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExtremesResult {
    pub cases: BTreeMap<Extreme, Vec<(Figures, Figures)>>,
}

impl Extreme {
    pub const ALL: [Self; 7] = [
        Self::Watch,
        Self::Idle,
        Self::Stalled,
        Self::KeepAlive,
        Self::Stampede,
        Self::Maintenance,
        Self::Starts,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Idle => "idle_watchers",
            Self::Stalled => "stalled",
            Self::KeepAlive => "keepalive",
            Self::Stampede => "stampede",
            Self::Maintenance => "maintenance",
            Self::Starts => "starts",
        }
    }
}

impl ExtremesRun {
    /// Runs all rounds. `progress` is told of each measurement.
    ///
    /// # Errors
    /// The first failure ends it.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<ExtremesResult, CaseError> {
        let mut result = ExtremesResult::default();
        let round_count = |case| match case {
            Extreme::Stalled => self.round_count.max(self.sizes.stalled_round_count),
            _ => self.round_count,
        };
        let most = self.cases.iter().copied().map(round_count).max();
        for round in 0..most.unwrap_or(0) {
            for &case in &self.cases {
                if round >= round_count(case) {
                    continue;
                }
                let mut measure = |name: &str, command| {
                    let figures = self.measure(case, command, round)?;
                    let (case, no) = (case.name(), round + 1);
                    progress(&format!("round {no} {case} {name}: {figures:.2?}"));
                    Ok::<_, CaseError>(figures)
                };
                let pair = (
                    measure("etcd", &self.etcd)?,
                    measure("etcore", &self.etcore)?,
                );
                result.cases.entry(case).or_default().push(pair);
            }
        }
        Ok(result)
    }

    fn measure(
        &self,
        case: Extreme,
        command: &ServerCommand,
        round: u32,
    ) -> Result<Figures, CaseError> {
        match case {
            Extreme::Watch => watch::measure(self, command),
            Extreme::Idle => idle::measure(self, command),
            Extreme::Stalled => stalled::measure(self, command, round),
            Extreme::KeepAlive => keepalive::measure(self, command),
            Extreme::Stampede => stampede::measure(self, command),
            Extreme::Maintenance => maintenance::measure(self, command),
            Extreme::Starts => starts::measure(self, command),
        }
    }

    fn start(&self, command: &ServerCommand) -> Result<RunningServer, CaseError> {
        let settings = &self.settings;
        Ok(command.start(&settings.folder, settings.server_core, settings.ready_limit)?)
    }
}

/// The server's CPU, and whether the machine was ours. Not to be asked while this thread is kept to one core, as it counts
/// the cores.
fn span_figures(span: &Span, client_cpu: Duration) -> Result<Figures, CaseError> {
    let on_cpu = span.server.map_or(Duration::ZERO, |usage| usage.on_cpu);
    Ok(Figures::from([
        (
            "server_cpu_percent",
            on_cpu.as_secs_f64() / span.wall.as_secs_f64() * 100.0,
        ),
        ("foreign_cpu_percent", span.foreign_percent(client_cpu)?),
    ]))
}

/// Things done in a span, by the server's CPU time and by the clock.
fn per_cpu(span: &Span, count: u64) -> [f64; 2] {
    let on_cpu = span.server.map_or(Duration::ZERO, |usage| usage.on_cpu);
    [
        count as f64 / on_cpu.as_secs_f64(),
        count as f64 / span.wall.as_secs_f64(),
    ]
}

fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
