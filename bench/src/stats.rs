//! Smallest, middle and largest of a few repeats, and the ratio of two series measured in turns.
//!
//! A machine drifts: the same program was seen 35 % faster an hour later. So the two servers run in turns, and
//! a ratio is taken within each round first; only then do the rounds give a median and a spread.

use serde::Serialize;

/// What several repeats of one measurement gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of the finite values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(middle - 1)?, *sorted.get(middle)?)
        } else {
            *sorted.get(middle)?
        };
        Some(Self { min, median, max })
    }

    /// The spread of `b / a` over rounds that measured both, `a` not zero.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        Self::of(pairs.into_iter().map(|(a, b)| b / a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        let of = |min, median, max| Some(Spread { min, median, max });
        assert_eq!(spread(&[3.0, 1.0, 2.0]), of(1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), of(1.0, 2.5, 4.0));
        assert_eq!(spread(&[7.0]), of(7.0, 7.0, 7.0));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN, 1.0]), of(1.0, 1.0, 1.0));
    }

    #[test]
    fn ratio_is_taken_within_each_round() {
        // The machine became twice as fast in round two. Each round says 2; the medians of the
        // two series by themselves would have said anything between 1 and 4.
        let spread = Spread::of_ratios([(10.0, 20.0), (20.0, 40.0)]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (2.0, 2.0, 2.0));
        assert_eq!(
            Spread::of_ratios([(0.0, 1.0)]),
            None,
            "no base to compare with"
        );
    }
}
