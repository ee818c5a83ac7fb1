//! How much the log shard does in one turn.
//!
//! A step of the node costs from a fraction of a microsecond (a pair that goes into a page at hand) to some ten (a version
//! that a compaction finds in a page which is not in memory yet). So the number of steps follows the time that turns take:
//! halved as soon as one took too long, doubled while they are short and there is more to do.
//!
//! What can wait, such as the sweep of a compaction, rests after each turn for as long as that took, while there are
//! proposals: a member at the limit of its core would make each of them wait several times.

use std::cell::Cell;
use std::time::Duration;

/// Longer is too long for those who wait for the core.
const TURN_MAX: Duration = Duration::from_micros(250);
/// Shorter costs more in the ways between turns than it saves.
const TURN_MIN: Duration = Duration::from_micros(80);
/// So that even the dearest work goes on.
const STEPS_MIN: usize = 16;
/// Of cheap work; then a turn's answers are what takes long.
const STEPS_MAX: usize = 256;

/// How long after the last proposal more of them are expected.
const BUSY_TIME: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Pace {
    steps: Cell<usize>,
    busy_until: Cell<Duration>,
    /// What can wait does, until then.
    rest_until: Cell<Duration>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Pace {
            steps: Cell::new(STEPS_MAX),
            busy_until: Cell::new(Duration::ZERO),
            rest_until: Cell::new(Duration::ZERO),
        }
    }

    /// Somebody proposed something.
    pub(super) fn on_proposal(&self, now: Duration) {
        self.busy_until.set(now + BUSY_TIME);
    }

    /// How long what can wait rests from now on, if it does.
    pub(super) fn rest(&self, now: Duration) -> Option<Duration> {
        let left = self.rest_until.get().saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    /// For the next turn; see [`engine::types::Budget`].
    pub(super) fn steps(&self) -> usize {
        self.steps.get()
    }

    /// A turn between these times left work or not.
    pub(super) fn on_turn(&self, start: Duration, end: Duration, more: bool) {
        let took = end.saturating_sub(start);
        if more && end < self.busy_until.get() && self.rest(start).is_none() {
            self.rest_until.set(end + took);
        }
        let steps = self.steps.get();
        if took > TURN_MAX {
            self.steps.set((steps / 2).max(STEPS_MIN));
        } else if more && took < TURN_MIN {
            self.steps.set((steps * 2).min(STEPS_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of steps that each cost so much, until the pace stays in its band; their number and the last one's length.
    fn settle(pace: &Pace, step: Duration) -> (usize, Duration) {
        for turn in 0..20 {
            let took = step * pace.steps() as u32;
            let before = pace.steps();
            pace.on_turn(Duration::ZERO, took, true);
            if pace.steps() == before {
                return (turn, took);
            }
        }
        panic!("the pace swings at {} steps", pace.steps());
    }

    #[test]
    fn turns_take_about_as_long_whatever_a_step_costs() {
        let pace = Pace::new();
        for nanos in [300, 8_000, 1_500, 15_000, 400, 2_000] {
            let (turns, took) = settle(&pace, Duration::from_nanos(nanos));
            assert!(turns <= 4, "{turns} turns");
            assert!(took <= TURN_MAX, "{took:?}");
            assert!(took >= TURN_MIN || pace.steps() == STEPS_MAX, "{took:?}");
        }
    }

    #[test]
    fn idle_turns_change_nothing_and_work_always_goes_on() {
        let pace = Pace::new();
        settle(&pace, Duration::from_micros(4));
        let steps = pace.steps();
        pace.on_turn(Duration::ZERO, Duration::from_micros(1), false);
        assert_eq!(pace.steps(), steps);
        for _ in 0..20 {
            pace.on_turn(Duration::ZERO, Duration::from_millis(10), true);
        }
        assert_eq!(pace.steps(), STEPS_MIN);
    }

    #[test]
    fn what_can_wait_rests_as_long_as_it_worked_while_there_are_proposals() {
        let ms = Duration::from_millis;
        let pace = Pace::new();
        pace.on_turn(ms(10), ms(12), true);
        assert_eq!(pace.rest(ms(12)), None, "nobody else is there");
        pace.on_proposal(ms(12));
        pace.on_turn(ms(12), ms(13), false);
        assert_eq!(pace.rest(ms(13)), None, "nothing can wait");
        pace.on_turn(ms(13), ms(15), true);
        assert_eq!(pace.rest(ms(15)), Some(ms(2)));
        // A turn for the proposals meanwhile makes it no longer.
        pace.on_turn(ms(16), ms(17), true);
        assert_eq!(pace.rest(ms(16)), Some(ms(1)));
        assert_eq!(pace.rest(ms(17)), None);
    }
}
