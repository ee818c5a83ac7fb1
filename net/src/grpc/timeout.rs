//! `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

/// Why a value is no timeout. The texts follow grpc-go, which puts them into the status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeoutError {
    #[error("transport: timeout string is too short: {0:?}")]
    TooShort(String),
    #[error("transport: timeout string is too long: {0:?}")]
    TooLong(String),
    #[error("transport: timeout unit is not recognized: {0:?}")]
    Unit(String),
    #[error("strconv.ParseUint: parsing {0:?}: invalid syntax")]
    Digits(String),
}

/// Parses the value of `grpc-timeout`.
pub(crate) fn parse(value: &[u8]) -> Result<Duration, TimeoutError> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (unit, digits) = match value.split_last() {
        Some((unit, digits)) if !digits.is_empty() => (*unit, digits),
        _ => return Err(TimeoutError::TooShort(text(value))),
    };
    if digits.len() > 8 {
        return Err(TimeoutError::TooLong(text(&value[..value.len().min(64)])));
    }
    if !b"HMSmun".contains(&unit) {
        return Err(TimeoutError::Unit(text(value)));
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(TimeoutError::Digits(text(digits)));
    }
    // Eight digits fit, and so do 99,999,999 hours in seconds.
    let count = digits
        .iter()
        .fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        _ => Duration::from_nanos(count),
    })
}

/// Writes a timeout in the finest unit in which eight digits hold it, rounded up so that it is never shortened.
pub(crate) fn format(timeout: Duration) -> String {
    const COUNT_MAX: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    let units: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    for (unit, letter) in units {
        let count = nanos.div_ceil(unit);
        if count <= COUNT_MAX {
            return format!("{count}{letter}");
        }
    }
    format!("{COUNT_MAX}H")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit() {
        assert_eq!(parse(b"2H"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse(b"3M"), Ok(Duration::from_secs(180)));
        assert_eq!(parse(b"4S"), Ok(Duration::from_secs(4)));
        assert_eq!(parse(b"5m"), Ok(Duration::from_millis(5)));
        assert_eq!(parse(b"6u"), Ok(Duration::from_micros(6)));
        assert_eq!(parse(b"7n"), Ok(Duration::from_nanos(7)));
        assert_eq!(
            parse(b"99999999H"),
            Ok(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(parse(b"0S"), Ok(Duration::ZERO));
    }

    #[test]
    fn malformed_values_say_why() {
        let message = |value: &[u8]| parse(value).expect_err("malformed").to_string();
        assert_eq!(
            message(b"S"),
            "transport: timeout string is too short: \"S\""
        );
        assert_eq!(message(b""), "transport: timeout string is too short: \"\"");
        assert_eq!(
            message(b"123456789S"),
            "transport: timeout string is too long: \"123456789S\""
        );
        assert_eq!(
            message(b"5s"),
            "transport: timeout unit is not recognized: \"5s\""
        );
        assert_eq!(
            message(b"-1S"),
            "strconv.ParseUint: parsing \"-1\": invalid syntax"
        );
    }

    #[test]
    fn formatted_timeouts_are_not_shorter() {
        assert_eq!(format(Duration::from_secs(5)), "5000000u");
        assert_eq!(format(Duration::from_nanos(1)), "1n");
        assert_eq!(format(Duration::MAX), "99999999H");
        for nanos in [0, 1, 99_999_999, 100_000_001, 7_200_000_000_001, 1 << 60] {
            let timeout = Duration::from_nanos(nanos);
            let parsed = parse(format(timeout).as_bytes()).expect("our own format");
            assert!(parsed >= timeout, "{parsed:?} < {timeout:?}");
        }
    }
}
