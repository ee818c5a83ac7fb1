//! What the key index costs beside its `BTreeMap` twin.
//!
//! `cargo run --release -p engine --example index_bench -- [keys] [seed]`; 1,000,000 keys by default. Prints
//! nanoseconds for each operation, random order, one thread; `cow` publishes after each write, `cow, one batch` never.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use engine::index::{Index, KeyRange, Version, twin};
use engine::random::SplitMix64;
use engine::tail::TailPosition;
use engine::types::{LeaseId, Revision};

fn shuffle<T>(items: &mut [T], random: &mut SplitMix64) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i as u64 + 1) as usize);
    }
}

fn keys(count: usize, random: &mut SplitMix64) -> Vec<Vec<u8>> {
    let key = |i: usize, random: &mut SplitMix64| {
        let (namespace, suffix) = (i % 500, random.next() & 0xff_ffff_ffff);
        format!("/registry/pods/ns-{namespace:04}/pod-{suffix:010x}").into_bytes()
    };
    (0..count).map(|i| key(i, random)).collect()
}

fn version(main: i64, newest: Option<&Version>) -> Version {
    Version {
        revision: Revision::new(main, 0),
        create_revision: newest.map_or(main, |newest| newest.create_revision),
        version: newest.map_or(1, |newest| newest.version + 1),
        lease: LeaseId::NONE,
        position: TailPosition(main as u64),
    }
}

fn namespace(number: u64) -> KeyRange {
    let start = format!("/registry/pods/ns-{:04}/", number % 500);
    let end = format!("/registry/pods/ns-{:04}0", number % 500);
    KeyRange::new(&Bytes::from(start), &Bytes::from(end))
}

fn report(name: &str, what: &str, count: usize, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let each = start.elapsed().as_nanos() as f64 / count.max(1) as f64;
    println!("{name:15} {what:22} {each:10.1} ns");
}

macro_rules! bench {
    ($name:expr, $index:expr, $publish:expr, $keys:expr, $order:expr) => {{
        let (name, index, keys, order) = ($name, &mut $index, &$keys, &$order);
        let count = keys.len();
        let mut main = 1;
        report(name, "insert", count, || {
            for key in keys {
                main += 1;
                index.insert(key, |newest| version(main, newest));
                $publish(index);
            }
        });
        report(name, "get", count, || {
            for i in order {
                black_box(index.get(&keys[*i], main));
            }
        });
        report(name, "scan, per key", count, || {
            for number in 0..500 {
                index.walk(&namespace(number), None, main, |key, version| {
                    black_box((key, version));
                    true
                });
            }
        });
        report(name, "count of a namespace", 500, || {
            for number in 0..500 {
                black_box(index.count(&namespace(number * 7), main));
            }
        });
        report(name, "update", count, || {
            for i in order {
                main += 1;
                index.insert(&keys[*i], |newest| version(main, newest));
                $publish(index);
            }
        });
        report(name, "compact, per key", count, || {
            let mut after: Option<Box<[u8]>> = None;
            while let Some(last) = index.compact(after.as_deref(), main, &[], 1000) {
                after = Some(last);
            }
        });
    }};
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        arguments
            .next()
            .and_then(|a| a.parse().ok())
            .unwrap_or(default)
    };
    let (count, seed) = (number(1_000_000), number(1));
    println!("keys {count}, seed {seed}");
    let mut random = SplitMix64(seed as u64);
    let keys = keys(count, &mut random);
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order, &mut random);

    let mut index = Index::new();
    bench!("cow", index, |i: &mut Index| i.publish(b""), keys, order);
    let mut index = Index::new();
    bench!("cow, one batch", index, |_: &mut Index| (), keys, order);
    println!(
        "cow: {:.1} bytes for each key",
        index.size_bytes() as f64 / count.max(1) as f64
    );
    let mut index = twin::Index::new();
    bench!("BTreeMap", index, |_: &mut twin::Index| (), keys, order);
}
