//! Everything that must hold before a change lands, in the order in which a failure is cheapest.
//!
//! All steps run even when one fails, so that one run tells all there is to mend. The last line is the sum.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fuzz;
use crate::report::Counts;
use crate::sim;
use crate::step::{Failure, Step};
use crate::tidy;

/// Folders of Go modules that bring the real etcd, with the packages to test in each.
const COMPAT_FOLDER: &str = "tests/compat";

/// Runs all checks.
///
/// # Errors
/// If any check failed, after all have run.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    let mut check = |name: &'static str, args: &[&str], counts: &mut Counts| {
        let step = Step {
            name,
            program: "cargo",
            args,
            // Other programs of a shared machine must not decide: a client must not starve; soak asks for more.
            env: &[("ETCORE_HOSTILE_PERCENT", Some("50"))],
            folder: root,
        };
        let outcome = step.run()?;
        match args[0] {
            "test" => counts.add_tests(&outcome.lines, outcome.success),
            _ => counts.add_check(outcome.success),
        }
        if !outcome.success {
            failures.push(name);
        }
        Ok::<(), Failure>(())
    };
    check("format", &["fmt", "--all", "--", "--check"], &mut counts)?;
    // The test command that the README names comes first; the rest only adds to it. One failure does not hide others.
    check(
        "tests",
        &["test", "--workspace", "--no-fail-fast"],
        &mut counts,
    )?;
    check(
        "faults",
        &[
            "test",
            "-p",
            "driver",
            "-p",
            "server",
            "--features",
            "faults",
            "--no-fail-fast",
        ],
        &mut counts,
    )?;
    check(
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &mut counts,
    )?;
    check(
        "docs",
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ],
        &mut counts,
    )?;
    for (seeds, nodes) in sim::SHORT {
        // The profile of the tests: built already, and it checks for overflows.
        let args = [
            "run",
            "-q",
            "--profile",
            "test",
            "-p",
            "sim",
            "--",
            "--seeds",
            seeds,
            "--nodes",
            nodes,
        ];
        check("simulator", &args, &mut counts)?;
    }
    let tidy = tidy::run(root);
    counts.add_check(tidy.is_ok());
    if let Err(text) = tidy {
        println!("{text}");
        failures.push("tidy");
    }
    if let Err(text) = fuzz::run_all(root, fuzz::SHORT, &mut counts) {
        println!("{text}");
        failures.push("fuzz");
    }
    if let Err(text) = compat(root, &mut counts, &[]) {
        println!("{text}");
        failures.push("compat");
    }
    finish(counts, &failures)
}

/// Runs only what needs Go and the real etcd.
///
/// # Errors
/// If any check failed.
pub(crate) fn run_compat(root: &Path) -> Result<(), Failure> {
    let mut counts = Counts::default();
    let outcome = compat(root, &mut counts, &[]);
    finish(counts, if outcome.is_ok() { &[] } else { &["compat"] })
}

