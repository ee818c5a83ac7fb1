//! What one seed means: sizes, rates, and which faults come when.

use std::time::Duration;

use crate::disk::Fail;
use crate::random::Rng;
use engine::node::CheckpointOptions;
use engine::view::Sabotage;

/// Virtual time in microseconds since the start of the world.
pub type Time = u64;

pub const MILLISECOND: Time = 1_000;
pub const SECOND: Time = 1_000_000;

/// A bug put in on purpose, to see that the checkers find it. Those with a [`Sabotage`] sit in `engine`, behind its
/// feature `sabotage`; the others in the simulated shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// One fsync per life is answered without being done.
    SkipFsync,
    /// Every fsync of a group is answered when it starts.
    AckBeforeSync,
    /// The network acknowledges appends in a follower's name: an entry commits with the leader alone.
    MinorityCommit,
    /// Who believes to lead answers linearizable reads without a round.
    StaleRead,
    /// Pages of the index are used again while readers pin them.
    PageReuse,
    /// The store's pages are not synced before the meta page that names them is written.
    StoreSync,
    /// Pages of the store are used again while readers pin them.
    StoreReuse,
    /// Checkpoints leave out the leases.
    LostLeases,
    /// A member that starts forgets a lease.
    ForgottenLease,
    /// A watcher that has caught up is not told the first revision after that.
    WatchGap,
    /// A watcher that resumes is told one revision too many.
    WatchEarly,
    /// A watcher that resumes is told one revision too few.
    WatchLate,
}

impl Plant {
    pub const ALL: [Plant; 12] = [
        Plant::SkipFsync,
        Plant::AckBeforeSync,
        Plant::MinorityCommit,
        Plant::StaleRead,
        Plant::PageReuse,
        Plant::StoreSync,
        Plant::StoreReuse,
        Plant::LostLeases,
        Plant::ForgottenLease,
        Plant::WatchGap,
        Plant::WatchEarly,
        Plant::WatchLate,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Plant::SkipFsync => "skip-fsync",
            Plant::AckBeforeSync => "ack-before-sync",
            Plant::MinorityCommit => "minority-commit",
            Plant::StaleRead => "stale-read",
            Plant::PageReuse => "page-reuse",
            Plant::StoreSync => "store-sync",
            Plant::StoreReuse => "store-reuse",
            Plant::LostLeases => "lost-leases",
            Plant::ForgottenLease => "forgotten-lease",
            Plant::WatchGap => "watch-gap",
            Plant::WatchEarly => "watch-early",
            Plant::WatchLate => "watch-late",
        }
    }

    /// What the engine is told to do wrong.
    pub const fn sabotage(self) -> Option<Sabotage> {
        match self {
            Plant::PageReuse => Some(Sabotage::ReusePinnedPages),
            Plant::StoreReuse => Some(Sabotage::ReuseStorePages),
            Plant::LostLeases => Some(Sabotage::LoseLeases),
            Plant::ForgottenLease => Some(Sabotage::ForgetLease),
            Plant::WatchGap => Some(Sabotage::WatchGap),
            Plant::WatchEarly => Some(Sabotage::WatchEarly),
            Plant::WatchLate => Some(Sabotage::WatchLate),
            _ => None,
        }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The process and the page cache of one member are gone.
    PowerCut {
        member: usize,
    },
    /// The same for all members at once.
    PowerCutAll,
    /// The same right after the member's next answer to a client.
    PowerCutAfterAnswer {
        member: usize,
    },
    /// The same after so many more operations on the member's store: in the middle of a commit.
    PowerCutInCommit {
        member: usize,
        after: u64,
    },
    /// The process is gone, and a copy of the directory gets a flipped bit in the store. It must not start from that, or
    /// answer as if nothing had happened until it meets the damage; see [`crate::check::flip`].
    FlipBit {
        member: usize,
        pick: u64,
    },
    /// The process is gone, the page cache stays.
    Kill {
        member: usize,
    },
    /// The next write or sync fails; the member must stop.
    DiskFails {
        member: usize,
        fail: Fail,
    },
    /// The next start cannot read the log.
    ReadFails {
        member: usize,
    },
    DiskFull {
        member: usize,
        for_: Time,
    },
    /// Every operation takes this much longer.
    SlowDisk {
        member: usize,
        for_: Time,
        by: Time,
    },
    /// The process stands still.
    Pause {
        member: usize,
        for_: Time,
    },
    /// Nothing goes between the member and the others.
    Isolate {
        member: usize,
        for_: Time,
    },
    /// The same with whoever leads then: it goes on believing so for a while.
    IsolateLeader {
        for_: Time,
    },
    /// Nothing goes one way.
    OneWay {
        from: usize,
        to: usize,
        for_: Time,
    },
    Loss {
        per_mille: u64,
        for_: Time,
    },
    SlowNetwork {
        for_: Time,
        delay_max: Time,
    },
    /// All connections of the member break.
    Reconnect {
        member: usize,
    },
}

/// A fault and its time; `no` is its number in the plan as the seed made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub no: usize,
    pub at: Time,
    pub kind: FaultKind,
}

