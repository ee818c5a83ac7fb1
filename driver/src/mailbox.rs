//! A bounded queue into an executor, from other executors and from plain threads.
//!
//! Senders never wait: a full or closed mailbox gives the message back. The lock is held only while a
//! message is moved. The receiver's waker is called from the sender's thread; its executor is
//! then woken through an eventfd, so a signal thread can reach a sleeping executor.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Makes a queue for at most `capacity` messages.
pub fn mailbox<T: Send>(capacity: usize) -> (MailboxSender<T>, Mailbox<T>) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        state: Mutex::new(State {
            queue: VecDeque::new(),
            waiter: None,
            sender_count: 1,
            receiver_gone: false,
        }),
    });
    (
        MailboxSender {
            shared: shared.clone(),
        },
        Mailbox { shared },
    )
}

/// Why a message was not taken. The message comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// As many messages as fit are waiting; the receiver is slow. A retry can help.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone.
    #[error("the mailbox is closed")]
    Closed(T),
}

struct Shared<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    queue: VecDeque<T>,
    waiter: Option<Waker>,
    sender_count: usize,
    receiver_gone: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock, so its state is always whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sending half; clone it for each thread.
pub struct MailboxSender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> MailboxSender<T> {
    /// Queues `message` and wakes the receiver. Never blocks.
    ///
    /// # Errors
    /// [`SendError`] with the message if the mailbox is full or closed.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let waiter = {
            let mut state = self.shared.lock();
            if state.receiver_gone {
                return Err(SendError::Closed(message));
            }
            if state.queue.len() >= self.shared.capacity {
                return Err(SendError::Full(message));
            }
            state.queue.push_back(message);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        Ok(())
    }
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().sender_count += 1;
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for MailboxSender<T> {
    fn drop(&mut self) {
        let waiter = {
            let mut state = self.shared.lock();
            state.sender_count -= 1;
            if state.sender_count == 0 {
                state.waiter.take()
            } else {
                None
            }
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// The receiving half. It may be made on any thread and is then used by one task.
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Mailbox<T> {
    /// The next message; `None` once all senders are gone and the queue is empty.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if let Some(message) = state.queue.pop_front() {
                return Poll::Ready(Some(message));
            }
            if state.sender_count == 0 {
                return Poll::Ready(None);
            }
            state.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for messages and moves all that are there to the end of `batch`, under one lock.
    ///
    /// `false` once all senders are gone and nothing is left.
    pub async fn recv_all(&mut self, batch: &mut Vec<T>) -> bool {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if !state.queue.is_empty() {
                batch.extend(state.queue.drain(..));
                return Poll::Ready(true);
            }
            if state.sender_count == 0 {
                return Poll::Ready(false);
            }
            state.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next message if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.lock().queue.pop_front()
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let unread = {
            let mut state = self.shared.lock();
            state.receiver_gone = true;
            state.waiter = None;
            std::mem::take(&mut state.queue)
        };
        // Their drops may run anything, so the lock is not held.
        drop(unread);
    }
}

impl<T> std::fmt::Debug for MailboxSender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailboxSender").finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{ExecutorConfig, run, sleep, timeout};

    #[test]
    fn a_plain_thread_wakes_a_sleeping_executor() {
        let (tx, mut rx) = mailbox(1000);
        let (ready, sleeping) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sleeping.recv().unwrap();
            for n in 0..1000 {
                tx.send(n).unwrap();
            }
        });
        let got = run(ExecutorConfig::new("t"), move || async move {
            ready.send(()).unwrap();
            let mut got = vec![rx.recv().await.unwrap()];
            while rx.recv_all(&mut got).await {}
            assert_eq!(rx.recv().await, None);
            got
        })
        .unwrap();
        thread.join().unwrap();
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn two_executors_answer_each_other() {
        let (to_other, mut from_first) = mailbox::<u32>(4);
        let (to_first, mut from_other) = mailbox::<u32>(4);
        let other = std::thread::spawn(move || {
            run(ExecutorConfig::new("other"), move || async move {
                while let Some(n) = from_first.recv().await {
                    to_first.send(n + 1).unwrap();
                }
            })
            .unwrap();
        });
        let last = run(ExecutorConfig::new("first"), move || async move {
            let mut n = 0;
            for _ in 0..200 {
                to_other.send(n).unwrap();
                n = timeout(Duration::from_secs(20), from_other.recv())
                    .await
                    .unwrap()
                    .unwrap();
            }
            // Both asleep, then woken again.
            sleep(Duration::from_millis(20)).await;
            to_other.send(n).unwrap();
            timeout(Duration::from_secs(20), from_other.recv())
                .await
                .unwrap()
                .unwrap()
        })
        .unwrap();
        other.join().unwrap();
        assert_eq!(last, 201);
    }

    #[test]
    fn full_and_closed_give_the_message_back() {
        let (tx, mut rx) = mailbox(2);
        tx.send(1).unwrap();
        tx.clone().send(2).unwrap();
        assert_eq!(tx.send(3), Err(SendError::Full(3)));
        assert_eq!(rx.try_recv(), Some(1));
        tx.send(3).unwrap();
        drop(rx);
        assert_eq!(tx.send(4), Err(SendError::Closed(4)));
    }
}
