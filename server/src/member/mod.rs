//! The life of one member: claim the directory, recover, serve, drain.
//!
//! ```text
//!  listeners bound -> directory locked -> WAL read -> Node -> log shard turning -> other shards -> published -> ready
//!       SIGTERM, SIGINT -> no new connections or calls -> calls under way answered -> WAL closed -> the signal again
//!       the node or a shard fails -> the end, with a message
//! ```
//! A port that is taken is found out before the directory is touched, as etcd does.

mod bind;
mod files;
mod publish;
mod resume;
mod start;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use driver::{Mailbox, Notify, Task};
use engine::backend::Damage;
use engine::boot::BootError;
use engine::node::{NodeFailure, StartError};
use engine::state::RestoreError;
use engine::store::OpenError;

use crate::config::{BootstrapError, Config, ListenUrl};
use crate::identity::BadMetadata;
use crate::logging;
pub use crate::peer::JoinError;
use crate::peer::{self, Peers};
pub use crate::shard::FleetError;
use crate::shard::{Fleet, LogShard, Role, listen};
use crate::storage;
use crate::tls::{TlsContext, TlsContextError};
use bind::Bound;
use files::Files;
use start::Started;

/// Why a member could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The text is the one of Go's `net` package, which operators grep for.
    #[error("listen {network} {address}: bind: {reason}")]
    Listen {
        network: &'static str,
        address: String,
        reason: String,
    },
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsContextError),
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The cluster that this member shall join cannot be reached, or is another one.
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Metadata(#[from] BadMetadata),
    #[error("the first log entries cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// Files of the data directory contradict each other.
    #[error("{}: {source}", data_dir.display())]
    Boot {
        data_dir: PathBuf,
        source: BootError,
    },
    /// The database cannot be opened; the reason says what to do.
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: OpenError },
    /// The database is not what was written to it: found at start, while serving, or by the last checkpoint.
    #[error(
        "{}: {damage}; the database is damaged: check the disk, then restore this member from a snapshot, or remove it \
         from the cluster and add it anew with an empty data directory",
        path.display()
    )]
    Damaged { path: PathBuf, damage: Damage },
    /// The database holds what this version does not serve.
    #[error("{}: {source}", path.display())]
    Restore { path: PathBuf, source: RestoreError },
    #[error(
        "the write-ahead log holds nothing to start from: remove the data directory to start anew"
    )]
    NothingToResume,
    #[error(transparent)]
    Start(StartError),
    #[error(transparent)]
    Failed(NodeFailure),
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// Why the member ends.
enum End {
    /// This signal asked for it.
    Signal(i32),
    /// The log shard returned.
    Log(Result<(), NodeFailure>),
    /// Another shard did.
    Fleet(FleetError),
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

/// Runs the member on the present executor, and its other shards on threads, until a signal ends it, and returns that
/// signal.
///
/// # Errors
/// A [`MemberError`], already with what to do.
pub async fn run(config: Arc<Config>, signals: Mailbox<i32>) -> Result<i32, MemberError> {
    let peer_listeners = bind::bind_all(&config, &config.listen_peer_urls, Role::Client).await?;
    let client_listeners =
        bind::bind_all(&config, &config.listen_client_urls, Role::Client).await?;
    let metrics_listeners =
        bind::bind_all(&config, &config.listen_metrics_urls, Role::Metrics).await?;
    let tls = load_tls(&config)?;
    let Started {
        log,
        files,
        remotes,
    } = start::start_log(&config).await?;

    let ending = Rc::new(Ending::default());
    spawn_turning(&log, &ending);
    let ticker = driver::spawn(tick(Rc::clone(&log)));
    let fleet = start::start_fleet(&log, tls)?;
    fleet.wait_started().await?;
    let watching = spawn_watching(&fleet, &ending);
    let accept = |bound: Vec<Bound>| {
        let accept = |b: Bound| driver::spawn(listen(Rc::clone(&fleet), b.listener, b.entrance));
        bound.into_iter().map(accept).collect::<Vec<_>>()
    };
    let peers = Peers::start(&log, &remotes);
    let mut accepting: Vec<_> = peer_listeners
        .into_iter()
        .map(|bound| driver::spawn(peer::listen(Rc::clone(&peers), bound.listener)))
        .collect();
    // Whoever asks how this member is may do so before it serves anybody.
    accepting.extend(accept(metrics_listeners));
    log_metrics(&config);
    spawn_signals(signals, &ending);
    let publishing = {
        let (log, ending) = (Rc::clone(&log), Rc::clone(&ending));
        driver::spawn(async move {
            publish::publish(&log).await;
            ending.told.notify();
        })
    };
    // Requests work from here on, so this is the moment to let clients in.
    let reason = match wait_published(&log, &ending).await {
        Some(reason) => reason,
        None => {
            accepting.extend(accept(client_listeners));
            log_ready(&config);
            ending.wait().await
        }
    };
    drop(publishing);
    let signal = match reason {
        End::Signal(signal) => signal,
        End::Log(result) => {
            log.abandon_waiters();
            return result.map(|()| 0).map_err(|failure| files.failure(failure));
        }
        End::Fleet(error) => return Err(error.into()),
    };
    logging::info!("received signal; shutting down", "signal" => signal_name(signal));
    drop((accepting, watching));
    drain(&log, &fleet, &ending, &files).await?;
    drop(ticker);
    Ok(signal)
}

/// The first signal is a reason to end.
fn spawn_signals(mut signals: Mailbox<i32>, ending: &Rc<Ending>) {
    let ending = Rc::clone(ending);
    driver::spawn(async move {
        if let Some(signal) = signals.recv().await {
            ending.tell(End::Signal(signal));
        }
    })
    .detach();
}

/// The end of a shard is an end of the member, unless it was told to end.
fn spawn_watching(fleet: &Rc<Fleet>, ending: &Rc<Ending>) -> Task<()> {
    let (fleet, ending) = (Rc::clone(fleet), Rc::clone(ending));
    driver::spawn(async move {
        let error = fleet.wait_failed().await;
        ending.tell(End::Fleet(error));
    })
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
        if reason.is_some() || publish::is_published(shard) {
            return reason;
        }
        ending.told.notified().await;
    }
}

