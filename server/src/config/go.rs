//! Go's textual forms of values, as its `flag`, `strconv`, `time` and `fmt` packages read and write
//! them: users, scripts and error messages of etcd depend on them to the letter.

use std::fmt::Write as _;
use std::time::Duration;

/// Why a value is not one; the texts are Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("parse error")]
    Syntax,
    #[error("value out of range")]
    Range,
}

/// Why a duration is not one; the texts are those of Go's `time`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.text))]
    UnknownUnit { unit: String, text: String },
}

/// What is wrong with one part of a duration.
enum PartError<'a> {
    Invalid,
    MissingUnit,
    UnknownUnit(&'a str),
}

/// Reads one of the twelve words that Go takes for a bool.
pub fn parse_bool(text: &str) -> Result<bool, ParseError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(ParseError::Syntax),
    }
}

/// Reads a signed number of 64 bits in Go's base-0 syntax.
pub fn parse_signed(text: &str) -> Result<i64, ParseError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_unsigned(digits)?);
    let number = if negative { -magnitude } else { magnitude };
    i64::try_from(number).map_err(|_| ParseError::Range)
}

/// Reads an unsigned number of 64 bits in Go's base-0 syntax: `0x1f`, `0o17`, `017`, `0b11`, `1_000`.
pub fn parse_unsigned(text: &str) -> Result<u64, ParseError> {
    let bytes = text.as_bytes();
    let (base, digits, prefixed) = match bytes {
        [] => return Err(ParseError::Syntax),
        [b'0', b'x' | b'X', rest @ ..] => (16, rest, true),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest, true),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest, true),
        [b'0', rest @ ..] if !rest.is_empty() => (8, rest, true),
        all => (10, all, false),
    };
    parse_digits(base, digits, prefixed)
}

/// An underscore may stand between two digits, or between the base's prefix and a digit.
fn parse_digits(base: u32, digits: &[u8], prefixed: bool) -> Result<u64, ParseError> {
    let mut number: Option<u64> = Some(0);
    let mut underscore_allowed = prefixed;
    let mut ends_with_digit = false;
    for &byte in digits {
        if byte == b'_' {
            if !underscore_allowed {
                return Err(ParseError::Syntax);
            }
            underscore_allowed = false;
            ends_with_digit = false;
            continue;
        }
        let digit = char::from(byte).to_digit(base).ok_or(ParseError::Syntax)?;
        number = number
            .and_then(|so_far| so_far.checked_mul(u64::from(base)))
            .and_then(|so_far| so_far.checked_add(u64::from(digit)));
        underscore_allowed = true;
        ends_with_digit = true;
    }
    if !ends_with_digit {
        return Err(ParseError::Syntax);
    }
    number.ok_or(ParseError::Range)
}

/// Reads a Go duration such as `1h2m3.5s` as nanoseconds; it may be negative.
///
/// # Errors
/// What Go says is wrong.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    parse_nanoseconds(text).map_err(|error| {
        let text = text.to_owned();
        match error {
            PartError::Invalid => DurationError::Invalid(text),
            PartError::MissingUnit => DurationError::MissingUnit(text),
            PartError::UnknownUnit(unit) => DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text,
            },
        }
    })
}

fn parse_nanoseconds(text: &str) -> Result<i64, PartError<'_>> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(PartError::Invalid);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = parse_duration_part(rest)?;
        total += nanoseconds;
        if total > 1 << 63 {
            return Err(PartError::Invalid);
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| PartError::Invalid)
}

/// Reads one number with its unit; returns the text behind it.
fn parse_duration_part(text: &str) -> Result<(i128, &str), PartError<'_>> {
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(PartError::Invalid);
    }
    if fraction.contains('.') {
        // Behind the second point another number begins, before this one had a unit.
        return Err(PartError::MissingUnit);
    }
    let unit_len = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let unit: i128 = match unit {
        "" => return Err(PartError::MissingUnit),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        other => return Err(PartError::UnknownUnit(other)),
    };
    let whole: i128 = match whole {
        "" => 0,
        digits => i128::from(digits.parse::<u64>().map_err(|_| PartError::Invalid)?),
    };
    // Digits below a nanosecond of an hour do not count; 18 of them always fit.
    let kept = &fraction[..fraction.len().min(18)];
    let fraction: i128 = match kept {
        "" => 0,
        digits => {
            let value: i128 = digits.parse().map_err(|_| PartError::Invalid)?;
            value * unit / 10_i128.pow(digits.len() as u32)
        }
    };
    Ok((whole * unit + fraction, rest))
}

