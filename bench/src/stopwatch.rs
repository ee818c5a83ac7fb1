//! CPU and wall time over the measured part of a load.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::usage::{self, CpuClock, CpuUsage};

/// Started and stopped by the client of a load, around what counts.
#[derive(Debug)]
pub struct Stopwatch {
    server_pid: Option<u32>,
    running: Option<Running>,
    span: Option<Span>,
}

#[derive(Debug)]
struct Running {
    started: Instant,
    machine_busy: Duration,
    server: Option<CpuClock>,
}

/// What was used between start and stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// `None`: nobody said which process serves.
    pub server: Option<CpuUsage>,
    /// Of all cores, by everyone.
    pub machine_busy: Duration,
    pub wall: Duration,
}

impl Stopwatch {
    /// Watches the process `server_pid`.
    pub fn of(server_pid: u32) -> Self {
        Self {
            server_pid: Some(server_pid),
            running: None,
            span: None,
        }
    }

    /// Watches the machine only.
    pub fn of_nobody() -> Self {
        Self {
            server_pid: None,
            running: None,
            span: None,
        }
    }

    /// # Errors
    /// If the server is gone or `/proc` cannot be read.
    pub fn start(&mut self) -> io::Result<()> {
        let machine_busy = usage::busy_ticks()?;
        let server = self.server_pid.map(CpuClock::start).transpose()?;
        self.running = Some(Running {
            started: Instant::now(),
            machine_busy,
            server,
        });
        Ok(())
    }

    /// # Errors
    /// If it was not started, the server is gone or `/proc` cannot be read.
    pub fn stop(&mut self) -> io::Result<()> {
        let not_running = || io::Error::other("a stopwatch was stopped that did not run");
        let mut running = self.running.take().ok_or_else(not_running)?;
        let wall = running.started.elapsed();
        let server = running.server.as_mut().map(CpuClock::read).transpose()?;
        let machine_busy = usage::busy_ticks()?.saturating_sub(running.machine_busy);
        self.span = Some(Span {
            server,
            machine_busy,
            wall,
        });
        Ok(())
    }

    /// The last span.
    ///
    /// # Errors
    /// If it never ran, which is a load without a measured part.
    pub fn span(&self) -> io::Result<Span> {
        self.span
            .ok_or_else(|| io::Error::other("nothing was measured"))
    }
}

impl Span {
    /// CPU used by anyone but the server and the client, in percent of all cores.
    ///
    /// # Errors
    /// If the number of cores cannot be read.
    pub fn foreign_percent(&self, client_cpu: Duration) -> io::Result<f64> {
        let server = self.server.map_or(Duration::ZERO, |usage| usage.on_cpu);
        let foreign = self.machine_busy.saturating_sub(server + client_cpu);
        let cores = thread::available_parallelism()?.get() as f64;
        Ok(foreign.as_secs_f64() / (self.wall.as_secs_f64() * cores) * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_needs_a_start_and_a_stop() {
        let mut watch = Stopwatch::of(std::process::id());
        assert!(watch.stop().is_err());
        watch.start().unwrap();
        assert!(watch.span().is_err());
        watch.stop().unwrap();
        assert!(watch.span().unwrap().server.is_some());
        assert!(watch.stop().is_err(), "stopped once");
    }

    #[test]
    fn foreign_time_is_what_nobody_claims() {
        let cores = u32::try_from(thread::available_parallelism().unwrap().get()).unwrap();
        let span = Span {
            server: Some(CpuUsage {
                on_cpu: Duration::from_secs(1),
                switch_count: 0,
            }),
            machine_busy: Duration::from_secs(2) + Duration::from_secs(1) * cores,
            wall: Duration::from_secs(2),
        };
        let percent = span.foreign_percent(Duration::from_secs(1)).unwrap();
        assert!((percent - 50.0).abs() < 1e-9, "{percent}");
        assert_eq!(
            span.foreign_percent(Duration::from_secs(999)).unwrap(),
            0.0,
            "the ticks' error goes both ways"
        );
    }
}
