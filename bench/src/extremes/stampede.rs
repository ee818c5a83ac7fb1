//! Leases that end in the same second, beside others that are kept alive.
//!
//! ```text
//!   granted: TTL = what is left until `end`, rounded down, so all end within the second before it
//!   ────────────────────────────────────────────┤ 1 s ├─ end ──── gone? (a counter of the server, then the list)
//!   kept alive meanwhile:            ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·     an open loop, due at fixed times
//! ```
//!
//! How long granting takes is learnt from leases that stay. A keep-alive that was not answered, or answered with 0, is
//! lost. The counter is scraped by a thread of its own, since a server may take long to show it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use net::{CallId, Limits};
use prost::Message;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseLeasesResponse,
};

use super::keepalive::{GRANT, KEEP_ALIVE, LONG_TTL_SECS, renewed};
use super::{ExtremesRun, Figures, as_ns, quantile_ms};
use crate::case::CaseError;
use crate::own::crowd::Crowd;
use crate::own::{OwnError, new_histogram};
use crate::process;
use crate::server::{ServerCommand, http_get};

const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
const REVOKED: &str = "etcd_debugging_lease_revoked_total ";

/// Connections that grant, and that keep alive.
const GRANTING_COUNT: usize = 10;
const KEEPING_COUNT: usize = 10;

/// Leases that are kept alive, their time to live, and how often each is: what Go's client does.
const KEPT_COUNT: u64 = 1_000;
const KEPT_TTL_SECS: i64 = 6;
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// The part of the leases that tells how long granting takes, and what more it may take.
const SAMPLE_SHARE: u64 = 20;
const SLACK: f64 = 2.0;
const LEAD: Duration = Duration::from_secs(4);

/// What is not gone so long after the end is called left.
const LIMIT: Duration = Duration::from_secs(15);
/// How long all of them may take: the promise.
const PROMISED: Duration = Duration::from_secs(10);

const SCRAPE_EVERY: Duration = Duration::from_millis(100);
const WAIT: Duration = Duration::from_millis(1);

pub(super) fn measure(run: &ExtremesRun, command: &ServerCommand) -> Result<Figures, CaseError> {
    let server = run.start(command)?;
    let endpoint = server.endpoint();
    let figures = process::with_core(run.client.core, || {
        let stall_limit = run.client.stall_limit;
        let member_count = GRANTING_COUNT + KEEPING_COUNT;
        let mut crowd = Crowd::connect(endpoint, member_count, Limits::client(), stall_limit)?;
        let sample_count = (run.sizes.stampede_count / SAMPLE_SHARE).max(1);
        let begun = Instant::now();
        grant(&mut crowd, 0, sample_count, |_| LONG_TTL_SECS)?;
        let each = begun.elapsed().div_f64(sample_count as f64);
        let count = run.sizes.stampede_count;
        let end = Instant::now() + each.mul_f64(count as f64 * SLACK) + LEAD;
        let left = |end: Instant| end.saturating_duration_since(Instant::now()).as_secs();
        grant(&mut crowd, CROWD_BASE, count, |_| left(end).cast_signed())?;
        let granting_secs = begun.elapsed().as_secs_f64();
        if left(end) < 1 {
            return Err(OwnError::Answer("granting took longer than was learnt").into());
        }
        grant(&mut crowd, KEPT_BASE, KEPT_COUNT, |_| KEPT_TTL_SECS)?;
        let revoked = Revoked::watch(endpoint, count);
        let mut keeping = Keeping::start(crowd)?;
        let mut in_promised = 0;
        while end.elapsed() < LIMIT && !revoked.is_done() {
            keeping.go_on()?;
            if end.elapsed() < PROMISED {
                in_promised = revoked.count();
            }
        }
        let (gone, took) = (revoked.is_done(), end.elapsed());
        keeping.finish(stall_limit)?;
        let mut figures = Figures::from([
            ("granting_secs", granting_secs),
            ("gone_in_10_secs", in_promised as f64),
            ("keepalives", keeping.latencies.len() as f64),
            ("keepalives_lost", keeping.lost_count as f64),
            ("keepalive_p50_ms", quantile_ms(&keeping.latencies, 0.5)),
            ("keepalive_p99_ms", quantile_ms(&keeping.latencies, 0.99)),
            ("keepalive_max_ms", quantile_ms(&keeping.latencies, 1.0)),
        ]);
        if gone {
            figures.insert("gone_secs", took.as_secs_f64());
            let list = keeping.crowd.ask(0, LEASES, &LeaseLeasesRequest {})?;
            let list = LeaseLeasesResponse::decode(list);
            let list = list.map_err(|_| OwnError::Answer("it is no message"))?;
            if list.leases.iter().any(|lease| lease.id >= CROWD_BASE) {
                return Err(OwnError::Answer("a lease that was revoked is listed").into());
            }
        }
        Ok::<_, CaseError>(figures)
    })?;
    // What is left of the crowd would keep an orderly end waiting.
    drop(server);
    Ok(figures)
}

