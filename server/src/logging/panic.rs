//! A panic is a bug of ours: it is logged like everything else, then the process ends.

use std::panic::PanicHookInfo;
use std::time::SystemTime;

use super::format::Format;
use super::record::{Level, Record};
use super::{LOGGER, emit, flush, write_to_stderr, writer};

/// The exit code of a Go program that panicked, which supervisors of etcd know.
const EXIT_CODE: i32 = 2;

/// Replaces the standard hook, which would print text that is no log line.
///
/// The process ends with exit code 2 from the hook itself: a shard that lost a task half way through
/// its work must not go on answering.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let record = record_of(info);
        // The writing thread cannot wait for itself.
        if std::thread::current().name() == Some(writer::THREAD_NAME) || LOGGER.get().is_none() {
            write_to_stderr(&Format::Json.encode(&record, SystemTime::now()));
        } else {
            emit(&record);
            flush();
        }
        std::process::exit(EXIT_CODE);
    }));
}

fn record_of(info: &PanicHookInfo<'_>) -> Record {
    let message = info
        .payload_as_str()
        .unwrap_or("panic without a message")
        .to_owned();
    let thread = std::thread::current();
    let record = Record::new(Level::Panic, concat!(file!(), ":", line!()), message)
        .with("thread", thread.name().unwrap_or("unnamed"));
    match info.location() {
        Some(place) => record.with("location", format!("{}:{}", place.file(), place.line())),
        None => record,
    }
}