/// Writes a duration as Go does: `0s`, `1.5ms`, `2h0m0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < 1_000_000_000 {
        let (unit, name) = match nanoseconds {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return decimal(nanoseconds, unit) + name;
    }
    let seconds = nanoseconds / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    text + &decimal(nanoseconds % 60_000_000_000, 1_000_000_000) + "s"
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let mut text = (value / unit).to_string();
    let rest = value % unit;
    if rest > 0 {
        let places = unit.ilog10() as usize;
        let _ = write!(text, ".{rest:0places$}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

/// Writes a string as Go's `%q` does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control < ' ' || control == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Writes a list of strings as Go's `%q` does: `["a" "b"]`.
pub fn quote_list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bools_are_gos_twelve_words() {
        for word in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(word), Ok(true), "{word}");
        }
        for word in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(word), Ok(false), "{word}");
        }
        for word in ["", "yes", "tRUE", "on", "2", " true"] {
            assert_eq!(parse_bool(word), Err(ParseError::Syntax), "{word}");
        }
    }

    #[test]
    fn numbers_have_gos_prefixes_and_underscores() {
        let cases = [
            ("0", Ok(0)),
            ("128", Ok(128)),
            ("1_000", Ok(1000)),
            ("0x1F", Ok(31)),
            ("0x_1f", Ok(31)),
            ("017", Ok(15)),
            ("0_7", Ok(7)),
            ("0o17", Ok(15)),
            ("0b101", Ok(5)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(ParseError::Range)),
            ("99999999999999999999999x", Err(ParseError::Syntax)),
            ("", Err(ParseError::Syntax)),
            ("_1", Err(ParseError::Syntax)),
            ("1_", Err(ParseError::Syntax)),
            ("1__0", Err(ParseError::Syntax)),
            ("0x", Err(ParseError::Syntax)),
            ("08", Err(ParseError::Syntax)),
            ("-1", Err(ParseError::Syntax)),
            ("+1", Err(ParseError::Syntax)),
            ("1.5", Err(ParseError::Syntax)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_unsigned(text), expected, "{text}");
        }
    }

    #[test]
    fn signed_numbers_reach_both_ends() {
        assert_eq!(parse_signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_signed("+9223372036854775807"), Ok(i64::MAX));
        assert_eq!(parse_signed("9223372036854775808"), Err(ParseError::Range));
        assert_eq!(parse_signed("--1"), Err(ParseError::Syntax));
        assert_eq!(parse_signed("-"), Err(ParseError::Syntax));
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("-100ms", -100_000_000),
            ("+7us", 7_000),
            ("7\u{b5}s", 7_000),
            ("2h0m0s", 7_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        let refused = [
            (
                "9223372036854775808ns",
                "invalid duration \"9223372036854775808ns\"",
            ),
            ("3000000h", "invalid duration \"3000000h\""),
            ("5", "missing unit in duration \"5\""),
            ("1h30", "missing unit in duration \"1h30\""),
            ("", "invalid duration \"\""),
            ("-", "invalid duration \"-\""),
            ("s", "invalid duration \"s\""),
            (".s", "invalid duration \".s\""),
            ("1.2.3s", "missing unit in duration \"1.2.3s\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("0x10", "unknown unit \"x\" in duration \"0x10\""),
            ("5 s", "unknown unit \" s\" in duration \"5 s\""),
        ];
        for (text, expected) in refused {
            let error = parse_duration(text).map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("time: {expected}")), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (100_000_000, "100ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (7_200_000_000_000, "2h0m0s"),
            (1_200_000_000, "1.2s"),
            (10_000_000_000, "10s"),
            (600_000_000_000, "10m0s"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(format_duration(Duration::from_nanos(nanoseconds)), expected);
        }
    }

    #[test]
    fn quoting_escapes_what_go_escapes() {
        assert_eq!(quote("a\"b\\c\n\u{1}"), r#""a\"b\\c\n\x01""#);
        assert_eq!(quote_list(&["a", "b c"]), r#"["a" "b c"]"#);
        assert_eq!(quote_list::<&str>(&[]), "[]");
    }
}
