//! Promises, their figures, and whether they hold.
//!
//! A ratio is taken within each round; the median over the rounds is judged, the spread is shown.

use std::fmt::Write as _;

use serde::Serialize;

use super::Measurements;
use crate::case::Case;
use crate::compare::CaseRounds;
use crate::metric::{Metric, Sample};
use crate::stats::Spread;
use crate::table::{digits, spread};

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
    /// Nothing was promised; it is printed.
    Shown,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Floor {
    pub name: String,
    pub bound: Bound,
    /// `None`: not measured, which counts as missed.
    pub figure: Option<Spread>,
    /// What the figure is made of.
    pub parts: String,
    /// `None` if nothing was promised.
    pub is_met: Option<bool>,
}

impl Bound {
    fn is_met(self, figure: Option<Spread>) -> Option<bool> {
        let median = figure.map(|figure| figure.median);
        match self {
            Self::AtLeast(bound) => Some(median.is_some_and(|median| median >= bound)),
            Self::AtMost(bound) => Some(median.is_some_and(|median| median <= bound)),
            Self::Below(bound) => Some(median.is_some_and(|median| median < bound)),
            Self::Shown => None,
        }
    }

    fn to_text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::Below(bound) => format!("< {bound}"),
            Self::Shown => String::new(),
        }
    }
}

impl Floor {
    pub(crate) fn new(name: String, bound: Bound, figure: Option<Spread>, parts: String) -> Self {
        let is_met = bound.is_met(figure);
        Self {
            name,
            bound,
            figure,
            parts,
            is_met,
        }
    }
}

/// All promises, in the order in which they are printed.
pub(super) fn floors(measured: &Measurements) -> Vec<Floor> {
    let mut floors = Vec::new();
    let clients = [("own", &measured.own), ("benchmark", &measured.tool)];
    for (client, cases) in clients.into_iter().filter(|(_, cases)| !cases.is_empty()) {
        for case in [Case::Put, Case::Range] {
            floors.push(ratio(
                cases,
                case,
                Metric::RequestsPerServerCpuSec,
                Bound::AtLeast(5.0),
                &format!(
                    "{} per server CPU-second, etcore / etcd, {client}",
                    case.name()
                ),
            ));
        }
        floors.push(ratio(
            cases,
            Case::PutDepth1,
            Metric::LatencyP50Us,
            Bound::AtMost(0.7),
            &format!("depth-1 put p50, etcore / etcd, {client}"),
        ));
    }
    floors.push(over_denominators(measured));
    for (case, what) in [
        (Case::PrefixCount, "count of the prefix"),
        (Case::PrefixLimit, "first ten of the prefix"),
    ] {
        floors.push(over_point_get(&measured.own, case, what));
    }
    floors.push(of_etcore(
        &measured.own,
        Case::Idle,
        Metric::ServerCpuPercent,
        Bound::Below(1.0),
        "idle CPU, % of one core",
    ));
    floors.push(of_etcore(
        &measured.own,
        Case::Memory,
        Metric::RssAnonMib,
        Bound::Shown,
        "RssAnon with the keys of the memory case, MiB",
    ));
    floors.extend(of_null(measured));
    floors
}

fn find(cases: &[CaseRounds], case: Case) -> &[(Sample, Sample)] {
    let found = cases.iter().find(|rounds| rounds.case == case);
    found.map_or(&[], |rounds| rounds.rounds.as_slice())
}

/// A metric of both servers, or nothing if a round lacks it.
fn pairs(rounds: &[(Sample, Sample)], metric: Metric) -> Option<Vec<(f64, f64)>> {
    let pair = |(a, b): &(Sample, Sample)| Some((*a.get(&metric)?, *b.get(&metric)?));
    rounds.iter().map(pair).collect()
}

fn ratio(cases: &[CaseRounds], case: Case, metric: Metric, bound: Bound, name: &str) -> Floor {
    let pairs = pairs(find(cases, case), metric).unwrap_or_default();
    let figure = Spread::of_ratios(pairs.iter().copied());
    Floor::new(name.to_owned(), bound, figure, both(&pairs))
}

