//! One load on a server that runs already.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::case::{self, CaseError};
use crate::load::{Client, Load, LoadError, Op, Order};
use crate::machine::Machine;
use crate::metric::Sample;
use crate::own::{self, OwnClient};
use crate::stopwatch::Stopwatch;

/// What `etcore-bench run` was asked to do.
#[derive(Debug, Clone)]
pub struct SingleRun {
    pub endpoint: SocketAddr,
    /// Whose CPU time and memory are read.
    pub server_pid: Option<u32>,
    pub client: OwnClient,
    pub load: Load,
    /// Each key is written once before.
    pub is_filled: bool,
    pub is_json: bool,
}

/// What it gave.
#[derive(Debug, Clone, PartialEq)]
pub struct SingleResult {
    pub sample: Sample,
    /// Requests of the measured part.
    pub request_count: u64,
    pub measured_secs: f64,
    /// With warm-up and drain.
    pub answered_count: u64,
    /// How far the store's revision went meanwhile; puts by nobody else make it equal to `answered_count`.
    pub revision_increase: Option<i64>,
}

impl SingleRun {
    /// Fills if asked to, then runs the load.
    ///
    /// # Errors
    /// [`CaseError`] unless every request succeeded.
    pub fn run(&self) -> Result<SingleResult, CaseError> {
        let client = Client::Own(self.client);
        if self.is_filled {
            client.fill(&self.load, self.endpoint)?;
        }
        let before = self.revision()?;
        let mut stopwatch = match self.server_pid {
            Some(pid) => Stopwatch::of(pid),
            None => Stopwatch::of_nobody(),
        };
        let result = client.run(&self.load, self.endpoint, &mut stopwatch)?;
        let after = self.revision()?;
        Ok(SingleResult {
            sample: case::sample_of(&result, &stopwatch, self.server_pid)?,
            request_count: result.report.request_count,
            measured_secs: result.report.total_secs,
            answered_count: result.answered_count,
            revision_increase: before.zip(after).map(|(before, after)| after - before),
        })
    }

    /// The store's revision; a null server has none.
    fn revision(&self) -> Result<Option<i64>, LoadError> {
        if self.load.op == Op::Null {
            return Ok(None);
        }
        Ok(Some(own::revision(self.endpoint)?))
    }

    /// The result for people.
    pub fn to_text(&self, result: &SingleResult) -> String {
        let load = &self.load;
        let mut text = format!(
            "{} on {}: {} in flight on {} connections, {} keys of {} B, values of {} B\n\
             {} requests in {:.3} s measured; {} with warm-up and drain",
            load.op.name(),
            self.endpoint,
            load.client_count,
            load.conn_count,
            load.key_space,
            load.key_size_bytes,
            load.value_size_bytes,
            result.request_count,
            result.measured_secs,
            result.answered_count,
        );
        if let Some(increase) = result.revision_increase {
            // Writing to a string cannot fail.
            let _ = write!(text, "; the revision rose by {increase}");
        }
        text.push('\n');
        for (metric, value) in &result.sample {
            let _ = writeln!(text, "{:<28} {value:>14.3}", metric.name());
        }
        text
    }

    /// The result for programs, in one line.
    ///
    /// # Errors
    /// If the machine cannot be read.
    pub fn to_json(&self, result: &SingleResult) -> io::Result<Value> {
        let load = &self.load;
        let metrics = result.sample.iter();
        let metrics = metrics.map(|(metric, value)| (metric.name().to_owned(), json!(value)));
        let order = match load.order {
            Order::Random => "random",
            Order::Sequential => "sequential",
            Order::Scattered => "scattered",
        };
        Ok(json!({
            "op": load.op.name(),
            "metrics": Value::Object(metrics.collect()),
            "requests": result.request_count,
            "measured_secs": result.measured_secs,
            "answered": result.answered_count,
            "revision_increase": result.revision_increase,
            "conditions": {
                "machine": serde_json::to_value(Machine::read()?)?,
                "conns": load.conn_count,
                "in_flight": load.client_count,
                "keys": load.key_space,
                "order": order,
                "key_size_bytes": load.key_size_bytes,
                "value_size_bytes": load.value_size_bytes,
                "client_core": self.client.core,
            },
        }))
    }
}
