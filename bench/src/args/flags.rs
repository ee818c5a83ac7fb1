//! Flags by name, each taken out when it is read; what is left nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::server::ServerCommand;

/// A command line that cannot be obeyed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgsError {
    #[error("unknown command {0:?}")]
    UnknownCommand(String),
    #[error("unknown flag {0:?}")]
    Unknown(String),
    #[error("flag --{0} lacks its value")]
    NoValue(String),
    #[error("flag --{0} is needed")]
    Missing(&'static str),
    #[error("flag --{name}: cannot use {value:?}")]
    Value { name: &'static str, value: String },
    /// Two flags that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Flags without a value.
const SWITCHES: [&str; 3] = ["small", "json", "fill"];

/// The flags that were given and not read yet.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: BTreeMap<String, String>,
    switches: BTreeSet<String>,
}

impl Flags {
    /// Takes `--name value` and `--name=value`; of a flag given twice the last one holds.
    pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut flags = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let body = arg
                .strip_prefix("--")
                .ok_or_else(|| ArgsError::Unknown(arg.clone()))?;
            if SWITCHES.contains(&body) {
                flags.switches.insert(body.to_owned());
                continue;
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (body.to_owned(), args.next()),
            };
            let value = value.ok_or_else(|| ArgsError::NoValue(name.clone()))?;
            flags.values.insert(name, value);
        }
        Ok(flags)
    }

    /// # Errors
    /// If a flag was not read: the subcommand does not know it.
    pub(super) fn finish(self) -> Result<(), ArgsError> {
        let left = self.values.into_keys().chain(self.switches).next();
        left.map_or(Ok(()), |name| Err(ArgsError::Unknown(format!("--{name}"))))
    }

    pub(super) fn switch(&mut self, name: &str) -> bool {
        self.switches.remove(name)
    }

    /// Whether the switch was given; it stays to be read.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.switches.contains(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    pub(super) fn command(&mut self, name: &'static str) -> Result<ServerCommand, ArgsError> {
        let line = self.text(name).ok_or(ArgsError::Missing(name))?;
        ServerCommand::parse(&line).ok_or(ArgsError::Value { name, value: line })
    }

    /// A value of any type that reads itself, or `None` if it was not given.
    pub(super) fn parsed<T: FromStr>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, ArgsError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(ArgsError::Value { name, value }),
        }
    }

    pub(super) fn number<T>(
        &mut self,
        name: &'static str,
        default: T,
        allowed: RangeInclusive<T>,
    ) -> Result<T, ArgsError>
    where
        T: FromStr + PartialOrd,
    {
        let Some(value) = self.text(name) else {
            return Ok(default);
        };
        match value.parse() {
            Ok(number) if allowed.contains(&number) => Ok(number),
            _ => Err(ArgsError::Value { name, value }),
        }
    }

    /// Seconds, with a fraction if need be.
    pub(super) fn seconds(
        &mut self,
        name: &'static str,
        default: Duration,
        allowed: RangeInclusive<f64>,
    ) -> Result<Duration, ArgsError> {
        let secs = self.number(name, default.as_secs_f64(), allowed)?;
        Ok(Duration::from_secs_f64(secs))
    }

    /// A core, or `None` for `any`.
    pub(super) fn core(
        &mut self,
        name: &'static str,
        default: Option<usize>,
    ) -> Result<Option<usize>, ArgsError> {
        match self.text(name) {
            None => Ok(default),
            Some(value) if value == "any" => Ok(None),
            Some(value) => match value.parse() {
                Ok(core) if core < 1024 => Ok(Some(core)),
                _ => Err(ArgsError::Value { name, value }),
            },
        }
    }

    /// One of the things that `all` lists, by its name.
    pub(super) fn named<T: Copy>(
        &mut self,
        flag: &'static str,
        default: T,
        all: &[(&str, T)],
    ) -> Result<T, ArgsError> {
        let Some(value) = self.text(flag) else {
            return Ok(default);
        };
        let found = all.iter().find(|(name, _)| *name == value);
        found
            .map(|(_, thing)| *thing)
            .ok_or(ArgsError::Value { name: flag, value })
    }

    /// Several of them, with commas between.
    pub(super) fn list<T: Copy>(
        &mut self,
        flag: &'static str,
        default: &[T],
        all: &[(&str, T)],
    ) -> Result<Vec<T>, ArgsError> {
        let Some(value) = self.text(flag) else {
            return Ok(default.to_vec());
        };
        let named = |name: &str| all.iter().find(|(known, _)| *known == name);
        let found: Option<Vec<T>> = value.split(',').map(|name| Some(named(name)?.1)).collect();
        found.ok_or(ArgsError::Value { name: flag, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Flags, ArgsError> {
        Flags::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_spellings_and_switches() {
        let mut flags = flags("--a 1 --b=2 --json --a=3").unwrap();
        assert_eq!(flags.text("a").as_deref(), Some("3"));
        assert_eq!(flags.number("b", 0, 0..=9), Ok(2));
        assert!(flags.switch("json") && !flags.switch("json"));
        assert_eq!(flags.finish(), Ok(()));
    }

    #[test]
    fn what_nobody_reads_is_unknown() {
        let unread = flags("--json --colour red").unwrap();
        assert_eq!(
            unread.finish(),
            Err(ArgsError::Unknown("--colour".to_owned()))
        );
        assert_eq!(flags("a").unwrap_err(), ArgsError::Unknown("a".to_owned()));
        assert_eq!(
            flags("--a").unwrap_err(),
            ArgsError::NoValue("a".to_owned())
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for value in ["-1", "10", "x", ""] {
            let mut flags = flags(&format!("--n={value}")).unwrap();
            assert!(
                matches!(
                    flags.number("n", 1_u32, 0..=9),
                    Err(ArgsError::Value { name: "n", .. })
                ),
                "{value}"
            );
        }
        let mut nan = flags("--s NaN").unwrap();
        assert!(nan.seconds("s", Duration::ZERO, 0.0..=9.0).is_err());
        let mut cores = flags("--c any --d 1024 --e 3").unwrap();
        assert_eq!(cores.core("c", Some(1)), Ok(None));
        assert!(cores.core("d", None).is_err());
        assert_eq!(cores.core("e", None), Ok(Some(3)));
        assert_eq!(cores.core("f", Some(1)), Ok(Some(1)));
    }

    #[test]
    fn things_by_name() {
        let all = [("one", 1), ("two", 2)];
        let mut flags = flags("--x two --l two,one --bad three,one").unwrap();
        assert_eq!(flags.named("x", 1, &all), Ok(2));
        assert_eq!(flags.named("y", 1, &all), Ok(1));
        assert_eq!(flags.list("l", &[], &all), Ok(vec![2, 1]));
        assert!(flags.list("bad", &[], &all).is_err());
    }
}
