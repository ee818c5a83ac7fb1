//! One executor per thread: starting it, and the tasks on it.
//!
//! The settings are those that glommio needs to be quick: a preemption timer of 1 ms (its default of 100 ms
//! delays timers and completions while tasks are busy), no spinning before the thread parks, and little
//! registered memory, so that many executors fit under a small limit on locked memory.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

use crate::probe::{ProbeError, probe};
use crate::sys;

/// How often a busy executor looks at its rings and timers at the latest.
const PREEMPT_TIMER: Duration = Duration::from_millis(1);

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
    /// Threads for [`crate::blocking`]; not pinned. At least one.
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
    /// The kernel refused rings, threads or the pinning.
    #[error("executor {name} cannot start: {reason}")]
    Start { name: String, reason: String },
}

/// Runs an executor on this thread until the future that `main` makes has ended.
///
/// Tasks that are still running then are dropped.
///
/// # Errors
/// [`DriverError`] if the executor cannot start; `main` has not been called then.
pub fn run<F, T>(config: ExecutorConfig, main: impl FnOnce() -> F) -> Result<T, DriverError>
where
    F: Future<Output = T>,
{
    probe()?;
    sys::name_thread(&config.name);
    let placement = config.core.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name(&config.name)
        .preempt_timer(PREEMPT_TIMER)
        .spin_before_park(config.spin_before_park)
        .io_memory(config.io_memory_bytes)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(config.helper_thread_count.max(1)))
        .make()
        .map_err(|error| DriverError::Start {
            name: config.name,
            reason: error.to_string(),
        })?;
    Ok(executor.run(async { main().await }))
}

/// Starts `future` on this executor.
///
/// # Panics
/// Outside of [`run`].
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(future))
}

/// A running future. Awaiting it gives the result; dropping it cancels it.
#[must_use = "a dropped task is cancelled; call detach() to let it run"]
pub struct Task<T>(glommio::Task<T>);

impl<T: 'static> Task<T> {
    /// Lets the task run on its own until it ends or the executor does.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Cancels the task and waits until its future is dropped. `Some` if it had ended before.
    pub async fn cancel(self) -> Option<T> {
        self.0.cancel().await
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// Lets the executor look at its other tasks, its timers and its rings once.
pub async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

/// Whether the time slice is used up, so that a long loop should [`yield_now`]. Costs a memory read.
pub fn need_yield() -> bool {
    glommio::executor().need_preempt()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::{now, sleep};

    #[test]
    fn tasks_end_detach_and_are_cancelled() {
        let ran = Rc::new(Cell::new(0));
        let sum = run(ExecutorConfig::new("t"), || {
            let ran = ran.clone();
            async move {
                let inner = ran.clone();
                let joined = spawn(async move {
                    yield_now().await;
                    inner.set(inner.get() + 1);
                    20
                });
                let inner = ran.clone();
                spawn(async move { inner.set(inner.get() + 10) }).detach();
                let inner = ran.clone();
                drop(spawn(async move {
                    sleep(Duration::from_millis(5)).await;
                    inner.set(1000);
                }));
                let result = joined.await;
                sleep(Duration::from_millis(20)).await;
                result + 1
            }
        })
        .unwrap();
        assert_eq!(sum, 21);
        assert_eq!(ran.get(), 11);
    }

    #[test]
    fn a_busy_task_learns_that_its_slice_is_over() {
        let used = run(ExecutorConfig::new("t"), || async {
            yield_now().await;
            let start = now();
            while !need_yield() {
                assert!(
                    now() - start < Duration::from_secs(5),
                    "never asked to yield"
                );
            }
            now() - start
        })
        .unwrap();
        assert!(used < Duration::from_secs(5));
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error() {
        let mut config = ExecutorConfig::new("t");
        config.core = Some(100_000);
        let error = run(config, || async {}).unwrap_err();
        assert!(matches!(error, DriverError::Start { .. }), "{error}");
    }

    #[test]
    fn a_pinned_executor_runs() {
        let mut config = ExecutorConfig::new("pinned");
        config.core = Some(0);
        assert_eq!(run(config, || async { 7 }).unwrap(), 7);
    }
}
