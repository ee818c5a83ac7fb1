//! Random groups, random crashes: what was reported durable is there, and nothing was invented.
//!
//! The model is the row of all records appended. After a crash the recovered log must be what some
//! prefix of that row says, and the prefix must reach the last group reported durable. The next
//! life goes on from there.

use crate::sim_disk::SimDisk;
use bytes::Bytes;
use engine::random::SplitMix64 as Rng;
use engine::wal::{Durability, GroupNo, Health, Recovered, Wal, WalIo, WalOptions};
use proptest::prelude::*;
use proto::raftpb::{ConfState, Entry, HardState};
use proto::walpb::Snapshot;

const METADATA: &[u8] = &[8, 1, 16, 2];

#[derive(Debug, Clone, PartialEq)]
enum Op {
    Entry(Entry),
    State(HardState),
    Snapshot(Snapshot),
}

/// What a log says after some records.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: Vec<Entry>,
    hard_state: HardState,
    snapshots: Vec<Snapshot>,
}

impl Model {
    fn created() -> Self {
        Self {
            snapshots: vec![snapshot(0, 0)],
            ..Self::default()
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Entry(entry) => {
                self.entries.truncate(entry.index() as usize - 1);
                self.entries.push(entry.clone());
            }
            Op::State(state) => self.hard_state = *state,
            Op::Snapshot(snapshot) => self.snapshots.push(snapshot.clone()),
        }
    }

    fn of(recovered: &Recovered) -> Self {
        Self {
            entries: recovered.entries.clone(),
            hard_state: recovered.hard_state,
            snapshots: recovered.snapshots.clone(),
        }
    }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    Snapshot {
        index: Some(index),
        term: Some(term),
        conf_state: (index > 0).then(|| ConfState {
            voters: vec![1, 2, 3],
            ..ConfState::default()
        }),
    }
}

