//! Deadlines of calls, soonest first.
//!
//! Nearly every call has one and nearly none is met, so calls that end leave their entry behind. Stale entries at the
//! front go when time passes, and all of them once they are the greater part.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::h2::Key;

/// Below this many entries nobody counts how many are stale.
const SWEEP_LEN_MIN: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(Duration, Key)>>);

impl Deadlines {
    /// Adds a deadline. `live_count`: how many calls there are, so at most how many entries matter.
    pub(crate) fn push(
        &mut self,
        deadline: Duration,
        key: Key,
        live_count: usize,
        is_live: impl Fn(Key) -> bool,
    ) {
        if self.0.len() > SWEEP_LEN_MIN && self.0.len() / 2 > live_count {
            self.0.retain(|Reverse((_, key))| is_live(*key));
        }
        self.0.push(Reverse((deadline, key)));
    }

    /// A call whose deadline has come. Drops entries of calls that are not live.
    pub(crate) fn poll_due(&mut self, now: Duration, is_live: impl Fn(Key) -> bool) -> Option<Key> {
        while let Some(Reverse((deadline, key))) = self.0.peek().copied() {
            let is_live = is_live(key);
            if is_live && deadline > now {
                return None;
            }
            self.0.pop();
            if is_live {
                return Some(key);
            }
        }
        None
    }

    /// The soonest one, perhaps of a call that has ended since `poll_due`.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.0.peek().map(|Reverse((deadline, _))| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key::from_u64(number)
    }

    #[test]
    fn due_ones_come_in_order_and_stale_ones_not() {
        let mut deadlines = Deadlines::default();
        for number in [5u64, 3, 9, 4] {
            deadlines.push(Duration::from_secs(number), key(number), 4, |_| true);
        }
        let is_live = |found: Key| found != key(3);
        let now = Duration::from_secs(5);
        assert_eq!(deadlines.poll_due(now, is_live), Some(key(4)));
        assert_eq!(deadlines.poll_due(now, is_live), Some(key(5)));
        assert_eq!(deadlines.poll_due(now, is_live), None);
        assert_eq!(deadlines.next_timeout(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn stale_entries_are_swept() {
        let mut deadlines = Deadlines::default();
        for number in 0..100_000 {
            deadlines.push(Duration::from_secs(1), key(number), 1, |live| {
                live == key(number)
            });
        }
        assert!(
            deadlines.0.len() <= SWEEP_LEN_MIN + 2,
            "{}",
            deadlines.0.len()
        );
    }
}
