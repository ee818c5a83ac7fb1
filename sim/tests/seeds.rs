//! A small share of the seeds, and what the simulator promises about itself.

use sim::check::flip::FlipCounts;
use sim::plan::Plan;
use sim::reader::ReadCounts;
use sim::runner;
use sim::watching::WatchCounts;

/// Seeds per run of the tests; `cargo xtask sim` runs many more.
const SINGLE_SEED_COUNT: u64 = 120;
const THREE_SEED_COUNT: u64 = 20;

fn check(node_count: usize, seed_count: u64) {
    if let Some(failure) = runner::first_failure(0..seed_count, node_count, None) {
        panic!("{}", runner::report(&runner::shrink(&failure)));
    }
}

#[test]
fn a_single_member_holds() {
    check(1, SINGLE_SEED_COUNT);
}

#[test]
fn three_members_hold() {
    check(3, THREE_SEED_COUNT);
}

/// What only the long run found, as long as the plan of the seed stays what it was.
#[test]
fn seeds_that_broke_hold() {
    // A lease whose checkpoint gave it more than its TTL; leases checkpointed at every tick, to the end.
    for (seed, node_count) in [(4297, 1), (1094, 3)] {
        if let Err(failure) = runner::run(&Plan::new(seed, node_count, None)) {
            panic!("{}", runner::report(&failure));
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for node_count in [1, 3] {
        let run = |seed| runner::run(&Plan::new(seed, node_count, None)).expect("holds");
        let first = run(3);
        assert_eq!(first, run(3));
        assert_ne!(first.trace_hash, run(4).trace_hash);
    }
}

/// Seeds whose runs did nothing would hold, too.
#[test]
fn runs_exercise_what_they_should() {
    for node_count in [1, 3] {
        let runs = (0..10).map(|seed| runner::run(&Plan::new(seed, node_count, None)));
        let runs: Vec<_> = runs.map(|run| run.expect("holds")).collect();
        let starts: u32 = runs.iter().map(|run| run.start_count).sum();
        let answered: usize = runs.iter().map(|run| run.answered_count).sum();
        let lost: usize = runs
            .iter()
            .map(|run| run.operation_count - run.answered_count)
            .sum();
        assert!(starts > 30, "{starts} starts");
        assert!(answered > 2000, "{answered} answers");
        let mut reads = ReadCounts::default();
        runs.iter().for_each(|run| reads.add(&run.reads));
        let counts = [reads.done, reads.overtaken, reads.compacted, reads.held];
        let least = [150, 40, 10, 1];
        let is_enough = counts
            .iter()
            .zip(least)
            .all(|(count, least)| *count >= least);
        assert!(is_enough, "{reads:?}");
        let mut watches = WatchCounts::default();
        runs.iter().for_each(|run| watches += &run.watches);
        let WatchCounts {
            created,
            resumed,
            events,
            filled,
            compacted,
            split,
            progress,
        } = watches;
        let counts = [created, resumed, events, filled, compacted, split, progress];
        let least = [200, 100, 1000, 50, 20, 10, 20];
        let is_enough = counts
            .iter()
            .zip(least)
            .all(|(count, least)| *count >= least);
        assert!(is_enough, "{watches:?}");
        assert!(lost > 5, "{lost} calls without an answer");
    }
}

/// Flips that nobody looked at would hold, too.
#[test]
fn flipped_bits_are_noticed() {
    let mut flips = FlipCounts::default();
    for seed in 0..150 {
        let run = runner::run(&Plan::new(seed, 1, None)).expect("holds");
        flips.add(&run.flips);
    }
    assert!(flips.refused > 2 && flips.unnoticed > 2, "{flips:?}");
}
