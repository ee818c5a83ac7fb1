//! Watchers across kills: each goes on at the last revision that it was told of, plus one, and is told every acknowledged
//! write of its range exactly once and in order.
//!
//! ```text
//!  round n    ....told up to r] KILL          what came behind r is lost with the stream
//!  round n+1                    [from r + 1 on, out of the past first, then as it happens....
//! ```
//!
//! One of them reads little in each round, so that compactions overtake it: then it is told so, and goes on behind them.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request};
use proto::mvccpb::Event;
use tests::api::{OPEN_END, WATCH};
use tests::client::{CallError, Client};

use crate::model::{LEASED, Ledger};

/// What the one that lags reads in a round.
const RESPONSES_OF_A_LAGGARD: usize = 30;
/// `Event.type` of a deletion.
const DELETE: i32 = 1;

/// A change as it was told.
#[derive(Debug)]
struct Told {
    revision: i64,
    key: String,
    /// `None`: a deletion.
    value: Option<Bytes>,
    /// The previous pair: its revision and value.
    before: Option<(i64, Bytes)>,
}

/// One watch; it outlives the server's lives.
#[derive(Debug)]
pub(crate) struct Watcher {
    key: &'static str,
    range_end: &'static [u8],
    prev_kv: bool,
    responses_max: usize,
    /// The first revision that it knows nothing of.
    next: i64,
    /// What it was told since it was looked at last.
    told: Vec<Told>,
    /// Revisions that it was not told because they were compacted: from the first up to the second.
    gaps: Vec<(i64, i64)>,
    /// What it was told last of each key: revision and value; only where nothing is missing.
    latest: HashMap<String, Option<(i64, Bytes)>>,
    /// Revisions below this were looked at.
    checked: i64,
    event_count: usize,
}

/// Those of a test.
pub(crate) fn watchers() -> Vec<Watcher> {
    let watcher = |key, range_end, prev_kv, responses_max| Watcher {
        key,
        range_end,
        prev_kv,
        responses_max,
        next: 1,
        told: Vec::new(),
        gaps: Vec::new(),
        latest: HashMap::new(),
        checked: 1,
        event_count: 0,
    };
    vec![
        watcher("\0", OPEN_END, false, usize::MAX),
        watcher("\0", OPEN_END, true, RESPONSES_OF_A_LAGGARD),
        watcher("thread/1/", b"thread/1:", true, usize::MAX),
        watcher("counter", b"", false, usize::MAX),
    ]
}

impl Watcher {
    /// Listens until the server is gone, or until it knows enough.
    pub(crate) fn run(mut self, addr: SocketAddr) -> Self {
        // The kill may come before the connection does.
        let Ok(mut client) = Client::connect(addr) else {
            return self;
        };
        match self.listen(&mut client, self.responses_max, i64::MAX) {
            Ok(()) | Err(CallError::Lost(_)) => self,
            Err(error) => panic!("{:?}: {error}", self.key),
        }
    }

    /// Listens until it has been told all up to `last`, which is of its range.
    pub(crate) fn catch_up(&mut self, client: &mut Client, last: i64) {
        self.listen(client, usize::MAX, last)
            .expect("the server lives");
    }

    fn listen(&mut self, client: &mut Client, count: usize, last: i64) -> Result<(), CallError> {
        let mut call = None;
        for _ in 0..count {
            if self.next > last {
                break;
            }
            let open = match call {
                Some(open) => open,
                None => *call.insert(self.create(client)?),
            };
            let response: Option<WatchResponse> = client.next(open)?;
            let response = response.expect("a watch has no good end");
            if response.canceled {
                self.on_compacted(&response);
                client.cancel(open);
                call = None;
            } else {
                self.hear(response.events);
            }
        }
        if let Some(open) = call {
            client.cancel(open);
        }
        Ok(())
    }

    fn create(&self, client: &mut Client) -> Result<net::CallId, CallError> {
        let call = client.start(WATCH)?;
        let create = WatchCreateRequest {
            key: self.key.into(),
            range_end: Bytes::from_static(self.range_end),
            start_revision: self.next,
            prev_kv: self.prev_kv,
            ..WatchCreateRequest::default()
        };
        let union = watch_request::RequestUnion::CreateRequest(create);
        let request = WatchRequest {
            request_union: Some(union),
        };
        client.send(call, &request);
        Ok(call)
    }

