//! The rows: every flag of etcd 3.7, and a few of etcore's own.

use super::flags::{Flag, Kind, Support};

/// Finds a flag by its name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

const fn full(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        support: Support::Full,
        help,
    }
}

const fn own(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        support: Support::Own,
        help,
    }
}

const fn known(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        support: Support::DefaultOnly,
        help: "",
    }
}

const fn ignored(name: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Anything,
        default: "",
        support: Support::Ignored,
        help: "",
    }
}

const URLS: Kind = Kind::Urls { except: "" };
const LOG_ROTATION: &str = "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}";

/// All flags of etcd 3.7, honoured ones first, and etcore's own.
#[rustfmt::skip]
pub(super) static FLAGS: &[Flag] = &[
    full("name", Kind::Text, "default", "name of this member; it must appear in --initial-cluster"),
    full("data-dir", Kind::Text, "", "folder of the data; <name>.etcd if empty"),
    full("wal-dir", Kind::Text, "", "folder of the log, if it is to live outside the data folder"),
    full("snapshot-count", Kind::Unsigned, "10000", "applied entries between two snapshots"),
    full("snapshot-catchup-entries", Kind::Unsigned, "5000", "applied entries kept in memory for followers that lag"),
    full("max-snapshots", Kind::Unsigned, "5", "snapshot files to keep; 0: all"),
    full("max-wals", Kind::Unsigned, "5", "files of the log to keep; 0: all"),
    full("heartbeat-interval", Kind::Unsigned, "100", "milliseconds between two heartbeats"),
    full("election-timeout", Kind::Unsigned, "1000", "milliseconds without a leader until an election"),
    full("listen-peer-urls", URLS, "http://localhost:2380", "where to listen for other members"),
    full("listen-client-urls", URLS, "http://localhost:2379", "where to listen for clients"),
    full("listen-metrics-urls", URLS, "", "where to answer for metrics and health, and for nothing else"),
    full("quota-backend-bytes", Kind::Signed, "0", "limit of the stored bytes; 0 is 2 GiB, a negative number no limit"),
    full("max-txn-ops", Kind::Unsigned, "128", "most operations of one transaction"),
    full("max-request-bytes", Kind::Unsigned, "1572864", "largest request of a client"),
    full("max-concurrent-streams", Kind::Unsigned32, "4294967295", "most open streams of one client connection"),
    full("grpc-keepalive-min-time", Kind::Duration, "5s", "least time between two pings of a client"),
    full("grpc-keepalive-interval", Kind::Duration, "2h0m0s", "time between two pings to a silent client; 0 leaves it at two hours"),
    full("grpc-keepalive-timeout", Kind::Duration, "20s", "how long to wait for the answer to a ping"),
    full("socket-reuse-port", Kind::Bool, "false", "set SO_REUSEPORT on listeners"),
    full("socket-reuse-address", Kind::Bool, "false", "set SO_REUSEADDR on listeners"),
    full("initial-advertise-peer-urls", URLS, "http://localhost:2380", "where other members reach this one"),
    full("advertise-client-urls", URLS, "http://localhost:2379", "where clients reach this member"),
    full("initial-cluster", Kind::Text, "default=http://localhost:2380", "the members of a new cluster: name=url,name=url"),
    full("initial-cluster-state", Kind::Choice(&["existing", "new"]), "new", "whether the cluster is 'new' or 'existing'"),
    full("initial-cluster-token", Kind::Text, "etcd-cluster", "tells apart clusters with the same members"),
    full("cert-file", Kind::Text, "", "PEM file of the certificate for clients, with its chain"),
    full("key-file", Kind::Text, "", "PEM file of its key"),
    full("client-cert-file", Kind::Text, "", "PEM file of the certificate of connections that this member makes; its own if empty"),
    full("client-key-file", Kind::Text, "", "PEM file of its key"),
    full("client-cert-auth", Kind::Bool, "false", "clients must show a certificate"),
    full("client-crl-file", Kind::Text, "", "DER file of client certificates that are revoked"),
    full("client-cert-allowed-hostname", Kind::Words, "", "names that a client certificate must be for one of, between commas"),
    full("trusted-ca-file", Kind::Text, "", "PEM file of the authorities of client certificates, which are required then"),
    full("auto-tls", Kind::Bool, "false", "make a certificate for clients where none is given"),
    full("self-signed-cert-validity", Kind::Unsigned, "1", "years that such a certificate is valid"),
    full("cipher-suites", Kind::Words, "", "cipher suites of TLS 1.2, between commas; all that are safe if empty"),
    full("tls-min-version", Kind::Text, "TLS1.2", "least version of TLS: TLS1.2 or TLS1.3"),
    full("tls-max-version", Kind::Text, "", "largest version of TLS: TLS1.2 or TLS1.3; any if empty"),
    full("auto-compaction-mode", Kind::Text, "periodic", "'periodic' or 'revision': what --auto-compaction-retention counts"),
    full("auto-compaction-retention", Kind::Text, "0", "what automatic compaction keeps: hours, a duration, or revisions; 0: it is off"),
    full("feature-gates", Kind::FeatureGates, "", "Name=true,Other=false; of etcd's gates LeaseCheckpoint and LeaseCheckpointPersist may be changed"),
    full("cors", Kind::Urls { except: "*" }, "*", "origins that web pages may come from, between commas"),
    full("enable-grpc-gateway", Kind::Bool, "true", "serve the API as JSON below /v3/"),
    full("host-whitelist", Kind::UniqueWords, "*", "host names that plain HTTP requests may name, between commas"),
    full("metrics", Kind::Text, "basic", "'extensive' measures how long the calls of each method take as well"),
    full("logger", Kind::Text, "zap", "layout of the log; only 'zap'"),
    full("log-outputs", Kind::UniqueWords, "default", "'default', 'stderr', 'stdout' or paths of files, between commas"),
    full("log-level", Kind::Text, "info", "debug, info, warn, error, panic or fatal"),
    full("log-format", Kind::Text, "json", "'json' or 'console'"),
    full("watch-progress-notify-interval", Kind::Duration, "0s", "between two progress notices to a watcher that wants them; 0 is 10m"),
    full("warning-apply-duration", Kind::Duration, "100ms", "an entry that takes longer to apply is logged"),
    full("warning-unary-request-duration", Kind::Duration, "300ms", "a call that takes longer is logged"),
    full("v2-deprecation", Kind::Choices(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "write-only", "has no effect"),
    full("unsafe-no-fsync", Kind::Bool, "false", "do not sync files: a crash of the machine loses data"),
    full("version", Kind::Bool, "false", "print the version and exit"),
    // Known, not honoured yet.
    known("initial-election-tick-advance", Kind::Bool, "true"),
    known("listen-client-http-urls", URLS, ""),
    known("memory-mlock", Kind::Bool, "false"),
    known("backend-bbolt-freelist-type", Kind::Text, ""),
    known("backend-batch-interval", Kind::Duration, "0s"),
    known("backend-batch-limit", Kind::Signed, "0"),
    known("raft-read-timeout", Kind::Duration, "5s"),
    known("raft-write-timeout", Kind::Duration, "5s"),
    known("discovery-token", Kind::Text, ""),
    known("discovery-endpoints", Kind::UniqueWords, ""),
    known("discovery-dial-timeout", Kind::Duration, "2s"),
    known("discovery-request-timeout", Kind::Duration, "5s"),
    known("discovery-keepalive-time", Kind::Duration, "2s"),
    known("discovery-keepalive-timeout", Kind::Duration, "6s"),
    known("discovery-insecure-transport", Kind::Bool, "true"),
    known("discovery-insecure-skip-tls-verify", Kind::Bool, "false"),
    known("discovery-cert", Kind::Text, ""),
    known("discovery-key", Kind::Text, ""),
    known("discovery-cacert", Kind::Text, ""),
    known("discovery-user", Kind::Text, ""),
    known("discovery-password", Kind::Text, ""),
    known("discovery-srv", Kind::Text, ""),
    known("discovery-srv-name", Kind::Text, ""),
    known(
        "discovery-fallback",
        Kind::Choice(&["exit", "proxy"]),
        "exit",
    ),
    known("strict-reconfig-check", Kind::Bool, "true"),
    known("pre-vote", Kind::Bool, "true"),
    known("max-learners", Kind::Signed, "1"),
    known("peer-cert-file", Kind::Text, ""),
    known("peer-key-file", Kind::Text, ""),
    known("peer-client-cert-file", Kind::Text, ""),
    known("peer-client-key-file", Kind::Text, ""),
    known("peer-client-cert-auth", Kind::Bool, "false"),
    known("peer-trusted-ca-file", Kind::Text, ""),
    known("peer-auto-tls", Kind::Bool, "false"),
    known("peer-crl-file", Kind::Text, ""),
    known("peer-cert-allowed-cn", Kind::Words, ""),
    known("peer-cert-allowed-hostname", Kind::Words, ""),
    known("peer-skip-client-san-verification", Kind::Bool, "false"),
    known("auth-token", Kind::Text, "simple"),
    known("bcrypt-cost", Kind::Unsigned, "10"),
    known("auth-token-ttl", Kind::Unsigned, "300"),
    known("enable-pprof", Kind::Bool, "false"),
    known("enable-log-rotation", Kind::Bool, "false"),
    known("log-rotation-config-json", Kind::Text, LOG_ROTATION),
    known("enable-distributed-tracing", Kind::Bool, "false"),
    known("distributed-tracing-address", Kind::Text, "localhost:4317"),
    known("distributed-tracing-service-name", Kind::Text, "etcd"),
    known("distributed-tracing-instance-id", Kind::Text, ""),
    known("distributed-tracing-sampling-rate", Kind::Signed, "0"),
    known("corrupt-check-time", Kind::Duration, "0s"),
    known("compact-hash-check-time", Kind::Duration, "1m0s"),
    known("compaction-batch-limit", Kind::Signed, "0"),
    known("compaction-sleep-interval", Kind::Duration, "0s"),
    known("downgrade-check-time", Kind::Duration, "5s"),
    known("bootstrap-defrag-threshold-megabytes", Kind::Unsigned, "0"),
    known("force-new-cluster", Kind::Bool, "false"),
    known("config-file", Kind::Text, ""),
    // Ignored by etcd too.
    ignored("cluster-active-size"),
    ignored("cluster-remove-delay"),
    ignored("cluster-sync-interval"),
    ignored("config"),
    ignored("force"),
    ignored("max-result-buffer"),
    ignored("max-retry-attempts"),
    ignored("peer-heartbeat-interval"),
    ignored("peer-election-timeout"),
    ignored("retry-interval"),
    ignored("snapshot"),
    ignored("v"),
    ignored("vv"),
    ignored("test.coverprofile"),
    ignored("test.outputdir"),
    // etcore's own.
    own("shards", Kind::Unsigned, "0", "threads that serve connections, each with a core of its own; 0 is one for each CPU, 1 does everything on one"),
    own("auto-disarm-space-alarm", Kind::Bool, "false", "disarm this member's NOSPACE alarm once a compaction and a defragmentation have freed a tenth of the quota"),
    own("shard-placement", Kind::Choice(&["auto", "spread", "log"]), "auto", "which shard serves a new connection: auto, the one that writes the log until it is busy, then the least loaded one; spread, one after the other; log, always the one that writes the log"),
];
