//! What the tests of this folder share.

use std::net::IpAddr;

use super::{Config, Environment, Notices, Startup, read};
use crate::logging::Value;

/// Reads a command line with an empty environment.
pub(super) fn run(line: &[&str]) -> Startup {
    let words: Vec<_> = std::iter::once("etcore")
        .chain(line.iter().copied())
        .map(str::to_owned)
        .collect();
    let default_host = || Ok(IpAddr::from([10, 1, 2, 3]));
    read(
        &words,
        &Environment {
            variables: Vec::new(),
            default_host,
        },
    )
}

/// The configuration that a command line makes, and what it says.
pub(super) fn config(line: &[&str]) -> (Config, Notices) {
    match run(line) {
        Startup::Run(config, notices) => (*config, notices),
        Startup::Exit(exit) => panic!("{line:?} is refused: {:?}", exit.notices),
    }
}

/// How a command line is refused: exit code, last message, its error.
pub(super) fn refusal(line: &[&str]) -> (i32, String, String) {
    let Startup::Exit(exit) = run(line) else {
        panic!("{line:?} is accepted")
    };
    let last = exit.notices.last().expect("a refusal says why");
    let error = match last.fields.first().map(|field| &field.value) {
        Some(Value::String(text)) => text.to_string(),
        _ => String::new(),
    };
    (exit.code, last.message.to_string(), error)
}
