//! The program `sim`: runs seeds, prints and shrinks what fails.
//!
//! ```text
//! sim --seed 7 --nodes 3              one seed, with its trace hash
//! sim --seeds 0..2000 --nodes 1       a range, on all cores; ends with the first failing seed, shrunk
//! ```
//! A report names the command that replays it; `--until-us`, `--clients`, `--readers`, `--watchers` and `--faults` are for that.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sim::plan::{Plan, Plant};
use sim::runner::{self, Failure};
use sim::world::Summary;

const USAGE: &str = "usage: sim [--seed N | --seeds A..B] [--nodes 1|3] [--plant BUG] [--jobs N]
           [--until-us T] [--clients N] [--readers N] [--watchers N] [--faults none|N,N,..]
           [--trace yes|no]

  BUG: skip-fsync, ack-before-sync, minority-commit, stale-read, page-reuse, store-sync, store-reuse, lost-leases,
       forgotten-lease, watch-gap, watch-early, watch-late
";

#[derive(Debug)]
struct Options {
    seeds: Range<u64>,
    node_count: usize,
    plant: Option<Plant>,
    jobs: usize,
    until: Option<u64>,
    clients: Option<usize>,
    readers: Option<usize>,
    watchers: Option<usize>,
    faults: Option<Vec<usize>>,
    is_traced: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = match parse(&args) {
        Ok(options) => options,
        Err(error) => {
            eprint!("sim: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    match run_all(&options) {
        Ok(total) => {
            let Range { start, end } = options.seeds;
            println!(
                "sim: seeds {start}..{end} of {} members hold: {} operations, {} answered, {} starts, {} events, \
                 {} pinned or sliced reads ({} overtaken, {} compacted, {} by a hold), \
                 {:?}, {} keep-alives, {} leases ran out, flips ({} refused, {} stopped, {} unnoticed), trace {:016x}, {:.1?}",
                options.node_count,
                total.operation_count,
                total.answered_count,
                total.start_count,
                total.event_count,
                total.reads.done,
                total.reads.overtaken,
                total.reads.compacted,
                total.reads.held,
                total.watches,
                total.renewed_count,
                total.expired_count,
                total.flips.refused,
                total.flips.stopped,
                total.flips.unnoticed,
                total.trace_hash,
                started.elapsed()
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            print!("{}", runner::report(&failure));
            println!("shrinking ...");
            print!("{}", runner::report(&runner::shrink(&failure)));
            ExitCode::FAILURE
        }
    }
}

/// All seeds, spread over threads; the failure with the lowest seed.
fn run_all(options: &Options) -> Result<Summary, Box<Failure>> {
    let next = AtomicU64::new(options.seeds.start);
    let end = AtomicU64::new(options.seeds.end);
    let failure: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    let total: Mutex<Summary> = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    match runner::run(&plan(options, seed)) {
                        Ok(summary) => add(
                            &mut total.lock().unwrap_or_else(PoisonError::into_inner),
                            &summary,
                        ),
                        Err(found) => {
                            end.fetch_min(seed, Ordering::Relaxed);
                            let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                            if first.as_ref().is_none_or(|f| seed < f.plan.seed) {
                                *first = Some(found);
                            }
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Sums; the trace of many seeds does not depend on the order in which threads ended.
fn add(total: &mut Summary, run: &Summary) {
    total.trace_hash ^= run.trace_hash;
    total.event_count += run.event_count;
    total.operation_count += run.operation_count;
    total.answered_count += run.answered_count;
    total.start_count += run.start_count;
    total.reads.add(&run.reads);
    total.watches += &run.watches;
    total.renewed_count += run.renewed_count;
    total.expired_count += run.expired_count;
    total.flips.add(&run.flips);
    total.revision = total.revision.max(run.revision);
}

fn plan(options: &Options, seed: u64) -> Plan {
    let mut plan = Plan::new(seed, options.node_count, options.plant);
    plan.until = options.until.unwrap_or(plan.until);
    plan.client_count = options.clients.unwrap_or(plan.client_count);
    plan.reader_count = options.readers.unwrap_or(plan.reader_count);
    plan.watcher_count = options.watchers.unwrap_or(plan.watcher_count);
    plan.is_traced = options.is_traced;
    if let Some(kept) = &options.faults {
        plan.faults.retain(|fault| kept.contains(&fault.no));
    }
    plan
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        seeds: 0..100,
        node_count: 1,
        plant: None,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        until: None,
        clients: None,
        readers: None,
        watchers: None,
        faults: None,
        is_traced: false,
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--seed" => {
                let seed = number(value)?;
                options.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let (start, end) = value.split_once("..").ok_or("--seeds takes A..B")?;
                options.seeds = number(start)?..number(end)?;
            }
            "--nodes" => match number(value)? {
                count @ (1 | 3) => options.node_count = count as usize,
                _ => return Err("--nodes takes 1 or 3".to_owned()),
            },
            "--plant" => options.plant = Some(plant(value)?),
            "--jobs" => options.jobs = number(value)?.max(1) as usize,
            "--until-us" => options.until = Some(number(value)?),
            "--clients" => options.clients = Some(number(value)?.max(1) as usize),
            "--readers" => options.readers = Some(number(value)? as usize),
            "--watchers" => options.watchers = Some(number(value)? as usize),
            "--trace" => options.is_traced = value == "yes",
            "--faults" => options.faults = Some(faults(value)?),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(options)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn plant(name: &str) -> Result<Plant, String> {
    let found = Plant::ALL.into_iter().find(|plant| plant.name() == name);
    found.ok_or_else(|| format!("no bug is called {name}"))
}

fn faults(text: &str) -> Result<Vec<usize>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let numbers = text.split(',').map(|no| number(no).map(|no| no as usize));
    numbers.collect()
}
