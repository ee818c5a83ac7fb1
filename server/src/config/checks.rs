//! The checks of the flags alone, in etcd's order and with its texts.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::SHARD_COUNT_MAX;
use super::build::{Builder, DEFAULT_NAME};
use super::flags::{FlagValue, is_gate_open, unsupported_gate};
use super::go;
use super::refusal::Refusal;
use super::tls::TlsVersion;
use super::url::Url;
use crate::logging::{Format, Level, LogOptions, Output, record};

const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;

/// What the checks have found and the rest needs.
pub(super) struct Checked {
    pub(super) log: LogOptions,
    pub(super) listen_peer: Vec<Url>,
    pub(super) listen_client: Vec<Url>,
    pub(super) listen_metrics: Vec<Url>,
    pub(super) advertise_peer: Vec<Url>,
    pub(super) advertise_client: Vec<Url>,
    pub(super) heartbeat_ms: u64,
    pub(super) election_ms: u64,
    pub(super) lease_checkpoints: bool,
    pub(super) lease_checkpoint_persist: bool,
    pub(super) shard_count: Option<NonZeroUsize>,
    /// The least and the largest.
    pub(super) tls_versions: (TlsVersion, TlsVersion),
}

impl Builder {
    /// All checks that etcd makes of the flags alone, in its order.
    pub(super) fn check(&mut self) -> Result<Checked, Refusal> {
        self.check_supported()?;
        let log = self.log_options()?;
        let listen_peer = self.urls("listen-peer-urls");
        let listen_client = self.urls("listen-client-urls");
        let listen_metrics = self.urls("listen-metrics-urls");
        for urls in [&listen_peer, &listen_client, &listen_metrics] {
            check_bind_urls(urls)?;
        }
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
        let (lease_checkpoints, lease_checkpoint_persist) = self.lease_checkpoints()?;
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
            listen_metrics,
            advertise_peer,
            advertise_client,
            heartbeat_ms,
            election_ms,
            lease_checkpoints,
            lease_checkpoint_persist,
            tls_versions: self.tls_versions()?,
            shard_count: self.shard_count()?,
        })
    }

    fn check_supported(&self) -> Result<(), Refusal> {
        if self.set.text("discovery-fallback") == "proxy" {
            return Err(Refusal::Flags(
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                    .to_owned(),
            ));
        }
        if let Some(gate) = unsupported_gate(&self.set.value("feature-gates")) {
            return Err(Refusal::Flags(format!(
                "feature gate {gate} is not supported by etcore yet: leave it out"
            )));
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

    fn shard_count(&self) -> Result<Option<NonZeroUsize>, Refusal> {
        let given = self.set.unsigned("shards");
        match usize::try_from(given) {
            Ok(count) if count <= SHARD_COUNT_MAX => Ok(NonZeroUsize::new(count)),
            _ => Err(Refusal::Flags(format!(
                "--shards[{given}] should be at most {SHARD_COUNT_MAX}"
            ))),
        }
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

    /// Whether leases are checkpointed, and whether checkpoints are stored whatever the cluster's version.
    fn lease_checkpoints(&mut self) -> Result<(bool, bool), Refusal> {
        let gates = self.set.value("feature-gates");
        let is_open = |name| is_gate_open(&gates, name);
        let both = (
            is_open("LeaseCheckpoint"),
            is_open("LeaseCheckpointPersist"),
        );
        match both {
            (true, false) => self.notices.push(record!(
                Level::Warn,
                "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist",
            )),
            (false, true) => {
                return Err(Refusal::Flags(
                    "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        Ok(both)
    }

    pub(super) fn warn_of_deprecated(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::super::refusal::ADVERTISE_CLIENT_URLS_TEXT;
    use super::super::testing::refusal;

    #[test]
    fn refusals_of_flags_have_etcds_texts() {
        let cases: &[(&[&str], &str)] = &[
            (&["--logger=foo"], "unknown logger option \"foo\""),
            (&["--shards=129"], "--shards[129] should be at most 128"),
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
                &["--listen-metrics-urls=http://foo:23791"],
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
                &["--peer-cert-file=x"],
                "--peer-cert-file is not supported by etcore yet: leave it out",
            ),
            (
                &["--tls-min-version=x"],
                "unexpected TLS version \"x\" (must be one of: TLS1.2, TLS1.3)",
            ),
            (
                &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
            (
                &["--tls-min-version=TLS1.3", "--cipher-suites=foo"],
                "cipher suites cannot be configured when only TLS1.3 is enabled",
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
    fn an_unknown_log_level_is_a_panic() {
        let (code, message, _) = refusal(&["--log-level", "bad"]);
        assert_eq!((code, &*message), (2, "unrecognized level: \"bad\""));
    }
}
