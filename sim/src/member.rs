//! One member: its node, its disk, and what a shell keeps for it.
//!
//! The node is the production one; this file starts it from the disk, as `server` does, and ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::consensus::ConsensusOptions;
use engine::membership::Member as Peer;
use engine::mvcc::RangeRun;
use engine::node::{Node, NodeOptions, bootstrap_log};
use engine::state::StateOptions;
use engine::wal::{Recovery, Wal, WalIo, WalOptions};

use crate::check::Violation;
use crate::disk::SimDisk;
use crate::plan::{MILLISECOND, Plan, Time};
use crate::random::Rng;

/// One tick at rate 1.
pub const TICK: Time = 100 * MILLISECOND;

/// Snapshots to followers do not exist yet, so nobody may ever lag further than this.
const CATCH_UP_ENTRY_COUNT: usize = 10_000_000;
const CATCH_UP_SIZE_BYTES: usize = 1 << 30;

/// A long read in slices: it holds a revision between its turns, later also a pin.
#[derive(Debug)]
pub struct Scan {
    pub operation: usize,
    pub revision: i64,
    pub run: RangeRun,
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
    pub in_flight: BTreeMap<u64, WalIo>,
    /// Operations by the id of their proposal, and of their read-index round.
    pub writes: BTreeMap<u64, usize>,
    pub reads: BTreeMap<u64, usize>,
    pub scans: Vec<Scan>,
    /// The first revision that was not yet compared in this life.
    pub unshown: i64,
    pub is_turn_due: bool,
    /// A write or sync was made to fail in this life, so the node may stop.
    pub has_disk_failed: bool,
    pub cut_after_answer: bool,
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
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            scans: Vec::new(),
            unshown: 2,
            is_turn_due: false,
            has_disk_failed: false,
            cut_after_answer: false,
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
        let refused = |e: &dyn std::fmt::Display| format!("recovery: member {no}: {e}");
        let options = node_options(plan, no, self.life, now);
        let node = if segments.is_empty() {
            let peers: Vec<Peer> = (0..plan.node_count).map(peer).collect();
            let (entries, hard_state) = bootstrap_log(&peers).map_err(|e| refused(&e))?;
            let wal = Wal::create("metadata".into(), wal_options(plan));
            Node::bootstrap(options, wal, entries, hard_state).map_err(|e| refused(&e))?
        } else {
            let mut recovery = Recovery::new();
            for (name, bytes) in segments {
                recovery.on_segment(name, bytes).map_err(|e| refused(&e))?;
            }
            let recovered = recovery.finish().map_err(|e| refused(&e))?;
            let wal = Wal::resume(&recovered, wal_options(plan));
            Node::restart(options, wal, recovered).map_err(|e| refused(&e))?
        };
        self.node = Some(node);
        Ok(true)
    }

    /// The process ends; work under way may have reached the disk or not. Gives the operations that nobody answers now.
    pub fn stop(&mut self, is_power_cut: bool) -> Vec<usize> {
        self.node = None;
        for io in std::mem::take(&mut self.in_flight).into_values() {
            if self.rng.one_in(2) {
                // Whether it failed, nobody hears any more.
                let _ = self.disk.perform(&io.op, &mut self.rng);
            }
        }
        match is_power_cut {
            true => self.disk.lose_power(&mut self.rng),
            false => self.disk.close_all(),
        }
        self.is_turn_due = false;
        self.cut_after_answer = false;
        self.paused_until = 0;
        let writes = std::mem::take(&mut self.writes).into_values();
        let reads = std::mem::take(&mut self.reads).into_values();
        let scans = std::mem::take(&mut self.scans).into_iter();
        writes
            .chain(reads)
            .chain(scans.map(|s| s.operation))
            .collect()
    }

    /// Nobody waits for the operation any more.
    pub fn forget(&mut self, operation: usize) {
        self.writes.retain(|_, waiting| *waiting != operation);
        self.reads.retain(|_, waiting| *waiting != operation);
        self.scans.retain(|scan| scan.operation != operation);
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

fn wal_options(plan: &Plan) -> WalOptions {
    WalOptions {
        segment_bytes: plan.segment_bytes,
        write_bytes_max: plan.write_bytes_max,
        zero_piece_bytes: plan.zero_piece_bytes,
        zero_lead_bytes: plan.zero_lead_bytes,
    }
}

fn node_options(plan: &Plan, no: usize, life: u32, now: Time) -> NodeOptions {
    NodeOptions {
        member_id: id_of(no),
        cluster_id: 7,
        max_request_bytes: 1 << 20,
        consensus: ConsensusOptions {
            id: id_of(no),
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            seed: Rng::new(plan.seed, 200 + no as u64).draw() ^ u64::from(life),
            catch_up_entry_count: CATCH_UP_ENTRY_COUNT,
            catch_up_size_bytes: CATCH_UP_SIZE_BYTES,
        },
        state: StateOptions::default(),
        started_unix_ms: 1_700_000_000_000 + now / MILLISECOND,
        max_learners: 1,
        tick: Duration::from_micros(TICK),
    }
}
