//! The figures as tables, as JSON lines, and as promises.
//!
//! A ratio is taken within each round; the median over the rounds is judged. Of the puts beside stalled watchers the p99 is
//! held against the largest p99 of all control rounds.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::{Extreme, ExtremesResult, Figures};
use crate::floors::{Bound, Floor};
use crate::stats::Spread;
use crate::table::{Conditions, digits, spread};

/// A figure over the rounds: of etcd, of etcore, and their ratio. What a round lacks is left out.
struct Row {
    name: &'static str,
    spreads: [Option<Spread>; 3],
}

impl ExtremesResult {
    fn rounds(&self, case: Extreme) -> &[(Figures, Figures)] {
        self.cases.get(&case).map_or(&[], Vec::as_slice)
    }

    fn rows(&self, case: Extreme) -> Vec<Row> {
        let rounds = self.rounds(case);
        let both = rounds.iter().flat_map(|(a, b)| a.keys().chain(b.keys()));
        let names: BTreeSet<&'static str> = both.copied().collect();
        let row = |name| {
            let a = rounds.iter().filter_map(|(a, _)| a.get(name).copied());
            let b = rounds.iter().filter_map(|(_, b)| b.get(name).copied());
            Row {
                name,
                spreads: [
                    Spread::of(a),
                    Spread::of(b),
                    Spread::of_ratios(self.pairs(case, name)),
                ],
            }
        };
        names.into_iter().map(row).collect()
    }

    /// Etcd's and etcore's figure of the rounds that have both.
    fn pairs(&self, case: Extreme, name: &str) -> Vec<(f64, f64)> {
        let pair = |(a, b): &(Figures, Figures)| Some((*a.get(name)?, *b.get(name)?));
        self.rounds(case).iter().filter_map(pair).collect()
    }

