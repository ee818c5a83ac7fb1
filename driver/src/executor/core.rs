//! The scheduler: slots of tasks, the ready queue, timers, and the loop that works them off.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;

use super::remote::{Remote, listen};
use super::task::{MAIN_SLOT, TaskCell, WakeHandle, spawn};
use super::watch::Watch;
use crate::blocking::Helpers;
use crate::load::thread_cpu_time;
use crate::ring::{Kernel, Wait};
use crate::time::now;

/// How long tasks run before the ring and the timers are looked at again.
const TURN_MAX: Duration = Duration::from_micros(250);
/// The longest sleep; the kernel refuses times beyond its clock.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The state of this thread's executor.
pub(super) struct Core {
    slots: RefCell<Slots>,
    ready: RefCell<VecDeque<Arc<WakeHandle>>>,
    kernel: RefCell<Kernel>,
    timers: RefCell<Timers>,
    remote: Arc<Remote>,
    turn_start: Cell<Instant>,
    helpers: Helpers,
    watch: Watch,
    turns: RefCell<Option<TurnObserver>>,
    /// Kept between looks at the ring.
    wakers: RefCell<Vec<Waker>>,
}

/// Who is told how much CPU time each turn of the loop took.
struct TurnObserver {
    tell: Box<dyn Fn(Duration)>,
    /// The thread's CPU time at the end of the last turn.
    last: Duration,
}

#[derive(Default)]
struct Slots {
    tasks: Vec<Option<Rc<TaskCell>>>,
    free: Vec<usize>,
}

/// Who wants to be woken when.
#[derive(Default)]
struct Timers {
    queue: BTreeMap<TimerKey, Waker>,
    made_count: u64,
}

/// When a timer ends, and which of those that end then it is.
pub(crate) type TimerKey = (Duration, u64);

