//! What the prober saw: tables for people, JSON lines for programs, and the three promises.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Figures, Measured, Phase, Phases, SteadyResult, SteadySizes, Turns};
use crate::floors::{Bound, Floor};
use crate::stats::Spread;
use crate::table::{Conditions, digits};

/// The columns of the table: heading, figure, decimals.
const COLUMNS: [(&str, &str, usize); 14] = [
    ("put p50", "put_p50_us", 0),
    ("p99.9", "put_p999_us", 0),
    ("max", "put_max_us", 0),
    ("get p50", "get_p50_us", 0),
    ("p99.9", "get_p999_us", 0),
    ("max", "get_max_us", 0),
    ("both p99", "both_p99_us", 0),
    ("p99.9", "both_p999_us", 0),
    ("late p99.9", "late_p999_us", 0),
    ("max", "late_max_us", 0),
    ("writes/s", "background_puts_per_sec", 0),
    ("compact s", "compaction_secs", 2),
    ("CPU %", "server_cpu_percent", 1),
    ("foreign %", "foreign_cpu_percent", 1),
];

/// A client with a core to itself sends within a few microseconds of the due time.
const LATE_US_MAX: f64 = 100.0;

/// One figure over the rounds; a server that lacks it in a round has none.
#[derive(Debug, Serialize)]
struct JsonRow {
    name: &'static str,
    a: Option<Spread>,
    b: Option<Spread>,
    b_over_a: Option<Spread>,
}

/// One line about a phase that was measured just now.
pub(super) fn progress_line(phase: Phase, measured: &Measured) -> String {
    let mut line = phase.name().to_owned();
    let shown = [
        "put_p999_us",
        "get_p999_us",
        "both_p999_us",
        "late_p999_us",
        "compaction_secs",
        "server_cpu_percent",
        "foreign_cpu_percent",
    ];
    for name in shown {
        if let Some(value) = measured.figures.get(name) {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {name} {value:.2}");
        }
    }
    line
}

impl SteadyResult {
    /// A figure of a phase over the rounds, of both servers; `None` unless each round has it.
    fn figure(&self, phase: Phase, name: &str) -> [Option<Vec<f64>>; 2] {
        let of = |phases: &Phases| phases.get(&phase)?.figures.get(name).copied();
        [
            self.rounds.iter().map(|(a, _)| of(a)).collect(),
            self.rounds.iter().map(|(_, b)| of(b)).collect(),
        ]
    }

    /// etcore's turns in a phase, all rounds together; `None` unless each round has them.
    fn turns(&self, phase: Phase) -> Option<Turns> {
        let mut rounds = self.rounds.iter();
        let of = |(_, etcore): &(Phases, Phases)| etcore.get(&phase)?.turns.clone();
        let first = of(rounds.next()?)?;
        rounds.try_fold(first, |sum, round| sum.plus(&of(round)?))
    }

    /// A line per phase and server, medians over the rounds; then the turns per bucket.
    pub fn to_table(&self) -> String {
        let mut text = format!("\n{:<18}{:<8}", "us, medians", "");
        for (heading, ..) in COLUMNS {
            let _ = write!(text, "{heading:>11}");
        }
        text.push('\n');
        for phase in Phase::ALL {
            for (server, label) in [(0, "etcd"), (1, "etcore")] {
                let _ = write!(text, "{:<18}{label:<8}", phase.name());
                for (_, name, digits) in COLUMNS {
                    let [a, b] = self.figure(phase, name);
                    let values = if server == 0 { a } else { b };
                    let median = values.and_then(Spread::of).map(|spread| spread.median);
                    let cell = median.map_or("-".to_owned(), |m| format!("{m:.digits$}"));
                    let _ = write!(text, "{cell:>11}");
                }
                text.push('\n');
            }
        }
        text.push_str(&self.turns_table());
        if let Some(late) = self.late_p50_us_max()
            && late > LATE_US_MAX
        {
            let _ = writeln!(
                text,
                "\nthe client itself was late by {late:.0} us at the median: the machine was busy, the latencies mean little"
            );
        }
        text
    }

    /// The worst of all phases.
    fn late_p50_us_max(&self) -> Option<f64> {
        let both = self.rounds.iter().flat_map(|(a, b)| [a, b]);
        let phases = both.flat_map(Phases::values);
        let late = phases.filter_map(|measured| measured.figures.get("late_p50_us").copied());
        late.max_by(f64::total_cmp)
    }

