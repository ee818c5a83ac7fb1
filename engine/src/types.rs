//! Newtypes shared by the modules of the engine.
//!
//! An id that crosses a module has a type of its own here, so that two of them cannot be swapped. Nothing here knows
//! what it identifies.

use std::fmt;
use std::time::Duration;

/// One change of the key space: `main` counts applied requests that changed something, `sub` the changes inside one.
///
/// A fresh store is at main revision 1 with no change in it; the first change is `2_0`. Both parts are never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

/// Length of a revision as a key of bucket `key`: main (big-endian), `_`, sub (big-endian).
pub const REVISION_LEN: usize = 17;

const SEPARATOR: u8 = b'_';
const TOMBSTONE_MARK: u8 = b't';

impl Revision {
    pub const fn new(main: i64, sub: i64) -> Self {
        Revision { main, sub }
    }

    /// The key of bucket `key`: [`REVISION_LEN`] bytes, and one more, `t`, for a tombstone.
    pub fn to_bucket_key(self, tombstone: bool) -> BucketKey {
        let mut bytes = [0; REVISION_LEN + 1];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..REVISION_LEN].copy_from_slice(&self.sub.to_be_bytes());
        bytes[REVISION_LEN] = TOMBSTONE_MARK;
        BucketKey { bytes, tombstone }
    }

    /// Reads a key of bucket `key`: the revision and whether it is a tombstone's. `None` if it is no such key.
    pub fn from_bucket_key(bytes: &[u8]) -> Option<(Self, bool)> {
        let tombstone = match bytes.len() {
            REVISION_LEN => false,
            n if n == REVISION_LEN + 1 && bytes[REVISION_LEN] == TOMBSTONE_MARK => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(bytes[9..REVISION_LEN].try_into().ok()?);
        (bytes[8] == SEPARATOR && main >= 0 && sub >= 0)
            .then_some((Revision { main, sub }, tombstone))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.main, self.sub)
    }
}

/// The encoded form of a [`Revision`] as bucket `key` has it, held in place.
#[derive(Clone, Copy, Debug)]
pub struct BucketKey {
    bytes: [u8; REVISION_LEN + 1],
    tombstone: bool,
}

impl BucketKey {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..REVISION_LEN + usize::from(self.tombstone)]
    }
}

/// Identity of a lease. 0 is no lease; negative ids are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    pub const NONE: LeaseId = LeaseId(0);

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Position of an entry in the raft log; the first one is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

/// A leadership's number; 0 before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// How much a resumable step may still do before it must return. One unit is about one key touched, a few hundred
/// nanoseconds; a step always does a little, so that it ends even if it is handed single units.
///
/// A unit that meets cold memory costs many times that, so a budget may have a time as well: [`Budget::within`].
#[derive(Clone, Debug)]
pub struct Budget {
    left: usize,
    spent: usize,
    until: Option<Until>,
}

/// The end of a budget by the clock, which is looked at every few units.
#[derive(Clone, Copy, Debug)]
struct Until {
    clock: fn() -> Duration,
    time: Duration,
    end: Duration,
    /// Units spent since the last look.
    unseen: usize,
    is_over: bool,
}

/// Units between two looks at the clock; a look costs a tenth of a unit.
const LOOK_UNITS: usize = 4;

impl Until {
    fn new(clock: fn() -> Duration, time: Duration) -> Self {
        Until {
            clock,
            time,
            end: clock().saturating_add(time),
            unseen: 0,
            is_over: false,
        }
    }

    fn on_spent(&mut self, units: usize) {
        self.unseen = self.unseen.saturating_add(units);
        if self.unseen >= LOOK_UNITS {
            self.unseen = 0;
            self.is_over |= (self.clock)() >= self.end;
        }
    }
}

impl Budget {
    pub const fn new(units: usize) -> Self {
        Budget {
            left: units,
            spent: 0,
            until: None,
        }
    }

    /// For callers that want the whole work done at once: start-up, tests.
    pub const fn unlimited() -> Self {
        Budget::new(usize::MAX)
    }

