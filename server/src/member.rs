//! The life of one member: claim the directory, recover, serve, drain.
//!
//! ```text
//!  listeners bound -> directory locked -> WAL read -> Node -> log shard turning -> published -> ready
//!       SIGTERM, SIGINT -> no new connections or calls -> calls under way answered -> WAL closed -> the signal again
//! ```
//! A port that is taken is found out before the directory is touched, as etcd does.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driver::{ListenOptions, Listener, Mailbox, Notify};
use engine::consensus::ConsensusOptions;
use engine::node::{Node, NodeFailure, NodeOptions, bootstrap_log};
use engine::state::StateOptions;
use engine::wal::{Recovered, Wal, WalOptions};
use net::Limits;
use proto::etcdserverpb::InternalRaftRequest;
use proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use crate::config::{BootstrapError, Config, ListenUrl, Url};
use crate::identity::{BadMetadata, Identity, initial_members};
use crate::logging;
use crate::metrics::Metrics;
use crate::shard::{LogShard, Role, Waiter, listen};
use crate::storage::{self, DiskObserver, Storage, StorageOptions, StoredLog};
use crate::version;

/// How long calls under way may take at a graceful end before they are cut off.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at whether the last connections are gone.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long a taken port is tried again; see [`bind`].
const BIND_PATIENCE: Duration = Duration::from_secs(1);
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Log entries kept in memory for followers that lag; etcd's default of `snapshot-catchup-entries`.
const CATCH_UP_ENTRY_COUNT: usize = 5000;
/// Bytes those entries may take.
const CATCH_UP_SIZE_BYTES: usize = 16 << 20;
/// Pause between two tries to publish this member when the former one was not applied.
const PUBLISH_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Why a member could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The text is the one of Go's `net` package, which operators grep for.
    #[error("listen tcp {address}: bind: {reason}")]
    Listen { address: String, reason: String },
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Metadata(#[from] BadMetadata),
    #[error("the first log entries cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Start(#[from] engine::node::StartError),
    #[error(transparent)]
    Failed(#[from] NodeFailure),
}

/// Why the member ends.
enum End {
    /// This signal asked for it.
    Signal(i32),
    /// The log shard returned.
    Log(Result<(), NodeFailure>),
}

/// The first reason to end, and whoever waits for one.
#[derive(Default)]
struct Ending {
    reason: RefCell<Option<End>>,
    told: Notify,
}

impl Ending {
    fn tell(&self, reason: End) {
        self.reason.borrow_mut().get_or_insert(reason);
        self.told.notify();
    }

    async fn wait(&self) -> End {
        loop {
            let reason = self.reason.borrow_mut().take();
            match reason {
                Some(reason) => return reason,
                None => self.told.notified().await,
            }
        }
    }
}

/// Runs the member on the present executor until a signal ends it, and returns that signal.
///
/// # Errors
/// A [`MemberError`], already with what to do.
pub async fn run(config: Rc<Config>, mut signals: Mailbox<i32>) -> Result<i32, MemberError> {
    let peer_listeners = bind_all(&config, &config.listen_peer_urls).await?;
    let client_listeners = bind_all(&config, &config.listen_client_urls).await?;
    let shard = start_shard(&config).await?;

    let ending = Rc::new(Ending::default());
    spawn_turning(&shard, &ending);
    let ticker = driver::spawn(tick(Rc::clone(&shard)));
    let limits = Arc::new(limits(&config));
    let accept = |listeners: Vec<Listener>, role| {
        let accept = |l| driver::spawn(listen(Rc::clone(&shard), l, Arc::clone(&limits), role));
        listeners.into_iter().map(accept).collect::<Vec<_>>()
    };
    let mut accepting = accept(peer_listeners, Role::Peer);
    {
        let ending = Rc::clone(&ending);
        driver::spawn(async move {
            if let Some(signal) = signals.recv().await {
                ending.tell(End::Signal(signal));
            }
        })
        .detach();
    }
    let publishing = {
        let (shard, ending) = (Rc::clone(&shard), Rc::clone(&ending));
        driver::spawn(async move {
            publish(&shard).await;
            ending.told.notify();
        })
    };
    // Requests work from here on, so this is the moment to let clients in.
    let reason = match wait_published(&shard, &ending).await {
        Some(reason) => reason,
        None => {
            accepting.extend(accept(client_listeners, Role::Client));
            log_ready(&config);
            ending.wait().await
        }
    };
    drop(publishing);
    let signal = match reason {
        End::Signal(signal) => signal,
        End::Log(result) => {
            shard.abandon_waiters();
            result?;
            return Ok(0);
        }
    };
    logging::info!("received signal; shutting down", "signal" => signal_name(signal));
    drop(accepting);
    drain(&shard, &ending).await?;
    drop(ticker);
    Ok(signal)
}

/// Lets the log shard turn; its end is an end of the member.
fn spawn_turning(shard: &Rc<LogShard>, ending: &Rc<Ending>) {
    let (shard, ending) = (Rc::clone(shard), Rc::clone(ending));
    driver::spawn(async move {
        let result = shard.run().await;
        ending.tell(End::Log(result));
    })
    .detach();
}

async fn tick(shard: Rc<LogShard>) {
    loop {
        driver::sleep(shard.config.heartbeat_interval).await;
        shard.tick();
    }
}

/// Waits until this member is known to itself, or until there is a reason to end before.
async fn wait_published(shard: &LogShard, ending: &Ending) -> Option<End> {
    loop {
        let reason = ending.reason.borrow_mut().take();
        if reason.is_some() || is_published(shard) {
            return reason;
        }
        ending.told.notified().await;
    }
}

fn is_published(shard: &LogShard) -> bool {
    shard.with_node(|node| {
        let own = node.membership().member(node.options().member_id);
        let is_named = own.is_some_and(|m| {
            m.name == shard.config.name && m.client_urls == client_urls(&shard.config)
        });
        is_named && node.membership().cluster_version().is_some() && node.is_view_linearizable()
    })
}

fn client_urls(config: &Config) -> Vec<String> {
    config
        .advertise_client_urls
        .iter()
        .map(Url::to_string)
        .collect()
}

/// Tells the cluster this member's name and client URLs, and as its leader the cluster's version.
async fn publish(shard: &Rc<LogShard>) {
    let member_id = shard.with_node(|node| node.options().member_id);
    while !is_published(shard) {
        let attributes = Attributes {
            name: shard.config.name.clone(),
            client_urls: client_urls(&shard.config),
        };
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
                member_id,
                member_attributes: Some(attributes),
            }),
            ..InternalRaftRequest::default()
        };
        let is_done = propose_and_wait(shard, request).await && publish_version(shard).await;
        if !is_done {
            driver::sleep(PUBLISH_RETRY_INTERVAL).await;
        }
    }
}

