//! Every promise about speed, measured in one interleaved run: etcd, etcore, a null server and the disk alone.
//!
//! ```text
//! each round   own client:  put A B, range A B, put_depth1 A B, prefix_… A B, idle A B
//!              etcd's tool: put A B, range A B, put_depth1 A B                 (if it is given)
//!              null server: null, null_depth1;  disk: write + fdatasync
//! once         memory A B
//! ```
//!
//! A is etcd, B is etcore. [`verdict`] makes the lines that pass or miss out of it.

mod verdict;

use serde::Serialize;

use crate::args;
use crate::case::{Case, CaseError, Settings};
use crate::compare::{CaseRounds, Comparison};
use crate::disk::{self, DiskError, DiskLatency};
use crate::load::Client;
use crate::metric::{Metric, Sample};
use crate::server::ServerCommand;
use crate::tool::LoadTool;

pub use self::verdict::{Bound, Floor, to_text};

/// Cases of each round, by our client.
const OWN_CASES: [Case; 7] = [
    Case::Put,
    Case::Range,
    Case::PutDepth1,
    Case::PrefixGet,
    Case::PrefixCount,
    Case::PrefixLimit,
    Case::Idle,
];

/// Cases of each round by etcd's tool.
const TOOL_CASES: [Case; 3] = [Case::Put, Case::Range, Case::PutDepth1];

/// Writes and syncs of a round.
const DISK_COUNT: u32 = 2_000;

/// What `etcore-bench floors` was asked to do.
#[derive(Debug, Clone)]
pub struct FloorsRun {
    pub etcd: ServerCommand,
    pub etcore: ServerCommand,
    pub tool: Option<LoadTool>,
    pub round_count: u32,
    /// With our own client.
    pub settings: Settings,
}

/// What no server can beat, measured in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Denominators {
    pub null: Sample,
    pub null_depth1: Sample,
    pub disk: DiskLatency,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measurements {
    pub own: Vec<CaseRounds>,
    /// Empty without the tool.
    pub tool: Vec<CaseRounds>,
    pub denominators: Vec<Denominators>,
}

/// A run that could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum FloorsError {
    #[error(transparent)]
    Case(#[from] CaseError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the null server: {0}")]
    Io(#[from] std::io::Error),
}

impl FloorsRun {
    /// The comparison of the two servers by our client.
    pub fn comparison(&self) -> Comparison {
        Comparison {
            a: self.etcd.clone(),
            b: self.etcore.clone(),
            cases: OWN_CASES.to_vec(),
            round_count: self.round_count,
            settings: self.settings.clone(),
        }
    }

    fn tool_comparison(&self) -> Option<Comparison> {
        let client = Client::Benchmark(self.tool.clone()?);
        let comparison = self.comparison();
        Some(Comparison {
            cases: TOOL_CASES.to_vec(),
            settings: Settings {
                client,
                ..comparison.settings
            },
            ..comparison
        })
    }

    fn memory_comparison(&self) -> Comparison {
        Comparison {
            cases: vec![Case::Memory],
            round_count: 1,
            ..self.comparison()
        }
    }

    /// Runs everything. `progress` is told of each measurement.
    ///
    /// # Errors
    /// The first failure ends it.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<Measurements, FloorsError> {
        let (own, tool) = (self.comparison(), self.tool_comparison());
        let mut result = Measurements {
            own: own.no_rounds(),
            tool: tool.as_ref().map(Comparison::no_rounds).unwrap_or_default(),
            denominators: Vec::new(),
        };
        for round_no in 1..=self.round_count {
            own.round(round_no, &mut result.own, &mut progress)?;
            if let Some(tool) = &tool {
                progress("etcd's benchmark:");
                tool.round(round_no, &mut result.tool, &mut progress)?;
            }
            let denominators = self.denominators()?;
            progress(&format!("round {round_no} {}", denominators.to_text()));
            result.denominators.push(denominators);
        }
        result
            .own
            .extend(self.memory_comparison().run(&mut progress)?);
        Ok(result)
    }

    fn denominators(&self) -> Result<Denominators, FloorsError> {
        let server = args::null_server_command()?;
        let settings = &self.settings;
        Ok(Denominators {
            null: Case::Null.measure(&server, settings)?,
            null_depth1: Case::NullDepth1.measure(&server, settings)?,
            // No server runs now, so this core is idle.
            disk: disk::measure(&settings.folder, settings.server_core, DISK_COUNT)?,
        })
    }
}

impl Denominators {
    /// One line.
    pub fn to_text(&self) -> String {
        let figure = |sample: &Sample, metric| sample.get(&metric).copied().unwrap_or(f64::NAN);
        format!(
            "null RPC depth-1 p50 {:.1} us; null {:.2} us server CPU per request; {}",
            figure(&self.null_depth1, Metric::LatencyP50Us),
            figure(&self.null, Metric::ServerCpuUsPerRequest),
            self.disk.to_text().trim_end(),
        )
    }
}

impl Measurements {
    /// The promises with their figures.
    pub fn floors(&self) -> Vec<Floor> {
        verdict::floors(self)
    }
}

/// The JSON line of all promises.
#[derive(Debug, Serialize)]
pub struct FloorsLine<'a> {
    pub floors: &'a [Floor],
    pub denominators: Vec<serde_json::Value>,
}

impl<'a> FloorsLine<'a> {
    pub fn new(floors: &'a [Floor], measurements: &Measurements) -> Self {
        let named = |sample: &Sample| -> serde_json::Value {
            let pairs = sample.iter();
            let pairs = pairs.map(|(metric, value)| (metric.name().to_owned(), (*value).into()));
            serde_json::Value::Object(pairs.collect())
        };
        let denominators = measurements.denominators.iter().map(|round| {
            serde_json::json!({
                "null": named(&round.null),
                "null_depth1": named(&round.null_depth1),
                "write_fdatasync": round.disk,
            })
        });
        Self {
            floors,
            denominators: denominators.collect(),
        }
    }
}
