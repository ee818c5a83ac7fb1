//! When the leader compacts by itself, and to which revision.
//!
//! ```text
//!   periodic    a sample of the revision each interval; to the one of a retention and an interval ago, first after a
//!               retention, then each hour or each retention, whichever is shorter; the interval is a tenth of that
//!   revision    every five minutes to the newest revision less the retention
//! ```
//!
//! A member that does not lead goes on with its samples, so that it knows the past when it leads. Time and revisions are
//! handed in: [`AutoCompaction::on_tick`] answers with a revision to be proposed, [`AutoCompaction::on_done`] tells what
//! became of it. Lives on the log shard; tested with a clock that only the test moves.

use std::collections::VecDeque;
use std::time::Duration;

/// How often revisions are counted back.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The longest time between two periodic compactions.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// Samples of a period.
const SAMPLES_PER_PERIOD: u32 = 10;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// What was there so long ago; more than nothing.
    Time(Duration),
    /// So many revisions; more than none.
    Revisions(i64),
}

/// See the module text.
#[derive(Debug)]
pub struct AutoCompaction {
    retention: Retention,
    interval: Duration,
    /// When it looks next.
    next: Duration,
    /// Periodic: revisions at the last looks, oldest first, as far back as the retention goes.
    samples: VecDeque<i64>,
    /// What was compacted last.
    last_revision: i64,
    last_success: Duration,
    /// Since the first compaction; before it a whole retention has to pass.
    has_begun: bool,
    is_under_way: bool,
}

impl AutoCompaction {
    /// Begins `now`, at this revision.
    pub fn new(retention: Retention, now: Duration, revision: i64) -> Self {
        let interval = match retention {
            Retention::Time(period) => period.min(PERIOD_MAX) / SAMPLES_PER_PERIOD,
            Retention::Revisions(_) => REVISION_INTERVAL,
        };
        AutoCompaction {
            retention,
            // So short a period is no use, but it must not be an endless loop.
            interval: interval.max(Duration::from_millis(1)),
            next: now + interval,
            samples: VecDeque::from([revision]),
            last_revision: 0,
            last_success: now,
            has_begun: false,
            is_under_way: false,
        }
    }

    /// Input: time passed. Answers a revision to compact to, which [`AutoCompaction::on_done`] is to be told of.
    pub fn on_tick(&mut self, now: Duration, revision: i64, leads: bool) -> Option<i64> {
        if now < self.next {
            return None;
        }
        self.next = now + self.interval;
        let due = match self.retention {
            Retention::Time(period) => self.due_by_time(now, period),
            Retention::Revisions(count) => Some(revision - count).filter(|due| *due > 0),
        };
        self.sample(revision);
        let due = due.filter(|due| leads && !self.is_under_way && *due != self.last_revision)?;
        self.is_under_way = true;
        self.has_begun = true;
        Some(due)
    }

    /// Input: the compaction to `revision` was applied, or was not needed any more; or it failed, and is tried again.
    pub fn on_done(&mut self, now: Duration, revision: i64, is_ok: bool) {
        self.is_under_way = false;
        if is_ok {
            self.last_revision = revision;
            self.last_success = now;
        }
    }

    fn due_by_time(&self, now: Duration, period: Duration) -> Option<i64> {
        let wait = match self.has_begun {
            true => period.min(PERIOD_MAX),
            false => period,
        };
        let is_due = now.saturating_sub(self.last_success) >= wait;
        self.samples.front().copied().filter(|_| is_due)
    }

    fn sample(&mut self, revision: i64) {
        let Retention::Time(period) = self.retention else {
            return;
        };
        self.samples.push_back(revision);
        let count_max = period.as_nanos() / self.interval.as_nanos() + 1;
        while self.samples.len() as u128 > count_max {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Runs for so many minutes, ten revisions a minute, and says when it compacts to what.
    fn run(retention: Retention, minutes: u32, leads: impl Fn(u32) -> bool) -> Vec<(u32, i64)> {
        let mut auto = AutoCompaction::new(retention, Duration::ZERO, 1);
        let mut done = Vec::new();
        for minute in 1..=minutes {
            let now = MINUTE * minute;
            let revision = 1 + 10 * i64::from(minute);
            if let Some(due) = auto.on_tick(now, revision, leads(minute)) {
                auto.on_done(now, due, true);
                done.push((minute, due));
            }
        }
        done
    }

    #[test]
    fn short_periods_compact_each_period_to_the_revision_before_it() {
        let done = run(Retention::Time(10 * MINUTE), 30, |_| true);
        assert_eq!(done, [(10, 1), (20, 91), (30, 191)]);
    }

    #[test]
    fn long_periods_compact_each_hour_after_the_first_one() {
        let done = run(Retention::Time(180 * MINUTE), 310, |_| true);
        assert_eq!(done, [(180, 1), (240, 541), (300, 1141)]);
    }

    #[test]
    fn who_does_not_lead_samples_and_compacts_when_it_does() {
        let done = run(Retention::Time(10 * MINUTE), 30, |minute| minute >= 15);
        assert_eq!(done, [(15, 41), (25, 141)]);
    }

    #[test]
    fn revisions_are_counted_back_every_five_minutes() {
        let done = run(Retention::Revisions(120), 20, |_| true);
        assert_eq!(done, [(15, 31), (20, 81)]);
    }

    #[test]
    fn what_failed_is_tried_again_at_the_next_sample_and_an_idle_store_is_left_alone() {
        let period = 10 * MINUTE;
        let mut auto = AutoCompaction::new(Retention::Time(period), Duration::ZERO, 5);
        let tick = |auto: &mut AutoCompaction, minute| auto.on_tick(MINUTE * minute, 5, true);
        for minute in 1..10 {
            assert_eq!(tick(&mut auto, minute), None);
        }
        assert_eq!(tick(&mut auto, 10), Some(5));
        assert_eq!(tick(&mut auto, 11), None, "one at a time");
        auto.on_done(MINUTE * 11, 5, false);
        assert_eq!(tick(&mut auto, 12), Some(5));
        auto.on_done(MINUTE * 12, 5, true);
        for minute in 13..60 {
            assert_eq!(tick(&mut auto, minute), None, "nothing new");
        }
    }
}
