//! Work that the ring cannot do, on the executor's helper threads.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Runs `work` on a helper thread and waits for its result.
///
/// If the future is dropped, `work` still runs to its end and its result is dropped. A panic in `work`
/// continues in the caller. There are few helper threads
/// ([`ExecutorConfig::helper_thread_count`](crate::ExecutorConfig)), so long work delays the rest.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let slot: Arc<Mutex<Option<thread::Result<T>>>> = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    glommio::executor()
        .spawn_blocking(move || {
            // A helper thread that unwinds would be lost and its caller would wait for ever.
            let result = catch_unwind(AssertUnwindSafe(work));
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        })
        .await;
    let result = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match result.expect("spawn_blocking above ends only after the closure filled the slot") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
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
        std::future::poll_fn(move |cx| {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(std::task::Poll::Ready(value)) => std::task::Poll::Ready(Ok(value)),
                Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
                Err(panic) => std::task::Poll::Ready(Err(panic)),
            }
        })
        .await
    }

    #[test]
    fn a_dropped_call_does_not_disturb_the_next() {
        run(ExecutorConfig::new("t"), || async {
            for _ in 0..20 {
                drop(spawn(blocking(|| vec![0u8; 100])));
            }
            assert_eq!(blocking(|| 9).await, 9);
        })
        .unwrap();
    }
}
