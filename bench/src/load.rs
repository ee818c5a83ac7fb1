//! A load on a server: what is asked, by which client, and what came of it.
//!
//! ```text
//! Load ──► Client::Own        own::run, in this thread            any load; a steady window; every answer checked
//!      └─► Client::Benchmark  tool::LoadTool, another process     etcd's own tool; the whole run is the window
//! ```
//!
//! Both make the same requests as far as etcd's tool can. It reads one fixed key, ours reads random ones.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::own::{self, OwnClient, OwnError};
use crate::process::ProcessError;
use crate::report::{LoadReport, ReportError};
use crate::stopwatch::Stopwatch;
use crate::tool::LoadTool;

/// The request that a load repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put,
    /// A linearizable read of one key.
    Get,
    /// How many keys there are.
    Count,
    /// The first [`LIMIT`] keys and their values, out of all.
    Limit,
    /// A Put whose answer is not looked at: for `null-server`.
    Null,
}

/// How many keys [`Op::Limit`] asks for.
pub const LIMIT: i64 = 10;

impl Op {
    pub const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Count, Self::Limit, Self::Null];

    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Count => "count",
            Self::Limit => "limit",
            Self::Null => "null",
        }
    }
}

/// The order in which keys are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each once, then from the first again.
    Sequential,
    /// By a generator with a fixed seed.
    Random,
    /// Each once, neighbours far apart in time; then again.
    Scattered,
}

/// When a part of a load is over: so many requests were answered, and so much time went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub requests: u64,
    /// Etcd's tool knows no such bound and leaves it out.
    pub at_least: Duration,
}

impl Extent {
    pub fn requests(requests: u64) -> Self {
        Self {
            requests,
            at_least: Duration::ZERO,
        }
    }
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub op: Op,
    pub order: Order,
    /// Keys there are, or (puts) may be.
    pub key_space: u64,
    pub key_size_bytes: usize,
    pub value_size_bytes: usize,
    pub conn_count: u32,
    /// Requests in flight over all connections.
    pub client_count: u32,
    pub warm_up: Extent,
    pub measured: Extent,
}

impl Load {
    /// The same load without a part that does not count.
    #[must_use]
    pub fn cold(self) -> Self {
        Self {
            warm_up: Extent::requests(0),
            ..self
        }
    }

    /// Each key of the key space written once.
    #[must_use]
    pub fn fill(self) -> Self {
        Self {
            op: Op::Put,
            order: Order::Sequential,
            measured: Extent::requests(self.key_space),
            ..self.cold()
        }
    }
}

/// Who makes the load.
#[derive(Debug, Clone)]
pub enum Client {
    Own(OwnClient),
    Benchmark(LoadTool),
}

/// What a load gave.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadResult {
    /// Of the measured part.
    pub report: LoadReport,
    /// Of the measured part.
    pub client_cpu: Duration,
    /// All requests that were answered, those outside of the measured part too.
    pub answered_count: u64,
}

/// A load failed, or what the client says was not believed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(
        "the benchmark tool ended with {status}; it printed:\n{output}\nits log ends with:\n{log}"
    )]
    Failed {
        status: String,
        output: String,
        log: String,
    },
    #[error("{asked} requests were asked for, the benchmark tool counts {counted}")]
    Count { asked: u64, counted: u64 },
    #[error("the benchmark tool does not know {0:?}")]
    NotOffered(&'static str),
    #[error("load: {0}")]
    Io(#[from] io::Error),
}

impl Client {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Own(_) => "own",
            Self::Benchmark(_) => "benchmark",
        }
    }

    /// The core it runs on.
    pub fn core(&self) -> Option<usize> {
        match self {
            Self::Own(client) => client.core,
            Self::Benchmark(tool) => tool.core,
        }
    }

    /// Writes what `load` will read.
    ///
    /// # Errors
    /// [`LoadError`] unless every request succeeded.
    pub fn fill(&self, load: &Load, endpoint: SocketAddr) -> Result<(), LoadError> {
        let mut unused = Stopwatch::of_nobody();
        if let Self::Benchmark(tool) = self {
            tool.fill_short(load, endpoint)?;
        }
        self.run(&load.fill(), endpoint, &mut unused)?;
        Ok(())
    }

    /// Runs `load` to its end; `stopwatch` runs over its measured part.
    ///
    /// # Errors
    /// [`LoadError`] unless every request succeeded.
    pub fn run(
        &self,
        load: &Load,
        endpoint: SocketAddr,
        stopwatch: &mut Stopwatch,
    ) -> Result<LoadResult, LoadError> {
        match self {
            Self::Own(client) => Ok(own::run(client, load, endpoint, stopwatch)?),
            Self::Benchmark(tool) => tool.measure(load, endpoint, stopwatch),
        }
    }
}