async fn publish_version(shard: &Rc<LogShard>) -> bool {
    if shard.with_node(|node| node.membership().cluster_version().is_some()) {
        return true;
    }
    let request = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest {
            ver: version::CLUSTER.to_owned(),
        }),
        ..InternalRaftRequest::default()
    };
    propose_and_wait(shard, request).await
}

/// True if the request was applied.
async fn propose_and_wait(shard: &LogShard, request: InternalRaftRequest) -> bool {
    let (sender, outcome) = driver::oneshot();
    if shard.propose(request, Waiter::Task(sender)).is_err() {
        return false;
    }
    matches!(outcome.await, Ok(Ok(Ok(_))))
}

/// Answers what is under way, refuses the rest, and closes the log.
async fn drain(shard: &Rc<LogShard>, ending: &Ending) -> Result<(), MemberError> {
    shard.connections.shut_down();
    let deadline = driver::now() + DRAIN_TIMEOUT;
    while shard.connections.len() > 0 && driver::now() < deadline {
        driver::sleep(DRAIN_POLL_INTERVAL).await;
    }
    shard.stop();
    match ending.wait().await {
        End::Log(result) => Ok(result?),
        // A second signal: the operator is in a hurry, and the log is durable as it is.
        End::Signal(_) => Ok(()),
    }
}

