//! How fast the pages of a checkpoint go to the file.
//!
//! The kernel copies what is written on the core of the shard that writes, so thousands of pages at once would keep
//! everybody else from it. Each write takes its time on a clock that runs ahead of the real one, and waits for it.

use std::cell::Cell;
use std::time::Duration;

/// What a write costs besides its bytes: a single page takes the core some ten microseconds.
const WRITE_TIME: Duration = Duration::from_micros(60);
/// What a mebibyte takes: 128 of them a second leave most of the core to others.
const MEBIBYTE_TIME: Duration = Duration::from_micros(1_000_000 / 128);
/// Shorter pauses are not worth a timer; they add up. So the few pages of a small commit go at once.
const PAUSE_MIN: Duration = Duration::from_micros(500);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// When the next write may begin.
    next: Cell<Duration>,
}

impl Pacer {
    /// How long a write of `len` bytes waits before it begins, if it does.
    pub(super) fn pause(&self, len: usize, now: Duration) -> Option<Duration> {
        let start = self.next.get().max(now);
        let bytes_time = MEBIBYTE_TIME.mul_f64(len as f64 / f64::from(1 << 20));
        self.next.set(start + WRITE_TIME + bytes_time);
        let pause = start - now;
        (pause >= PAUSE_MIN).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that `count` writes of `len` bytes take, if each ends as soon as it begins, and the longest run of them
    /// without a pause.
    fn write(len: usize, count: usize) -> (Duration, usize) {
        let pacer = Pacer::default();
        let (mut now, mut run, mut run_max) = (Duration::from_secs(1), 0, 0);
        let begun = now;
        for _ in 0..count {
            run += 1;
            if let Some(pause) = pacer.pause(len, now) {
                now += pause;
                run = 1;
            }
            run_max = run_max.max(run);
        }
        (now - begun, run_max)
    }

    #[test]
    fn writes_take_their_time_whatever_their_size() {
        let (time, run) = write(64 << 10, 1600);
        let rate = 100.0 / time.as_secs_f64();
        assert!((100.0..=128.0).contains(&rate), "{rate} MiB/s");
        assert!(run <= 2, "{run} at once");
        let (time, run) = write(4 << 10, 10_000);
        assert!(time >= Duration::from_millis(700), "{time:?}");
        assert!(run <= 8, "{run} at once");
    }

    #[test]
    fn a_small_commit_goes_at_once_and_idle_time_is_not_saved() {
        let pacer = Pacer::default();
        for round in 1..10 {
            let now = Duration::from_secs(round);
            assert!((0..5).all(|_| pacer.pause(4096, now).is_none()));
            assert!((0..5).any(|_| pacer.pause(4096, now).is_some()));
        }
    }
}
