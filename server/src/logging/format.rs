//! Lines as text: zap's JSON and console encodings.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::record::{Field, Record, Value};
use super::time::Civil;
use crate::config::go;

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Time, level, caller and message between tabs, then the fields as one JSON object.
    Console,
}

impl Format {
    /// The finished line with its line feed.
    pub(super) fn encode(self, record: &Record, now: SystemTime) -> Vec<u8> {
        let mut out = String::with_capacity(256);
        let time = Civil::from_system(now);
        match self {
            Self::Json => encode_json(&mut out, record, &time),
            Self::Console => encode_console(&mut out, record, &time),
        }
        out.push('\n');
        out.into_bytes()
    }
}

fn encode_json(out: &mut String, record: &Record, time: &Civil) {
    let _ = write!(out, "{{\"level\":\"{}\",\"ts\":\"", record.level.name());
    time.write_log_time(out);
    out.push_str("\",\"caller\":");
    push_string(out, short_caller(record.caller));
    out.push_str(",\"msg\":");
    push_string(out, &record.message);
    for field in &record.fields {
        out.push(',');
        push_field(out, field, "");
    }
    out.push('}');
}

fn encode_console(out: &mut String, record: &Record, time: &Civil) {
    time.write_log_time(out);
    let _ = write!(
        out,
        "\t{}\t{}\t",
        record.level.name(),
        short_caller(record.caller)
    );
    // A line break in a message would look like another line.
    push_escaped(out, &record.message);
    if record.fields.is_empty() {
        return;
    }
    out.push_str("\t{");
    for (position, field) in record.fields.iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        push_field(out, field, " ");
    }
    out.push('}');
}

/// The last folder and the file of a path: `server/src/config/url.rs:7` becomes `config/url.rs:7`.
fn short_caller(caller: &str) -> &str {
    match caller.rmatch_indices('/').nth(1) {
        Some((slash, _)) => &caller[slash + 1..],
        None => caller,
    }
}

fn push_field(out: &mut String, field: &Field, space: &str) {
    push_string(out, field.key);
    out.push(':');
    out.push_str(space);
    push_value(out, &field.value, space);
}

fn push_value(out: &mut String, value: &Value, space: &str) {
    match value {
        Value::String(text) => push_string(out, text),
        Value::Strings(texts) => push_strings(out, texts, space),
        Value::Signed(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Unsigned(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) if number.is_finite() => {
            let _ = write!(out, "{number}");
        }
        // JSON has no such numbers; zap writes them as strings, spelled as Go spells them.
        Value::Float(number) if number.is_nan() => out.push_str("\"NaN\""),
        Value::Float(number) => {
            out.push_str(if *number > 0.0 {
                "\"+Inf\""
            } else {
                "\"-Inf\""
            });
        }
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Duration(duration) => push_string(out, &go::format_duration(*duration)),
    }
}

fn push_strings(out: &mut String, texts: &[String], space: &str) {
    out.push('[');
    for (position, text) in texts.iter().enumerate() {
        if position > 0 {
            out.push(',');
            out.push_str(space);
        }
        push_string(out, text);
    }
    out.push(']');
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Escapes as RFC 8259 §7 asks: quote, backslash and control characters.
fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::logging::Level;

    fn line(format: Format, record: &Record) -> String {
        let now = UNIX_EPOCH + Duration::new(1_795_233_698, 145_004_000);
        String::from_utf8(format.encode(record, now)).unwrap()
    }

    #[test]
    fn json_has_etcds_layout() {
        let record = Record::new(Level::Info, "server/src/shard/accept.rs:139", "serving")
            .with("address", "127.0.0.1:2379")
            .with(
                "urls",
                vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
            )
            .with("index", 7u64)
            .with("delta", -3i64)
            .with("learner", false)
            .with("took", Duration::from_millis(1500))
            .with("none", Vec::new());
        assert_eq!(
            line(Format::Json, &record),
            concat!(
                r#"{"level":"info","ts":"2026-11-21T04:01:38.145004Z","caller":"shard/accept.rs:139","#,
                r#""msg":"serving","address":"127.0.0.1:2379","urls":["http://a:1","http://b:2"],"#,
                r#""index":7,"delta":-3,"learner":false,"took":"1.5s","none":[]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn console_has_tabs_and_a_spaced_object() {
        let record = Record::new(Level::Warn, "main.rs:1", "two\nlines")
            .with("a", 1u64)
            .with("b", vec!["x".to_owned(), "y".to_owned()]);
        assert_eq!(
            line(Format::Console, &record),
            "2026-11-21T04:01:38.145004Z\twarn\tmain.rs:1\ttwo\\nlines\t{\"a\": 1, \"b\": [\"x\", \"y\"]}\n"
        );
        let bare = Record::new(Level::Warn, "main.rs:1", "bare");
        assert_eq!(
            line(Format::Console, &bare),
            "2026-11-21T04:01:38.145004Z\twarn\tmain.rs:1\tbare\n"
        );
    }

    #[test]
    fn any_string_is_one_line_of_valid_json() {
        let nasty = "quote\" slash\\ line\n tab\t nul\0 bell\u{7} del\u{7f} é \u{1f600}";
        let record = Record::new(Level::Error, "x.rs:1", nasty.to_owned()).with("k", nasty);
        let text = line(Format::Json, &record);
        assert_eq!(text.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["msg"], nasty);
        assert_eq!(parsed["k"], nasty);
    }

    #[test]
    fn numbers_that_json_lacks_are_strings() {
        let record = Record::new(Level::Info, "x.rs:1", "m")
            .with("a", f64::NAN)
            .with("b", f64::NEG_INFINITY)
            .with("c", 0.25);
        let parsed: serde_json::Value = serde_json::from_str(&line(Format::Json, &record)).unwrap();
        assert_eq!(parsed["a"], "NaN");
        assert_eq!(parsed["b"], "-Inf");
        assert_eq!(parsed["c"], 0.25);
    }
}
