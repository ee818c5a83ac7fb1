//! Building the fuzzer on stable Rust, and seeing that it works.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Folders, make};
use crate::step::{Failure, Step};

/// rustc takes LLVM's coverage pass as a code generation option; these make it count edges for libFuzzer and hand it the
/// operands of comparisons. `cfg(fuzzing)` is what other crates know fuzzers by.
const RUSTFLAGS: &str = "-C passes=sancov-module \
     -C llvm-args=-sanitizer-coverage-level=4 \
     -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
     -C llvm-args=-sanitizer-coverage-pc-table \
     -C llvm-args=-sanitizer-coverage-trace-compares \
     --cfg fuzzing";

/// Named, so that the flags are for what is fuzzed and not for build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Chance alone would take years; with coverage it takes a second.
const PLANTED_SECONDS_MAX: &str = "-max_total_time=60";

/// Builds the fuzzer and proves it on a planted fault; returns the program.
///
/// # Errors
/// If something is missing, which the text names, or does not work.
pub(super) fn build(folders: &Folders) -> Result<PathBuf, Failure> {
    check_compiler()?;
    let target_folder = folders.work.join("build");
    let manifest = folders.root.join("fuzz/libfuzzer/Cargo.toml");
    let step = Step {
        name: "fuzzer",
        program: "cargo",
        args: &[
            "build",
            "--release",
            "--quiet",
            "--target",
            TRIPLE,
            "--manifest-path",
            &manifest.to_string_lossy(),
            "--target-dir",
            &target_folder.to_string_lossy(),
        ],
        env: &[
            ("RUSTFLAGS", Some(RUSTFLAGS)),
            ("CARGO_ENCODED_RUSTFLAGS", None),
        ],
        folder: &folders.root,
    };
    if !step.run()?.success {
        return Err("the fuzzer could not be built".into());
    }
    let program = target_folder.join(TRIPLE).join("release/fuzz-libfuzzer");
    check_planted(&program, folders)?;
    Ok(program)
}

/// libFuzzer comes as C++ sources, which the build compiles with `$CXX` or `c++`.
fn check_compiler() -> Result<(), Failure> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let status = Command::new(&compiler)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!(
            "libFuzzer needs a C++ compiler, and {compiler:?} does not run: install g++ (Debian: apt-get install g++), \
             or name one in CXX"
        )),
    }
}

/// Lets the fuzzer look for two faults, of which one needs coverage and the other the bound on memory.
fn check_planted(program: &PathBuf, folders: &Folders) -> Result<(), Failure> {
    let folder = make(folders.work.join("planted"))?;
    let output = Command::new(program)
        .env("FUZZ_TARGET", "planted")
        .arg(PLANTED_SECONDS_MAX)
        .arg(format!("-artifact_prefix={}/", folder.display()))
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && text.contains("memory allocation of") {
        return Ok(());
    }
    Err(format!(
        "the fuzzer did not find the planted faults, so it would find no others: does this rustc still take the options \
         of coverage?\n{text}"
    ))
}
