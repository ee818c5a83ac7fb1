//! Counting tests over the output of several runners, and the closing line of CI.

use std::fmt;

/// Tests passed, failed and skipped so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Adds the lines of `cargo test` (`test result: …`) and `go test -v` (`--- PASS: …`).
    fn add_lines(&mut self, lines: &[String]) {
        for line in lines {
            if let Some(result) = line.trim().strip_prefix("test result: ") {
                self.passed += number_before(result, " passed");
                self.failed += number_before(result, " failed");
                self.skipped += number_before(result, " ignored");
            }
            match line.trim_start() {
                go if go.starts_with("--- PASS:") => self.passed += 1,
                go if go.starts_with("--- FAIL:") => self.failed += 1,
                go if go.starts_with("--- SKIP:") => self.skipped += 1,
                _ => {}
            }
        }
    }

    /// Adds a run of `cargo test` or `go test -v`. One that failed and names no test, as where nothing could be built or a
    /// program of tests crashed, counts as one failure.
    pub(crate) fn add_tests(&mut self, lines: &[String], success: bool) {
        let failed = self.failed;
        self.add_lines(lines);
        if !success && self.failed == failed {
            self.failed += 1;
        }
    }

    /// Adds one check that is not a test runner: it counts as a test of its own.
    pub(crate) fn add_check(&mut self, success: bool) {
        if success {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|d| d.parse().ok()).unwrap_or(0)
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_both_runners() {
        let lines = [
            "test result: ok. 15 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out",
            "--- PASS: TestA (0.00s)",
            "    --- FAIL: TestA/sub (0.00s)",
            "--- SKIP: TestB (0.00s)",
            "unrelated 7 passed",
        ]
        .map(str::to_owned);
        let mut counts = Counts::default();
        counts.add_lines(&lines);
        assert_eq!(
            counts,
            Counts {
                passed: 16,
                failed: 2,
                skipped: 3
            }
        );
        assert_eq!(counts.to_string(), "16 passed, 2 failed, 3 skipped");
    }

    #[test]
    fn a_run_that_fails_has_a_failure() {
        let passed = ["test result: ok. 15 passed; 0 failed; 0 ignored".to_owned()];
        let failed = ["test result: FAILED. 1 passed; 2 failed; 0 ignored".to_owned()];
        let mut counts = Counts::default();
        counts.add_tests(&passed, true);
        counts.add_tests(&passed, false);
        counts.add_tests(&failed, false);
        counts.add_tests(&[], false);
        assert_eq!(counts.to_string(), "31 passed, 4 failed, 0 skipped");
    }
}
