//! Load, comparison, promises and denominators; see `bench/README.md`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use bench::agree::Agreement;
use bench::args::{Disk, NullServer, Request, USAGE};
use bench::compare::{CaseRounds, Comparison};
use bench::extremes::ExtremesRun;
use bench::floors::{self, FloorsLine, FloorsRun};
use bench::single::SingleRun;
use bench::steady::{self, SteadyRun};
use bench::table::{Conditions, to_json, to_table};
use bench::{disk, null_server};

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("etcore-bench: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match perform(request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etcore-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(request: Request) -> Result<(), Box<dyn Error>> {
    match request {
        Request::Help => print!("{USAGE}"),
        Request::Run(run) => single(&run)?,
        Request::Compare(comparison) => compare(&comparison)?,
        Request::Floors(run) => floors(&run)?,
        Request::Steady(run) => steady(&run)?,
        Request::Extremes(run) => extremes(&run)?,
        Request::Agree(agreement) => agree(&agreement)?,
        Request::Profile(profile) => print!("{}", profile.run()?),
        Request::NullServer(server) => serve_null(&server)?,
        Request::Disk(disk) => measure_disk(&disk)?,
    }
    Ok(())
}

fn single(run: &SingleRun) -> Result<(), Box<dyn Error>> {
    let result = run.run()?;
    if run.is_json {
        println!("{}", run.to_json(&result)?);
    } else {
        print!("{}", run.to_text(&result));
    }
    Ok(())
}

/// Prints the conditions and the tables, then the JSON lines; progress goes to stderr.
fn compare(comparison: &Comparison) -> Result<(), Box<dyn Error>> {
    let conditions = Conditions::of(
        [&comparison.a, &comparison.b],
        comparison.round_count,
        &comparison.settings,
    )?;
    print!("{}", conditions.to_text());
    let results = comparison.run(|line| eprintln!("{line}"))?;
    print_tables(&results);
    println!();
    print_lines(&results, &conditions)
}

fn floors(run: &FloorsRun) -> Result<(), Box<dyn Error>> {
    let conditions = Conditions::of([&run.etcd, &run.etcore], run.round_count, &run.settings)?;
    print!("{}", conditions.to_text());
    let measured = run.run(|line| eprintln!("{line}"))?;
    print_tables(&measured.own);
    if !measured.tool.is_empty() {
        println!("\nby etcd's benchmark:");
        print_tables(&measured.tool);
    }
    println!();
    for round in &measured.denominators {
        println!("{}", round.to_text());
    }
    let floors = measured.floors();
    println!("{}", floors::to_text(&floors));
    let line = FloorsLine::new(&floors, &measured);
    println!("{}", serde_json::to_string(&line)?);
    print_lines(&measured.own, &conditions)?;
    let by_tool = Conditions {
        client: "benchmark",
        ..conditions
    };
    print_lines(&measured.tool, &by_tool)
}

fn steady(run: &SteadyRun) -> Result<(), Box<dyn Error>> {
    let conditions = Conditions::of([&run.etcd, &run.etcore], run.round_count, &run.settings)?;
    print!("{}", conditions.to_text());
    print!("{}", steady::sizes_text(&run.sizes));
    let result = run.run(|line| eprintln!("{line}"))?;
    print!("{}", result.to_table());
    let floors = result.floors();
    println!("{}", floors::to_text(&floors));
    println!("{}", serde_json::json!({ "floors": floors }));
    for line in result.to_json(&run.sizes, &conditions)? {
        println!("{line}");
    }
    Ok(())
}

fn extremes(run: &ExtremesRun) -> Result<(), Box<dyn Error>> {
    let conditions = Conditions::of([&run.etcd, &run.etcore], run.round_count, &run.settings)?;
    print!("{}", conditions.to_text());
    println!("{:?}", run.sizes);
    let result = run.run(|line| eprintln!("{line}"))?;
    print!("{}", result.to_table());
    let floors = result.floors();
    println!("{}", floors::to_text(&floors));
    println!("{}", serde_json::json!({ "floors": floors }));
    for line in result.to_json(&conditions)? {
        println!("{line}");
    }
    Ok(())
}

fn agree(agreement: &Agreement) -> Result<(), Box<dyn Error>> {
    let result = agreement.run(|line| eprintln!("{line}"))?;
    println!("A: etcd's benchmark, B: our own client, on the same server");
    print_tables(&result.cases);
    println!("\n{}", result.to_text());
    Ok(())
}

fn print_tables(results: &[CaseRounds]) {
    for result in results {
        print!("{}", to_table(result));
    }
}

fn print_lines(results: &[CaseRounds], conditions: &Conditions) -> Result<(), Box<dyn Error>> {
    for result in results {
        println!("{}", to_json(result, conditions)?);
    }
    Ok(())
}

fn serve_null(server: &NullServer) -> Result<(), Box<dyn Error>> {
    let pid = std::process::id();
    null_server::serve(server.listen, server.core, |address| {
        println!("listening on {address}, pid {pid}");
        // Whoever started this reads the line to know the port.
        let _ = std::io::stdout().flush();
    })?;
    Ok(())
}

fn measure_disk(request: &Disk) -> Result<(), Box<dyn Error>> {
    let latency = disk::measure(&request.folder, request.core, request.count)?;
    if request.is_json {
        println!("{}", serde_json::to_string(&latency)?);
    } else {
        print!("{}", latency.to_text());
    }
    Ok(())
}
