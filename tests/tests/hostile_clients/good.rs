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

    /// Requests that are completed in the next `window`, in which `look` is called again and again; and how long it was.
    pub(crate) fn count_over(&self, window: Duration, mut look: impl FnMut()) -> (u64, Duration) {
        let (start, before) = (Instant::now(), self.completed());
        while start.elapsed() < window {
            look();
            std::thread::sleep(LOOK_INTERVAL);
        }
        let count = self.completed() - before;
        let thread = self.thread.as_ref();
        assert!(
            thread.is_some_and(|thread| !thread.is_finished()),
            "the good client failed"
        );
        (count, start.elapsed())
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
    std::thread::sleep(THINK_TIME);
}
