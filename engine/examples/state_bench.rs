//! What the replicated state costs: puts with and without publication, point reads through a pin.
//!
//! `cargo run --release -p engine --example state_bench -- [keys] [rounds]`; 200,000 keys by default. Prints the best of
//! the rounds, in nanoseconds for each operation, random order, one thread. `batch n` publishes once for n puts.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use engine::state::{State, StateOptions};
use engine::store::{MemoryPages, Store};
use engine::types::{LogIndex, Term};
use proto::etcdserverpb::{InternalRaftRequest, PutRequest, RangeRequest};

fn key(number: u64) -> String {
    format!(
        "/registry/pods/ns-{:04}/pod-{:010x}",
        number % 500,
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
    )
}

fn put(number: u64) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key(number).into(),
            value: vec![b'v'; 256].into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

/// Nanoseconds for each of `count`.
fn time(count: u64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Puts all keys in a scattered order, publishing once for `batch` of them.
fn puts(state: &mut State, applied: &mut u64, keys: u64, batch: u64) -> f64 {
    let requests: Vec<_> = (0..keys).map(|i| put(i * 7919 % keys)).collect();
    time(keys, || {
        for request in requests {
            *applied += 1;
            let at = (LogIndex(*applied), Term(1));
            black_box(state.apply(at.0, at.1, Some(request)));
            if applied.is_multiple_of(batch) {
                state.publish();
            }
        }
        state.publish();
    })
}

fn gets(state: &State, keys: u64) -> f64 {
    let mut reader = state.views().reader().expect("a free handle");
    let requests: Vec<_> = (0..keys).map(|i| key(i * 104_729 % keys)).collect();
    let requests: Vec<_> = requests
        .into_iter()
        .map(|key| RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        })
        .collect();
    time(keys, || {
        for request in &requests {
            black_box(reader.pin().range(request)).expect("the newest revision");
        }
    })
}

fn pins(state: &State) -> f64 {
    let mut reader = state.views().reader().expect("a free handle");
    time(1_000_000, || {
        for _ in 0..1_000_000 {
            black_box(reader.pin().revision());
        }
    })
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        let argument = arguments.next();
        argument.and_then(|a| a.parse().ok()).unwrap_or(default)
    };
    let (keys, rounds) = (number(200_000), number(3));
    println!("keys {keys}, best of {rounds}");
    let mut best: Vec<(&str, f64)> = Vec::new();
    let mut note = |what, nanos: f64| match best.iter_mut().find(|(w, _)| *w == what) {
        Some((_, least)) => *least = least.min(nanos),
        None => best.push((what, nanos)),
    };
    for _ in 0..rounds {
        let mut state = State::new(
            StateOptions::default(),
            Store::create(Arc::new(MemoryPages::default())),
        );
        let mut applied = 0;
        note(
            "first put, batch 1",
            puts(&mut state, &mut applied, keys, 1),
        );
        note("update, batch 1", puts(&mut state, &mut applied, keys, 1));
        note("update, batch 16", puts(&mut state, &mut applied, keys, 16));
        note(
            "update, one batch",
            puts(&mut state, &mut applied, keys, keys),
        );
        note("point range", gets(&state, keys));
        note("pin", pins(&state));
    }
    for (what, nanos) in best {
        println!("{what:20} {nanos:10.1} ns");
    }
}
