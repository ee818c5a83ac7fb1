//! How much the log shard does in one turn.
//!
//! A step of the node costs from a fraction of a microsecond (a pair that goes into a page at hand) to some ten (a version
//! that a compaction finds in memory which nobody touched for long). So a turn has a time, and as many steps as fit.
//!
//! What can wait, such as the sweep of a compaction, rests after each turn for as long as that took, while there are
//! proposals: a member at the limit of its core would make each of them wait several times.

use std::cell::Cell;
use std::time::Duration;

use engine::types::Budget;

/// What a turn applies, and again what it does of what can wait. Longer is too long for those who wait for the core; with less
/// than half of it a put under load costs some percent more.
const TURN_TIME: Duration = Duration::from_micros(250);
/// Of cheap work; then a turn's answers are what takes long.
const TURN_STEPS_MAX: usize = 256;

/// How long after the last proposal more of them are expected.
const BUSY_TIME: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Pace {
    busy_until: Cell<Duration>,
    /// What can wait does, until then.
    rest_until: Cell<Duration>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Pace {
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

    /// For a turn that begins.
    pub(super) fn budget() -> Budget {
        Budget::new(TURN_STEPS_MAX).within(driver::now, TURN_TIME)
    }

    /// A turn between these times left work or not.
    pub(super) fn on_turn(&self, start: Duration, end: Duration, more: bool) {
        if more && end < self.busy_until.get() && self.rest(start).is_none() {
            self.rest_until.set(end + end.saturating_sub(start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_turn_ends_when_its_time_is_over() {
        let mut budget = Pace::budget();
        let start = driver::now();
        while !budget.is_spent() {
            // Steps that take longer than they should.
            std::thread::sleep(TURN_TIME);
            budget.spend(1);
        }
        assert!(driver::now() - start >= TURN_TIME);
        assert!(budget.spent() <= 4, "{} steps", budget.spent());
    }
}
