//! One log line before it is text.

use std::borrow::Cow;
use std::time::Duration;

/// Levels of zap, ordered; `--log-level` names the lowest one that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    /// A bug that zap would panic for in development builds; a threshold only.
    DevelopmentPanic,
    Panic,
    Fatal,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::DevelopmentPanic => "dpanic",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    /// Reads the words zap takes, in any case: its names, `warning`, and nothing at all for info.
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" | "" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "dpanic" => Some(Self::DevelopmentPanic),
            "panic" => Some(Self::Panic),
            "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }
}

/// A field's value; its variant decides how it looks in JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    String(Cow<'static, str>),
    Strings(Vec<String>),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    /// Written as a Go duration in quotes, such as `"1.5s"`.
    Duration(Duration),
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub key: &'static str,
    pub value: Value,
}

/// What is logged. Made by the macros, or kept as data and emitted later (warnings of the flags are
/// found before the logger that they configure exists).
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub level: Level,
    /// `path/of/file.rs:line`; only the last folder and the file are shown.
    pub caller: &'static str,
    pub message: Cow<'static, str>,
    pub fields: Vec<Field>,
}

impl Record {
    pub fn new(level: Level, caller: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            level,
            caller,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// Adds a field behind those there are.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push(Field {
            key,
            value: value.into(),
        });
        self
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(Cow::Owned(value.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::String(Cow::Owned(value.clone()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(Cow::Owned(value))
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Self::Strings(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self::Duration(value)
    }
}

macro_rules! value_from_integers {
    ($($integer:ty => $variant:ident as $wide:ty),* $(,)?) => {$(
        impl From<$integer> for Value {
            fn from(value: $integer) -> Self {
                Self::$variant(value as $wide)
            }
        }
    )*};
}

value_from_integers! {
    i32 => Signed as i64, i64 => Signed as i64,
    u8 => Unsigned as u64, u16 => Unsigned as u64, u32 => Unsigned as u64,
    u64 => Unsigned as u64, usize => Unsigned as u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_read_as_zap_reads_them() {
        assert!(Level::Debug < Level::Info && Level::Error < Level::Panic);
        assert!(Level::Panic < Level::Fatal);
        assert_eq!(Level::parse("WARN"), Some(Level::Warn));
        assert_eq!(Level::parse("warning"), Some(Level::Warn));
        assert_eq!(Level::parse(""), Some(Level::Info));
        assert_eq!(Level::parse("Warn"), Some(Level::Warn));
        assert_eq!(Level::parse("bad"), None);
    }

    #[test]
    fn every_level_is_read_back_from_its_name() {
        for level in [
            Level::Debug,
            Level::Info,
            Level::Warn,
            Level::Error,
            Level::Panic,
        ] {
            assert_eq!(Level::parse(level.name()), Some(level));
        }
    }

    #[test]
    fn fields_keep_their_order() {
        let record = Record::new(Level::Info, "a/b.rs:1", "m")
            .with("z", 1u64)
            .with("a", "x");
        let keys: Vec<_> = record.fields.iter().map(|field| field.key).collect();
        assert_eq!(keys, ["z", "a"]);
    }
}
