//! One run of etcd's `benchmark` tool against a server.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{self, Process, ProcessError};
use crate::report::{LoadReport, ReportError};
use crate::server::tail;

/// The key that `range` reads. `put --key-size=1 --key-space-size=64 --sequential-keys` writes the even bytes
/// below 128 (a varint in zigzag), and of those this one is a letter that a command line can carry.
pub const RANGE_KEY: &str = "f";

/// The tool, where it runs and how long it may take.
#[derive(Debug, Clone)]
pub struct LoadTool {
    pub program: PathBuf,
    pub core: Option<usize>,
    pub time_limit: Duration,
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub kind: LoadKind,
    pub conn_count: u32,
    pub client_count: u32,
    pub total: u64,
    pub value_size_bytes: u32,
}

/// Which request, over which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// Random keys of 8 bytes out of so many.
    Put { key_space: u64 },
    /// Each of so many keys of 8 bytes once, in order.
    Fill { key_space: u64 },
    /// The 64 keys of one byte, [`RANGE_KEY`] among them.
    FillShort,
    /// Linearizable reads of [`RANGE_KEY`].
    Range,
}

/// What a run gave: the tool's report and its CPU time.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadResult {
    pub report: LoadReport,
    pub client_cpu: Duration,
}

/// The tool failed, or its output was not believed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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
    #[error("load: {0}")]
    Io(#[from] io::Error),
}

impl Load {
    /// The arguments of the tool for this load.
    fn args(&self, endpoint: SocketAddr) -> Vec<String> {
        let mut args = vec![
            format!("--endpoints={endpoint}"),
            format!("--conns={}", self.conn_count),
            format!("--clients={}", self.client_count),
            "--precise".to_owned(),
        ];
        let (name, keys) = match self.kind {
            LoadKind::Range => ("range", vec![RANGE_KEY.to_owned()]),
            LoadKind::Put { key_space } => ("put", vec![format!("--key-space-size={key_space}")]),
            LoadKind::Fill { key_space } => {
                let keys = format!("--key-space-size={key_space}");
                ("put", vec![keys, "--sequential-keys".to_owned()])
            }
            LoadKind::FillShort => {
                let keys = ["--key-size=1", "--key-space-size=64", "--sequential-keys"];
                ("put", keys.map(str::to_owned).to_vec())
            }
        };
        args.push(name.to_owned());
        args.extend(keys);
        if name == "put" {
            args.push(format!("--val-size={}", self.value_size_bytes));
        }
        args.push(format!("--total={}", self.total));
        args
    }
}

impl LoadTool {
    /// Runs `load` to its end. Every request must have succeeded.
    ///
    /// # Errors
    /// [`LoadError`]; without a server the tool waits for ever, so the time limit ends it.
    pub fn run(&self, load: &Load, endpoint: SocketAddr) -> Result<LoadResult, LoadError> {
        let folder = TempDir::new()?;
        let log = folder.path().join("benchmark.log");
        let process = self.start(load, endpoint, &log)?;
        let outcome = process.run_to_end(self.time_limit)?;
        if !outcome.status.success() {
            let status = outcome.status.to_string();
            return Err(LoadError::Failed {
                status,
                output: outcome.stdout,
                log: tail(&log),
            });
        }
        let report = LoadReport::parse(&outcome.stdout)?;
        if report.request_count != load.total {
            let (asked, counted) = (load.total, report.request_count);
            return Err(LoadError::Count { asked, counted });
        }
        Ok(LoadResult {
            report,
            client_cpu: outcome.cpu,
        })
    }

    fn start(&self, load: &Load, endpoint: SocketAddr, log: &Path) -> Result<Process, LoadError> {
        let mut command = process::command(&self.program, Stdio::piped(), log)?;
        command.args(load.args(endpoint));
        Ok(Process::start(&mut command, self.core)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_each_kind() {
        let line = |kind| {
            let load = Load {
                kind,
                conn_count: 2,
                client_count: 5,
                total: 7,
                value_size_bytes: 256,
            };
            load.args(SocketAddr::from(([127, 0, 0, 1], 1))).join(" ")
        };
        let head = "--endpoints=127.0.0.1:1 --conns=2 --clients=5 --precise";
        assert_eq!(line(LoadKind::Range), format!("{head} range f --total=7"));
        assert_eq!(
            line(LoadKind::Put { key_space: 9 }),
            format!("{head} put --key-space-size=9 --val-size=256 --total=7")
        );
        assert_eq!(
            line(LoadKind::FillShort),
            format!(
                "{head} put --key-size=1 --key-space-size=64 --sequential-keys --val-size=256 --total=7"
            )
        );
    }

    #[test]
    fn the_tool_writes_the_key_that_is_read() {
        // Go's binary.PutVarint: zigzag, seven bits a byte.
        let written: Vec<u8> = (0_u8..64).map(|i| i << 1).collect();
        assert!(RANGE_KEY.bytes().all(|byte| written.contains(&byte)));
        assert_eq!(RANGE_KEY.len(), 1);
    }
}
