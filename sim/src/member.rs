//! One member: its node, its disk, and what a shell keeps for it.
//!
//! The node is the production one; this file starts it from the disk, as `server` does, and ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::boot::{self, DbFacts, Found, Position, SnapshotFacts, Start, StartPlan};
use engine::consensus::ConsensusOptions;
use engine::lease::ExpiryOptions;
use engine::membership::Member as Peer;
use engine::mvcc::RangeRun;
use engine::node::{Node, NodeOptions, bootstrap_log};
use engine::snap::{SnapFile, SnapIo};
use engine::state::{StateOptions, db_facts};
use engine::store::{MemoryPages, OpenError, Store, StoreIo, StoreOp};
use engine::types::Budget;
use engine::view::ViewReader;
use engine::wal::{
    FileNo, IoFault, Pace, Recovered, Recovery, SegmentName, Wal, WalIo, WalOp, WalOptions,
};

use crate::check::Violation;
use crate::disk::SimDisk;
use crate::plan::{MILLISECOND, Plan, Plant, Time};
use crate::random::Rng;
use crate::reader::Reader;
use crate::watching::shard::WatchShard;

/// One tick at rate 1.
pub const TICK: Time = 100 * MILLISECOND;

/// In ticks of rate 1.
const ELECTION_TICKS: usize = 10;
pub const ELECTION_TIMEOUT: Time = TICK * ELECTION_TICKS as Time;

/// Segments of the log that stay though a snapshot replaces them.
pub const SEGMENTS_MAX: usize = 1;
/// Snapshots to followers do not exist yet, so nobody may ever lag further than this.
const CATCH_UP_ENTRY_COUNT: usize = 10_000_000;
const CATCH_UP_SIZE_BYTES: usize = 1 << 30;

/// A long read of a client in slices: between them it keeps its revision, some with a hold on it.
#[derive(Debug)]
pub struct Scan {
    pub operation: usize,
    pub is_held: bool,
    pub run: RangeRun,
}

/// A keep-alive without an answer.
#[derive(Debug)]
pub struct Renewing {
    pub operation: usize,
    pub id: i64,
    /// The last entry that may have granted the lease.
    pub granted_by: u64,
}

/// Work that the disk has under way.
#[derive(Debug)]
pub struct InFlight {
    pub io: WalIo,
    pub how: How,
}

/// How an operation is performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Alone,
    /// A write and the sync that follows it, reported when both are done.
    WithSync,
    /// That sync, once the log asks for it.
    Done,
}

/// Everything of one member that a life holds, and the disk that outlives it.
pub struct Member {
    pub no: usize,
    pub disk: SimDisk,
    pub rng: Rng,
    /// `None`: the member is down.
    pub node: Option<Node>,
    /// Counts starts; events of former lives are void.
    pub life: u32,
    pub in_flight: BTreeMap<u64, InFlight>,
    pub store_in_flight: BTreeMap<u64, StoreIo>,
    pub snap_in_flight: BTreeMap<u64, SnapIo>,
    /// The file that the last write was synced with; its sync will be asked for.
    pub synced: Option<FileNo>,
    /// Operations by the id of their proposal, and of their read-index round.
    pub writes: BTreeMap<u64, usize>,
    pub reads: BTreeMap<u64, usize>,
    pub scans: Vec<Scan>,
    pub renewing: Vec<Renewing>,
    /// The log shard's own; there while the member is up.
    pub handle: Option<ViewReader>,
    /// Those of other cores.
    pub readers: BTreeMap<usize, Reader>,
    /// Hubs, one for each shard.
    pub watch_shards: Vec<WatchShard>,
    /// The first revision that was not yet compared in this life.
    pub unshown: i64,
    pub is_turn_due: bool,
    /// A write or sync was made to fail in this life, so the node may stop.
    pub has_disk_failed: bool,
    pub cut_after_answer: bool,
    /// Power fails after so many more operations on the store.
    pub cut_in_commit: Option<u64>,
    pub paused_until: Time,
    pub slow_until: Time,
    pub slow_by: Time,
    /// The length of this member's ticks; clocks do not run alike.
    pub tick: Time,
    /// In this life.
    pub urgent_sync_count: u64,
}

