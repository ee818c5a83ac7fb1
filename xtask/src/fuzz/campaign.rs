//! Running targets, a few at a time, and telling how it went.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::Folders;
use crate::report::Counts;
use crate::step::Failure;

/// More would only take time from each other and memory from the machine.
const WORKERS_MAX: usize = 2;

/// One input takes well under a millisecond; a busy machine may be slow.
const INPUT_SECONDS_MAX: u32 = 25;

/// Of the whole process: coverage, corpus and what the largest target may allocate.
const MEMORY_MIB_MAX: u32 = 1024;

/// Of all targets; each turns longer ones than its own bound away.
pub(super) const INPUT_LEN_MAX: &str = "-max_len=16384";

/// How often a long run says that it is alive.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Runs each target for `time`.
///
/// # Errors
/// If any failed, after all have run.
pub(super) fn run(
    fuzzer: &Path,
    folders: &Folders,
    targets: &[String],
    time: Duration,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.min(WORKERS_MAX);
    println!(
        "== fuzz: {} targets, {time:.0?} each, {workers} at a time",
        targets.len()
    );
    let queue = Mutex::new(targets.iter());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(target) = next(&queue) {
                    let result = fuzz(fuzzer, folders, target, time);
                    match &result {
                        Ok(line) => println!("fuzz: {target}: {line}"),
                        Err(error) => println!("fuzz: {target}: FAILED: {error}"),
                    }
                    push(&results, (target.clone(), result.is_ok()));
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    let mut failed = Vec::new();
    for (target, success) in results {
        counts.add_check(success);
        if !success {
            failed.push(target);
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("fuzz targets failed: {}", failed.join(", "))),
    }
}

fn next<'a>(queue: &Mutex<impl Iterator<Item = &'a String>>) -> Option<&'a String> {
    let mut queue = queue
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    queue.next()
}

fn push<T>(results: &Mutex<Vec<T>>, result: T) {
    let mut results = results
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    results.push(result);
}

/// Runs one target; a line that sums it up.
fn fuzz(fuzzer: &Path, folders: &Folders, target: &str, time: Duration) -> Result<String, Failure> {
    let found = folders.output(&format!("found/{target}"))?;
    let failures = folders.output(&format!("failures/{target}"))?;
    let log_path = folders.output("logs")?.join(format!("{target}.log"));
    let log = File::create(&log_path).map_err(|e| format!("{}: {e}", log_path.display()))?;
    let mut command = Command::new(fuzzer);
    command
        .env("FUZZ_TARGET", target)
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(INPUT_LEN_MAX)
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .stdout(Stdio::null())
        .stderr(log);
    if folders.dictionary(target).exists() {
        command.arg(format!("-dict={}", folders.dictionary(target).display()));
    }
    // The first folder takes what is new; the others are only read.
    command.arg(found).arg(folders.corpus(target));
    if folders.regressions(target).exists() {
        command.arg(folders.regressions(target));
    }
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", fuzzer.display()))?;
    let success = wait(&mut child, target, &log_path)?;
    let text = fs::read(&log_path).map_err(|e| format!("{}: {e}", log_path.display()))?;
    let text = String::from_utf8_lossy(&text);
    if success {
        return Ok(summary(&text));
    }
    Err(format!(
        "{}\nthe whole log is {}; keep the input in fuzz/regressions/{target}, and mend what it shows",
        complaint(&text),
        log_path.display()
    ))
}

/// Waits for the end, with a line now and then.
fn wait(child: &mut Child, target: &str, log: &Path) -> Result<bool, Failure> {
    let mut told = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.success());
        }
        thread::sleep(POLL_INTERVAL);
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let text = fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            println!(
                "fuzz: {target}: {}",
                text.lines().last().unwrap_or_default()
            );
        }
    }
}

/// What libFuzzer says at its end, in one line.
fn summary(log: &str) -> String {
    let stat = |name: &str| {
        let line = log.lines().rfind(|line| line.contains(name));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or("?")
    };
    let coverage = log.lines().rfind(|line| line.contains(" cov: "));
    let coverage = coverage
        .and_then(|line| line.split(" cov: ").nth(1))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("?");
    format!(
        "{} inputs, {coverage} edges, {} new inputs, {} MiB",
        stat("number_of_executed_units"),
        stat("new_units_added"),
        stat("peak_rss_mb")
    )
}

/// The lines that say what was wrong.
fn complaint(log: &str) -> String {
    const MARKS: [&str; 6] = [
        "panicked at",
        "memory allocation of",
        "ERROR: libFuzzer",
        "Test unit written",
        "Base64:",
        "assertion",
    ];
    let lines: Vec<&str> = log.lines().collect();
    let mut told = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if MARKS.iter().any(|mark| line.contains(mark)) {
            told.push(*line);
            // The text of a panic stands below its place.
            if line.contains("panicked at") {
                told.extend(lines.get(number + 1));
            }
        }
    }
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
#2	INITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 28Mb
#900	DONE   cov: 1380 ft: 4235 corp: 1028/71Kb lim: 544 exec/s: 37270 rss: 32Mb
stat::number_of_executed_units: 900
stat::new_units_added:          26
stat::peak_rss_mb:              32
";

    #[test]
    fn a_log_is_summed_up() {
        assert_eq!(
            summary(LOG),
            "900 inputs, 1380 edges, 26 new inputs, 32 MiB"
        );
        assert_eq!(summary(""), "? inputs, ? edges, ? new inputs, ? MiB");
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let log = "thread panicked at fuzz/src/a.rs:1:2:\nit broke\n  0: frame\nBase64: AA==\n";
        let told = complaint(log);
        assert_eq!(
            told,
            "thread panicked at fuzz/src/a.rs:1:2:\nit broke\nBase64: AA=="
        );
    }
}
