//! From flag values to a [`Config`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine::mvcc::Retention;

use super::checks::Checked;
use super::flags::FlagValue;
use super::go;
use super::refusal::{Refusal, exit_of};
use super::syntax::FlagSet;
use super::url::{ListenUrl, Scheme, Url};
use super::{
    Allowed, ClusterState, Config, Keepalive, Notices, ShardPlacement, SocketOptions, Startup,
};
use crate::logging::{Level, record};

pub(super) const DEFAULT_NAME: &str = "default";
const DEFAULT_INITIAL_CLUSTER: &str = "default=http://localhost:2380";
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

/// A larger `--max-request-bytes` is taken with a warning.
const RECOMMENDED_REQUEST_BYTES: usize = 10 << 20;

const METRICS_WITHOUT_CERT: &str =
    "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url";

/// etcd's default and lower bound for progress notices.
const WATCH_PROGRESS_NOTIFY_INTERVAL: Duration = Duration::from_secs(600);
const WATCH_PROGRESS_NOTIFY_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What grpc-go does when etcd sets no keep-alive options because a flag is not positive.
const GRPC_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 3600);
/// What grpc-go makes of a shorter one.
const GRPC_KEEPALIVE_INTERVAL_MIN: Duration = Duration::from_secs(1);
const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const NANOS_OF_AN_HOUR: i64 = 3_600_000_000_000;
const GRPC_CLIENT_INTERVAL_MIN: Duration = Duration::from_secs(5 * 60);

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

/// The flags, and what there is to say about them.
pub(super) struct Builder {
    pub(super) set: FlagSet,
    pub(super) notices: Notices,
}

