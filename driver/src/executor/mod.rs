//! One executor per thread: its settings, its start, and the scheduler of our own that runs on it.
//!
//! glommio 0.9 drives rings and timers; it sees a single task, the *root*, which polls ours:
//!
//! ```text
//!  glommio's loop -> root -> ready queue -> task, task, ...      one turn, at most TURN_MAX
//!        ^  rings, timers wake tasks        | nothing ready: sleep
//!        `---------------------------------' turn over: come back after the rings were looked at
//! ```
//!
//! Why not glommio's own tasks: its loop asks "is a preemption due?" before it runs the first task, and goes to
//! sleep over runnable tasks if the answer is yes. The question is answered by its latency ring, to which the
//! preemption timer, wake-ups from other threads and its helper threads all write, so a busy machine loses
//! wake-ups: a ping-pong over one executor hung within seconds. Here nothing writes to that ring while tasks
//! run: turns are bounded by a clock, other threads wake through a socket in the main ring (`remote`), helper
//! threads are ours (`blocking`), and the preemption timer never fires.
//!
//! - A task is polled by its executor's thread only; its waker may be used on any.
//! - Ready tasks run first in, first out. No task is polled twice in a turn before those that waited longer.

mod core;
mod remote;
mod task;

use std::future::Future;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

use self::core::Core;
pub(crate) use self::core::with_helpers;
pub use self::core::{need_yield, yield_now};
pub use self::task::{Task, spawn};
use crate::probe::{ProbeError, probe};
use crate::sys;

/// glommio's preemption timer must never fire; see above.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);
/// Entries per ring. After as many completions glommio would preempt as well.
const RING_DEPTH: usize = 1024;

/// How one executor is placed and named.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// The thread's name; the kernel shows its first 15 bytes.
    pub name: String,
    /// The CPU to pin the thread to; `None` leaves the choice to the kernel.
    pub core: Option<usize>,
    /// How long an idle executor polls before it sleeps. Trades CPU for latency; io-wq workers inherit the
    /// pinning and starve while a pinned executor spins, so leave it at zero where files are written.
    pub spin_before_park: Duration,
    /// Most threads for [`crate::blocking`]; not pinned, started when needed. At least one.
    pub helper_thread_count: usize,
    /// Memory registered with the rings for direct I/O.
    pub io_memory_bytes: usize,
}

impl ExecutorConfig {
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            core: None,
            spin_before_park: Duration::ZERO,
            helper_thread_count: 2,
            io_memory_bytes: 1 << 20,
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
    let placement = config.core.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name(&config.name)
        .preempt_timer(PREEMPT_TIMER)
        .ring_depth(RING_DEPTH)
        .spin_before_park(config.spin_before_park)
        .io_memory(config.io_memory_bytes)
        // Not used by us.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(|error| start_error(error.to_string()))?;
    executor
        .run(async {
            let core = Core::enter(config.helper_thread_count.max(1), cpus)?;
            Ok(core::run_root(core, main).await)
        })
        .map_err(|error: std::io::Error| start_error(error.to_string()))
}

#[cfg(test)]
mod tests;