impl Core {
    /// Makes this thread's scheduler, with a ring of its own.
    pub(super) fn enter(helper_thread_count: usize, cpus: Option<CpuSet>) -> io::Result<Rc<Self>> {
        let kernel = Kernel::new()?;
        if let Some(cpus) = &cpus {
            kernel.free_workers(cpus);
        }
        let core = Rc::new(Self {
            slots: RefCell::default(),
            ready: RefCell::default(),
            kernel: RefCell::new(kernel),
            timers: RefCell::default(),
            remote: Remote::new()?,
            turn_start: Cell::new(Instant::now()),
            helpers: Helpers::new(helper_thread_count, cpus),
            watch: Watch::default(),
            turns: RefCell::default(),
            wakers: RefCell::default(),
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

    /// Runs ready tasks until none is left, time is up, or `main` ends.
    fn run_turn<T>(&self, main: &mut dyn FnMut() -> Poll<T>) -> Turn<T> {
        self.turn_start.set(Instant::now());
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
            // After each: two pieces of work of a whole turn's length may follow each other.
            if is_turn_over(self) {
                return Turn::TimeUp;
            }
        }
        Turn::Idle
    }

    /// A turn has ended: tasks, and before them the look at the ring that woke them.
    fn note_turn(&self) {
        if let Some(turns) = &mut *self.turns.borrow_mut() {
            let now = thread_cpu_time();
            (turns.tell)(now.saturating_sub(turns.last));
            turns.last = now;
        }
    }

    /// Looks at the ring and the timers; wakes whose time or completion has come.
    fn look(&self, wait: Wait) -> io::Result<()> {
        let mut wakers = self.wakers.take();
        {
            let mut kernel = self.kernel.borrow_mut();
            let wait = self.watch(&mut kernel, wait)?;
            if wait != Wait::No || kernel.has_work() {
                kernel.enter(wait)?;
                kernel.reap(&mut wakers);
            }
        }
        self.timers.borrow_mut().take_due(&mut wakers);
        for waker in wakers.drain(..) {
            waker.wake();
        }
        self.wakers.replace(wakers);
        Ok(())
    }

    /// Looks at the ring for a while instead of sleeping, if something is expected; tells how to wait after that.
    fn watch(&self, kernel: &mut Kernel, wait: Wait) -> io::Result<Wait> {
        let at_most = match wait {
            Wait::No => return Ok(wait),
            Wait::AtMost(time) => time,
            Wait::ForEver => Duration::MAX,
        };
        if !self.watch.is_due() {
            return Ok(wait);
        }
        kernel.enter(Wait::No)?;
        match kernel.has_work() || self.watch.watch(at_most, || kernel.has_work()) {
            true => Ok(Wait::No),
            false => Ok(wait),
        }
    }

    /// How long the executor may sleep.
    fn longest_wait(&self) -> Wait {
        match self.timers.borrow().queue.first_key_value() {
            None => Wait::ForEver,
            Some((&(at, _), _)) => match at.saturating_sub(now()) {
                Duration::ZERO => Wait::No,
                time => Wait::AtMost(time.min(SLEEP_MAX)),
            },
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
        self.kernel.borrow_mut().drain();
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
///
/// # Errors
/// The ring is broken, which the kernel does not do to a correct program.
pub(super) fn run_until<F, T>(core: &Rc<Core>, main: impl FnOnce() -> F) -> io::Result<T>
where
    F: Future<Output = T>,
{
    let leave = Leave(core.clone());
    spawn(listen(core.remote.clone())).detach();
    let handle = WakeHandle::new(core.remote.clone(), MAIN_SLOT);
    let main_waker = Waker::from(handle);
    let mut main = pin!(main());
    main_waker.wake_by_ref();
    let mut poll_main = || main.as_mut().poll(&mut Context::from_waker(&main_waker));
    let value = loop {
        core.take_remote();
        let turn = core.run_turn(&mut poll_main);
        core.note_turn();
        let wait = match turn {
            Turn::Ended(value) => break value,
            Turn::Idle if core.remote.try_sleep() => core.longest_wait(),
            Turn::Idle | Turn::TimeUp => Wait::No,
        };
        core.look(wait)?;
    };
    drop(leave);
    Ok(value)
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

impl Timers {
    fn take_due(&mut self, wakers: &mut Vec<Waker>) {
        if self.queue.is_empty() {
            return;
        }
        let now = now();
        while let Some(first) = self.queue.first_entry()
            && first.key().0 <= now
        {
            wakers.push(first.remove());
        }
    }
}

/// Lets other tasks run; after a full turn also the timers and the ring.
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

/// From now on `tell` hears of each turn of this executor's loop how much CPU time the thread used for it, the kernel's work
/// on its behalf included. It must not use the executor. Costs a system call a turn, some 150 ns.
pub fn observe_turns(tell: impl Fn(Duration) + 'static) {
    Core::with_current(|core| {
        if let Some(core) = core {
            core.turns.replace(Some(TurnObserver {
                tell: Box::new(tell),
                last: thread_cpu_time(),
            }));
        }
    });
}

/// CPU time that the thread has used since the turn before ended, the look at the ring included: no piece of work of this turn can
/// have used more, however long the clock says it took. `None` unless somebody observes the turns. A system call.
pub fn turn_cpu_time() -> Option<Duration> {
    Core::with_current(|core| {
        let turns = core?.turns.borrow();
        Some(thread_cpu_time().saturating_sub(turns.as_ref()?.last))
    })
}

/// Says that something this executor waits for comes within some hundred microseconds, so that it may look at the ring
/// instead of sleeping. That costs CPU time, so it is for one who waits alone.
pub fn expect_soon() {
    Core::with_current(|core| {
        if let Some(core) = core {
            core.watch.expect();
        }
    });
}

/// The helper threads of this executor.
///
/// # Panics
/// Outside of an executor.
pub(crate) fn with_helpers<T>(act: impl FnOnce(&Helpers) -> T) -> T {
    Core::with_current(|core| act(&core.expect("called inside of driver::run").helpers))
}

/// Has `waker` woken at `at`, on the clock of [`now`].
///
/// # Panics
/// Outside of an executor.
pub(crate) fn add_timer(at: Duration, waker: Waker) -> TimerKey {
    Core::with_current(|core| {
        let core = core.expect("a timer is polled inside of driver::run");
        let mut timers = core.timers.borrow_mut();
        timers.made_count += 1;
        let key = (at, timers.made_count);
        timers.queue.insert(key, waker);
        key
    })
}

/// Takes a timer away, whether it has ended or not.
pub(crate) fn remove_timer(key: TimerKey) {
    Core::with_current(|core| {
        if let Some(core) = core {
            let waker = core.timers.borrow_mut().queue.remove(&key);
            drop(waker);
        }
    });
}

/// The ring of this executor; never across a call that may come here again.
///
/// # Panics
/// Outside of an executor.
pub(crate) fn with_kernel<T>(act: impl FnOnce(&mut Kernel) -> T) -> T {
    Core::with_current(|core| {
        let core = core.expect("I/O is done inside of driver::run");
        act(&mut core.kernel.borrow_mut())
    })
}
