//! Tasks: a future with its place in the executor, its waker and the handle that waits for it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

use super::core::Core;
use super::remote::Remote;

/// The slot of the future that [`run`](super::run) waits for.
pub(super) const MAIN_SLOT: usize = usize::MAX;

/// What a waker points to. Outlives its task; a wake-up of an ended one is ignored.
pub(super) struct WakeHandle {
    remote: Arc<Remote>,
    pub(super) slot: usize,
    /// Waits in the ready queue or the inbox already.
    is_queued: AtomicBool,
}

impl WakeHandle {
    pub(super) fn new(remote: Arc<Remote>, slot: usize) -> Arc<Self> {
        Arc::new(Self {
            remote,
            slot,
            is_queued: AtomicBool::new(false),
        })
    }

    /// The task is about to be polled; from here on it can be woken again.
    pub(super) fn on_poll(&self) {
        self.is_queued.store(false, Ordering::Release);
    }
}

impl Wake for WakeHandle {
    fn wake(self: Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let elsewhere = Core::with_current(|core| match core {
            Some(core) if core.is_reached_by(&self.remote) => {
                core.push_ready(self.clone());
                false
            }
            _ => true,
        });
        if elsewhere {
            let remote = self.remote.clone();
            remote.push(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.load(Ordering::Acquire) {
            self.clone().wake();
        }
    }
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A task in its slot.
pub(super) struct TaskCell {
    pub(super) handle: Arc<WakeHandle>,
    waker: Waker,
    /// `None` while it is polled, and when it has ended.
    future: RefCell<Option<LocalFuture>>,
    is_cancelled: Cell<bool>,
}

impl TaskCell {
    fn new(handle: Arc<WakeHandle>, future: LocalFuture) -> Self {
        Self {
            waker: handle.clone().into(),
            handle,
            future: RefCell::new(Some(future)),
            is_cancelled: Cell::new(false),
        }
    }

    /// Polls the future; `true` once it has ended.
    pub(super) fn poll(&self) -> bool {
        self.handle.on_poll();
        let Some(mut future) = self.future.take() else {
            return true;
        };
        let polled = future.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() || self.is_cancelled.get() {
            return true;
        }
        self.future.replace(Some(future));
        false
    }

    /// Drops the future, or has it dropped right after the poll that is under way.
    pub(super) fn cancel(&self) {
        self.is_cancelled.set(true);
        // Taken out first: its drop may wake or cancel this task again.
        let future = self.future.take();
        drop(future);
    }
}

/// The place where the result waits for the handle.
struct Join<T> {
    result: Option<T>,
    waiter: Option<Waker>,
}

pin_project! {
    /// What a task runs. An async block would do the same, but has room for its future twice: as it was captured, and as
    /// it is awaited.
    struct Body<F: Future> {
        #[pin]
        future: F,
        join: Rc<RefCell<Join<F::Output>>>,
    }
}

impl<F: Future> Future for Body<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Poll::Ready(result) = this.future.poll(cx) else {
            return Poll::Pending;
        };
        let waiter = {
            let mut join = this.join.borrow_mut();
            join.result = Some(result);
            join.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        Poll::Ready(())
    }
}

/// Starts `future` on this executor.
///
/// # Panics
/// Outside of [`run`](super::run).
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let join = Rc::new(RefCell::new(Join {
        result: None,
        waiter: None,
    }));
    let body = Box::pin(Body {
        future,
        join: join.clone(),
    });
    let cell = Core::with_current(|core| {
        let core = core.expect("spawn is called inside of driver::run");
        core.add_task(|handle| TaskCell::new(handle, body))
    });
    cell.handle.clone().wake();
    Task {
        cell: Some(cell),
        join,
    }
}

/// A running future. Awaiting it gives the result; dropping it cancels it.
#[must_use = "a dropped task is cancelled; call detach() to let it run"]
pub struct Task<T> {
    /// `None` once detached.
    cell: Option<Rc<TaskCell>>,
    join: Rc<RefCell<Join<T>>>,
}

impl<T> Task<T> {
    /// Lets the task run on its own until it ends or the executor does.
    pub fn detach(mut self) {
        self.cell = None;
    }

    /// Cancels the task, whose future is dropped when this returns, unless it cancels itself. `Some` if it had
    /// ended before.
    pub fn cancel(self) -> Option<T> {
        let join = self.join.clone();
        drop(self);
        join.borrow_mut().result.take()
    }

    /// Whether the result is there.
    pub fn is_finished(&self) -> bool {
        self.join.borrow().result.is_some()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.cancel();
            Core::with_current(|core| {
                if let Some(core) = core {
                    core.remove_task(&cell);
                }
            });
        }
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut join = self.join.borrow_mut();
        if let Some(result) = join.result.take() {
            return Poll::Ready(result);
        }
        join.waiter = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}
