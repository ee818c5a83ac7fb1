//! What the machine itself does to whoever wants a core each millisecond: the control of a prober.
//!
//! A thread of the highest priority that the system gives sleeps on the server's core until each millisecond begins, and notes
//! how late it wakes. It does nothing else, so what it sees are stretches in which the host gave the core to others, or the
//! kernel did not let go of it. Whatever waited for the server then waited for that first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::setpriority_process;

use super::OwnError;
use super::window::new_histogram;
use crate::process;

const EVERY: Duration = Duration::from_millis(1);
/// Least niceness. Who may not ask for it measures its own waiting too; then the figure says too much.
const NICENESS: i32 = -20;

/// A running one. It ends when it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Bystander {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Histogram<u64>, OwnError>>>,
}

impl Bystander {
    pub(crate) fn start(core: Option<usize>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = thread::spawn(move || process::with_core(core, || watch(&told)));
        Bystander {
            is_over,
            thread: Some(thread),
        }
    }

    /// How late it woke, in nanoseconds, for each millisecond that began.
    ///
    /// # Errors
    /// The core does not exist.
    pub(crate) fn stop(mut self) -> Result<Histogram<u64>, OwnError> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(lateness)) => lateness,
            _ => Err(io::Error::other("the thread beside the server ended").into()),
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn watch(is_over: &AtomicBool) -> Result<Histogram<u64>, OwnError> {
    let mut lateness = new_histogram().ok_or(OwnError::Answer("no histogram"))?;
    // Without the right to it the thread is one like others.
    let _ = setpriority_process(None, NICENESS);
    let origin = Instant::now();
    let mut due = EVERY;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_sub(origin.elapsed()));
        let now = origin.elapsed();
        while due <= now {
            let late = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
            lateness.saturating_record(late);
            due += EVERY;
        }
    }
    Ok(lateness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_millisecond_is_noted_once() {
        let bystander = Bystander::start(None);
        let start = Instant::now();
        thread::sleep(Duration::from_millis(30));
        let lateness = bystander.stop().unwrap();
        let passed = start.elapsed().as_millis() as u64;
        assert!(lateness.len() >= 10, "{}", lateness.len());
        assert!(
            lateness.len() <= passed + 1,
            "{} of {passed}",
            lateness.len()
        );
    }
}
