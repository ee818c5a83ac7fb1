//! Runs our own client as a whole, against our null server, and, where it was built, against the real etcd.
//! Nothing here looks at how fast anything is.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests too")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const BENCH: &str = env!("CARGO_BIN_EXE_etcore-bench");

/// A null server on a port of its own, ended with the test.
struct NullServer {
    child: Child,
    address: String,
}

impl NullServer {
    fn start() -> Self {
        let mut child = Command::new(BENCH)
            .args(["null-server", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap();
        let address = address.split(',').next().unwrap().to_owned();
        Self { child, address }
    }

    fn run(&self, flags: &str) -> Output {
        Command::new(BENCH)
            .args(["run", "--endpoint", &self.address])
            .args(["--pid", &self.child.id().to_string()])
            .args(flags.split_ascii_whitespace())
            .output()
            .unwrap()
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // It fails only if the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn figure(line: &Value, name: &str) -> f64 {
    line["metrics"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn a_counted_load_asks_exactly_what_it_was_told() {
    let server = NullServer::start();
    let flags = "--op null --conns 7 --in-flight 30 --ops 5000 --warm-up-ops 700 --json";
    let line = json(&server.run(flags));
    assert_eq!(line["requests"], 5_000);
    assert_eq!(line["answered"], 5_700);
    assert!(line["revision_increase"].is_null());
    assert!(figure(&line, "requests_per_sec") > 0.0);
    assert!(figure(&line, "server_cpu_us_per_request") > 0.0);
    assert!(figure(&line, "client_cpu_us_per_request") > 0.0);
    let percentiles = ["p50", "p90", "p99", "p999", "max"];
    let latencies = percentiles.map(|name| figure(&line, &format!("latency_{name}_us")));
    assert!(latencies.is_sorted(), "{latencies:?}");
    assert!(figure(&line, "rss_anon_mib") > 0.0);
}

#[test]
fn a_timed_load_ends_and_large_values_pass() {
    let server = NullServer::start();
    let flags = "--op null --conns 2 --depth 3 --seconds 0.2 --val-size 300000 --json";
    let line = json(&server.run(flags));
    assert!(line["measured_secs"].as_f64().unwrap() >= 0.2);
    assert!(line["answered"].as_u64() >= line["requests"].as_u64());
    let text = server.run("--op null --ops 100");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("null on 127.0.0.1:"), "{text}");
    assert!(text.contains("latency_p50_us"), "{text}");
}

#[test]
fn answers_that_cannot_be_true_end_the_load() {
    let server = NullServer::start();
    // A null server's answer holds no key.
    let output = server.run("--op get --ops 100");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("0 keys, there are 1"), "{error}");
}

#[test]
fn two_null_servers_compare() {
    let folder = TempDir::new().unwrap();
    let server = format!("{BENCH} null-server --listen {{client-url}}");
    let output = Command::new(BENCH)
        .args([
            "compare",
            "--small",
            "--rounds=1",
            "--cases=null,null_depth1",
        ])
        .args(["--server-core=any", "--client-core=any", "--folder"])
        .arg(folder.path())
        .args(["--a", &server, "--b", &server])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|l| l.starts_with('{')).count(), 2);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The real etcd and its tool, which `cargo xtask ci` builds.
fn real() -> Option<(PathBuf, PathBuf)> {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/compat/bin");
    let (etcd, tool) = (bin.join("etcd"), bin.join("benchmark"));
    let is_built = etcd.exists() && tool.exists();
    if !is_built {
        println!("skipped: the real etcd was not built");
    }
    is_built.then_some((etcd, tool))
}

/// What a command prints that starts these programs itself.
fn run_small(command: &str, rounds: usize, programs: &[(&str, &PathBuf)]) -> String {
    let folder = TempDir::new().unwrap();
    let output = Command::new(BENCH)
        .args([command, "--small", &format!("--rounds={rounds}")])
        .args(["--server-core=any", "--client-core=any", "--folder"])
        .arg(folder.path())
        .args(
            programs
                .iter()
                .flat_map(|(flag, path)| [Path::new(flag), path]),
        )
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn counts_agree_with_etcds_benchmark() {
    let Some((etcd, tool)) = real() else { return };
    let text = run_small("agree", 2, &[("--server", &etcd), ("--benchmark", &tool)]);
    // Two rounds of 200 puts, many in flight and one by one; the tool's warm-ups are 100 at least.
    let counts = "benchmark 1200, own 880";
    assert!(text.contains(counts), "{text}");
}

#[test]
fn floors_of_etcd_against_itself_print_every_promise() {
    let Some((etcd, tool)) = real() else { return };
    let programs = [
        ("--etcd", &etcd),
        ("--etcore", &etcd),
        ("--benchmark", &tool),
    ];
    let text = run_small("floors", 1, &programs);
    let line = text.lines().find(|line| line.starts_with("{\"floors\""));
    let line: Value = serde_json::from_str(line.unwrap()).unwrap();
    let floors = line["floors"].as_array().unwrap();
    assert_eq!(floors.len(), 13, "{text}");
    for floor in floors {
        assert!(floor["figure"]["median"].as_f64().unwrap() > 0.0, "{floor}");
    }
}

#[test]
fn a_steady_run_of_etcd_against_itself_probes_each_millisecond() {
    let Some((etcd, _)) = real() else { return };
    let text = run_small("steady", 1, &[("--etcd", &etcd), ("--etcore", &etcd)]);
    let lines: Vec<Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [promises, quiet, background, compaction, part] = lines.as_slice() else {
        panic!("{text}");
    };
    let metric = |line: &Value, name: &str| {
        let metrics = line["metrics"].as_array().unwrap().iter();
        let found = metrics.clone().find(|metric| metric["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {line}"));
        [&found["a"], &found["b"]].map(|server| server["median"].as_f64().unwrap())
    };
    for (line, is_written) in [(quiet, false), (background, true), (compaction, true)] {
        // An open loop sends what is due, however busy the machine is: two requests in each of 600 ms. Only a
        // compaction that takes longer makes it more.
        let requests = metric(line, "requests");
        let is_exact = requests == [1_200.0, 1_200.0];
        assert!(is_exact || line["case"] == "steady_compaction", "{line}");
        assert!(requests.iter().all(|count| *count >= 1_200.0), "{line}");
        let background = metric(line, "background_puts_per_sec");
        assert!(background.iter().all(|rate| (*rate > 0.0) == is_written));
        let latencies = ["p50", "p99", "p999", "max"];
        let latencies = latencies.map(|name| metric(line, &format!("both_{name}_us"))[0]);
        assert!(latencies.is_sorted() && latencies[0] > 0.0, "{latencies:?}");
    }
    assert!(metric(compaction, "compaction_secs")[0] > 0.0);
    assert!(metric(part, "requests")[0] <= metric(compaction, "requests")[0]);
    let promises = promises["floors"].as_array().unwrap();
    assert_eq!(promises.len(), 8, "{text}");
    for promise in promises {
        // etcd has no turns to tell of, and what is not measured is missed.
        if promise["name"].as_str().unwrap().starts_with("turn") {
            assert_eq!(promise["is_met"], false, "{promise}");
        }
    }
    assert!(promises[2]["figure"]["median"].as_f64().unwrap() > 0.0);
}
