//! Runs `etcore-bench extremes` as a whole, on small counts: the program under test plays both parts.

use std::process::Command;

use tempfile::TempDir;
use tests::process;

#[test]
fn all_cases() {
    let folder = TempDir::new().unwrap();
    let server = process::program();
    let output = Command::new(process::build_program("bench", "etcore-bench", &[]))
        .args(["extremes", "--small", "--rounds=1"])
        .args(["--server-core=any", "--client-core=any"])
        .arg("--etcd")
        .arg(server)
        .arg("--etcore")
        .arg(server)
        .arg("--folder")
        .arg(folder.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    for (case, figure) in [
        ("watch", "events_per_server_cpu_sec"),
        ("idle_watchers", "watcher_anon_bytes"),
        ("stalled", "stalled_server_cpu_us_per_put"),
        ("keepalive", "keepalives_per_server_cpu_sec"),
        ("stampede", "gone_secs"),
        ("maintenance", "prober_p999_us"),
        ("starts", "killed_start_secs"),
    ] {
        let start = format!("{{\"case\":\"extremes_{case}\"");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let metrics = line["metrics"].as_array().unwrap();
        let metric = metrics.iter().find(|metric| metric["name"] == figure);
        assert!(
            metric.is_some_and(|metric| metric["a"].is_object() && metric["b"].is_object()),
            "{case} lacks {figure}: {line}"
        );
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "data directories are removed");
}
