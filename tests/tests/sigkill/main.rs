//! SIGKILL under load, again and again: what was acknowledged is there, in the order and at the revisions that were told.
//! Some kills come in the middle of a snapshot, of defragmentations, of sweeps, or of leases that all end ([`errand`]).
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
//! - watchers that go on where they were have been told each acknowledged write once, in order ([`watching`]);
//! - a lease is there if and only if its key is;
//! - in a test of its own: the whole history, as a watch tells it, holds each acknowledged write once, at its revision.
//!
//! `ETCORE_SIGKILL_ROUNDS` (40) and `ETCORE_SEED` set the run.

mod check;
mod errand;
mod load;
mod model;
mod watching;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::client::Client;
use tests::process::{Options, Process, is_etcore};
use tests::random::{Random, env_number, seed};

use errand::Errand;
use model::{Acknowledged, Ledger, Model};
use watching::Watcher;

/// How many clients write at once.
const THREADS: usize = 4;
/// Acknowledged writes per round, at most.
const ROUND_WRITES_MAX: u64 = 600;
/// The same where leases end meanwhile, so that the kill is not later than that.
const STAMPEDE_WRITES_MAX: u64 = 30;
/// A compaction begins behind every so many of them, up to so many revisions in the past.
const COMPACTION_WRITES: u64 = 50;
/// In a round that is about compactions.
const COMPACTION_WRITES_MANY: u64 = 5;
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
        let mut watchers = watching::watchers();
        for round in 0..rounds {
            let (process, _) = start(options, &mut models, &mut ledger);
            watchers.iter_mut().for_each(|w| w.check(&ledger));
            let before = ledger.writes.len();
            let random = random.fork(round);
            let errand = match compacts {
                true => Errand::of(round),
                false => Errand::None,
            };
            let plan = Round {
                no: round,
                random,
                compacts,
                errand,
            };
            options = run_round(process, &mut models, &mut ledger, &mut watchers, &plan);
            let (count, revision) = (ledger.writes.len() - before, ledger.revision_seen);
            let compacted = ledger.compacted;
            eprintln!(
                "{test}: round {round} ({errand:?}): {count} acknowledged, up to {revision}, compacted {compacted}"
            );
        }
        let (process, mut client) = start(options, &mut models, &mut ledger);
        for watcher in &mut watchers {
            watcher.catch_up(&mut client, watcher.last_due(&ledger));
            watcher.check(&ledger);
        }
        let counts: Vec<usize> = watchers.iter().map(Watcher::event_count).collect();
        eprintln!("{test}: watchers were told {counts:?}");
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

/// What is to happen before a kill.
struct Round {
    no: u64,
    random: Random,
    compacts: bool,
    errand: Errand,
}

/// Load until a random number of writes is acknowledged, then the kill. Returns how to start again.
fn run_round(
    process: Process,
    models: &mut Vec<Model>,
    ledger: &mut Ledger,
    watchers: &mut Vec<Watcher>,
    round: &Round,
) -> Options {
    let random = &round.random;
    let addr = process.client_addr();
    let listening: Vec<_> = watchers
        .drain(..)
        .map(|watcher| std::thread::spawn(move || watcher.run(addr)))
        .collect();
    let errand = begin(round, addr, ledger);
    let (sender, receiver) = mpsc::channel::<Acknowledged>();
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
    let sweeps = round.errand == Errand::Compaction;
    let compactor = std::thread::spawn(move || load::compact(addr, &revisions, sweeps));
    let (writes_max, compaction_writes) = match round.errand {
        Errand::Stampede => (STAMPEDE_WRITES_MAX, COMPACTION_WRITES),
        Errand::Compaction => (ROUND_WRITES_MAX, COMPACTION_WRITES_MANY),
        _ => (ROUND_WRITES_MAX, COMPACTION_WRITES),
    };
    let mut random = random.clone();
    let target = 1 + random.below(writes_max);
    let deadline = Instant::now() + ROUND_TIMEOUT;
    for count in 0..target {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(write) => ledger.acknowledge(write),
            Err(error) => panic!("{count} of {target} writes, then {error}"),
        }
        let revision = ledger.revision_seen - random.below(COMPACTION_DISTANCE_MAX) as i64;
        if round.compacts && count % compaction_writes == 0 && revision > ledger.compaction_asked {
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
    let thread_count = threads.len();
    ledger.unanswered_max += thread_count;
    errand.join().expect("the errand failed");
    watchers.extend(
        listening
            .into_iter()
            .map(|thread| thread.join().expect("a watcher failed")),
    );
    models.extend(
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a load thread failed")),
    );
    options
}

/// Begins what else goes on, and waits until it is under way.
fn begin(round: &Round, addr: SocketAddr, ledger: &mut Ledger) -> JoinHandle<()> {
    let (errand, no) = (round.errand, round.no);
    if errand == Errand::Stampede {
        ledger.of_leases += 2 * errand::STAMPEDE_LEASES;
    }
    let (begun, waiting) = mpsc::channel();
    let thread = std::thread::spawn(move || errand.run(addr, no, &begun));
    // A thread that has failed says so when it is joined.
    let _ = waiting.recv_timeout(ROUND_TIMEOUT);
    thread
}
