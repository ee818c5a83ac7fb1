//! From a configuration and a directory to a node that can turn, and to the shards around it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::consensus::ConsensusOptions;
use engine::lease::ExpiryOptions;
use engine::membership::Member;
use engine::node::{CheckpointOptions, Node, NodeOptions, bootstrap_log};
use engine::state::StateOptions;
use engine::store::Store;
use engine::wal::{Wal, WalOptions};
use net::Limits;

use super::MemberError;
use super::files::Files;
use super::resume::resume;
use crate::config::{ClusterState, Config};
use crate::gateway::STREAMED_PREFIXES;
use crate::identity::{Identity, initial_members};
use crate::logging;
use crate::metrics::Metrics;
use crate::peer;
use crate::shard::{Disks, Equipment, Fleet, FleetError, Load, LogShard, shard_count};
use crate::storage::{
    self, DiskObserver, Retention, Storage, StorageOptions, StoreDisk, StoredLog,
};
use crate::tls::TlsContext;

/// Bytes that log entries kept in memory for followers may take.
const CATCH_UP_SIZE_BYTES: usize = 16 << 20;

/// How often the remaining time of a long lease goes into the log, if at all; etcd's.
const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What JSON may add to the base64 of a message in a request by the gateway.
const HTTP_BODY_ROOM_BYTES: usize = 64 * 1024;

/// A node that can turn.
pub(super) struct Started {
    pub(super) log: Rc<LogShard>,
    pub(super) files: Files,
    /// Members that the node does not know of yet.
    pub(super) remotes: Vec<Member>,
}

/// Claims the directory, reads the log or begins one, and makes the node.
pub(super) async fn start_log(config: &Arc<Config>) -> Result<Started, MemberError> {
    let all_metrics: Vec<Arc<Metrics>> = (0..shard_count(config))
        .map(|_| Arc::new(Metrics::new(config.call_durations)))
        .collect();
    let metrics = all_metrics.first().cloned().unwrap_or_default();
    let observer: Rc<dyn DiskObserver> = Rc::new(Arc::clone(&metrics));
    let options = StorageOptions {
        data_dir: config.data_dir.clone(),
        wal_dir: config.dedicated_wal_dir.clone(),
        unsafe_no_fsync: config.unsafe_no_fsync,
        retention: Retention {
            wals_max: config.wals_max,
            snapshots_max: config.snapshots_max,
        },
    };
    let Storage {
        disk,
        log,
        mut store,
        snapshots,
        found,
    } = storage::open(&options, observer).await?;
    let files = Files::new(config, &store);
    let mut remotes = Vec::new();
    let node = match log {
        StoredLog::Existing(recovered) => {
            resume(config, recovered, &mut store, &found, &files).await?
        }
        StoredLog::New => match config.initial_cluster_state {
            ClusterState::New => begin(config, &store, &files)?,
            ClusterState::Existing => {
                let joined = peer::join(config, &config.bootstrap()?).await?;
                remotes = joined.remotes;
                begin_empty(config, joined.identity, &store, &files)?
            }
        },
    };
    metrics.node.set_member_id(node.options().member_id);
    logging::info!(
        "starting a member",
        "member-id" => format!("{:x}", node.options().member_id),
        "cluster-id" => format!("{:x}", node.options().cluster_id),
        "applied-index" => node.applied_index(),
        "revision" => node.view().revision(),
        "shards" => all_metrics.len()
    );
    let disks = Disks {
        wal: disk,
        store,
        snapshots,
    };
    let log = LogShard::new(Arc::clone(config), all_metrics, node, disks);
    Ok(Started {
        log,
        files,
        remotes,
    })
}

/// Starts all shards around the node.
pub(super) fn start_fleet(
    log: &Rc<LogShard>,
    tls: Option<Arc<TlsContext>>,
) -> Result<Rc<Fleet>, MemberError> {
    let limits = Arc::new(limits(&log.config));
    let equip = |(shard_no, metrics): (usize, &Arc<Metrics>)| {
        let views = log.views().reader();
        Ok(Equipment {
            config: Arc::clone(&log.config),
            limits: Arc::clone(&limits),
            metrics: Arc::clone(metrics),
            load: Arc::new(Load::default()),
            tls: tls.clone(),
            bell: Arc::default(),
            identity: log.identity(),
            views: views.ok_or(FleetError::NoReader(shard_no))?,
        })
    };
    let mut equipments = log.all_metrics().iter().enumerate().map(equip);
    let own = equipments.next().ok_or(FleetError::NoReader(0))??;
    let others = equipments.collect::<Result<Vec<_>, FleetError>>()?;
    Ok(Fleet::launch(log, own, others)?)
}

