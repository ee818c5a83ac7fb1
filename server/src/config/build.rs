//! From flag values to a [`Config`]: etcd's checks in etcd's order, with its texts.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::flags::FlagValue;
use super::go;
use super::syntax::FlagSet;
use super::url::{ListenUrl, Url};
use super::{Allowed, ClusterState, Config, Exit, Keepalive, Notices, SocketOptions, Startup};
use crate::logging::{Format, Level, LogOptions, Output, record};

const DEFAULT_NAME: &str = "default";
const DEFAULT_INITIAL_CLUSTER: &str = "default=http://localhost:2380";
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;

/// A larger `--max-request-bytes` is taken with a warning.
const RECOMMENDED_REQUEST_BYTES: usize = 10 << 20;

/// What grpc-go does when etcd sets no keep-alive options because a flag is not positive.
const GRPC_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 3600);
const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const GRPC_CLIENT_INTERVAL_MIN: Duration = Duration::from_secs(5 * 60);

/// Why the flags do not make a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// A check of the flags failed; etcd warns and exits with 1.
    Flags(String),
    /// Like `Flags`, with a second warning of etcd's.
    AdvertiseClientUrls,
    /// Something that etcd finds out only when it starts; it dies of it with exit code 1.
    Start(String),
    /// etcd panics: exit code 2.
    Panic(String),
}

const ADVERTISE_CLIENT_URLS_TEXT: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flags(text) | Self::Start(text) | Self::Panic(text) => text,
            Self::AdvertiseClientUrls => ADVERTISE_CLIENT_URLS_TEXT,
        })
    }
}

/// The end of a program whose flags were refused.
pub(super) fn refused(reason: &str, words: &[String], mut notices: Notices) -> Exit {
    notices.push(record!(Level::Info, "Running: ", "args" => words.to_vec()));
    notices.push(record!(Level::Warn, "failed to verify flags", "error" => reason));
    Exit {
        code: 1,
        notices,
        ..Exit::default()
    }
}

/// Checks the values and puts them together.
pub(super) fn build(
    mut set: FlagSet,
    words: &[String],
    default_host: fn() -> std::io::Result<IpAddr>,
) -> Startup {
    let notices = std::mem::take(&mut set.records);
    let mut builder = Builder { set, notices };
    let checked = builder.check();
    builder.warn_of_deprecated();
    let result = checked.and_then(|checked| {
        builder
            .notices
            .push(record!(Level::Info, "Running: ", "args" => words.to_vec()));
        builder.finish(checked, default_host)
    });
    match result {
        Ok(config) => Startup::Run(Box::new(config), builder.notices),
        Err(refusal) => Startup::Exit(exit_of(&refusal, words, builder.notices)),
    }
}

fn exit_of(refusal: &Refusal, words: &[String], mut notices: Notices) -> Exit {
    let reason = refusal.to_string();
    match refusal {
        Refusal::Flags(_) => refused(&reason, words, notices),
        Refusal::AdvertiseClientUrls => {
            let mut exit = refused(&reason, words, notices);
            let second = "advertise client URLs are not set";
            exit.notices
                .push(record!(Level::Warn, second, "error" => reason));
            exit
        }
        Refusal::Start(_) => {
            notices.push(record!(Level::Fatal, "discovery failed", "error" => reason));
            Exit {
                code: 1,
                notices,
                ..Exit::default()
            }
        }
        Refusal::Panic(_) => {
            notices.push(record!(Level::Panic, reason));
            Exit {
                code: 2,
                notices,
                ..Exit::default()
            }
        }
    }
}

/// What the checks have found and the rest needs.
struct Checked {
    log: LogOptions,
    listen_peer: Vec<Url>,
    listen_client: Vec<Url>,
    advertise_peer: Vec<Url>,
    advertise_client: Vec<Url>,
    heartbeat_ms: u64,
    election_ms: u64,
}

struct Builder {
    set: FlagSet,
    notices: Notices,
}

