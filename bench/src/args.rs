//! The flags of `etcore-compare`, as `--name value` or `--name=value`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::case::{Case, Settings};
use crate::compare::Comparison;
use crate::load::LoadTool;
use crate::profile::ProfileRun;
use crate::server::ServerCommand;

/// Printed by `--help` and with each error.
pub const USAGE: &str = "\
usage: etcore-compare --a COMMAND --b COMMAND [flags]        compare two servers in turns
       etcore-compare profile --server COMMAND [flags]       where a put's microseconds go

COMMAND is a program with its own flags, split at blanks; directory and URLs are added to it.

  --benchmark PATH        etcd's tool                       (tests/compat/bin/benchmark)
  --rounds N              A B pairs of each case            (3)
  --cases LIST            of put,range,put_depth1,idle      (all)
  --conns N --clients N   connections, requests in flight   (100, 1000)
  --put-total N           measured puts                     (100000)
  --range-total N         measured reads                    (100000)
  --depth1-total N        measured puts with one client     (5000)
  --val-size BYTES        size of a value                   (256)
  --key-space N           keys filled in before             (10000)
  --idle-secs SECONDS     length of the idle case           (10)
  --server-core N|any     core of the server                (0)
  --client-core N|any     core of the client                (1)
  --folder PATH           where data directories are made   (the system's temporary folder)
  --limit-secs SECONDS    bound for one run of the tool     (600)
  --small                 sizes that take a second, to see that it works
";

/// What the program was asked to do.
#[derive(Debug)]
pub enum Request {
    Help,
    Compare(Comparison),
    Profile(ProfileRun),
}

/// A command line that cannot be obeyed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgsError {
    #[error("unknown flag {0:?}")]
    Unknown(String),
    #[error("flag --{0} lacks its value")]
    NoValue(String),
    #[error("flag --{0} is needed")]
    Missing(&'static str),
    #[error("flag --{name}: cannot use {value:?}")]
    Value { name: &'static str, value: String },
}

const NAMES: [&str; 18] = [
    "a",
    "b",
    "server",
    "benchmark",
    "rounds",
    "cases",
    "conns",
    "clients",
    "put-total",
    "range-total",
    "depth1-total",
    "val-size",
    "key-space",
    "idle-secs",
    "server-core",
    "client-core",
    "folder",
    "limit-secs",
];

/// Flags given, by name; each is taken out when read.
struct Flags(BTreeMap<String, String>);

/// Sizes of the loads.
struct Sizes {
    conns: u32,
    clients: u32,
    put_total: u64,
    range_total: u64,
    depth1_total: u64,
    key_space: u64,
    idle_secs: f64,
}

const REAL: Sizes = Sizes {
    conns: 100,
    clients: 1000,
    put_total: 100_000,
    range_total: 100_000,
    depth1_total: 5_000,
    key_space: 10_000,
    idle_secs: 10.0,
};

const SMALL: Sizes = Sizes {
    conns: 2,
    clients: 10,
    put_total: 200,
    range_total: 200,
    depth1_total: 200,
    key_space: 200,
    idle_secs: 0.1,
};

impl Request {
    /// Reads a command line, without the program's name.
    ///
    /// # Errors
    /// [`ArgsError`] for whatever is unknown, missing or out of range.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut args: Vec<String> = args.into_iter().collect();
        if args.iter().any(|arg| arg == "--help" || arg == "-h") {
            return Ok(Self::Help);
        }
        let profile = args.first().is_some_and(|arg| arg == "profile");
        if profile {
            args.remove(0);
        }
        let small = args.iter().any(|arg| arg == "--small");
        args.retain(|arg| arg != "--small");
        let mut flags = Flags::parse(args)?;
        let sizes = if small { SMALL } else { REAL };
        let settings = settings(&mut flags, &sizes)?;
        let request = if profile {
            Self::Profile(ProfileRun {
                server: flags.command("server")?,
                settings,
            })
        } else {
            Self::Compare(comparison(&mut flags, settings)?)
        };
        // A flag of the other subcommand is as wrong as an unknown one.
        match flags.0.into_keys().next() {
            Some(name) => Err(ArgsError::Unknown(format!("--{name}"))),
            None => Ok(request),
        }
    }
}

fn comparison(flags: &mut Flags, settings: Settings) -> Result<Comparison, ArgsError> {
    Ok(Comparison {
        a: flags.command("a")?,
        b: flags.command("b")?,
        cases: flags.cases()?,
        round_count: flags.number("rounds", 3, 1..=1_000)?,
        settings,
    })
}

fn settings(flags: &mut Flags, sizes: &Sizes) -> Result<Settings, ArgsError> {
    const MANY: u64 = 1_000_000_000;
    let tool = flags
        .text("benchmark")
        .unwrap_or_else(|| "tests/compat/bin/benchmark".to_owned());
    let folder = flags
        .text("folder")
        .map_or_else(std::env::temp_dir, PathBuf::from);
    Ok(Settings {
        tool: LoadTool {
            program: PathBuf::from(tool),
            core: flags.core("client-core", 1)?,
            time_limit: Duration::from_secs(flags.number("limit-secs", 600, 1..=86_400)?),
        },
        server_core: flags.core("server-core", 0)?,
        folder,
        ready_limit: Duration::from_secs(60),
        conn_count: flags.number("conns", sizes.conns, 1..=10_000)?,
        client_count: flags.number("clients", sizes.clients, 1..=100_000)?,
        // Below a hundred requests there is no 99th percentile.
        put_total: flags.number("put-total", sizes.put_total, 100..=MANY)?,
        range_total: flags.number("range-total", sizes.range_total, 100..=MANY)?,
        depth1_total: flags.number("depth1-total", sizes.depth1_total, 100..=MANY)?,
        value_size_bytes: flags.number("val-size", 256, 1..=1 << 20)?,
        key_space: flags.number("key-space", sizes.key_space, 100..=MANY)?,
        idle: Duration::from_secs_f64(flags.number(
            "idle-secs",
            sizes.idle_secs,
            0.01..=3_600.0,
        )?),
    })
}

impl Flags {
    fn parse(args: Vec<String>) -> Result<Self, ArgsError> {
        let mut given = BTreeMap::new();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let body = arg
                .strip_prefix("--")
                .ok_or_else(|| ArgsError::Unknown(arg.clone()))?;
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (body.to_owned(), None),
            };
            if !NAMES.contains(&name.as_str()) {
                return Err(ArgsError::Unknown(arg));
            }
            let value = value.or_else(|| args.next());
            let value = value.ok_or_else(|| ArgsError::NoValue(name.clone()))?;
            given.insert(name, value);
        }
        Ok(Self(given))
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.0.remove(name)
    }

    fn command(&mut self, name: &'static str) -> Result<ServerCommand, ArgsError> {
        let line = self.text(name).ok_or(ArgsError::Missing(name))?;
        ServerCommand::parse(&line).ok_or(ArgsError::Value { name, value: line })
    }

    fn number<T>(
        &mut self,
        name: &'static str,
        default: T,
        allowed: std::ops::RangeInclusive<T>,
    ) -> Result<T, ArgsError>
    where
        T: std::str::FromStr + PartialOrd,
    {
        let Some(value) = self.text(name) else {
            return Ok(default);
        };
        match value.parse() {
            Ok(number) if allowed.contains(&number) => Ok(number),
            _ => Err(ArgsError::Value { name, value }),
        }
    }

    /// A core, or `None` for `any`. A machine with one core has but one to give.
    fn core(&mut self, name: &'static str, default: usize) -> Result<Option<usize>, ArgsError> {
        if self.0.get(name).is_some_and(|value| value == "any") {
            self.0.remove(name);
            return Ok(None);
        }
        self.number(name, default, 0..=1023).map(Some)
    }

    fn cases(&mut self) -> Result<Vec<Case>, ArgsError> {
        let Some(list) = self.text("cases") else {
            return Ok(Case::ALL.to_vec());
        };
        let named = |name: &str| Case::ALL.into_iter().find(|case| case.name() == name);
        let cases: Option<Vec<Case>> = list.split(',').map(named).collect();
        cases.ok_or(ArgsError::Value {
            name: "cases",
            value: list,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, ArgsError> {
        Request::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    fn compare(line: &str) -> Comparison {
        match parse(line).unwrap() {
            Request::Compare(comparison) => comparison,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_real_sizes() {
        let comparison = compare("--a etcd --b=etcore");
        assert_eq!(comparison.cases, Case::ALL);
        assert_eq!(comparison.round_count, 3);
        let settings = comparison.settings;
        assert_eq!((settings.conn_count, settings.client_count), (100, 1000));
        assert_eq!(
            (settings.server_core, settings.tool.core),
            (Some(0), Some(1))
        );
    }

    #[test]
    fn flags_beat_small_sizes() {
        let line = "--small --a x --b y --put-total 300 --server-core any --cases idle,put";
        let comparison = compare(line);
        assert_eq!(comparison.settings.put_total, 300);
        assert_eq!(comparison.settings.range_total, 200);
        assert_eq!(comparison.settings.server_core, None);
        assert_eq!(comparison.cases, [Case::Idle, Case::Put]);
    }

    #[test]
    fn profile_has_one_server() {
        assert!(matches!(
            parse("profile --server etcd").unwrap(),
            Request::Profile(_)
        ));
        assert_eq!(parse("profile").unwrap_err(), ArgsError::Missing("server"));
        let error = parse("profile --server x --rounds 2").unwrap_err();
        assert_eq!(error, ArgsError::Unknown("--rounds".to_owned()));
    }

    #[test]
    fn bad_lines_are_refused() {
        assert_eq!(parse("--b y").unwrap_err(), ArgsError::Missing("a"));
        assert_eq!(
            parse("--a").unwrap_err(),
            ArgsError::NoValue("a".to_owned())
        );
        for line in ["--colour red", "a b", "--a x --b y --server z"] {
            assert!(matches!(parse(line), Err(ArgsError::Unknown(_))), "{line}");
        }
        for flag in [
            "--rounds 0",
            "--put-total 99",
            "--idle-secs NaN",
            "--cases all",
            "--conns -1",
        ] {
            let line = format!("--a x --b y {flag}");
            assert!(
                matches!(parse(&line), Err(ArgsError::Value { .. })),
                "{line}"
            );
        }
    }
}
