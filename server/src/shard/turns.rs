//! Turns of the connections that ask for much.
//!
//! ```text
//!  light connections        work when their octets are there, in the order of the executor
//!  heavy ones               one behind the other, for PIECE_MAX between two looks at the ring
//! ```
//!
//! So a light connection waits for little more than [`PIECE_MAX`] each time it needs the executor, however many heavy
//! ones there are. When nothing else is to be done, the heavy ones still have the whole core, less the looks; and while
//! no light one has asked for anything lately, they work for whole turns of the executor, as that is cheaper.
//!
//! Reads that take more than a moment do so slice by slice in the same queue, whoever asked for them: [`Turns::slice`].
//!
//! *Heavy* is a connection that used more than [`EFFORT_MAX`] beyond its share of the core, a [`SHARE`]th, lately. A put
//! costs a few microseconds, so a client is light unless it does thousands a second on one connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use driver::Notify;
use engine::types::Budget;

/// The part of the core that any connection may use and stay light.
const SHARE: u32 = 10;
/// How long anybody works before the others get their turn. A put takes a few microseconds.
const PIECE_MAX: Duration = Duration::from_micros(40);
/// The same while all that work are heavy: a turn of the executor.
const PIECE_ALONE_MAX: Duration = Duration::from_micros(250);
/// How long a light connection is remembered that asked for something.
const LIGHT_KEPT: Duration = Duration::from_millis(20);
/// What it may use beyond that for a moment: what a modest client has asked for while the machine stood still for a tenth of
/// a second comes at once, and is not to be the reason for the next wait.
const EFFORT_MAX: Duration = Duration::from_millis(3);
/// What is remembered at most, so that a connection that has stopped is light again soon.
const EFFORT_KEPT_MAX: Duration = Duration::from_millis(20);

/// What a connection has used of the core beyond its share.
#[derive(Debug)]
pub(super) struct Effort {
    spent: Cell<Duration>,
    /// Up to when it was counted.
    counted: Cell<Duration>,
    /// Octets that the machine is given at once while the connection is heavy.
    piece_len: Cell<usize>,
}

/// A frame or two.
const PIECE_LEN_MIN: usize = 128;
/// More than any read brings.
const PIECE_LEN_MAX: usize = 64 * 1024;

impl Effort {
    /// Of a new connection: its first work beyond its share makes it heavy, so that whoever is thrown out and comes
    /// again gains nothing, and a modest client is light again at once.
    pub(super) fn new(now: Duration) -> Self {
        Effort {
            spent: Cell::new(EFFORT_MAX),
            counted: Cell::new(now),
            piece_len: Cell::new(1024),
        }
    }

    /// How many octets to handle at once, so that it takes about [`PIECE_MAX`]. A light connection's are few.
    pub(super) fn piece_len(&self) -> usize {
        match self.is_heavy() {
            true => self.piece_len.get(),
            false => PIECE_LEN_MAX,
        }
    }

    /// Handling `len` octets took so long.
    pub(super) fn on_piece(&self, len: usize, took: Duration) {
        if took > PIECE_MAX {
            self.piece_len.set((len / 2).max(PIECE_LEN_MIN));
        } else if took < PIECE_MAX / 4 && len >= self.piece_len.get() {
            self.piece_len.set((len * 2).min(PIECE_LEN_MAX));
        }
    }

    /// It worked between these times. What is longer than any piece of work was no work: the host had the core, as a rule, and
    /// who had to wait for that anyway is not to wait for the others too.
    pub(super) fn on_work(&self, start: Duration, end: Duration) {
        let earned = end.saturating_sub(self.counted.get()) / SHARE;
        let left = self.spent.get().saturating_sub(earned);
        let worked = end.saturating_sub(start).min(PIECE_ALONE_MAX);
        let spent = left.saturating_add(worked);
        self.spent.set(spent.min(EFFORT_KEPT_MAX));
        self.counted.set(end);
    }

    pub(super) fn is_heavy(&self) -> bool {
        self.spent.get() > EFFORT_MAX
    }
}

/// Who works, and who waits for it: the heavy connections of one shard.
#[derive(Debug, Default)]
pub(super) struct Turns {
    is_taken: Cell<bool>,
    waiting: RefCell<VecDeque<Rc<Place>>>,
    /// Since when they work without a look at the ring.
    since: Cell<Duration>,
    /// When a light connection last asked for something.
    light_seen: Cell<Duration>,
}

/// A place in the queue.
#[derive(Debug, Default)]
struct Place {
    told: Notify,
    is_next: Cell<bool>,
}

/// The right to do a piece of work, or the wait for it. Passed on when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Rc<Turns>,
    place: Rc<Place>,
}

/// The right to do a slice of work that takes long. To be dropped at its end.
#[derive(Debug)]
pub(crate) struct Slice {
    /// What the slice may do.
    pub(crate) budget: Budget,
    _turn: Turn,
}

impl Turns {
    /// A light connection works.
    pub(super) fn on_light(&self, now: Duration) {
        self.light_seen.set(now);
    }

    /// How long a piece of work may be.
    pub(super) fn piece_max(&self, now: Duration) -> Duration {
        match now < self.light_seen.get().saturating_add(LIGHT_KEPT) {
            true => PIECE_MAX,
            false => PIECE_ALONE_MAX,
        }
    }

