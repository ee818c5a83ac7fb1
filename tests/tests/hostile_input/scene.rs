//! A server, a neighbour on it, and what must come of a case.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::api;
use tests::client::Client;
use tests::process::{Options, Process, is_etcore};
use tests::raw::Raw;

/// How long the server may take to refuse, and the neighbour to get an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What all cases together may cost in memory: far below any of the lengths they claim.
const GROWTH_BYTES_MAX: u64 = 256 << 20;

/// What must come of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// The server closes the connection by itself.
    Closed,
    /// Stream 1 ends in an error: by status, by reset or with the connection.
    Failed,
    /// It may wait or answer; the others do not notice.
    Unharmed,
}

/// What RFC 9113 asks for and etcd's library leaves out: expected of etcore only.
pub(crate) fn of_ours(expect: Expect) -> Expect {
    if is_etcore() {
        expect
    } else {
        Expect::Unharmed
    }
}

/// A server with a neighbour on it.
pub(crate) struct Scene {
    pub(crate) process: Process,
    pub(crate) neighbour: Neighbour,
    _dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let process = Process::start(Options::new(dir.path().join("data")));
        let neighbour = Neighbour::start(process.client_addr());
        neighbour.await_progress("before all cases");
        Self {
            process,
            neighbour,
            _dir: dir,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.process.client_addr()
    }

    /// Plays all cases and looks after the server.
    pub(crate) fn play(mut self, cases: Vec<(&str, Vec<u8>, Expect)>) {
        let before = self.process.resident_bytes();
        for (case, octets, expect) in cases {
            play(self.addr(), case, &octets, expect);
            self.neighbour.await_progress(case);
            assert!(self.process.is_running(), "{case}: the server is gone");
        }
        self.end(before);
    }

    pub(crate) fn end(mut self, before: u64) {
        self.neighbour.finish();
        let growth = self.process.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "grown by {growth} bytes");
        assert!(self.process.is_running(), "the server is gone");
        self.process.stop();
    }
}

pub(crate) fn play(addr: SocketAddr, case: &str, octets: &[u8], expect: Expect) {
    let mut raw = Raw::connect(addr).expect("a listener");
    // The server may close before all is sent: that is an answer, too.
    let _ = raw.send(octets);
    let deadline = Instant::now() + PATIENCE;
    match expect {
        Expect::Closed => {
            raw.read_to_end(deadline)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
        }
        Expect::Failed => {
            let status = raw.grpc_status(1, deadline);
            let status = status.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_ne!(status, Some(0), "{case}: it was taken");
        }
        Expect::Unharmed => raw.finish(),
    }
}

/// Writes and reads back until told to finish.
pub(crate) struct Neighbour {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    done: Mutex<u64>,
    changed: Condvar,
}

impl Neighbour {
    fn start(addr: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || live(addr, &shared)
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits until it has done two whole turns more, of which the second began after this call.
    pub(crate) fn await_progress(&self, case: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut done = self.shared.done.lock().expect("the neighbour failed");
        let target = *done + 2;
        while *done < target {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{case}: the neighbour waits");
            let is_alive = self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished());
            assert!(is_alive, "{case}: the neighbour failed");
            let slice = left.min(Duration::from_millis(100));
            done = self
                .shared
                .changed
                .wait_timeout(done, slice)
                .expect("the neighbour failed")
                .0;
        }
    }

    fn finish(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the neighbour failed");
        }
    }
}

fn live(addr: SocketAddr, shared: &Shared) {
    let mut client = Client::connect(addr).expect("a listener");
    client.timeout = PATIENCE;
    let mut turn = 0u64;
    while !shared.is_over.load(Ordering::Relaxed) {
        turn += 1;
        let value = turn.to_string();
        client
            .put("neighbour", &value)
            .expect("the neighbour's put");
        let answer = client
            .range(&api::get("neighbour"))
            .expect("the neighbour's read");
        assert_eq!(
            (answer.kvs[0].value == value, answer.kvs[0].version),
            (true, turn as i64)
        );
        *shared.done.lock().expect("the test failed") = turn;
        shared.changed.notify_all();
    }
}
