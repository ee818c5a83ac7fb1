//! The configuration: etcd's flags and environment variables, read once at the start.
//!
//! ```text
//! words, variables -> syntax (Go's flag syntax) -> build (etcd's checks, in its order) -> Config
//!                      |                            |
//!                      +-> Exit: usage, code 2      +-> Exit: "failed to verify flags", code 1
//! ```
//!
//! - A [`Config`] is complete and consistent: URLs have a scheme, host and port, listeners an address,
//!   durations and limits a type that cannot be wrong.
//! - No flag of etcd's is silently ignored: it is honoured, or given with its default value, or refused.
//! - Nothing is logged here, since the logger does not exist yet: what there is to say comes back as
//!   [`Record`]s, in etcd's order.
//! - Whether the flags describe a cluster that can be started is checked only when there is no log yet
//!   ([`Config::bootstrap`]); a restarted member ignores them.
//!
//! Tested by tables taken from a running etcd 3.7.1.

mod bootstrap;
mod build;
mod checks;
mod flags;
pub mod go;
mod refusal;
mod syntax;
mod table;
#[cfg(test)]
mod testing;
mod tls;
mod url;
mod usage;

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use bootstrap::{Bootstrap, BootstrapError, BootstrapMember, same_urls};
use engine::mvcc::Retention;
pub use tls::{AutoTls, TlsOptions, TlsVersion};
pub use url::{ListenAddress, ListenUrl, Scheme, Url, UrlError};

use crate::logging::{self, Level, LogOptions, Record, record};
use syntax::{FlagSet, SyntaxError};

/// What gRPC's framing and etcd's envelope may add to a request of `--max-request-bytes`.
const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// The time for queueing, computing and the disk within the deadline of a proposal.
const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);

/// The largest `--shards`. Each shard has a slot among the readers of the state, of which there are 256.
pub const SHARD_COUNT_MAX: usize = 128;

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    New,
    Existing,
}

/// When the server pings a silent client, and how long it waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub interval: Duration,
    pub timeout: Duration,
    /// The least time that must lie between two pings of a client.
    pub client_interval_min: Duration,
}

/// Options of listening sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    pub reuse_port: bool,
    pub reuse_address: bool,
}

/// A list of names between commas in which `*` stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    Any,
    /// In order, without doubles.
    Only(Vec<String>),
}

impl Allowed {
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.iter().any(|allowed| allowed == name),
        }
    }
}

/// `--shard-placement`: which shard serves a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardPlacement {
    /// The log shard while its core has room, then the least loaded one.
    Auto,
    /// One after the other.
    Spread,
    /// Always the log shard.
    Log,
}

/// Everything the flags decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// `--wal-dir`; see [`Config::wal_dir`].
    pub dedicated_wal_dir: Option<PathBuf>,
    /// Listeners for clients; at least one.
    pub listen_client_urls: Vec<ListenUrl>,
    /// Always there if one of these, or of those for metrics, is secure.
    pub client_tls: Option<TlsOptions>,
    /// Listeners for metrics and health only; TLS is that of clients.
    pub listen_metrics_urls: Vec<ListenUrl>,
    /// Plaintext TCP listeners for peers; at least one.
    pub listen_peer_urls: Vec<ListenUrl>,
    pub advertise_client_urls: Vec<Url>,
    pub advertise_peer_urls: Vec<Url>,
    /// As given; [`Config::bootstrap`] reads it.
    pub initial_cluster: String,
    pub initial_cluster_state: ClusterState,
    pub initial_cluster_token: String,
    /// Bytes the backend may hold; `None` is no limit.
    pub quota_backend_bytes: Option<u64>,
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    pub max_concurrent_streams: u32,
    pub keepalive: Keepalive,
    pub heartbeat_interval: Duration,
    /// At least five heartbeats, at most 50 s.
    pub election_timeout: Duration,
    /// The remaining times of leases go into the log now and then; and are stored, in old clusters too.
    pub lease_checkpoints: bool,
    pub lease_checkpoint_persist: bool,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Applied entries kept in memory for followers that lag.
    pub snapshot_catch_up_entry_count: usize,
    /// `.snap` files and segments of the log that stay; 0: all.
    pub snapshots_max: usize,
    pub wals_max: usize,
    /// What automatic compaction keeps; `None`: it is off.
    pub auto_compaction: Option<Retention>,
    pub unsafe_no_fsync: bool,
    pub socket: SocketOptions,
    pub host_whitelist: Allowed,
    pub cors: Allowed,
    /// Whether `/v3/` is served over plain HTTP.
    pub grpc_gateway: bool,
    pub log: LogOptions,
    /// Whether the durations of calls are measured by method.
    pub call_durations: bool,
    /// Between two progress notices of a watcher.
    pub watch_progress_notify_interval: Duration,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    /// Executors that serve connections; `None` is one for each CPU.
    pub shard_count: Option<NonZeroUsize>,
    pub shard_placement: ShardPlacement,
    /// Whether this member's NOSPACE alarm ends by itself once there is space.
    pub auto_disarm_space_alarm: bool,
}

