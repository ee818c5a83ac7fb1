//! The program under test as a process.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::ports::free_addr;

/// For a start, which may replay a log on a busy machine.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// For an orderly stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// A refusal to start needs no waiting for anything but a lock.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(20);
/// The line that says a member takes requests.
pub const READY_MESSAGE: &str = "ready to serve client requests";

/// How to start a member of one.
#[derive(Debug, Clone)]
pub struct Options {
    pub data_dir: PathBuf,
    pub client_addr: SocketAddr,
    pub peer_addr: SocketAddr,
    /// Behind the others, so they win.
    pub extra_args: Vec<String>,
    pub extra_env: Vec<(String, String)>,
}

impl Options {
    /// A member in `data_dir`, on free ports.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            client_addr: free_addr(),
            peer_addr: free_addr(),
            extra_args: Vec::new(),
            extra_env: Vec::new(),
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra_args.push(arg.into());
        self
    }

    /// Two threads serve connections, in turns.
    #[must_use]
    pub fn two_shards(self) -> Self {
        self.arg("--shards=2").arg("--shard-placement=spread")
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra_env.push((name.into(), value.into()));
        self
    }

    fn args(&self) -> Vec<OsString> {
        let (client, peer) = (self.client_addr, self.peer_addr);
        let mut data_dir = OsString::from("--data-dir=");
        data_dir.push(&self.data_dir);
        let mut args = vec![data_dir];
        args.extend(
            [
                "--name=member".to_owned(),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster=member=http://{peer}"),
            ]
            .map(OsString::from),
        );
        args.extend(self.extra_args.iter().map(OsString::from));
        args
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Log>,
    options: Options,
}

impl Process {
    /// Starts the program and does not wait for anything.
    ///
    /// # Panics
    /// If it cannot be executed.
    pub fn spawn(options: Options) -> Self {
        let mut child = Command::new(program())
            .args(options.args())
            .envs(options.extra_env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program().display()));
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || log.fill(stderr));
        }
        Self {
            child,
            log,
            options,
        }
    }

    /// Starts a member and waits until it takes requests.
    ///
    /// # Panics
    /// If it ends or stays silent instead; with its log.
    pub fn start(options: Options) -> Self {
        let process = Self::spawn(options);
        if process
            .log
            .await_message(READY_MESSAGE, START_TIMEOUT)
            .is_none()
        {
            panic!(
                "not ready within {START_TIMEOUT:?}; its log:\n{}",
                process.log.text()
            );
        }
        process
    }

    /// Waits until the member takes requests, or has ended; says which.
    ///
    /// # Panics
    /// If neither happens in time.
    pub fn is_ready(&mut self) -> bool {
        let line = self.log.await_message(READY_MESSAGE, START_TIMEOUT);
        let has_ended = line.is_none() && self.log.await_end(Duration::ZERO);
        assert!(line.is_some() || has_ended, "neither ready nor ended");
        line.is_some()
    }

    pub fn client_addr(&self) -> SocketAddr {
        self.options.client_addr
    }

    /// Two clients; of [`Options::two_shards`], served by different ones.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn connect_both(&self) -> [Client; 2] {
        [(); 2].map(|()| Client::connect(self.client_addr()).expect("a listener"))
    }

    /// What to start it again with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Memory of the process that is in RAM.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The part of it that belongs to no file: what the program has allocated.
    pub fn allocated_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// CPU time that the threads of this name have used; `None` if there is none.
    pub fn thread_time(&self, name: &str) -> Option<Duration> {
        self.thread_schedule(name, 0)
    }

    /// Time in which the threads of this name could have run, and the machine ran others.
    pub fn thread_wait(&self, name: &str) -> Option<Duration> {
        self.thread_schedule(name, 1)
    }

    /// The sum of one field of `schedstat`, in nanoseconds there.
    fn thread_schedule(&self, name: &str, field: usize) -> Option<Duration> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let of_task = |task: PathBuf| {
            let own_name = std::fs::read_to_string(task.join("comm")).ok()?;
            let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
            let nanos = times.split_whitespace().nth(field)?.parse().ok()?;
            (own_name.trim_end() == name).then(|| Duration::from_nanos(nanos))
        };
        let times = tasks.flatten().filter_map(|task| of_task(task.path()));
        times.reduce(|sum, time| sum + time)
    }

    /// SIGKILL: no warning, no last words. Returns what it ran with.
    pub fn kill(mut self) -> Options {
        self.end();
        self.options.clone()
    }

    /// Sends `signal` and does not wait.
    ///
    /// # Panics
    /// If the process has ended already.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {pid:?}: {error}"));
    }

    /// Waits for the process to end by itself; then its log is whole.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        // Its last breath closes its stderr, so the end of the log is the event to wait for.
        let is_closed = self.log.await_end(timeout);
        assert!(
            is_closed,
            "still running after {timeout:?}; its log:\n{}",
            self.log.text()
        );
        self.child
            .wait()
            .unwrap_or_else(|error| panic!("cannot wait for the process: {error}"))
    }

    /// SIGTERM, then waits for an orderly end by that very signal. Returns what it ran with.
    ///
    /// # Panics
    /// If it ends in another way.
    pub fn stop(mut self) -> Options {
        self.signal(Signal::TERM);
        let status = self.wait(STOP_TIMEOUT);
        let text = self.log.text();
        assert_eq!(
            status.signal(),
            Some(Signal::TERM.as_raw()),
            "{status}; its log:\n{text}"
        );
        self.options.clone()
    }

    fn end(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("log of the program under test:\n{}", self.log.tail(100));
        }
    }
}

