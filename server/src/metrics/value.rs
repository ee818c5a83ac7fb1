//! The three kinds of numbers: counters, gauges and histograms.
//!
//! Each belongs to one shard, which alone changes it; any shard may read it. So a change is a load, an
//! addition and a store without a locked instruction, and the reader sees some recent value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows, from 0 at the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(count), Ordering::Relaxed);
    }

    /// Sets it to what somebody else has counted since the start of the process.
    pub fn raise(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that comes and goes. It is not exposed before it was set once, so that a series which
/// nobody feeds never claims to be zero.
#[derive(Debug)]
pub struct Gauge(AtomicU64);

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicU64::new(Self::UNSET_BITS))
    }
}

impl Gauge {
    /// A NaN that no arithmetic yields.
    const UNSET_BITS: u64 = u64::MAX;

    /// Numbers above 2^53 lose their lowest digits, as they do in Prometheus.
    pub fn set(&self, value: u64) {
        self.set_float(value as f64);
    }

    pub fn set_bool(&self, value: bool) {
        self.set(u64::from(value));
    }

    pub fn set_float(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to the value; an unset gauge counts as 0.
    pub fn add(&self, difference: i64) {
        self.set_float(self.get().unwrap_or(0.0) + difference as f64);
    }

    pub fn get(&self) -> Option<f64> {
        match self.0.load(Ordering::Relaxed) {
            Self::UNSET_BITS => None,
            bits => Some(f64::from_bits(bits)),
        }
    }
}

/// How many observations fell below each of some bounds, and their sum.
#[derive(Debug)]
pub struct Histogram {
    /// Ascending upper bounds; one more bucket has none.
    bounds: &'static [f64],
    /// Observations above the bound before and up to this one's; `bounds.len() + 1` of them.
    buckets: Box<[Counter]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self {
            bounds,
            buckets,
            sum: AtomicU64::new(0),
        }
    }

    /// Adds an observation in seconds.
    pub fn observe(&self, duration: Duration) {
        self.observe_float(duration.as_secs_f64());
    }

    pub fn observe_float(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].inc();
        self.sum
            .store((self.sum() + value).to_bits(), Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }

    pub(super) fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Observations per bucket, not cumulated.
    pub(super) fn buckets(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::get)
    }
}

/// `N` bounds, each twice the one before.
pub(super) const fn doubling<const N: usize>(first: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut position = 1;
    while position < N {
        bounds[position] = bounds[position - 1] * 2.0;
        position += 1;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        static BOUNDS: [f64; 3] = doubling(1.0);
        let histogram = Histogram::new(&BOUNDS);
        for value in [0.5, 1.0, 1.5, 4.0, 4.1] {
            histogram.observe_float(value);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 11.1).abs() < 1e-9);
    }

    #[test]
    fn a_gauge_is_unset_until_it_is_set() {
        let gauge = Gauge::default();
        assert_eq!(gauge.get(), None);
        gauge.add(-2);
        assert_eq!(gauge.get(), Some(-2.0));
        gauge.set(0);
        assert_eq!(gauge.get(), Some(0.0));
    }

    #[test]
    fn counters_count() {
        let counter = Counter::default();
        counter.inc();
        counter.add(5);
        assert_eq!(counter.get(), 6);
    }
}
