//! Compares of transactions, over one key or a range.

use std::cmp::Ordering;

use proto::etcdserverpb::Compare;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::pair::value_in;
use super::{Reader, RequestError};
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
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub(super) fn step(
        &mut self,
        compare: &Compare,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Result<Option<bool>, RequestError> {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let after = self.after.take();
        let mut stopped_at = None;
        let mut failed = false;
        let mut damaged = None;
        let walked =
            reader
                .index
                .walk(&range, after.as_deref(), reader.revision, |key, version| {
                    budget.spend(1);
                    if let Some(version) = version {
                        self.any = true;
                        match value_of(compare, reader, version) {
                            Ok(value) => failed = !holds(compare, Some((version, value))),
                            Err(error) => damaged = Some(error),
                        }
                    }
                    if budget.is_spent() {
                        stopped_at = Some(Box::from(key));
                    }
                    !failed && damaged.is_none() && stopped_at.is_none()
                });
        if let Some(error) = damaged {
            return Err(error);
        }
        if failed {
            return Ok(Some(false));
        }
        if walked == Walked::Stopped {
            self.after = stopped_at;
            return Ok(None);
        }
        Ok(Some(self.any || holds_without_key(compare)))
    }
}

/// The value of a version, if the compare looks at values.
fn value_of<'a>(
    compare: &Compare,
    reader: Reader<'a>,
    version: &Version,
) -> Result<&'a [u8], RequestError> {
    if compare.target != CompareTarget::Value as i32 {
        return Ok(b"");
    }
    let pair = reader.pair(version)?;
    Ok(value_in(pair.get()).unwrap_or_default())
}

/// No key in the range: a value compare fails whatever it asks, numbers compare as 0.
fn holds_without_key(compare: &Compare) -> bool {
    compare.target != CompareTarget::Value as i32 && holds(compare, None)
}

/// Compares one pair, or nothing. A oneof member that does not match the target counts as 0 or empty; an unknown
/// target as equal; an unknown operator holds.
fn holds(compare: &Compare, found: Option<(&Version, &[u8])>) -> bool {
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
            let value = found.map_or(&b""[..], |(_, value)| value);
            match union {
                Some(TargetUnion::Value(wanted)) => value.cmp(wanted),
                _ => value.cmp(b""),
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
