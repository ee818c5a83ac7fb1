//! The scheduler: slots of tasks, the ready queue, and the root future that works it off.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_io::AsyncRead;
use glommio::net::UnixStream;
use glommio::timer::Timer;
use rustix::thread::CpuSet;

use super::remote::Remote;
use super::task::{MAIN_SLOT, TaskCell, WakeHandle};
use crate::blocking::Helpers;
use crate::sys;

/// How long tasks run before the rings and timers are looked at again.
const TURN_MAX: Duration = Duration::from_micros(250);
/// The clock is read after this many tasks.
const TASKS_PER_CLOCK: usize = 8;
/// The pause after a full turn: over before glommio looks, unless this is a fast machine.
const TURN_PAUSE: Duration = Duration::from_nanos(300);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The state of this thread's executor.
pub(super) struct Core {
    slots: RefCell<Slots>,
    ready: RefCell<VecDeque<Arc<WakeHandle>>>,
    remote: Arc<Remote>,
    /// The end of the bell's socket; see `remote`.
    ear: RefCell<UnixStream>,
    /// glommio's waker of the root, from its latest poll.
    root: RefCell<Option<Waker>>,
    /// The root is being polled or was woken, so it will look at the ready queue.
    is_root_awake: Cell<bool>,
    turn_start: Cell<Instant>,
    helpers: Helpers,
}

#[derive(Default)]
struct Slots {
    tasks: Vec<Option<Rc<TaskCell>>>,
    free: Vec<usize>,
}

impl Core {
    /// Makes this thread's scheduler. Runs on glommio's executor.
    pub(super) fn enter(helper_thread_count: usize, cpus: Option<CpuSet>) -> io::Result<Rc<Self>> {
        let (remote, ear) = Remote::new()?;
        let core = Rc::new(Self {
            slots: RefCell::default(),
            ready: RefCell::default(),
            remote,
            ear: RefCell::new(sys::poll_by_glommio(ear)),
            root: RefCell::new(None),
            is_root_awake: Cell::new(false),
            turn_start: Cell::new(Instant::now()),
            helpers: Helpers::new(helper_thread_count, cpus),
        });
        CURRENT.set(Some(core.clone()));
        Ok(core)
    }

    /// The executor of this thread, if it runs one.
    pub(super) fn with_current<T>(act: impl FnOnce(Option<&Rc<Self>>) -> T) -> T {
        // Cloned out, since what `act` drops may come here again. Thread-locals may be gone already.
        let current = CURRENT
            .try_with(|current| current.borrow().clone())
            .ok()
            .flatten();
        act(current.as_ref())
    }

    pub(super) fn is_reached_by(&self, remote: &Arc<Remote>) -> bool {
        Arc::ptr_eq(&self.remote, remote)
    }

    pub(super) fn push_ready(&self, task: Arc<WakeHandle>) {
        self.ready.borrow_mut().push_back(task);
        if !self.is_root_awake.replace(true)
            && let Some(root) = &*self.root.borrow()
        {
            root.wake_by_ref();
        }
    }

    pub(super) fn add_task(&self, make: impl FnOnce(Arc<WakeHandle>) -> TaskCell) -> Rc<TaskCell> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or(slots.tasks.len());
        let task = Rc::new(make(WakeHandle::new(self.remote.clone(), slot)));
        if slot == slots.tasks.len() {
            slots.tasks.push(None);
        }
        slots.tasks[slot] = Some(task.clone());
        task
    }

    pub(super) fn remove_task(&self, task: &Rc<TaskCell>) {
        let mut slots = self.slots.borrow_mut();
        let slot = task.handle.slot;
        if slots
            .tasks
            .get(slot)
            .is_some_and(|held| held.as_ref().is_some_and(|t| Rc::ptr_eq(t, task)))
        {
            slots.tasks[slot] = None;
            slots.free.push(slot);
        }
    }

    /// The task behind a handle, unless it has ended and another one has its slot.
    fn task_of(&self, handle: &Arc<WakeHandle>) -> Option<Rc<TaskCell>> {
        let slots = self.slots.borrow();
        let task = slots.tasks.get(handle.slot)?.as_ref()?;
        Arc::ptr_eq(&task.handle, handle).then(|| task.clone())
    }

    /// Moves tasks woken by other threads to the ready queue.
    fn take_remote(&self) {
        let mut woken = Vec::new();
        self.remote.take(&mut woken);
        if !woken.is_empty() {
            self.ready.borrow_mut().extend(woken);
        }
    }

    fn pop_ready(&self) -> Option<Arc<WakeHandle>> {
        self.ready.borrow_mut().pop_front()
    }

    /// Runs ready tasks until none is left (`Pending(false)`), time is up (`Pending(true)`), or `main` ends.
    fn run_turn<T>(&self, main: &mut dyn FnMut() -> Poll<T>) -> Turn<T> {
        self.turn_start.set(Instant::now());
        let mut count = 0;
        while let Some(handle) = self.pop_ready() {
            if handle.slot == MAIN_SLOT {
                handle.on_poll();
                if let Poll::Ready(value) = main() {
                    return Turn::Ended(value);
                }
            } else if let Some(task) = self.task_of(&handle)
                && task.poll()
            {
                self.remove_task(&task);
            }
            count += 1;
            if count % TASKS_PER_CLOCK == 0 && is_turn_over(self) {
                return Turn::TimeUp;
            }
        }
        Turn::Idle
    }

    /// Waits for the bell. `Ready`: it has rung, look again.
    fn poll_bell(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ear = self.ear.borrow_mut();
        let mut rings = [0; 64];
        match Pin::new(&mut *ear).poll_read(cx, &mut rings) {
            Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(()),
            // The other end lives in `remote`, which this core holds, so there is no end of file; an error
            // (ENOMEM, say) must not turn into a busy loop.
            Poll::Ready(_) | Poll::Pending => Poll::Pending,
        }
    }

    /// Drops all tasks, also those that others start while they are dropped, and stops the wake-ups.
    fn clear(&self) {
        self.remote.close();
        loop {
            let tasks = std::mem::take(&mut self.slots.borrow_mut().tasks);
            if tasks.is_empty() {
                break;
            }
            for task in tasks.into_iter().flatten() {
                task.cancel();
            }
        }
        self.ready.take().clear();
    }
}

