//! A hub as a server's shard runs it, and the queues of its streams.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine::types::Budget;
use engine::view::ViewReader;
use engine::watch::{Hub, HubOptions, Response, StreamNo};
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::WatchCounts;
use crate::check::Violation;
use crate::member::id_of;
use crate::plan::{MILLISECOND, Plan, SECOND, Time};
use crate::random::Rng;

/// What a client asks for on its stream.
#[derive(Clone, Debug)]
pub enum Request {
    Create(WatchCreateRequest),
    Cancel(i64),
    Progress,
    /// Ends the stream.
    Close,
}

/// A response that lies in a queue.
#[derive(Clone, Debug)]
pub struct Told {
    pub response: WatchResponse,
    /// The compact revision that the member had when it handed this out.
    pub compacted: i64,
    len: usize,
}

#[derive(Debug, Default)]
struct Queue {
    told: VecDeque<Told>,
    len: usize,
    is_full: bool,
}

/// See the module text of [`super`].
#[derive(Debug)]
pub struct WatchShard {
    hub: Hub,
    handle: ViewReader,
    rng: Rng,
    streams: BTreeMap<StreamNo, Queue>,
    requests: VecDeque<(StreamNo, Request)>,
    /// Bytes in a stream's queue from which on it is full.
    room_len: usize,
    /// An event of the world for the next slice is under way.
    pub is_due: bool,
    /// The same for the next notice.
    pub timer: Option<Time>,
}

impl WatchShard {
    /// The shard `no` of a member's life.
    pub fn new(member: usize, no: usize, life: u32, plan: &Plan, mut handle: ViewReader) -> Self {
        let label = 20_000 + 100 * member as u64 + no as u64;
        let mut rng = Rng::new(plan.seed ^ u64::from(life) << 48, label);
        let options = HubOptions {
            cluster_id: 7,
            member_id: id_of(member),
            fragment_len: rng.between(200, 4000) as usize,
            watchers_len_max: 1 << 30,
            notice_interval: Duration::from_micros(rng.between(100 * MILLISECOND, 2 * SECOND)),
            seed: rng.draw(),
        };
        let mut hub = Hub::new(options, &handle.pin());
        if let Some(sabotage) = plan.plant.and_then(crate::plan::Plant::sabotage) {
            hub.sabotage(sabotage);
        }
        WatchShard {
            hub,
            handle,
            room_len: rng.skewed(200, 20_000) as usize,
            rng,
            streams: BTreeMap::new(),
            requests: VecDeque::new(),
            is_due: false,
            timer: None,
        }
    }

    /// A client begins a Watch call.
    pub fn open(&mut self, now: Time) -> StreamNo {
        let stream = self.hub.open_stream(Duration::from_micros(now));
        self.streams.insert(stream, Queue::default());
        stream
    }

    /// It is looked at with the next slice.
    pub fn request(&mut self, stream: StreamNo, request: Request) {
        self.requests.push_back((stream, request));
    }

    /// What a shell does between two looks at others. True: there is more.
    ///
    /// # Errors
    /// A hub that cannot read what was published.
    pub fn slice(&mut self, now: Time, counts: &mut WatchCounts) -> Result<bool, Violation> {
        let now = Duration::from_micros(now);
        let view = self.handle.pin();
        let hub = &mut self.hub;
        for (stream, request) in self.requests.drain(..) {
            match request {
                Request::Create(create) => hub.create(stream, create, &view, now),
                Request::Cancel(id) => hub.cancel(stream, id, &view),
                Request::Progress => hub.request_progress(stream, &view),
                Request::Close => {
                    hub.close_stream(stream);
                    self.streams.remove(&stream);
                }
            }
        }
        hub.on_time(now);
        let mut budget = Budget::new(self.rng.skewed(2, 300) as usize);
        let more = hub.work(&view, &mut budget);
        let more = more.map_err(|e| format!("watch: a hub: {e}"))?;
        for _ in 0..self.rng.between(1, 16) {
            let Some(response) = hub.poll_response() else {
                return Ok(more);
            };
            let Response { stream, bytes, .. } = response;
            let response = bytes.decode().map_err(|e| format!("watch: octets: {e}"))?;
            let Some(queue) = self.streams.get_mut(&stream) else {
                return Err(format!("watch: a closed stream is told {response:?}"));
            };
            if queue.is_full && !response.events.is_empty() {
                return Err(format!("watch: a full stream is told {response:?}"));
            }
            let len = bytes.len();
            queue.len += len;
            queue.told.push_back(Told {
                response,
                compacted: view.compact_revision(),
                len,
            });
            if queue.len >= self.room_len && !queue.is_full {
                queue.is_full = true;
                counts.filled += 1;
                hub.on_full(stream);
            }
        }
        Ok(true)
    }

    /// When notices are due.
    pub fn next_timeout(&self) -> Option<Time> {
        let at = self.hub.next_timeout()?;
        Time::try_from(at.as_micros() + 1).ok()
    }

    /// The client takes some of what was told.
    pub fn take(&mut self, stream: StreamNo, count_max: usize) -> Vec<Told> {
        let Some(queue) = self.streams.get_mut(&stream) else {
            return Vec::new();
        };
        let count = count_max.min(queue.told.len());
        let taken: Vec<Told> = queue.told.drain(..count).collect();
        queue.len -= taken.iter().map(|told| told.len).sum::<usize>();
        if queue.is_full && queue.len < self.room_len {
            queue.is_full = false;
            self.hub.on_writable(stream);
        }
        taken
    }
}