    /// Waits for those before, and for a look at the ring when it is time.
    pub(super) async fn take(self: &Rc<Self>) -> Turn {
        let turn = Turn {
            turns: Rc::clone(self),
            place: Rc::default(),
        };
        if self.is_taken.replace(true) {
            self.waiting.borrow_mut().push_back(Rc::clone(&turn.place));
            turn.place.told.notified().await;
        } else {
            turn.place.is_next.set(true);
        }
        let now = driver::now();
        if now >= self.since.get().saturating_add(self.piece_max(now)) {
            // Timers are looked at together with the ring.
            driver::sleep(Duration::ZERO).await;
            self.since.set(driver::now());
        }
        turn
    }

    /// Waits for the right to do a slice of work that takes long, whoever asked for it.
    pub(super) async fn slice(self: &Rc<Self>, units: usize) -> Slice {
        let turn = self.take().await;
        let time = self.piece_max(driver::now());
        Slice {
            budget: Budget::new(units).within(driver::now, time),
            _turn: turn,
        }
    }

    fn pass_on(&self) {
        match self.waiting.borrow_mut().pop_front() {
            Some(place) => {
                place.is_next.set(true);
                place.told.notify();
            }
            None => self.is_taken.set(false),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.place.is_next.get() {
            self.turns.pass_on();
        } else {
            let mut waiting = self.turns.waiting.borrow_mut();
            waiting.retain(|place| !Rc::ptr_eq(place, &self.place));
        }
    }
}

#[cfg(test)]
mod tests {
    use driver::ExecutorConfig;

    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn a_connection_is_heavy_by_what_it_used_lately() {
        let effort = Effort::new(Duration::ZERO);
        effort.on_work(us(100), us(120));
        assert!(effort.is_heavy());
        effort.on_work(us(20_100), us(20_100));
        assert!(!effort.is_heavy());
        // A tenth of the time, for ever.
        for turn in 20..1000 {
            effort.on_work(us(2000 * turn), us(2000 * turn + 200));
            assert!(!effort.is_heavy(), "turn {turn}");
        }
        let start = us(3_000_000);
        // The machine stood still in the middle of it.
        effort.on_work(start, start + us(50_000));
        assert!(!effort.is_heavy());
        let start = us(4_000_000);
        for turn in 0..100 {
            effort.on_work(start + us(200 * turn), start + us(200 * (turn + 1)));
            assert_eq!(effort.is_heavy(), turn >= 16, "turn {turn}");
        }
        // It is forgiven, however much it was.
        effort.on_work(start + us(300_000), start + us(300_001));
        assert!(!effort.is_heavy());
    }

    #[test]
    fn pieces_are_as_large_as_their_time_allows() {
        let effort = Effort::new(Duration::ZERO);
        effort.on_work(us(100), us(120));
        for _ in 0..10 {
            effort.on_piece(effort.piece_len(), us(5));
        }
        assert_eq!(effort.piece_len(), PIECE_LEN_MAX);
        // A few octets that were quick say nothing of more.
        effort.on_piece(1000, us(200));
        effort.on_piece(100, us(5));
        assert_eq!(effort.piece_len(), 500);
        for _ in 0..10 {
            effort.on_piece(effort.piece_len(), us(200));
        }
        assert_eq!(effort.piece_len(), PIECE_LEN_MIN);
        effort.on_work(us(100_000), us(100_000));
        assert_eq!(effort.piece_len(), PIECE_LEN_MAX, "light");
    }

    #[test]
    fn turns_are_taken_in_order_and_passed_on_by_whoever_leaves() {
        let order = driver::run(ExecutorConfig::new("t"), || async {
            let turns = Rc::new(Turns::default());
            let order = Rc::new(RefCell::new(Vec::new()));
            let first = turns.take().await;
            let mut tasks: VecDeque<_> = (0..4)
                .map(|number| {
                    let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
                    driver::spawn(async move {
                        let _turn = turns.take().await;
                        order.borrow_mut().push(number);
                    })
                })
                .collect();
            driver::yield_now().await;
            assert!(order.borrow().is_empty());
            // One leaves while it waits, one when it was just told.
            drop(tasks.remove(2));
            drop(first);
            drop(tasks.pop_front());
            for task in tasks {
                task.await;
            }
            drop(turns.take().await);
            order.take()
        });
        assert_eq!(order.unwrap(), [1, 3]);
    }

    /// However many heavy ones there are, a light one that needs the ring waits for little of their work each time.
    #[test]
    fn heavy_ones_share_the_time_between_two_looks_at_the_ring() {
        driver::run(ExecutorConfig::new("t"), || async {
            let turns = Rc::new(Turns::default());
            let pieces = Rc::new(Cell::new(0));
            let heavy: Vec<_> = (0..16)
                .map(|_| {
                    let (turns, pieces) = (Rc::clone(&turns), Rc::clone(&pieces));
                    driver::spawn(async move {
                        loop {
                            let _turn = turns.take().await;
                            let start = driver::now();
                            while driver::now() < start + PIECE_MAX {}
                            pieces.set(pieces.get() + 1);
                        }
                    })
                })
                .collect();
            let mut total = 0;
            for _ in 0..100 {
                turns.on_light(driver::now());
                driver::sleep(Duration::ZERO).await;
                let done = pieces.replace(0);
                assert!(done <= 2, "{done} pieces after {total}");
                total += done;
            }
            assert!(total > 0);
            drop(heavy);
        })
        .unwrap();
    }
}
