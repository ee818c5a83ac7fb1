//! Holds and sweeps under a model of all threads' interleavings.
//!
//! The file under test is the engine's own, compiled here with shuttle's atomics. A "version" is a word for each
//! revision, which a sweep clears; a reader that finds the version of its held revision cleared has found a bug.

use shuttle::sync::Arc;
use shuttle::thread;

mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../src/mvcc/holds.rs"]
mod holds;

use holds::Holds;
use sync::{AtomicU64, Ordering};

const REVISIONS: u64 = 6;
const SCHEDULES: usize = 3000;

struct Shared {
    holds: Holds,
    /// The newest revision that is published; the compact revision stands in `holds`.
    published: AtomicU64,
    versions: Vec<AtomicU64>,
}

/// Compacts step by step, sweeping one version at a time. `hurry`: looks at the holds once for each compaction, before
/// it is published.
fn sweep(shared: &Shared, hurry: bool) {
    let mut swept = 0;
    for compacted in 1..REVISIONS {
        let early = shared.holds.held_below(compacted);
        shared.published.store(compacted, Ordering::SeqCst);
        shared.holds.on_compacted(compacted);
        for revision in swept..compacted {
            let held = match hurry {
                true => early.clone(),
                false => shared.holds.held_below(compacted),
            };
            if !held.contains(&(revision as i64)) {
                shared.versions[revision as usize].store(1, Ordering::Relaxed);
            }
        }
        swept = compacted;
    }
}

fn read(shared: &Shared, tries: usize) {
    for _ in 0..tries {
        let revision = shared.published.load(Ordering::SeqCst);
        let Some(hold) = shared.holds.hold(revision) else {
            continue;
        };
        for _ in 0..2 {
            let swept = shared.versions[revision as usize].load(Ordering::Relaxed);
            assert_eq!(swept, 0, "revision {revision} was swept under a hold");
        }
        shared.holds.release(&hold);
    }
}

fn round(hurry: bool) {
    let shared = Arc::new(Shared {
        holds: Holds::new(2),
        published: AtomicU64::new(0),
        versions: (0..REVISIONS).map(|_| AtomicU64::new(0)).collect(),
    });
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || read(&shared, 3))
        })
        .collect();
    sweep(&shared, hurry);
    for reader in readers {
        reader.join().expect("a reader ends well");
    }
}

#[test]
fn no_version_is_swept_under_a_hold() {
    shuttle::check_random(|| round(false), SCHEDULES);
    shuttle::check_pct(|| round(false), SCHEDULES, 3);
}

/// The model would find a sweep that looks at the holds too soon.
#[test]
#[should_panic(expected = "was swept under a hold")]
fn the_model_sees_a_hasty_sweep() {
    shuttle::check_random(|| round(true), SCHEDULES);
}
