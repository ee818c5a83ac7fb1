//! From the start of the process to its first answer, a linearizable read, after SIGKILL and after an orderly stop.

use std::thread;
use std::time::{Duration, Instant};

use super::{ExtremesRun, Figures};
use crate::case::{CaseError, Sizes};
use crate::load::Client;
use crate::own::{self, OwnError};
use crate::process;
use crate::server::{Ending, RunningServer, ServerCommand};
use crate::usage::Memory;

/// Between two questions to a server that does not answer yet.
const ASK_EVERY: Duration = Duration::from_millis(1);

pub(super) fn measure(run: &ExtremesRun, command: &ServerCommand) -> Result<Figures, CaseError> {
    let server = run.start(command)?;
    let sizes = Sizes {
        memory_key_count: run.sizes.start_key_count,
        ..run.settings.sizes
    };
    let load = sizes.load(crate::case::Case::Memory);
    Client::Own(run.client).fill(&load, server.endpoint())?;
    let mut figures = Figures::new();
    let mut start = |server: RunningServer, ending, names: [&'static str; 3]| {
        let server = server.restart(ending)?;
        let took = process::with_core(run.client.core, || first_answer(run, &server))?;
        thread::sleep(run.sizes.settle);
        let memory = Memory::of(server.pid())?;
        let mib = |len: u64| len as f64 / (1 << 20) as f64;
        let values = [
            took.as_secs_f64(),
            mib(memory.anon_bytes),
            mib(memory.resident_bytes),
        ];
        figures.extend(names.into_iter().zip(values));
        Ok::<_, CaseError>(server)
    };
    // Right after the fill, so that there is a log to be read.
    let server = start(
        server,
        Ending::Killed,
        ["killed_start_secs", "killed_anon_mib", "killed_rss_mib"],
    )?;
    let server = start(
        server,
        Ending::Stopped,
        ["stopped_start_secs", "stopped_anon_mib", "stopped_rss_mib"],
    )?;
    server.stop()?;
    Ok(figures)
}

fn first_answer(run: &ExtremesRun, server: &RunningServer) -> Result<Duration, OwnError> {
    let deadline = Instant::now() + run.settings.ready_limit;
    loop {
        match own::read_once(server.endpoint()) {
            Ok(()) => return Ok(server.started().elapsed()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(ASK_EVERY),
        }
    }
}
