//! Keeping what was found: the fewest inputs with the same coverage go to `fuzz/corpus`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::campaign::INPUT_LEN_MAX;
use super::{Folders, make};
use crate::step::Failure;

/// Less than the test of `fuzz` allows, so that later inputs find room.
const CORPUS_BYTES_MAX: u64 = 160 * 1024;

/// Every input is a file; what is not kept, an hour of fuzzing finds again.
const INPUT_COUNT_MAX: usize = 250;

/// Minimises what is kept and what was found, for each target.
///
/// # Errors
/// If the fuzzer or the file system fails.
pub(super) fn keep(fuzzer: &Path, folders: &Folders, targets: &[String]) -> Result<(), Failure> {
    for target in targets {
        let (count, bytes) = keep_one(fuzzer, folders, target)?;
        println!("fuzz: {target}: keeps {count} inputs of {bytes} bytes");
    }
    Ok(())
}

fn keep_one(fuzzer: &Path, folders: &Folders, target: &str) -> Result<(usize, u64), Failure> {
    let merged = folders.work.join("merged").join(target);
    let told = |e: std::io::Error| format!("{target}: {e}");
    if merged.exists() {
        fs::remove_dir_all(&merged).map_err(told)?;
    }
    let merged = make(merged)?;
    let corpus = make(folders.corpus(target))?;
    let output = Command::new(fuzzer)
        .env("FUZZ_TARGET", target)
        .args(["-set_cover_merge=1", INPUT_LEN_MAX])
        .args([&merged, &corpus, &make(folders.found(target))?])
        .output()
        .map_err(told)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{target}: merging failed\n{text}"));
    }
    replace(&merged, &corpus).map_err(told)
}

/// Puts inputs of `merged` in the place of those in `corpus`: of all sizes, if there is not room for all.
fn replace(merged: &Path, corpus: &Path) -> std::io::Result<(usize, u64)> {
    let mut inputs: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(merged)? {
        let entry = entry?;
        inputs.push((entry.metadata()?.len(), entry.path()));
    }
    inputs.sort();
    for entry in fs::read_dir(corpus)? {
        fs::remove_file(entry?.path())?;
    }
    let (mut count, mut bytes) = (0, 0);
    for nth in spread(inputs.len(), INPUT_COUNT_MAX) {
        let (len, path) = &inputs[nth];
        let Some(name) = path.file_name() else {
            continue;
        };
        if bytes + len <= CORPUS_BYTES_MAX {
            fs::copy(path, corpus.join(name))?;
            bytes += len;
            count += 1;
        }
    }
    Ok((count, bytes))
}

/// At most `count_max` numbers below `count`, evenly spread.
fn spread(count: usize, count_max: usize) -> impl Iterator<Item = usize> {
    let kept = count.min(count_max);
    (0..kept).map(move |nth| nth * count / kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread() {
        let all = |count, count_max| spread(count, count_max).collect::<Vec<_>>();
        assert_eq!(all(3, 5), [0, 1, 2]);
        assert_eq!(all(10, 4), [0, 2, 5, 7]);
        assert_eq!(all(0, 4), []);
    }
}
