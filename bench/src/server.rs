//! One server under test: a fresh directory, free ports, started on one core, ready, and stopped.
//!
//! Both servers get the same flags, those of a single etcd node with durable writes. A command may add its own. A
//! command that names a placeholder (`{data-dir}`, `{client-url}`, `{peer-url}`) gets no flags but its own.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process, ProcessError};

/// How often a starting server is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Time for one answer of a starting server.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// More than any page of metrics has.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Time for an orderly end; an etcd with much to write takes a second or two.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Names in a server's folder.
const DATA: &str = "data";
const LOG: &str = "server.log";

/// How much of a server's log an error shows.
const LOG_BYTES_SHOWN: usize = 2_000;

/// How a server is started: the program and its arguments, to which [`flags`] are added unless they hold placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// A server that did not come up, stay up or go down.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the server ended before it was ready ({status}); its log ends with:\n{log}")]
    EndedEarly { status: String, log: String },
    #[error("the server was not ready within {} s; its log ends with:\n{log}", limit.as_secs())]
    NotReady { limit: Duration, log: String },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("server: {0}")]
    Io(#[from] io::Error),
}

/// A server that answers. Its directory goes with it.
#[derive(Debug)]
pub struct RunningServer {
    process: Process,
    started: Instant,
    endpoint: SocketAddr,
    /// How it was started.
    command: ServerCommand,
    core: Option<usize>,
    /// Removed last, after the process is gone.
    folder: TempDir,
}

/// How a server ends before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is told to, and does so in order.
    Stopped,
    /// By SIGKILL.
    Killed,
}

impl ServerCommand {
    /// Splits a command line at blanks: programs and flags that hold blanks cannot be given.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let program = words.next()?.into();
        Some(Self {
            program,
            args: words.collect(),
        })
    }

    /// What `--version` prints, in one line; a server that cannot say is still measured.
    pub fn version(&self) -> String {
        let output = Command::new(&self.program)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                let lines: Vec<&str> = text
                    .lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty())
                    .collect();
                lines.join("; ")
            }
            _ => "unknown".to_owned(),
        }
    }

    /// Whether acknowledged writes survive a power failure, by the command's own words.
    pub fn is_durable(&self) -> bool {
        !self.args.iter().any(|arg| {
            let arg = arg.trim_start_matches('-');
            arg == "unsafe-no-fsync" || arg == "unsafe-no-fsync=true"
        })
    }

    /// Starts the server on `core` with its directory under `parent`, and waits until it is healthy.
    ///
    /// # Errors
    /// [`ServerError`] if it is not healthy within `limit`.
    pub fn start(
        &self,
        parent: &Path,
        core: Option<usize>,
        limit: Duration,
    ) -> Result<RunningServer, ServerError> {
        let folder = TempDir::with_prefix_in("etcore-bench-", parent)?;
        let [client, peer] = free_ports()?;
        let command = Self {
            program: self.program.clone(),
            args: self.all_args(&folder.path().join(DATA), client, peer),
        };
        let started = Instant::now();
        let process = command.spawn(folder.path(), core)?;
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, client));
        let mut server = RunningServer {
            process,
            started,
            endpoint,
            command,
            core,
            folder,
        };
        server.wait_ready(limit)?;
        Ok(server)
    }
}

impl ServerCommand {
    /// Starts the program with its arguments as they are.
    fn spawn(&self, folder: &Path, core: Option<usize>) -> Result<Process, ServerError> {
        let mut command = process::command(&self.program, Stdio::null(), &folder.join(LOG))?;
        command.args(&self.args);
        Ok(Process::start(&mut command, core)?)
    }

    /// The arguments with directory and URLs in them.
    fn all_args(&self, data: &Path, client_port: u16, peer_port: u16) -> Vec<String> {
        let data_dir = data.to_string_lossy();
        let values = [
            ("{data-dir}", data_dir.into_owned()),
            ("{client-url}", format!("http://127.0.0.1:{client_port}")),
            ("{peer-url}", format!("http://127.0.0.1:{peer_port}")),
        ];
        let has_placeholder = |arg: &String| values.iter().any(|(name, _)| arg.contains(name));
        let mut args = self.args.clone();
        if !args.iter().any(has_placeholder) {
            args.extend(flags(data, client_port, peer_port));
            return args;
        }
        for arg in &mut args {
            for (name, value) in &values {
                *arg = arg.replace(name, value);
            }
        }
        args
    }
}

impl RunningServer {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// When the process was started, last.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends the server in order; one that does not end is killed and reported.
    ///
    /// # Errors
    /// If it had to be killed.
    pub fn stop(self) -> Result<(), ServerError> {
        self.process.stop(Signal::TERM, STOP_LIMIT)?;
        Ok(())
    }

