//! The watches of one shard: its hub, and the streams that it feeds.
//!
//! ```text
//!   connection -- requests --> services::watch --> Hub <-- a newer View: the log shard rings the Bell
//!       ^                                           |
//!       `---- Watches::deliver <---- responses -----'      one task, a slice between two looks at others
//! ```
//!
//! A stream is full while [`ROOM_LEN`] is queued for it: then the hub has nothing with events for it, and a response
//! that is longer than that goes out piece by piece. What answers a client's own requests goes out all the same, so
//! one that asks on and on and reads nothing loses its stream at [`UNREAD_LEN_MAX`].
//!
//! A task of the server that watches ([`OwnWatch`](super::own_watch::OwnWatch)) has a stream like a client's; its
//! responses wait in a queue instead of a connection.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use bytes::Bytes;
use driver::Notify;
use engine::types::Budget;
use engine::view::PinnedView;
use engine::watch::{Hub, HubOptions, Response, ResponseBytes, ResponseKind, StreamNo};
use net::grpc::{Code, Status};

use super::Shard;
use super::own_watch::Told;
use super::reply::ReplyTo;
use crate::errors::FrontError;
use crate::metrics::Metrics;

/// Bytes queued for a stream from which on it is full; the connection tells when less is.
pub(super) const ROOM_LEN: usize = 64 * 1024;
/// Answers to a stream's own requests that may wait for its client: those to a hundred thousand creations.
const UNREAD_LEN_MAX: usize = 4 << 20;
/// What all watchers of a shard may take: some 700,000 of short keys.
const WATCHERS_LEN_MAX: usize = 512 << 20;
/// What long responses of a shard may keep that clients have begun to take. Each range has its own, as large as the revision
/// that it is told of; past this those end that stand still the longest, and their clients go on at the next revision.
const HELD_LEN_MAX: usize = 256 << 20;
/// Steps of the hub in a slice; see [`Budget`].
const SLICE_STEPS: usize = 192;
/// How long its work for those at the frontier takes, and again for those who catch up: a step may copy a large value.
const SLICE_TIME: Duration = Duration::from_micros(100);
/// Responses of a slice.
const SLICE_RESPONSES: usize = 128;
/// What clients accept at most; gRPC's length is that of Go's `int32`.
const RESPONSE_LEN_MAX: usize = i32::MAX as usize;
/// Elections without a leader after which a stream ends that asked for one, as in etcd.
const LEADERLESS_MAX: u32 = 3;

/// How the log shard tells another one that there is a newer View. Shared by both.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// The shard has streams. It writes this.
    is_wanted: AtomicBool,
    /// It was told and has not looked yet.
    is_rung: AtomicBool,
}

