//! One executor per thread: its settings, its start, and the scheduler.
//!
//! ```text
//!  loop:  ready queue -> task, task, ...     one turn, at most TURN_MAX
//!         ring, timers -> wakers             one io_uring_enter: submits, reaps, and waits if nothing is ready
//! ```
//!
//! The ring is our own (`ring`). glommio, on which this crate began, drives three rings and took sixteen
//! io_uring_enter for one durable write of a lone client, where this loop takes three; and its loop could go to sleep
//! over runnable tasks. ARCHITECTURE.md has the figures.
//!
//! - A task is polled by its executor's thread only; its waker may be used on any.
//! - Ready tasks run first in, first out. No task is polled twice in a turn before those that waited longer.

mod core;
mod remote;
mod task;
mod watch;

use rustix::thread::{CpuSet, sched_setaffinity};
use std::future::Future;

use self::core::Core;
pub(crate) use self::core::{TimerKey, add_timer, remove_timer, with_helpers, with_kernel};
pub use self::core::{expect_soon, need_yield, observe_turns, turn_cpu_time, yield_now};
pub use self::task::{Task, spawn};
use crate::probe::{ProbeError, probe};
use crate::sys;

/// How one executor is placed and named.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// The thread's name; the kernel shows its first 15 bytes.
    pub name: String,
    /// The CPU to pin the thread to; `None` leaves the choice to the kernel.
    pub core: Option<usize>,
    /// Most threads for [`crate::blocking`]; not pinned, started when needed. At least one.
    pub helper_thread_count: usize,
}

impl ExecutorConfig {
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            core: None,
            helper_thread_count: 2,
        }
    }
}

/// Why an executor did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The machine forbids or lacks io_uring.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The kernel refused rings, threads, descriptors or the pinning.
    #[error("executor {name} cannot start: {reason}")]
    Start { name: String, reason: String },
}

/// Runs an executor on this thread until the future that `main` makes has ended.
///
/// Tasks that are still running then are dropped, and their files and sockets closed.
///
/// # Errors
/// [`DriverError`] if the executor cannot start; `main` has not been called then.
pub fn run<F, T>(config: ExecutorConfig, main: impl FnOnce() -> F) -> Result<T, DriverError>
where
    F: Future<Output = T>,
{
    probe()?;
    // The helper threads, which inherit neither, are started later from this thread.
    let cpus = rustix::thread::sched_getaffinity(None).ok();
    sys::name_thread(&config.name);
    let start_error = |reason: String| DriverError::Start {
        name: config.name.clone(),
        reason,
    };
    if let Some(number) = config.core {
        let mut only = CpuSet::new();
        if number >= CpuSet::MAX_CPU {
            return Err(start_error(format!("there is no CPU {number}")));
        }
        only.set(number);
        sched_setaffinity(None, &only)
            .map_err(|error| start_error(format!("cannot use CPU {number}: {error}")))?;
    }
    let broken = |error: std::io::Error| start_error(error.to_string());
    let core = Core::enter(config.helper_thread_count.max(1), cpus).map_err(broken)?;
    core::run_until(&core, main).map_err(broken)
}

#[cfg(test)]
mod tests;
