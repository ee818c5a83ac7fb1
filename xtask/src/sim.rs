//! The simulator: many seeds by hand, fewer in CI.

use std::path::Path;

use crate::step::{Failure, Step};

/// `(seeds, members)` of `cargo xtask sim` without arguments.
const LONG: [(&str, &str); 2] = [("0..20000", "1"), ("0..2000", "3")];

/// What CI runs; well under three minutes on two cores.
pub(crate) const SHORT: [(&str, &str); 2] = [("0..2000", "1"), ("0..200", "3")];

/// Runs the simulator with these arguments, or over many seeds of one and of three members.
///
/// # Errors
/// If a seed failed; its report was printed.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), Failure> {
    if !args.is_empty() {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        return run_one(root, &args);
    }
    for (seeds, nodes) in LONG {
        run_one(root, &["--seeds", seeds, "--nodes", nodes])?;
    }
    Ok(())
}

fn run_one(root: &Path, args: &[&str]) -> Result<(), Failure> {
    let step = Step {
        name: "simulator",
        program: "cargo",
        args: &[&["run", "--release", "-q", "-p", "sim", "--"], args].concat(),
        env: &[],
        folder: root,
    };
    match step.run()?.success {
        true => Ok(()),
        false => Err("a seed failed".into()),
    }
}