impl Config {
    /// `<data-dir>/member`
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// `<data-dir>/member/snap`
    pub fn snap_dir(&self) -> PathBuf {
        self.member_dir().join("snap")
    }

    /// `--wal-dir`, else `<data-dir>/member/wal`.
    pub fn wal_dir(&self) -> PathBuf {
        self.dedicated_wal_dir
            .as_deref()
            .map_or_else(|| self.member_dir().join("wal"), Path::to_owned)
    }

    /// Ticks of an election; a tick is a heartbeat.
    pub fn election_ticks(&self) -> usize {
        (self.election_timeout.as_millis() / self.heartbeat_interval.as_millis()) as usize
    }

    /// The deadline of a proposal and of a linearizable read.
    pub fn request_timeout(&self) -> Duration {
        let ticks = u32::try_from(self.election_ticks()).unwrap_or(u32::MAX);
        REQUEST_TIMEOUT_BASE + 2 * ticks * self.heartbeat_interval
    }

    /// The largest gRPC message taken from a client.
    pub fn received_message_bytes_max(&self) -> usize {
        self.max_request_bytes.saturating_add(GRPC_OVERHEAD_BYTES)
    }
}

/// How the program goes on after its command line was read.
#[derive(Debug, PartialEq)]
pub enum Startup {
    /// Run with this configuration, once the records are logged.
    Run(Box<Config>, Notices),
    Exit(Exit),
}

/// What was found out while reading the flags, to be logged in this order.
pub type Notices = Vec<Record>;

/// The end of a program that does not start.
#[derive(Debug, Default, PartialEq)]
pub struct Exit {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub notices: Notices,
}

impl Exit {
    /// Prints and logs what there is to say and ends the process.
    pub fn perform(self) -> ! {
        // If nobody reads these streams, there is no one to tell.
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
        let _ = std::io::stdout().write_all(self.stdout.as_bytes());
        for notice in &self.notices {
            logging::emit(notice);
        }
        logging::flush();
        std::process::exit(self.code);
    }
}

/// The world the configuration is read in.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Names and values in the environment's order.
    pub variables: Vec<(String, String)>,
    /// Finds the address of this machine on its default route.
    pub default_host: fn() -> std::io::Result<IpAddr>,
}

impl Environment {
    /// Of this process. Names and values that are not UTF-8 concern no flag and are left out.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            variables,
            default_host,
        }
    }
}

/// Reads the command line and the environment of this process.
pub fn from_process() -> Startup {
    let words: Result<Vec<_>, _> = std::env::args_os()
        .map(std::ffi::OsString::into_string)
        .collect();
    match words {
        Ok(words) => read(&words, &Environment::of_process()),
        Err(word) => Startup::Exit(Exit {
            code: 2,
            stderr: usage::after_error(&format!("argument is not UTF-8: {}", word.display())),
            ..Exit::default()
        }),
    }
}

/// Reads a command line; its first word is the program's name.
pub fn read(words: &[String], environment: &Environment) -> Startup {
    let mut set = match FlagSet::parse(words.get(1..).unwrap_or_default()) {
        Ok(set) => set,
        Err(SyntaxError::Help) => return Startup::Exit(usage::help()),
        Err(error) => return Startup::Exit(usage::syntax_exit(&error.to_string())),
    };
    if let Some(word) = set.arguments.first() {
        let reason = format!("{} is not a valid flag", go::quote(word));
        return Startup::Exit(refusal::refused(&reason, words, Vec::new()));
    }
    if set.boolean("version") {
        return Startup::Exit(usage::versions());
    }
    if let Err(error) = set.apply_environment(&environment.variables) {
        return Startup::Exit(environment_exit(&error, words, set.records));
    }
    build::build(set, words, environment.default_host)
}

