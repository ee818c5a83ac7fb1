//! The program `etcore`: an etcd for latency-sensitive deployments.
//!
//! Reads its flags, starts an executor on the main thread, runs the member on it, and ends as etcd's process does: by the signal that
//! asked for it, or with code 1 and one log line that says why.
#![forbid(unsafe_code)]

use std::sync::Arc;

use driver::{ExecutorConfig, Mailbox};
use server::config::{self, Config, Startup};
use server::member::MemberError;
use server::tls::TlsContextError;
use server::{logging, member};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Signals that wait to be seen; more than one only when an operator repeats himself.
const SIGNAL_COUNT_MAX: usize = 8;

fn main() {
    logging::install_panic_hook();
    let (config, notices) = match config::from_process() {
        Startup::Exit(exit) => exit.perform(),
        Startup::Run(config, notices) => (config, notices),
    };
    if let Err(error) = logging::install(&config.log) {
        logging::warn!("failed to verify flags", "error" => error.to_string());
        logging::flush();
        std::process::exit(logging::FATAL_EXIT_CODE);
    }
    for notice in &notices {
        logging::emit(notice);
    }
    match run(*config) {
        Ok(signal) => end_by(signal),
        // The first words are etcd's, which operators grep for; the error says the rest.
        Err(Failure { words, error }) => logging::fatal!(words, "error" => error),
    }
}

/// Why the program ends, and the words of etcd's log for it.
struct Failure {
    words: &'static str,
    error: String,
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Failure {
            words: "discovery failed",
            error,
        }
    }
}

impl From<MemberError> for Failure {
    fn from(error: MemberError) -> Self {
        let words = match &error {
            MemberError::Tls(TlsContextError::SelfSigned(_)) => {
                "failed to get client self-signed certs"
            }
            MemberError::Tls(_) => "listener failed",
            _ => "discovery failed",
        };
        let error = error.to_string();
        Failure { words, error }
    }
}

/// Runs the member until a signal, which is returned.
fn run(config: Config) -> Result<i32, Failure> {
    driver::probe().map_err(|error| error.to_string())?;
    let signals = catch_signals().map_err(|error| format!("cannot catch signals: {error}"))?;
    let executor = ExecutorConfig::new("etcore-0");
    let ended = driver::run(executor, || async move {
        member::run(Arc::new(config), signals).await
    });
    match ended {
        Ok(ended) => Ok(ended?),
        Err(error) => Err(error.to_string().into()),
    }
}

/// A thread that turns SIGINT and SIGTERM into messages.
fn catch_signals() -> std::io::Result<Mailbox<i32>> {
    let mut caught = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let (sender, mailbox) = driver::mailbox(SIGNAL_COUNT_MAX);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in caught.forever() {
                // A full or closed mailbox means that the end is under way.
                let _ = sender.send(signal);
            }
        })?;
    Ok(mailbox)
}

/// Ends the process by the signal's default action, as if it had never been caught.
fn end_by(signal: i32) {
    logging::flush();
    // It returns only if there is no such action; then a plain end must do.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
