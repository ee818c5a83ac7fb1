//! The other shards: their threads, what they are sent, and their end.
//!
//! ```text
//!  launch -> threads started -> connections placed ... -> drain -> each ends by itself
//!                                    `-> one that ends before is the end of the member
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use driver::{ExecutorConfig, Mailbox, MailboxSender, Notify, SendError, Stream};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::ask::{AskBatch, ShardNo, ToShard};
use super::core::{DRAIN_TIMEOUT, Equipment};
use super::link::{BATCH_COUNT_MAX, Link};
use super::load::{Load, measure};
use super::placement::Placement;
use super::port::Port;
use super::turns::Turn;
use super::{Connection, Entrance, LogShard, Shard};
use crate::config::Config;
use crate::logging;

/// Connections that may be on their way to one shard; past it the log shard serves them itself.
const HANDED_COUNT_MAX: usize = 4096;

/// A shard that could not be started, or ended before its time. The member must stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    #[error("shard {shard_no} has ended: {reason}")]
    Ended { shard_no: usize, reason: String },
    #[error("shard {shard_no} cannot start: {reason}")]
    Start { shard_no: usize, reason: String },
    /// More shards than the published state has room for.
    #[error("shard {0} cannot start: all places for readers of the state are taken")]
    NoReader(usize),
}

/// What a shard's thread tells.
#[derive(Debug)]
enum ShardEvent {
    Started,
    Ended(ShardNo, Result<(), String>),
}

/// All shards, as the log shard sees them.
pub(crate) struct Fleet {
    own: Rc<Shard>,
    others: Vec<Other>,
    placement: Placement,
    crew: Crew,
}

struct Other {
    inbox: MailboxSender<ToShard>,
    load: Arc<Load>,
}

/// What is known of the other shards' threads.
#[derive(Default)]
struct Crew {
    started: Cell<usize>,
    ended: Cell<usize>,
    is_draining: Cell<bool>,
    /// The first one that ended without being told to.
    failure: RefCell<Option<FleetError>>,
    changed: Notify,
}

/// How many shards this configuration asks for.
pub(crate) fn shard_count(config: &Config) -> usize {
    config.shard_count.map_or(cpus().len().max(1), usize::from)
}

impl Fleet {
    /// Makes the log shard's own share, and starts a thread for each other equipment.
    ///
    /// # Errors
    /// [`FleetError::Start`]: the system gives no thread.
    pub(crate) fn launch(
        log: &Rc<LogShard>,
        own: Equipment,
        others: Vec<Equipment>,
    ) -> Result<Rc<Self>, FleetError> {
        let placement_rule = own.config.shard_placement;
        let mut loads = vec![Arc::clone(&own.load)];
        let own = Shard::with_log(own, Rc::clone(log));
        driver::spawn(measure(Rc::clone(&own))).detach();

        let (to_log, questions) = driver::mailbox(BATCH_COUNT_MAX * others.len().max(1));
        let (tell, events) = driver::mailbox(2 * others.len().max(1));
        let cpus = cpus();
        let mut bells = Vec::with_capacity(others.len());
        let mut fleet_others = Vec::with_capacity(others.len());
        for (position, equipment) in others.into_iter().enumerate() {
            let shard_no = position + 1;
            let (inbox, messages) = driver::mailbox(BATCH_COUNT_MAX + HANDED_COUNT_MAX + 2);
            let load = Arc::clone(&equipment.load);
            bells.push((Arc::clone(&equipment.bell), inbox.clone()));
            loads.push(Arc::clone(&load));
            Recruit {
                shard_no,
                // One that shares its core with the others need not be pinned to it.
                cpu: (cpus.len() > 1).then(|| cpus[shard_no % cpus.len()]),
                equipment,
                to_log: to_log.clone(),
                messages,
                tell: tell.clone(),
            }
            .start()?;
            fleet_others.push(Other { inbox, load });
        }
        if !fleet_others.is_empty() {
            let port = Port::new(fleet_others.iter().map(|other| other.inbox.clone()));
            driver::spawn(Rc::clone(&port).listen(Rc::clone(log), questions)).detach();
            driver::spawn(port.speak()).detach();
        }
        let watching = Rc::clone(&own);
        log.on_new_view(move || {
            watching.watches.wake();
            for (bell, inbox) in &bells {
                if bell.ring() {
                    // It fails only for a shard that has ended; there is a place for it, as it is not sent twice.
                    let _ = inbox.send(ToShard::NewView);
                }
            }
        });
        let fleet = Rc::new(Fleet {
            own,
            others: fleet_others,
            placement: Placement::new(placement_rule, loads),
            crew: Crew::default(),
        });
        driver::spawn(Rc::clone(&fleet).take_events(events)).detach();
        Ok(fleet)
    }

    /// Waits until it is fair to do a piece of work on this shard.
    pub(super) async fn turn(&self) -> Turn {
        self.own.turns.take().await
    }

    /// Gives a new connection to the shard that is to serve it.
    pub(super) fn place(&self, stream: Stream, entrance: Entrance) {
        let other = self
            .placement
            .next()
            .checked_sub(1)
            .and_then(|place| self.others.get(place));
        match other {
            Some(other) => self.hand_over(other, stream, entrance),
            None => serve_here(&self.own, stream, entrance),
        }
    }

    fn hand_over(&self, other: &Other, stream: Stream, entrance: Entrance) {
        let detached = match stream.detach() {
            Ok(detached) => detached,
            Err(error) => {
                logging::warn!("a connection cannot be handed over", "error" => error.to_string());
                return;
            }
        };
        other.load.on_given();
        let refused = match other.inbox.send(ToShard::Connection(detached, entrance)) {
            Ok(()) => return,
            Err(SendError::Full(message) | SendError::Closed(message)) => message,
        };
        other.load.on_ended();
        self.own.load.on_given();
        receive(&self.own, refused);
    }

