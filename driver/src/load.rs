//! How busy an executor's thread is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the calling thread has used, in user space and in the kernel. Never goes back.
///
/// An executor sleeps when it has nothing to do, so what this gains per second of [`crate::now`] is the busy share of
/// its core. A system call (about 200 ns).
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_time_and_sleep_does_not() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(30));
        let slept = thread_cpu_time() - start;
        assert!(slept < Duration::from_millis(25), "{slept:?}");
        let mut sum = 0_u64;
        while thread_cpu_time() - start < Duration::from_millis(2) + slept {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