    /// Min / median / max of etcd, of etcore, and of etcore / etcd.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        for case in self.cases.keys() {
            let _ = writeln!(
                text,
                "\n{:<30} {:>32} {:>32} {:>22}",
                case.name(),
                "etcd",
                "etcore",
                "etcore/etcd"
            );
            for Row { name, spreads } in self.rows(*case) {
                let [a, b, ratio] = spreads.map(|values| {
                    values.map_or("-".to_owned(), |values| spread(&values, digits(&values)))
                });
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{name:<30} {a:>32} {b:>32} {ratio:>22}");
            }
        }
        text
    }

    /// One line per case.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    pub fn to_json(&self, conditions: &Conditions) -> Result<Vec<String>, serde_json::Error> {
        let conditions = serde_json::to_value(conditions)?;
        let line = |case: &Extreme| {
            let rows = self.rows(*case).into_iter().map(|row| {
                let [a, b, b_over_a] = row.spreads;
                json!({ "name": row.name, "a": a, "b": b, "b_over_a": b_over_a })
            });
            serde_json::to_string(&json!({
                "case": format!("extremes_{}", case.name()),
                "metrics": rows.collect::<Vec<_>>(),
                "conditions": conditions,
            }))
        };
        self.cases.keys().map(line).collect()
    }

    /// The promises of the cases that ran.
    pub fn floors(&self) -> Vec<Floor> {
        let floors = |case: &Extreme| match case {
            Extreme::Watch => vec![self.ratio(
                *case,
                "events_per_server_cpu_sec",
                "events to many watchers per server CPU-second, etcore / etcd",
                Bound::AtLeast(5.0),
            )],
            Extreme::KeepAlive => vec![self.ratio(
                *case,
                "keepalives_per_server_cpu_sec",
                "keep-alives per server CPU-second, etcore / etcd",
                Bound::AtLeast(5.0),
            )],
            Extreme::Idle => [
                (
                    "watcher_anon_bytes",
                    "memory of an idle watcher, etcore / etcd",
                ),
                (
                    "stream_anon_bytes",
                    "memory of an idle stream, etcore / etcd",
                ),
                (
                    "connection_anon_bytes",
                    "memory of an idle connection, etcore / etcd",
                ),
            ]
            .map(|(figure, name)| self.ratio(*case, figure, name, Bound::AtMost(1.0 / 3.0)))
            .into(),
            Extreme::Stalled => self.stalled_floors(),
            Extreme::Stampede => vec![
                self.own(
                    *case,
                    "gone_secs",
                    "s until the leases of one second are gone",
                    10.0,
                ),
                self.own(*case, "keepalives_lost", "keep-alives lost meanwhile", 0.0),
            ],
            Extreme::Maintenance => vec![
                self.own(
                    *case,
                    "prober_p999_us",
                    "prober p99.9 beside maintenance, us",
                    10_000.0,
                ),
                self.shrinking(),
            ],
            Extreme::Starts => vec![
                self.ratio(
                    *case,
                    "killed_start_secs",
                    "first answer after SIGKILL, etcore / etcd",
                    Bound::Shown,
                ),
                self.ratio(
                    *case,
                    "stopped_start_secs",
                    "first answer after a stop, etcore / etcd",
                    Bound::Shown,
                ),
            ],
        };
        self.cases.keys().flat_map(floors).collect()
    }

    fn ratio(&self, case: Extreme, figure: &str, name: &str, bound: Bound) -> Floor {
        let pairs = self.pairs(case, figure);
        let ratio = Spread::of_ratios(pairs.iter().copied());
        Floor::new(name.to_owned(), bound, ratio, self.medians(case, figure))
    }

    /// A figure of etcore, etcd's beside it. A round without it has missed it.
    fn own(&self, case: Extreme, figure: &str, name: &str, most: f64) -> Floor {
        let rounds = self.rounds(case);
        let values: Option<Vec<f64>> = rounds.iter().map(|(_, b)| b.get(figure).copied()).collect();
        let values = values.and_then(Spread::of);
        let parts = self.medians(case, figure);
        Floor::new(name.to_owned(), Bound::AtMost(most), values, parts)
    }

    fn medians(&self, case: Extreme, figure: &str) -> String {
        let median = |values: Vec<f64>| {
            let values = Spread::of(values);
            values.map_or("-".to_owned(), |s| format!("{:.*}", digits(&s), s.median))
        };
        let rounds = self.rounds(case);
        let etcd = rounds.iter().filter_map(|(a, _)| a.get(figure).copied());
        let etcore = rounds.iter().filter_map(|(_, b)| b.get(figure).copied());
        format!(
            "etcd {}, etcore {}",
            median(etcd.collect()),
            median(etcore.collect())
        )
    }

    fn stalled_floors(&self) -> Vec<Floor> {
        let rounds = self.rounds(Extreme::Stalled);
        let of = |name: &'static str| {
            let figures = rounds.iter().filter_map(move |(_, b)| b.get(name).copied());
            figures.collect::<Vec<f64>>()
        };
        let (control, stalled) = (
            of("control_server_cpu_us_per_put"),
            of("stalled_server_cpu_us_per_put"),
        );
        let cpu = Spread::of_ratios(control.into_iter().zip(stalled));
        let most = of("control_put_p99_us")
            .into_iter()
            .fold(f64::NAN, f64::max);
        let p99 = Spread::of(of("stalled_put_p99_us").into_iter().map(|us| us / most));
        let case = Extreme::Stalled;
        vec![
            Floor::new(
                "server CPU of a put, beside stalled watchers / without".to_owned(),
                Bound::AtMost(1.1),
                cpu,
                format!(
                    "us: without {}; beside {}",
                    self.medians(case, "control_server_cpu_us_per_put"),
                    self.medians(case, "stalled_server_cpu_us_per_put")
                ),
            ),
            Floor::new(
                "put p99 beside stalled watchers / the largest without".to_owned(),
                Bound::AtMost(1.0),
                p99,
                format!(
                    "us: without {}; beside {}",
                    self.medians(case, "control_put_p99_us"),
                    self.medians(case, "stalled_put_p99_us")
                ),
            ),
        ]
    }

    fn shrinking(&self) -> Floor {
        let rounds = self.rounds(Extreme::Maintenance).iter();
        let sizes = rounds
            .filter_map(|(_, b)| Some((*b.get("file_before_mib")?, *b.get("file_after_mib")?)));
        Floor::new(
            "the file after maintenance / before".to_owned(),
            Bound::Below(1.0),
            Spread::of_ratios(sizes),
            self.medians(Extreme::Maintenance, "file_after_mib"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&'static str, f64)]) -> Figures {
        pairs.iter().copied().collect()
    }

    fn floor(result: &ExtremesResult, start: &str) -> Floor {
        let mut floors = result.floors().into_iter();
        floors.find(|floor| floor.name.starts_with(start)).unwrap()
    }

    #[test]
    fn ratios_are_of_each_round() {
        let name = "events_per_server_cpu_sec";
        let round = |etcd, etcore| (figures(&[(name, etcd)]), figures(&[(name, etcore)]));
        let rounds = vec![round(1.0, 4.0), round(100.0, 600.0), round(10.0, 55.0)];
        let result = ExtremesResult {
            cases: [(Extreme::Watch, rounds)].into(),
        };
        let floor = floor(&result, "events");
        assert!((floor.figure.unwrap().median - 5.5).abs() < 1e-9);
        assert_eq!(floor.is_met, Some(true));
        assert_eq!(result.floors().len(), 1, "other cases did not run");
        assert!(
            result.to_table().contains("1.00 / 10.0 / 100") || result.to_table().contains(name)
        );
    }

    #[test]
    fn puts_beside_stalled_watchers_are_held_against_the_controls() {
        let round = |control_p99, stalled_p99| {
            let etcore = figures(&[
                ("control_server_cpu_us_per_put", 5.0),
                ("stalled_server_cpu_us_per_put", 5.4),
                ("control_put_p99_us", control_p99),
                ("stalled_put_p99_us", stalled_p99),
            ]);
            (Figures::new(), etcore)
        };
        let result = |rounds| ExtremesResult {
            cases: [(Extreme::Stalled, rounds)].into(),
        };
        let good = result(vec![
            round(100.0, 109.0),
            round(110.0, 130.0),
            round(105.0, 90.0),
        ]);
        assert_eq!(floor(&good, "server CPU").is_met, Some(true));
        assert_eq!(floor(&good, "put p99").is_met, Some(true), "109 of 110");
        let bad = result(vec![round(100.0, 111.0), round(110.0, 111.0)]);
        assert_eq!(floor(&bad, "put p99").is_met, Some(false));
    }

    #[test]
    fn a_round_in_which_leases_are_left_has_missed_it() {
        let gone = (Figures::new(), figures(&[("gone_secs", 3.0)]));
        let left = (Figures::new(), Figures::new());
        let result = |rounds| ExtremesResult {
            cases: [(Extreme::Stampede, rounds)].into(),
        };
        let all = result(vec![gone.clone(), gone.clone()]);
        assert_eq!(floor(&all, "s until").is_met, Some(true));
        let some = result(vec![gone.clone(), gone, left]);
        assert_eq!(floor(&some, "s until").is_met, Some(false));
    }
}