    fn turns_table(&self) -> String {
        let phases = [Phase::Quiet, Phase::Background, Phase::Compaction];
        let turns = phases.map(|phase| self.turns(phase));
        let [Some(quiet), Some(background), Some(compaction)] = turns else {
            return "\netcore tells nothing of its turns\n".to_owned();
        };
        let mut text = format!(
            "\n{:<18}{:>14}{:>14}{:>14}\n",
            "etcore's turns", "quiet", "background", "compaction"
        );
        let others = background.buckets().iter().zip(compaction.buckets());
        for (quiet, (background, compaction)) in quiet.buckets().iter().zip(others) {
            let bound = if quiet.at_most_secs.is_finite() {
                format!("<= {} ms", quiet.at_most_secs * 1e3)
            } else {
                "more".to_owned()
            };
            let _ = writeln!(
                text,
                "{bound:<18}{:>14}{:>14}{:>14}",
                quiet.count, background.count, compaction.count
            );
        }
        text
    }

    /// The promises with their figures.
    ///
    /// The ratio is taken within each round and its median judged. A turn is promised of every round, so the turns of all
    /// rounds together are judged.
    pub fn floors(&self) -> Vec<Floor> {
        let turns = self.turns(Phase::Compaction);
        let count = turns.as_ref().map_or(0, Turns::count);
        let turn = |name: &str, bound, ms: Option<f64>| {
            let parts = format!("of {count} turns; the bound of its bucket");
            Floor::new(name.to_owned(), bound, Spread::of(ms), parts)
        };
        let p9999 = turns.as_ref().and_then(|turns| turns.at_most_ms(0.9999));
        let max = turns.as_ref().and_then(Turns::max_ms);
        let ratio = |name, bound, base, phase, figure| self.ratio(name, bound, base, phase, figure);
        let (quiet, background, compaction, part) = (
            Phase::Quiet,
            Phase::Background,
            Phase::Compaction,
            Phase::WhileCompacting,
        );
        let both = "both_p999_us";
        vec![
            turn(
                "turn CPU p99.99 in compaction, ms",
                Bound::AtMost(1.0),
                p9999,
            ),
            turn(
                "turn CPU largest in compaction, ms",
                Bound::AtMost(5.0),
                max,
            ),
            ratio(
                "prober p99.9, compaction / quiet",
                Bound::AtMost(2.0),
                quiet,
                compaction,
                both,
            ),
            ratio(
                "put p99.9, compaction / quiet",
                Bound::Shown,
                quiet,
                compaction,
                "put_p999_us",
            ),
            ratio(
                "get p99.9, compaction / quiet",
                Bound::Shown,
                quiet,
                compaction,
                "get_p999_us",
            ),
            ratio(
                "prober p99.9, background / quiet",
                Bound::Shown,
                quiet,
                background,
                both,
            ),
            ratio(
                "prober p99.9, compaction / background",
                Bound::Shown,
                background,
                compaction,
                both,
            ),
            ratio(
                "prober p99.9, until the compaction's answer / quiet",
                Bound::Shown,
                quiet,
                part,
                both,
            ),
        ]
    }

    /// A figure of etcore in `phase` over the same in `base`; etcd's ratio and the medians beside it.
    fn ratio(&self, name: &str, bound: Bound, base: Phase, phase: Phase, figure: &str) -> Floor {
        let (bases, values) = (self.figure(base, figure), self.figure(phase, figure));
        let of = |bases: &Option<Vec<f64>>, values: &Option<Vec<f64>>| {
            let (bases, values) = (bases.as_ref()?, values.as_ref()?);
            Spread::of_ratios(bases.iter().copied().zip(values.iter().copied()))
        };
        let median = |values: &Option<Vec<f64>>| {
            let spread = values.as_ref().and_then(|v| Spread::of(v.iter().copied()));
            spread.map_or("-".to_owned(), |s| format!("{:.0}", s.median))
        };
        let etcd = of(&bases[0], &values[0]);
        let etcd = etcd.map_or("-".to_owned(), |s| format!("{:.*}", digits(&s), s.median));
        let parts = format!(
            "etcd {etcd} times; us: etcd {} / {}, etcore {} / {}",
            median(&values[0]),
            median(&bases[0]),
            median(&values[1]),
            median(&bases[1]),
        );
        Floor::new(name.to_owned(), bound, of(&bases[1], &values[1]), parts)
    }

