//! An open loop: a put and a get are due each millisecond, whatever became of those before.
//!
//! ```text
//!   due:  0 ms      1 ms      2 ms            prober: put + linearizable get of one key, one write on one connection
//!         │ ·     · │ ·     · │ ·     ·       background writer, on a second connection, between them
//!         └ latency runs from here            errands, if asked for: sent first, each on a connection of its own
//! ```
//!
//! - A latency runs from the moment the request was *due* to the moment its answer was read. A server that stalls for
//!   100 ms is seen by a hundred probes, not by the one that happened to wait (coordinated omission).
//! - How late a probe was handed to the socket is kept by itself: it is the client's lateness, and in the latencies too.
//!   The thread sleeps until shortly before the next due time and looks at the clock from there.
//! - The background writer never catches up: what it cannot send is skipped and shows as a lower rate.
//! - One thread does it all, so that nothing of the client competes with the prober for a core.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use net::Limits;
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::connection::Connection;
use super::errand::{Errand, ErrandDone, Running};
use super::line::ReadEnd;
use super::requests::Requests;
use super::window::new_histogram;
use super::{OwnClient, OwnError, READ_SIZE_BYTES, thread_cpu};
use crate::load::{Load, Op};
use crate::process;
use crate::stopwatch::Stopwatch;

/// How often a put and a get are due.
const PROBE_EVERY: Duration = Duration::from_millis(1);

/// Probes begin so long after the connections stand, so that the first ones are not late.
const LEAD: Duration = Duration::from_millis(20);

/// So long before a request is due the thread stops sleeping: more than it takes to wake up, as a rule.
const AWAKE_BEFORE: Duration = Duration::from_micros(60);

/// Ten seconds of probes. Past it probes wait to be sent, and their latency goes on counting.
const PROBES_IN_FLIGHT_MAX: usize = 20_000;

/// Background puts in flight; what is due beyond is skipped.
const BACKGROUND_IN_FLIGHT_MAX: usize = 100;

/// How often a loop that only waits for answers looks at the clock.
const WAKE_EVERY: Duration = Duration::from_millis(200);

/// Time for all errands to be done.
const ERRANDS_LIMIT: Duration = Duration::from_secs(1_200);

/// Places of the connections, of the timer, and of errands from here on, among epoll's events.
const PROBER: usize = 0;
const BACKGROUND: usize = 1;
const TIMER: usize = 2;
const ERRANDS: usize = 3;

/// Tags of the prober's calls: which request, and above it the turn of errands, from 1, during which it was due.
const TAG_GET: u32 = 1;
const TAG_TURN_SHIFT: u32 = 1;

/// What is asked, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Its keys, sizes and order; the other fields are not looked at.
    pub load: Load,
    /// Beside the prober; 0 for none.
    pub background_puts_per_sec: u32,
    /// Those of one turn begin together, the first ones at once, others when those before are done. All are awaited.
    pub errands: Vec<Vec<Errand>>,
    /// Refusals of the moment are counted, and not the end.
    pub endures_refusals: bool,
    pub at_least: Duration,
}

/// Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub struct ProbeLatencies {
    pub put: Histogram<u64>,
    pub get: Histogram<u64>,
}

/// What a paced load gave.
#[derive(Debug, Clone)]
pub struct PacedResult {
    pub all: ProbeLatencies,
    /// Of those that were due during each turn of errands.
    pub beside: Vec<ProbeLatencies>,
    /// How late probes were sent, in nanoseconds.
    pub lateness: Histogram<u64>,
    pub background_count: u64,
    /// Probes that the server refused; latencies are of the others.
    pub refused_count: u64,
    pub elapsed: Duration,
    /// In the order of their ends.
    pub errands: Vec<ErrandDone>,
    pub client_cpu: Duration,
}

