//! One value from one task to another on the same executor.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The other half was dropped without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender is gone")]
pub struct Closed;

/// Makes a connected pair.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(RefCell::new(Slot {
        value: None,
        waiter: None,
        closed: false,
    }));
    (Sender { slot: slot.clone() }, Receiver { slot })
}

struct Slot<T> {
    value: Option<T>,
    waiter: Option<Waker>,
    /// One of the halves is gone.
    closed: bool,
}

/// The half that gives the value.
pub struct Sender<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Sender<T> {
    /// Hands over `value`.
    ///
    /// # Errors
    /// Gives it back if the receiver is gone.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut slot = self.slot.borrow_mut();
        if slot.closed {
            return Err(value);
        }
        slot.value = Some(value);
        Ok(())
        // The drop of `self` wakes the receiver.
    }

    /// Whether nobody waits for the value any more.
    pub fn is_closed(&self) -> bool {
        self.slot.borrow().closed
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waiter = {
            let mut slot = self.slot.borrow_mut();
            slot.closed = true;
            slot.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// The half that waits for the value.
pub struct Receiver<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Receiver<T> {
    /// Takes the value if it is there already.
    pub fn try_take(&mut self) -> Option<T> {
        self.slot.borrow_mut().value.take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Closed>> {
        let mut slot = self.slot.borrow_mut();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if slot.closed {
            return Poll::Ready(Err(Closed));
        }
        slot.waiter = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.borrow_mut();
        slot.closed = true;
        let value = slot.value.take();
        drop(slot);
        // The value's own drop may run anything, so no borrow is held.
        drop(value);
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecutorConfig, run, spawn, yield_now};

    #[test]
    fn delivers_early_and_late_and_tells_of_closing() {
        run(ExecutorConfig::new("t"), || async {
            let (tx, rx) = oneshot();
            assert_eq!(tx.send(1), Ok(()));
            assert_eq!(rx.await, Ok(1));

            let (tx, rx) = oneshot();
            let task = spawn(rx);
            yield_now().await;
            assert!(!tx.is_closed());
            assert_eq!(tx.send(2), Ok(()));
            assert_eq!(task.await, Ok(2));

            let (tx, rx) = oneshot::<u8>();
            let task = spawn(rx);
            yield_now().await;
            drop(tx);
            assert_eq!(task.await, Err(Closed));

            let (tx, rx) = oneshot();
            drop(rx);
            assert!(tx.is_closed());
            assert_eq!(tx.send(3), Err(3));
        })
        .unwrap();
    }

    #[test]
    fn an_unread_value_is_dropped_with_the_receiver() {
        let value = Rc::new(());
        let (tx, rx) = oneshot();
        assert!(tx.send(value.clone()).is_ok());
        drop(rx);
        assert_eq!(Rc::strong_count(&value), 1);
    }
}
