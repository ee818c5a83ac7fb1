//! The good client: one request at a time, a pause, the next one; every answer right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::api;
use tests::client::Client;

/// Between an answer and the next request: some ten times what an answer takes when nothing is wrong.
pub(crate) const THINK_TIME: Duration = Duration::from_millis(4);
/// Between two looks at what is watched beside.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct Good {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    completed: AtomicU64,
    /// By how much it thought for longer than it wanted to, in all.
    late_nanos: AtomicU64,
}

/// What became of a window.
pub(crate) struct Window {
    /// Requests that were completed.
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
    /// What the machine took of it while the client only slept: no server can do anything about that.
    pub(crate) late: Duration,
}

impl Good {
    pub(crate) fn start(client: Client) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || live(client, &shared)
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// The next `window`, in which `look` is called again and again.
    pub(crate) fn live_through(&self, window: Duration, mut look: impl FnMut()) -> Window {
        let late = || self.shared.late_nanos.load(Ordering::Relaxed);
        let (start, before, late_before) = (Instant::now(), self.completed(), late());
        while start.elapsed() < window {
            look();
            std::thread::sleep(LOOK_INTERVAL);
        }
        let window = Window {
            count: self.completed() - before,
            elapsed: start.elapsed(),
            late: Duration::from_nanos(late() - late_before),
        };
        let thread = self.thread.as_ref();
        assert!(
            thread.is_some_and(|thread| !thread.is_finished()),
            "the good client failed"
        );
        window
    }

    fn completed(&self) -> u64 {
        self.shared.completed.load(Ordering::Relaxed)
    }

    pub(crate) fn finish(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the good client failed");
        }
    }
}

fn live(mut client: Client, shared: &Shared) {
    for turn in 1.. {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let value = turn.to_string();
        client.put("good", &value).expect("the good client's put");
        pause(shared);
        let answer = client
            .range(&api::get("good"))
            .expect("the good client's read");
        let pair = &answer.kvs[0];
        assert_eq!((&pair.value[..], pair.version), (value.as_bytes(), turn));
        pause(shared);
    }
}

/// Counts the request that was answered, and thinks.
fn pause(shared: &Shared) {
    shared.completed.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    std::thread::sleep(THINK_TIME);
    let late = start.elapsed().saturating_sub(THINK_TIME);
    let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
    shared.late_nanos.fetch_add(nanos, Ordering::Relaxed);
}
