//! A wake-up between tasks of one executor that remembers one permit.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes one waiter. A [`notify`](Notify::notify) without a waiter is kept, but only one.
#[derive(Debug, Default)]
pub struct Notify {
    permit: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the present or the next [`notified`](Notify::notified).
    pub fn notify(&self) {
        self.permit.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Waits for a permit and takes it. One waiter at a time: a second one replaces the first.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self }
    }
}

/// The future of [`Notify::notified`].
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.notify.permit.take() {
            return Poll::Ready(());
        }
        let mut waiter = self.notify.waiter.borrow_mut();
        match &mut *waiter {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::{ExecutorConfig, run, sleep, spawn, timeout};

    #[test]
    fn keeps_one_permit_and_wakes_a_waiter() {
        run(ExecutorConfig::new("t"), || async {
            let notify = Rc::new(Notify::new());
            notify.notify();
            notify.notify();
            notify.notified().await;
            // The two were one permit.
            assert!(
                timeout(Duration::from_millis(5), notify.notified())
                    .await
                    .is_err()
            );

            let waker = notify.clone();
            let task = spawn(async move {
                sleep(Duration::from_millis(5)).await;
                waker.notify();
            });
            notify.notified().await;
            task.await;
        })
        .unwrap();
    }
}
