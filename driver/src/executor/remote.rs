//! Wake-ups from other threads.
//!
//! A thread that wakes a task leaves it in the inbox and, if the executor may be asleep, writes to an eventfd that the
//! executor reads through its ring. The inbox and the sleep flag are under one
//! short lock, so a wake-up between "the inbox is empty" and "I sleep" cannot be lost.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::task::WakeHandle;
use crate::ring::{Op, Request};

/// The part of an executor that other threads reach.
pub(super) struct Remote {
    state: Mutex<State>,
    bell: Arc<OwnedFd>,
}

#[derive(Default)]
struct State {
    inbox: Vec<Arc<WakeHandle>>,
    /// The executor sleeps or is about to, and wants the bell.
    is_asleep: bool,
    /// The executor has ended.
    is_closed: bool,
}

impl Remote {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self {
            state: Mutex::default(),
            bell: Arc::new(bell),
        }))
    }

    /// Wakes a task of the executor from any thread.
    pub(super) fn push(&self, task: Arc<WakeHandle>) {
        let was_asleep = {
            let mut state = self.lock();
            if state.is_closed {
                return;
            }
            state.inbox.push(task);
            std::mem::take(&mut state.is_asleep)
        };
        if was_asleep {
            #[expect(
                clippy::host_endian_bytes,
                reason = "an eventfd takes the machine's order"
            )]
            let one = 1_u64.to_ne_bytes();
            // It blocks only after 2^64 rings that nobody heard.
            let _ = rustix::io::write(&self.bell, &one);
        }
    }

    /// Takes the woken tasks out; the executor stays awake.
    pub(super) fn take(&self, tasks: &mut Vec<Arc<WakeHandle>>) {
        let mut state = self.lock();
        state.is_asleep = false;
        tasks.append(&mut state.inbox);
    }

    /// The executor goes to sleep. `false` if there is work after all.
    pub(super) fn try_sleep(&self) -> bool {
        let mut state = self.lock();
        state.is_asleep = state.inbox.is_empty();
        state.is_asleep
    }

    pub(super) fn close(&self) {
        let inbox = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.inbox)
        };
        drop(inbox);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears the bell for as long as the executor runs. What is to be done is in the inbox, which every turn empties.
pub(super) async fn listen(remote: Arc<Remote>) {
    let eventfd = remote.bell.clone();
    loop {
        let request = Request::Bell {
            eventfd: eventfd.clone(),
            count: Box::new(0),
        };
        if Op::new(request).await.0.is_err() {
            // Short of memory; the inbox is looked at in the meantime.
            crate::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}
