//! Watching the ring instead of sleeping, where an answer is known to be near.
//!
//! To go to sleep and be woken costs a thread some ten microseconds, more if the CPU goes idle over it. A client that
//! asks, waits for the disk and asks again pays that twice for each request. So whoever knows that something comes soon
//! says so ([`expect_soon`](super::expect_soon)), and for [`WATCH_MAX`] the executor looks at the ring's memory where it
//! would have slept.
//!
//! A watch takes the CPU from nobody. Every few microseconds it lets those run that share the CPU: the kernel's workers,
//! who may have to finish the very thing, or the client. If they keep it, or if nothing comes, the next watches are left
//! out, twice as many each time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::thread::sched_yield;

/// How long something that is expected may take: a quick disk writes and syncs in that time, a client thinks.
const WATCH_MAX: Duration = Duration::from_micros(200);
/// Looks at the ring between two offers of the CPU: some microseconds.
const LOOKS_PER_OFFER: u32 = 64;
/// An offer that takes longer was accepted by somebody who has more to do than to finish what we wait for.
const OFFER_MAX: Duration = Duration::from_micros(50);
/// How many expectations are left out after a watch in vain, and at most after many.
const LEFT_OUT_MIN: u32 = 8;
const LEFT_OUT_MAX: u32 = 4096;

/// Whether a sleep begins with a watch.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Until when what is expected may come. Other things may come before it.
    until: Cell<Option<Instant>>,
    /// So many expectations are still left out.
    left_out: Cell<u32>,
    /// How many were after the newest watch in vain; 0 once one was not.
    left_out_before: Cell<u32>,
}

impl Watch {
    pub(super) fn expect(&self) {
        let left_out = self.left_out.get();
        self.left_out.set(left_out.saturating_sub(1));
        let until = (left_out == 0).then(|| Instant::now() + WATCH_MAX);
        self.until.set(until);
    }

    /// Whether anything is expected still; asked in front of a sleep.
    pub(super) fn is_due(&self) -> bool {
        match self.until.get() {
            None => false,
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.until.set(None);
                false
            }
        }
    }

    /// Watches until `has_work`, for `at_most` and for no longer than is expected. `false`: nothing has come.
    pub(super) fn watch(&self, at_most: Duration, has_work: impl FnMut() -> bool) -> bool {
        let Some(until) = self.until.get() else {
            return false;
        };
        let start = Instant::now();
        let rest = until.saturating_duration_since(start);
        let has_come = watch(start, at_most.min(rest), has_work);
        if has_come {
            self.left_out_before.set(0);
        } else if at_most >= rest {
            let left_out = (self.left_out_before.get() * 2).clamp(LEFT_OUT_MIN, LEFT_OUT_MAX);
            self.left_out_before.set(left_out);
            self.left_out.set(left_out);
            self.until.set(None);
        }
        has_come
    }
}

fn watch(start: Instant, at_most: Duration, mut has_work: impl FnMut() -> bool) -> bool {
    loop {
        for _ in 0..LOOKS_PER_OFFER {
            if has_work() {
                return true;
            }
            std::hint::spin_loop();
        }
        let offered = Instant::now();
        if offered.duration_since(start) >= at_most {
            return false;
        }
        sched_yield();
        if offered.elapsed() > OFFER_MAX {
            return has_work();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_ends_a_watch_and_time_does() {
        let watch = Watch::default();
        assert!(!watch.is_due());
        assert!(!watch.watch(Duration::MAX, || panic!("nothing is expected")));
        // However often this thread is made to wait, work that is there is seen.
        watch.expect();
        assert!(watch.watch(Duration::MAX, || true));
        let mut looks = 0;
        assert!(!watch.watch(Duration::ZERO, || {
            looks += 1;
            false
        }));
        assert_eq!(looks, LOOKS_PER_OFFER);
        let watch = Watch::default();
        let start = Instant::now();
        watch.expect();
        assert!(!watch.watch(Duration::MAX, || false));
        assert!(start.elapsed() >= OFFER_MAX && !watch.is_due());
    }

    #[test]
    fn watches_in_vain_are_left_out_more_and_more() {
        let watch = Watch::default();
        let until_next = || {
            (0..)
                .find(|_| {
                    watch.expect();
                    watch.until.get().is_some()
                })
                .unwrap()
        };
        for expected in [0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096] {
            assert_eq!(until_next(), expected);
            watch.watch(Duration::MAX, || false);
        }
        assert_eq!(until_next(), 4096);
        watch.watch(Duration::MAX, || true);
        assert_eq!(until_next(), 0);
    }
}