/// A figure of etcore by itself, etcd's beside it.
fn of_etcore(cases: &[CaseRounds], case: Case, metric: Metric, bound: Bound, name: &str) -> Floor {
    let pairs = pairs(find(cases, case), metric).unwrap_or_default();
    let figure = Spread::of(pairs.iter().map(|(_, etcore)| *etcore));
    Floor::new(name.to_owned(), bound, figure, both(&pairs))
}

fn both(pairs: &[(f64, f64)]) -> String {
    let etcd = Spread::of(pairs.iter().map(|(a, _)| *a));
    let etcore = Spread::of(pairs.iter().map(|(_, b)| *b));
    format!("etcd {}, etcore {}", median(etcd), median(etcore))
}

/// Depth-1 put against what the disk and the network cost alone.
fn over_denominators(measured: &Measurements) -> Floor {
    let puts = pairs(find(&measured.own, Case::PutDepth1), Metric::LatencyP50Us);
    let floors = measured.denominators.iter().map(|round| {
        let null = *round.null_depth1.get(&Metric::LatencyP50Us)?;
        Some((round.disk.p50_us, null))
    });
    let floors: Vec<(f64, f64)> = floors.flatten().collect();
    let puts = puts.unwrap_or_default();
    let rounds = puts.iter().zip(&floors);
    let rounds = rounds.map(|((_, put), (disk, null))| (disk + null, *put));
    let of = |values: Vec<f64>| median(Spread::of(values));
    let parts = format!(
        "put {}, write + fdatasync {}, null RPC {} us",
        of(puts.iter().map(|(_, put)| *put).collect()),
        of(floors.iter().map(|(disk, _)| *disk).collect()),
        of(floors.iter().map(|(_, null)| *null).collect()),
    );
    let name = "depth-1 put p50 / (write + fdatasync + null RPC), own".to_owned();
    Floor::new(name, Bound::AtMost(1.5), Spread::of_ratios(rounds), parts)
}

/// Server CPU of a request on the large prefix over that of a point get in it.
fn over_point_get(cases: &[CaseRounds], case: Case, what: &str) -> Floor {
    const COST: Metric = Metric::ServerCpuUsPerRequest;
    let gets = pairs(find(cases, Case::PrefixGet), COST).unwrap_or_default();
    let costs = pairs(find(cases, case), COST).unwrap_or_default();
    let rounds = gets.iter().zip(&costs);
    let etcd = Spread::of_ratios(rounds.clone().map(|(get, cost)| (get.0, cost.0)));
    let etcore = Spread::of_ratios(rounds.map(|(get, cost)| (get.1, cost.1)));
    let parts = format!(
        "etcd {} times; us each: {}; a point get: {}",
        median(etcd),
        both(&costs),
        both(&gets)
    );
    let name = format!("server CPU of {what} / of a point get, etcore");
    Floor::new(name, Bound::AtMost(3.0), etcore, parts)
}

/// How much of a request's cost our HTTP/2 layer is.
fn of_null(measured: &Measurements) -> Vec<Floor> {
    let nulls = measured.denominators.iter();
    let nulls = nulls.filter_map(|round| round.null.get(&Metric::ServerCpuUsPerRequest));
    let nulls: Vec<f64> = nulls.copied().collect();
    let over_null = |case: Case| {
        let metric = Metric::ServerCpuUsPerRequest;
        let costs = pairs(find(&measured.own, case), metric).unwrap_or_default();
        let rounds = nulls.iter().zip(&costs);
        let figure = Spread::of_ratios(rounds.map(|(null, (_, etcore))| (*null, *etcore)));
        let null = median(Spread::of(nulls.iter().copied()));
        let parts = format!("us each: {}, null {null}", both(&costs));
        let name = format!("server CPU of {} / of a null RPC, etcore", case.name());
        Floor::new(name, Bound::Shown, figure, parts)
    };
    vec![over_null(Case::Put), over_null(Case::Range)]
}

fn median(figure: Option<Spread>) -> String {
    figure.map_or("-".to_owned(), |figure| {
        format!("{:.*}", digits(&figure), figure.median)
    })
}

