//! How steady a server answers while it does its own work: checkpoints, and a compaction of many revisions.
//!
//! ```text
//! each round, etcd then etcore, each in a fresh directory:
//!   fill         keys, each overwritten a number of times: those revisions are there to be compacted
//!   quiet        the prober alone                                        ┐ before each, the server is waited for
//!   background   the prober and a paced writer: checkpoints have work    │ until it uses next to no CPU; the turn
//!   compaction   the same, and a compaction of the fill                  ┘ histogram is read before and after
//! ```
//!
//! The prober is [`crate::own::paced`]. [`report`] makes the tables and the lines that pass or miss.

mod report;
mod turns;

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::case::{CaseError, Settings};
use crate::load::{Client, Extent, Load, Op, Order};
use crate::own::errand::Errand;
use crate::own::paced::{self, Pace, PacedResult, ProbeLatencies};
use crate::own::{self, OwnClient};
use crate::server::{RunningServer, ServerCommand};
use crate::stopwatch::Stopwatch;
use crate::usage::CpuClock;

pub use self::report::sizes_text;
pub use self::turns::{Bucket, Turns};

/// A server that uses less than so much of a core, twice in a row, has done its work.
const QUIET_CPU_SHARE: f64 = 0.03;

/// After so many looks at its CPU time a server is measured as it is.
const QUIET_LOOKS_MAX: u32 = 60;

/// What `etcore-bench steady` was asked to do.
#[derive(Debug, Clone)]
pub struct SteadyRun {
    pub etcd: ServerCommand,
    pub etcore: ServerCommand,
    pub round_count: u32,
    /// The cores, the folder, the sizes of keys and values, the connections of the fill.
    pub settings: Settings,
    pub client: OwnClient,
    pub sizes: SteadySizes,
}

/// Sizes of the phases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SteadySizes {
    pub key_count: u64,
    /// Writes of each key after its first: `key_count` times these are the revisions that go.
    pub overwrite_count: u64,
    /// Of a phase, at least.
    pub phase: Duration,
    pub background_puts_per_sec: u32,
    /// How long a look at the server's CPU time takes before it counts as quiet.
    pub look: Duration,
}

/// What the server does beside the probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Quiet,
    Background,
    Compaction,
    /// The part of the one before in which the compaction was not answered yet.
    WhileCompacting,
}

/// Figures by name; the unit is part of it.
pub type Figures = BTreeMap<&'static str, f64>;

/// What one phase on one server gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    pub figures: Figures,
    /// `None`: the server does not tell.
    pub turns: Option<Turns>,
}

/// All phases of one server in one round.
pub type Phases = BTreeMap<Phase, Measured>;

/// The rounds, etcd's phases and etcore's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SteadyResult {
    pub rounds: Vec<(Phases, Phases)>,
}

impl Phase {
    pub const ALL: [Self; 4] = [
        Self::Quiet,
        Self::Background,
        Self::Compaction,
        Self::WhileCompacting,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Background => "background",
            Self::Compaction => "compaction",
            Self::WhileCompacting => "while_compacting",
        }
    }
}

