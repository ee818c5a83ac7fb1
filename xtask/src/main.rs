//! Repository chores: `cargo xtask serve | ci | tidy | compat | soak | sim | fuzz`.
//!
//! - `serve` builds the server, starts it and says how to try it;
//! - `ci` is everything that must hold before a change lands; `.ci/run` only calls it;
//! - `tidy` checks what no compiler checks: layers, clocks in cores, module texts;
//! - `compat` is the part of `ci` that needs Go and the real etcd;
//! - `soak` runs the long forms of what `ci` samples;
//! - `sim` runs the simulator, over many seeds or as its arguments say;
//! - `fuzz` runs the fuzz targets (needs a C++ compiler).
#![forbid(unsafe_code)]

mod ci;
mod fuzz;
mod report;
mod serve;
mod sim;
mod step;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  serve [flags of etcore]  build and start a single node, and say how to try it
  ci                       format, lints, tidy, tests, compatibility with the real etcd
  tidy                     the repository's own lints
  compat                   only the checks against the real etcd (needs Go)
  soak                     the long forms of the tests that CI samples
  sim [flags of sim]       20,000 seeds of one member and 2,000 of three; or --seed N --nodes 1|3
  fuzz [--seconds N] [--keep] [target]...
                           the fuzz targets (needs a C++ compiler); --keep minimises what was found into fuzz/corpus
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let root = repository_root();
    let outcome = match command.as_str() {
        "serve" => serve::run(&root, &args.collect::<Vec<_>>()),
        "ci" => ci::run(&root),
        "compat" => ci::run_compat(&root),
        "soak" => ci::run_soak(&root),
        "sim" => sim::run(&root, &args.collect::<Vec<_>>()),
        "fuzz" => fuzz::run(&root, &args.collect::<Vec<_>>()),
        "tidy" => tidy::run(&root),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace manifest.
fn repository_root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}