impl Bell {
    /// After a View was published: whether the shard must be told. A stream that opens meanwhile sees that View.
    pub(super) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_wanted.load(Ordering::Relaxed) && !self.is_rung.swap(true, Ordering::SeqCst)
    }

    /// Before the shard looks at a View.
    pub(super) fn answer(&self) {
        self.is_rung.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn want(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

/// See the module.
pub(crate) struct Watches {
    hub: RefCell<Hub>,
    streams: RefCell<HashMap<StreamNo, WatchStream>>,
    wake: Notify,
    pub(super) bell: Arc<Bell>,
    metrics: Arc<Metrics>,
    /// Counts long responses.
    long_count: Cell<u64>,
    /// Streams that end without a leader.
    leaning_count: Cell<usize>,
    /// Over all streams.
    pending_event_count: Cell<usize>,
}

/// Who is told.
enum Listener {
    Call(ReplyTo),
    Task(Rc<Told>),
}

/// One Watch call, or a watch of the server's own.
struct WatchStream {
    listener: Listener,
    requires_leader: bool,
    /// A long response and its next piece.
    sending: Option<(ResponseBytes, usize)>,
    /// Which of the shard's long responses that is, in the order of their beginnings.
    sending_no: u64,
    /// Answers that come after it.
    behind: VecDeque<ResponseBytes>,
    behind_len: usize,
    /// Events of the long response, until all of it is queued.
    pending_event_count: usize,
}

impl Watches {
    pub(super) fn new(
        options: HubOptions,
        view: &PinnedView<'_>,
        bell: Arc<Bell>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Watches {
            hub: RefCell::new(Hub::new(options, view)),
            streams: RefCell::default(),
            wake: Notify::new(),
            bell,
            metrics,
            long_count: Cell::new(0),
            leaning_count: Cell::new(0),
            pending_event_count: Cell::new(0),
        }
    }

    /// The options of a shard's hub.
    pub(super) fn options(
        config: &crate::config::Config,
        identity: &crate::identity::Identity,
    ) -> HubOptions {
        HubOptions {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            fragment_len: config.received_message_bytes_max(),
            watchers_len_max: WATCHERS_LEN_MAX,
            notice_interval: config.watch_progress_notify_interval,
            seed: identity.member_id ^ driver::now().as_nanos() as u64,
        }
    }

    /// There is a newer View, or something else to do.
    pub(super) fn wake(&self) {
        self.wake.notify();
    }

    /// Changes the hub; what it has to say then is said soon.
    pub(crate) fn with_hub(&self, change: impl FnOnce(&mut Hub)) {
        change(&mut self.hub.borrow_mut());
        self.wake.notify();
    }

    /// A stream that cannot do without a leader has begun, or ended: Watch calls, and others that ask here.
    pub(super) fn on_leaning(&self, has_begun: bool) {
        let count = self.leaning_count.get();
        self.leaning_count.set(match has_begun {
            true => count + 1,
            false => count - 1,
        });
        self.wake.notify();
    }

    // ---- streams

    /// A client has begun a Watch call.
    pub(crate) fn open(&self, reply: ReplyTo, requires_leader: bool) -> StreamNo {
        self.open_for(Listener::Call(reply), requires_leader)
    }

    /// A task of this shard watches; it is no slower than its client, whose connection it waits for.
    pub(super) fn open_own(&self, told: Rc<Told>) -> StreamNo {
        self.open_for(Listener::Task(told), false)
    }

    fn open_for(&self, listener: Listener, requires_leader: bool) -> StreamNo {
        self.bell.want(true);
        let no = self.hub.borrow_mut().open_stream(driver::now());
        self.leaning_count
            .set(self.leaning_count.get() + usize::from(requires_leader));
        let stream = WatchStream {
            listener,
            requires_leader,
            sending: None,
            sending_no: 0,
            behind: VecDeque::new(),
            behind_len: 0,
            pending_event_count: 0,
        };
        self.streams.borrow_mut().insert(no, stream);
        self.wake.notify();
        no
    }

    /// Ends a stream and, unless the client has done so, its call.
    pub(crate) fn close(&self, no: StreamNo, status: &Status) {
        let stream = self.streams.borrow_mut().remove(&no);
        if let Some(stream) = stream {
            let count = self.leaning_count.get();
            self.leaning_count
                .set(count - usize::from(stream.requires_leader));
            let pending = self.pending_event_count.get();
            self.pending_event_count
                .set(pending - stream.pending_event_count);
            self.hub.borrow_mut().close_stream(no);
            match stream.listener {
                Listener::Call(reply) => reply.end_watch(status),
                Listener::Task(told) => told.end(status),
            }
            self.wake.notify();
        }
    }

    /// Ends all streams, or those that cannot do without a leader.
    pub(super) fn close_all(&self, only_leaning: bool, status: &Status) {
        let streams = self.streams.borrow();
        let chosen = streams
            .iter()
            .filter(|(_, s)| s.requires_leader || !only_leaning);
        let chosen: Vec<StreamNo> = chosen.map(|(no, _)| *no).collect();
        drop(streams);
        for no in chosen {
            self.close(no, status);
        }
    }

    /// The client of a stream has taken most of what was queued.
    pub(super) fn on_writable(&self, no: StreamNo) {
        let has_room = match self.streams.borrow_mut().get_mut(&no) {
            Some(stream) => {
                let has_room = stream.pump();
                self.note_pending(stream, 0);
                has_room
            }
            None => false,
        };
        if has_room {
            self.hub.borrow_mut().on_writable(no);
            self.wake.notify();
        }
    }

    fn deliver(&self, response: Response) {
        let Response {
            stream: no,
            bytes,
            event_count,
            ..
        } = response;
        let mut streams = self.streams.borrow_mut();
        let Some(stream) = streams.get_mut(&no) else {
            return;
        };
        self.metrics.watch_events.add(event_count as u64);
        let len = bytes.len();
        let refusal = if len > RESPONSE_LEN_MAX {
            format!("grpc: trying to send message larger than max ({len} vs. {RESPONSE_LEN_MAX})")
        } else if event_count == 0 && stream.unread_len() > UNREAD_LEN_MAX {
            "etcore: the answers to this stream's requests are not read".to_owned()
        } else {
            self.long_count.set(self.long_count.get() + 1);
            stream.sending_no = match stream.sending {
                None => self.long_count.get(),
                Some(_) => stream.sending_no,
            };
            if !stream.send(bytes) {
                self.hub.borrow_mut().on_full(no);
            }
            self.note_pending(stream, event_count);
            drop(streams);
            return self.end_stalled();
        };
        drop(streams);
        self.metrics.stream_failures.watch_send.inc();
        self.close(no, &Status::new(Code::ResourceExhausted, refusal));
    }

    /// Ends streams in the middle of long responses, those that began first, until the others keep what they may.
    fn end_stalled(&self) {
        while self.hub.borrow().held_len() > HELD_LEN_MAX {
            // Rare enough to look at all of them.
            let streams = self.streams.borrow();
            let sending = streams.iter().filter(|(_, s)| s.sending.is_some());
            let oldest = sending.min_by_key(|(_, s)| s.sending_no);
            let Some(no) = oldest.map(|(no, _)| *no) else {
                return;
            };
            drop(streams);
            let reason = "etcore: this stream's events are not read";
            self.close(no, &Status::new(Code::ResourceExhausted, reason));
        }
    }

    /// Counts the events of the long response that a stream is at, which are `event_count` if it has just begun.
    fn note_pending(&self, stream: &mut WatchStream, event_count: usize) {
        let former = stream.pending_event_count;
        stream.pending_event_count = match stream.sending {
            Some(_) => former.max(event_count),
            None => 0,
        };
        let total = self.pending_event_count.get() - former;
        self.pending_event_count
            .set(total + stream.pending_event_count);
    }

    // ---- the task

    /// A slice. True: there is more.
    fn slice(&self, shard: &Shard) -> bool {
        self.bell.answer();
        let mut budget = Budget::new(SLICE_STEPS).within(driver::now, SLICE_TIME);
        let more = shard.with_view(|view| self.hub.borrow_mut().work(view, &mut budget));
        // The store is damaged: the node has noted it, and ends the member.
        let Ok(more) = more else { return false };
        let mut begun = driver::now();
        for _ in 0..SLICE_RESPONSES {
            let response = self.hub.borrow_mut().poll_response();
            let Some(response) = response else { break };
            let (kind, event_count) = (response.kind, response.event_count);
            self.deliver(response);
            // One look at the clock for each: with the making of the next response, which is no more than a copy.
            let now = driver::now();
            self.note_delivery(kind, event_count, now.saturating_sub(begun));
            begun = now;
        }
        more
    }

    fn note_delivery(&self, kind: ResponseKind, event_count: usize, took: Duration) {
        let metrics = &self.metrics;
        match kind {
            ResponseKind::Control => metrics.watch_control.observe(took),
            ResponseKind::Progress => metrics.watch_progress.observe(took),
            ResponseKind::Events => {
                metrics.watch_send.observe(took);
                let each = took.as_secs_f64() / event_count.max(1) as f64;
                metrics.watch_send_event.observe_float(each);
            }
        }
    }

    /// Shows how many there are, and lets the bell be silent if there are none.
    fn note_counts(&self) {
        let hub = self.hub.borrow();
        let metrics = &self.metrics;
        metrics.watch_streams.set(hub.stream_count() as u64);
        metrics.watchers.set(hub.watcher_count() as u64);
        metrics.slow_watchers.set(hub.slow_watcher_count() as u64);
        metrics
            .pending_events
            .set(self.pending_event_count.get() as u64);
        if self.streams.borrow().is_empty() {
            self.bell.want(false);
        }
    }
}

/// Feeds the streams of a shard for ever.
pub(super) async fn run(shard: Rc<Shard>) {
    let watches = &shard.watches;
    let election = shard.config.election_timeout;
    let (mut leader_check, mut leaderless_count) = (driver::now() + election, 0);
    loop {
        if watches.slice(&shard) {
            driver::yield_now().await;
            continue;
        }
        watches.note_counts();
        let now = driver::now();
        let is_leaning = watches.leaning_count.get() > 0;
        if !is_leaning {
            (leader_check, leaderless_count) = (now + election, 0);
        } else if now >= leader_check {
            leader_check = now + election;
            leaderless_count = match shard.with_view(|view| view.leader_id()) {
                0 => leaderless_count + 1,
                _ => 0,
            };
            if leaderless_count >= LEADERLESS_MAX {
                watches.close_all(true, &FrontError::NoLeader.status());
                shard.connections.on_leaderless();
                continue;
            }
        }
        let timeout = watches.hub.borrow().next_timeout();
        let timeout = [timeout, is_leaning.then_some(leader_check)];
        match timeout.into_iter().flatten().min() {
            None => watches.wake.notified().await,
            Some(at) => {
                let wait = at.saturating_sub(driver::now());
                // Both are reasons to look.
                let _ = driver::timeout(wait, watches.wake.notified()).await;
                watches.hub.borrow_mut().on_time(driver::now());
            }
        }
    }
}

impl WatchStream {
    /// Queues a response, or its beginning. False: the stream is full.
    fn send(&mut self, bytes: ResponseBytes) -> bool {
        if self.sending.is_some() {
            self.behind_len += bytes.len();
            self.behind.push_back(bytes);
            return false;
        }
        let reply = match &self.listener {
            Listener::Call(reply) => reply,
            Listener::Task(told) => {
                told.push(bytes);
                return told.queued_len() < ROOM_LEN;
            }
        };
        if bytes.piece_count() == 1
            && let Some(whole) = bytes.piece(0)
        {
            reply.send(Bytes::clone(whole));
            return reply.queued_len() < ROOM_LEN;
        }
        reply.start_message(bytes.len());
        self.sending = Some((bytes, 0));
        self.pump()
    }

    /// Queues more of a long response, and what comes behind it. True: there is room.
    fn pump(&mut self) -> bool {
        while self.queued_len() < ROOM_LEN {
            let Some((bytes, next)) = &mut self.sending else {
                return true;
            };
            if let Some(piece) = bytes.piece(*next)
                && let Listener::Call(reply) = &self.listener
            {
                reply.push_piece(Bytes::clone(piece));
                *next += 1;
                continue;
            }
            self.sending = None;
            while self.sending.is_none()
                && let Some(bytes) = self.behind.pop_front()
            {
                self.behind_len -= bytes.len();
                self.send(bytes);
            }
        }
        false
    }

    /// Answers that the client has not taken.
    fn unread_len(&self) -> usize {
        // A long response is not of its own asking.
        match self.sending {
            Some(_) => self.behind_len,
            None => self.queued_len(),
        }
    }

    fn queued_len(&self) -> usize {
        match &self.listener {
            Listener::Call(reply) => reply.queued_len(),
            Listener::Task(told) => told.queued_len(),
        }
    }
}
