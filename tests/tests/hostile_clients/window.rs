//! One window of an attack: its threads, and what they did.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::socket::Hostile;

/// What each thread of an attack does over and over: one life of a connection, or of some.
pub(crate) type Attack = Arc<dyn Fn(&Stage) -> Option<()> + Send + Sync>;

/// The weakest claim to the processor: hostile threads take what the others leave.
const NICE_MAX: i32 = 19;

/// Before each new connection. That connecting costs the kernel, on both sides and at no niceness, is not what is tested;
/// thousands of connections a second are.
const CONNECT_INTERVAL: Duration = Duration::from_millis(1);

/// What the threads of a window share.
pub(crate) struct Stage {
    pub(crate) addr: SocketAddr,
    is_over: AtomicBool,
    connections: AtomicU64,
    sent_bytes: AtomicU64,
}

/// What was thrown at the server.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) connections: u64,
    pub(crate) sent_bytes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.sent_bytes += other.sent_bytes;
    }
}

impl Stage {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A new connection, unless the window is over.
    pub(crate) fn connect(&self) -> Option<Hostile<'_>> {
        if self.is_over() {
            return None;
        }
        std::thread::sleep(CONNECT_INTERVAL);
        let hostile = Hostile::connect(self).expect("the server takes connections");
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(hostile)
    }

    pub(crate) fn add_sent(&self, len: usize) {
        self.sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// A server under attack.
pub(crate) struct Target {
    stage: Arc<Stage>,
    threads: Vec<JoinHandle<()>>,
}

impl Target {
    pub(crate) fn start(addr: SocketAddr, threads: usize, attack: &Attack) -> Self {
        let stage = Arc::new(Stage {
            addr,
            is_over: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        });
        let threads = (0..threads).map(|_| {
            let (stage, attack) = (Arc::clone(&stage), Arc::clone(attack));
            std::thread::spawn(move || {
                // On Linux it is of the calling thread only.
                rustix::process::nice(NICE_MAX).expect("anybody may be nicer");
                while !stage.is_over() {
                    // None: thrown out, or the window is over.
                    let _ = attack(&stage);
                }
            })
        });
        Self {
            threads: threads.collect(),
            stage,
        }
    }

    /// # Panics
    /// If it was no attack: no octet was sent.
    pub(crate) fn end(self, name: &str) -> Tally {
        self.stage.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a hostile thread failed");
        }
        let tally = Tally {
            connections: self.stage.connections.load(Ordering::Relaxed),
            sent_bytes: self.stage.sent_bytes.load(Ordering::Relaxed),
        };
        assert!(
            tally.connections > 0 && tally.sent_bytes > 0,
            "{name}: {tally:?}"
        );
        tally
    }
}
