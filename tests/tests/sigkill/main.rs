//! SIGKILL under load, again and again: what was acknowledged is there, in the order and at the revisions that were told.
//!
//! ```text
//!  round:  start -> check what all rounds before left -> load from several threads -> SIGKILL at a random moment
//!                                                        compactions, checkpoints
//! ```
//!
//! Each thread has keys of its own, so it knows what each must hold; at the moment of the kill at most one of its
//! requests is without an answer, and that one may have happened or not, but only as a whole. A counter is shared: each
//! thread raises it by compare-and-swap, so a lost or doubled write shows as a wrong number.
//!
//! Checked after each start:
//! - the revision is not below any that was ever told, and above it by no more than what is without answer;
//! - every key is as its last acknowledged write left it (value, mod and create revision, version), or as its
//!   unanswered one would have;
//! - at the revision of each acknowledged write of the last round, the store shows that write;
//! - what is compacted is not less than what was acknowledged, and not more than what was asked for;
//! - in a test of its own: the whole history, as a watch tells it, holds each acknowledged write once, at its revision.
//!
//! `ETCORE_SIGKILL_ROUNDS` (40) and `ETCORE_SEED` set the run.

mod check;
mod load;
mod model;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::client::Client;
use tests::process::{Options, Process, is_etcore};
use tests::random::{Random, env_number, seed};

use model::{Acknowledged, Ledger, Model};

/// How many clients write at once.
const THREADS: usize = 4;
/// Acknowledged writes per round, at most.
const ROUND_WRITES_MAX: u64 = 600;
/// A compaction begins behind every so many of them, up to so many revisions in the past.
const COMPACTION_WRITES: u64 = 50;
const COMPACTION_DISTANCE_MAX: u64 = 200;
/// A snapshot, and with it a checkpoint, after so many log entries: several in a round.
const SNAPSHOT_COUNT: u64 = 100;
/// A round that is stuck.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn acknowledged_writes_survive_sigkill() {
    let rounds = env_number("ETCORE_SIGKILL_ROUNDS", 40);
    let kept = [&format!("--snapshot-count={SNAPSHOT_COUNT}")[..]];
    Survivor::new("sigkill", rounds, &kept, true).process.stop();
}

/// Every second client is served by a core that does not drive the node.
#[test]
fn acknowledged_writes_survive_sigkill_on_two_shards() {
    if !is_etcore() {
        return;
    }
    let rounds = env_number("ETCORE_SIGKILL_ROUNDS", 40).div_ceil(4);
    let args = ["--shards=2", "--shard-placement=spread"];
    Survivor::new("sigkill two shards", rounds, &args, true)
        .process
        .stop();
}

/// Few rounds, so that the history fits into a moment.
#[test]
fn a_watch_tells_the_history_across_sigkills() {
    let mut survivor = Survivor::new("sigkill history", 4, &[], false);
    check::check_history(&mut survivor.client, &survivor.ledger);
    survivor.process.stop();
}

/// A member that was killed some times, checked and running, and what it acknowledged.
struct Survivor {
    client: Client,
    process: Process,
    ledger: Ledger,
    _dir: TempDir,
}

impl Survivor {
    fn new(test: &str, rounds: u64, args: &[&str], compacts: bool) -> Self {
        let random = Random::new(seed(test));
        let dir = TempDir::new().expect("a temporary directory");
        let mut options = Options::new(dir.path().join("data"));
        options.extra_args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut models: Vec<Model> = (0..THREADS).map(Model::new).collect();
        let mut ledger = Ledger::default();
        for round in 0..rounds {
            let (process, _) = start(options, &mut models, &mut ledger);
            let before = ledger.writes.len();
            let random = random.fork(round);
            options = run_round(process, &mut models, &mut ledger, &random, compacts);
            let (count, revision) = (ledger.writes.len() - before, ledger.revision_seen);
            let compacted = ledger.compacted;
            eprintln!(
                "{test}: round {round}: {count} acknowledged, up to {revision}, compacted {compacted}"
            );
        }
        let (process, client) = start(options, &mut models, &mut ledger);
        Self {
            client,
            process,
            ledger,
            _dir: dir,
        }
    }
}

fn start(options: Options, models: &mut [Model], ledger: &mut Ledger) -> (Process, Client) {
    let process = Process::start(options);
    let mut client = Client::connect(process.client_addr()).expect("a listener");
    check::check_start(&mut client, models, ledger);
    (process, client)
}

/// Load until a random number of writes is acknowledged, then the kill. Returns how to start again.
fn run_round(
    process: Process,
    models: &mut Vec<Model>,
    ledger: &mut Ledger,
    random: &Random,
    compacts: bool,
) -> Options {
    let (sender, receiver) = mpsc::channel::<Acknowledged>();
    let addr = process.client_addr();
    let threads: Vec<_> = models
        .drain(..)
        .enumerate()
        .map(|(index, model)| {
            let (sender, random) = (sender.clone(), random.fork(1 + index as u64));
            std::thread::spawn(move || load::run(addr, model, random, &sender))
        })
        .collect();
    drop(sender);
    let (compactions, revisions) = mpsc::channel();
    let compactor = std::thread::spawn(move || load::compact(addr, &revisions));
    let mut random = random.clone();
    let target = 1 + random.below(ROUND_WRITES_MAX);
    let deadline = Instant::now() + ROUND_TIMEOUT;
    for count in 0..target {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(write) => ledger.acknowledge(write),
            Err(error) => panic!("{count} of {target} writes, then {error}"),
        }
        let revision = ledger.revision_seen - random.below(COMPACTION_DISTANCE_MAX) as i64;
        if compacts && count % COMPACTION_WRITES == 0 && revision > ledger.compaction_asked {
            ledger.compaction_asked = revision;
            // The receiver is gone if the kill was faster than this.
            let _ = compactions.send(revision);
        }
    }
    let options = process.kill();
    drop(compactions);
    let compacted = compactor.join().expect("the compacting thread failed");
    ledger.compacted = ledger.compacted.max(compacted);
    // What was acknowledged between the decision and the kill counts as well.
    ledger.writes.extend(receiver.iter().inspect(|write| {
        ledger.revision_seen = ledger.revision_seen.max(write.revision);
    }));
    models.extend(
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a load thread failed")),
    );
    options
}
