//! Our client beside etcd's `benchmark`: on the same server, in turns, with the same loads.
//!
//! Both count requests, so both counts must be what the server itself counts: the store's revision rises by one with
//! each put. Their throughput, latencies and CPU per request may differ by what the clients are; the table shows it.

use crate::case::{Case, CaseError, Settings, sample_of};
use crate::compare::CaseRounds;
use crate::load::{Client, Load, Op};
use crate::metric::Sample;
use crate::own;
use crate::server::{RunningServer, ServerCommand};
use crate::stopwatch::Stopwatch;
use crate::tool::LoadTool;

/// What both clients can do alike.
pub const CASES: [Case; 3] = [Case::Put, Case::Range, Case::PutDepth1];

/// What `etcore-bench agree` was asked to do.
#[derive(Debug, Clone)]
pub struct Agreement {
    pub server: ServerCommand,
    pub tool: LoadTool,
    pub round_count: u32,
    /// With our own client.
    pub settings: Settings,
}

/// All rounds; in each pair etcd's tool comes first.
#[derive(Debug, Clone, PartialEq)]
pub struct AgreeResult {
    pub cases: Vec<CaseRounds>,
    /// Puts that each client counted and the server confirmed, warm-ups too.
    pub tool_put_count: u64,
    pub own_put_count: u64,
}

/// The clients do not agree with the server, or something failed.
#[derive(Debug, thiserror::Error)]
pub enum AgreeError {
    #[error(transparent)]
    Case(#[from] CaseError),
    #[error("client {client} counts {counted} puts, the revision rose by {increase}")]
    Counts {
        client: &'static str,
        counted: u64,
        increase: i64,
    },
}

impl Agreement {
    /// Runs all rounds. `progress` is told of each measurement.
    ///
    /// # Errors
    /// [`AgreeError::Counts`] if a client and the server count differently.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<AgreeResult, AgreeError> {
        let empty = |case| CaseRounds {
            case,
            rounds: Vec::new(),
        };
        let mut result = AgreeResult {
            cases: CASES.map(empty).to_vec(),
            tool_put_count: 0,
            own_put_count: 0,
        };
        let tool = Client::Benchmark(self.tool.clone());
        let own = &self.settings.client;
        for round_no in 1..=self.round_count {
            for case in CASES {
                let load = self.settings.sizes.load(case);
                let server = self.start_filled(&load, [&tool, own])?;
                let (first, second) = if round_no % 2 == 1 {
                    (&tool, own)
                } else {
                    (own, &tool)
                };
                let one = measure(first, &load, &server)?;
                let two = measure(second, &load, &server)?;
                server.stop().map_err(CaseError::from)?;
                progress(&format!(
                    "round {round_no}/{} {}",
                    self.round_count,
                    case.name()
                ));
                let (tool, own) = if round_no % 2 == 1 {
                    (one, two)
                } else {
                    (two, one)
                };
                result.add(case, &load, tool, own);
            }
        }
        Ok(result)
    }

    fn start_filled(&self, load: &Load, clients: [&Client; 2]) -> Result<RunningServer, CaseError> {
        let settings = &self.settings;
        let server =
            self.server
                .start(&settings.folder, settings.server_core, settings.ready_limit)?;
        for client in clients {
            client.fill(load, server.endpoint())?;
        }
        Ok(server)
    }
}

impl AgreeResult {
    fn add(&mut self, case: Case, load: &Load, tool: Measured, own: Measured) {
        if load.op == Op::Put {
            self.tool_put_count += tool.answered_count;
            self.own_put_count += own.answered_count;
        }
        let rounds = self.cases.iter_mut().find(|rounds| rounds.case == case);
        if let Some(rounds) = rounds {
            rounds.rounds.push((tool.sample, own.sample));
        }
    }

    /// What the counts came to.
    pub fn to_text(&self) -> String {
        format!(
            "puts counted and confirmed by the server's revision: benchmark {}, own {}\n",
            self.tool_put_count, self.own_put_count
        )
    }
}

struct Measured {
    sample: Sample,
    answered_count: u64,
}

fn measure(client: &Client, load: &Load, server: &RunningServer) -> Result<Measured, AgreeError> {
    let endpoint = server.endpoint();
    let revision = || own::revision(endpoint).map_err(|error| CaseError::Load(error.into()));
    let before = revision()?;
    let mut stopwatch = Stopwatch::of(server.pid());
    let result = client
        .run(load, endpoint, &mut stopwatch)
        .map_err(CaseError::from)?;
    let increase = revision()? - before;
    let counted = result.answered_count;
    let puts = if load.op == Op::Put { counted } else { 0 };
    if i64::try_from(puts) != Ok(increase) {
        let client = client.name();
        return Err(AgreeError::Counts {
            client,
            counted: puts,
            increase,
        });
    }
    Ok(Measured {
        sample: sample_of(&result, &stopwatch, Some(server.pid()))?,
        answered_count: counted,
    })
}
