//! [`Shard`]: what the services of one executor work with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::view::{Hold, PinnedView, ViewReader};
use net::Limits;
use net::http::HttpRequest;
use proto::etcdserverpb::{InternalRaftRequest, ResponseHeader};

use super::connections::Connections;
use super::handshake::Handshakes;
use super::images::{ImageWaiter, Imaged};
use super::link::Link;
use super::load::Load;
use super::renewals::{RenewalWaiter, Renewed};
use super::reply::{HttpReply, NodeHttpReply, NodeReply, ReplyTo};
use super::turns::{Slice, Turns};
use super::waiter::{Fresh, FreshWaiter, Outcome, Waiter};
use super::watches::{self, Bell, Watches};
use super::{LogShard, Role};
use crate::config::Config;
use crate::errors::FrontError;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::services;
use crate::tls::TlsContext;

/// How long calls under way may take at a graceful end before they are cut off.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at whether the last connections are gone.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The way to the node.
enum Log {
    /// It lives on this executor.
    Here(Rc<LogShard>),
    /// It lives on another one.
    Away(Rc<Link>),
}

/// What only this executor uses, and the handles to what all share.
pub(crate) struct Shard {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Arc<Limits>,
    /// Changed by this shard only; any may read them.
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) load: Arc<Load>,
    pub(crate) connections: Connections,
    pub(super) turns: Rc<Turns>,
    /// `None`: no listener is secure.
    pub(super) tls: Option<Arc<TlsContext>>,
    pub(super) handshakes: Handshakes,
    /// Bytes that answers of the JSON gateway hold.
    pub(super) gateway_held_len: Rc<Cell<usize>>,
    identity: Identity,
    views: RefCell<ViewReader>,
    log: Log,
    pub(crate) watches: Watches,
    /// Unary calls that clients began.
    call_count: Cell<u64>,
}

/// What a shard is made from; may be sent to its thread.
pub(crate) struct Equipment {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) load: Arc<Load>,
    pub(crate) tls: Option<Arc<TlsContext>>,
    pub(crate) identity: Identity,
    pub(crate) views: ViewReader,
    pub(crate) bell: Arc<Bell>,
}

impl Shard {
    /// The shard on the node's executor.
    pub(crate) fn with_log(equipment: Equipment, log: Rc<LogShard>) -> Rc<Self> {
        Self::new(equipment, Log::Here(log))
    }

    /// A shard on another executor.
    pub(super) fn with_link(equipment: Equipment, link: Rc<Link>) -> Rc<Self> {
        Self::new(equipment, Log::Away(link))
    }

    fn new(equipment: Equipment, log: Log) -> Rc<Self> {
        let Equipment {
            config,
            limits,
            metrics,
            load,
            tls,
            identity,
            mut views,
            bell,
        } = equipment;
        let turns = Arc::clone(&metrics);
        driver::observe_turns(move |turn| turns.turn_cpu.observe(turn));
        let options = Watches::options(&config, &identity);
        let watches = Watches::new(options, &views.pin(), bell, Arc::clone(&metrics));
        let shard = Rc::new(Shard {
            config,
            limits,
            metrics,
            load,
            connections: Connections::default(),
            turns: Rc::default(),
            tls,
            handshakes: Handshakes::default(),
            gateway_held_len: Rc::default(),
            identity,
            views: RefCell::new(views),
            log,
            watches,
            call_count: Cell::new(0),
        });
        driver::spawn(watches::run(Rc::clone(&shard))).detach();
        shard
    }

    pub(super) fn on_unary_call(&self) {
        self.call_count.set(self.call_count.get() + 1);
    }

    /// Unary calls that clients began so far. Who sees it grow lets others have the core now and then.
    pub(crate) fn call_count(&self) -> u64 {
        self.call_count.get()
    }

    /// Looks at the newest View. Not to be nested, and not for longer than a slice: it holds memory back.
    pub(crate) fn with_view<T>(&self, look: impl FnOnce(&PinnedView<'_>) -> T) -> T {
        look(&self.views.borrow_mut().pin())
    }

    /// Waits for the right to do a slice, of at most `units` units, of a read that takes more than a moment.
    pub(crate) async fn slice(&self, units: usize) -> Slice {
        self.turns.slice(units).await
    }

    /// The header of a response at `revision` by whoever sees this view.
    pub(crate) fn header_at(&self, view: &PinnedView<'_>, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision,
            raft_term: view.raft_term(),
        }
    }

    /// Proposes a request on behalf of a call, or answers why not.
    pub(crate) fn propose(&self, request: InternalRaftRequest, reply: ReplyTo) {
        match &self.log {
            Log::Here(log) => log.propose_for(request, NodeReply::Call(reply)),
            Log::Away(link) => link.propose(request, reply),
        }
    }