/// The node of a member that starts for the first time.
fn begin(config: &Config, disk: &StoreDisk, files: &Files) -> Result<Node, MemberError> {
    let members = initial_members(&config.bootstrap()?);
    let identity = Identity::of_bootstrap(&config.name, &members);
    let (entries, hard_state) = bootstrap_log(&members)?;
    let wal = Wal::create(identity.metadata(), WalOptions::default());
    let options = node_options(config, identity);
    let store = Store::create(disk.pages());
    Node::bootstrap(options, wal, entries, hard_state, store).map_err(|error| files.start(error))
}

/// The node of a member that starts for the first time in a cluster that runs: it is sent everything.
fn begin_empty(
    config: &Config,
    identity: Identity,
    disk: &StoreDisk,
    files: &Files,
) -> Result<Node, MemberError> {
    let wal = Wal::create(identity.metadata(), WalOptions::default());
    let store = Store::create(disk.pages());
    Node::join(node_options(config, identity), wal, store).map_err(|error| files.start(error))
}

pub(super) fn node_options(config: &Config, identity: Identity) -> NodeOptions {
    let started_unix_ms = unix_ms();
    let election_ticks = config.election_ticks();
    NodeOptions {
        member_id: identity.member_id,
        cluster_id: identity.cluster_id,
        max_request_bytes: config.max_request_bytes,
        consensus: ConsensusOptions {
            id: identity.member_id,
            election_ticks,
            heartbeat_ticks: 1,
            pre_vote: true,
            seed: identity.member_id ^ started_unix_ms,
            catch_up_entry_count: config.snapshot_catch_up_entry_count,
            catch_up_size_bytes: CATCH_UP_SIZE_BYTES,
        },
        state: StateOptions {
            lease_ttl_min: lease_ttl_min(config),
            quota_bytes: config.quota_backend_bytes,
            lease_checkpoint_persist: config.lease_checkpoint_persist,
        },
        started_unix_ms,
        max_learners: 1,
        snapshot_count: config.snapshot_count,
        checkpoints: CheckpointOptions::default(),
        leases: ExpiryOptions {
            checkpoint_interval: config
                .lease_checkpoints
                .then_some(LEASE_CHECKPOINT_INTERVAL),
        },
        tick: config.heartbeat_interval,
    }
}

/// Shortest lease in seconds: one and a half elections, so that it outlives a change of leader.
fn lease_ttl_min(config: &Config) -> i64 {
    let ticks = (3 * config.election_ticks()).div_ceil(2) as u128;
    let ms = ticks * config.heartbeat_interval.as_millis();
    i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// The wall clock, in milliseconds since 1970; for ids, never for order.
fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What one client's connection may use up.
fn limits(config: &Config) -> Limits {
    let defaults = Limits::default();
    let message_bytes_max = config.received_message_bytes_max();
    Limits {
        concurrent_streams_max: config.max_concurrent_streams,
        message_bytes_max,
        // One of the largest, and as much of others meanwhile.
        buffer_bytes_max: defaults
            .buffer_bytes_max
            .max(message_bytes_max.saturating_mul(2)),
        // As much in base64, and some room around it.
        http_body_bytes_max: (message_bytes_max / 3)
            .saturating_mul(4)
            .saturating_add(HTTP_BODY_ROOM_BYTES),
        streamed_prefixes: STREAMED_PREFIXES,
        ping_interval_min: config.keepalive.client_interval_min,
        keepalive_interval: Some(config.keepalive.interval).filter(|i| !i.is_zero()),
        keepalive_timeout: config.keepalive.timeout,
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::limits;
    use crate::config::{self, Environment, Startup};

    /// A connection has room for the largest message that is allowed, whatever that is.
    #[test]
    fn the_largest_message_finds_room() {
        for allowed in [
            "1",
            "1572864",
            "69206016",
            "1073741824",
            "18446744073709551615",
        ] {
            let line = [
                "etcore".to_owned(),
                format!("--max-request-bytes={allowed}"),
            ];
            let environment = Environment {
                variables: Vec::new(),
                default_host: || Ok(IpAddr::from([127, 0, 0, 1])),
            };
            let Startup::Run(config, _) = config::read(&line, &environment) else {
                panic!("{allowed} is refused")
            };
            let limits = limits(&config);
            assert!(limits.message_bytes_max >= config.max_request_bytes);
            assert!(
                limits.buffer_bytes_max >= limits.message_bytes_max,
                "{allowed}"
            );
        }
    }
}
