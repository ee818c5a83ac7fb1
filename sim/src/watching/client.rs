//! A client with watchers: it asks, listens at its own pace, loses its stream, and goes on elsewhere.

use bytes::Bytes;
use engine::watch::StreamNo;
use proto::etcdserverpb::WatchCreateRequest;
use proto::etcdserverpb::watch_create_request::FilterType;

use super::WatchCounts;
use super::shard::Request;
use crate::check::watching::{Listener, Watch};
use crate::plan::{MILLISECOND, Plan, SECOND, Time};
use crate::random::Rng;
use crate::workload::{self, LEASED_PREFIX};

/// Watches of one client.
const WATCH_COUNT_MAX: usize = 6;

/// Ids that clients choose.
const CHOSEN_ID_MIN: i64 = 100_000;

/// Where a stream is: the member's life, and the shard in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAt {
    pub member: usize,
    pub life: u32,
    pub shard: usize,
    pub stream: StreamNo,
}

/// See the module text.
#[derive(Debug)]
pub struct WatchClient {
    pub rng: Rng,
    pub at: Option<StreamAt>,
    pub listener: Listener,
    /// It takes nothing before.
    stalled_until: Time,
    /// Mean time between two looks.
    pace: Time,
}

impl WatchClient {
    pub fn new(no: usize, plan: &Plan) -> WatchClient {
        let mut rng = Rng::new(plan.seed, 3000 + no as u64);
        WatchClient {
            pace: rng.skewed(2, 200) * MILLISECOND,
            rng,
            at: None,
            listener: Listener::default(),
            stalled_until: 0,
        }
    }

    /// When it looks again.
    pub fn rest(&mut self, is_ending: bool) -> Time {
        match is_ending {
            true => 60 * MILLISECOND,
            false => self.rng.between(self.pace / 2, self.pace * 3),
        }
    }

    /// How many responses it takes now.
    pub fn appetite(&mut self, now: Time, is_ending: bool) -> usize {
        if is_ending {
            return usize::MAX;
        }
        if now < self.stalled_until {
            return 0;
        }
        if self.rng.one_in(60) {
            self.stalled_until = now + self.rng.between(SECOND / 5, 3 * SECOND);
        }
        self.rng.below(12) as usize
    }

    /// It has a stream again: what it asks first.
    pub fn on_open(&mut self, at: StreamAt, counts: &mut WatchCounts) -> Vec<Request> {
        self.at = Some(at);
        let requests = self.listener.resume(counts);
        requests.into_iter().map(Request::Create).collect()
    }

    /// Its stream is gone.
    pub fn on_lost(&mut self) {
        self.at = None;
        self.listener.on_lost();
    }

    /// What it asks next.
    pub fn next_request(&mut self, plan: &Plan) -> Option<Request> {
        match self.rng.below(100) {
            0..=11 if self.listener.watch_count() < WATCH_COUNT_MAX => {
                let request = self.draw(plan);
                Some(Request::Create(self.listener.add(Watch::new(request))))
            }
            12..=14 => {
                let count = self.listener.ids().count() as u64;
                let pick = self.rng.below(count.max(1)) as usize;
                let id = self.listener.ids().nth(pick)?;
                self.listener.cancel(id);
                Some(Request::Cancel(id))
            }
            15..=19 => Some(Request::Progress),
            // It leaves, and goes on elsewhere.
            20 => {
                self.listener.on_lost();
                Some(Request::Close)
            }
            _ => None,
        }
    }

    fn draw(&mut self, plan: &Plan) -> WatchCreateRequest {
        let (key, range_end) = self.range(plan);
        let rng = &mut self.rng;
        let known = self.listener.revision().max(1);
        let start_revision = match rng.below(10) {
            0..=3 => 0,
            4..=6 => (known - rng.below(30) as i64).max(1),
            7 | 8 => (known - rng.below(known as u64) as i64).max(1),
            _ => known + rng.between(1, 20) as i64,
        };
        let filters = match rng.below(10) {
            0 => vec![FilterType::Noput as i32],
            1 => vec![FilterType::Nodelete as i32],
            _ => Vec::new(),
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: rng.one_in(3),
            filters,
            prev_kv: rng.one_in(2),
            // The server's own choices do not get that far.
            watch_id: match rng.one_in(3) {
                true => CHOSEN_ID_MIN + self.listener.added_count() as i64,
                false => 0,
            },
            fragment: rng.one_in(2),
        }
    }

    fn range(&mut self, plan: &Plan) -> (Bytes, Bytes) {
        let rng = &mut self.rng;
        let everything = || (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        match rng.below(8) {
            0..=2 => (
                workload::key_of(rng.below(plan.key_count), plan),
                Bytes::new(),
            ),
            3 => {
                let from = workload::key_of(rng.below(plan.key_count), plan);
                (from, Bytes::from_static(b"\0"))
            }
            4 => (LEASED_PREFIX.into(), "leased.".into()),
            5 => {
                let mut ends = [rng.below(plan.key_count), rng.below(plan.key_count)];
                ends.sort_unstable();
                let ends = ends.map(|no| workload::key_of(no, plan));
                match ends {
                    [from, end] if from < end => (from, end),
                    _ => everything(),
                }
            }
            _ => everything(),
        }
    }
}
