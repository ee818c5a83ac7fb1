//! Compares two servers in turns, or profiles one; see `bench/README.md`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use bench::args::{Request, USAGE};
use bench::compare::Comparison;
use bench::table::{Conditions, to_json, to_table};

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("etcore-compare: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match perform(request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etcore-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(request: Request) -> Result<(), Box<dyn Error>> {
    match request {
        Request::Help => print!("{USAGE}"),
        Request::Compare(comparison) => compare(&comparison)?,
        Request::Profile(profile) => print!("{}", profile.run()?),
    }
    Ok(())
}

/// Prints the conditions and the tables, then the JSON lines; progress goes to stderr.
fn compare(comparison: &Comparison) -> Result<(), Box<dyn Error>> {
    let conditions = Conditions::of(comparison)?;
    print!("{}", conditions.to_text());
    let results = comparison.run(|line| eprintln!("{line}"))?;
    for result in &results {
        print!("{}", to_table(result));
    }
    println!();
    for result in &results {
        println!("{}", to_json(result, &conditions)?);
    }
    Ok(())
}
