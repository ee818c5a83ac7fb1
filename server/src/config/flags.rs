//! Flags and their values: name, kind of value, default, and what etcore does with it.
//!
//! A flag that etcore does not honour yet is known all the same: it may be given with its default
//! value, so that scripts which spell out defaults keep working, and is refused otherwise.

use super::go::{self, ParseError};
use super::url::{Url, UrlError};

/// What kind of value a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    Signed,
    Unsigned,
    /// An unsigned number of 32 bits; its errors are those of `strconv`.
    Unsigned32,
    Duration,
    /// URLs between commas. This one word is taken without being a URL: `""` or `"*"`.
    Urls {
        except: &'static str,
    },
    /// Words between commas, kept in order.
    Words,
    /// Words between commas, sorted and without doubles.
    UniqueWords,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words between commas.
    Choices(&'static [&'static str]),
    /// `Name=true,Other=false`
    FeatureGates,
    /// Whatever it is; like a bool it takes no word behind it.
    Anything,
}

/// What etcore does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// Honoured.
    Full,
    /// Known; refused unless the value equals the default.
    DefaultOnly,
    /// One of etcd's own ignored flags: taken with a warning.
    Ignored,
    /// No flag of etcd's; honoured.
    Own,
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// In the flag's own syntax.
    pub(super) default: &'static str,
    pub(super) support: Support,
    /// What `--help` says; only of flags that are honoured.
    pub(super) help: &'static str,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlagValue {
    Text(String),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    /// In nanoseconds.
    Duration(i64),
    /// The exception word (as given) or URLs.
    Urls(Result<Vec<Url>, String>),
    Words(Vec<String>),
    Gates(Vec<(&'static str, bool)>),
}

/// Why a value does not fit its flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("strconv.ParseUint: parsing {}: {reason}", go::quote(.text))]
    Unsigned32 { text: String, reason: &'static str },
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("invalid value")]
    Choice,
    #[error("invalid value {}", go::quote(.0))]
    Choices(String),
    #[error("missing bool value for {0}")]
    GateWithoutValue(String),
    #[error("invalid value of {name}={value}, err: strconv.ParseBool: parsing {}: invalid syntax", go::quote(.value))]
    GateValue { name: String, value: String },
    #[error("unrecognized feature gate: {0}")]
    GateUnknown(String),
}

/// etcd's feature gates with their defaults.
pub(super) const FEATURE_GATES: [(&str, bool); 11] = [
    ("AllAlpha", false),
    ("AllBeta", false),
    ("CompactHashCheck", false),
    ("FastLeaseKeepAlive", true),
    ("InitialCorruptCheck", false),
    ("LeaseCheckpoint", false),
    ("LeaseCheckpointPersist", false),
    ("PriorityRequest", false),
    ("SetMemberLocalAddr", false),
    ("StopGRPCServiceOnDefrag", false),
    ("TxnModeWriteWithSharedBuffer", true),
];

/// Gates that may be changed; the others must have their defaults.
const HONOURED_GATES: [&str; 2] = ["LeaseCheckpoint", "LeaseCheckpointPersist"];

/// The first gate that is asked for and not honoured.
pub(super) fn unsupported_gate(value: &FlagValue) -> Option<&'static str> {
    let FlagValue::Gates(gates) = value else {
        return None;
    };
    let is_fine =
        |gate: &&(_, bool)| FEATURE_GATES.contains(gate) || HONOURED_GATES.contains(&gate.0);
    gates
        .iter()
        .find(|gate| !is_fine(gate))
        .map(|(gate, _)| *gate)
}

/// Whether a gate is open; the last word counts.
pub(super) fn is_gate_open(value: &FlagValue, name: &str) -> bool {
    let FlagValue::Gates(gates) = value else {
        return false;
    };
    let by_name = |gate: &&(&str, bool)| gate.0 == name;
    let given = gates.iter().rfind(by_name);
    let default = FEATURE_GATES.iter().find(by_name);
    given.or(default).is_some_and(|(_, open)| *open)
}