impl Member {
    pub fn new(no: usize, plan: &Plan) -> Member {
        let mut rng = Rng::new(plan.seed, 100 + no as u64);
        let tick = TICK * rng.between(85, 116) / 100;
        Member {
            no,
            disk: SimDisk::default(),
            rng,
            node: None,
            life: 0,
            in_flight: BTreeMap::new(),
            store_in_flight: BTreeMap::new(),
            snap_in_flight: BTreeMap::new(),
            synced: None,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            scans: Vec::new(),
            renewing: Vec::new(),
            handle: None,
            readers: BTreeMap::new(),
            watch_shards: Vec::new(),
            unshown: 2,
            is_turn_due: false,
            has_disk_failed: false,
            cut_after_answer: false,
            cut_in_commit: None,
            paused_until: 0,
            slow_until: 0,
            slow_by: 0,
            tick,
            urgent_sync_count: 0,
        }
    }

    /// Starts from what the disk holds; false if it could not be read, as was asked for.
    ///
    /// # Errors
    /// A log that the member wrote and now refuses.
    pub fn start(&mut self, plan: &Plan, now: Time) -> Result<bool, Violation> {
        let Ok(segments) = self.disk.read_segments() else {
            return Ok(false);
        };
        self.life += 1;
        self.unshown = 2;
        self.has_disk_failed = false;
        self.urgent_sync_count = 0;
        let no = self.no;
        let birth = Birth {
            no,
            life: self.life,
            now,
        };
        let mut node = boot(&mut self.disk, segments, plan, birth)
            .map_err(|e| format!("recovery: member {no}: {e}"))?;
        if let Some(sabotage) = plan.plant.and_then(Plant::sabotage) {
            node.sabotage(sabotage);
        }
        let reader = || node.views().reader().ok_or("recovery: too many readers");
        self.handle = Some(reader()?);
        for at in 0..plan.reader_count {
            let reader = Reader::new(no, at, self.life, plan, reader()?);
            self.readers.insert(at, reader);
        }
        for at in 0..plan.watch_shard_count {
            let shard = WatchShard::new(no, at, self.life, plan, reader()?);
            self.watch_shards.push(shard);
        }
        self.node = Some(node);
        Ok(true)
    }

    /// Performs an operation, but for the sync that a planted bug skips.
    ///
    /// # Errors
    /// The disk's.
    pub fn perform(&mut self, plan: &Plan, under_way: &InFlight) -> Result<(), IoFault> {
        let InFlight { io, how } = under_way;
        match (how, &io.op) {
            (How::Done, _) => Ok(()),
            (How::WithSync, WalOp::Write { file, .. }) => {
                let file = *file;
                self.disk.perform(&io.op, &mut self.rng)?;
                self.sync(plan, file, io.pace)?;
                self.synced = Some(file);
                Ok(())
            }
            (_, WalOp::Sync { file }) => self.sync(plan, *file, io.pace),
            (_, op) => self.disk.perform(op, &mut self.rng),
        }
    }

    fn sync(&mut self, plan: &Plan, file: FileNo, pace: Pace) -> Result<(), IoFault> {
        let is_urgent = pace == Pace::Urgent;
        self.urgent_sync_count += u64::from(is_urgent);
        let is_skipped = plan.plant == Some(Plant::SkipFsync)
            && is_urgent
            && self.urgent_sync_count == plan.skipped_sync;
        match is_skipped {
            true => Ok(()),
            false => self.disk.perform(&WalOp::Sync { file }, &mut self.rng),
        }
    }

    /// The same for an operation on the store.
    ///
    /// # Errors
    /// The disk's.
    pub fn perform_store(&mut self, plan: &Plan, op: &StoreOp) -> Result<(), IoFault> {
        let is_skipped = plan.plant == Some(Plant::StoreSync)
            && matches!(op, StoreOp::Sync)
            && self.disk.is_store_sync_of_pages();
        match is_skipped {
            true => {
                self.disk.skip_store_sync();
                Ok(())
            }
            false => self.disk.perform_store(op, &mut self.rng),
        }
    }

