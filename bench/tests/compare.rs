//! Runs `etcore-bench compare` as a whole: against stubs made of this test's own program, and, where they were built,
//! against the real etcd and its `benchmark` tool.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests too")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const STUB_FLAGS: &str = "BENCH_STUB_FLAGS";

const REPORT: &str = "
Summary:
  Total:\t0.5 secs.
  Slowest:\t0.004 secs.
  Fastest:\t0.001 secs.
  Average:\t0.002 secs.
  Stddev:\t0.0005 secs.
  Requests/sec:\tRATE

Response time histogram:
  0.001 [TOTAL]\t|∎∎∎

Latency distribution:
  10% in 0.001 secs.
  25% in 0.0015 secs.
  50% in 0.002 secs.
  75% in 0.0025 secs.
  90% in 0.003 secs.
  95% in 0.0035 secs.
  99% in 0.004 secs.

";

/// Not a test by itself: the server that the stub script turns into. It answers `/health` until it is killed.
#[test]
fn stub_server() {
    let Ok(flags) = std::env::var(STUB_FLAGS) else {
        return;
    };
    let url = flags
        .split(' ')
        .find_map(|flag| flag.strip_prefix("--listen-client-urls=http://"));
    let listener = TcpListener::bind(url.unwrap()).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 512];
        assert!(stream.read(&mut request).unwrap() > 0);
        let body = r#"{"health":"true","reason":""}"#;
        let len = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}"
        )
        .unwrap();
    }
}

/// Scripts that stand for a server and for the tool. `rate` is what the tool's report claims.
struct Stubs {
    folder: TempDir,
}

impl Stubs {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let test = std::env::current_exe().unwrap();
        let server = format!(
            "{STUB_FLAGS}=\"$*\" exec '{}' stub_server --exact --nocapture --test-threads=1\n",
            test.display()
        );
        fs::write(folder.path().join("server.sh"), server).unwrap();
        Self { folder }
    }

    fn tool(&self, report: &str) -> PathBuf {
        let path = self.folder.path().join("benchmark");
        fs::write(self.folder.path().join("report"), report).unwrap();
        // The total comes back as the count, as the real tool's histogram does.
        let script = format!(
            "#!/bin/sh\nfor arg; do case $arg in --total=*) total=${{arg#--total=}};; esac; done\n\
             sed \"s/TOTAL/$total/\" '{}/report'\n",
            self.folder.path().display()
        );
        write_program(&path, &script);
        path
    }

    fn compare(&self, tool: &Path, flags: &[&str]) -> Output {
        let server = format!("sh {}/server.sh", self.folder.path().display());
        run(&server, tool, self.folder.path(), flags)
    }
}

/// Written by another process: a file that this one held open for writing while some other test's thread forked
/// could not be executed ("text file busy").
fn write_program(path: &Path, text: &str) {
    let source = path.with_extension("source");
    fs::write(&source, text).unwrap();
    let status = Command::new("install")
        .args(["-m", "755"])
        .args([&source, path])
        .status()
        .unwrap();
    assert!(status.success());
}

fn run(server: &str, tool: &Path, folder: &Path, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_etcore-bench"))
        .args([
            "compare",
            "--client=benchmark",
            "--small",
            "--server-core=any",
            "--client-core=any",
            "--a",
            server,
            "--b",
            server,
        ])
        .arg("--benchmark")
        .arg(tool)
        .arg("--folder")
        .arg(folder)
        .args(flags)
        .output()
        .unwrap()
}

fn json_lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn metric<'a>(line: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let metrics = line["metrics"].as_array().unwrap();
    metrics
        .iter()
        .find(|metric| metric["name"] == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn all_cases_against_stubs() {
    let stubs = Stubs::new();
    let tool = stubs.tool(&REPORT.replace("RATE", "400"));
    let output = stubs.compare(&tool, &["--rounds=2"]);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert_eq!(
        progress.lines().count(),
        16,
        "2 rounds, 4 cases, 2 servers:\n{progress}"
    );
    let order: Vec<&str> = progress
        .lines()
        .filter_map(|l| l.split(' ').nth(3))
        .collect();
    assert!(order.chunks(2).all(|pair| pair == ["A", "B"]), "{progress}");

    let lines = json_lines(&output);
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["case"].as_str())
        .collect();
    assert_eq!(names, ["put", "range", "put_depth1", "idle"]);
    for line in &lines[..3] {
        assert_eq!(metric(line, "requests_per_sec")["a"]["median"], 400.0);
        assert_eq!(metric(line, "requests_per_sec")["b_over_a"]["max"], 1.0);
        assert_eq!(metric(line, "latency_p50_us")["b"]["min"], 2000.0);
        assert_eq!(line["conditions"]["a"]["fsync"], true);
    }
    assert!(
        metric(&lines[3], "rss_anon_mib")["a"]["median"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let left = fs::read_dir(stubs.folder.path()).unwrap().flatten();
    let left = left.filter(|e| e.file_name().to_string_lossy().starts_with("etcore-bench-"));
    assert_eq!(left.count(), 0, "data directories are removed");
}

#[test]
fn output_that_is_not_understood_ends_the_run_and_is_shown() {
    let stubs = Stubs::new();
    for (report, shown) in [
        (REPORT.replace("RATE", "fast"), "not a number: \"fast\""),
        (
            REPORT.replace("RATE", "400").replace("TOTAL", "1"),
            "the benchmark tool counts 1",
        ),
        (
            "\nError distribution:\n  [9]\tno leader\n".to_owned(),
            "no leader",
        ),
    ] {
        let tool = stubs.tool(&report);
        let output = stubs.compare(&tool, &["--rounds=1", "--cases=put"]);
        assert!(!output.status.success());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(shown), "{shown:?} is not in {error}");
        assert_eq!(json_lines(&output).len(), 0);
    }
}

/// The smallest run of the real thing. The binaries are built by `cargo xtask ci`, which needs Go.
#[test]
fn all_cases_against_the_real_etcd() {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/compat/bin");
    let (etcd, tool) = (bin.join("etcd"), bin.join("benchmark"));
    if !etcd.exists() || !tool.exists() {
        println!("skipped: the real etcd was not built");
        return;
    }
    let folder = TempDir::new().unwrap();
    let output = run(
        &etcd.display().to_string(),
        &tool,
        folder.path(),
        &["--rounds=1"],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 4);
    for line in &lines[..3] {
        let per_request = metric(line, "server_cpu_us_per_request");
        assert!(per_request["a"]["min"].as_f64().unwrap() > 0.0, "{line}");
        assert!(
            metric(line, "requests_per_sec")["b"]["min"]
                .as_f64()
                .unwrap()
                > 0.0,
            "{line}"
        );
    }
}