impl Flag {
    /// Reads a value of this flag.
    pub(super) fn parse(&self, text: &str) -> Result<FlagValue, ValueError> {
        Ok(match self.kind {
            Kind::Text | Kind::Anything => FlagValue::Text(text.to_owned()),
            Kind::Bool => FlagValue::Bool(go::parse_bool(text)?),
            Kind::Signed => FlagValue::Signed(go::parse_signed(text)?),
            Kind::Unsigned => FlagValue::Unsigned(go::parse_unsigned(text)?),
            Kind::Unsigned32 => FlagValue::Unsigned(parse_unsigned_32(text)?),
            Kind::Duration => {
                // Go's flag package does not say what is wrong with it.
                let parsed = go::parse_duration(text).map_err(|_| ParseError::Syntax);
                FlagValue::Duration(parsed?)
            }
            Kind::Urls { except } if text == except => FlagValue::Urls(Err(text.to_owned())),
            Kind::Urls { .. } => FlagValue::Urls(Ok(Url::parse_list(text)?)),
            Kind::Words => FlagValue::Words(words(text)),
            Kind::UniqueWords => {
                let mut unique = words(text);
                unique.sort();
                unique.dedup();
                FlagValue::Words(unique)
            }
            Kind::Choice(choices) if choices.contains(&text) => FlagValue::Text(text.to_owned()),
            Kind::Choice(_) => return Err(ValueError::Choice),
            Kind::Choices(choices) => {
                let all = words(text);
                if let Some(bad) = all.iter().find(|word| !choices.contains(&word.as_str())) {
                    return Err(ValueError::Choices(bad.clone()));
                }
                FlagValue::Words(all)
            }
            Kind::FeatureGates => FlagValue::Gates(parse_gates(text)?),
        })
    }

    /// The value it has when it is not given.
    pub(super) fn default_value(&self) -> FlagValue {
        // An unset list of URLs or gates is empty, which its own syntax cannot always say.
        match (self.kind, self.default) {
            (Kind::Words, "") => FlagValue::Words(Vec::new()),
            (Kind::Urls { .. }, "") => FlagValue::Urls(Ok(Vec::new())),
            (_, text) => match self.parse(text) {
                Ok(value) => value,
                Err(error) => unreachable!("the default of --{} in the table: {error}", self.name),
            },
        }
    }

