//! The executor's io_uring: operations as futures, each owning what the kernel may touch.
//!
//! ```text
//!   Op::new(Request)  -> slot in `kernel`, entry in the submission queue     no system call
//!   executor, idle    -> one io_uring_enter: submits all, runs what is due, waits
//!   completions       -> slots, then wakers
//! ```
//!
//! What an operation reads or writes (buffers, addresses, descriptors) moves into its slot and comes back with the
//! result, so the kernel never sees memory that somebody else owns. Dropping an [`Op`] asks the kernel to cancel it;
//! the slot keeps the memory until the kernel has answered.
//!
//! Invariants:
//! - a slot is free only when the kernel has posted the last completion of its operation;
//! - a descriptor in a slot stays open until then, so that its number cannot come to mean another file.

mod kernel;
mod pool;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) use kernel::{Kernel, Request, Wait, WithSync};

use crate::executor::with_kernel;

/// One operation under way. Ready with the kernel's answer and what went in.
pub(crate) struct Op {
    /// `Err` if the kernel could not even take it; `None` once it was answered.
    state: Option<Result<kernel::Key, Refused>>,
}

/// An operation that was never started.
struct Refused {
    error: io::Error,
    request: Request,
}

impl Op {
    /// Queues `request`. The kernel sees it with the executor's next look at the ring.
    ///
    /// # Panics
    /// Outside of an executor.
    pub(crate) fn new(request: Request) -> Self {
        let started = with_kernel(|kernel| kernel.start(request));
        Op {
            state: Some(started.map_err(|(error, request)| Refused { error, request })),
        }
    }
}

impl Future for Op {
    type Output = (io::Result<u32>, Request);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.state.take() {
            Some(Ok(key)) => match with_kernel(|kernel| kernel.take(key, cx.waker())) {
                Ok(finished) => Poll::Ready(finished),
                Err(key) => {
                    self.state = Some(Ok(key));
                    Poll::Pending
                }
            },
            Some(Err(Refused { error, request })) => Poll::Ready((Err(error), request)),
            None => panic!("an operation is polled after its end"),
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(Ok(key)) = self.state.take() {
            let abandoned = with_kernel(|kernel| kernel.abandon(key));
            // Outside of the borrow, since closing a file may take a while.
            drop(abandoned);
        }
    }
}