impl Builder {
    /// What etcd does between the checks and the listeners.
    fn finish(
        &mut self,
        mut checked: Checked,
        default_host: fn() -> std::io::Result<IpAddr>,
    ) -> Result<Config, Refusal> {
        let name = self.set.text("name");
        let initial_cluster = self.replace_default_host(&mut checked, &name, default_host);
        let data_dir = self.data_dir(&name);
        let listen_peer_urls = peer_listeners(&checked.listen_peer)?;
        let listen_client_urls = listeners(&checked.listen_client)?;
        let client_tls = self.client_tls(checked.tls_versions, &data_dir, &listen_client_urls)?;
        let listen_metrics_urls = listeners(&checked.listen_metrics)?;
        if client_tls.is_none() && listen_metrics_urls.iter().any(ListenUrl::is_secure) {
            return Err(Refusal::Start(METRICS_WITHOUT_CERT.to_owned()));
        }
        let auto_compaction = retention(
            &self.set.text("auto-compaction-mode"),
            &self.set.text("auto-compaction-retention"),
        )?;
        Ok(Config {
            auto_compaction,
            name,
            data_dir,
            dedicated_wal_dir: Some(self.set.text("wal-dir"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            listen_client_urls,
            listen_metrics_urls,
            client_tls,
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
            lease_checkpoints: checked.lease_checkpoints,
            lease_checkpoint_persist: checked.lease_checkpoint_persist,
            snapshot_count: self.set.unsigned("snapshot-count"),
            snapshot_catch_up_entry_count: saturate(self.set.unsigned("snapshot-catchup-entries")),
            snapshots_max: saturate(self.set.unsigned("max-snapshots")),
            wals_max: saturate(self.set.unsigned("max-wals")),
            unsafe_no_fsync: self.set.boolean("unsafe-no-fsync"),
            socket: SocketOptions {
                reuse_port: self.set.boolean("socket-reuse-port"),
                reuse_address: self.set.boolean("socket-reuse-address"),
            },
            host_whitelist: allowed(self.set.words("host-whitelist")),
            cors: self.cors(),
            grpc_gateway: self.set.boolean("enable-grpc-gateway"),
            log: checked.log,
            // Any other word is as good as `basic`.
            call_durations: self.set.text("metrics") == "extensive",
            watch_progress_notify_interval: self.watch_progress_notify_interval(),
            warning_apply_duration: self.duration("warning-apply-duration"),
            warning_unary_request_duration: match self.duration("warning-unary-request-duration") {
                // etcd takes zero for "not given".
                Duration::ZERO => Duration::from_millis(300),
                other => other,
            },
            shard_count: checked.shard_count,
            shard_placement: match self.set.text("shard-placement").as_str() {
                "spread" => ShardPlacement::Spread,
                "log" => ShardPlacement::Log,
                _ => ShardPlacement::Auto,
            },
            auto_disarm_space_alarm: self.set.boolean("auto-disarm-space-alarm"),
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

    fn watch_progress_notify_interval(&mut self) -> Duration {
        match self.duration("watch-progress-notify-interval") {
            Duration::ZERO => WATCH_PROGRESS_NOTIFY_INTERVAL,
            given if given < WATCH_PROGRESS_NOTIFY_INTERVAL_MIN => {
                self.notices.push(record!(
                    Level::Warn,
                    "adjusting watch progress notify interval to minimum period",
                    "min-watch-progress-notify-interval" => "100ms",
                ));
                WATCH_PROGRESS_NOTIFY_INTERVAL_MIN
            }
            given => given,
        }
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
            (interval.max(GRPC_KEEPALIVE_INTERVAL_MIN), timeout)
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

/// What `--auto-compaction-retention` means in this mode. A number of hours or revisions, or a duration, of which in mode
/// `revision` the nanoseconds count.
fn retention(mode: &str, text: &str) -> Result<Option<Retention>, Refusal> {
    let text = if text.is_empty() { "0" } else { text };
    let is_revision = mode == "revision";
    let nanos = match text.parse::<i64>().ok().filter(|number| *number >= 0) {
        Some(number) if is_revision => number,
        Some(hours) => hours.saturating_mul(NANOS_OF_AN_HOUR),
        None => go::parse_duration(text).map_err(|error| {
            Refusal::Start(format!("error parsing CompactionRetention: {error}"))
        })?,
    };
    Ok(match u64::try_from(nanos) {
        // A negative one means nothing that could be done.
        Err(_) | Ok(0) => None,
        Ok(_) if is_revision => Some(Retention::Revisions(nanos)),
        Ok(nanos) => Some(Retention::Time(Duration::from_nanos(nanos))),
    })
}

/// Turns URLs into addresses.
fn listeners(urls: &[Url]) -> Result<Vec<ListenUrl>, Refusal> {
    urls.iter()
        .map(|url| {
            let invalid = format!("listen tcp: address {}: invalid port", url.port());
            ListenUrl::new(url.clone()).ok_or(Refusal::Start(invalid))
        })
        .collect()
}

/// The same for peers, who are served in plaintext over TCP only so far.
fn peer_listeners(urls: &[Url]) -> Result<Vec<ListenUrl>, Refusal> {
    for url in urls {
        if url.scheme().is_socket_file() {
            return Err(Refusal::Flags(format!(
                "--listen-peer-urls: listening on socket files is not supported by etcore yet ({url})"
            )));
        }
        if url.scheme() == Scheme::Https {
            return Err(Refusal::Start(format!(
                "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
                url.authority()
            )));
        }
    }
    listeners(urls)
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
    use super::super::testing::{config, refusal};
    use super::*;
    use crate::logging::{Format, LogOptions, Output};

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
                "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
            ),
            (
                "--listen-metrics-urls=http://127.0.0.1:1,https://127.0.0.1:2",
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
            ),
            (
                "--listen-metrics-urls=http://127.0.0.1:99999",
                "listen tcp: address 99999: invalid port",
            ),
            (
                "--listen-peer-urls=https://127.0.0.1:1",
                "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
            ),
        ];
        for (flag, text) in cases {
            let expected = (1, "discovery failed".to_owned(), text.to_owned());
            assert_eq!(refusal(&[flag, advertise]), expected);
        }
    }

    #[test]
    fn retention_is_hours_a_duration_or_revisions() {
        let hour = Duration::from_secs(3600);
        let cases = [
            ("periodic", "0", None),
            ("periodic", "", None),
            ("periodic", "2", Some(Retention::Time(2 * hour))),
            ("periodic", "90m", Some(Retention::Time(hour * 3 / 2))),
            ("revision", "1000", Some(Retention::Revisions(1000))),
            ("revision", "1us", Some(Retention::Revisions(1000))),
            ("periodic", "-1h", None),
        ];
        for (mode, text, expected) in cases {
            assert_eq!(retention(mode, text).ok(), Some(expected), "{mode} {text}");
        }
        let refused = |text| match retention("periodic", text) {
            Err(Refusal::Start(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused("abc"),
            "error parsing CompactionRetention: time: invalid duration \"abc\""
        );
        assert_eq!(
            refused("-5"),
            "error parsing CompactionRetention: time: missing unit in duration \"-5\""
        );
    }

    #[test]
    fn socket_files_are_refused_by_name() {
        let line = [
            "--listen-peer-urls=unix:///x",
            "--initial-advertise-peer-urls=unix:///x",
        ];
        assert!(
            refusal(&line)
                .2
                .contains("--listen-peer-urls: listening on socket files")
        );
    }

    #[test]
    fn defaults_are_etcds() {
        let (config, notices) = config(&[]);
        assert_eq!(config.name, "default");
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(
            config.listen_client_urls[0].address.to_string(),
            "127.0.0.1:2379"
        );
        assert_eq!(
            config.listen_peer_urls[0].address.to_string(),
            "127.0.0.1:2380"
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
        assert_eq!(config.shard_count, None);
        assert_eq!(config.shard_placement, ShardPlacement::Auto);
        assert!(!config.auto_disarm_space_alarm);
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

    /// As etcd 3.7.1 pings.
    #[test]
    fn keepalive_of_nothing_is_the_default_and_of_little_a_second() {
        let keepalive = |interval: &str, timeout: &str| {
            let interval = format!("--grpc-keepalive-interval={interval}");
            let timeout = format!("--grpc-keepalive-timeout={timeout}");
            let (config, _) = config(&[&interval, &timeout]);
            (config.keepalive.interval, config.keepalive.timeout)
        };
        let default = (Duration::from_secs(7200), Duration::from_secs(20));
        assert_eq!(keepalive("0", "7s"), default);
        assert_eq!(keepalive("7s", "0"), default);
        let short = (Duration::from_secs(1), Duration::from_millis(200));
        assert_eq!(keepalive("100ms", "200ms"), short);
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