/// A line each, with `PASS`, `MISS` or nothing.
pub fn to_text(floors: &[Floor]) -> String {
    let mut text = format!(
        "\n{:<4}  {:<58} {:>6}  {:>22}  medians\n",
        "", "promise", "", "min / median / max"
    );
    for floor in floors {
        let verdict = match floor.is_met {
            Some(true) => "PASS",
            Some(false) => "MISS",
            None => "",
        };
        let figure = floor.figure.as_ref();
        let figure = figure.map_or("-".to_owned(), |figure| spread(figure, digits(figure)));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{verdict:<4}  {:<58} {:>6}  {figure:>22}  {}",
            floor.name,
            floor.bound.to_text(),
            floor.parts
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskLatency;
    use crate::floors::Denominators;

    fn rounds(case: Case, metric: Metric, values: &[(f64, f64)]) -> CaseRounds {
        let sample = |value: f64| Sample::from([(metric, value)]);
        let rounds = values.iter().map(|(a, b)| (sample(*a), sample(*b)));
        CaseRounds {
            case,
            rounds: rounds.collect(),
        }
    }

    fn measured() -> Measurements {
        let cost = Metric::ServerCpuUsPerRequest;
        let denominators = Denominators {
            null: Sample::from([(cost, 2.0)]),
            null_depth1: Sample::from([(Metric::LatencyP50Us, 20.0)]),
            disk: DiskLatency {
                count: 1,
                p50_us: 80.0,
                p90_us: 80.0,
                p99_us: 80.0,
                max_us: 80.0,
            },
        };
        let per_cpu_sec = Metric::RequestsPerServerCpuSec;
        Measurements {
            own: vec![
                rounds(Case::Put, per_cpu_sec, &[(10.0, 60.0), (10.0, 50.0)]),
                rounds(Case::Range, per_cpu_sec, &[(10.0, 49.0), (10.0, 30.0)]),
                rounds(
                    Case::PutDepth1,
                    Metric::LatencyP50Us,
                    &[(400.0, 140.0), (400.0, 160.0)],
                ),
                rounds(Case::PrefixGet, cost, &[(10.0, 2.0)]),
                rounds(Case::PrefixCount, cost, &[(5_000.0, 6.0)]),
                rounds(Case::PrefixLimit, cost, &[(20.0, 7.0)]),
                rounds(Case::Idle, Metric::ServerCpuPercent, &[(2.0, 1.0)]),
                rounds(Case::Memory, Metric::RssAnonMib, &[(900.0, 300.0)]),
            ],
            tool: Vec::new(),
            denominators: vec![denominators.clone(), denominators],
        }
    }

    fn line(floors: &[Floor], start: &str) -> Floor {
        let found = floors.iter().find(|floor| floor.name.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start}")).clone()
    }

    #[test]
    fn each_promise_is_judged_by_its_median() {
        let floors = floors(&measured());
        for (start, figure, is_met) in [
            ("put per server", 5.5, Some(true)),
            ("range per server", 3.95, Some(false)),
            ("depth-1 put p50, etcore", 0.375, Some(true)),
            ("depth-1 put p50 / (", 1.5, Some(true)),
            ("server CPU of count", 3.0, Some(true)),
            ("server CPU of first ten", 3.5, Some(false)),
            ("idle", 1.0, Some(false)),
            ("RssAnon", 300.0, None),
        ] {
            let floor = line(&floors, start);
            let median = floor.figure.unwrap().median;
            assert!((median - figure).abs() < 1e-9, "{start}: {median}");
            assert_eq!(floor.is_met, is_met, "{start}");
        }
        assert!(
            floors.iter().all(|floor| !floor.name.contains("benchmark")),
            "that half was not asked for"
        );
        assert!(
            line(&floors, "server CPU of count")
                .parts
                .contains("etcd 500 times")
        );
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let floors = floors(&Measurements::default());
        let promised = floors.iter().filter(|floor| floor.bound != Bound::Shown);
        let mut count = 0;
        for floor in promised {
            assert_eq!(floor.is_met, Some(false), "{}", floor.name);
            count += 1;
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    fn the_table_says_pass_and_miss() {
        let text = to_text(&floors(&measured()));
        let starts = |start: &str| text.lines().any(|line| line.starts_with(start));
        assert!(starts("PASS  put per server CPU-second"), "{text}");
        assert!(starts("MISS  range per server CPU-second"), "{text}");
        assert!(starts("      RssAnon"), "{text}");
    }
}
