//! When a durable write may be one operation.
//!
//! ```text
//!  linked   write -> interrupt -> executor -> worker thread: flush -> interrupt -> worker thread -> executor
//!  single   write -> interrupt -> kernel's worker: flush -> interrupt -> kernel's worker -> executor
//! ```
//!
//! A single one (RWF_DSYNC) spares two changes of thread and, where the disk interrupts another CPU, a wake-up across.
//! Two things speak against it, and are watched here:
//! - It covers its own bytes only: a disk with FUA flushes nothing else. So it is no sync as long as something else was
//!   written to the file and not synced.
//! - The kernel ends it on a worker that is bound to the CPU of the interrupt. Where that CPU is busy, each one takes
//!   milliseconds, twenty times what linked operations take. So a slow one ends the use for a while, longer each time.

use std::cell::Cell;
use std::time::Duration;

/// What takes longer is not worth a try: either a CPU is busy, or the disk is so slow that a change of thread is nothing
/// beside it.
const SLOW: Duration = Duration::from_millis(1);
/// The pause after a slow one is so many times what it took: then it costs little, whatever it took.
const PAUSE_FACTOR: u32 = 16;
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So many quick ones in a row, and slow ones are forgotten.
const FORGET_COUNT: u32 = 16;

/// What a file has seen of both.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// Changes of the file that have ended and were not synced by themselves.
    changed_count: Cell<u64>,
    /// How many of them a sync has covered.
    synced_count: Cell<u64>,
    /// No single operation before.
    paused_until: Cell<Duration>,
    /// The length of the newest pause; zero once that is forgotten.
    pause: Cell<Duration>,
    /// Quick ones since the newest slow one.
    quick_count: Cell<u32>,
}

/// Which changes had ended when a sync began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

impl Durable {
    /// A file about which nothing is known.
    pub(super) fn new() -> Self {
        let new = Self::default();
        new.on_changed();
        new
    }

    /// Something of the file was changed, perhaps in part.
    pub(super) fn on_changed(&self) {
        self.changed_count.set(self.changed_count.get() + 1);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.changed_count.get())
    }

    /// A sync that began at `mark` succeeded.
    pub(super) fn on_synced(&self, mark: Mark) {
        self.synced_count.set(self.synced_count.get().max(mark.0));
    }

    /// Whether a write as a single operation leaves all on the disk, and is likely to be quick.
    pub(super) fn allows_single(&self, now: Duration) -> bool {
        self.synced_count.get() == self.changed_count.get() && now >= self.paused_until.get()
    }

    /// A single operation ended.
    pub(super) fn on_single(&self, now: Duration, took: Duration) {
        if took < SLOW {
            let count = self.quick_count.get().saturating_add(1);
            self.quick_count.set(count);
            if count >= FORGET_COUNT {
                self.pause.set(Duration::ZERO);
            }
            return;
        }
        let again = self.pause.get().saturating_mul(2);
        let pause = took.saturating_mul(PAUSE_FACTOR).max(again).min(PAUSE_MAX);
        self.quick_count.set(0);
        self.pause.set(pause);
        self.paused_until.set(now.saturating_add(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn nothing_unsynced_may_stand_beside_a_single_operation() {
        let durable = Durable::new();
        assert!(!durable.allows_single(millis(0)), "unknown");
        durable.on_synced(durable.mark());
        assert!(durable.allows_single(millis(0)));
        let mark = durable.mark();
        durable.on_changed();
        durable.on_synced(mark);
        assert!(!durable.allows_single(millis(0)), "changed under the sync");
        durable.on_synced(durable.mark());
        // An older one that ends late takes nothing back.
        durable.on_synced(mark);
        assert!(durable.allows_single(millis(0)));
    }

    #[test]
    fn slow_ones_are_tried_less_and_less_until_they_are_quick_again() {
        let durable = Durable::default();
        let quick = Duration::from_micros(80);
        let mut now = millis(1);
        let mut tries = 0;
        // As long as a CPU is busy: one try in a minute in the end.
        while now < Duration::from_secs(600) {
            now += millis(1);
            if durable.allows_single(now) {
                tries += 1;
                now += millis(4);
                durable.on_single(now, millis(4));
                assert!(!durable.allows_single(now + millis(63)));
            }
        }
        assert!((10..25).contains(&tries), "{tries}");

        now += PAUSE_MAX;
        for _ in 0..FORGET_COUNT {
            assert!(durable.allows_single(now));
            durable.on_single(now, quick);
        }
        // A single slow one is no reason to stop for long.
        durable.on_single(now, millis(2));
        assert!(!durable.allows_single(now + millis(31)));
        assert!(durable.allows_single(now + millis(32)));
    }
}