    /// Size of the store's file, as both servers keep it.
    ///
    /// # Errors
    /// If there is none.
    pub fn store_len(&self) -> io::Result<u64> {
        let path = self.folder.path().join(DATA).join("member/snap/db");
        Ok(fs::metadata(path)?.len())
    }

    /// Ends the server and starts it in the same directory. Its first answer is not awaited.
    ///
    /// # Errors
    /// If it did not end by itself when it should, or cannot be started.
    pub fn restart(self, ending: Ending) -> Result<Self, ServerError> {
        let signal = match ending {
            Ending::Stopped => Signal::TERM,
            Ending::Killed => Signal::KILL,
        };
        self.process.stop(signal, STOP_LIMIT)?;
        let started = Instant::now();
        let process = self.command.spawn(self.folder.path(), self.core)?;
        Ok(Self {
            process,
            started,
            ..self
        })
    }

    fn wait_ready(&mut self, limit: Duration) -> Result<(), ServerError> {
        let log = &self.folder.path().join(LOG);
        let deadline = Instant::now() + limit;
        while !is_healthy(self.endpoint) {
            if let Some(status) = self.process.ended()? {
                return Err(ServerError::EndedEarly {
                    status: status.to_string(),
                    log: tail(log),
                });
            }
            if Instant::now() >= deadline {
                return Err(ServerError::NotReady {
                    limit,
                    log: tail(log),
                });
            }
            thread::sleep(ASK_EVERY);
        }
        Ok(())
    }
}

/// The flags of a single durable node that listens on loopback.
fn flags(data: &Path, client_port: u16, peer_port: u16) -> Vec<String> {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    [
        ("name", "bench".to_owned()),
        ("data-dir", data.to_string_lossy().into_owned()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("bench={peer}")),
    ]
    .into_iter()
    .map(|(name, value)| format!("--{name}={value}"))
    .collect()
}

/// Two ports that were free a moment ago. Held together, so that they differ.
fn free_ports() -> io::Result<[u16; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// Whether `GET /health` says so: it does only when the node has a leader and applies.
fn is_healthy(endpoint: SocketAddr) -> bool {
    http_get(endpoint, "/health").is_ok_and(|answer| {
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""health":"true""#)
    })
}

/// The whole answer to a GET, its head included. A body that comes in chunks is left in them.
pub(crate) fn http_get(endpoint: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&endpoint, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The end of a log file, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = bytes.len().saturating_sub(LOG_BYTES_SHOWN);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_split_at_blanks() {
        let command = ServerCommand::parse(" bin/etcd  --log-level warn ").unwrap();
        assert_eq!(command.program, Path::new("bin/etcd"));
        assert_eq!(command.args, ["--log-level", "warn"]);
        assert_eq!(ServerCommand::parse("  "), None);
    }

    #[test]
    fn placeholders_take_the_place_of_the_flags() {
        let args = |line: &str| {
            let command = ServerCommand::parse(line).unwrap();
            command.all_args(Path::new("/d"), 1, 2).join(" ")
        };
        assert_eq!(
            args("x --at={client-url} -d {data-dir} {peer-url}"),
            "--at=http://127.0.0.1:1 -d /d http://127.0.0.1:2"
        );
        let usual = args("x --own");
        assert!(
            usual.starts_with("--own --name=bench --data-dir=/d "),
            "{usual}"
        );
        assert!(
            usual.contains("--listen-client-urls=http://127.0.0.1:1 "),
            "{usual}"
        );
    }

    #[test]
    fn durability_is_read_from_the_command() {
        let durable = |line: &str| ServerCommand::parse(line).unwrap().is_durable();
        assert!(durable("etcd"));
        assert!(durable("etcd --unsafe-no-fsync=false"));
        assert!(!durable("etcd --unsafe-no-fsync"));
        assert!(!durable("etcd -unsafe-no-fsync=true"));
    }

    #[test]
    fn a_server_that_ends_at_once_shows_its_log() {
        let folder = TempDir::new().unwrap();
        let script = folder.path().join("server.sh");
        fs::write(&script, "echo cannot bind >&2; exit 7\n").unwrap();
        let command = ServerCommand::parse(&format!("sh {}", script.display())).unwrap();
        let error = command
            .start(folder.path(), None, Duration::from_secs(60))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cannot bind") && text.contains('7'), "{text}");
    }

    #[test]
    fn a_server_that_never_answers_is_given_up() {
        let folder = TempDir::new().unwrap();
        let script = folder.path().join("server.sh");
        fs::write(&script, "exec sleep 1000\n").unwrap();
        let command = ServerCommand::parse(&format!("sh {}", script.display())).unwrap();
        let error = command
            .start(folder.path(), None, Duration::from_millis(100))
            .unwrap_err();
        assert!(matches!(error, ServerError::NotReady { .. }), "{error}");
    }
}