    async fn take_events(self: Rc<Self>, mut events: Mailbox<ShardEvent>) {
        while let Some(event) = events.recv().await {
            self.crew.on_event(event);
        }
    }

    /// Waits until all threads run.
    ///
    /// # Errors
    /// One of them does not.
    pub(crate) async fn wait_started(&self) -> Result<(), FleetError> {
        while self.crew.started.get() < self.others.len() {
            if let Some(error) = self.crew.failure.take() {
                return Err(error);
            }
            self.crew.changed.notified().await;
        }
        Ok(())
    }

    /// Waits until a shard ends that was not told to.
    pub(crate) async fn wait_failed(&self) -> FleetError {
        loop {
            if let Some(error) = self.crew.failure.take() {
                return error;
            }
            self.crew.changed.notified().await;
        }
    }

    /// Has all shards finish their connections, this one too, and waits until they have.
    pub(crate) async fn drain(&self) {
        self.crew.is_draining.set(true);
        for other in &self.others {
            // One that has ended needs no telling.
            let _ = other.inbox.send(ToShard::Drain);
        }
        self.own.drain().await;
        // Each shard has a limit of its own, so one that is late stands still.
        let others = async {
            while self.crew.ended.get() < self.others.len() {
                self.crew.changed.notified().await;
            }
        };
        if driver::timeout(2 * DRAIN_TIMEOUT, others).await.is_err() {
            logging::warn!("a shard did not end in time");
        }
    }
}

impl Crew {
    fn on_event(&self, event: ShardEvent) {
        match event {
            ShardEvent::Started => self.started.set(self.started.get() + 1),
            ShardEvent::Ended(shard_no, result) => {
                self.ended.set(self.ended.get() + 1);
                if !self.is_draining.get() {
                    let reason = result
                        .err()
                        .unwrap_or_else(|| "nobody told it to".to_owned());
                    let failure = FleetError::Ended { shard_no, reason };
                    self.failure.borrow_mut().get_or_insert(failure);
                } else if let Err(reason) = result {
                    logging::warn!("a shard has failed", "shard" => shard_no, "error" => reason);
                }
            }
        }
        self.changed.notify();
    }
}

/// What one thread starts with.
struct Recruit {
    shard_no: ShardNo,
    cpu: Option<usize>,
    equipment: Equipment,
    to_log: MailboxSender<AskBatch>,
    messages: Mailbox<ToShard>,
    tell: MailboxSender<ShardEvent>,
}

impl Recruit {
    fn start(self) -> Result<(), FleetError> {
        let shard_no = self.shard_no;
        let thread = std::thread::Builder::new().name(format!("etcore-{shard_no}"));
        match thread.spawn(move || self.run()) {
            Ok(_) => Ok(()),
            Err(error) => Err(FleetError::Start {
                shard_no,
                reason: error.to_string(),
            }),
        }
    }

    fn run(self) {
        let (shard_no, tell) = (self.shard_no, self.tell.clone());
        let config = ExecutorConfig {
            core: self.cpu,
            ..ExecutorConfig::new(format!("etcore-{shard_no}"))
        };
        let result = driver::run(config, move || self.serve());
        let result = result.map_err(|error| error.to_string());
        // Nobody listens only at the very end of the process.
        let _ = tell.send(ShardEvent::Ended(shard_no, result));
    }

    async fn serve(self) {
        let link = Link::new(self.shard_no, self.to_log);
        let shard = Shard::with_link(self.equipment, Rc::clone(&link));
        let drain = Rc::new(Notify::new());
        driver::spawn(Rc::clone(&link).speak()).detach();
        driver::spawn(measure(Rc::clone(&shard))).detach();
        let taking = take_messages(Rc::clone(&shard), link, self.messages, Rc::clone(&drain));
        driver::spawn(taking).detach();
        let _ = self.tell.send(ShardEvent::Started);
        drain.notified().await;
        shard.drain().await;
    }
}

/// Takes what the log shard sends; tells `drain` when it is time to end.
async fn take_messages(
    shard: Rc<Shard>,
    link: Rc<Link>,
    mut messages: Mailbox<ToShard>,
    drain: Rc<Notify>,
) {
    let mut batch = Vec::new();
    while messages.recv_all(&mut batch).await {
        for message in batch.drain(..) {
            match message {
                ToShard::Answers(answers) => link.on_answers(answers),
                ToShard::NewView => shard.watches.wake(),
                ToShard::Drain => drain.notify(),
                connection @ ToShard::Connection(..) => receive(&shard, connection),
            }
        }
        // The connections write what they were given before more comes.
        driver::yield_now().await;
    }
    drain.notify();
}

/// Serves a connection that another executor has accepted.
fn receive(shard: &Rc<Shard>, message: ToShard) {
    let ToShard::Connection(detached, entrance) = message else {
        return;
    };
    match Stream::attach(detached) {
        Ok(stream) => {
            driver::spawn(Connection::serve(Rc::clone(shard), stream, entrance)).detach();
        }
        Err(error) => {
            shard.load.on_ended();
            logging::warn!("a connection cannot be taken over", "error" => error.to_string());
        }
    }
}

fn serve_here(shard: &Rc<Shard>, stream: Stream, entrance: Entrance) {
    shard.load.on_given();
    driver::spawn(Connection::serve(Rc::clone(shard), stream, entrance)).detach();
}

/// The CPUs that this process may use, ascending.
fn cpus() -> Vec<usize> {
    // It fails only for a process that does not exist; one CPU is what everybody has.
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect()
}
