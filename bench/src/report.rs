//! Reads what etcd's `benchmark` tool prints, strictly.
//!
//! The tool's report (always asked for with `--precise`, so that seconds carry all digits):
//!
//! ```text
//! Summary:
//!   Total:        0.348327426 secs.
//!   Slowest:      …            Fastest, Average, Stddev likewise
//!   Requests/sec: 1435.4310418267207
//!
//! Response time histogram:
//!   0.000230617 [1]       |
//!   …
//!
//! Latency distribution:
//!   50% in 0.00043305 secs.
//!   …
//! ```
//!
//! A percentile is printed only if enough requests were made to have one, so 99.9 % is missing below a
//! thousand. An `Error distribution` follows if any request failed. Whatever else appears is an error: a figure
//! taken from output that was only half understood is worse than none.

use std::str::Lines;

/// Percentiles the tool knows, in the order in which it prints them.
const PERCENTILES: [&str; 8] = ["10%", "25%", "50%", "75%", "90%", "95%", "99%", "99.9%"];

/// What one run of the tool measured. All times are seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadReport {
    /// From the first request to the last answer; dialling is not part of it.
    pub total_secs: f64,
    pub slowest_secs: f64,
    pub requests_per_sec: f64,
    /// Successful requests: the sum of the histogram.
    pub request_count: u64,
    pub p50_secs: f64,
    pub p90_secs: Option<f64>,
    pub p99_secs: Option<f64>,
    pub p999_secs: Option<f64>,
}

/// Why a report was not believed. Both carry everything the tool printed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ReportError {
    /// The tool printed something this parser does not know.
    #[error("unknown output of the benchmark tool ({what}); it printed:\n{output}")]
    Unknown { what: String, output: String },
    /// The server answered requests with errors, so the figures mean nothing.
    #[error("requests failed; the benchmark tool printed:\n{output}")]
    RequestsFailed { output: String },
}

impl LoadReport {
    /// Parses the whole standard output of one run.
    ///
    /// # Errors
    /// [`ReportError`] unless each line is known, in its place, and no request failed.
    pub fn parse(output: &str) -> Result<Self, ReportError> {
        if output.contains("Error distribution:") {
            return Err(ReportError::RequestsFailed {
                output: output.to_owned(),
            });
        }
        parse(&mut output.lines()).map_err(|what| ReportError::Unknown {
            what,
            output: output.to_owned(),
        })
    }
}

fn parse(lines: &mut Lines<'_>) -> Result<LoadReport, String> {
    skip_preamble(lines)?;
    let total_secs = seconds_field(lines, "Total")?;
    let slowest_secs = seconds_field(lines, "Slowest")?;
    for name in ["Fastest", "Average", "Stddev"] {
        seconds_field(lines, name)?;
    }
    let requests_per_sec = number(field(lines, "Requests/sec")?)?;
    expect(lines, "")?;
    let request_count = histogram(lines)?;
    let latencies = distribution(lines)?;
    let percentile = |name: &str| {
        let position = PERCENTILES.iter().position(|known| *known == name)?;
        latencies.get(position).copied()
    };
    if let Some(extra) = lines.find(|line| !line.is_empty()) {
        return Err(format!("line after the report: {extra:?}"));
    }
    Ok(LoadReport {
        total_secs,
        slowest_secs,
        requests_per_sec,
        request_count,
        p50_secs: percentile("50%").ok_or("too few requests for a median")?,
        p90_secs: percentile("90%"),
        p99_secs: percentile("99%"),
        p999_secs: percentile("99.9%"),
    })
}

/// Reads up to and with the line `Summary:`; `range` says before it which consistency it asks for.
fn skip_preamble(lines: &mut Lines<'_>) -> Result<(), String> {
    for line in lines {
        match line {
            "" | "bench with linearizable range" | "bench with serializable range" => {}
            "Summary:" => return Ok(()),
            _ => return Err(format!("line before the report: {line:?}")),
        }
    }
    Err("no summary".to_owned())
}

/// The value of the line `  name:\tvalue`.
fn field<'a>(lines: &mut Lines<'a>, name: &str) -> Result<&'a str, String> {
    let line = lines.next().ok_or_else(|| format!("no line {name:?}"))?;
    line.strip_prefix("  ")
        .and_then(|rest| rest.strip_prefix(name))
        .and_then(|rest| rest.strip_prefix(":\t"))
        .ok_or_else(|| format!("expected {name:?}, got {line:?}"))
}

fn seconds_field(lines: &mut Lines<'_>, name: &str) -> Result<f64, String> {
    seconds(field(lines, name)?)
}

fn seconds(text: &str) -> Result<f64, String> {
    let digits = text.strip_suffix(" secs.");
    number(digits.ok_or_else(|| format!("expected seconds, got {text:?}"))?)
}

/// A finite number that is not negative: `NaN` and `inf` parse as floats but are no measurement.
fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!("not a number: {text:?}")),
    }
}

fn expect(lines: &mut Lines<'_>, wanted: &str) -> Result<(), String> {
    match lines.next() {
        Some(line) if line == wanted => Ok(()),
        other => Err(format!("expected {wanted:?}, got {other:?}")),
    }
}

