//! The histogram of CPU time per turn of etcore's loops, scraped from `/metrics` before and after a phase.
//!
//! The page sums over the shards. A server on one core has one shard, the log shard, so then it is that one's. The turn that
//! writes the page of the first scrape ends after it and is counted, as any other turn.

use std::io;
use std::net::SocketAddr;

use serde::Serialize;

use crate::server::http_get;

const BUCKET: &str = "etcore_executor_turn_cpu_seconds_bucket{le=\"";

/// Turns per bucket.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Turns {
    buckets: Vec<Bucket>,
}

/// The turns above the bound before and up to this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bucket {
    /// `null` in JSON: no bound.
    pub at_most_secs: f64,
    pub count: u64,
}

impl Turns {
    /// Scrapes a server; `None` if it has no such histogram.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn scrape(endpoint: SocketAddr) -> io::Result<Option<Self>> {
        Ok(Self::parse(&http_get(endpoint, "/metrics")?))
    }

    /// Reads lines `…_bucket{le="0.001"} 17`, whose counts include those of the buckets before.
    pub(super) fn parse(page: &str) -> Option<Self> {
        let mut buckets = Vec::new();
        let mut before = 0;
        for line in page.lines().filter_map(|line| line.strip_prefix(BUCKET)) {
            let (bound, count) = line.split_once("\"} ")?;
            let at_most_secs = match bound {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().ok()?,
            };
            // Prometheus' numbers are floats: a large count has an exponent.
            let up_to: f64 = count.trim().parse().ok()?;
            let up_to = up_to as u64;
            buckets.push(Bucket {
                at_most_secs,
                count: up_to.checked_sub(before)?,
            });
            before = up_to;
        }
        (!buckets.is_empty()).then_some(Self { buckets })
    }

    /// The turns since `before`; `None` if that is of another process.
    #[must_use]
    pub fn since(&self, before: &Self) -> Option<Self> {
        self.joined(before, u64::checked_sub)
    }

    /// The turns of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        self.joined(other, u64::checked_add)
    }

    fn joined(&self, other: &Self, join: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        if self.buckets.len() != other.buckets.len() {
            return None;
        }
        let pairs = self.buckets.iter().zip(&other.buckets);
        let joined = pairs.map(|(one, two)| {
            Some(Bucket {
                count: join(one.count, two.count)?,
                ..*one
            })
        });
        let buckets: Option<Vec<Bucket>> = joined.collect();
        Some(Self { buckets: buckets? })
    }

    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// What the turn at `quantile` did not exceed, in ms: the bound of its bucket. `None` without turns.
    pub fn at_most_ms(&self, quantile: f64) -> Option<f64> {
        let rank = (self.count() as f64 * quantile).ceil() as u64;
        let mut up_to = 0;
        let bucket = self.buckets.iter().find(|bucket| {
            up_to += bucket.count;
            bucket.count > 0 && up_to >= rank
        })?;
        Some(self.bound_ms(bucket))
    }

    /// What no turn exceeded, in ms.
    pub fn max_ms(&self) -> Option<f64> {
        let last = self.buckets.iter().rfind(|bucket| bucket.count > 0)?;
        Some(self.bound_ms(last))
    }

    /// A bucket without a bound counts as ten times the largest, so that it is worse than any and still a number.
    fn bound_ms(&self, bucket: &Bucket) -> f64 {
        if bucket.at_most_secs.is_finite() {
            return bucket.at_most_secs * 1e3;
        }
        let bounds = self.buckets.iter().map(|bucket| bucket.at_most_secs);
        bounds.filter(|b| b.is_finite()).fold(0.0, f64::max) * 1e4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counts: [u64; 4]) -> String {
        let bounds = ["0.0005", "0.001", "0.005", "+Inf"];
        let lines = bounds.iter().zip(counts);
        let lines: String = lines
            .map(|(bound, count)| format!("{BUCKET}{bound}\"}} {count}\n"))
            .collect();
        format!("HTTP/1.1 200 OK\r\n\r\nother_bucket{{le=\"1\"}} 4\n{lines}more 1\n")
    }

    #[test]
    fn turns_are_those_between_two_scrapes() {
        let before = Turns::parse(&page([10, 10, 10, 11])).unwrap();
        let after = Turns::parse(&page([10_009, 10_010, 10_010, 10_011])).unwrap();
        assert_eq!(before.max_ms(), Some(50.0), "no bound: ten times the last");
        let between = after.since(&before).unwrap();
        assert_eq!(between.count(), 10_000);
        assert_eq!(between.at_most_ms(0.9999), Some(0.5));
        assert_eq!(between.at_most_ms(1.0), Some(1.0));
        assert_eq!(between.max_ms(), Some(1.0));
        assert_eq!(between.plus(&before), Some(after.clone()));
        assert_eq!(before.since(&after), None, "turns do not become fewer");
    }

    #[test]
    fn a_quantile_counts_up_from_the_fastest() {
        let turns = Turns::parse(&page([9_998, 9_999, 10_000, 10_000])).unwrap();
        assert_eq!(turns.at_most_ms(0.9998), Some(0.5));
        assert_eq!(turns.at_most_ms(0.9999), Some(1.0));
        assert_eq!(turns.max_ms(), Some(5.0));
    }

    #[test]
    fn other_pages_have_none() {
        assert_eq!(Turns::parse("etcd_server_has_leader 1\n"), None);
        assert_eq!(
            Turns::parse(&page([2, 1, 1, 1])),
            None,
            "cumulated counts do not fall"
        );
        let none = Turns::parse(&page([0, 0, 0, 0])).unwrap();
        assert_eq!((none.at_most_ms(0.5), none.max_ms()), (None, None));
    }
}
