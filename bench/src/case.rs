//! What is measured: cases, the metrics each gives, and one measurement of one server.
//!
//! Each measurement has a server of its own in a fresh directory. Before the measured span the server is filled and
//! warmed up by the same load, so that growth of tables and first page faults are not in the figures.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::load::{Client, Extent, Load, LoadError, LoadResult, Op, Order};
use crate::metric::{self, Metric, Sample};
use crate::own::OwnError;
use crate::server::{RunningServer, ServerCommand, ServerError};
use crate::stopwatch::Stopwatch;
use crate::usage::Memory;

/// How long a filled server is left alone before its idle CPU or its memory is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// In flight where one request may be as large as a prefix.
const PREFIX_CONN_COUNT: u32 = 10;
const PREFIX_CLIENT_COUNT: u32 = 100;

/// The measured loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Puts, many in flight.
    Put,
    /// Linearizable point reads, many in flight.
    Range,
    /// Puts, one in flight: latency.
    PutDepth1,
    /// Point reads in a large prefix, as many in flight as in the next two.
    PrefixGet,
    /// The count of a large prefix.
    PrefixCount,
    /// The first ten of a large prefix.
    PrefixLimit,
    /// A large fill, and what it leaves in memory.
    Memory,
    /// Nothing is asked.
    Idle,
    /// Calls that are not looked at, many in flight: for a null server.
    Null,
    /// The same, one in flight.
    NullDepth1,
}

/// Sizes of the loads and where the processes run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub client: Client,
    pub server_core: Option<usize>,
    /// Where data directories are made.
    pub folder: PathBuf,
    pub ready_limit: Duration,
    pub sizes: Sizes,
}

/// Sizes of the loads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub conn_count: u32,
    pub client_count: u32,
    pub put_total: u64,
    pub range_total: u64,
    pub depth1_total: u64,
    pub key_size_bytes: usize,
    pub value_size_bytes: usize,
    /// Keys written before, and the keys that puts choose from.
    pub key_space: u64,
    /// Keys of the large prefix.
    pub prefix_key_count: u64,
    pub prefix_total: u64,
    /// Our own client goes on for so long with the prefix loads, so that cheap ones are measured long enough.
    pub prefix_at_least: Duration,
    pub memory_key_count: u64,
    pub idle: Duration,
}

/// A measurement failed; its figures are thrown away.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error("measuring: {0}")]
    Io(#[from] std::io::Error),
}

impl Case {
    pub const ALL: [Self; 10] = [
        Self::Put,
        Self::Range,
        Self::PutDepth1,
        Self::PrefixGet,
        Self::PrefixCount,
        Self::PrefixLimit,
        Self::Memory,
        Self::Idle,
        Self::Null,
        Self::NullDepth1,
    ];

    /// Those that a comparison runs unless told otherwise.
    pub const USUAL: [Self; 4] = [Self::Put, Self::Range, Self::PutDepth1, Self::Idle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range => "range",
            Self::PutDepth1 => "put_depth1",
            Self::PrefixGet => "prefix_get",
            Self::PrefixCount => "prefix_count",
            Self::PrefixLimit => "prefix_limit",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Null => "null",
            Self::NullDepth1 => "null_depth1",
        }
    }

    /// Measures this case once, on a server started for it.
    ///
    /// # Errors
    /// [`CaseError`] if the server or the client failed in any way.
    pub fn measure(
        self,
        command: &ServerCommand,
        settings: &Settings,
    ) -> Result<Sample, CaseError> {
        let server = command.start(&settings.folder, settings.server_core, settings.ready_limit)?;
        let load = settings.sizes.load(self);
        if self.needs_keys() {
            settings.client.fill(&load, server.endpoint())?;
        }
        let sample = match self {
            Self::Idle => settings.measure_idle(&server)?,
            _ => settings.measure_load(&load, &server)?,
        };
        server.stop()?;
        Ok(sample)
    }

    fn needs_keys(self) -> bool {
        !matches!(self, Self::Memory | Self::Null | Self::NullDepth1)
    }

    fn op(self) -> Op {
        match self {
            Self::Put | Self::PutDepth1 | Self::Memory | Self::Idle => Op::Put,
            Self::Range | Self::PrefixGet => Op::Get,
            Self::PrefixCount => Op::Count,
            Self::PrefixLimit => Op::Limit,
            Self::Null | Self::NullDepth1 => Op::Null,
        }
    }
}