fn environment_exit(
    error: &syntax::EnvironmentError,
    words: &[String],
    mut notices: Notices,
) -> Exit {
    match error {
        syntax::EnvironmentError::Value { .. } => {
            refusal::refused(&error.to_string(), words, notices)
        }
        syntax::EnvironmentError::Shadowed { variable } => {
            notices.push(record!(
                Level::Fatal,
                error.to_string(),
                "environment-variable" => variable,
            ));
            Exit {
                code: 1,
                notices,
                ..Exit::default()
            }
        }
    }
}

/// The local address that packets to the world would carry.
///
/// Connecting a datagram socket asks the routing table and sends nothing; the address is one that
/// RFC 5737 keeps for documentation.
fn default_host() -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &[&str], variables: &[(&str, &str)]) -> Startup {
        let words: Vec<_> = std::iter::once("etcore")
            .chain(line.iter().copied())
            .collect();
        let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        let variables = variables
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let default_host = || Ok(IpAddr::from([10, 1, 2, 3]));
        read(
            &words,
            &Environment {
                variables,
                default_host,
            },
        )
    }

    fn exit_of(line: &[&str], variables: &[(&str, &str)]) -> Exit {
        match read_line(line, variables) {
            Startup::Exit(exit) => exit,
            Startup::Run(..) => panic!("{line:?} is accepted"),
        }
    }

    #[test]
    fn version_has_etcds_four_lines_first() {
        let exit = exit_of(&["--version", "--name=x"], &[("ETCD_NAME", "y")]);
        assert_eq!(exit.code, 0);
        let lines: Vec<_> = exit.stdout.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "etcd Version: 3.7.1");
        assert!(lines[1].starts_with("Git SHA: "));
        assert!(lines[2].starts_with("Go Version: "));
        assert_eq!(lines[3], "Go OS/Arch: linux/amd64");
        assert!(lines[4].starts_with("etcore Version: "));
        assert!(exit.notices.is_empty());
    }

    #[test]
    fn help_goes_to_both_streams_and_is_no_failure() {
        let exit = exit_of(&["-h"], &[]);
        assert_eq!(exit.code, 0);
        assert!(exit.stderr.contains("Usage"));
        assert!(exit.stdout.contains("--listen-client-urls"));
    }

    #[test]
    fn syntax_errors_end_with_usage_and_code_2() {
        let exit = exit_of(&["--foo"], &[]);
        assert_eq!(exit.code, 2);
        assert!(
            exit.stderr
                .starts_with("flag provided but not defined: -foo\nUsage")
        );
        assert!(exit.notices.is_empty() && exit.stdout.is_empty());
    }

    #[test]
    fn a_word_that_is_no_flag_is_refused_as_etcd_does() {
        let exit = exit_of(&["x", "y"], &[]);
        assert_eq!(exit.code, 1);
        assert_eq!(exit.notices[0].message, "Running: ");
        assert_eq!(exit.notices[1].message, "failed to verify flags");
        assert_eq!(
            exit.notices[1].fields[0].value,
            "\"x\" is not a valid flag".into()
        );
    }

    #[test]
    fn a_shadowed_variable_is_fatal() {
        let exit = exit_of(&["--name", "bar"], &[("ETCD_NAME", "foo")]);
        assert_eq!(exit.code, 1);
        assert_eq!(exit.notices.len(), 1);
        assert_eq!(exit.notices[0].level, Level::Fatal);
        assert_eq!(exit.notices[0].fields[0].value, "ETCD_NAME".into());
    }

    #[test]
    fn a_bad_variable_is_refused_like_a_failed_check() {
        let exit = exit_of(&[], &[("ETCD_UNSAFE_NO_FSYNC", "maybe")]);
        assert_eq!(exit.code, 1);
        assert_eq!(
            exit.notices.last().unwrap().fields[0].value,
            "invalid value \"maybe\" for ETCD_UNSAFE_NO_FSYNC: parse error".into()
        );
    }

    #[test]
    fn folders_and_timeouts_follow_from_the_flags() {
        let Startup::Run(config, _) = read_line(&["--name=a", "--data-dir=d"], &[]) else {
            panic!("refused")
        };
        assert_eq!(config.wal_dir(), Path::new("d/member/wal"));
        assert_eq!(config.snap_dir(), Path::new("d/member/snap"));
        assert_eq!(config.election_ticks(), 10);
        assert_eq!(config.request_timeout(), Duration::from_secs(7));
        assert_eq!(config.received_message_bytes_max(), 2_097_152);
        let Startup::Run(config, _) = read_line(&["--wal-dir=w"], &[]) else {
            panic!("refused")
        };
        assert_eq!(config.wal_dir(), Path::new("w"));
    }
}
