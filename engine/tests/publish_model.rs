//! Publish, pin and reclaim under a model of all threads' interleavings.
//!
//! The file under test is the engine's own, compiled here with shuttle's atomics. The "arena" is a word for each page,
//! which the writer overwrites when a page is used again; a reader that sees this happen under its pin has found a bug.

use std::collections::VecDeque;

use shuttle::sync::Arc;
use shuttle::thread;

mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
}

#[expect(
    unreachable_pub,
    reason = "public in the engine, a module of a program here"
)]
#[path = "../src/cow/publish.rs"]
mod publish;

use publish::Registry;
use sync::{AtomicU64, Ordering};

const PAGES: usize = 8;
const SCHEDULES: usize = 3000;

struct Shared {
    registry: Registry,
    /// Page `i` holds the number of the batch that wrote it.
    pages: Vec<AtomicU64>,
}

/// Publishes `batches` roots, each on a page of its own; the former root's page is retired with each. `hurry` counts
/// versions by which pages are used again too soon.
fn write(shared: &Shared, batches: u64, hurry: u64) {
    let mut free: Vec<usize> = (1..PAGES).collect();
    let mut retired: VecDeque<(u64, usize)> = VecDeque::new();
    let mut root = 0;
    for batch in 1..=batches {
        let Some(page) = free.pop() else { return };
        shared.pages[page].store(batch, Ordering::Relaxed);
        let version = shared.registry.publish((batch << 8) | page as u64);
        retired.push_back((version, root));
        root = page;
        let oldest = shared.registry.oldest() + hurry;
        while let Some((_, page)) = retired.pop_front_if(|(version, _)| *version <= oldest) {
            // Used again: whoever still reads it sees another number.
            shared.pages[page].store(u64::MAX, Ordering::Relaxed);
            free.push(page);
        }
    }
}

fn read(shared: &Shared, pins: usize) {
    let mut slot = shared.registry.register().expect("there are slots");
    let mut newest = 0;
    for _ in 0..pins {
        let root = shared.registry.pin(&mut slot);
        let (batch, page) = (root >> 8, (root & 0xff) as usize);
        assert!(batch >= newest, "a later pin sees an older state");
        newest = batch;
        for _ in 0..2 {
            let seen = shared.pages[page].load(Ordering::Relaxed);
            assert_eq!(seen, batch, "page {page} was used again under a pin");
        }
        shared.registry.unpin(&mut slot);
    }
    shared.registry.unregister(slot);
}

fn round(hurry: u64) {
    let shared = Arc::new(Shared {
        registry: Registry::new(0, 2),
        pages: (0..PAGES).map(|_| AtomicU64::new(0)).collect(),
    });
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || read(&shared, 3))
        })
        .collect();
    write(&shared, 5, hurry);
    for reader in readers {
        reader.join().expect("a reader ends well");
    }
}

#[test]
fn no_page_is_used_again_under_a_pin() {
    shuttle::check_random(|| round(0), SCHEDULES);
    shuttle::check_pct(|| round(0), SCHEDULES, 3);
}

/// The model would find a page that is used one version too soon.
#[test]
#[should_panic(expected = "used again under a pin")]
fn the_model_sees_a_hasty_writer() {
    shuttle::check_random(|| round(1), SCHEDULES);
}
