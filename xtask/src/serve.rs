//! `cargo xtask serve`: the newcomer's first command.
//!
//! The server itself logs only JSON lines, so the words for a person come from here.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ci::target_folder;
use crate::step::{Failure, Step};

/// The log line after which requests work.
const READY: &str = "ready to serve client requests";

const HOW_TO_TRY: &str = "
etcore is ready. In another terminal, with any etcd client:

    etcdctl --endpoints=127.0.0.1:2379 put hello world
    etcdctl --endpoints=127.0.0.1:2379 get hello

or without one:

    curl http://127.0.0.1:2379/version
    curl http://127.0.0.1:2379/health

Data is kept in ./default.etcd. Ctrl-C stops the server.
";

/// Builds and starts the server with `flags`, passes its log on, and says how to try it once it is ready.
///
/// # Errors
/// If the build fails or the server ends with an error.
pub(crate) fn run(root: &Path, flags: &[String]) -> Result<(), Failure> {
    let build = Step {
        name: "build",
        program: "cargo",
        args: &["build", "--release", "-p", "server", "--bin", "etcore"],
        env: &[],
        folder: root,
    };
    if !build.run()?.success {
        return Err("the build failed; the compiler's messages are above".into());
    }
    let binary = target_folder(root).join("release").join("etcore");
    let mut server = Command::new(&binary)
        .args(flags)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", binary.display()))?;
    let log = server.stderr.take().ok_or("no stderr")?;
    let mut told = !flags.is_empty();
    for line in BufReader::new(log).lines() {
        let line = line.map_err(|e| format!("reading the server's log: {e}"))?;
        eprintln!("{line}");
        if !told && line.contains(READY) {
            told = true;
            println!("{HOW_TO_TRY}");
            let _ = std::io::stdout().flush();
        }
    }
    let status = server
        .wait()
        .map_err(|e| format!("waiting for the server: {e}"))?;
    match status.code() {
        Some(0) | None => Ok(()),
        Some(code) => Err(format!(
            "the server ended with code {code}; its last log lines say why"
        )),
    }
}
