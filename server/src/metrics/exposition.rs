//! Prometheus' text format 0.0.4, written as its Go library writes it.
//!
//! Families are sorted by name and series by their labels, so that two scrapes differ only in numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a family's TYPE line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels in the order in which they are written: alphabetical, as the Go library sorts them.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A histogram summed over the shards.
pub(super) struct HistogramTotals {
    pub(super) bounds: &'static [f64],
    /// Per bucket, not cumulated; one more than `bounds`.
    pub(super) buckets: Vec<u64>,
    pub(super) sum: f64,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: Type,
    /// The written lines of each series by its labels' text.
    series: BTreeMap<String, String>,
}

/// Collects families and writes them.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: BTreeMap<&'static str, Family>,
}

impl Exposition {
    /// Adds a series with one number.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Type,
        labels: Labels<'_>,
        value: f64,
    ) {
        let labels = labels_text(labels);
        let mut line = String::with_capacity(name.len() + labels.len() + 24);
        push_sample(&mut line, name, "", &labels, value);
        self.add(name, help, kind, labels, line);
    }

    /// Adds a series with buckets, sum and count.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        totals: &HistogramTotals,
    ) {
        let labels = labels_text(labels);
        let mut lines = String::new();
        let mut count = 0;
        let bounds = totals.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(&totals.buckets) {
            count += bucket;
            let separator = if labels.is_empty() { "" } else { "," };
            let bucket_labels = format!("{labels}{separator}le=\"{}\"", format_float(bound));
            push_sample(&mut lines, name, "_bucket", &bucket_labels, count as f64);
        }
        push_sample(&mut lines, name, "_sum", &labels, totals.sum);
        push_sample(&mut lines, name, "_count", &labels, count as f64);
        self.add(name, help, Type::Histogram, labels, lines);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Type,
        labels: String,
        lines: String,
    ) {
        let family = self.families.entry(name).or_insert_with(|| Family {
            help,
            kind,
            series: BTreeMap::new(),
        });
        debug_assert_eq!(family.kind, kind, "{name} has two types");
        let former = family.series.insert(labels, lines);
        debug_assert!(former.is_none(), "a series of {name} is written twice");
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        let mut page = String::with_capacity(128 << 10);
        for (name, family) in &self.families {
            let _ = writeln!(page, "# HELP {name} {}", family.help);
            let _ = writeln!(page, "# TYPE {name} {}", family.kind.name());
            page.extend(family.series.values().map(String::as_str));
        }
        page
    }
}

fn push_sample(out: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    let value = format_float(value);
    let _ = if labels.is_empty() {
        writeln!(out, "{name}{suffix} {value}")
    } else {
        writeln!(out, "{name}{suffix}{{{labels}}} {value}")
    };
}

fn labels_text(labels: Labels<'_>) -> String {
    let mut text = String::new();
    for (position, (name, value)) in labels.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// Writes a float as Go's shortest `%g`: an exponent from 1e+06 on and below 1e-04.
pub(super) fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (20480.0, "20480"),
            (903818.0, "903818"),
            (1_048_576.0, "1.048576e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (173_537_094.0, "1.73537094e+08"),
            (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
            (0.002421804, "0.002421804"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.795_233_697_27e9, "1.79523369727e+09"),
            (-3.5, "-3.5"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(format_float(value), expected);
        }
    }

    #[test]
    fn families_and_series_are_sorted() {
        let mut page = Exposition::default();
        page.number("b", "B.", Type::Gauge, &[("x", "2")], 2.0);
        page.number("b", "B.", Type::Gauge, &[("x", "1")], 1.0);
        page.number("a", "A.", Type::Counter, &[], 7.0);
        assert_eq!(
            page.finish(),
            "# HELP a A.\n# TYPE a counter\na 7\n\
             # HELP b B.\n# TYPE b gauge\nb{x=\"1\"} 1\nb{x=\"2\"} 2\n"
        );
    }

    #[test]
    fn buckets_are_cumulated() {
        let mut page = Exposition::default();
        let totals = HistogramTotals {
            bounds: &[0.5, 1.0],
            buckets: vec![2, 0, 1],
            sum: 3.5,
        };
        page.histogram("h", "H.", &[("op", "Put")], &totals);
        assert_eq!(
            page.finish(),
            "# HELP h H.\n# TYPE h histogram\n\
             h_bucket{op=\"Put\",le=\"0.5\"} 2\nh_bucket{op=\"Put\",le=\"1\"} 2\n\
             h_bucket{op=\"Put\",le=\"+Inf\"} 3\nh_sum{op=\"Put\"} 3.5\nh_count{op=\"Put\"} 3\n"
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Exposition::default();
        page.number("a", "A.", Type::Gauge, &[("v", "q\"b\\n\n")], 1.0);
        assert!(page.finish().contains(r#"a{v="q\"b\\n\n"} 1"#));
    }
}
