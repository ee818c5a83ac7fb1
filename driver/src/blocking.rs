//! Work that the ring cannot do, on the executor's helper threads.
//!
//! The threads are started when there is work and none is idle, and end with the executor.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::executor::with_helpers;

/// Runs `work` on a helper thread and waits for its result.
///
/// It is queued when the future is first polled. If the future is dropped, `work` still runs to its end and
/// its result is dropped. A panic in `work` continues in the caller. There are few helper threads
/// ([`ExecutorConfig::helper_thread_count`](crate::ExecutorConfig)), so long work delays the rest.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let slot = Arc::new(Mutex::new(Slot {
        result: None,
        waiter: None,
    }));
    let filled = slot.clone();
    with_helpers(|helpers| {
        helpers.submit(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let waiter = {
                let mut slot = lock(&filled);
                slot.result = Some(result);
                slot.waiter.take()
            };
            // The last reference, if the caller is gone: the result is dropped here.
            drop(filled);
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }));
    });
    let result = poll_fn(|cx| {
        let mut slot = lock(&slot);
        if let Some(result) = slot.result.take() {
            return Poll::Ready(result);
        }
        slot.waiter = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

struct Slot<T> {
    result: Option<thread::Result<T>>,
    waiter: Option<Waker>,
}

type Work = Box<dyn FnOnce() + Send>;

/// The helper threads of one executor.
pub(crate) struct Helpers {
    count_max: usize,
    count: Cell<usize>,
    /// The CPUs for the threads, as they were before the executor was pinned.
    cpus: Option<CpuSet>,
    queue: RefCell<Option<Sender<Work>>>,
    shared: Arc<Shared>,
}

struct Shared {
    work: Mutex<Receiver<Work>>,
    /// Work queued or running.
    pending_count: Mutex<usize>,
}

impl Helpers {
    pub(crate) fn new(count_max: usize, cpus: Option<CpuSet>) -> Self {
        let (queue, work) = mpsc::channel();
        let shared = Shared {
            work: Mutex::new(work),
            pending_count: Mutex::new(0),
        };
        Self {
            count_max,
            count: Cell::new(0),
            cpus,
            queue: RefCell::new(Some(queue)),
            shared: Arc::new(shared),
        }
    }

    fn submit(&self, work: Work) {
        let pending_count = {
            let mut count = lock(&self.shared.pending_count);
            *count += 1;
            *count
        };
        if pending_count > self.count.get() && self.count.get() < self.count_max {
            self.start_thread();
        }
        if self.count.get() == 0 {
            // No thread can be had (EAGAIN): late is better than never.
            work();
            *lock(&self.shared.pending_count) -= 1;
        } else if let Some(queue) = &*self.queue.borrow() {
            let sent = queue.send(work);
            assert!(sent.is_ok(), "the receiver lives in `shared`");
        }
    }

    fn start_thread(&self) {
        let shared = self.shared.clone();
        let cpus = self.cpus;
        let started = thread::Builder::new().name("helper".into()).spawn(move || {
            if let Some(cpus) = cpus {
                // Without it the thread shares the executor's CPU: slower, not wrong.
                let _ = sched_setaffinity(None, &cpus);
            }
            shared.serve();
        });
        if started.is_ok() {
            self.count.set(self.count.get() + 1);
        }
    }
}

impl Shared {
    fn serve(&self) {
        loop {
            // Waiting under the lock is right: only idle threads want it.
            let work = lock(&self.work).recv();
            let Ok(work) = work else { return };
            work();
            *lock(&self.pending_count) -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Work catches its panics, and nothing else under these locks can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{ExecutorConfig, run, sleep, spawn};

    #[test]
    fn the_executor_goes_on_while_a_helper_works() {
        run(ExecutorConfig::new("t"), || async {
            let (tx, rx) = mpsc::channel();
            // The helper waits for a message that only a running executor can send.
            let work = spawn(blocking(move || {
                rx.recv_timeout(Duration::from_secs(20)).unwrap()
            }));
            sleep(Duration::from_millis(5)).await;
            tx.send(5).unwrap();
            assert_eq!(work.await, 5);
        })
        .unwrap();
    }

    #[test]
    fn two_helpers_work_at_once_and_more_work_waits() {
        run(ExecutorConfig::new("t"), || async {
            let (to_second, from_first) = mpsc::channel();
            // The first waits for the second, so one thread alone would never end.
            let first = spawn(blocking(move || {
                from_first.recv_timeout(Duration::from_secs(20))
            }));
            let rest: Vec<_> = (0..50).map(|n| spawn(blocking(move || n))).collect();
            let mut sum = 0;
            for task in rest {
                sum += task.await;
            }
            assert_eq!(sum, 49 * 50 / 2);
            to_second.send(()).unwrap();
            assert_eq!(first.await, Ok(()));
        })
        .unwrap();
    }

    #[test]
    fn panics_reach_the_caller_and_the_helpers_survive() {
        run(ExecutorConfig::new("t"), || async {
            for _ in 0..10 {
                let caught = catch_async(blocking(|| panic!("on purpose"))).await;
                assert!(caught.is_err());
            }
            assert_eq!(blocking(|| 3).await, 3);
        })
        .unwrap();
    }

    async fn catch_async<T>(future: impl Future<Output = T>) -> thread::Result<T> {
        let mut future = Box::pin(future);
        poll_fn(
            move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Ok(Poll::Pending) => Poll::Pending,
                Err(panic) => Poll::Ready(Err(panic)),
            },
        )
        .await
    }

    #[test]
    fn a_dropped_call_does_not_disturb_the_next() {
        run(ExecutorConfig::new("t"), || async {
            for _ in 0..20 {
                let task = spawn(blocking(|| vec![0u8; 100]));
                crate::yield_now().await;
                drop(task);
            }
            assert_eq!(blocking(|| 9).await, 9);
        })
        .unwrap();
    }
}