/// Claims the directory, reads the log or begins one, and makes the node.
async fn start_shard(config: &Rc<Config>) -> Result<Rc<LogShard>, MemberError> {
    let metrics = Rc::new(Metrics::default());
    let observer: Rc<dyn DiskObserver> = Rc::<Metrics>::clone(&metrics);
    let options = StorageOptions {
        data_dir: config.data_dir.clone(),
        wal_dir: config.dedicated_wal_dir.clone(),
        unsafe_no_fsync: config.unsafe_no_fsync,
    };
    let Storage { disk, log } = storage::open(&options, observer).await?;
    let node = match log {
        StoredLog::Existing(recovered) => continue_log(config, recovered)?,
        StoredLog::New => begin_log(config)?,
    };
    metrics.node.set_member_id(node.options().member_id);
    logging::info!(
        "starting a member",
        "member-id" => format!("{:x}", node.options().member_id),
        "cluster-id" => format!("{:x}", node.options().cluster_id),
        "applied-index" => node.applied_index(),
        "revision" => node.view().revision()
    );
    Ok(LogShard::new(Rc::clone(config), metrics, node, disk))
}

/// The node of a member that ran before.
fn continue_log(config: &Config, recovered: Recovered) -> Result<Node, MemberError> {
    if let Some(cut) = &recovered.cut {
        logging::warn!("the end of the write-ahead log was torn by a crash and is cut", "cut" => cut.to_string());
    }
    let identity = Identity::of_log(&recovered.metadata)?;
    let wal = Wal::resume(&recovered, WalOptions::default());
    Ok(Node::restart(
        node_options(config, identity),
        wal,
        recovered,
    )?)
}

/// The node of a member that starts for the first time.
fn begin_log(config: &Config) -> Result<Node, MemberError> {
    let members = initial_members(&config.bootstrap()?);
    let identity = Identity::of_bootstrap(&config.name, &members);
    let (entries, hard_state) = bootstrap_log(&members)?;
    let wal = Wal::create(identity.metadata(), WalOptions::default());
    Ok(Node::bootstrap(
        node_options(config, identity),
        wal,
        entries,
        hard_state,
    )?)
}

fn node_options(config: &Config, identity: Identity) -> NodeOptions {
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
            catch_up_entry_count: CATCH_UP_ENTRY_COUNT,
            catch_up_size_bytes: CATCH_UP_SIZE_BYTES,
        },
        state: StateOptions {
            lease_ttl_min: lease_ttl_min(config),
            quota_bytes: config.quota_backend_bytes,
            ..StateOptions::default()
        },
        started_unix_ms,
        max_learners: 1,
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

async fn bind_all(config: &Config, urls: &[ListenUrl]) -> Result<Vec<Listener>, MemberError> {
    let mut listeners = Vec::with_capacity(urls.len());
    for listen in urls {
        listeners.push(bind(config, listen.address).await?);
    }
    Ok(listeners)
}

/// Binds, and gives the kernel a moment to take the port from a process that was just killed: sockets that an
/// io_uring still polls outlive their process by some milliseconds.
async fn bind(config: &Config, address: SocketAddr) -> Result<Listener, MemberError> {
    let options = ListenOptions {
        reuse_port: config.socket.reuse_port,
        ..ListenOptions::default()
    };
    let deadline = driver::now() + BIND_PATIENCE;
    loop {
        let error = match Listener::bind(address, options) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::AddrInUse || driver::now() >= deadline {
            let reason = bind_reason(&error);
            return Err(MemberError::Listen {
                address: address.to_string(),
                reason,
            });
        }
        driver::sleep(BIND_RETRY_INTERVAL).await;
    }
}

/// The words that Go uses for the usual causes.
fn bind_reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address already in use".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        concurrent_streams_max: config.max_concurrent_streams,
        message_bytes_max: config.received_message_bytes_max(),
        ping_interval_min: config.keepalive.client_interval_min,
        keepalive_interval: Some(config.keepalive.interval).filter(|i| !i.is_zero()),
        keepalive_timeout: config.keepalive.timeout,
        ..Limits::default()
    }
}

fn log_ready(config: &Config) {
    for listen in &config.listen_client_urls {
        logging::info!("serving client traffic insecurely; this is strongly discouraged!",
            "traffic" => "grpc+http", "address" => listen.address.to_string());
    }
    logging::info!("ready to serve client requests");
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGINT => "interrupt",
        libc::SIGTERM => "terminated",
        _ => "signal",
    }
}