/// Numbers of the leases of a kind begin here.
const KEPT_BASE: i64 = 1 << 30;
const CROWD_BASE: i64 = 1 << 40;

fn grant(
    crowd: &mut Crowd,
    base: i64,
    count: u64,
    ttl: impl Fn(u64) -> i64,
) -> Result<(), OwnError> {
    crowd.ask_many(GRANT, count, |no| LeaseGrantRequest {
        ttl: ttl(no).max(1),
        id: base + 1 + no.cast_signed(),
    })
}

/// The kept leases and their streams.
struct Keeping {
    crowd: Crowd,
    /// With the due times of the questions that were not answered yet.
    streams: Vec<(CallId, VecDeque<Instant>)>,
    due: Instant,
    asked_count: u64,
    lost_count: u64,
    latencies: hdrhistogram::Histogram<u64>,
}

impl Keeping {
    fn start(mut crowd: Crowd) -> Result<Self, OwnError> {
        let members = GRANTING_COUNT..GRANTING_COUNT + KEEPING_COUNT;
        let streams: Result<Vec<_>, OwnError> = members
            .map(|member| Ok((crowd.start(member, KEEP_ALIVE)?, VecDeque::new())))
            .collect();
        Ok(Self {
            crowd,
            streams: streams?,
            due: Instant::now(),
            asked_count: 0,
            lost_count: 0,
            latencies: new_histogram().ok_or(OwnError::Answer("no histogram"))?,
        })
    }

    /// Asks what is due and takes what was answered.
    fn go_on(&mut self) -> Result<(), OwnError> {
        while self.due <= Instant::now() {
            let no = self.asked_count % KEPT_COUNT;
            let stream = (no % KEEPING_COUNT as u64) as usize;
            let (call, asked) = &mut self.streams[stream];
            asked.push_back(self.due);
            let id = KEPT_BASE + 1 + no.cast_signed();
            self.crowd.say(
                GRANTING_COUNT + stream,
                *call,
                &LeaseKeepAliveRequest { id },
            );
            self.asked_count += 1;
            self.due += KEEP_EVERY.div_f64(KEPT_COUNT as f64);
        }
        self.take()
    }

    fn take(&mut self) -> Result<(), OwnError> {
        let mut words = Vec::new();
        self.crowd.wait(WAIT, &mut words)?;
        for word in words {
            let (_, asked) = &mut self.streams[word.member - GRANTING_COUNT];
            let Some(due) = asked.pop_front() else {
                return Err(OwnError::Answer("nobody asked for it"));
            };
            self.latencies.saturating_record(as_ns(due.elapsed()));
            self.lost_count += u64::from(renewed(word)? <= 0);
        }
        Ok(())
    }

    /// Waits for the answers that are missing; those that do not come are lost.
    fn finish(&mut self, limit: Duration) -> Result<(), OwnError> {
        let begun = Instant::now();
        let missing = |streams: &[(CallId, VecDeque<Instant>)]| {
            streams.iter().map(|(_, asked)| asked.len() as u64).sum()
        };
        while missing(&self.streams) > 0 && begun.elapsed() < limit {
            self.take()?;
        }
        let missing: u64 = missing(&self.streams);
        self.lost_count += missing;
        Ok(())
    }
}

/// Scrapes how many leases were revoked, until all are.
struct Revoked {
    count: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    wanted: u64,
    thread: Option<JoinHandle<()>>,
}

impl Revoked {
    fn watch(endpoint: SocketAddr, wanted: u64) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&count), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let (count, is_over) = shared;
            while !is_over.load(Ordering::Relaxed) && count.load(Ordering::Relaxed) < wanted {
                let page = http_get(endpoint, "/metrics").unwrap_or_default();
                let line = page.lines().find_map(|line| line.strip_prefix(REVOKED));
                // Prometheus' numbers are floats: a large count has an exponent.
                if let Some(revoked) = line.and_then(|line| line.trim().parse::<f64>().ok()) {
                    count.store(revoked as u64, Ordering::Relaxed);
                }
                thread::sleep(SCRAPE_EVERY);
            }
        });
        Self {
            count,
            is_over,
            wanted,
            thread: Some(thread),
        }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn is_done(&self) -> bool {
        self.count() >= self.wanted
    }
}

impl Drop for Revoked {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, and nothing would follow from it.
            let _ = thread.join();
        }
    }
}