    /// The same, but spent when `time` has passed from now on.
    #[must_use]
    pub fn within(self, clock: fn() -> Duration, time: Duration) -> Self {
        Budget {
            until: Some(Until::new(clock, time)),
            ..self
        }
    }

    /// A budget of its own that ends at the same time.
    #[must_use]
    pub const fn apart(&self, units: usize) -> Self {
        Budget {
            left: units,
            spent: 0,
            until: self.until,
        }
    }

    /// A budget of its own with as much time, from now on.
    #[must_use]
    pub fn anew(&self, units: usize) -> Self {
        Budget {
            left: units,
            spent: 0,
            until: self.until.map(|until| Until::new(until.clock, until.time)),
        }
    }

    /// 0 if it is spent.
    pub const fn left(&self) -> usize {
        match self.until {
            Some(Until { is_over: true, .. }) => 0,
            _ => self.left,
        }
    }

    /// What was spent of it so far.
    pub const fn spent(&self) -> usize {
        self.spent
    }

    pub const fn is_spent(&self) -> bool {
        self.left() == 0
    }

    pub fn spend(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
        self.spent = self.spent.saturating_add(units);
        if let Some(until) = &mut self.until {
            until.on_spent(units);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW_MICROS: Cell<u64> = const { Cell::new(0) };
    }

    fn now() -> Duration {
        Duration::from_micros(NOW_MICROS.get())
    }

    /// Spends single units of 10 us each, at most 100.
    fn spend_all(budget: &mut Budget) -> usize {
        let units = (1..=100).find(|_| {
            NOW_MICROS.set(NOW_MICROS.get() + 10);
            budget.spend(1);
            budget.is_spent()
        });
        units.unwrap_or(100)
    }

    #[test]
    fn a_budget_ends_by_its_units_or_by_its_time() {
        let time = Duration::from_micros(200);
        let mut short = Budget::new(10).within(now, time);
        assert_eq!((spend_all(&mut short), short.spent()), (10, 10));
        let mut long = Budget::new(90).within(now, time);
        let units = spend_all(&mut long);
        assert_eq!(units, 20);
        assert_eq!((long.left(), long.spent()), (0, 20));
        // It has no time left for others, who count for themselves.
        let mut apart = long.apart(90);
        assert_eq!((apart.left(), apart.spent()), (0, 0));
        assert_eq!(spend_all(&mut apart), 1);
        let mut anew = long.anew(90);
        assert_eq!((anew.left(), spend_all(&mut anew)), (90, 20));
        assert_eq!(spend_all(&mut Budget::new(90)), 90);
    }

    #[test]
    fn bucket_key_is_etcds() {
        let key = Revision::new(0x0102, 3).to_bucket_key(false);
        assert_eq!(key.as_bytes(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
        let tomb = Revision::new(5, 0).to_bucket_key(true);
        assert_eq!(tomb.as_bytes().len(), REVISION_LEN + 1);
        assert_eq!(
            Revision::from_bucket_key(tomb.as_bytes()),
            Some((Revision::new(5, 0), true))
        );
        assert_eq!(
            Revision::from_bucket_key(key.as_bytes()),
            Some((Revision::new(0x0102, 3), false))
        );
    }

    #[test]
    fn bucket_key_refuses_other_bytes() {
        let good = Revision::new(7, 1).to_bucket_key(true);
        let mut bad = good.as_bytes().to_vec();
        bad[REVISION_LEN] = b'x';
        assert_eq!(Revision::from_bucket_key(&bad), None);
        assert_eq!(Revision::from_bucket_key(&bad[..16]), None);
        assert_eq!(Revision::from_bucket_key(b""), None);
        bad.truncate(REVISION_LEN);
        bad[8] = b'-';
        assert_eq!(Revision::from_bucket_key(&bad), None);
        bad[8] = b'_';
        bad[0] = 0x80;
        assert_eq!(Revision::from_bucket_key(&bad), None);
    }

    #[test]
    fn revisions_order_by_main_then_sub() {
        assert!(Revision::new(1, 9) < Revision::new(2, 0));
        assert!(Revision::new(2, 0) < Revision::new(2, 1));
    }
}