enum Turn<T> {
    Ended(T),
    TimeUp,
    Idle,
}

fn is_turn_over(core: &Core) -> bool {
    core.turn_start.get().elapsed() >= TURN_MAX
}

/// Runs `main` and all tasks until `main` ends.
pub(super) async fn run_root<F, T>(core: Rc<Core>, main: impl FnOnce() -> F) -> T
where
    F: Future<Output = T>,
{
    let leave = Leave(core.clone());
    let handle = WakeHandle::new(core.remote.clone(), MAIN_SLOT);
    let main_waker = Waker::from(handle.clone());
    let mut main = pin!(main());
    main_waker.wake_by_ref();
    let mut pause = None;
    let value = poll_fn(|cx| {
        let mut poll_main = || main.as_mut().poll(&mut Context::from_waker(&main_waker));
        poll_root(&core, cx, &mut pause, &mut poll_main)
    })
    .await;
    drop(leave);
    // glommio closes dropped files with its next turn.
    glommio::timer::sleep(Duration::from_micros(1)).await;
    value
}

fn poll_root<T>(
    core: &Core,
    cx: &mut Context<'_>,
    pause: &mut Option<Timer>,
    poll_main: &mut dyn FnMut() -> Poll<T>,
) -> Poll<T> {
    *pause = None;
    core.is_root_awake.set(true);
    match &mut *core.root.borrow_mut() {
        Some(root) => root.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
    loop {
        core.take_remote();
        match core.run_turn(poll_main) {
            Turn::Ended(value) => return Poll::Ready(value),
            Turn::TimeUp if poll_pause(cx, pause).is_pending() => return Poll::Pending,
            Turn::TimeUp => {}
            Turn::Idle => {
                if core.poll_bell(cx).is_pending() && core.remote.try_sleep() {
                    core.is_root_awake.set(false);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Has glommio poll the root again after it has looked at its rings. Waking the root right away would not do:
/// glommio runs woken tasks first. `Ready` if the pause is over already, as on a thread that lost its CPU.
fn poll_pause(cx: &mut Context<'_>, pause: &mut Option<Timer>) -> Poll<()> {
    for factor in [1, 4, 16, 64] {
        let timer = pause.insert(Timer::new(TURN_PAUSE * factor));
        if Pin::new(timer).poll(cx).is_pending() {
            return Poll::Pending;
        }
    }
    Poll::Ready(())
}

/// Ends the scheduler, also when a task panics.
struct Leave(Rc<Core>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.clear();
        let core = CURRENT.take();
        drop(core);
    }
}

/// Lets other tasks run; after a full turn also the timers and rings.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether the turn has lasted long enough that a long loop should [`yield_now`]. Reads the clock (25 ns).
pub fn need_yield() -> bool {
    Core::with_current(|core| core.is_some_and(|core| is_turn_over(core)))
}

/// The helper threads of this executor.
///
/// # Panics
/// Outside of an executor.
pub(crate) fn with_helpers<T>(act: impl FnOnce(&Helpers) -> T) -> T {
    Core::with_current(|core| act(&core.expect("called inside of driver::run").helpers))
}
