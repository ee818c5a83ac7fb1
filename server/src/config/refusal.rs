//! How the program ends when its flags do not make a configuration.

use std::fmt;

use super::{Exit, Notices};
use crate::logging::{Level, record};

/// Why the flags do not make a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A check of the flags failed; etcd warns and exits with 1.
    Flags(String),
    /// Like `Flags`, with a second warning of etcd's.
    AdvertiseClientUrls,
    /// Something that etcd finds out only when it starts; it dies of it with exit code 1.
    Start(String),
    /// The same, under words of its own.
    StartWith {
        message: &'static str,
        error: String,
    },
    /// etcd panics: exit code 2.
    Panic(String),
}

pub(super) const ADVERTISE_CLIENT_URLS_TEXT: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flags(text)
            | Self::Start(text)
            | Self::StartWith { error: text, .. }
            | Self::Panic(text) => text,
            Self::AdvertiseClientUrls => ADVERTISE_CLIENT_URLS_TEXT,
        })
    }
}

/// The end of a program whose flags were refused.
pub(super) fn refused(reason: &str, words: &[String], mut notices: Notices) -> Exit {
    notices.push(record!(Level::Info, "Running: ", "args" => words.to_vec()));
    notices.push(record!(Level::Warn, "failed to verify flags", "error" => reason));
    Exit {
        code: 1,
        notices,
        ..Exit::default()
    }
}

/// The end that a refusal is.
pub(super) fn exit_of(refusal: &Refusal, words: &[String], mut notices: Notices) -> Exit {
    let reason = refusal.to_string();
    match refusal {
        Refusal::Flags(_) => refused(&reason, words, notices),
        Refusal::AdvertiseClientUrls => {
            let mut exit = refused(&reason, words, notices);
            let second = "advertise client URLs are not set";
            exit.notices
                .push(record!(Level::Warn, second, "error" => reason));
            exit
        }
        Refusal::Start(_) | Refusal::StartWith { .. } => {
            let message = match refusal {
                Refusal::StartWith { message, .. } => message,
                _ => "discovery failed",
            };
            notices.push(record!(Level::Fatal, message, "error" => reason));
            Exit {
                code: 1,
                notices,
                ..Exit::default()
            }
        }
        Refusal::Panic(_) => {
            notices.push(record!(Level::Panic, reason));
            Exit {
                code: 2,
                notices,
                ..Exit::default()
            }
        }
    }
}
