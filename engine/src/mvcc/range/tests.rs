//! How much of the index a range touches, and how long a slice may become.

use proto::etcdserverpb::{self as pb, InternalRaftRequest};

use super::run::VALUE_BYTES_PER_UNIT;
use super::*;
use crate::backend::testing::TestDisk;
use crate::cow::touched;
use crate::state::{State, StateOptions};
use crate::types::{LogIndex, Term};

/// A state with so many keys behind one prefix.
fn filled(count: usize) -> State {
    filled_with(count, "v".into())
}

fn filled_with(count: usize, value: Bytes) -> State {
    let mut state = TestDisk::default().state(StateOptions::default());
    for i in 0..count {
        let put = pb::PutRequest {
            key: format!("/registry/pods/{i:06}").into(),
            value: value.clone(),
            ..Default::default()
        };
        let request = InternalRaftRequest {
            put: Some(put),
            ..Default::default()
        };
        state.apply(LogIndex(i as u64 + 1), Term(1), Some(request));
    }
    state.publish();
    state
}

fn prefix() -> RangeRequest {
    RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..Default::default()
    }
}

fn pages(work: impl FnOnce()) -> usize {
    let before = touched::count();
    work();
    touched::count() - before
}

/// A count and the first keys of a large prefix cost what a look at a few keys costs.
#[test]
fn counts_and_limits_touch_few_pages() {
    let state = filled(30_000);
    let mut reader = state.views().reader().unwrap();
    let view = reader.pin();
    let point = RangeRequest {
        key: "/registry/pods/017000".into(),
        ..Default::default()
    };
    let one = pages(|| assert_eq!(view.range(&point).unwrap().count, 1));
    let count_only = RangeRequest {
        count_only: true,
        ..prefix()
    };
    let counting = pages(|| assert_eq!(view.range(&count_only).unwrap().count, 30_000));
    assert!(counting <= 3 * one, "{counting} pages beside {one}");
    let limited = RangeRequest {
        limit: 10,
        ..prefix()
    };
    for keys_only in [false, true] {
        let request = RangeRequest {
            keys_only,
            ..limited.clone()
        };
        let mut budget = Budget::unlimited();
        let before = budget.left();
        let touched = pages(|| {
            let mut run = RangeRun::new(&request, view.reader()).unwrap();
            let answer = run.step(view.reader(), &mut budget).unwrap().unwrap();
            assert_eq!(
                (answer.kvs.len(), answer.count, answer.more),
                (10, 30_000, true)
            );
        });
        let steps = before - budget.left();
        assert!(steps <= 12, "{steps} steps");
        // Each step looks at its leaf a few times; what matters is that the number of keys does not show.
        assert!(touched <= 12 * 12 + 3 * one, "{touched} pages beside {one}");
    }
}

/// However a range is filtered, sorted or limited, a slice does little more than its budget says.
#[test]
fn slices_of_any_range_are_short() {
    let state = filled(9_000);
    let mut reader = state.views().reader().unwrap();
    let view = reader.pin();
    let all_kinds = (0..5).flat_map(|target| (0..3).map(move |order| (target, order)));
    for (sort_target, sort_order) in all_kinds {
        for (limit, min_mod_revision) in [(0, 0), (5, 0), (0, 8_000), (5, 8_000)] {
            let request = RangeRequest {
                sort_target,
                sort_order,
                limit,
                min_mod_revision,
                ..prefix()
            };
            let mut run = RangeRun::new(&request, view.reader()).unwrap();
            let mut slices = 0;
            loop {
                let mut answer = None;
                let touched = pages(|| {
                    answer = run.step(view.reader(), &mut Budget::new(50)).unwrap();
                });
                assert!(touched < 50 * 12 + 100, "{request:?}: {touched} pages");
                slices += 1;
                if answer.is_some() {
                    break;
                }
            }
            let all = view.range(&request).unwrap();
            assert_eq!(all.count, 9_000);
            let is_limited_walk = limit == 5 && min_mod_revision == 0 && sort_order != 2;
            let is_sorted = sort_order != 0 || min_mod_revision != 0;
            if !is_limited_walk && is_sorted {
                assert!(slices > 100, "{request:?} in {slices} slices");
            }
        }
    }
}

/// However large the values are, a slice brings little more than its budget says.
#[test]
fn slices_bring_few_bytes() {
    const LEN: usize = 64 << 10;
    const UNITS: usize = 256;
    let state = filled_with(100, vec![b'v'; LEN].into());
    let mut reader = state.views().reader().unwrap();
    let view = reader.pin();
    let pairs_max = UNITS * VALUE_BYTES_PER_UNIT / LEN + 1;
    let slices_min = 100 / pairs_max;
    for sort_order in [0, 2] {
        let request = RangeRequest {
            sort_order,
            ..prefix()
        };
        let mut run = RangeRun::new(&request, view.reader()).unwrap();
        let step = |run: &mut RangeRun| run.step(view.reader(), &mut Budget::new(UNITS)).unwrap();
        let slices = (1..=1000).find(|_| step(&mut run).is_some()).unwrap();
        assert!(slices >= slices_min, "{slices} slices");
    }
    let mut stream = RangeStream::new(&prefix(), view.reader()).unwrap();
    while stream
        .measure(view.reader(), &mut Budget::new(UNITS))
        .unwrap()
        .is_none()
    {}
    let mut is_more = true;
    while is_more {
        let mut pairs = Vec::new();
        let mut budget = Budget::new(UNITS);
        is_more = stream
            .read(view.reader(), &mut budget, usize::MAX, &mut pairs)
            .unwrap();
        assert!(pairs.len() <= pairs_max, "{} pairs", pairs.len());
    }
}