/// Runs `pace` to its end on the client's core; the stopwatch runs from the first probe to the last answer.
///
/// # Errors
/// [`OwnError`] unless every request succeeded.
pub fn run(
    client: &OwnClient,
    pace: &Pace,
    endpoint: SocketAddr,
    stopwatch: &mut Stopwatch,
) -> Result<PacedResult, OwnError> {
    process::with_core(client.core, || {
        let mut runner = Runner::connect(pace, endpoint, client.stall_limit)?;
        stopwatch.start()?;
        let cpu_before = thread_cpu();
        runner.run()?;
        let client_cpu = thread_cpu().saturating_sub(cpu_before);
        stopwatch.stop()?;
        Ok(PacedResult {
            all: runner.all,
            beside: runner.beside,
            lateness: runner.lateness,
            background_count: runner.background_count,
            refused_count: runner.refused_count,
            elapsed: runner.origin.elapsed(),
            errands: runner.done,
            client_cpu,
        })
    })
}

impl ProbeLatencies {
    pub(crate) fn new() -> Result<Self, OwnError> {
        Ok(Self {
            put: new_histogram().ok_or(NO_HISTOGRAM)?,
            get: new_histogram().ok_or(NO_HISTOGRAM)?,
        })
    }

    /// Puts and gets together.
    pub fn both(&self) -> Histogram<u64> {
        let mut both = self.put.clone();
        // The bounds are the same, so nothing can lie outside of them.
        let _ = both.add(&self.get);
        both
    }

    /// Adds those of another.
    pub(crate) fn add(&mut self, other: &Self) {
        // The bounds are the same, so nothing can lie outside of them.
        let _ = self.put.add(&other.put);
        let _ = self.get.add(&other.get);
    }

    fn record(&mut self, is_get: bool, latency: Duration) {
        let histogram = if is_get { &mut self.get } else { &mut self.put };
        histogram.saturating_record(as_ns(latency));
    }
}

const NO_HISTOGRAM: OwnError = OwnError::Answer("no histogram");

struct Runner {
    pace: Pace,
    endpoint: SocketAddr,
    limits: Arc<Limits>,
    /// The prober's, the background writer's.
    connections: [Connection; 2],
    is_blocked: [bool; 2],
    epoll: OwnedFd,
    timer: OwnedFd,
    probes: Requests,
    background: Requests,
    /// When the next probe and the next background put are due.
    probe_due: Duration,
    background_due: Duration,
    /// Turns of errands that were begun.
    turn_count: usize,
    /// Of the last one; `None` when it is done.
    running: Vec<Option<Running>>,
    done: Vec<ErrandDone>,
    all: ProbeLatencies,
    beside: Vec<ProbeLatencies>,
    lateness: Histogram<u64>,
    background_count: u64,
    refused_count: u64,
    origin: Instant,
    last_answer: Duration,
    stall_limit: Duration,
    buffer: Vec<u8>,
}

impl Runner {
    fn connect(pace: &Pace, endpoint: SocketAddr, stall_limit: Duration) -> Result<Self, OwnError> {
        let limits = Arc::new(Limits::client());
        let connect = || Connection::connect(endpoint, &limits, Duration::ZERO);
        let connections = [connect()?, connect()?];
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map_err(io::Error::from)?;
        let sockets = connections.iter().map(Connection::socket);
        for (place, socket) in (0..).zip(sockets) {
            let data = epoll::EventData::new_u64(place);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        }
        let data = epoll::EventData::new_u64(TIMER as u64);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        Ok(Self {
            pace: pace.clone(),
            endpoint,
            limits,
            connections,
            is_blocked: [false; 2],
            epoll,
            timer,
            probes: Requests::new(&pace.load),
            background: Requests::new(&Load {
                op: Op::Put,
                ..pace.load
            }),
            probe_due: LEAD,
            background_due: LEAD + background_every(pace) / 2,
            turn_count: 0,
            running: Vec::new(),
            done: Vec::new(),
            all: ProbeLatencies::new()?,
            beside: Vec::new(),
            lateness: new_histogram().ok_or(NO_HISTOGRAM)?,
            background_count: 0,
            refused_count: 0,
            origin: Instant::now(),
            last_answer: Duration::ZERO,
            stall_limit,
            buffer: vec![0; READ_SIZE_BYTES],
        })
    }
}

