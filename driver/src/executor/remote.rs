//! Wake-ups from other threads.
//!
//! A thread that wakes a task leaves it in the inbox and, if the executor may be asleep, writes a byte to a
//! socket whose other end the executor polls in its main ring. The inbox and the sleep flag are under one
//! short lock, so a wake-up between "the inbox is empty" and "I sleep" cannot be lost.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::task::WakeHandle;

/// The part of an executor that other threads reach.
pub(super) struct Remote {
    state: Mutex<State>,
    bell: UnixStream,
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
    /// The remote part, and the end of the socket to poll.
    pub(super) fn new() -> io::Result<(Arc<Self>, UnixStream)> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok((
            Arc::new(Self {
                state: Mutex::default(),
                bell,
            }),
            ear,
        ))
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
            // Should the socket be full, then the bell is ringing already.
            let _ = (&self.bell).write(&[1]);
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
