//! Where a put's microseconds go: `perf` on one server under the put load.
//!
//! `perf record` samples the server's threads by the CPU clock (no hardware counters needed, so it works in a
//! virtual machine); `perf script` prints each sample's stack, of which [`script`] reads the top frame and, where
//! that is in the kernel, the system call. [`group`] sorts symbols into crates and modules, and the shares are
//! multiplied with the CPU time per request that `/proc` gave over the same span.

mod group;
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::case::{Case, CaseError, Settings};
use crate::process::{self, Process, ProcessError};
use crate::server::{RunningServer, ServerCommand, ServerError, tail};
use crate::stopwatch::Stopwatch;

pub use script::{Place, parse};

/// Samples per second: a prime, so that it does not beat with timers of the server.
const FREQUENCY: &str = "997";

/// `perf` writes its file at the end; more than this it should not need.
const PERF_LIMIT: Duration = Duration::from_secs(60);

/// Functions listed.
const TOP_COUNT: usize = 40;

/// One server to look into.
#[derive(Debug, Clone)]
pub struct ProfileRun {
    pub server: ServerCommand,
    pub settings: Settings,
}

/// Samples by place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub places: BTreeMap<Place, u64>,
}

/// What kept a profile from being made.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error(transparent)]
    Case(#[from] CaseError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("perf failed; its log ends with:\n{0}")]
    Perf(String),
    #[error("unknown output of perf script, line {line_no}: {line:?}")]
    Script { line_no: usize, line: String },
    #[error("profiling: {0}")]
    Io(#[from] io::Error),
}

impl From<ServerError> for ProfileError {
    fn from(error: ServerError) -> Self {
        Self::Case(error.into())
    }
}

impl ProfileRun {
    /// Runs the put load under `perf` and returns the report for people.
    ///
    /// # Errors
    /// [`ProfileError`] if the server, the tool or `perf` failed.
    pub fn run(&self) -> Result<String, ProfileError> {
        let settings = &self.settings;
        let server =
            self.server
                .start(&settings.folder, settings.server_core, settings.ready_limit)?;
        let folder = TempDir::new()?;
        let data = folder.path().join("perf.data");
        let cpu_us = self.record(&server, &data, &folder.path().join("perf.log"))?;
        server.stop()?;
        let text = perf_script(&data, &folder.path().join("script.log"))?;
        Ok(parse(&text)?.to_text(cpu_us))
    }

    /// Samples the put load; returns the server's CPU time per request in microseconds.
    fn record(&self, server: &RunningServer, data: &Path, log: &Path) -> Result<f64, ProfileError> {
        let settings = &self.settings;
        let load = settings.sizes.load(Case::Put);
        let (client, endpoint) = (&settings.client, server.endpoint());
        client.fill(&load, endpoint).map_err(CaseError::Load)?;
        let mut command = process::command("perf", Stdio::null(), log)?;
        command.args(["record", "-e", "cpu-clock", "-F", FREQUENCY, "-g", "-o"]);
        command.arg(data).args(["-p", &server.pid().to_string()]);
        let perf = Process::start(&mut command, client.core())?;
        let mut stopwatch = Stopwatch::of(server.pid());
        let result = client
            .run(&load.cold(), endpoint, &mut stopwatch)
            .map_err(CaseError::Load)?;
        // It ends by the signal's name after it has written its file.
        perf.stop(Signal::INT, PERF_LIMIT)?;
        if !data.exists() {
            return Err(ProfileError::Perf(tail(log)));
        }
        let used = stopwatch.span()?.server.unwrap_or_default();
        Ok(used.on_cpu.as_secs_f64() * 1e6 / result.report.request_count as f64)
    }
}

fn perf_script(data: &Path, log: &Path) -> Result<String, ProfileError> {
    let mut command = Command::new("perf");
    command
        .args(["script", "--no-inline", "-F", "tid,comm,ip,sym,dso", "-i"])
        .arg(data);
    command
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(log)?);
    // Samples of seconds, a stack each: tens of megabytes at most, and all of them are needed.
    let output = command.output()?;
    if !output.status.success() {
        return Err(ProfileError::Perf(tail(log)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Profile {
    /// Groups and functions by self time, with their part of `cpu_us_per_request`.
    pub fn to_text(&self, cpu_us_per_request: f64) -> String {
        let total: u64 = self.places.values().sum();
        let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, count) in &self.places {
            *groups.entry(&place.group).or_default() += count;
        }
        let mut text = format!(
            "{total} samples of the server, {cpu_us_per_request:.2} us server CPU per request\n"
        );
        let share = |count: u64| count as f64 / total.max(1) as f64;
        let mut table = |title: &str, rows: Vec<(String, u64)>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n{:>7} {:>9}  {title}", "self %", "us/req");
            for (name, count) in rows {
                let (percent, us) = (share(count) * 100.0, share(count) * cpu_us_per_request);
                let _ = writeln!(text, "{percent:>7.2} {us:>9.3}  {name}");
            }
        };
        let by_group = groups
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count));
        table("crate::module", sorted(by_group));
        let by_function = self
            .places
            .iter()
            .map(|(place, count)| (format!("{:<32} {}", place.group, place.function), *count));
        let mut functions = sorted(by_function);
        functions.truncate(TOP_COUNT);
        table("function", functions);
        text
    }
}

fn sorted(rows: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut rows: Vec<(String, u64)> = rows.collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_microseconds() {
        let place = |group: &str, function: &str| Place {
            group: group.to_owned(),
            function: function.to_owned(),
        };
        let places = BTreeMap::from([
            (place("net::hpack", "decode"), 1),
            (place("net::hpack", "encode"), 2),
            (place("engine::wal", "append"), 1),
        ]);
        let text = Profile { places }.to_text(8.0);
        let line = |name: &str| text.lines().find(|l| l.ends_with(name)).unwrap().trim();
        assert_eq!(line("  net::hpack"), "75.00     6.000  net::hpack");
        assert_eq!(line("  engine::wal"), "25.00     2.000  engine::wal");
        assert!(text.contains("encode"));
    }
}
