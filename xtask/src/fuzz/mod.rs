//! The fuzzer: builds libFuzzer around the targets of `fuzz`, runs them, keeps what they found.
//!
//! ```text
//!  fuzz/corpus, fuzz/regressions --> libFuzzer, two at a time --> <target>/fuzz/found      new inputs
//!        ^                                    |                   <target>/fuzz/failures   and those that failed
//!        +------------ --keep ----------------+                   <target>/fuzz/logs
//! ```
//!
//! Nothing is skipped in silence: without a C++ compiler, or with a fuzzer that misses a planted fault, the run fails and
//! says what to do. Targets are the folders of `fuzz/corpus`; a test of `fuzz` holds the two together.

mod build;
mod campaign;
mod keep;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ci;
use crate::report::Counts;
use crate::step::Failure;

/// What each target runs in CI and in a soak.
pub(crate) const SHORT: Duration = Duration::from_secs(20);
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// When the command line names no time.
const USUAL: Duration = Duration::from_secs(60);

/// Where things are.
struct Folders {
    root: PathBuf,
    /// Below cargo's target folder.
    work: PathBuf,
}

impl Folders {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            work: ci::target_folder(root).join("fuzz"),
        }
    }

    fn corpus(&self, target: &str) -> PathBuf {
        self.root.join("fuzz/corpus").join(target)
    }

    fn regressions(&self, target: &str) -> PathBuf {
        self.root.join("fuzz/regressions").join(target)
    }

    fn dictionary(&self, target: &str) -> PathBuf {
        let name = format!("{target}.dict");
        self.root.join("fuzz/dictionaries").join(name)
    }

    fn found(&self, target: &str) -> PathBuf {
        self.work.join("found").join(target)
    }

    /// Makes a folder for what comes out of a run.
    fn output(&self, name: &str) -> Result<PathBuf, Failure> {
        make(self.work.join(name))
    }

    fn targets(&self) -> Result<Vec<String>, Failure> {
        let folder = self.root.join("fuzz/corpus");
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        Ok(names)
    }
}

fn make(folder: PathBuf) -> Result<PathBuf, Failure> {
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// What the command line asks for.
struct Wish {
    time: Duration,
    keeps: bool,
    targets: Vec<String>,
}

/// `cargo xtask fuzz [--seconds N] [--keep] [target]...`
///
/// # Errors
/// If it cannot be built, or a target failed.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), Failure> {
    let folders = Folders::new(root);
    let wish = parse(args, &folders.targets()?)?;
    let fuzzer = build::build(&folders)?;
    let mut counts = Counts::default();
    let outcome = campaign::run(&fuzzer, &folders, &wish.targets, wish.time, &mut counts);
    if wish.keeps && outcome.is_ok() {
        keep::keep(&fuzzer, &folders, &wish.targets)?;
    }
    outcome
}

/// All targets, each for `time`; each counts as a check.
///
/// # Errors
/// If it cannot be built, or a target failed.
pub(crate) fn run_all(root: &Path, time: Duration, counts: &mut Counts) -> Result<(), Failure> {
    let folders = Folders::new(root);
    let fuzzer = build::build(&folders).inspect_err(|_| counts.add_check(false))?;
    campaign::run(&fuzzer, &folders, &folders.targets()?, time, counts)
}

fn parse(args: &[String], known: &[String]) -> Result<Wish, Failure> {
    let mut wish = Wish {
        time: USUAL,
        keeps: false,
        targets: Vec::new(),
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keep" => wish.keeps = true,
            "--seconds" => {
                let seconds = words.next().and_then(|text| text.parse().ok());
                let seconds = seconds.ok_or("--seconds needs a number")?;
                wish.time = Duration::from_secs(seconds);
            }
            name if known.iter().any(|known| known == name) => wish.targets.push(name.to_owned()),
            name => return Err(format!("{name} is none of: {}", known.join(", "))),
        }
    }
    if wish.targets.is_empty() {
        wish.targets = known.to_vec();
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Wish, Failure> {
        let owned = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        parse(&owned(words), &owned(&["hpack", "wal"]))
    }

    #[test]
    fn words_are_read() {
        let wish = parse_words(&["--seconds", "5", "wal", "--keep"]);
        let wish = wish.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((wish.time.as_secs(), wish.keeps), (5, true));
        assert_eq!(wish.targets, ["wal"]);
        let all = parse_words(&[]).map(|wish| wish.targets);
        assert_eq!(all, Ok(vec!["hpack".to_owned(), "wal".to_owned()]));
        for wrong in [&["--seconds"][..], &["--seconds", "x"], &["wall"]] {
            assert!(parse_words(wrong).is_err(), "{wrong:?}");
        }
    }
}
