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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::logging::{LogOptions, install};

    const CHILD: &str = "ETCORE_TEST_PANIC_HOOK";

    /// What the child process of the test below does; nothing in a normal run.
    #[test]
    fn child_that_panics() {
        match std::env::var(CHILD).as_deref() {
            Ok("early") => {}
            Ok("late") => install(&LogOptions::default()).unwrap(),
            _ => return,
        }
        install_panic_hook();
        let _ = std::thread::Builder::new()
            .name("shard-0".to_owned())
            .spawn(|| panic!("a \"bug\" of {}", "ours"))
            .unwrap()
            .join();
        unreachable!("the hook ended the process");
    }

    #[test]
    fn a_panic_is_one_json_line_and_exit_code_2() {
        for stage in ["early", "late"] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "logging::panic::tests::child_that_panics",
                    "--nocapture",
                ])
                .env(CHILD, stage)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2), "{stage}");
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(text.lines().count(), 1, "{stage}: {text}");
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(line["level"], "panic");
            assert_eq!(line["msg"], "a \"bug\" of ours");
            assert_eq!(line["thread"], "shard-0");
            assert!(line["location"].as_str().unwrap().contains("panic.rs:"));
        }
    }
}