/// Runs the long forms of the tests that CI samples, with a seed that no run had.
///
/// # Errors
/// If any check failed.
pub(crate) fn run_soak(root: &Path) -> Result<(), Failure> {
    let mut counts = Counts::default();
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seed = since.as_secs().to_string();
    println!("== soak: repeat with ETCORE_SEED={seed} PROPTEST_RNG_SEED={seed}");
    let long = [
        ("ETCORE_SIGKILL_ROUNDS", Some("200")),
        ("ETCORE_DAMAGE_FLIPS", Some("300")),
        ("ETCORE_HOSTILE_MS", Some("5000")),
        ("ETCORE_SHARD_READS", Some("1000000")),
        ("ETCORE_STREAM_MIB", Some("1024")),
        ("ETCORE_RANGE_KEYS", Some("1000000")),
        ("ETCORE_STALL_SECONDS", Some("60")),
        ("PROPTEST_CASES", Some("4096")),
        ("PROPTEST_RNG_SEED", Some(seed.as_str())),
        ("ETCORE_SEED", Some(seed.as_str())),
        ("CI", Some("true")),
    ];
    let step = Step {
        name: "soak",
        program: "cargo",
        args: &["test", "--release", "--workspace", "--no-fail-fast"],
        env: &long,
        folder: root,
    };
    let outcome = step.run()?;
    counts.add_tests(&outcome.lines, outcome.success);
    let long = [
        ("ETCORE_DIFF_OPS", Some("200000")),
        ("ETCORE_SEED", Some(seed.as_str())),
        ("ETCORE_HANDS_ROUNDS", Some("30")),
        ("ETCORE_HANDS_CALLS", Some("1000")),
    ];
    let compat = compat(root, &mut counts, &long);
    let mut failures = Vec::new();
    if !outcome.success {
        failures.push("soak");
    }
    if let Err(text) = fuzz::run_all(root, fuzz::LONG, &mut counts) {
        println!("{text}");
        failures.push("fuzz");
    }
    if compat.is_err() {
        failures.push("compat");
    }
    finish(counts, &failures)
}

/// Builds the release binary the way a machine without protoc would, the oracle, and runs the Go tests.
fn compat(root: &Path, counts: &mut Counts, extra: &[(&str, Option<&str>)]) -> Result<(), Failure> {
    let binary = build_release(root)?;
    let folder = root.join(COMPAT_FOLDER);
    let build = Step {
        name: "oracle",
        program: "sh",
        args: &["build.sh"],
        env: GO_ENV,
        folder: &folder,
    };
    if !build.run()?.success {
        counts.add_check(false);
        return Err("compat: the real etcd could not be built".into());
    }
    let mut env = GO_ENV.to_vec();
    env.push(("ETCORE_BIN", binary.to_str()));
    env.push(("CI", Some("true")));
    env.extend_from_slice(extra);
    let args = ["test", "-v", "-count=1", "-timeout", "40m", "./..."];
    let tests = Step {
        name: "compat",
        program: "go",
        args: &args,
        env: &env,
        folder: &folder,
    };
    let outcome = tests.run()?;
    println!("== compat, seconds by package");
    for line in outcome.lines.iter().filter(|line| is_package(line)) {
        println!("{line}");
    }
    counts.add_tests(&outcome.lines, outcome.success);
    if !outcome.success {
        return Err("compat: tests against the real etcd failed".into());
    }
    Ok(())
}

/// Whether Go tells the end of a package's tests, and how long they took.
fn is_package(line: &str) -> bool {
    line.starts_with("ok  \t") || line.starts_with("FAIL\t")
}

const GO_ENV: &[(&str, Option<&str>)] = &[
    ("GOTOOLCHAIN", Some("local")),
    ("CGO_ENABLED", Some("0")),
    ("GOFLAGS", Some("-mod=readonly")),
];

/// The release server, built with no protoc in reach, as on a machine with only Rust and a C compiler.
pub(crate) fn build_release(root: &Path) -> Result<PathBuf, Failure> {
    let path = path_without("protoc");
    let step = Step {
        name: "release build without protoc",
        program: "cargo",
        args: &["build", "--release", "-p", "server", "--bin", "etcore"],
        env: &[("PATH", Some(&path)), ("PROTOC", None)],
        folder: root,
    };
    if !step.run()?.success {
        return Err("the release build failed".into());
    }
    Ok(target_folder(root).join("release").join("etcore"))
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// `PATH` less every folder that holds `program`.
fn path_without(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let kept: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|dir| !dir.join(program).exists())
        .collect();
    std::env::join_paths(kept)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn finish(counts: Counts, failures: &[&str]) -> Result<(), Failure> {
    println!("{counts}");
    if failures.is_empty() && counts.failed == 0 {
        return Ok(());
    }
    Err(format!("failed: {}", failures.join(", ")))
}
