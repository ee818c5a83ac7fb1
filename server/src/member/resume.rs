//! Going on where the last run of the member ended: from the log, the snapshots and the database that were found.

use engine::boot::{self, Found, Position, SnapshotFacts, Start, StartPlan};
use engine::node::Node;
use engine::snap::SnapFile;
use engine::state::{Progress, Stored, db_facts};
use engine::store::{OpenError, Store};
use engine::types::Budget;
use engine::wal::{Wal, WalOptions};

use super::MemberError;
use super::files::Files;
use super::start::node_options;
use crate::config::Config;
use crate::identity::Identity;
use crate::logging;
use crate::storage::{FoundLog, FoundSnapshots, StoreDisk};

/// The node of a member that ran before. `disk` becomes the one of the database that it goes on with.
pub(super) async fn resume(
    config: &Config,
    mut log: FoundLog,
    disk: &mut StoreDisk,
    found: &FoundSnapshots,
    files: &Files,
) -> Result<Node, MemberError> {
    if let Some(cut) = &log.recovered().cut {
        logging::warn!("the end of the write-ahead log was torn by a crash and is cut", "cut" => cut.to_string());
    }
    let identity = Identity::of_log(&log.recovered().metadata)?;
    let (plan, store) = decide(&mut log, disk, found, files).await?;
    let mut recovered = log.into_recovered();
    for note in &plan.notes {
        logging::warn!("noticed in the data directory", "note" => note.clone());
    }
    let path = files.database();
    let stored = with_index(disk, store, plan.applied.index).await?;
    let mut progress = |count: u64| {
        logging::info!("reading the database", "pairs" => count, "path" => path.clone());
    };
    let wal = Wal::resume(&recovered, WalOptions::default());
    let entries = plan.take_log(&mut recovered);
    let options = node_options(config, identity);
    let start = driver::now();
    let node = Node::restart(options, wal, plan, entries, stored, &mut progress)
        .map_err(|error| files.start(error))?;
    logging::info!(
        "restored the state",
        "keys" => node.view().key_count() as u64,
        "applied-index" => node.applied_index(),
        "checkpoint-index" => node.checkpoint_index(),
        "took" => driver::now() - start
    );
    Ok(node)
}

/// How to go on, and the store to go on with. A database that was received for a snapshot first takes the place of the
/// one that is there.
async fn decide(
    log: &mut FoundLog,
    disk: &mut StoreDisk,
    found: &FoundSnapshots,
    files: &Files,
) -> Result<(StartPlan, Store), MemberError> {
    let facts = |file: &SnapFile| SnapshotFacts {
        at: Position {
            index: file.index,
            term: file.term,
        },
    };
    let snapshots: Vec<SnapshotFacts> = found.files.iter().map(facts).collect();
    let mut received: Vec<u64> = found.received.iter().map(|name| name.index).collect();
    loop {
        let store = open_store(disk, files).await?;
        let db = store.as_ref().map(db_facts).transpose();
        let db = db.map_err(|damage| files.damaged(damage))?;
        let start = boot::decide(&Found {
            wal: Some(log.recovered()),
            snapshots: &snapshots,
            db: db.as_ref(),
            received_dbs: &received,
        });
        let is_settled = start
            .as_ref()
            .is_ok_and(|start| boot::suffices(start, log.recovered()));
        if log.has_unread() && !is_settled {
            log.read_whole().await?;
            continue;
        }
        match start.map_err(|error| files.boot(error))? {
            Start::Resume(plan) => {
                let store = store.unwrap_or_else(|| Store::create(disk.pages()));
                return Ok((*plan, store));
            }
            Start::SwapIn(at) => {
                logging::info!("taking over the database that was received with a snapshot", "index" => at.index);
                *disk = disk.swap_in(at.index).await?;
                received.retain(|index| *index != at.index);
            }
            Start::Bootstrap => return Err(MemberError::NothingToResume),
        }
    }
}

/// The store in the file, if anything was ever committed to it.
async fn open_store(disk: &StoreDisk, files: &Files) -> Result<Option<Store>, MemberError> {
    let len = disk.found_len();
    if len == 0 {
        return Ok(None);
    }
    let start = driver::now();
    let mut store = match Store::open(disk.pages(), len) {
        Ok(store) => store,
        Err(OpenError::Unborn) => return Ok(None),
        Err(error) => return Err(files.open(error)),
    };
    let listed = store.scan(&mut Budget::new(0));
    if matches!(listed, Ok(Progress::More)) {
        // The free pages are not listed, so all others have to be looked at.
        disk.load_ahead(store.file_bytes()).await?;
    }
    let scanned = store.scan(&mut Budget::unlimited());
    scanned.map_err(|damage| files.damaged(damage))?;
    logging::info!(
        "opened the database",
        "path" => files.database(),
        "size" => store.file_bytes(),
        "in-use" => store.in_use_bytes(),
        "took" => driver::now() - start
    );
    Ok(Some(store))
}

/// The store with the index that the last clean stop saved, or else ready to be read from its beginning to its end.
async fn with_index(
    disk: &StoreDisk,
    store: Store,
    applied_index: u64,
) -> Result<Stored, MemberError> {
    let file_bytes = store.file_bytes();
    let mut stored = Stored::from(store);
    if applied_index == 0 {
        return Ok(stored);
    }
    let start = driver::now();
    if let Some(saved) = disk.read_saved_index().await {
        match stored.use_saved(&saved) {
            Ok(()) => {
                logging::info!("loaded the saved index", "size" => saved.len() as u64, "took" => driver::now() - start);
                return Ok(stored);
            }
            Err(reason) => logging::info!(
                "the saved index is not used; reading the database instead",
                "reason" => reason.to_string()
            ),
        }
    }
    disk.load_ahead(file_bytes).await?;
    Ok(stored)
}