/// A whole run before it happens. Shrinking makes smaller ones.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub node_count: usize,
    pub plant: Option<Plant>,
    /// Clients and faults end here; then everything heals and must settle.
    pub until: Time,
    pub client_count: usize,
    pub faults: Vec<Fault>,
    pub segment_bytes: u64,
    pub write_bytes_max: usize,
    pub zero_piece_bytes: u64,
    pub zero_lead_bytes: u64,
    pub key_count: u64,
    /// Bytes added to every key: long ones need more pages of the index, and overflow pages.
    pub key_fill_bytes: usize,
    /// Readers of each member that stand for other cores.
    pub reader_count: usize,
    /// Clients that watch, with several watches each.
    pub watcher_count: usize,
    /// Hubs of each member.
    pub watch_shard_count: usize,
    /// The shell performs a log write together with its sync.
    pub joins_sync: bool,
    /// Longest rest of a client between two calls.
    pub think_max: Time,
    /// Larger budgets let one turn apply more.
    pub budget_max: u64,
    /// Which urgent sync of a life is skipped by [`Plant::SkipFsync`].
    pub skipped_sync: u64,
    /// Applied entries between two snapshots. Never with several members: snapshots to followers do not exist yet.
    pub snapshot_count: u64,
    pub checkpoints: CheckpointOptions,
    /// How often remaining TTLs go into the log, if they do.
    pub lease_checkpoint_interval: Option<Duration>,
    /// Prints every event: to look at one seed.
    pub is_traced: bool,
}

impl Plan {
    /// The plan of a seed. `node_count` is 1 or 3.
    pub fn new(seed: u64, node_count: usize, plant: Option<Plant>) -> Plan {
        let mut rng = Rng::new(seed, 1);
        let until = if node_count == 1 {
            rng.between(2, 7) * SECOND
        } else {
            rng.between(8, 30) * SECOND
        };
        let mut plan = Plan {
            seed,
            node_count,
            plant,
            until,
            client_count: rng.between(2, 7) as usize,
            faults: Vec::new(),
            segment_bytes: 4096 * rng.between(4, 40),
            write_bytes_max: rng.between(8_000, 100_000) as usize,
            zero_piece_bytes: 4096 * rng.between(1, 9),
            zero_lead_bytes: rng.below(60_000),
            key_count: rng.between(1, 9),
            key_fill_bytes: 0,
            reader_count: 0,
            watcher_count: 0,
            watch_shard_count: 1,
            joins_sync: false,
            think_max: rng.skewed(20, 1000) * MILLISECOND,
            budget_max: rng.between(2, 60),
            skipped_sync: rng.between(1, 40),
            snapshot_count: u64::MAX,
            checkpoints: CheckpointOptions::default(),
            lease_checkpoint_interval: None,
            is_traced: false,
        };
        plan.faults = plan.draw_faults(&mut rng);
        plan.reader_count = rng.between(1, 4) as usize;
        plan.joins_sync = rng.one_in(2);
        if rng.one_in(4) {
            plan.key_count = rng.between(9, 60);
        }
        if rng.one_in(3) {
            plan.key_fill_bytes = rng.skewed(20, 3000) as usize;
        }
        plan.checkpoints = CheckpointOptions {
            unsaved_bytes_max: rng.skewed(200, 40_000),
            unsaved_ticks_max: rng.between(1, 12),
        };
        plan.watcher_count = rng.between(1, 4) as usize;
        plan.watch_shard_count = rng.between(1, 3) as usize;
        if rng.one_in(3) {
            let interval = rng.between(200 * MILLISECOND, 2 * SECOND);
            plan.lease_checkpoint_interval = Some(Duration::from_micros(interval));
        }
        if node_count == 1 {
            plan.snapshot_count = rng.skewed(3, 200);
        }
        plan
    }

    fn draw_faults(&self, rng: &mut Rng) -> Vec<Fault> {
        let rest_max = if self.node_count == 1 {
            SECOND
        } else {
            3 * SECOND
        };
        let mut at = 0;
        let mut faults = Vec::new();
        loop {
            at += rng.between(50 * MILLISECOND, rest_max);
            if at >= self.until {
                return faults;
            }
            let no = faults.len();
            let kind = self.draw_fault(rng);
            faults.push(Fault { no, at, kind });
        }
    }

    fn draw_fault(&self, rng: &mut Rng) -> FaultKind {
        let member = rng.below(self.node_count as u64) as usize;
        let for_ = rng.between(100 * MILLISECOND, 4 * SECOND);
        let fail = match rng.one_in(2) {
            true => Fail::Write,
            false => Fail::Sync,
        };
        let kinds = if self.node_count == 1 { 15 } else { 23 };
        match rng.below(kinds) {
            0 | 1 => FaultKind::PowerCut { member },
            2..=5 => FaultKind::PowerCutAfterAnswer { member },
            6 => FaultKind::Kill { member },
            7 => FaultKind::DiskFails { member, fail },
            8 => FaultKind::ReadFails { member },
            9 => FaultKind::DiskFull { member, for_ },
            10 => FaultKind::SlowDisk {
                member,
                for_,
                by: rng.between(MILLISECOND, 60 * MILLISECOND),
            },
            11 => FaultKind::Pause { member, for_ },
            12 | 13 => FaultKind::PowerCutInCommit {
                member,
                after: rng.skewed(3, 40),
            },
            14 => FaultKind::FlipBit {
                member,
                pick: rng.draw(),
            },
            15 | 16 => FaultKind::Isolate { member, for_ },
            17 => FaultKind::IsolateLeader { for_ },
            18 => FaultKind::OneWay {
                from: member,
                to: (member + 1 + rng.below(2) as usize) % self.node_count,
                for_,
            },
            19 => FaultKind::Loss {
                per_mille: rng.between(10, 400),
                for_,
            },
            20 => FaultKind::SlowNetwork {
                for_,
                delay_max: rng.between(10, 900) * MILLISECOND,
            },
            21 => FaultKind::Reconnect { member },
            _ => FaultKind::PowerCutAll,
        }
    }
}