/// What the program wrote to stderr.
#[derive(Debug, Default)]
pub struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<String>,
    is_ended: bool,
}

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    pub fn text(&self) -> String {
        self.lock().lines.join("\n")
    }

    fn tail(&self, count: usize) -> String {
        let state = self.lock();
        state.lines[state.lines.len().saturating_sub(count)..].join("\n")
    }

    /// The first line whose `msg` is `message`, waiting for it as long as the program runs.
    pub fn await_message(&self, message: &str, timeout: Duration) -> Option<serde_json::Value> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut state = self.lock();
        loop {
            let found = state.lines[seen..].iter().filter_map(|line| parse(line));
            if let Some(line) = found.into_iter().find(|line| line["msg"] == message) {
                return Some(line);
            }
            seen = state.lines.len();
            if state.is_ended {
                return None;
            }
            state = self.await_change(state, deadline)?;
        }
    }

    fn await_end(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while !state.is_ended {
            match self.await_change(state, deadline) {
                Some(changed) => state = changed,
                None => return false,
            }
        }
        true
    }

    fn await_change<'a>(
        &self,
        state: MutexGuard<'a, LogState>,
        deadline: Instant,
    ) -> Option<MutexGuard<'a, LogState>> {
        let left = deadline.checked_duration_since(Instant::now())?;
        let waited = self.changed.wait_timeout(state, left);
        Some(waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0)
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fill(&self, source: impl Read) {
        for line in BufReader::new(source).split(b'\n') {
            let Ok(line) = line else { break };
            self.lock()
                .lines
                .push(String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
        self.lock().is_ended = true;
        self.changed.notify_all();
    }
}

/// A log line as JSON.
pub fn parse(line: &str) -> Option<serde_json::Value> {
    serde_json::from_str(line).ok()
}

/// Whether the program under test is ours, rather than a real etcd to test the tests with.
pub fn is_etcore() -> bool {
    program().file_name().is_some_and(|name| name == "etcore")
}

/// Starts what must not start, and returns what it says about that: the log is JSON, complains once, and the exit
/// code is 1.
///
/// # Panics
/// If it goes on, or ends in another way.
pub fn refusal(options: Options) -> String {
    let mut process = Process::spawn(options);
    let status = process.wait(REFUSAL_TIMEOUT);
    let lines = process.log().lines();
    let text = process.log().text();
    assert_eq!(status.code(), Some(1), "{status}; its log:\n{text}");
    let parsed: Option<Vec<_>> = lines.iter().map(|line| parse(line)).collect();
    let parsed = parsed.unwrap_or_else(|| panic!("a line is not JSON:\n{text}"));
    let is_severe = |line: &&serde_json::Value| {
        ["error", "panic", "fatal"]
            .iter()
            .any(|level| line["level"] == *level)
    };
    let severe: Vec<_> = parsed.iter().filter(is_severe).collect();
    if is_etcore() {
        assert_eq!(severe.len(), 1, "one line says why:\n{text}");
    }
    let texts: Vec<_> = severe.iter().map(|line| line.to_string()).collect();
    texts.join("\n")
}

/// The program under test: `ETCORE_BIN`, else what cargo builds.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("ETCORE_BIN").map_or_else(build, PathBuf::from))
}

/// Has cargo build the server.
fn build() -> PathBuf {
    // The feature does nothing unless a test asks for faults by a variable of its server.
    build_program("server", "etcore", &["--features=faults"])
}

/// Has cargo build a program of this workspace, and asks it where the result is.
pub fn build_program(package: &str, name: &str, flags: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--package", package, "--bin", name]);
    command.args(flags).arg("--message-format=json");
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    // The profile of the tests: its dependencies are built already, and it is optimised enough to be timed.
    command.args(match cfg!(debug_assertions) {
        true => ["--profile", "test"],
        false => ["--profile", "release"],
    });
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(output.status.success(), "cannot build {name}");
    let executable = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(parse)
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.unwrap_or_else(|| panic!("cargo named no executable"))
}