impl Runner {
    fn run(&mut self) -> Result<(), OwnError> {
        self.origin = Instant::now();
        let mut events = Vec::with_capacity(8);
        while !self.is_over() {
            self.start_due()?;
            events.clear();
            let limit = self.sleep_limit()?;
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, limit.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            for event in &events {
                // The timer is armed anew before each sleep, which takes its event away.
                match usize::try_from(event.data.u64()).unwrap_or(usize::MAX) {
                    TIMER => {}
                    place if place >= ERRANDS => self.on_errand(place)?,
                    place => self.on_ready(place)?,
                }
            }
            self.check_stall()?;
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Whether nothing more will be due: the time is over and no errand is awaited.
    fn is_draining(&self) -> bool {
        let is_done = self.turn_count == self.pace.errands.len() && !self.has_errand();
        is_done && self.probe_due >= LEAD + self.pace.at_least
    }

    fn has_errand(&self) -> bool {
        self.running.iter().any(Option::is_some)
    }

    fn is_over(&self) -> bool {
        self.is_draining() && self.connections.iter().all(|c| c.in_flight() == 0)
    }

    /// Sends what is due by now.
    fn start_due(&mut self) -> Result<(), OwnError> {
        self.start_probes()?;
        if self.probe_due > LEAD && !self.has_errand() {
            self.start_errands()?;
        }
        self.start_background()
    }

    fn start_errands(&mut self) -> Result<(), OwnError> {
        let Some(turn) = self.pace.errands.get(self.turn_count) else {
            return Ok(());
        };
        self.running.clear();
        for errand in turn {
            let now = self.origin.elapsed();
            let mut running = Running::start(*errand, self.endpoint, &self.limits, now)?;
            let data = epoll::EventData::new_u64((ERRANDS + self.running.len()) as u64);
            epoll::add(
                &self.epoll,
                running.line.socket(),
                data,
                epoll::EventFlags::IN,
            )
            .map_err(io::Error::from)?;
            running.line.flush()?;
            self.running.push(Some(running));
        }
        self.turn_count += 1;
        self.beside.push(ProbeLatencies::new()?);
        Ok(())
    }

    fn on_errand(&mut self, place: usize) -> Result<(), OwnError> {
        let now = self.now();
        let Some(slot) = self.running.get_mut(place - ERRANDS) else {
            return Ok(());
        };
        let Some(running) = slot else {
            return Ok(());
        };
        self.last_answer = now;
        if let Some(done) = running.on_ready(&mut self.buffer, now)? {
            // Its socket is closed with it, which takes it from epoll.
            self.done.push(done);
            *slot = None;
            return Ok(());
        }
        // A request of a few bytes and windows always find room in a socket.
        running.line.flush()?;
        Ok(())
    }

    fn start_probes(&mut self) -> Result<(), OwnError> {
        let mut has_started = false;
        while !self.is_draining() && self.connections[PROBER].in_flight() < PROBES_IN_FLIGHT_MAX {
            let now = self.now();
            if now < self.probe_due {
                break;
            }
            let turn = if self.has_errand() {
                self.turn_count
            } else {
                0
            };
            let turn = u32::try_from(turn).unwrap_or(0) << TAG_TURN_SHIFT;
            let [(put_path, put), (get_path, get)] = self.probes.make_pair();
            let prober = &mut self.connections[PROBER];
            prober.start(put_path, put, self.probe_due, turn)?;
            prober.start(get_path, get, self.probe_due, turn | TAG_GET)?;
            let late = now.saturating_sub(self.probe_due);
            self.lateness.saturating_record(as_ns(late));
            self.probe_due += PROBE_EVERY;
            has_started = true;
        }
        if has_started {
            self.flush(PROBER)?;
        }
        Ok(())
    }

    fn start_background(&mut self) -> Result<(), OwnError> {
        if self.pace.background_puts_per_sec == 0 {
            return Ok(());
        }
        let now = self.now();
        let mut has_started = false;
        while now >= self.background_due && !self.is_draining() {
            if self.connections[BACKGROUND].in_flight() < BACKGROUND_IN_FLIGHT_MAX {
                let (path, put) = (self.background.path(), self.background.make());
                self.connections[BACKGROUND].start(path, put, now, 0)?;
                has_started = true;
            }
            self.background_due += background_every(&self.pace);
        }
        if has_started {
            self.flush(BACKGROUND)?;
        }
        Ok(())
    }

    /// How long to wait for answers: nothing at all shortly before something is due, else until the timer, armed here,
    /// rings. A limit of `epoll` itself would be exact to 50 us only.
    fn sleep_limit(&self) -> Result<Option<Timespec>, OwnError> {
        let due = match self.pace.background_puts_per_sec {
            _ if self.is_draining() => self.now() + WAKE_EVERY,
            0 => self.probe_due,
            _ => self.probe_due.min(self.background_due),
        };
        let sleep = due.saturating_sub(self.now() + AWAKE_BEFORE);
        if sleep.is_zero() {
            return Ok(Some(Timespec::default()));
        }
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(sleep).unwrap_or_default(),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map_err(io::Error::from)?;
        Ok(None)
    }

    /// Takes what a connection has to say.
    fn on_ready(&mut self, place: usize) -> Result<(), OwnError> {
        loop {
            let now = self.now();
            let Some(connection) = self.connections.get_mut(place) else {
                return Ok(());
            };
            connection.on_time(now);
            let end = connection.read(&mut self.buffer)?;
            self.take_answers(place)?;
            if end == ReadEnd::Empty {
                break;
            }
        }
        self.flush(place)
    }

    fn take_answers(&mut self, place: usize) -> Result<(), OwnError> {
        let now = self.now();
        while let Some(answered) = self.connections[place].poll_ended()? {
            self.last_answer = now;
            let answer = match answered.answer {
                Ok(answer) => answer,
                Err(refusal) if self.pace.endures_refusals && refusal.is_of_the_moment() => {
                    self.refused_count += 1;
                    continue;
                }
                Err(refusal) => return Err(refusal.into()),
            };
            let latency = now.saturating_sub(answered.started);
            match place {
                PROBER => {
                    let is_get = answered.tag & TAG_GET != 0;
                    if is_get && answer.count != 1 {
                        let count = answer.count;
                        return Err(OwnError::WrongCount { count, wanted: 1 });
                    }
                    self.all.record(is_get, latency);
                    let turn = (answered.tag >> TAG_TURN_SHIFT) as usize;
                    let beside = turn
                        .checked_sub(1)
                        .and_then(|turn| self.beside.get_mut(turn));
                    if let Some(beside) = beside {
                        beside.record(is_get, latency);
                    }
                }
                _ => self.background_count += 1,
            }
        }
        Ok(())
    }

    fn flush(&mut self, place: usize) -> Result<(), OwnError> {
        let is_blocked = !self.connections[place].flush()?;
        if is_blocked != self.is_blocked[place] {
            self.is_blocked[place] = is_blocked;
            let socket = self.connections[place].socket();
            super::watch(&self.epoll, socket, place, is_blocked)?;
        }
        Ok(())
    }

    fn check_stall(&self) -> Result<(), OwnError> {
        let now = self.now();
        if now.saturating_sub(self.last_answer) > self.stall_limit {
            return Err(OwnError::Stalled(self.stall_limit));
        }
        if self.has_errand() && now > ERRANDS_LIMIT {
            return Err(OwnError::Stalled(ERRANDS_LIMIT));
        }
        Ok(())
    }
}

/// Between two background puts; without any it is not used.
fn background_every(pace: &Pace) -> Duration {
    Duration::from_secs(1) / pace.background_puts_per_sec.max(1)
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
