//! Every kept input once more: those that reach different code, and those that once failed.

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use cap::Cap;
use fuzz::{TARGETS, Target};

/// As in the fuzzer: an allocation beyond the limit of a target aborts.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// A corpus is for breadth; what it weighs, every clone of the repository carries.
const CORPUS_BYTES_MAX: u64 = 200 * 1024;

/// The limit is the process's, so targets take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Telling of a panic allocates, and must not fail at that.
static LIMIT_IS_LIFTED_ON_PANIC: Once = Once::new();

fn inputs(folder: &str, target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(target.name);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn replay(target: &Target, paths: &[PathBuf]) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    LIMIT_IS_LIFTED_ON_PANIC.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = ALLOCATOR.set_limit(usize::MAX);
            hook(info);
        }));
    });
    for path in paths {
        let octets = fs::read(path).expect("inputs are files");
        // Seen if the input fails.
        println!("{}", path.display());
        let limit = ALLOCATOR.allocated() + target.memory_bytes_max;
        ALLOCATOR.set_limit(limit).expect("above what is in use");
        (target.run)(&octets);
        ALLOCATOR.set_limit(usize::MAX).expect("no limit");
    }
}

#[test]
fn every_corpus_is_replayed() {
    for target in TARGETS {
        let paths = inputs("corpus", target);
        assert!(paths.len() > 10, "{}: no corpus", target.name);
        let bytes: u64 = paths
            .iter()
            .map(|path| path.metadata().map_or(0, |m| m.len()))
            .sum();
        assert!(bytes < CORPUS_BYTES_MAX, "{}: {bytes} bytes", target.name);
        replay(target, &paths);
    }
}

#[test]
fn what_once_failed_is_replayed() {
    for target in TARGETS {
        replay(target, &inputs("regressions", target));
    }
}

#[test]
fn folders_are_named_as_targets() {
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_target = TARGETS.iter().any(|target| name == target.name);
            assert!(is_target, "{} is read by nobody", entry.path().display());
        }
    }
}

#[test]
fn the_planted_target_is_found_by_name_only() {
    assert!(
        TARGETS
            .iter()
            .all(|target| target.name != fuzz::PLANTED.name)
    );
    assert!(fuzz::find("planted").is_some());
    assert!(TARGETS.is_sorted_by_key(|target| target.name));
}
