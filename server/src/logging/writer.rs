//! The thread that writes the lines, and the bounded queue in front of it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, SystemTime};

use super::format::Format;
use super::record::{Level, Record};
use crate::config::go;

/// Lines that wait take at most this much memory; a burst beyond it is dropped and counted.
const QUEUED_BYTES_MAX: usize = 4 << 20;

/// What one queued line costs besides its text: the queue's node and the vector's header.
const LINE_OVERHEAD_BYTES: usize = 64;

/// Lines joined into one write; bounds how long a flush waits behind the batch before it.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The writer's name; the panic hook must not wait for this thread from within it.
pub(super) const THREAD_NAME: &str = "log-writer";

/// One entry of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    /// Opened for appending, made if missing.
    File(PathBuf),
}

pub(super) type Sink = Box<dyn Write + Send>;

impl Output {
    pub(super) fn open(&self) -> io::Result<Sink> {
        Ok(match self {
            Self::Stderr => Box::new(io::stderr()),
            Self::Stdout => Box::new(io::stdout()),
            Self::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Box::new(file.map_err(|error| refused(path, &error))?)
            }
        })
    }
}

/// Says which file cannot be opened, in the words of zap: `open sink "x": open x: permission denied`.
fn refused(path: &Path, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let reason = text
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let path = path.display().to_string();
    let text = format!("open sink {}: open {path}: {reason}", go::quote(&path));
    io::Error::new(error.kind(), text)
}

enum Job {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// Counters that the queueing threads share with the writing one.
#[derive(Default)]
struct Gate {
    queued_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
}

/// The sending side. Cheap to call from any thread.
pub(super) struct Writer {
    jobs: Sender<Job>,
    gate: Arc<Gate>,
}

impl Writer {
    pub(super) fn start(sinks: Vec<Sink>, format: Format) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let gate = Arc::new(Gate::default());
        let worker = Worker {
            sinks,
            format,
            gate: Arc::clone(&gate),
        };
        std::thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Self { jobs, gate })
    }

    /// Hands a line over, or drops it if too much is waiting.
    pub(super) fn queue(&self, line: Vec<u8>) {
        let cost = line.len() + LINE_OVERHEAD_BYTES;
        let before = self.gate.queued_bytes.fetch_add(cost, Ordering::Relaxed);
        if before + cost > QUEUED_BYTES_MAX || self.jobs.send(Job::Line(line)).is_err() {
            self.gate.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
            self.gate.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines queued before this call are written, or `timeout` has passed.
    pub(super) fn flush(&self, timeout: Duration) {
        let (done, wait) = mpsc::channel();
        if self.jobs.send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(timeout);
        }
    }
}

struct Worker {
    sinks: Vec<Sink>,
    format: Format,
    gate: Arc<Gate>,
}

impl Worker {
    /// Writes until the last sender is gone.
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut batch = Vec::new();
        while let Ok(first) = jobs.recv() {
            let mut next = Some(first);
            let mut flushes = Vec::new();
            while let Some(job) = next {
                match job {
                    Job::Line(line) => self.take_line(&mut batch, &line),
                    Job::Flush(done) => flushes.push(done),
                }
                next = if batch.len() < BATCH_BYTES_MAX {
                    jobs.try_recv().ok()
                } else {
                    None
                };
            }
            self.report_dropped(&mut batch);
            self.write(&batch);
            batch.clear();
            for done in flushes {
                let _ = done.send(());
            }
        }
    }

    fn take_line(&self, batch: &mut Vec<u8>, line: &[u8]) {
        batch.extend_from_slice(line);
        self.gate
            .queued_bytes
            .fetch_sub(line.len() + LINE_OVERHEAD_BYTES, Ordering::Relaxed);
    }

    fn report_dropped(&self, batch: &mut Vec<u8>) {
        let count = self.gate.dropped_lines.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let record = Record::new(
            Level::Warn,
            concat!(file!(), ":", line!()),
            "dropped log lines because the outputs were too slow",
        )
        .with("dropped-line-count", count);
        batch.extend_from_slice(&self.format.encode(&record, SystemTime::now()));
    }

    /// A failing output must not stop the others; there is nowhere to report it.
    fn write(&mut self, batch: &[u8]) {
        for sink in &mut self.sinks {
            let _ = sink.write_all(batch).and_then(|()| sink.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Collects what is written; the first write waits until the gate opens.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Failing;

    impl Write for Failing {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_keep_their_order_and_reach_every_output() {
        let (first, second) = (Shared::default(), Shared::default());
        let sinks: Vec<Sink> = vec![
            Box::new(first.clone()),
            Box::new(Failing),
            Box::new(second.clone()),
        ];
        let writer = Writer::start(sinks, Format::Json).unwrap();
        let mut expected = Vec::new();
        for number in 0..1000 {
            let line = format!("{number}\n").into_bytes();
            expected.extend_from_slice(&line);
            writer.queue(line);
        }
        writer.flush(Duration::from_secs(30));
        assert_eq!(*first.0.lock().unwrap(), expected);
        assert_eq!(*second.0.lock().unwrap(), expected);
    }

    #[test]
    fn a_stuck_output_costs_lines_not_memory_and_is_reported_later() {
        let sink = Shared::default();
        let writer = Writer::start(vec![Box::new(sink.clone())], Format::Json).unwrap();
        let stuck = sink.0.lock().unwrap();
        for _ in 0..12 {
            writer.queue(vec![b'x'; 1 << 20]);
        }
        // At most one batch is in the writer's hands; the rest is bounded by the queue.
        assert!(writer.gate.queued_bytes.load(Ordering::Relaxed) <= QUEUED_BYTES_MAX);
        drop(stuck);
        writer.flush(Duration::from_secs(30));
        writer.queue(b"after\n".to_vec());
        writer.flush(Duration::from_secs(30));
        let written = sink.0.lock().unwrap();
        let text = String::from_utf8_lossy(&written);
        assert!(text.contains("dropped log lines"), "nothing was reported");
        assert!(text.contains("after\n"));
        assert_eq!(writer.gate.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_output_appends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let sink = Output::File(path.clone()).open().unwrap();
        let writer = Writer::start(vec![sink], Format::Json).unwrap();
        writer.queue(b"line\n".to_vec());
        writer.flush(Duration::from_secs(30));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nline\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Output::File("/nonexistent/x".into()).open().err().unwrap();
        let text = "open sink \"/nonexistent/x\": open /nonexistent/x: no such file or directory";
        assert_eq!(error.to_string(), text);
    }
}
