//! Structured logs: one line per fact, in the layout of etcd's JSON logs.
//!
//! ```text
//! {"level":"info","ts":"2026-11-21T04:01:38.145004Z","caller":"server/main.rs:10","msg":"…","key":"value"}
//! ```
//!
//! Any thread builds a [`Record`] with one of the macros and hands over its finished line; one thread
//! of its own writes. So a slow terminal or a full pipe never stops an executor.
//!
//! - Fields keep the order in which they were given.
//! - What waits to be written is bounded in bytes; past that bound lines are dropped, and their number
//!   is logged as soon as there is room again.
//! - Times are UTC, so a line of one member compares with a line of another.
//! - Before [`install`] (while the flags are read) lines go straight to stderr as JSON.
//! - A panic is logged as a line too and ends the process with exit code 2 ([`install_panic_hook`]).
//!
//! Used by the whole `server` crate, from any core and thread. `net` and `engine` log nothing.

mod format;
mod panic;
mod record;
mod time;
mod writer;

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

pub use format::Format;
pub use panic::install_panic_hook;
pub use record::{Field, Level, Record, Value};
pub use time::{Civil, http_date};
pub use writer::Output;
use writer::Writer;

#[doc(inline)]
pub use crate::{debug, error, fatal, info, record, warn};

/// How long the end of the process waits for the last lines to reach their outputs.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The process's exit code after a fatal line.
pub const FATAL_EXIT_CODE: i32 = 1;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// The lowest level that is written, as [`Level`]'s rank.
static THRESHOLD: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// What `--log-level`, `--log-format` and `--log-outputs` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub level: Level,
    pub format: Format,
    /// Each line goes to all of these. Not empty.
    pub outputs: Vec<Output>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Json,
            outputs: vec![Output::Stderr],
        }
    }
}

struct Logger {
    format: Format,
    writer: Writer,
}

/// Opens the outputs and starts the writing thread. Call once, before the executors are made.
///
/// # Errors
/// An output file that cannot be opened, a thread that cannot be started, or a second call.
pub fn install(options: &LogOptions) -> io::Result<()> {
    let sinks = options
        .outputs
        .iter()
        .map(Output::open)
        .collect::<io::Result<Vec<_>>>()?;
    let writer = Writer::start(sinks, options.format)?;
    THRESHOLD.store(options.level as u8, Ordering::Relaxed);
    LOGGER
        .set(Logger {
            format: options.format,
            writer,
        })
        .map_err(|_| {
            io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the logger is installed twice",
            )
        })
}

/// Says whether lines of `level` are written, so that callers need not build others.
pub fn enabled(level: Level) -> bool {
    level as u8 >= THRESHOLD.load(Ordering::Relaxed)
}

/// Queues one line if its level is enabled; never blocks once [`install`] was called.
pub fn emit(record: &Record) {
    if !enabled(record.level) {
        return;
    }
    let now = SystemTime::now();
    match LOGGER.get() {
        Some(logger) => logger.writer.queue(logger.format.encode(record, now)),
        None => write_to_stderr(&Format::Json.encode(record, now)),
    }
}

/// Waits until everything queued so far is written, at most [`FLUSH_TIMEOUT`].
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.writer.flush(FLUSH_TIMEOUT);
    }
}

/// Logs, waits for the line to be written and ends the process with [`FATAL_EXIT_CODE`].
pub fn emit_fatal(record: &Record) -> ! {
    emit(record);
    flush();
    std::process::exit(FATAL_EXIT_CODE);
}

/// The last resort while no writer runs: nothing can be done about a stderr that fails.
fn write_to_stderr(line: &[u8]) {
    let _ = io::stderr().lock().write_all(line);
}

/// Builds a [`Record`] that says where it was built, without writing it.
#[macro_export]
macro_rules! record {
    ($level:expr, $message:expr $(, $key:literal => $value:expr)* $(,)?) => {
        $crate::logging::Record::new(
            $level,
            ::core::concat!(::core::file!(), ":", ::core::line!()),
            $message,
        )
        $(.with($key, $value))*
    };
}

/// Logs at a level given as the first argument; the other macros are shorthands of this one.
#[macro_export]
macro_rules! log {
    ($level:expr, $message:expr $(, $key:literal => $value:expr)* $(,)?) => {
        if $crate::logging::enabled($level) {
            $crate::logging::emit(&$crate::record!($level, $message $(, $key => $value)*));
        }
    };
}

/// `debug!("message", "key" => value, …)`
#[macro_export]
macro_rules! debug {
    ($($rest:tt)*) => { $crate::log!($crate::logging::Level::Debug, $($rest)*) };
}

/// `info!("message", "key" => value, …)`
#[macro_export]
macro_rules! info {
    ($($rest:tt)*) => { $crate::log!($crate::logging::Level::Info, $($rest)*) };
}

/// `warn!("message", "key" => value, …)`
#[macro_export]
macro_rules! warn {
    ($($rest:tt)*) => { $crate::log!($crate::logging::Level::Warn, $($rest)*) };
}

/// `error!("message", "key" => value, …)`
#[macro_export]
macro_rules! error {
    ($($rest:tt)*) => { $crate::log!($crate::logging::Level::Error, $($rest)*) };
}

/// `fatal!("message", "key" => value, …)`: logs, flushes and ends the process; its type is `!`.
#[macro_export]
macro_rules! fatal {
    ($message:expr $(, $key:literal => $value:expr)* $(,)?) => {
        $crate::logging::emit_fatal(
            &$crate::record!($crate::logging::Level::Fatal, $message $(, $key => $value)*),
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_threshold_lets_info_pass_and_debug_not() {
        assert!(enabled(Level::Info));
        assert!(enabled(Level::Fatal));
        assert!(!enabled(Level::Debug));
    }

    #[test]
    fn a_macro_builds_no_value_for_a_disabled_level() {
        let mut built = 0;
        let mut value = || {
            built += 1;
            "x"
        };
        debug!("not written", "key" => value());
        assert_eq!(built, 0);
    }
}