impl Builder {
    /// All checks that etcd makes of the flags alone, in its order.
    fn check(&mut self) -> Result<Checked, Refusal> {
        self.check_supported()?;
        let log = self.log_options()?;
        let listen_peer = self.urls("listen-peer-urls");
        let listen_client = self.urls("listen-client-urls");
        check_bind_urls(&listen_peer)?;
        check_bind_urls(&listen_client)?;
        self.notices.push(record!(
            Level::Warn,
            "Running http and grpc server on single port. This is not recommended for production.",
        ));
        let advertise_peer = self.urls("initial-advertise-peer-urls");
        let advertise_client = self.advertise_client_urls();
        check_advertise_urls(&advertise_peer, advertise_client.as_deref())?;
        let (heartbeat_ms, election_ms) = self.ticks()?;
        let advertise_client = advertise_client.ok_or(Refusal::AdvertiseClientUrls)?;
        self.check_compaction_mode()?;
        if self.set.text("name") == DEFAULT_NAME {
            self.notices.push(record!(
                Level::Warn,
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name",
                "name" => DEFAULT_NAME,
            ));
        }
        Ok(Checked {
            log,
            listen_peer,
            listen_client,
            advertise_peer,
            advertise_client,
            heartbeat_ms,
            election_ms,
        })
    }

    fn check_supported(&self) -> Result<(), Refusal> {
        if self.set.text("discovery-fallback") == "proxy" {
            return Err(Refusal::Flags(
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                    .to_owned(),
            ));
        }
        match self.set.first_unsupported() {
            None => Ok(()),
            Some(flag) if flag.default.is_empty() => Err(Refusal::Flags(format!(
                "--{} is not supported by etcore yet: leave it out",
                flag.name
            ))),
            Some(flag) => Err(Refusal::Flags(format!(
                "--{} is not supported by etcore yet: leave it out or set it to its default {}",
                flag.name,
                go::quote(flag.default)
            ))),
        }
    }

    fn log_options(&self) -> Result<LogOptions, Refusal> {
        match self.set.text("logger").as_str() {
            "zap" => {}
            "capnslog" => {
                return Err(Refusal::Flags(
                    "--logger=capnslog is removed in v3.5".to_owned(),
                ));
            }
            other => {
                let text = format!("unknown logger option {}", go::quote(other));
                return Err(Refusal::Flags(text));
            }
        }
        let outputs = log_outputs(&self.set.words("log-outputs"))?;
        let level = self.set.text("log-level");
        let level = Level::parse(&level)
            .ok_or_else(|| Refusal::Panic(format!("unrecognized level: {}", go::quote(&level))))?;
        let format = match self.set.text("log-format").as_str() {
            "json" | "" => Format::Json,
            "console" => Format::Console,
            other => {
                let text = format!("unknown log format: {other}, supported values json, console");
                return Err(Refusal::Flags(text));
            }
        };
        Ok(LogOptions {
            level,
            format,
            outputs,
        })
    }

    /// The URLs of a flag. Given as an empty word, a flag keeps its default.
    fn urls(&self, name: &str) -> Vec<Url> {
        match self.set.value(name) {
            FlagValue::Urls(Ok(urls)) => urls,
            _ => self.set.default_urls(name),
        }
    }

    /// The default counts only where the listeners are the default ones as well.
    fn advertise_client_urls(&self) -> Option<Vec<Url>> {
        let is_missing =
            self.set.is_set("listen-client-urls") && !self.set.is_set("advertise-client-urls");
        (!is_missing).then(|| self.urls("advertise-client-urls"))
    }