/// Answers what is under way, refuses the rest, and closes the log.
async fn drain(
    log: &LogShard,
    fleet: &Fleet,
    ending: &Ending,
    files: &Files,
) -> Result<(), MemberError> {
    fleet.drain().await;
    log.stop();
    match ending.wait().await {
        End::Log(result) => {
            result.map_err(|failure| files.failure(failure))?;
            log.save_index().await;
            Ok(())
        }
        // A second signal: the operator is in a hurry, and the log is durable as it is.
        End::Signal(_) | End::Fleet(_) => Ok(()),
    }
}

/// Reads the files of TLS if a listener needs them. At the start nobody waits for it.
fn load_tls(config: &Config) -> Result<Option<Arc<TlsContext>>, MemberError> {
    let mut urls = config
        .listen_client_urls
        .iter()
        .chain(&config.listen_metrics_urls);
    let is_needed = urls.any(ListenUrl::is_secure);
    match &config.client_tls {
        Some(options) if is_needed => Ok(Some(Arc::new(TlsContext::load(options)?))),
        _ => Ok(None),
    }
}

fn log_metrics(config: &Config) {
    for listen in &config.listen_metrics_urls {
        logging::info!("serving metrics", "address" => listen.url.to_string());
    }
}

fn log_ready(config: &Config) {
    for listen in &config.listen_client_urls {
        let text = match listen.is_secure() {
            true => "serving client traffic securely",
            false => "serving client traffic insecurely; this is strongly discouraged!",
        };
        logging::info!(text, "traffic" => "grpc+http", "address" => listen.address.to_string());
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
