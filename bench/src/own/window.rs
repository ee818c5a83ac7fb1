//! Which answers count: warm-up, measured part, drain; and the latencies of the measured part.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::Extent;
use crate::report::LoadReport;

/// Latencies are told apart within these bounds. Slower answers count as this slow.
const LATENCY_NS_MIN: u64 = 1;
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Significant figures of a latency.
const FIGURES: u8 = 3;

/// Of latencies in nanoseconds. `None`: its bounds contradict each other, which they do not.
pub(crate) fn new_histogram() -> Option<Histogram<u64>> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, FIGURES).ok()
}

/// Where a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measured,
    /// Nothing is started any more; what is in flight is awaited.
    Drain,
}

/// The phases of one load. Time is since any fixed origin.
#[derive(Debug)]
pub(super) struct Window {
    warm_up: Extent,
    measured: Extent,
    phase: Phase,
    phase_started: Duration,
    /// Answers in this phase.
    phase_count: u64,
    started_count: u64,
    answered_count: u64,
    latencies: Histogram<u64>,
    elapsed: Duration,
}

impl Window {
    /// `None`: the histogram's bounds contradict each other, which they do not.
    pub(super) fn new(warm_up: Extent, measured: Extent, now: Duration) -> Option<Self> {
        let latencies = new_histogram()?;
        Some(Self {
            warm_up,
            measured,
            phase: Phase::WarmUp,
            phase_started: now,
            phase_count: 0,
            started_count: 0,
            answered_count: 0,
            latencies,
            elapsed: Duration::ZERO,
        })
    }

    pub(super) fn answered_count(&self) -> u64 {
        self.answered_count
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Drain && self.answered_count == self.started_count
    }

    /// Whether one more request may start. Without a time bound as many start as were asked for, so that
    /// nobody's count differs.
    pub(super) fn may_start(&self) -> bool {
        let is_counted = self.warm_up.at_least.is_zero() && self.measured.at_least.is_zero();
        let total = self.warm_up.requests.saturating_add(self.measured.requests);
        self.phase != Phase::Drain && !(is_counted && self.started_count >= total)
    }

    pub(super) fn on_start(&mut self) {
        self.started_count += 1;
    }

    /// Input: an answer came.
    pub(super) fn on_answer(&mut self, latency: Duration) {
        self.answered_count += 1;
        self.phase_count += 1;
        if self.phase == Phase::Measured {
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(ns);
        }
    }

    /// Output: the phase that begins now, if one does. Ask before the first request and after each answer.
    pub(super) fn poll_phase(&mut self, now: Duration) -> Option<Phase> {
        let since = now.saturating_sub(self.phase_started);
        let extent = match self.phase {
            Phase::WarmUp => self.warm_up,
            Phase::Measured => self.measured,
            Phase::Drain => return None,
        };
        if self.phase_count < extent.requests || since < extent.at_least {
            return None;
        }
        self.phase = match self.phase {
            Phase::WarmUp => Phase::Measured,
            Phase::Measured | Phase::Drain => {
                self.elapsed = since;
                Phase::Drain
            }
        };
        self.phase_count = 0;
        self.phase_started = now;
        Some(self.phase)
    }

    /// The measured part began only now, since reading the clocks took time.
    pub(super) fn restart_phase(&mut self, now: Duration) {
        self.phase_started = now;
    }

    /// What the measured part gave.
    pub(super) fn report(&self) -> LoadReport {
        let request_count = self.latencies.len();
        let total_secs = self.elapsed.as_secs_f64();
        let at = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1e9;
        // A percentile of fewer requests than it takes to have one would be the maximum by another name.
        let rarer = |quantile, count_min| (request_count >= count_min).then(|| at(quantile));
        LoadReport {
            total_secs,
            slowest_secs: self.latencies.max() as f64 / 1e9,
            requests_per_sec: request_count as f64 / total_secs,
            request_count,
            p50_secs: at(0.5),
            p90_secs: rarer(0.9, 10),
            p99_secs: rarer(0.99, 100),
            p999_secs: rarer(0.999, 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn counted_loads_start_exactly_what_was_asked_for() {
        let mut window = Window::new(Extent::requests(2), Extent::requests(3), ms(0)).unwrap();
        let mut phases = Vec::new();
        let mut started = 0;
        phases.extend(window.poll_phase(ms(0)));
        for at in 1.. {
            // Two in flight.
            while window.may_start() && window.started_count - window.answered_count < 2 {
                window.on_start();
                started += 1;
            }
            window.on_answer(ms(10));
            phases.extend(window.poll_phase(ms(at)));
            if window.is_over() {
                break;
            }
        }
        assert_eq!(phases, [Phase::Measured, Phase::Drain]);
        assert_eq!((started, window.answered_count()), (5, 5));
        let report = window.report();
        assert_eq!(report.request_count, 3);
        assert_eq!(report.total_secs, 0.003);
        assert_eq!(report.requests_per_sec, 1_000.0);
        assert!((report.p50_secs - 0.010).abs() < 1e-4);
        assert_eq!(report.p99_secs, None);
    }

    #[test]
    fn timed_loads_go_on_until_both_bounds_are_reached() {
        let extent = Extent {
            requests: 2,
            at_least: ms(100),
        };
        let mut window = Window::new(Extent::requests(0), extent, ms(0)).unwrap();
        assert_eq!(window.poll_phase(ms(0)), Some(Phase::Measured));
        let mut answer = |at| {
            assert!(window.may_start());
            window.on_start();
            window.on_answer(ms(1));
            window.poll_phase(ms(at))
        };
        assert_eq!(answer(10), None);
        assert_eq!(answer(20), None, "enough answers, too early");
        assert_eq!(answer(100), Some(Phase::Drain));
        assert!(window.is_over() && !window.may_start());
        assert_eq!(window.report().request_count, 3);
    }

    #[test]
    fn answers_of_the_drain_do_not_count() {
        let extent = Extent {
            requests: 1,
            at_least: ms(1),
        };
        let mut window = Window::new(Extent::requests(0), extent, ms(0)).unwrap();
        window.poll_phase(ms(0));
        window.on_start();
        window.on_start();
        window.on_answer(ms(1));
        assert_eq!(window.poll_phase(ms(1)), Some(Phase::Drain));
        assert!(!window.is_over());
        window.on_answer(ms(500));
        assert!(window.is_over());
        assert_eq!(window.report().request_count, 1);
        assert_eq!(window.answered_count(), 2);
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut window = Window::new(Extent::requests(0), Extent::requests(1_000), ms(0)).unwrap();
        window.poll_phase(ms(0));
        for us in 1..=1_000 {
            window.on_start();
            window.on_answer(Duration::from_micros(us));
        }
        window.poll_phase(ms(7));
        let report = window.report();
        let near = |value: f64, us: f64| (value * 1e6 - us).abs() <= us / 500.0;
        assert!(near(report.p50_secs, 500.0), "{report:?}");
        assert!(near(report.p90_secs.unwrap(), 900.0), "{report:?}");
        assert!(near(report.p99_secs.unwrap(), 990.0), "{report:?}");
        assert!(near(report.p999_secs.unwrap(), 999.0), "{report:?}");
        assert!(near(report.slowest_secs, 1_000.0), "{report:?}");
    }
}