    /// An operation that was under way when the process ended may have been done or not, in whole steps; what of a write
    /// reaches the disk by itself is up to [`SimDisk::lose_power`]. Whether it failed, nobody hears any more.
    fn interrupt(&mut self, under_way: &InFlight) {
        if under_way.how == How::Done || self.rng.one_in(2) {
            return;
        }
        let _ = self.disk.perform(&under_way.io.op, &mut self.rng);
        if let (How::WithSync, WalOp::Write { file, .. }) = (under_way.how, &under_way.io.op)
            && self.rng.one_in(2)
        {
            let _ = self
                .disk
                .perform(&WalOp::Sync { file: *file }, &mut self.rng);
        }
    }

    /// Everything under way comes to its end.
    pub fn finish_work(&mut self, plan: &Plan) {
        for under_way in std::mem::take(&mut self.in_flight).into_values() {
            let result = self.perform(plan, &under_way);
            if let Some(node) = &mut self.node {
                node.on_io_done(under_way.io.ticket, result);
            }
        }
        for io in std::mem::take(&mut self.store_in_flight).into_values() {
            let result = self.perform_store(plan, &io.op);
            if let Some(node) = &mut self.node {
                node.on_store_io_done(io.ticket, result);
            }
        }
        for io in std::mem::take(&mut self.snap_in_flight).into_values() {
            let result = self.disk.perform_snap(&io.op, SEGMENTS_MAX);
            if let Some(node) = &mut self.node {
                node.on_snap_io_done(io.ticket, result);
            }
        }
    }

    /// The process ends; work under way may have reached the disk or not. Gives the operations that nobody answers now.
    pub fn stop(&mut self, is_power_cut: bool) -> Vec<usize> {
        self.node = None;
        self.handle = None;
        self.readers.clear();
        self.watch_shards.clear();
        self.synced = None;
        for under_way in std::mem::take(&mut self.in_flight).into_values() {
            self.interrupt(&under_way);
        }
        for io in std::mem::take(&mut self.store_in_flight).into_values() {
            if self.rng.one_in(2) {
                let _ = self.disk.perform_store(&io.op, &mut self.rng);
            }
        }
        for io in std::mem::take(&mut self.snap_in_flight).into_values() {
            if self.rng.one_in(2) {
                let _ = self.disk.perform_snap(&io.op, SEGMENTS_MAX);
            }
        }
        match is_power_cut {
            true => self.disk.lose_power(&mut self.rng),
            false => self.disk.close_all(),
        }
        self.is_turn_due = false;
        self.cut_after_answer = false;
        self.cut_in_commit = None;
        self.paused_until = 0;
        let writes = std::mem::take(&mut self.writes).into_values();
        let reads = std::mem::take(&mut self.reads).into_values();
        let scans = std::mem::take(&mut self.scans).into_iter();
        let renewing = std::mem::take(&mut self.renewing).into_iter();
        writes
            .chain(reads)
            .chain(scans.map(|s| s.operation))
            .chain(renewing.map(|r| r.operation))
            .collect()
    }

    /// What a slow disk adds to each operation.
    pub fn slow_by_now(&self, now: Time) -> Time {
        if now < self.slow_until {
            self.slow_by
        } else {
            0
        }
    }

    /// True if no reader of another core is in the middle of a read.
    pub fn is_unread(&self) -> bool {
        self.readers.values().all(Reader::is_resting)
    }

    /// Nobody waits for the operation any more.
    pub fn forget(&mut self, operation: usize) {
        self.writes.retain(|_, waiting| *waiting != operation);
        self.reads.retain(|_, waiting| *waiting != operation);
        self.scans.retain(|scan| scan.operation != operation);
        self.renewing.retain(|r| r.operation != operation);
    }
}

/// Whose life begins, and when.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    pub no: usize,
    pub life: u32,
    pub now: Time,
}