/// Reads the bars up to the empty line behind them, and returns how many requests they count.
fn histogram(lines: &mut Lines<'_>) -> Result<u64, String> {
    expect(lines, "Response time histogram:")?;
    let mut request_count = 0_u64;
    for line in lines.take_while(|line| !line.is_empty()) {
        let count = bar(line).ok_or_else(|| format!("not a bar of the histogram: {line:?}"))?;
        request_count = request_count.saturating_add(count);
    }
    Ok(request_count)
}

/// The count in a line `  0.0022 [486]\t|∎∎∎`.
fn bar(line: &str) -> Option<u64> {
    let (bucket, rest) = line.strip_prefix("  ")?.split_once(" [")?;
    let (count, bar) = rest.split_once("]\t|")?;
    number(bucket).ok()?;
    let is_bar = bar.chars().all(|c| c == '∎');
    is_bar.then(|| count.parse().ok()).flatten()
}

/// Reads the percentiles: those of [`PERCENTILES`] in order, the last ones may be missing.
fn distribution(lines: &mut Lines<'_>) -> Result<Vec<f64>, String> {
    expect(lines, "Latency distribution:")?;
    let mut latencies = Vec::with_capacity(PERCENTILES.len());
    for line in lines.take_while(|line| !line.is_empty()) {
        let parts = line.strip_prefix("  ").and_then(|l| l.split_once(" in "));
        let (name, value) = parts.ok_or_else(|| format!("not a percentile: {line:?}"))?;
        if PERCENTILES.get(latencies.len()) != Some(&name) {
            return Err(format!("percentile out of place: {line:?}"));
        }
        latencies.push(seconds(value)?);
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: &str = "\nSummary:\n  Total:\t0.348327426 secs.\n  Slowest:\t0.019945383 secs.\n  \
        Fastest:\t8.0617e-05 secs.\n  Average:\t0.0006956756599999992 secs.\n  \
        Stddev:\t0.0017293466032078666 secs.\n  Requests/sec:\t1435.4310418267207\n\n\
        Response time histogram:\n  8.0617e-05 [1]\t|\n  0.0022020936 [486]\t|∎∎∎∎\n  \
        0.019945383 [13]\t|\n\nLatency distribution:\n  10% in 0.000288724 secs.\n  \
        25% in 0.000364688 secs.\n  50% in 0.00043305 secs.\n  75% in 0.000518639 secs.\n  \
        90% in 0.000758178 secs.\n  95% in 0.000951027 secs.\n  99% in 0.006789419 secs.\n\n";

    #[test]
    fn reads_a_put_report() {
        let report = LoadReport::parse(PUT).unwrap();
        assert_eq!(report.request_count, 500);
        assert_eq!(report.total_secs, 0.348327426);
        assert_eq!(report.slowest_secs, 0.019945383);
        assert_eq!(report.requests_per_sec, 1435.4310418267207);
        assert_eq!(report.p50_secs, 0.00043305);
        assert_eq!(report.p90_secs, Some(0.000758178));
        assert_eq!(report.p99_secs, Some(0.006789419));
        assert_eq!(
            report.p999_secs, None,
            "500 requests have no 99.9th percentile"
        );
    }

    #[test]
    fn reads_a_range_report_with_all_percentiles() {
        let text = PUT.replace(
            "  99% in 0.006789419 secs.\n",
            "  99% in 0.006789419 secs.\n  99.9% in 0.01 secs.\n",
        );
        let report = LoadReport::parse(&format!("bench with linearizable range\n{text}")).unwrap();
        assert_eq!(report.p999_secs, Some(0.01));
    }

    #[test]
    fn failed_requests_are_an_error_even_beside_good_ones() {
        let output = format!("{PUT}\nError distribution:\n  [3]\tetcdserver: too many requests\n");
        let error = LoadReport::parse(&output).unwrap_err();
        assert_eq!(error, ReportError::RequestsFailed { output });
    }

    #[test]
    fn whatever_is_unknown_is_an_error_that_shows_the_output() {
        let cases = [
            ("Total:", "Sum:"),
            ("0.348327426 secs.", "348 ms."),
            ("1435.4310418267207", "NaN"),
            ("[486]", "[many]"),
            ("∎∎∎∎", "####"),
            ("75% in", "70% in"),
            ("  50% in 0.00043305 secs.\n", ""),
            ("Latency distribution:", "Latencies:"),
        ];
        for (from, to) in cases {
            let output = PUT.replacen(from, to, 1);
            assert_ne!(output, PUT, "{from:?} is not in the sample");
            let error = LoadReport::parse(&output).unwrap_err();
            assert!(error.to_string().contains(&output), "{from:?} -> {to:?}");
        }
        for output in ["", "\n", "panic: boom\n", &format!("{PUT}more\n")] {
            assert!(LoadReport::parse(output).is_err(), "{output:?}");
        }
        // Each cut through the report is noticed as well.
        for (end, _) in PUT
            .char_indices()
            .take_while(|(at, _)| *at < PUT.len() - 200)
        {
            assert!(LoadReport::parse(&PUT[..end]).is_err(), "cut at {end}");
        }
    }
}
