//! Two servers in turns, round by round.
//!
//! Within a round the servers change place after each case (A B, A B, …), so what differs between two
//! measurements of a pair is seconds apart.

use crate::case::{Case, CaseError, Settings};
use crate::metric::{Metric, Sample};
use crate::server::ServerCommand;
use crate::stats::Spread;

/// What to compare, and how often.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub a: ServerCommand,
    pub b: ServerCommand,
    pub cases: Vec<Case>,
    pub round_count: u32,
    pub settings: Settings,
}

/// All rounds of one case, each measured on both servers.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseRounds {
    pub case: Case,
    pub rounds: Vec<(Sample, Sample)>,
}

/// One metric over all rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub metric: Metric,
    pub a: Spread,
    pub b: Spread,
    /// B / A within each round; `None` where A is zero.
    pub b_over_a: Option<Spread>,
}

impl Comparison {
    /// Runs all rounds of all cases. `progress` is told of each measurement.
    ///
    /// # Errors
    /// The first failure ends it: a pair with a hole is no comparison.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<Vec<CaseRounds>, CaseError> {
        let mut results = self.no_rounds();
        for round_no in 1..=self.round_count {
            self.round(round_no, &mut results, &mut progress)?;
        }
        Ok(results)
    }

    /// The cases before the first round.
    pub fn no_rounds(&self) -> Vec<CaseRounds> {
        let empty = |case| CaseRounds {
            case,
            rounds: Vec::new(),
        };
        self.cases.iter().copied().map(empty).collect()
    }

    /// Adds one round to the cases.
    ///
    /// # Errors
    /// As [`Comparison::run`].
    pub fn round(
        &self,
        round_no: u32,
        results: &mut [CaseRounds],
        progress: &mut impl FnMut(&str),
    ) -> Result<(), CaseError> {
        for result in results {
            let mut measure = |label: &str, command| {
                let sample = result.case.measure(command, &self.settings)?;
                progress(&self.progress_line(round_no, result.case, label, &sample));
                Ok::<_, CaseError>(sample)
            };
            let pair = (measure("A", &self.a)?, measure("B", &self.b)?);
            result.rounds.push(pair);
        }
        Ok(())
    }

    fn progress_line(&self, round_no: u32, case: Case, label: &str, sample: &Sample) -> String {
        let shown = [
            Metric::RequestsPerSec,
            Metric::ServerCpuUsPerRequest,
            Metric::LatencyP50Us,
            Metric::LatencyP99Us,
            Metric::RssAnonMib,
            Metric::ServerCpuPercent,
            Metric::ForeignCpuPercent,
        ];
        let mut line = format!(
            "round {round_no}/{} {} {label}",
            self.round_count,
            case.name()
        );
        for metric in shown {
            if let Some(value) = sample.get(&metric) {
                line.push_str(&format!("  {} {value:.2}", metric.name()));
            }
        }
        line
    }
}

impl CaseRounds {
    /// The metrics that every round measured on both servers.
    pub fn rows(&self) -> Vec<Row> {
        let Some((first, _)) = self.rounds.first() else {
            return Vec::new();
        };
        first
            .keys()
            .filter_map(|metric| self.row(*metric))
            .collect()
    }

    /// One metric over all rounds; `None` unless each round measured it on both servers.
    pub fn row(&self, metric: Metric) -> Option<Row> {
        let pair = |(a, b): &(Sample, Sample)| Some((*a.get(&metric)?, *b.get(&metric)?));
        let pairs: Option<Vec<(f64, f64)>> = self.rounds.iter().map(pair).collect();
        let pairs = pairs?;
        Some(Row {
            metric,
            a: Spread::of(pairs.iter().map(|(a, _)| *a))?,
            b: Spread::of(pairs.iter().map(|(_, b)| *b))?,
            b_over_a: Spread::of_ratios(pairs.iter().copied()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_what_all_rounds_measured() {
        let sample = |value: f64| Sample::from([(Metric::LatencyP50Us, value)]);
        let mut odd = sample(3.0);
        odd.insert(Metric::LatencyP99Us, 9.0);
        let rounds = vec![(odd.clone(), sample(6.0)), (sample(5.0), odd)];
        let rows = CaseRounds {
            case: Case::Put,
            rounds,
        }
        .rows();
        assert_eq!(rows.len(), 1, "p99 was not measured everywhere");
        let row = rows.first().unwrap();
        assert_eq!((row.a.min, row.a.max), (3.0, 5.0));
        assert_eq!((row.b.min, row.b.max), (3.0, 6.0));
        let ratio = row.b_over_a.unwrap();
        assert_eq!((ratio.min, ratio.max), (0.6, 2.0));
    }

    #[test]
    fn no_rounds_no_rows() {
        let none = CaseRounds {
            case: Case::Idle,
            rounds: Vec::new(),
        };
        assert_eq!(none.rows(), []);
    }
}