impl SteadyRun {
    /// Runs all rounds. `progress` is told of each phase.
    ///
    /// # Errors
    /// The first failure ends it.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<SteadyResult, CaseError> {
        let mut result = SteadyResult::default();
        for round_no in 1..=self.round_count {
            let mut measure = |name: &str, command| {
                let label = format!("round {round_no}/{} {name}", self.round_count);
                self.measure(command, |line| progress(&format!("{label} {line}")))
            };
            let pair = (
                measure("etcd", &self.etcd)?,
                measure("etcore", &self.etcore)?,
            );
            result.rounds.push(pair);
        }
        Ok(result)
    }

    fn measure(
        &self,
        command: &ServerCommand,
        mut progress: impl FnMut(&str),
    ) -> Result<Phases, CaseError> {
        let settings = &self.settings;
        let server = command.start(&settings.folder, settings.server_core, settings.ready_limit)?;
        let client = Client::Own(self.client);
        client.run(&self.fill(), server.endpoint(), &mut Stopwatch::of_nobody())?;
        let filled = own::revision(server.endpoint()).map_err(crate::load::LoadError::from)?;
        let mut phases = Phases::new();
        let mut add = |phase: Phase, measured: Measured| {
            progress(&report::progress_line(phase, &measured));
            phases.insert(phase, measured);
        };
        let quiet = self.pace(0, None);
        let (measured, _) = self.phase(&server, &quiet)?;
        add(Phase::Quiet, measured);
        let background = self.sizes.background_puts_per_sec;
        let (measured, _) = self.phase(&server, &self.pace(background, None))?;
        add(Phase::Background, measured);
        let (measured, result) = self.phase(&server, &self.pace(background, Some(filled)))?;
        add(Phase::Compaction, measured);
        let part = Measured {
            figures: result
                .beside
                .first()
                .map(latency_figures)
                .unwrap_or_default(),
            turns: None,
        };
        add(Phase::WhileCompacting, part);
        server.stop()?;
        Ok(phases)
    }

    /// Each key once and then each again, as often as was asked for.
    fn fill(&self) -> Load {
        let sizes = &self.settings.sizes;
        let requests = self.sizes.key_count * (1 + self.sizes.overwrite_count);
        Load {
            op: Op::Put,
            order: Order::Sequential,
            key_space: self.sizes.key_count,
            key_size_bytes: sizes.key_size_bytes,
            value_size_bytes: sizes.value_size_bytes,
            conn_count: sizes.conn_count,
            client_count: sizes.client_count,
            warm_up: Extent::requests(0),
            measured: Extent::requests(requests),
        }
    }

    fn pace(&self, background_puts_per_sec: u32, compact: Option<i64>) -> Pace {
        Pace {
            load: Load {
                order: Order::Random,
                ..self.fill()
            },
            background_puts_per_sec,
            errands: compact
                .map(|revision| vec![Errand::Compact(revision)])
                .into_iter()
                .collect(),
            endures_refusals: false,
            at_least: self.sizes.phase,
        }
    }

    /// Waits until the server is quiet, then runs the prober.
    fn phase(
        &self,
        server: &RunningServer,
        pace: &Pace,
    ) -> Result<(Measured, PacedResult), CaseError> {
        wait_quiet(server.pid(), self.sizes.look)?;
        let endpoint = server.endpoint();
        let before = Turns::scrape(endpoint)?;
        let mut stopwatch = Stopwatch::of(server.pid());
        let result = paced::run(&self.client, pace, endpoint, &mut stopwatch)
            .map_err(crate::load::LoadError::from)?;
        let after = Turns::scrape(endpoint)?;
        let turns = before
            .zip(after)
            .and_then(|(before, after)| after.since(&before));
        let span = stopwatch.span()?;
        let mut figures = latency_figures(&result.all);
        let secs = result.elapsed.as_secs_f64();
        let server_cpu = span.server.map_or(Duration::ZERO, |usage| usage.on_cpu);
        figures.extend([
            ("late_p50_us", quantile_us(&result.lateness, 0.5)),
            ("late_p999_us", quantile_us(&result.lateness, 0.999)),
            ("late_max_us", result.lateness.max() as f64 / 1e3),
            (
                "background_puts_per_sec",
                result.background_count as f64 / secs,
            ),
            (
                "server_cpu_percent",
                server_cpu.as_secs_f64() / span.wall.as_secs_f64() * 100.0,
            ),
            (
                "foreign_cpu_percent",
                span.foreign_percent(result.client_cpu)?,
            ),
        ]);
        if let Some(compaction) = result.errands.first() {
            figures.insert("compaction_secs", compaction.took.as_secs_f64());
        }
        if let Some(turns) = &turns {
            figures.insert("turns", turns.count() as f64);
        }
        Ok((Measured { figures, turns }, result))
    }
}

/// Waits until checkpoints and the like are done: two looks of this length find next to no CPU used. A server that never
/// rests is measured as it is.
pub(crate) fn wait_quiet(pid: u32, look: Duration) -> io::Result<()> {
    let mut quiet_count = 0;
    for _ in 0..QUIET_LOOKS_MAX {
        let mut clock = CpuClock::start(pid)?;
        thread::sleep(look);
        let share = clock.read()?.on_cpu.as_secs_f64() / look.as_secs_f64();
        quiet_count = if share < QUIET_CPU_SHARE {
            quiet_count + 1
        } else {
            0
        };
        if quiet_count == 2 {
            break;
        }
    }
    Ok(())
}

/// Names of the latency figures: of puts, of gets, of both; each p50, p99, p99.9 and the largest.
const LATENCIES: [[&str; 4]; 3] = [
    ["put_p50_us", "put_p99_us", "put_p999_us", "put_max_us"],
    ["get_p50_us", "get_p99_us", "get_p999_us", "get_max_us"],
    ["both_p50_us", "both_p99_us", "both_p999_us", "both_max_us"],
];

pub(crate) fn latency_figures(latencies: &ProbeLatencies) -> Figures {
    let both = latencies.both();
    let mut figures = Figures::from([("requests", both.len() as f64)]);
    let histograms = [&latencies.put, &latencies.get, &both];
    for (names, histogram) in LATENCIES.into_iter().zip(histograms) {
        // A percentile of fewer requests than it takes to have one would be the maximum by another name.
        let quantiles = [(0.5, 1), (0.99, 100), (0.999, 1_000), (1.0, 1)];
        for (name, (quantile, count_min)) in names.into_iter().zip(quantiles) {
            if histogram.len() >= count_min {
                figures.insert(name, quantile_us(histogram, quantile));
            }
        }
    }
    figures
}

pub(crate) fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}
