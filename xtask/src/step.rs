//! Running one command of a longer run: shown while it works, its output kept for counting.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What went wrong, said for a person.
pub(crate) type Failure = String;

/// A command with a name that a reader of the log understands.
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: &'a str,
    pub(crate) args: &'a [&'a str],
    /// Variables to set (`Some`) or to remove (`None`).
    pub(crate) env: &'a [(&'a str, Option<&'a str>)],
    pub(crate) folder: &'a Path,
}

/// How a step ended: its lines on stdout and whether it succeeded.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) success: bool,
}

impl Step<'_> {
    /// Runs the command, passing its output through.
    ///
    /// # Errors
    /// Only if it could not be started; a command that fails is an [`Outcome`].
    pub(crate) fn run(&self) -> Result<Outcome, Failure> {
        println!("== {}: {} {}", self.name, self.program, self.args.join(" "));
        let started = Instant::now();
        let mut command = Command::new(self.program);
        command
            .args(self.args)
            .current_dir(self.folder)
            .stdout(Stdio::piped());
        for (name, value) in self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command
            .spawn()
            .map_err(|e| format!("{}: cannot start {}: {e}", self.name, self.program))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|e| format!("{}: reading its output: {e}", self.name))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            lines.push(line);
        }
        let status = child.wait().map_err(|e| format!("{}: {e}", self.name))?;
        println!("== {}: {status} after {:.0?}", self.name, started.elapsed());
        let _ = std::io::stdout().flush();
        Ok(Outcome {
            lines,
            success: status.success(),
        })
    }
}
