//! Whether a single client puts, waits for the answer and puts again.
//!
//! Then the disk's answer and the next request are each some hundred microseconds away, nothing else is to be done
//! meanwhile, and the executor may wait for them awake ([`driver::expect_soon`]). With more clients, or one that takes its
//! time, it must not: that would cost CPU time and gain nobody anything.

use std::cell::Cell;
use std::time::Duration;

/// So many groups of the log in a row must have been a single put.
const RUN_MIN: u32 = 8;
/// And each must have come so soon after the one before.
const INTERVAL_MAX: Duration = Duration::from_millis(1);

/// What the newest groups of the log looked like.
#[derive(Debug, Default)]
pub(super) struct Lone {
    run: Cell<u32>,
    newest: Cell<Duration>,
}

impl Lone {
    /// A group goes to the disk while `waiting_count` proposals wait.
    pub(super) fn on_group(&self, now: Duration, waiting_count: usize) {
        let interval = now.saturating_sub(self.newest.replace(now));
        let run = match waiting_count == 1 && interval < INTERVAL_MAX {
            true => self.run.get().saturating_add(1),
            false => 0,
        };
        self.run.set(run);
    }

    /// Tells the executor that something comes soon, if that is so.
    pub(super) fn expect_soon(&self) {
        if self.is_certain() {
            driver::expect_soon();
        }
    }

    fn is_certain(&self) -> bool {
        self.run.get() >= RUN_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quick_client_by_itself_counts() {
        let interval = INTERVAL_MAX / 4;
        let lone = Lone::default();
        let mut now = Duration::from_secs(1);
        let mut groups = |count: u32, waiting_count, interval| {
            for _ in 0..count {
                now += interval;
                lone.on_group(now, waiting_count);
            }
            lone.is_certain()
        };
        assert!(
            !groups(RUN_MIN, 1, interval),
            "the first one came after a pause"
        );
        assert!(groups(1, 1, interval));
        assert!(!groups(1, 2, interval));
        assert!(!groups(RUN_MIN - 1, 1, interval));
        assert!(groups(1000, 1, interval));
        assert!(!groups(100, 1, INTERVAL_MAX));
        assert!(!groups(100, 0, interval), "a configuration change, say");
    }
}