    /// Proposes a request on behalf of a task, and waits for what it comes to.
    pub(crate) async fn propose_and_wait(&self, request: InternalRaftRequest) -> Outcome {
        let (sender, told) = driver::oneshot();
        match &self.log {
            Log::Here(log) => log.propose(request, Waiter::Task(sender))?,
            // Nobody listens any more: the task was dropped.
            Log::Away(link) => link.propose_then(request, move |outcome| {
                drop(sender.send(outcome));
            }),
        }
        told.await.unwrap_or(Err(FrontError::Stopped))
    }

    /// Keeps a revision from being swept until the hold is dropped; see [`ViewReader::hold`].
    pub(crate) fn hold(&self, revision: i64) -> Option<Hold> {
        self.views.borrow().hold(revision)
    }

    /// Goes on once the newest View is no older than this call. With `is_serializable` any will do.
    pub(crate) fn when_fresh(&self, is_serializable: bool, then: impl FnOnce(Fresh) + 'static) {
        if is_serializable || self.with_view(|view| view.is_linearizable()) {
            return then(Ok(()));
        }
        self.wait_fresh(then);
    }

    /// Goes on after a read-index round, when the newest View is no older than this call.
    pub(crate) fn wait_fresh(&self, then: impl FnOnce(Fresh) + 'static) {
        match &self.log {
            Log::Here(log) => log.wait_fresh(FreshWaiter::Then(Box::new(then))),
            Log::Away(link) => link.wait_fresh(Box::new(then)),
        }
    }

    /// Waits until the newest View is no older than this call.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn freshness(&self) -> Fresh {
        let (sender, told) = driver::oneshot();
        self.when_fresh(false, move |fresh| {
            // Nobody listens any more: the task was dropped.
            let _ = sender.send(fresh);
        });
        told.await.unwrap_or(Err(FrontError::Stopped))
    }

    /// Renews leases; `then` is told their times to live, 0 for those that are gone.
    pub(crate) fn renew(&self, ids: Vec<i64>, then: impl FnOnce(Renewed) + 'static) {
        match &self.log {
            Log::Here(log) => log.renew(ids, RenewalWaiter::Then(Box::new(then))),
            Log::Away(link) => link.renew(ids, then),
        }
    }

    /// Gets an image of the store in which all is that is applied now.
    pub(crate) async fn image(&self) -> Imaged {
        let (sender, told) = driver::oneshot();
        // Nobody listens any more: the task was dropped.
        let then = move |image| drop(sender.send(image));
        match &self.log {
            Log::Here(log) => log.image(ImageWaiter::Then(Box::new(then))),
            Log::Away(link) => link.image(then),
        }
        told.await.unwrap_or(Err(FrontError::Stopped))
    }

    /// Has the node serve a call.
    pub(crate) fn call_node(&self, payload: Bytes, reply: ReplyTo) {
        match &self.log {
            Log::Here(log) => {
                let method = reply.method;
                services::serve_by_node(log, method, payload, NodeReply::Call(reply));
            }
            Log::Away(link) => link.call(payload, reply),
        }
    }

    /// Has the node answer a plain HTTP request.
    pub(crate) fn ask_http(&self, role: Role, request: HttpRequest, reply: HttpReply) {
        match &self.log {
            Log::Here(log) => {
                services::http::answer(log, role, &request, NodeHttpReply::Call(reply));
            }
            Log::Away(link) => link.ask_http(role, request, reply),
        }
    }

    /// Refuses what the backend has no room for, and raises the alarm that keeps all members from growing.
    ///
    /// # Errors
    /// [`FrontError::NoSpace`].
    pub(crate) fn claim(&self, cost_bytes: u64) -> Result<(), FrontError> {
        match &self.log {
            Log::Here(log) => log.claim(cost_bytes),
            Log::Away(link) => {
                let size_bytes = self.with_view(|view| view.db_size());
                let quota_bytes = self.config.quota_backend_bytes;
                if has_room(quota_bytes, size_bytes, cost_bytes) {
                    return Ok(());
                }
                link.raise_space_alarm();
                Err(FrontError::NoSpace)
            }
        }
    }

    /// Asks all clients to finish, and waits until they have or [`DRAIN_TIMEOUT`] is over.
    pub(super) async fn drain(&self) {
        self.connections.shut_down();
        self.watches.close_all(false, &FrontError::Stopped.status());
        let deadline = driver::now() + DRAIN_TIMEOUT;
        while self.connections.len() > 0 && driver::now() < deadline {
            driver::sleep(DRAIN_POLL_INTERVAL).await;
        }
    }
}

/// The node's own rule ([`LogShard::claim`]), with what a View knows.
fn has_room(quota_bytes: Option<u64>, size_bytes: u64, cost_bytes: u64) -> bool {
    let is_over = |quota: u64| size_bytes.saturating_add(cost_bytes) >= quota;
    cost_bytes == 0 || !quota_bytes.is_some_and(is_over)
}