    /// Says whether a value asks for nothing but the default behaviour.
    pub(super) fn is_default(&self, value: &FlagValue) -> bool {
        match value {
            FlagValue::Gates(gates) => gates.iter().all(|gate| FEATURE_GATES.contains(gate)),
            // An empty word list or the exception word of an empty URL list changes nothing.
            FlagValue::Words(all) if self.default.is_empty() => all.iter().all(String::is_empty),
            FlagValue::Urls(Err(word)) if self.default.is_empty() => word.is_empty(),
            other => *other == self.default_value(),
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn parse_unsigned_32(text: &str) -> Result<u64, ValueError> {
    let error = |reason| ValueError::Unsigned32 {
        text: text.to_owned(),
        reason,
    };
    match go::parse_unsigned(text) {
        Ok(number) if number <= u64::from(u32::MAX) => Ok(number),
        Ok(_) | Err(ParseError::Range) => Err(error("value out of range")),
        Err(ParseError::Syntax) => Err(error("invalid syntax")),
    }
}

fn parse_gates(text: &str) -> Result<Vec<(&'static str, bool)>, ValueError> {
    let mut gates = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((name, value)) = part.split_once('=') else {
            return Err(ValueError::GateWithoutValue(part.to_owned()));
        };
        let (name, value) = (name.trim(), value.trim());
        let enabled = go::parse_bool(value).map_err(|_| ValueError::GateValue {
            name: name.to_owned(),
            value: value.to_owned(),
        })?;
        let known = FEATURE_GATES.iter().find(|(gate, _)| *gate == name);
        let (gate, _) = known.ok_or_else(|| ValueError::GateUnknown(name.to_owned()))?;
        gates.push((*gate, enabled));
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::table::{FLAGS, find};
    use super::*;

    fn parse(name: &str, text: &str) -> Result<FlagValue, String> {
        find(name)
            .unwrap()
            .parse(text)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_table_has_etcds_128_flags_once() {
        let names: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
        let count = |support| FLAGS.iter().filter(|flag| flag.support == support).count();
        assert_eq!(count(Support::Ignored), 15);
        assert_eq!(count(Support::Full) + count(Support::DefaultOnly), 113);
        assert_eq!(count(Support::Own), FLAGS.len() - 128);
    }

    #[test]
    fn every_default_is_valid_and_counts_as_default() {
        for flag in FLAGS {
            let value = flag.default_value();
            assert!(flag.is_default(&value), "--{}", flag.name);
        }
    }

    #[test]
    fn every_honoured_flag_has_a_help_text() {
        let is_honoured = |flag: &&Flag| matches!(flag.support, Support::Full | Support::Own);
        for flag in FLAGS.iter().filter(is_honoured) {
            assert!(!flag.help.is_empty(), "--{}", flag.name);
        }
    }

    #[test]
    fn value_errors_are_those_of_etcd() {
        let error = |name, text| parse(name, text).unwrap_err();
        assert_eq!(error("max-txn-ops", "abc"), "parse error");
        assert_eq!(
            error("max-request-bytes", "99999999999999999999999"),
            "value out of range"
        );
        assert_eq!(
            error("max-concurrent-streams", "99999999999"),
            "strconv.ParseUint: parsing \"99999999999\": value out of range"
        );
        assert_eq!(
            error("max-concurrent-streams", "x"),
            "strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert_eq!(error("initial-cluster-state", "foo"), "invalid value");
        assert_eq!(
            error("v2-deprecation", "not-yet"),
            "invalid value \"not-yet\""
        );
        assert_eq!(error("grpc-keepalive-interval", "5"), "parse error");
        assert_eq!(
            error("feature-gates", "Foo=true"),
            "unrecognized feature gate: Foo"
        );
        assert_eq!(
            error("feature-gates", "AllBeta"),
            "missing bool value for AllBeta"
        );
        assert_eq!(
            error("cors", "foo"),
            "URL scheme must be http, https, unix, or unixs: foo"
        );
    }

    #[test]
    fn other_values_do_not_count_as_default() {
        let is_default = |name: &str, text: &str| {
            let flag = find(name).unwrap();
            flag.is_default(&flag.parse(text).unwrap())
        };
        assert!(is_default("corrupt-check-time", "0"));
        assert!(is_default("compact-hash-check-time", "60s"));
        assert!(!is_default("compact-hash-check-time", "61s"));
        assert!(is_default(
            "feature-gates",
            "FastLeaseKeepAlive=true,AllAlpha=false"
        ));
        assert!(!is_default("feature-gates", "LeaseCheckpoint=true"));
        let gates = |text| find("feature-gates").unwrap().parse(text).unwrap();
        let changed = gates("LeaseCheckpoint=true,LeaseCheckpoint=false,AllBeta=true");
        assert_eq!(unsupported_gate(&changed), Some("AllBeta"));
        assert!(!is_gate_open(&changed, "LeaseCheckpoint"));
        assert!(is_gate_open(&changed, "FastLeaseKeepAlive"));
        assert!(is_gate_open(
            &gates("LeaseCheckpoint=true"),
            "LeaseCheckpoint"
        ));
        assert!(is_default("cipher-suites", ""));
        assert!(!is_default("cipher-suites", "TLS_AES_128_GCM_SHA256"));
        assert!(is_default("listen-client-http-urls", ""));
        assert!(!is_default("listen-client-http-urls", "http://127.0.0.1:1"));
        assert!(!is_default("peer-cert-file", "x"));
    }
}
