//! A child process: pinned to one core from its first instruction, watched, and ended by its id.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::usage;

/// How often the end of a child is looked for. Ends are awaited only outside of measured spans.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// More than any tool here prints; what is beyond is cut rather than gathered.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

/// A running child. Dropped while it runs, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: String,
}

/// How a child that was run to its end went.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    /// CPU time over its whole life, in steps of 10 ms.
    pub cpu: Duration,
}

/// A child did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("{program} did not end within {} s", limit.as_secs())]
    TooSlow { program: String, limit: Duration },
    #[error("{program}: {source}")]
    Io { program: String, source: io::Error },
}

impl Process {
    /// Starts `command` on `core` only (on any core if `None`).
    ///
    /// The mask is set on the calling thread around the start, since a child inherits it: set afterwards,
    /// threads that the child made meanwhile would keep the wide mask.
    ///
    /// # Errors
    /// If the program cannot be started or the core does not exist.
    pub fn start(command: &mut Command, core: Option<usize>) -> Result<Self, ProcessError> {
        let program = Path::new(command.get_program());
        let program = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        match with_core(core, || command.spawn()) {
            Ok(child) => Ok(Self { child, program }),
            Err(source) => Err(ProcessError::Start { program, source }),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status if the process has ended.
    ///
    /// # Errors
    /// If the system refuses to tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|source| self.io(source))
    }

    /// Asks the process to end, by `signal`, and waits for it; kills it after `limit`.
    ///
    /// # Errors
    /// [`ProcessError::TooSlow`] if it had to be killed.
    pub fn stop(mut self, signal: Signal, limit: Duration) -> Result<ExitStatus, ProcessError> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        // Not reaped yet, so the id is still this child's.
        kill_process(pid_of(&self.child), signal).map_err(|e| self.io(e.into()))?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(POLL_EVERY);
        }
        Err(self.too_slow(limit))
    }

    /// Gathers the output (the command has a pipe for it) and waits for the end, at most for `limit`.
    ///
    /// # Errors
    /// [`ProcessError::TooSlow`] past the limit; the process is killed then.
    pub fn run_to_end(mut self, limit: Duration) -> Result<Outcome, ProcessError> {
        let deadline = Instant::now() + limit;
        let stdout = match self.child.stdout.take() {
            Some(pipe) => read_until(pipe, limit).ok_or_else(|| self.too_slow(limit))?,
            None => String::new(),
        };
        let pid = pid_of(&self.child);
        // Left as a zombie once, so that its CPU time can be read before it is reaped.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(pid), options)
            .map_err(|e| self.io(e.into()))?
            .is_none()
        {
            if Instant::now() >= deadline {
                return Err(self.too_slow(limit));
            }
            thread::sleep(POLL_EVERY);
        }
        let cpu = usage::process_ticks(self.pid()).map_err(|source| self.io(source))?;
        let status = self.child.wait().map_err(|source| self.io(source))?;
        Ok(Outcome {
            status,
            stdout,
            cpu,
        })
    }

    fn io(&self, source: io::Error) -> ProcessError {
        ProcessError::Io {
            program: self.program.clone(),
            source,
        }
    }

    fn too_slow(&self, limit: Duration) -> ProcessError {
        ProcessError::TooSlow {
            program: self.program.clone(),
            limit,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended and was reaped, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command without input, its standard output and error going to the given files' ends.
///
/// # Errors
/// If the log file cannot be made.
pub fn command(
    program: impl AsRef<OsStr>,
    stdout: Stdio,
    log: &Path,
) -> Result<Command, io::Error> {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(File::create(log)?);
    Ok(command)
}

/// Runs `work` with the calling thread on `core` only.
///
/// # Errors
/// Those of `work`, and if the core does not exist.
pub(crate) fn with_core<T, E: From<io::Error>>(
    core: Option<usize>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let Some(core) = core else { return work() };
    if core >= CpuSet::MAX_CPU {
        let error = io::Error::new(io::ErrorKind::InvalidInput, format!("no core {core}"));
        return Err(error.into());
    }
    let before = sched_getaffinity(None).map_err(io::Error::from)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).map_err(io::Error::from)?;
    let result = work();
    sched_setaffinity(None, &before).map_err(io::Error::from)?;
    result
}

/// Reads a pipe to its end; `None` if that takes longer than `limit`.
fn read_until(pipe: impl Read + Send + 'static, limit: Duration) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the text, and the reader of the text notices what is missing.
        let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver.recv_timeout(limit).ok()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        command
    }

    fn first_core() -> usize {
        let allowed = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU)
            .find(|core| allowed.is_set(*core))
            .unwrap()
    }

    #[test]
    fn output_status_and_cpu_time_are_kept() {
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; exit 3";
        let process = Process::start(&mut sh(script), None).unwrap();
        let outcome = process.run_to_end(Duration::from_secs(60)).unwrap();
        assert_eq!(outcome.stdout, "done\n");
        assert_eq!(outcome.status.code(), Some(3));
        assert!(
            outcome.cpu > Duration::ZERO,
            "a hundred thousand turns take over 10 ms"
        );
    }

    #[test]
    fn child_is_on_its_core_and_the_parent_is_not() {
        let before = sched_getaffinity(None).unwrap();
        let core = first_core();
        let mut command = sh("sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status");
        let process = Process::start(&mut command, Some(core)).unwrap();
        let outcome = process.run_to_end(Duration::from_secs(60)).unwrap();
        assert_eq!(outcome.stdout.trim(), core.to_string());
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let process = Process::start(&mut sh("exec sleep 1000"), None).unwrap();
        let pid = process.pid();
        let error = process.run_to_end(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ProcessError::TooSlow { .. }), "{error}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn stop_by_signal_and_impossible_starts() {
        use std::os::unix::process::ExitStatusExt as _;
        let process = Process::start(&mut sh("exec sleep 1000"), None).unwrap();
        let status = process.stop(Signal::TERM, Duration::from_secs(60)).unwrap();
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
        let missing = Process::start(&mut Command::new("/nowhere/program"), None);
        assert!(matches!(missing, Err(ProcessError::Start { .. })));
        let no_core = Process::start(&mut sh("true"), Some(CpuSet::MAX_CPU));
        assert!(matches!(no_core, Err(ProcessError::Start { .. })));
    }
}