    /// One line per phase: figures over the rounds, etcore's turns, conditions.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    pub fn to_json(
        &self,
        sizes: &SteadySizes,
        conditions: &Conditions,
    ) -> Result<Vec<String>, serde_json::Error> {
        let conditions = serde_json::to_value(conditions)?;
        let lines = Phase::ALL.map(|phase| {
            serde_json::to_string(&json!({
                "case": format!("steady_{}", phase.name()),
                "metrics": self.json_rows(phase),
                "turns": self.turns(phase),
                "sizes": sizes_json(sizes),
                "conditions": conditions,
            }))
        });
        lines.into_iter().collect()
    }

    fn json_rows(&self, phase: Phase) -> Vec<JsonRow> {
        let both = self.rounds.iter().flat_map(|(a, b)| [a, b]);
        let figures = both.filter_map(|phases| Some(&phases.get(&phase)?.figures));
        let names: BTreeSet<&'static str> = figures.flat_map(Figures::keys).copied().collect();
        let row = |name| {
            let [a, b] = self.figure(phase, name);
            let pairs = a.clone().zip(b.clone());
            JsonRow {
                name,
                b_over_a: pairs.and_then(|(a, b)| Spread::of_ratios(a.into_iter().zip(b))),
                a: a.and_then(Spread::of),
                b: b.and_then(Spread::of),
            }
        };
        names.into_iter().map(row).collect()
    }
}

fn sizes_json(sizes: &SteadySizes) -> Value {
    json!({
        "keys": sizes.key_count,
        "overwrites": sizes.overwrite_count,
        "phase_secs": sizes.phase.as_secs_f64(),
        "background_puts_per_sec": sizes.background_puts_per_sec,
    })
}

/// The sizes in words.
pub fn sizes_text(sizes: &SteadySizes) -> String {
    format!(
        "{} keys, each overwritten {} times; phases of {} s; a put and a get each ms; {} background puts/s\n",
        sizes.key_count,
        sizes.overwrite_count,
        sizes.phase.as_secs_f64(),
        sizes.background_puts_per_sec,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of which only the prober's p99.9 is known.
    fn round(etcd: [f64; 3], etcore: [f64; 3]) -> (Phases, Phases) {
        let phases = |values: [f64; 3]| {
            let phases = [Phase::Quiet, Phase::Background, Phase::Compaction];
            let measured = values.map(|value| Measured {
                figures: Figures::from([("both_p999_us", value)]),
                turns: None,
            });
            phases.into_iter().zip(measured).collect()
        };
        (phases(etcd), phases(etcore))
    }

    fn floor(result: &SteadyResult, name: &str) -> Floor {
        let mut floors = result.floors().into_iter();
        floors.find(|floor| floor.name == name).unwrap()
    }

    #[test]
    fn the_ratio_is_of_each_round_and_its_median_counts() {
        let result = SteadyResult {
            rounds: vec![
                round([100.0, 150.0, 900.0], [100.0, 110.0, 150.0]),
                round([100.0, 150.0, 900.0], [1_000.0, 1_100.0, 2_500.0]),
                round([100.0, 150.0, 900.0], [100.0, 110.0, 190.0]),
            ],
        };
        let floor = floor(&result, "prober p99.9, compaction / quiet");
        assert!((floor.figure.unwrap().median - 1.9).abs() < 1e-9);
        assert_eq!(floor.is_met, Some(true));
        assert!(floor.parts.contains("etcd 9.00 times"), "{}", floor.parts);
        assert!(
            result.to_table().contains("compaction        etcore"),
            "{}",
            result.to_table()
        );
    }

    #[test]
    fn a_slow_turn_of_any_round_counts() {
        let turns = |slow: u64| {
            let page = format!(
                "etcore_executor_turn_cpu_seconds_bucket{{le=\"0.001\"}} 50000\n\
                 etcore_executor_turn_cpu_seconds_bucket{{le=\"0.005\"}} 50001\n\
                 etcore_executor_turn_cpu_seconds_bucket{{le=\"+Inf\"}} {}\n",
                50_001 + slow
            );
            Turns::parse(&page)
        };
        let with = |slow: u64| {
            let measured = Measured {
                figures: Figures::new(),
                turns: turns(slow),
            };
            (Phases::new(), Phases::from([(Phase::Compaction, measured)]))
        };
        let names = [
            "turn CPU p99.99 in compaction, ms",
            "turn CPU largest in compaction, ms",
        ];
        let judged = |rounds: Vec<(Phases, Phases)>| {
            let result = SteadyResult { rounds };
            names.map(|name| floor(&result, name).is_met)
        };
        assert_eq!(judged(vec![with(0), with(0)]), [Some(true), Some(true)]);
        assert_eq!(
            judged(vec![with(0), with(1), with(0)]),
            [Some(true), Some(false)]
        );
        assert_eq!(
            judged(vec![with(0), with(90)]),
            [Some(false), Some(false)],
            "rarer than one in ten thousand no more"
        );
        let without = (Phases::new(), Phases::new());
        assert_eq!(
            judged(vec![with(0), without]),
            [Some(false), Some(false)],
            "what is not measured is missed"
        );
    }
}
