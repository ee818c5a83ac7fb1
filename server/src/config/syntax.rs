//! Reads the command line as Go's `flag` package does, and etcd's environment variables.

use std::collections::{BTreeMap, BTreeSet};

use super::flags::{Flag, FlagValue, Kind, Support};
use super::go;
use super::table::{self, FLAGS};
use super::url::Url;
use crate::logging::{Level, Record, record};

/// Why a command line cannot be read; each ends the program after the usage text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyntaxError {
    #[error("bad flag syntax: {0}")]
    Shape(String),
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    #[error("invalid boolean value {} for -{name}: {reason}", go::quote(.value))]
    Bool {
        name: &'static str,
        value: String,
        reason: String,
    },
    #[error("invalid value {} for flag -{name}: {reason}", go::quote(.value))]
    Value {
        name: &'static str,
        value: String,
        reason: String,
    },
    /// Not an error of the user's: help was asked for.
    #[error("help requested")]
    Help,
}

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error("invalid value {} for {variable}: {reason}", go::quote(.value))]
    Value {
        variable: String,
        value: String,
        reason: String,
    },
    /// A flag and its variable are both given.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
    )]
    Shadowed { variable: String },
}

/// The values given on the command line and in the environment.
#[derive(Debug, Default)]
pub(super) struct FlagSet {
    values: BTreeMap<&'static str, FlagValue>,
    /// What is not a flag, from the first such word on.
    pub(super) arguments: Vec<String>,
    /// What to log about the flags, in order.
    pub(super) records: Vec<Record>,
}

impl FlagSet {
    /// Reads the words behind the program's name. A later repetition of a flag wins.
    pub(super) fn parse(words: &[String]) -> Result<Self, SyntaxError> {
        let mut set = Self::default();
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if word == "--" {
                rest = after;
                break;
            }
            let Some(body) = word.strip_prefix('-').filter(|body| !body.is_empty()) else {
                break;
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            rest = set.parse_flag(word, body, after)?;
        }
        set.arguments = rest.to_vec();
        Ok(set)
    }

    /// Reads one flag whose word without dashes is `body`; returns the words behind it.
    fn parse_flag<'a>(
        &mut self,
        word: &str,
        body: &str,
        after: &'a [String],
    ) -> Result<&'a [String], SyntaxError> {
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(SyntaxError::Shape(word.to_owned()));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = table::find(name) else {
            return Err(match name {
                "help" | "h" => SyntaxError::Help,
                _ => SyntaxError::Unknown(name.to_owned()),
            });
        };
        let (value, rest) = match (value, flag.kind) {
            (Some(value), _) => (value, after),
            (None, Kind::Bool | Kind::Anything) => ("true", after),
            (None, _) => match after.split_first() {
                Some((next, rest)) => (next.as_str(), rest),
                None => return Err(SyntaxError::NoValue(flag.name.to_owned())),
            },
        };
        self.set(flag, value).map_err(|reason| {
            let (name, value) = (flag.name, value.to_owned());
            match flag.kind {
                Kind::Bool => SyntaxError::Bool {
                    name,
                    value,
                    reason,
                },
                _ => SyntaxError::Value {
                    name,
                    value,
                    reason,
                },
            }
        })?;
        Ok(rest)
    }

    fn set(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        let value = flag.parse(text).map_err(|error| error.to_string())?;
        if flag.support == Support::Ignored {
            self.records.push(record!(
                Level::Warn,
                "flag is no longer supported - ignoring",
                "flag-name" => flag.name,
            ));
        }
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// Adds the variables `ETCD_…` (in the environment's order) for flags that were not given.
    pub(super) fn apply_environment(
        &mut self,
        variables: &[(String, String)],
    ) -> Result<(), EnvironmentError> {
        let given: BTreeSet<_> = self.values.keys().map(|name| variable_of(name)).collect();
        let mut by_name: BTreeMap<_, _> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if let Some(value) = by_name
            .remove("ETCD_VERSION")
            .filter(|value| !value.is_empty())
        {
            self.records.push(record!(
                Level::Warn,
                "cannot set special environment variable",
                "key" => "ETCD_VERSION",
                "value" => value,
            ));
        }
        let (used, result) = self.set_from_variables(&by_name, &given);
        for (name, value) in variables {
            if used.contains(name) || name == "ETCD_VERSION" {
                continue;
            }
            if given.contains(name) {
                return Err(EnvironmentError::Shadowed {
                    variable: name.clone(),
                });
            }
            if name.starts_with("ETCD_") {
                self.records.push(record!(
                    Level::Warn,
                    "unrecognized environment variable",
                    "environment-variable" => format!("{name}={value}"),
                ));
            }
        }
        result
    }

    /// Goes through the flags by name, as Go does; of several bad values the last is reported.
    fn set_from_variables(
        &mut self,
        variables: &BTreeMap<&str, &str>,
        given: &BTreeSet<String>,
    ) -> (BTreeSet<String>, Result<(), EnvironmentError>) {
        let mut used = BTreeSet::new();
        let mut result = Ok(());
        let mut sorted: Vec<&'static Flag> = FLAGS.iter().collect();
        sorted.sort_by_key(|flag| flag.name);
        for flag in sorted {
            let variable = variable_of(flag.name);
            let value = variables
                .get(variable.as_str())
                .filter(|value| !value.is_empty());
            let Some(value) = value.filter(|_| !given.contains(&variable)) else {
                continue;
            };
            used.insert(variable.clone());
            match self.set(flag, value) {
                Ok(()) => self.records.push(record!(
                    Level::Info,
                    "recognized and used environment variable",
                    "variable-name" => &variable,
                    "variable-value" => *value,
                )),
                Err(reason) => {
                    let value = (*value).to_owned();
                    result = Err(EnvironmentError::Value {
                        variable,
                        value,
                        reason,
                    });
                }
            }
        }
        (used, result)
    }

    /// Says whether the flag was given, by flag or by variable.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The flag's value, or its default.
    pub(super) fn value(&self, name: &str) -> FlagValue {
        match self.values.get(name) {
            Some(value) => value.clone(),
            None => match table::find(name) {
                Some(flag) => flag.default_value(),
                None => unreachable!("--{name} is not in the table of flags"),
            },
        }
    }

    /// The URLs a flag has when it is not given.
    pub(super) fn default_urls(&self, name: &str) -> Vec<Url> {
        match table::find(name).map(Flag::default_value) {
            Some(FlagValue::Urls(Ok(urls))) => urls,
            _ => Vec::new(),
        }
    }

    /// The first given flag, by name, that etcore would have to honour and does not.
    pub(super) fn first_unsupported(&self) -> Option<&'static Flag> {
        self.values
            .iter()
            .filter_map(|(name, value)| Some((table::find(name)?, value)))
            .filter(|(flag, _)| flag.support == Support::DefaultOnly)
            .find(|(flag, value)| !flag.is_default(value))
            .map(|(flag, _)| flag)
    }
}

