//! libFuzzer around the targets of `fuzz`: one program, told by `FUZZ_TARGET` which of them to run.
//!
//! Built by `cargo xtask fuzz`, which has rustc put coverage counters into the code. Arguments are libFuzzer's.
#![no_main]

use std::alloc::System;
use std::sync::OnceLock;

use cap::Cap;
use fuzz::Target;
use libfuzzer_sys::{Corpus, fuzz_target};

/// Counts what Rust allocates. An allocation beyond the limit fails, and that aborts with the input in hand.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let Some(target) = fuzz::find(&name) else {
            eprintln!("FUZZ_TARGET={name:?} is none of:");
            for target in fuzz::TARGETS {
                eprintln!("  {}", target.name);
            }
            std::process::exit(2);
        };
        let _ = TARGET.set(target);
        lift_limit_on_panic();
    },
    |octets: &[u8]| -> Corpus {
        match TARGET.get() {
            Some(target) if octets.len() <= target.input_len_max => run(target, octets),
            _ => Corpus::Reject,
        }
    }
);

fn run(target: &Target, octets: &[u8]) -> Corpus {
    let limit = ALLOCATOR.allocated() + target.memory_bytes_max;
    // Fails only if more than the limit is in use, and the limit is above what is.
    let _ = ALLOCATOR.set_limit(limit);
    (target.run)(octets);
    let _ = ALLOCATOR.set_limit(usize::MAX);
    Corpus::Keep
}

/// Telling of a panic allocates, and must not fail at that.
fn lift_limit_on_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _ = ALLOCATOR.set_limit(usize::MAX);
        hook(info);
    }));
}
