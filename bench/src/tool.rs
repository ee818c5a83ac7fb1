//! One run of etcd's `benchmark` tool against a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::load::{LIMIT, Load, LoadError, LoadResult, Op, Order};
use crate::process::{self, Process};
use crate::report::LoadReport;
use crate::server::tail;
use crate::stopwatch::Stopwatch;

/// The key that `range` reads. `put --key-size=1 --key-space-size=64 --sequential-keys` writes the even bytes
/// below 128 (a varint in zigzag), and of those this one is a letter that a command line can carry.
pub const RANGE_KEY: &str = "f";

/// Keys of one byte.
const SHORT_KEY_COUNT: u64 = 64;

/// The tool, where it runs and how long it may take.
#[derive(Debug, Clone)]
pub struct LoadTool {
    pub program: PathBuf,
    pub core: Option<usize>,
    pub time_limit: Duration,
}

/// The arguments of the tool for `total` requests of a load.
fn args(load: &Load, total: u64, endpoint: SocketAddr) -> Result<Vec<String>, LoadError> {
    let mut args = vec![
        format!("--endpoints={endpoint}"),
        format!("--conns={}", load.conn_count),
        format!("--clients={}", load.client_count),
        "--precise".to_owned(),
    ];
    let limit = format!("--limit={LIMIT}");
    let words: &[&str] = match load.op {
        Op::Put => &["put"],
        Op::Get => &["range", RANGE_KEY],
        // The empty prefix: all keys.
        Op::Count => &["range", "", "--prefix", "--count-only"],
        Op::Limit => &["range", "", "--prefix", &limit],
        Op::Null => return Err(LoadError::NotOffered("null")),
    };
    args.extend(words.iter().map(|word| (*word).to_owned()));
    if load.op == Op::Put {
        args.push(format!("--key-size={}", load.key_size_bytes));
        args.push(format!("--key-space-size={}", load.key_space));
        args.push(format!("--val-size={}", load.value_size_bytes));
        if load.order == Order::Sequential {
            args.push("--sequential-keys".to_owned());
        }
    }
    args.push(format!("--total={total}"));
    Ok(args)
}

impl LoadTool {
    /// Writes the keys of one byte, [`RANGE_KEY`] among them.
    ///
    /// # Errors
    /// [`LoadError`] unless every request succeeded.
    pub(crate) fn fill_short(&self, load: &Load, endpoint: SocketAddr) -> Result<(), LoadError> {
        let short = Load {
            key_space: SHORT_KEY_COUNT,
            key_size_bytes: 1,
            conn_count: 1,
            client_count: 1,
            ..*load
        };
        self.run(&short.fill(), SHORT_KEY_COUNT, endpoint)?;
        Ok(())
    }

    /// Warms up, then runs the measured part, each as a run of its own.
    ///
    /// # Errors
    /// [`LoadError`]; without a server the tool waits for ever, so the time limit ends it.
    pub(crate) fn measure(
        &self,
        load: &Load,
        endpoint: SocketAddr,
        stopwatch: &mut Stopwatch,
    ) -> Result<LoadResult, LoadError> {
        let warm_up = load.warm_up.requests;
        if warm_up > 0 {
            // Below a hundred requests there is no 99th percentile.
            self.run(load, warm_up.max(100), endpoint)?;
        }
        stopwatch.start()?;
        let mut result = self.run(load, load.measured.requests, endpoint)?;
        stopwatch.stop()?;
        if warm_up > 0 {
            result.answered_count += warm_up.max(100);
        }
        Ok(result)
    }

    fn run(&self, load: &Load, total: u64, endpoint: SocketAddr) -> Result<LoadResult, LoadError> {
        let folder = TempDir::new()?;
        let log = folder.path().join("benchmark.log");
        let process = self.start(args(load, total, endpoint)?, &log)?;
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
        if report.request_count != total {
            let (asked, counted) = (total, report.request_count);
            return Err(LoadError::Count { asked, counted });
        }
        Ok(LoadResult {
            report,
            client_cpu: outcome.cpu,
            answered_count: total,
        })
    }

    fn start(&self, args: Vec<String>, log: &Path) -> Result<Process, LoadError> {
        let mut command = process::command(&self.program, Stdio::piped(), log)?;
        command.args(args);
        Ok(Process::start(&mut command, self.core)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Extent;

    fn line(op: Op, order: Order) -> Result<String, LoadError> {
        let load = Load {
            op,
            order,
            key_space: 9,
            key_size_bytes: 8,
            value_size_bytes: 256,
            conn_count: 2,
            client_count: 5,
            warm_up: Extent::requests(0),
            measured: Extent::requests(7),
        };
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 1));
        args(&load, 7, endpoint).map(|args| args.join(" "))
    }

    #[test]
    fn arguments_of_each_kind() {
        let head = "--endpoints=127.0.0.1:1 --conns=2 --clients=5 --precise";
        let put = "put --key-size=8 --key-space-size=9 --val-size=256";
        for (op, order, tail) in [
            (Op::Get, Order::Random, "range f --total=7".to_owned()),
            (Op::Put, Order::Random, format!("{put} --total=7")),
            (
                Op::Put,
                Order::Sequential,
                format!("{put} --sequential-keys --total=7"),
            ),
            (
                Op::Count,
                Order::Random,
                "range  --prefix --count-only --total=7".to_owned(),
            ),
        ] {
            assert_eq!(line(op, order).unwrap(), format!("{head} {tail}"));
        }
        assert!(matches!(
            line(Op::Null, Order::Random),
            Err(LoadError::NotOffered("null"))
        ));
    }

    #[test]
    fn the_tool_writes_the_key_that_is_read() {
        // Go's binary.PutVarint: zigzag, seven bits a byte.
        let written: Vec<u8> = (0_u8..64).map(|i| i << 1).collect();
        assert!(RANGE_KEY.bytes().all(|byte| written.contains(&byte)));
        assert_eq!(RANGE_KEY.len(), 1);
    }
}