/// Typed access: the table says which kind of value a flag has.
macro_rules! typed_values {
    ($($method:ident: $variant:ident -> $type:ty),* $(,)?) => {
        impl FlagSet {$(
            pub(super) fn $method(&self, name: &str) -> $type {
                match self.value(name) {
                    FlagValue::$variant(value) => value,
                    other => unreachable!("--{name} is no {}: {other:?}", stringify!($variant)),
                }
            }
        )*}
    };
}

typed_values! {
    text: Text -> String,
    boolean: Bool -> bool,
    signed: Signed -> i64,
    unsigned: Unsigned -> u64,
    duration: Duration -> i64,
    words: Words -> Vec<String>,
}

/// `listen-peer-urls` becomes `ETCD_LISTEN_PEER_URLS`.
fn variable_of(name: &str) -> String {
    format!("ETCD_{}", name.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|&word| word.to_owned()).collect()
    }

    fn parse(line: &[&str]) -> Result<FlagSet, SyntaxError> {
        FlagSet::parse(&words(line))
    }

    fn error_of(line: &[&str]) -> String {
        parse(line).unwrap_err().to_string()
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn all_of_gos_forms_are_read_and_the_last_one_wins() {
        let set = parse(&[
            "-name",
            "a",
            "--name=b",
            "--unsafe-no-fsync",
            "--data-dir",
            "-x",
        ]);
        let set = set.unwrap();
        assert_eq!(set.value("name"), FlagValue::Text("b".to_owned()));
        assert_eq!(set.value("data-dir"), FlagValue::Text("-x".to_owned()));
        assert_eq!(set.value("unsafe-no-fsync"), FlagValue::Bool(true));
        assert!(set.is_set("name") && !set.is_set("wal-dir"));
        assert_eq!(set.value("wal-dir"), FlagValue::Text(String::new()));
    }

    #[test]
    fn a_bool_takes_no_word_behind_it() {
        let set = parse(&["--unsafe-no-fsync", "false"]).unwrap();
        assert_eq!(set.value("unsafe-no-fsync"), FlagValue::Bool(true));
        assert_eq!(set.arguments, ["false"]);
    }

    #[test]
    fn words_from_the_first_one_without_a_dash_on_are_no_flags() {
        assert_eq!(parse(&["x", "--foo"]).unwrap().arguments, ["x", "--foo"]);
        assert_eq!(parse(&["--", "--foo"]).unwrap().arguments, ["--foo"]);
        assert_eq!(parse(&["-", "--foo"]).unwrap().arguments, ["-", "--foo"]);
        assert_eq!(parse(&["", "--foo"]).unwrap().arguments, ["", "--foo"]);
    }

    #[test]
    fn errors_have_gos_texts() {
        assert_eq!(error_of(&["--foo"]), "flag provided but not defined: -foo");
        assert_eq!(error_of(&["-foo=1"]), "flag provided but not defined: -foo");
        assert_eq!(
            error_of(&["--listen-client-urls"]),
            "flag needs an argument: -listen-client-urls"
        );
        assert_eq!(error_of(&["---name=x"]), "bad flag syntax: ---name=x");
        assert_eq!(error_of(&["--=x"]), "bad flag syntax: --=x");
        assert_eq!(
            error_of(&["--unsafe-no-fsync=maybe"]),
            "invalid boolean value \"maybe\" for -unsafe-no-fsync: parse error"
        );
        assert_eq!(
            error_of(&["--heartbeat-interval=-5"]),
            "invalid value \"-5\" for flag -heartbeat-interval: parse error"
        );
        assert_eq!(parse(&["-h"]).unwrap_err(), SyntaxError::Help);
        assert_eq!(
            parse(&["--name", "a", "--help"]).unwrap_err(),
            SyntaxError::Help
        );
    }

    #[test]
    fn ignored_flags_are_taken_with_a_warning() {
        let set = parse(&["--vv=x", "--peer-election-timeout", "--name=a"]).unwrap();
        let messages: Vec<_> = set.records.iter().map(|record| &*record.message).collect();
        assert_eq!(messages, ["flag is no longer supported - ignoring"; 2]);
        assert!(set.first_unsupported().is_none());
        assert!(set.is_set("name"));
    }

    #[test]
    fn the_environment_fills_what_was_not_given() {
        let mut set = parse(&["--name=a"]).unwrap();
        let environment = variables(&[
            ("PATH", "/bin"),
            ("ETCD_MAX_TXN_OPS", "7"),
            ("ETCD_UNSAFE_NO_FSYNC", "1"),
            ("ETCD_VERSION", "3"),
            ("ETCD_FOO", "bar"),
            ("ETCD_DATA_DIR", ""),
        ]);
        set.apply_environment(&environment).unwrap();
        assert_eq!(set.value("max-txn-ops"), FlagValue::Unsigned(7));
        assert_eq!(set.value("unsafe-no-fsync"), FlagValue::Bool(true));
        let messages: Vec<_> = set.records.iter().map(|record| &*record.message).collect();
        assert_eq!(
            messages,
            [
                "cannot set special environment variable",
                "recognized and used environment variable",
                "recognized and used environment variable",
                "unrecognized environment variable",
                "unrecognized environment variable",
            ]
        );
        assert_eq!(set.records[3].fields[0].value, "ETCD_FOO=bar".into());
        assert_eq!(set.records[4].fields[0].value, "ETCD_DATA_DIR=".into());
    }

    #[test]
    fn a_flag_and_its_variable_together_are_refused_even_if_equal() {
        let mut set = parse(&["--name=a"]).unwrap();
        let error = set
            .apply_environment(&variables(&[("ETCD_NAME", "a")]))
            .unwrap_err();
        assert_eq!(
            error,
            EnvironmentError::Shadowed {
                variable: "ETCD_NAME".to_owned()
            }
        );
        assert_eq!(
            error.to_string(),
            "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
        );
    }

    #[test]
    fn of_several_bad_variables_the_last_flag_by_name_is_reported() {
        let mut set = parse(&[]).unwrap();
        let environment = variables(&[("ETCD_MAX_TXN_OPS", "foo"), ("ETCD_LISTEN_PEER_URLS", "x")]);
        let error = set.apply_environment(&environment).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid value \"foo\" for ETCD_MAX_TXN_OPS: parse error"
        );
    }

    #[test]
    fn known_flags_are_refused_only_with_another_value() {
        assert!(
            parse(&["--pre-vote", "--metrics=basic"])
                .unwrap()
                .first_unsupported()
                .is_none()
        );
        let set = parse(&["--pre-vote=false", "--peer-cert-file=x"]).unwrap();
        assert_eq!(set.first_unsupported().unwrap().name, "peer-cert-file");
    }
}
