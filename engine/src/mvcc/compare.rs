//! Compares of transactions, over one key or a range.

use std::cmp::Ordering;

use bytes::Bytes;
use proto::etcdserverpb::Compare;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::Reader;
use super::pair::value_of;
use crate::index::{KeyRange, Version, Walked};
use crate::types::Budget;

/// A compare in progress: where a range compare got to.
#[derive(Debug, Default)]
pub(super) struct CompareRun {
    after: Option<Box<[u8]>>,
    any: bool,
}

impl CompareRun {
    /// Does a slice; answers once it is known whether the compare holds.
    pub(super) fn step(
        &mut self,
        compare: &Compare,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Option<bool> {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let after = self.after.take();
        let mut stopped_at = None;
        let mut failed = false;
        let walked =
            reader
                .index
                .walk(&range, after.as_deref(), reader.revision, |key, version| {
                    budget.spend(1);
                    if let Some(version) = version {
                        self.any = true;
                        failed = !holds(compare, Some((version, reader.pair(version))));
                    }
                    if budget.is_spent() {
                        stopped_at = Some(Box::from(key));
                    }
                    !failed && stopped_at.is_none()
                });
        if failed {
            return Some(false);
        }
        if walked == Walked::Stopped {
            self.after = stopped_at;
            return None;
        }
        Some(self.any || holds_without_key(compare))
    }
}

/// No key in the range: a value compare fails whatever it asks, numbers compare as 0.
fn holds_without_key(compare: &Compare) -> bool {
    compare.target != CompareTarget::Value as i32 && holds(compare, None)
}

/// Compares one pair, or nothing. A oneof member that does not match the target counts as 0 or empty; an unknown
/// target as equal; an unknown operator holds.
fn holds(compare: &Compare, found: Option<(&Version, &Bytes)>) -> bool {
    let number = |of: fn(&Version) -> i64| found.map_or(0, |(version, _)| of(version));
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(|v| v.version).cmp(&match union {
            Some(TargetUnion::Version(n)) => *n,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => number(|v| v.create_revision).cmp(&match union {
            Some(TargetUnion::CreateRevision(n)) => *n,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => number(|v| v.revision.main).cmp(&match union {
            Some(TargetUnion::ModRevision(n)) => *n,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => number(|v| v.lease.0).cmp(&match union {
            Some(TargetUnion::Lease(n)) => *n,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => {
            let value = found.map(|(_, pair)| value_of(pair)).unwrap_or_default();
            match union {
                Some(TargetUnion::Value(wanted)) => value.cmp(wanted),
                _ => value.as_ref().cmp(&b""[..]),
            }
        }
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
