//! Bugs put in on purpose are found, each within 500 seeds, by the promise that they break.

use sim::plan::{Plan, Plant};
use sim::runner::{self, Failure};

const SEED_COUNT_MAX: u64 = 500;
/// Enough to see that what is left still fails. The program goes on for longer, and with three members that takes minutes.
const SHRINK_RUN_COUNT_MAX: usize = 25;

/// The first failure of one of these kinds, and its shrunk form.
fn find(plant: Plant, node_count: usize, kinds: &[&str]) -> (Failure, Failure) {
    for seed in 0..SEED_COUNT_MAX {
        let Err(failure) = runner::run(&Plan::new(seed, node_count, Some(plant))) else {
            continue;
        };
        let kind = failure.violation.split(':').next().unwrap_or_default();
        if kinds.contains(&kind) {
            let shrunk = runner::shrink_within(&failure, SHRINK_RUN_COUNT_MAX);
            return (*failure, shrunk);
        }
    }
    panic!("{} was not found in {SEED_COUNT_MAX} seeds", plant.name());
}

/// The seed holds without the bug, and the shrunk plan fails by itself, again and in the same way.
fn check(plant: Plant, node_count: usize, kinds: &[&str]) {
    let (failure, shrunk) = find(plant, node_count, kinds);
    let clean = Plan {
        plant: None,
        ..failure.plan.clone()
    };
    assert!(runner::run(&clean).is_ok(), "{}", failure.violation);
    assert!(shrunk.plan.faults.len() <= failure.plan.faults.len());
    assert!(shrunk.plan.until <= failure.plan.until);
    let again = runner::run(&shrunk.plan).expect_err("the shrunk plan fails");
    assert_eq!((again.violation, again.at), (shrunk.violation, shrunk.at));
}

#[test]
fn a_skipped_fsync_is_found() {
    check(
        Plant::SkipFsync,
        1,
        &["agreement", "durability", "recovery"],
    );
}

#[test]
fn an_answer_before_the_sync_is_found() {
    check(Plant::AckBeforeSync, 1, &["agreement", "durability"]);
}

#[test]
fn a_commit_with_a_minority_is_found() {
    check(Plant::MinorityCommit, 3, &["agreement", "durability"]);
}

#[test]
fn a_page_reused_while_pinned_is_found() {
    check(Plant::PageReuse, 1, &["reader"]);
}

#[test]
fn a_stale_read_of_a_deposed_leader_is_found() {
    check(Plant::StaleRead, 3, &["linearizability"]);
}

#[test]
fn a_meta_page_written_before_its_pages_are_synced_is_found() {
    check(
        Plant::StoreSync,
        1,
        &["recovery", "store", "agreement", "durability"],
    );
}

#[test]
fn a_page_of_the_store_reused_while_pinned_is_found() {
    check(Plant::StoreReuse, 1, &["reader"]);
}

#[test]
fn a_checkpoint_without_leases_is_found() {
    check(Plant::LostLeases, 1, &["lease", "agreement", "store"]);
}

#[test]
fn a_revision_that_a_watcher_misses_behind_its_catching_up_is_found() {
    check(Plant::WatchGap, 1, &["watch"]);
}

#[test]
fn a_watcher_that_resumes_too_early_is_found() {
    check(Plant::WatchEarly, 1, &["watch"]);
}

#[test]
fn a_watcher_that_resumes_too_late_is_found() {
    check(Plant::WatchLate, 3, &["watch"]);
}

#[test]
fn a_lease_that_a_restart_forgets_is_found() {
    check(Plant::ForgottenLease, 1, &["lease"]);
}
