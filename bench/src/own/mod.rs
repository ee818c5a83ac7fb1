//! Our own load generator: one thread, one `epoll`, closed loop, on `net`'s client.
//!
//! ```text
//!   connect all ─► each connection starts its share ─► epoll: read, take answers, start as many, write
//!                  warm-up │ measured part │ drain         (window.rs says which part an answer belongs to)
//! ```
//!
//! - As many requests are in flight as were asked for, from the first to the last one started; who answers sooner is
//!   asked sooner. A request's latency runs from the moment it is handed to the client to the moment its answer is read.
//! - A request that fails ends the load, as does an answer that cannot be true (a key missing, a wrong count).
//! - The stopwatch runs over the measured part only: neither connections nor warm-up are in it.
//!
//! [`paced`] is the other kind: an open loop, whose requests are due at fixed times whatever the server does. [`crowd`] is
//! for calls that go on: many connections with streams on them, whose messages the caller reads.
//!
//! Blocking `epoll` and not our own executor, so that what is measured is one thing and what measures another.

pub(crate) mod bystander;
mod connection;
pub(crate) mod crowd;
pub mod errand;
mod line;
pub mod paced;
mod requests;
mod window;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::Limits;
use rustix::event::epoll;
use rustix::time::{ClockId, Timespec, clock_gettime};

use self::connection::Connection;
use self::line::ReadEnd;
use self::requests::Requests;
pub(crate) use self::requests::key;
pub use self::requests::key_space_max;
pub(crate) use self::window::new_histogram;
use self::window::{Phase, Window};
use crate::load::{Load, LoadResult};
use crate::process;
use crate::stopwatch::Stopwatch;

/// What one read takes.
const READ_SIZE_BYTES: usize = 64 * 1024;

/// Events that one `epoll_wait` gives.
const EVENTS_MAX: usize = 256;

/// How often a load without answers looks at the clock.
const WAKE_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// The generator, and where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnClient {
    pub core: Option<usize>,
    /// Without an answer for so long, the load is given up.
    pub stall_limit: Duration,
}