/// A node on what the disk holds, as the server starts it.
///
/// # Errors
/// Why the member refuses to start.
pub fn boot(
    disk: &mut SimDisk,
    segments: Vec<(SegmentName, Bytes)>,
    plan: &Plan,
    birth: Birth,
) -> Result<Node, String> {
    let options = node_options(plan, birth);
    let (pages, len) = disk.open_store();
    if segments.is_empty() {
        let peers: Vec<Peer> = (0..plan.node_count).map(peer).collect();
        let (entries, hard_state) = bootstrap_log(&peers).map_err(told)?;
        let wal = Wal::create("metadata".into(), wal_options(plan));
        let store = Store::create(pages);
        return Node::bootstrap(options, wal, entries, hard_state, store).map_err(told);
    }
    let mut recovery = Recovery::new();
    for (name, bytes) in segments {
        recovery.on_segment(name, bytes).map_err(told)?;
    }
    let mut recovered = recovery.finish().map_err(told)?;
    let wal = Wal::resume(&recovered, wal_options(plan));
    let store = open_store(Arc::clone(&pages), len).map_err(told)?;
    let db = store.as_ref().map(db_facts).transpose().map_err(told)?;
    let start = decide(disk, &recovered, db.as_ref())?;
    let entries = start.take_log(&mut recovered);
    let store = store.unwrap_or_else(|| Store::create(pages));
    Node::restart(options, wal, start, entries, store, &mut |_| {}).map_err(told)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// How to go on with what the disk holds, as the server decides it.
fn decide(
    disk: &SimDisk,
    recovered: &Recovered,
    db: Option<&DbFacts>,
) -> Result<StartPlan, String> {
    let facts = |file: SnapFile| SnapshotFacts {
        at: Position {
            index: file.index,
            term: file.term,
        },
    };
    let snapshots: Vec<SnapshotFacts> = disk.snapshots().map(facts).collect();
    let start = boot::decide(&Found {
        wal: Some(recovered),
        snapshots: &snapshots,
        db,
        received_dbs: &[],
    });
    match start {
        Ok(Start::Resume(plan)) => Ok(*plan),
        Ok(other) => Err(format!("{other:?} is not how to go on")),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// Raft's id of a member.
pub fn id_of(no: usize) -> u64 {
    no as u64 + 1
}

/// The member that an id names.
pub fn no_of(id: u64) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}

fn peer(no: usize) -> Peer {
    Peer {
        id: id_of(no),
        peer_urls: vec![format!("http://m{no}:2380")],
        name: format!("m{no}"),
        ..Peer::default()
    }
}

/// The store in the file, if anything was committed to it.
///
/// # Errors
/// The file is no store, or is damaged.
pub fn open_store(pages: Arc<MemoryPages>, len: u64) -> Result<Option<Store>, OpenError> {
    if len == 0 {
        return Ok(None);
    }
    let mut store = Store::open(pages, len)?;
    store.scan(&mut Budget::unlimited())?;
    Ok(Some(store))
}

fn wal_options(plan: &Plan) -> WalOptions {
    WalOptions {
        segment_bytes: plan.segment_bytes,
        write_bytes_max: plan.write_bytes_max,
        zero_piece_bytes: plan.zero_piece_bytes,
        zero_lead_bytes: plan.zero_lead_bytes,
    }
}

fn node_options(plan: &Plan, birth: Birth) -> NodeOptions {
    let Birth { no, life, now } = birth;
    NodeOptions {
        member_id: id_of(no),
        cluster_id: 7,
        max_request_bytes: 1 << 20,
        consensus: ConsensusOptions {
            id: id_of(no),
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: 1,
            pre_vote: true,
            seed: Rng::new(plan.seed, 200 + no as u64).draw() ^ u64::from(life),
            catch_up_entry_count: CATCH_UP_ENTRY_COUNT,
            catch_up_size_bytes: CATCH_UP_SIZE_BYTES,
        },
        state: StateOptions {
            lease_checkpoint_persist: true,
            ..StateOptions::default()
        },
        started_unix_ms: 1_700_000_000_000 + now / MILLISECOND,
        max_learners: 1,
        snapshot_count: plan.snapshot_count,
        checkpoints: plan.checkpoints,
        leases: ExpiryOptions {
            checkpoint_interval: plan.lease_checkpoint_interval,
        },
        tick: Duration::from_micros(TICK),
    }
}