    /// Heartbeat and election timeout in milliseconds.
    fn ticks(&self) -> Result<(u64, u64), Refusal> {
        let heartbeat = self.set.unsigned("heartbeat-interval");
        let election = self.set.unsigned("election-timeout");
        let text = if heartbeat == 0 {
            "--heartbeat-interval must be >0 (set to 0ms)".to_owned()
        } else if election == 0 {
            "--election-timeout must be >0 (set to 0ms)".to_owned()
        } else if heartbeat.saturating_mul(5) > election {
            format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            )
        } else if election > ELECTION_TIMEOUT_MS_MAX {
            format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_TIMEOUT_MS_MAX}ms"
            )
        } else {
            return Ok((heartbeat, election));
        };
        Err(Refusal::Flags(text))
    }

    fn check_compaction_mode(&self) -> Result<(), Refusal> {
        match self.set.text("auto-compaction-mode").as_str() {
            "periodic" | "revision" => Ok(()),
            "" => Err(Refusal::Flags("undefined auto-compaction-mode".to_owned())),
            other => Err(Refusal::Flags(format!(
                "unknown auto-compaction-mode {}",
                go::quote(other)
            ))),
        }
    }

    fn warn_of_deprecated(&mut self) {
        let warnings = [
            (
                "max-snapshots",
                "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
            ),
            (
                "v2-deprecation",
                "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
            ),
        ];
        for (name, text) in warnings {
            if self.set.is_set(name) {
                self.notices.push(record!(Level::Warn, text));
            }
        }
    }

    /// What etcd does between the checks and the listeners.
    fn finish(
        &mut self,
        mut checked: Checked,
        default_host: fn() -> std::io::Result<IpAddr>,
    ) -> Result<Config, Refusal> {
        let name = self.set.text("name");
        let initial_cluster = self.replace_default_host(&mut checked, &name, default_host);
        let data_dir = self.data_dir(&name);
        let listen_peer_urls = listeners(&checked.listen_peer, "--listen-peer-urls", |_| {
            "KeyFile and CertFile must both be present[key: , cert: ]".to_owned()
        })?;
        let listen_client_urls = listeners(
            &checked.listen_client,
            "--listen-client-urls",
            |url| {
                format!(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
                    url.authority()
                )
            },
        )?;
        Ok(Config {
            name,
            data_dir,
            dedicated_wal_dir: Some(self.set.text("wal-dir"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            listen_client_urls,
            listen_peer_urls,
            advertise_client_urls: checked.advertise_client,
            advertise_peer_urls: checked.advertise_peer,
            initial_cluster,
            initial_cluster_state: match self.set.text("initial-cluster-state").as_str() {
                "existing" => ClusterState::Existing,
                _ => ClusterState::New,
            },
            initial_cluster_token: self.set.text("initial-cluster-token"),
            quota_backend_bytes: quota(self.set.signed("quota-backend-bytes")),
            max_request_bytes: self.max_request_bytes(),
            max_txn_ops: saturate(self.set.unsigned("max-txn-ops")),
            max_concurrent_streams: u32::try_from(self.set.unsigned("max-concurrent-streams"))
                .unwrap_or(u32::MAX),
            keepalive: self.keepalive(),
            heartbeat_interval: Duration::from_millis(checked.heartbeat_ms),
            election_timeout: Duration::from_millis(checked.election_ms),
            snapshot_count: self.set.unsigned("snapshot-count"),
            unsafe_no_fsync: self.set.boolean("unsafe-no-fsync"),
            socket: SocketOptions {
                reuse_port: self.set.boolean("socket-reuse-port"),
                reuse_address: self.set.boolean("socket-reuse-address"),
            },
            host_whitelist: allowed(self.set.words("host-whitelist")),
            cors: self.cors(),
            log: checked.log,
            warning_apply_duration: self.duration("warning-apply-duration"),
            warning_unary_request_duration: match self.duration("warning-unary-request-duration") {
                // etcd takes zero for "not given".
                Duration::ZERO => Duration::from_millis(300),
                other => other,
            },
        })
    }

    /// A member that listens everywhere but advertises only `localhost` could not be reached: the
    /// address on the default route takes its place. Returns the initial cluster that results.
    fn replace_default_host(
        &mut self,
        checked: &mut Checked,
        name: &str,
        default_host: fn() -> std::io::Result<IpAddr>,
    ) -> String {
        let peer = needs_host(
            &checked.listen_peer,
            &checked.advertise_peer,
            "http://localhost:2380",
        );
        let client = needs_host(
            &checked.listen_client,
            &checked.advertise_client,
            "http://localhost:2379",
        );
        if peer.is_some() || client.is_some() {
            match default_host() {
                Ok(host) => {
                    let host = host.to_string();
                    replace_host(&mut checked.advertise_peer, peer.as_deref(), &host);
                    replace_host(&mut checked.advertise_client, client.as_deref(), &host);
                    let message = "detected default host for advertise";
                    self.notices
                        .push(record!(Level::Info, message, "host" => host));
                }
                Err(error) => self.notices.push(record!(
                    Level::Info,
                    "failed to detect default host",
                    "error" => error.to_string(),
                )),
            }
        }
        let given = self.set.text("initial-cluster");
        if name != DEFAULT_NAME && given == DEFAULT_INITIAL_CLUSTER {
            let name = if name.is_empty() { DEFAULT_NAME } else { name };
            let members: Vec<_> = checked
                .advertise_peer
                .iter()
                .map(|url| format!("{name}={url}"))
                .collect();
            return members.join(",");
        }
        given
    }

    fn data_dir(&mut self, name: &str) -> PathBuf {
        let given = self.set.text("data-dir");
        if !given.is_empty() {
            return PathBuf::from(given);
        }
        let default = format!("{name}.etcd");
        let message = "'data-dir' was empty; using default";
        self.notices
            .push(record!(Level::Warn, message, "data-dir" => &default));
        PathBuf::from(default)
    }

    fn max_request_bytes(&mut self) -> usize {
        let bytes = saturate(self.set.unsigned("max-request-bytes"));
        if bytes > RECOMMENDED_REQUEST_BYTES {
            self.notices.push(record!(
                Level::Warn,
                "exceeded recommended request limit",
                "max-request-bytes" => bytes,
                "recommended-request-bytes" => RECOMMENDED_REQUEST_BYTES,
            ));
        }
        bytes
    }

    /// A duration that is not negative.
    fn duration(&self, name: &str) -> Duration {
        Duration::from_nanos(u64::try_from(self.set.duration(name)).unwrap_or(0))
    }

    fn keepalive(&self) -> Keepalive {
        let interval = self.duration("grpc-keepalive-interval");
        let timeout = self.duration("grpc-keepalive-timeout");
        let (interval, timeout) = if interval.is_zero() || timeout.is_zero() {
            (GRPC_KEEPALIVE_INTERVAL, GRPC_KEEPALIVE_TIMEOUT)
        } else {
            (interval, timeout)
        };
        let client_interval_min = match self.duration("grpc-keepalive-min-time") {
            Duration::ZERO => GRPC_CLIENT_INTERVAL_MIN,
            given => given,
        };
        Keepalive {
            interval,
            timeout,
            client_interval_min,
        }
    }

    fn cors(&self) -> Allowed {
        match self.set.value("cors") {
            FlagValue::Urls(Ok(urls)) => Allowed::Only(urls.iter().map(Url::to_string).collect()),
            _ => Allowed::Any,
        }
    }
}

fn log_outputs(words: &[String]) -> Result<Vec<Output>, Refusal> {
    if words.len() > 1 && words.iter().any(|word| word == "default") {
        return Err(Refusal::Flags(
            "multi logoutput for \"default\" is not supported yet".to_owned(),
        ));
    }
    words
        .iter()
        .map(|word| match word.as_str() {
            "default" | "stderr" => Ok(Output::Stderr),
            "stdout" => Ok(Output::Stdout),
            "systemd/journal" => Err(Refusal::Flags(
                "--log-outputs=systemd/journal is not supported by etcore yet: use stderr, which systemd passes on"
                    .to_owned(),
            )),
            "" => Err(Refusal::Flags("--log-outputs must not contain an empty path".to_owned())),
            path => Ok(Output::File(PathBuf::from(path))),
        })
        .collect()
}

fn check_bind_urls(urls: &[Url]) -> Result<(), Refusal> {
    let bad = urls.iter().find(|url| {
        let is_bindable = url.host() == "localhost" || url.host().parse::<IpAddr>().is_ok();
        !url.scheme().is_socket_file() && !is_bindable
    });
    match bad {
        None => Ok(()),
        Some(url) => Err(Refusal::Flags(format!(
            "expected IP in URL for binding ({url})"
        ))),
    }
}

fn check_advertise_urls(peer: &[Url], client: Option<&[Url]>) -> Result<(), Refusal> {
    if let Some(url) = find_empty_host(peer) {
        return Err(Refusal::Flags(format!(
            "--initial-advertise-peer-urls {} must be \"host:port\" (unexpected empty host ({url}))",
            go::quote(&join(peer))
        )));
    }
    let client = client.unwrap_or_default();
    if let Some(url) = find_empty_host(client) {
        return Err(Refusal::Flags(format!(
            "--advertise-client-urls {} must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host ({url}))",
            go::quote(&join(client))
        )));
    }
    Ok(())
}

fn find_empty_host(urls: &[Url]) -> Option<&Url> {
    urls.iter()
        .find(|url| !url.scheme().is_socket_file() && url.host().is_empty())
}

fn join(urls: &[Url]) -> String {
    urls.iter()
        .map(Url::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Turns URLs into addresses; only plaintext TCP is served so far.
fn listeners(
    urls: &[Url],
    flag: &str,
    tls_refusal: fn(&Url) -> String,
) -> Result<Vec<ListenUrl>, Refusal> {
    urls.iter()
        .map(|url| {
            if url.scheme().is_socket_file() {
                return Err(Refusal::Flags(format!(
                    "{flag}: listening on socket files is not supported by etcore yet ({url})"
                )));
            }
            if url.scheme().name() == "https" {
                return Err(Refusal::Start(tls_refusal(url)));
            }
            let invalid = format!("listen tcp: address {}: invalid port", url.port());
            ListenUrl::new(url.clone()).ok_or(Refusal::Start(invalid))
        })
        .collect()
}

/// The listener's port, if the default URL is advertised for a listener on all addresses.
fn needs_host(listen: &[Url], advertise: &[Url], default: &str) -> Option<String> {
    let [only] = advertise else { return None };
    let first = listen.first().filter(|url| url.host() == "0.0.0.0")?;
    (only.to_string() == default).then(|| first.port().to_owned())
}

fn replace_host(advertise: &mut [Url], port: Option<&str>, host: &str) {
    if let (Some(url), Some(port)) = (advertise.first_mut(), port) {
        *url = url.with_host(host, port);
    }
}

fn quota(given: i64) -> Option<u64> {
    match u64::try_from(given) {
        Ok(0) => Some(DEFAULT_QUOTA_BYTES),
        other => other.ok(),
    }
}

fn saturate(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn allowed(words: Vec<String>) -> Allowed {
    let is_any = words.iter().all(String::is_empty) || words.iter().any(|word| word == "*");
    if is_any {
        Allowed::Any
    } else {
        Allowed::Only(words)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, read};
    use super::*;
    use crate::logging::Value;

    fn run(line: &[&str]) -> Startup {
        let words: Vec<_> = std::iter::once("etcore")
            .chain(line.iter().copied())
            .map(str::to_owned)
            .collect();
        let default_host = || Ok(IpAddr::from([10, 1, 2, 3]));
        read(
            &words,
            &Environment {
                variables: Vec::new(),
                default_host,
            },
        )
    }

    fn config(line: &[&str]) -> (Config, Notices) {
        match run(line) {
            Startup::Run(config, notices) => (*config, notices),
            Startup::Exit(exit) => panic!("{line:?} is refused: {:?}", exit.notices),
        }
    }

    /// Exit code, last message, its error.
    fn refusal(line: &[&str]) -> (i32, String, String) {
        let Startup::Exit(exit) = run(line) else {
            panic!("{line:?} is accepted")
        };
        let last = exit.notices.last().expect("a refusal says why");
        let error = match last.fields.first().map(|field| &field.value) {
            Some(Value::String(text)) => text.to_string(),
            _ => String::new(),
        };
        (exit.code, last.message.to_string(), error)
    }

    #[test]
    fn refusals_of_flags_have_etcds_texts() {
        let cases: &[(&[&str], &str)] = &[
            (&["--logger=foo"], "unknown logger option \"foo\""),
            (
                &["--logger=capnslog"],
                "--logger=capnslog is removed in v3.5",
            ),
            (
                &["--log-outputs=default,stdout"],
                "multi logoutput for \"default\" is not supported yet",
            ),
            (
                &["--log-format=foo"],
                "unknown log format: foo, supported values json, console",
            ),
            (
                &["--listen-client-urls=http://foo:23791"],
                "expected IP in URL for binding (http://foo:23791)",
            ),
            (
                &["--initial-advertise-peer-urls=http://:2379"],
                "--initial-advertise-peer-urls \"http://:2379\" must be \"host:port\" (unexpected empty host (http://:2379))",
            ),
            (
                &["--advertise-client-urls=http://:2379"],
                "--advertise-client-urls \"http://:2379\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:2379))",
            ),
            (
                &["--heartbeat-interval=0"],
                "--heartbeat-interval must be >0 (set to 0ms)",
            ),
            (
                &["--election-timeout=0"],
                "--election-timeout must be >0 (set to 0ms)",
            ),
            (
                &["--election-timeout=400"],
                "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]",
            ),
            (
                &["--election-timeout=60000"],
                "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            ),
            (
                &["--auto-compaction-mode="],
                "undefined auto-compaction-mode",
            ),
            (
                &["--auto-compaction-mode=x"],
                "unknown auto-compaction-mode \"x\"",
            ),
            (
                &["--discovery-fallback=proxy"],
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
            ),
            (
                &["--pre-vote=false"],
                "--pre-vote is not supported by etcore yet: leave it out or set it to its default \"true\"",
            ),
            (
                &["--cert-file=x"],
                "--cert-file is not supported by etcore yet: leave it out",
            ),
        ];
        for (line, text) in cases {
            let expected = (1, "failed to verify flags".to_owned(), (*text).to_owned());
            assert_eq!(refusal(line), expected, "{line:?}");
        }
    }

    #[test]
    fn missing_advertise_urls_are_warned_of_twice() {
        for line in [
            &["--listen-client-urls=http://127.0.0.1:1"],
            &["--listen-client-urls="],
        ] {
            let (code, message, error) = refusal(line);
            assert_eq!((code, &*message), (1, "advertise client URLs are not set"));
            assert_eq!(error, ADVERTISE_CLIENT_URLS_TEXT);
        }
    }

    #[test]
    fn failures_of_the_start_are_fatal() {
        let advertise = "--advertise-client-urls=http://127.0.0.1:1";
        let cases = [
            (
                "--listen-client-urls=http://127.0.0.1:99999",
                "listen tcp: address 99999: invalid port",
            ),
            (
                "--listen-client-urls=https://127.0.0.1:1",
                "TLS key/cert (--cert-file, --key-file) must be provided for client url 127.0.0.1:1 with HTTPS scheme",
            ),
            (
                "--listen-peer-urls=https://127.0.0.1:1",
                "KeyFile and CertFile must both be present[key: , cert: ]",
            ),
        ];
        for (flag, text) in cases {
            let expected = (1, "discovery failed".to_owned(), text.to_owned());
            assert_eq!(refusal(&[flag, advertise]), expected);
        }
    }

    #[test]
    fn an_unknown_log_level_is_a_panic() {
        let (code, message, _) = refusal(&["--log-level", "bad"]);
        assert_eq!((code, &*message), (2, "unrecognized level: \"bad\""));
    }

    #[test]
    fn socket_files_are_refused_by_name() {
        let line = [
            "--listen-client-urls=unix:///x",
            "--advertise-client-urls=unix:///x",
        ];
        assert!(
            refusal(&line)
                .2
                .contains("--listen-client-urls: listening on socket files")
        );
    }

    #[test]
    fn defaults_are_etcds() {
        let (config, notices) = config(&[]);
        assert_eq!(config.name, "default");
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(
            config.listen_client_urls[0].address,
            "127.0.0.1:2379".parse().unwrap()
        );
        assert_eq!(
            config.listen_peer_urls[0].address,
            "127.0.0.1:2380".parse().unwrap()
        );
        assert_eq!(
            config.advertise_client_urls[0].to_string(),
            "http://localhost:2379"
        );
        assert_eq!(config.initial_cluster, "default=http://localhost:2380");
        assert_eq!(config.initial_cluster_state, ClusterState::New);
        assert_eq!(config.quota_backend_bytes, Some(2_147_483_648));
        assert_eq!(
            (config.max_request_bytes, config.max_txn_ops),
            (1_572_864, 128)
        );
        assert_eq!(config.max_concurrent_streams, u32::MAX);
        assert_eq!(config.keepalive.interval, Duration::from_secs(7200));
        assert_eq!(config.keepalive.client_interval_min, Duration::from_secs(5));
        assert_eq!(config.snapshot_count, 10_000);
        assert_eq!(config.log, LogOptions::default());
        assert_eq!(
            (&config.cors, &config.host_whitelist),
            (&Allowed::Any, &Allowed::Any)
        );
        assert_eq!(config.warning_apply_duration, Duration::from_millis(100));
        assert_eq!(
            config.warning_unary_request_duration,
            Duration::from_millis(300)
        );
        let messages: Vec<_> = notices.iter().map(|notice| &*notice.message).collect();
        assert!(messages[0].starts_with("Running http and grpc server on single port."));
        assert!(messages[1].starts_with("it isn't recommended to use default name"));
        assert_eq!(
            messages[2..],
            ["Running: ", "'data-dir' was empty; using default"]
        );
    }

    #[test]
    fn values_reach_the_configuration() {
        let (config, _) = config(&[
            "--name=a",
            "--quota-backend-bytes=-1",
            "--grpc-keepalive-min-time=0s",
            "--grpc-keepalive-interval=0",
            "--grpc-keepalive-timeout=7s",
            "--cors=http://b:1,http://a:1",
            "--host-whitelist=b,a,b",
            "--log-outputs=stdout,x.log",
            "--log-level=error",
            "--log-format=console",
            "--initial-cluster-state=existing",
            "--warning-unary-request-duration=0s",
        ]);
        assert_eq!(config.quota_backend_bytes, None);
        assert_eq!(config.keepalive.interval, Duration::from_secs(7200));
        assert_eq!(config.keepalive.timeout, Duration::from_secs(20));
        assert_eq!(
            config.keepalive.client_interval_min,
            Duration::from_secs(300)
        );
        assert!(config.cors.contains("http://a:1") && !config.cors.contains("http://c:1"));
        let hosts = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(config.host_whitelist, Allowed::Only(hosts));
        let outputs = vec![Output::Stdout, Output::File("x.log".into())];
        let log = LogOptions {
            level: Level::Error,
            format: Format::Console,
            outputs,
        };
        assert_eq!(config.log, log);
        assert_eq!(config.initial_cluster_state, ClusterState::Existing);
        assert_eq!(
            config.warning_unary_request_duration,
            Duration::from_millis(300)
        );
    }

    #[test]
    fn the_initial_cluster_follows_a_name_given_alone() {
        let (config, _) = config(&[
            "--name=a",
            "--initial-advertise-peer-urls=http://h:1,http://g:2",
        ]);
        assert_eq!(config.initial_cluster, "a=http://g:2,a=http://h:1");
    }

    #[test]
    fn the_default_host_is_advertised_for_listeners_on_all_addresses() {
        let (config, notices) = config(&[
            "--name=a",
            "--listen-peer-urls=http://0.0.0.0:7",
            "--listen-client-urls=http://0.0.0.0:8",
            "--advertise-client-urls=http://localhost:2379",
        ]);
        assert_eq!(
            config.advertise_peer_urls[0].to_string(),
            "http://10.1.2.3:7"
        );
        assert_eq!(
            config.advertise_client_urls[0].to_string(),
            "http://10.1.2.3:8"
        );
        assert_eq!(config.initial_cluster, "a=http://10.1.2.3:7");
        assert!(
            notices
                .iter()
                .any(|notice| notice.message == "detected default host for advertise")
        );
    }

    #[test]
    fn deprecated_flags_and_large_limits_are_warned_of() {
        let (_, notices) = config(&[
            "--max-snapshots=5",
            "--v2-deprecation=gone",
            "--max-request-bytes=11000000",
        ]);
        let has = |text: &str| {
            notices
                .iter()
                .any(|notice| notice.message.starts_with(text))
        };
        assert!(has("--max-snapshots is deprecated"));
        assert!(has("--v2-deprecation is deprecated"));
        assert!(has("exceeded recommended request limit"));
    }
}
