//! Linearizability of single keys with no revision believed: a search for an order (Wing and Gong 1993, Lowe 2017).
//!
//! Each key is a register with put, delete, swap and get. A call over several keys counts as one call on each, which
//! only weakens the check; [`super::revisions`] covers those wholly. Keys with leases are left out, since they change
//! by themselves. A search that grows too large is given up: then nothing is said.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Violation;
use crate::history::{Call, Operation, Outcome};

/// States that one search may visit.
const SEARCH_STEPS_MAX: usize = 100_000;

#[derive(Clone, Debug)]
enum Action {
    Set(Option<Bytes>),
    /// Set if the value was as expected.
    SetIf(Option<Bytes>, Bytes),
    /// The value must be this, and in a failed swap not that.
    See(Option<Bytes>, Option<Option<Bytes>>),
}

#[derive(Debug)]
struct Step {
    action: Action,
    called: u64,
    /// `u64::MAX`: it may take effect at any later time, or never.
    returned: u64,
}

/// # Errors
/// A key whose answers no order explains.
pub fn check(operations: &[Operation]) -> Result<(), Violation> {
    let mut keys: BTreeMap<Bytes, Vec<Step>> = BTreeMap::new();
    let mut everywhere = Vec::new();
    for operation in operations {
        split(operation, &mut keys, &mut everywhere);
    }
    for (key, mut steps) in keys {
        if key.starts_with(crate::workload::LEASED_PREFIX) {
            continue;
        }
        steps.extend(everywhere.iter().map(|&(called, returned)| Step {
            action: Action::Set(None),
            called,
            returned,
        }));
        steps.sort_by_key(|step| step.called);
        if !is_linearizable(&steps) {
            return Err(format!(
                "linearizability: no order explains what was seen of {key:?}"
            ));
        }
    }
    Ok(())
}

fn split(
    operation: &Operation,
    keys: &mut BTreeMap<Bytes, Vec<Step>>,
    everywhere: &mut Vec<(u64, u64)>,
) {
    let is_known = match operation.outcome {
        Outcome::Refused | Outcome::Failed { .. } => return,
        Outcome::Unknown => false,
        _ => true,
    };
    let returned = operation.returned.filter(|_| is_known).unwrap_or(u64::MAX);
    let called = operation.called;
    let mut add = |key: &Bytes, action| {
        let step = Step {
            action,
            called,
            returned,
        };
        keys.entry(key.clone()).or_default().push(step);
    };
    match (&operation.call, &operation.outcome) {
        (Call::Put { key, value, .. }, _) => add(key, Action::Set(Some(value.clone()))),
        (Call::Delete { key }, _) => add(key, Action::Set(None)),
        (Call::PutPair { keys, value }, _) => {
            keys.iter()
                .for_each(|key| add(key, Action::Set(Some(value.clone()))));
        }
        (Call::Swap { key, expected, .. }, Outcome::Read { kvs, .. }) => {
            let seen = kvs.first().map(|kv| kv.value.clone());
            add(key, Action::See(seen, Some(expected.clone())));
        }
        (
            Call::Swap {
                key,
                expected,
                value,
            },
            _,
        ) => add(key, Action::SetIf(expected.clone(), value.clone())),
        (
            Call::Get {
                key,
                is_serializable: false,
            },
            Outcome::Read { kvs, .. },
        ) => {
            let seen = kvs.first().map(|kv| kv.value.clone());
            add(key, Action::See(seen, None));
        }
        (Call::DeleteAll, _) => everywhere.push((called, returned)),
        _ => {}
    }
}

/// Looks for an order, depth first. What is done is a set of steps: a prefix, and some behind it.
fn is_linearizable(steps: &[Step]) -> bool {
    type State = (usize, BTreeSet<usize>, Option<Bytes>);
    let mut seen: BTreeSet<State> = BTreeSet::new();
    let mut open: Vec<State> = vec![(0, BTreeSet::new(), None)];
    while let Some((first, done, value)) = open.pop() {
        if seen.len() > SEARCH_STEPS_MAX {
            return true;
        }
        let is_left = |i: &usize| !done.contains(i);
        // Whoever returned first among those left must come before everything called after that.
        let deadline = (first..steps.len())
            .filter(is_left)
            .map(|i| steps[i].returned)
            .min();
        let Some(deadline) = deadline.filter(|deadline| *deadline < u64::MAX) else {
            return true;
        };
        let candidates = (first..steps.len()).filter(is_left);
        for i in candidates.take_while(|&i| steps[i].called < deadline) {
            let Some(after) = take(&steps[i].action, value.as_ref()) else {
                continue;
            };
            let (mut first, mut done) = (first, done.clone());
            done.insert(i);
            while done.remove(&first) {
                first += 1;
            }
            let state = (first, done, after);
            if seen.insert(state.clone()) {
                open.push(state);
            }
        }
    }
    steps.is_empty()
}

/// The value after the action; `None` if it cannot come now.
fn take(action: &Action, value: Option<&Bytes>) -> Option<Option<Bytes>> {
    match action {
        Action::Set(new) => Some(new.clone()),
        Action::SetIf(expected, new) => (expected.as_ref() == value).then(|| Some(new.clone())),
        Action::See(found, unlike) => {
            let is_unlike = unlike
                .as_ref()
                .is_none_or(|unlike| unlike.as_ref() != value);
            (found.as_ref() == value && is_unlike).then(|| value.cloned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &'static str, called: u64, returned: u64) -> Step {
        let action = Action::Set(Some(value.into()));
        Step {
            action,
            called,
            returned,
        }
    }

    fn see(value: Option<&'static str>, called: u64, returned: u64) -> Step {
        let action = Action::See(value.map(Into::into), None);
        Step {
            action,
            called,
            returned,
        }
    }

    #[test]
    fn a_read_beside_a_write_may_see_either() {
        for seen in [Some("a"), Some("b")] {
            assert!(is_linearizable(&[
                set("a", 1, 2),
                set("b", 3, 9),
                see(seen, 4, 5)
            ]));
        }
    }

    #[test]
    fn a_read_after_a_write_sees_it() {
        let steps = [set("a", 1, 2), set("b", 3, 4), see(Some("a"), 5, 6)];
        assert!(!is_linearizable(&steps));
    }

    #[test]
    fn two_reads_do_not_go_back() {
        let write = || set("b", 3, u64::MAX);
        let old = [
            set("a", 1, 2),
            write(),
            see(Some("a"), 4, 5),
            see(Some("b"), 6, 7),
        ];
        assert!(is_linearizable(&old), "an unanswered write may come late");
        let back = [
            set("a", 1, 2),
            write(),
            see(Some("b"), 4, 5),
            see(Some("a"), 6, 7),
        ];
        assert!(!is_linearizable(&back));
    }

    #[test]
    fn a_swap_needs_its_value() {
        let swap = |expected: &'static str| Step {
            action: Action::SetIf(Some(expected.into()), "z".into()),
            called: 3,
            returned: 4,
        };
        assert!(is_linearizable(&[set("a", 1, 2), swap("a")]));
        assert!(!is_linearizable(&[set("a", 1, 2), swap("b")]));
    }
}
