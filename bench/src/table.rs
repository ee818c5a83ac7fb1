//! The result of a comparison: a table for people, a JSON line per case for programs.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;

use crate::case::Settings;
use crate::compare::{CaseRounds, Row};
use crate::machine::{self, Machine};
use crate::server::ServerCommand;
use crate::stats::Spread;

/// Everything that a reader must know to judge the figures.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    pub machine: Machine,
    pub data_filesystem: String,
    pub client: &'static str,
    pub a: Contestant,
    pub b: Contestant,
    pub server_core: Option<usize>,
    pub client_core: Option<usize>,
    pub rounds: u32,
    pub conns: u32,
    pub clients: u32,
    pub put_total: u64,
    pub range_total: u64,
    pub depth1_total: u64,
    pub key_size_bytes: usize,
    pub value_size_bytes: usize,
    pub key_space: u64,
    pub prefix_key_count: u64,
    pub memory_key_count: u64,
    pub idle_secs: f64,
}

/// One of the two servers.
#[derive(Debug, Clone, Serialize)]
pub struct Contestant {
    pub program: String,
    pub args: Vec<String>,
    pub version: String,
    pub fsync: bool,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    case: &'static str,
    metrics: Vec<JsonRow>,
    conditions: &'a Conditions,
}

#[derive(Serialize)]
struct JsonRow {
    name: &'static str,
    a: Spread,
    b: Spread,
    b_over_a: Option<Spread>,
}

impl Contestant {
    fn of(command: &ServerCommand) -> Self {
        Self {
            program: command.program.display().to_string(),
            args: command.args.clone(),
            version: command.version(),
            fsync: command.is_durable(),
        }
    }
}

impl Conditions {
    /// Reads the machine and the servers' versions.
    ///
    /// # Errors
    /// If `/proc` or the data folder cannot be read.
    pub fn of(
        servers: [&ServerCommand; 2],
        round_count: u32,
        settings: &Settings,
    ) -> io::Result<Self> {
        let [a, b] = servers;
        let sizes = settings.sizes;
        Ok(Self {
            machine: Machine::read()?,
            data_filesystem: machine::filesystem_of(&settings.folder)?,
            client: settings.client.name(),
            a: Contestant::of(a),
            b: Contestant::of(b),
            server_core: settings.server_core,
            client_core: settings.client.core(),
            rounds: round_count,
            conns: sizes.conn_count,
            clients: sizes.client_count,
            put_total: sizes.put_total,
            range_total: sizes.range_total,
            depth1_total: sizes.depth1_total,
            key_size_bytes: sizes.key_size_bytes,
            value_size_bytes: sizes.value_size_bytes,
            key_space: sizes.key_space,
            prefix_key_count: sizes.prefix_key_count,
            memory_key_count: sizes.memory_key_count,
            idle_secs: sizes.idle.as_secs_f64(),
        })
    }

    /// The conditions in words.
    pub fn to_text(&self) -> String {
        let core = |core: Option<usize>| core.map_or("any".to_owned(), |core| core.to_string());
        let mut text = format!(
            "machine: {}, {} cores, {} MiB, Linux {}\ndata: {}\n",
            self.machine.cpu_model,
            self.machine.core_count,
            self.machine.memory_mib,
            self.machine.kernel,
            self.data_filesystem,
        );
        for (label, server) in [("A", &self.a), ("B", &self.b)] {
            let fsync = if server.fsync { "on" } else { "OFF" };
            let args = server.args.join(" ");
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{label}: {} {args} ({}), fsync {fsync}",
                server.program, server.version
            );
        }
        let _ = writeln!(
            text,
            "server on core {}, client {:?} on core {}; {} rounds; {} clients on {} connections; \
             put {}, range {}, depth-1 put {}; {} B values, {} keys; idle {} s",
            core(self.server_core),
            self.client,
            core(self.client_core),
            self.rounds,
            self.clients,
            self.conns,
            self.put_total,
            self.range_total,
            self.depth1_total,
            self.value_size_bytes,
            self.key_space,
            self.idle_secs,
        );
        text
    }
}

/// The table of one case: min / median / max of A, of B and of B / A.
pub fn to_table(result: &CaseRounds) -> String {
    let mut text = format!(
        "\n{}\n{:<28} {:>32} {:>32} {:>20}\n",
        result.case.name(),
        "  min / median / max",
        "A",
        "B",
        "B/A"
    );
    for row in result.rows() {
        let ratio = row
            .b_over_a
            .map_or("-".to_owned(), |ratio| spread(&ratio, 2));
        let name = row.metric.name();
        let _ = writeln!(
            text,
            "{name:<28} {:>32} {:>32} {ratio:>20}",
            spread(&row.a, digits(&row.a)),
            spread(&row.b, digits(&row.b)),
        );
    }
    text
}

/// The JSON line of one case.
///
/// # Errors
/// If a value cannot be written as JSON.
pub fn to_json(result: &CaseRounds, conditions: &Conditions) -> Result<String, serde_json::Error> {
    let json_row = |row: Row| {
        let (name, Row { a, b, b_over_a, .. }) = (row.metric.name(), row);
        JsonRow {
            name,
            a,
            b,
            b_over_a,
        }
    };
    let metrics = result.rows().into_iter().map(json_row);
    let case = result.case.name();
    serde_json::to_string(&JsonLine {
        case,
        metrics: metrics.collect(),
        conditions,
    })
}

/// min / median / max.
pub(crate) fn spread(spread: &Spread, digits: usize) -> String {
    let Spread { min, median, max } = spread;
    format!("{min:.digits$} / {median:.digits$} / {max:.digits$}")
}

/// Decimals that leave about three figures.
pub(crate) fn digits(spread: &Spread) -> usize {
    match spread.median {
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::metric::{Metric, Sample};

    #[test]
    fn table_shows_spreads_and_ratio() {
        let sample =
            |p50, cpu| Sample::from([(Metric::LatencyP50Us, p50), (Metric::ServerCpuPercent, cpu)]);
        let rounds = vec![(sample(400.0, 0.0), sample(200.0, 1.5))];
        let table = to_table(&CaseRounds {
            case: Case::PutDepth1,
            rounds,
        });
        assert!(table.contains("put_depth1"));
        assert!(table.contains("400 / 400 / 400"), "{table}");
        assert!(table.contains("0.50 / 0.50 / 0.50"), "{table}");
        let idle = table
            .lines()
            .find(|l| l.starts_with("server_cpu_percent"))
            .unwrap();
        assert!(
            idle.ends_with('-'),
            "nothing can be divided by zero: {idle:?}"
        );
    }
}