    /// What it needs next is compacted, and nothing else may end it.
    fn on_compacted(&mut self, response: &WatchResponse) {
        let at = response.compact_revision;
        assert!(at > self.next, "needed is {}: {response:?}", self.next);
        self.gaps.push((self.next, at));
        self.next = at;
    }

    /// All of one revision comes together, and nothing before `next`.
    fn hear(&mut self, events: Vec<Event>) {
        let mut next = self.next;
        for event in events {
            let kv = event.kv.expect("an event has a pair");
            assert!(
                kv.mod_revision + 1 >= next && kv.mod_revision >= self.next,
                "told of {} after {}",
                kv.mod_revision,
                next - 1
            );
            next = kv.mod_revision + 1;
            self.told.push(Told {
                revision: kv.mod_revision,
                key: String::from_utf8_lossy(&kv.key).into_owned(),
                value: (event.r#type != DELETE).then_some(kv.value),
                before: event.prev_kv.map(|kv| (kv.mod_revision, kv.value)),
            });
        }
        self.next = next;
    }

    fn covers(&self, key: &str) -> bool {
        match self.range_end {
            b"" => key == self.key,
            OPEN_END => key >= self.key,
            end => key >= self.key && key.as_bytes() < end,
        }
    }

    /// The newest acknowledged revision of its range.
    pub(crate) fn last_due(&self, ledger: &Ledger) -> i64 {
        let is_due = |key: &str| self.covers(key);
        let writes = ledger.writes.iter().filter(|write| {
            let effects = write.change.effects();
            effects.iter().any(|(key, _)| is_due(key))
        });
        writes.map(|write| write.revision).max().unwrap_or(0)
    }

    /// Compares what it was told since the last time with what was acknowledged. Both are complete up to its last revision.
    pub(crate) fn check(&mut self, ledger: &Ledger) {
        let mut told: HashMap<i64, HashMap<String, Option<Bytes>>> = HashMap::new();
        let mut gaps = self.gaps.iter().map(|(_, to)| *to).peekable();
        for change in std::mem::take(&mut self.told) {
            while gaps.next_if(|to| *to <= change.revision).is_some() {
                self.latest.clear();
            }
            self.event_count += 1;
            check_before(&mut self.latest, self.prev_kv, &change, ledger);
            let former = told
                .entry(change.revision)
                .or_default()
                .insert(change.key, change.value);
            assert_eq!(former, None, "twice at {}", change.revision);
        }
        if gaps.next().is_some() {
            self.latest.clear();
        }
        for write in &ledger.writes {
            let revision = write.revision;
            let is_told = (self.checked..self.next).contains(&revision);
            let is_lost = |(from, to): &(i64, i64)| (*from..*to).contains(&revision);
            if !is_told || self.gaps.iter().any(is_lost) {
                continue;
            }
            let mut events = told.remove(&revision).unwrap_or_default();
            for (key, value) in write.change.effects() {
                if self.covers(key) {
                    let event = events.remove(key);
                    assert_eq!(event, Some(value), "{key} at {revision} for {:?}", self.key);
                }
            }
            assert!(events.is_empty(), "{events:?} beside {write:?}");
        }
        // What is left has happened without an answer; the keys of leases end by themselves.
        let is_written = |(_, events): &(&i64, &HashMap<String, Option<Bytes>>)| {
            !events.keys().any(|key| key.starts_with(LEASED))
        };
        let unanswered = told.iter().filter(is_written).count();
        assert!(
            unanswered <= ledger.unanswered_max,
            "{unanswered} writes that nobody was told of: {told:?}"
        );
        self.checked = self.next;
        self.gaps.clear();
    }

    /// For the log of the test.
    pub(crate) fn event_count(&self) -> usize {
        self.event_count
    }
}

/// The previous pair is what the watcher was told of the key before, unless that is compacted.
fn check_before(
    latest: &mut HashMap<String, Option<(i64, Bytes)>>,
    prev_kv: bool,
    change: &Told,
    ledger: &Ledger,
) {
    let now = change.value.clone();
    let now = now.map(|value| (change.revision, value));
    let former = latest.insert(change.key.clone(), now);
    if !prev_kv {
        assert_eq!(change.before, None, "nobody asked for {change:?}");
    } else if let Some(former) = former {
        let is_gone = change.before.is_none() && change.revision <= ledger.compaction_asked;
        assert!(
            is_gone || change.before == former,
            "{change:?} after {former:?}"
        );
    }
}