impl Sizes {
    /// The load of a case; for [`Case::Idle`] what it is filled with.
    pub fn load(&self, case: Case) -> Load {
        let requests = match case {
            Case::Put | Case::Null | Case::Idle => self.put_total,
            Case::Range => self.range_total,
            Case::PutDepth1 | Case::NullDepth1 => self.depth1_total,
            Case::PrefixGet | Case::PrefixCount | Case::PrefixLimit => self.prefix_total,
            Case::Memory => self.memory_key_count,
        };
        let (conn_count, client_count) = match case {
            Case::PutDepth1 | Case::NullDepth1 => (1, 1),
            Case::PrefixGet | Case::PrefixCount | Case::PrefixLimit => (
                self.conn_count.min(PREFIX_CONN_COUNT),
                self.client_count.min(PREFIX_CLIENT_COUNT),
            ),
            _ => (self.conn_count, self.client_count),
        };
        let load = Load {
            op: case.op(),
            order: Order::Random,
            key_space: self.key_space,
            key_size_bytes: self.key_size_bytes,
            value_size_bytes: self.value_size_bytes,
            conn_count,
            client_count,
            // A tenth, but enough of it to use each connection.
            warm_up: Extent::requests((requests / 10).max(u64::from(client_count))),
            measured: Extent::requests(requests),
        };
        match case {
            Case::Memory => Load {
                key_space: self.memory_key_count,
                ..load
            }
            .fill(),
            Case::PrefixGet | Case::PrefixCount | Case::PrefixLimit => Load {
                key_space: self.prefix_key_count,
                measured: Extent {
                    requests,
                    at_least: self.prefix_at_least,
                },
                ..load
            },
            _ => load,
        }
    }
}

impl Settings {
    fn measure_load(&self, load: &Load, server: &RunningServer) -> Result<Sample, CaseError> {
        let mut stopwatch = Stopwatch::of(server.pid());
        let result = self.client.run(load, server.endpoint(), &mut stopwatch)?;
        if load.warm_up.requests == 0 {
            // A fill: its memory is what counts, after what it left running is done.
            thread::sleep(SETTLE.min(self.sizes.idle));
        }
        sample_of(&result, &stopwatch, Some(server.pid()))
    }

    fn measure_idle(&self, server: &RunningServer) -> Result<Sample, CaseError> {
        thread::sleep(SETTLE.min(self.sizes.idle));
        let mut stopwatch = Stopwatch::of(server.pid());
        stopwatch.start()?;
        thread::sleep(self.sizes.idle);
        stopwatch.stop()?;
        let span = stopwatch.span()?;
        let mut sample = metric::of_span(&span);
        metric::add_memory(&mut sample, Memory::of(server.pid())?);
        let foreign = span.foreign_percent(Duration::ZERO)?;
        sample.insert(Metric::ForeignCpuPercent, foreign);
        Ok(sample)
    }
}

/// All figures of one load. Without a process there is no server CPU and no memory among them.
///
/// # Errors
/// If the server is gone or `/proc` cannot be read.
pub fn sample_of(
    result: &LoadResult,
    stopwatch: &Stopwatch,
    server_pid: Option<u32>,
) -> Result<Sample, CaseError> {
    let span = stopwatch.span()?;
    let mut sample = metric::of_load(&span, result);
    if let Some(pid) = server_pid {
        metric::add_memory(&mut sample, Memory::of(pid)?);
        let foreign = span.foreign_percent(result.client_cpu)?;
        sample.insert(Metric::ForeignCpuPercent, foreign);
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        conn_count: 100,
        client_count: 1_000,
        put_total: 5_000,
        range_total: 6_000,
        depth1_total: 700,
        key_size_bytes: 8,
        value_size_bytes: 256,
        key_space: 10_000,
        prefix_key_count: 100_000,
        prefix_total: 200,
        prefix_at_least: Duration::from_secs(3),
        memory_key_count: 1_000_000,
        idle: Duration::from_secs(1),
    };

    #[test]
    fn depth_one_is_one_request_on_one_connection() {
        for case in [Case::PutDepth1, Case::NullDepth1] {
            let load = SIZES.load(case);
            assert_eq!((load.conn_count, load.client_count), (1, 1));
            assert_eq!(load.measured, Extent::requests(700));
            assert_eq!(load.warm_up, Extent::requests(70));
        }
        let put = SIZES.load(Case::Put);
        assert_eq!((put.conn_count, put.client_count), (100, 1_000));
        assert_eq!(
            put.warm_up,
            Extent::requests(1_000),
            "each client at least once"
        );
    }

    #[test]
    fn prefix_loads_share_keys_and_depth() {
        let get = SIZES.load(Case::PrefixGet);
        for case in [Case::PrefixCount, Case::PrefixLimit] {
            let op = case.op();
            assert_eq!(SIZES.load(case), Load { op, ..get });
        }
        assert_eq!(get.key_space, 100_000);
        assert_eq!(get.measured.at_least, Duration::from_secs(3));
    }

    #[test]
    fn memory_is_one_fill() {
        let load = SIZES.load(Case::Memory);
        assert_eq!(load.op, Op::Put);
        assert_eq!(load.order, Order::Sequential);
        assert_eq!(load.measured, Extent::requests(1_000_000));
        assert_eq!(load.key_space, 1_000_000);
        assert_eq!(load.warm_up.requests, 0);
    }
}
