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
const SEARCH_STEPS_MAX: usize = 20_000;

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
        if key.starts_with(crate::workload::LEASED_PREFIX.as_bytes()) {
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

/// Where a search stands: all answered steps before `first` are done, and those of `done` behind it; of the unanswered
/// ones, those of `used`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    first: usize,
    done: BTreeSet<usize>,
    used: BTreeSet<usize>,
    value: Option<Bytes>,
}

/// Looks for an order, depth first.
fn is_linearizable(steps: &[Step]) -> bool {
    let (answered, maybe): (Vec<&Step>, Vec<&Step>) =
        steps.iter().partition(|step| step.returned < u64::MAX);
    let maybe: Vec<&Step> = maybe
        .into_iter()
        .filter(|step| is_needed(step, &answered, steps))
        .collect();
    let begin = State {
        first: 0,
        done: BTreeSet::new(),
        used: BTreeSet::new(),
        value: None,
    };
    let mut seen = BTreeSet::new();
    let mut open = vec![begin];
    while let Some(state) = open.pop() {
        if state.first == answered.len() || seen.len() > SEARCH_STEPS_MAX {
            return true;
        }
        for next in state.successors(&answered, &maybe) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// Whether an unanswered write can explain anything: what nobody saw might as well never have happened.
fn is_needed(step: &Step, answered: &[&Step], steps: &[Step]) -> bool {
    let value = match &step.action {
        Action::Set(value) => value.as_ref(),
        Action::SetIf(_, value) => Some(value),
        Action::See(..) => return false,
    };
    let is_seen = answered.iter().any(|other| match &other.action {
        Action::See(seen, _) => seen.as_ref() == value,
        _ => false,
    });
    let is_expected = steps.iter().any(|other| match &other.action {
        Action::SetIf(expected, _) => expected.as_ref() == value,
        _ => false,
    });
    is_seen || is_expected
}

impl State {
    /// What may come next, the likeliest last.
    fn successors(&self, answered: &[&Step], maybe: &[&Step]) -> Vec<State> {
        // Whoever returned first among those left must come before everything called after that.
        let mut deadline = u64::MAX;
        let mut candidates = Vec::new();
        for (i, step) in answered.iter().enumerate().skip(self.first) {
            if step.called >= deadline {
                break;
            }
            if !self.done.contains(&i) {
                deadline = deadline.min(step.returned);
                candidates.push(i);
            }
        }
        candidates.retain(|&i| answered[i].called < deadline);
        candidates.sort_by_key(|&i| std::cmp::Reverse(answered[i].returned));
        let mut found = Vec::new();
        for (i, step) in maybe.iter().enumerate() {
            if step.called < deadline
                && !self.used.contains(&i)
                && let Some(value) = take(&step.action, self.value.as_ref())
            {
                let mut next = State {
                    value,
                    ..self.clone()
                };
                next.used.insert(i);
                found.push(next);
            }
        }
        for i in candidates {
            if let Some(value) = take(&answered[i].action, self.value.as_ref()) {
                let mut next = State {
                    value,
                    ..self.clone()
                };
                next.done.insert(i);
                while next.done.remove(&next.first) {
                    next.first += 1;
                }
                found.push(next);
            }
        }
        found
    }
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