struct Life {
    rng: Rng,
    disk: SimDisk,
    wal: Wal,
    under_way: Vec<WalIo>,
    /// What the last recovery found.
    base: Model,
    /// Appended since, with the number of ops up to the end of each sealed group.
    ops: Vec<Op>,
    sealed: Vec<(GroupNo, usize)>,
    /// The same log as the records appended make it, for choosing indexes.
    now: Model,
    term: u64,
    options: WalOptions,
    is_created: bool,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let options = WalOptions {
            segment_bytes: 4096 * (1 + rng.below(40)),
            write_bytes_max: 1 + rng.below(20_000) as usize,
            zero_piece_bytes: 4096 * (1 + rng.below(6)),
            zero_lead_bytes: rng.below(30_000),
        };
        Self {
            wal: Wal::create(Bytes::from_static(METADATA), options.clone()),
            rng,
            disk: SimDisk::default(),
            under_way: Vec::new(),
            base: Model::created(),
            ops: Vec::new(),
            sealed: Vec::new(),
            now: Model::created(),
            term: 1,
            options,
            is_created: false,
        }
    }

    fn append(&mut self) {
        for _ in 0..self.rng.below(6) {
            let op = self.random_op();
            match &op {
                Op::Entry(entry) => self.wal.append_entry(entry),
                Op::State(state) => self.wal.append_state(state),
                Op::Snapshot(snapshot) => self.wal.append_snapshot(snapshot),
            }
            self.now.apply(&op);
            self.ops.push(op);
        }
        let durability = match self.rng.one_in(4) {
            true => Durability::Lazy,
            false => Durability::Sync,
        };
        let group = self.wal.seal(durability);
        self.sealed.push((group, self.ops.len()));
    }

    fn random_op(&mut self) -> Op {
        let last = self.now.entries.len() as u64;
        match self.rng.below(10) {
            0 => Op::State(HardState {
                term: Some(self.term),
                vote: Some(self.rng.next()),
                commit: Some(self.rng.below(last + 1)),
            }),
            1 if last > 0 => {
                let index = 1 + self.rng.below(last);
                let term = self.now.entries[index as usize - 1].term();
                Op::Snapshot(snapshot(index, term))
            }
            kind => {
                // Now and then a new leader replaces the end of the log.
                let back = if kind == 2 {
                    self.rng.below(last.min(5) + 1)
                } else {
                    0
                };
                self.term += u64::from(back > 0);
                Op::Entry(self.random_entry(last + 1 - back))
            }
        }
    }

    fn random_entry(&mut self, index: u64) -> Entry {
        let len = match self.rng.below(8) {
            0 => 0,
            1 => self.rng.below(30_000),
            2 => self.rng.below(3_000),
            _ => self.rng.below(200),
        };
        // Runs of zeros inside records must not be taken for torn sectors.
        let fill = if self.rng.one_in(3) {
            0
        } else {
            self.rng.next() as u8
        };
        Entry {
            r#type: Some(self.rng.below(3) as i32),
            term: Some(self.term),
            index: Some(index),
            data: Some(vec![fill; len as usize].into()),
        }
    }

    /// Starts or ends some of the operations that wait.
    fn work(&mut self, steps: u64) {
        for _ in 0..steps {
            if self.rng.one_in(4) {
                self.wal.on_tick();
            }
            if self.rng.one_in(2)
                && let Some(io) = self.wal.poll_io()
            {
                self.under_way.push(io);
                assert!(self.under_way.len() <= 2);
            } else if !self.under_way.is_empty() {
                let at = self.rng.below(self.under_way.len() as u64) as usize;
                let io = self.under_way.swap_remove(at);
                let result = self.disk.perform(&io);
                self.wal.on_io_done(io.ticket, result);
            }
            self.is_created |= self.wal.durable() > GroupNo(0);
        }
    }

    fn settle(&mut self) {
        self.wal.flush();
        self.disk.is_full = false;
        self.wal.retry_claim();
        loop {
            while let Some(io) = self.wal.poll_io() {
                self.under_way.push(io);
            }
            let Some(io) = self.under_way.pop() else {
                break;
            };
            let result = self.disk.perform(&io);
            self.wal.on_io_done(io.ticket, result);
        }
        self.is_created = true;
        assert!(self.wal.is_settled(), "never settled");
    }

    fn crash(&mut self) {
        // Operations under way may have reached the disk, in part or whole.
        for io in std::mem::take(&mut self.under_way) {
            if self.rng.one_in(2) {
                // A full disk refuses, which then nobody hears.
                let _ = self.disk.perform(&io);
            }
        }
        self.disk.crash(&mut self.rng);
        self.disk.is_full = false;
        if self.disk.segments().is_empty() {
            assert!(!self.is_created, "a member that existed is gone");
            self.restart(Model::created(), None);
            return;
        }
        self.is_created = true;
        let recovered = self.disk.recovery().finish().unwrap();
        assert_eq!(recovered.metadata, METADATA);
        let found = Model::of(&recovered);
        self.check_prefix(&found);
        self.restart(found, Some(recovered));
    }

    /// The recovered log is a prefix of what was appended, and no durable group is missing.
    fn check_prefix(&self, found: &Model) {
        let durable = self.wal.durable();
        let reached = |&&(group, _): &&(GroupNo, usize)| group <= durable;
        let required = self.sealed.iter().rfind(reached);
        let required = required.map_or(0, |&(_, count)| count);
        let mut model = self.base.clone();
        self.ops[..required].iter().for_each(|op| model.apply(op));
        for op in &self.ops[required..] {
            if model == *found {
                return;
            }
            model.apply(op);
        }
        assert_eq!(
            model, *found,
            "not a prefix with the first {required} records"
        );
    }

    fn restart(&mut self, base: Model, recovered: Option<Recovered>) {
        let options = self.options.clone();
        self.wal = match recovered {
            Some(recovered) => Wal::resume(&recovered, options),
            None => Wal::create(Bytes::from_static(METADATA), options),
        };
        self.now = base.clone();
        self.base = base;
        self.ops.clear();
        self.sealed.clear();
        self.term += 1;
    }
}

proptest! {

    #[test]
    fn durable_groups_survive_every_crash(seed: u64) {
        let mut life = Life::new(seed);
        for _ in 0..6 {
            for _ in 0..life.rng.below(12) {
                life.append();
                life.disk.is_full = life.rng.one_in(4);
                let steps = life.rng.below(30);
                life.work(steps);
            }
            if life.rng.one_in(3) {
                life.settle();
                assert_eq!(life.wal.durable(), life.wal.last_sealed());
                assert_eq!(life.wal.health(), Health::Healthy);
            }
            life.crash();
        }
    }
}