/// A load that failed.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    #[error("a request failed: {code}: {message}")]
    Refused { code: String, message: String },
    #[error("an answer cannot be true: {0}")]
    Answer(&'static str),
    #[error("an answer gives {count} keys, there are {wanted}")]
    WrongCount { count: i64, wanted: i64 },
    #[error("a connection is lost: {0}")]
    Lost(&'static str),
    #[error("no answer for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    #[error("client: {0}")]
    Io(#[from] io::Error),
}

/// Runs `load` to its end on the client's core.
///
/// # Errors
/// [`OwnError`] unless every request succeeded.
pub fn run(
    client: &OwnClient,
    load: &Load,
    endpoint: SocketAddr,
    stopwatch: &mut Stopwatch,
) -> Result<LoadResult, OwnError> {
    process::with_core(client.core, || {
        let mut runner = Runner::connect(load, endpoint, client.stall_limit)?;
        runner.run(stopwatch)?;
        Ok(LoadResult {
            report: runner.window.report(),
            client_cpu: runner.client_cpu,
            answered_count: runner.window.answered_count(),
        })
    })
}

/// The store's revision now.
///
/// # Errors
/// [`OwnError`] if the server does not answer a read.
pub fn revision(endpoint: SocketAddr) -> Result<i64, OwnError> {
    let header = ask_once(endpoint, requests::any_read())?.header;
    header
        .map(|header| header.revision)
        .ok_or(OwnError::Answer("it has no header"))
}

/// A linearizable read of one key, which need not be there.
///
/// # Errors
/// [`OwnError`] if the server does not answer it.
pub fn read_once(endpoint: SocketAddr) -> Result<(), OwnError> {
    ask_once(endpoint, requests::point_read()).map(drop)
}

/// One call on a connection of its own.
fn ask_once(
    endpoint: SocketAddr,
    (path, request): (&str, Bytes),
) -> Result<requests::Answer, OwnError> {
    let mut connection =
        Connection::connect(endpoint, &Arc::new(Limits::client()), Duration::ZERO)?;
    connection.socket().set_nonblocking(false)?;
    connection
        .socket()
        .set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.start(path, request, Duration::ZERO, 0)?;
    let mut buffer = vec![0; READ_SIZE_BYTES];
    loop {
        connection.flush()?;
        connection.read(&mut buffer)?;
        if let Some(answered) = connection.poll_answered()? {
            return Ok(answered.answer);
        }
    }
}

struct Runner {
    connections: Vec<Connection>,
    /// Requests that each connection keeps in flight.
    depths: Vec<usize>,
    /// Whether a connection waits for its socket to take more.
    is_blocked: Vec<bool>,
    epoll: OwnedFd,
    requests: Requests,
    window: Window,
    origin: Instant,
    last_answer: Duration,
    stall_limit: Duration,
    buffer: Vec<u8>,
    client_cpu: Duration,
}

impl Runner {
    fn connect(load: &Load, endpoint: SocketAddr, stall_limit: Duration) -> Result<Self, OwnError> {
        let limits = Arc::new(Limits::client());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut connections = Vec::new();
        for index in 0..load.conn_count {
            let connection = Connection::connect(endpoint, &limits, Duration::ZERO)?;
            let data = epoll::EventData::new_u64(u64::from(index));
            epoll::add(&epoll, connection.socket(), data, epoll::EventFlags::IN)
                .map_err(io::Error::from)?;
            connections.push(connection);
        }
        let no_histogram = || io::Error::other("no histogram");
        Ok(Self {
            is_blocked: vec![false; connections.len()],
            connections,
            depths: depths(load.client_count, load.conn_count),
            epoll,
            requests: Requests::new(load),
            window: Window::new(load.warm_up, load.measured, Duration::ZERO)
                .ok_or_else(no_histogram)?,
            origin: Instant::now(),
            last_answer: Duration::ZERO,
            stall_limit,
            buffer: vec![0; READ_SIZE_BYTES],
            client_cpu: Duration::ZERO,
        })
    }

    fn run(&mut self, stopwatch: &mut Stopwatch) -> Result<(), OwnError> {
        self.origin = Instant::now();
        self.turn_phase(stopwatch)?;
        for index in 0..self.connections.len() {
            self.start_more(index)?;
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.window.is_over() {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, Some(&WAKE_EVERY)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.on_ready(index, stopwatch)?;
            }
            if self.now().saturating_sub(self.last_answer) > self.stall_limit {
                return Err(OwnError::Stalled(self.stall_limit));
            }
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Takes what a connection has to say and gives it as many new requests.
    fn on_ready(&mut self, index: usize, stopwatch: &mut Stopwatch) -> Result<(), OwnError> {
        loop {
            let now = self.now();
            let Some(connection) = self.connections.get_mut(index) else {
                return Ok(());
            };
            connection.on_time(now);
            let end = connection.read(&mut self.buffer)?;
            self.take_answers(index, stopwatch)?;
            if end == ReadEnd::Empty {
                break;
            }
        }
        self.start_more(index)
    }

    fn take_answers(&mut self, index: usize, stopwatch: &mut Stopwatch) -> Result<(), OwnError> {
        let now = self.now();
        while let Some(answered) = self.connections[index].poll_answered()? {
            let count = answered.answer.count;
            match self.requests.wanted_count() {
                Some(wanted) if wanted != count => {
                    return Err(OwnError::WrongCount { count, wanted });
                }
                _ => {}
            }
            self.last_answer = now;
            self.window.on_answer(now.saturating_sub(answered.started));
            self.turn_phase(stopwatch)?;
        }
        Ok(())
    }

    fn start_more(&mut self, index: usize) -> Result<(), OwnError> {
        let now = self.now();
        let connection = &mut self.connections[index];
        while connection.in_flight() < self.depths[index] && self.window.may_start() {
            self.window.on_start();
            connection.start(self.requests.path(), self.requests.make(), now, 0)?;
        }
        let is_blocked = !connection.flush()?;
        if is_blocked != self.is_blocked[index] {
            self.is_blocked[index] = is_blocked;
            let socket = self.connections[index].socket();
            watch(&self.epoll, socket, index, is_blocked)?;
        }
        Ok(())
    }

    /// Starts and stops the clocks where a part of the load begins or ends.
    fn turn_phase(&mut self, stopwatch: &mut Stopwatch) -> Result<(), OwnError> {
        match self.window.poll_phase(self.now()) {
            None | Some(Phase::WarmUp) => {}
            Some(Phase::Measured) => {
                stopwatch.start()?;
                self.client_cpu = thread_cpu();
                self.window.restart_phase(self.now());
            }
            Some(Phase::Drain) => {
                self.client_cpu = thread_cpu().saturating_sub(self.client_cpu);
                stopwatch.stop()?;
            }
        }
        Ok(())
    }
}

/// Asks to be told when a socket can be read, and when it takes more if something waits for that.
fn watch(epoll: &OwnedFd, socket: &TcpStream, index: usize, is_blocked: bool) -> io::Result<()> {
    let mut flags = epoll::EventFlags::IN;
    flags.set(epoll::EventFlags::OUT, is_blocked);
    let data = epoll::EventData::new_u64(index as u64);
    Ok(epoll::modify(epoll, socket, data, flags)?)
}

/// Shares `client_count` requests among the connections, the first ones taking what does not divide.
fn depths(client_count: u32, conn_count: u32) -> Vec<usize> {
    let conn_count = conn_count.max(1);
    let (each, rest) = (client_count / conn_count, client_count % conn_count);
    (0..conn_count)
        .map(|index| (each + u32::from(index < rest)) as usize)
        .collect()
}

pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_shared_evenly() {
        assert_eq!(depths(1_000, 100), vec![10; 100]);
        assert_eq!(depths(7, 3), [3, 2, 2]);
        assert_eq!(depths(1, 2), [1, 0]);
    }

    #[test]
    fn cpu_time_of_this_thread_advances() {
        let before = thread_cpu();
        std::hint::black_box((0..2_000_000_u64).sum::<u64>());
        assert!(thread_cpu() > before);
    }

    #[test]
    fn nobody_listening_is_an_error() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = free.local_addr().unwrap();
        drop(free);
        assert!(matches!(revision(endpoint), Err(OwnError::Io(_))));
    }
}
