//! The log being written: groups in, operations out.

use super::active::Active;
use super::ahead::Ahead;
use super::group::{self, Position, Queue};
use super::io::{BLOCK_BYTES, FileNo, GroupNo, IoFault, IoTicket, Pace, WalFile, WalIo, WalOp};
use super::record::{self, RecordType};
use super::{Recovered, SegmentName};
use bytes::Bytes;
use proto::{raftpb, walpb};
use std::collections::VecDeque;

/// etcd's segment size, and whole blocks.
const SEGMENT_BYTES: u64 = 64_000_000;
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(BLOCK_BYTES));

/// Groups that wait are written together up to this many bytes.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// A segment takes some 250 of these.
const ZERO_PIECE_BYTES: u64 = 256 << 10;

/// Zeroed in some 10 ms at start; more than the log grows while one paced piece is under way.
const ZERO_LEAD_BYTES: u64 = 4 << 20;

/// With less room than this and no next segment in sight, new proposals are refused: what is
/// already under way must still fit.
const RESERVE_BYTES: u64 = 8 << 20;

/// Sizes. The defaults are etcd's; tests take smaller ones.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Length of a segment; a multiple of [`BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// Bound of one write, unless a single group is larger.
    pub write_bytes_max: usize,
    /// Bytes of one `Zero`; whole blocks. Short, so that a group is not held up by one.
    pub zero_piece_bytes: u64,
    /// A segment is used once this much of it is zeroed, and zeroing keeps this distance from the
    /// writer.
    pub zero_lead_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            write_bytes_max: WRITE_BYTES_MAX,
            zero_piece_bytes: ZERO_PIECE_BYTES,
            zero_lead_bytes: ZERO_LEAD_BYTES,
        }
    }
}

/// Whether a group must reach the disk by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Written as soon as the disk is free.
    Sync,
    /// Written with the next `Sync` group or at `flush`: for a state that only moves its commit.
    Lazy,
}

/// Whether the log takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// There is no space for another segment. Refuse proposals; what is claimed is still written,
    /// and the state ends by itself when a claim succeeds.
    ClaimFailed,
    /// A write or a sync of claimed space failed: what is on the disk is unknown, and nothing more
    /// will ever become durable. Stop the member.
    Failed,
}

/// Operations that follow one another, and what their end means.
#[derive(Debug)]
struct Flight {
    steps: VecDeque<WalOp>,
    current: Option<(IoTicket, WalOp)>,
    /// This group and all before it are durable then.
    durable: GroupNo,
}

/// What the operation beside the flight works on.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Close,
    ZeroActive,
    Ahead,
}

/// The log being written; see the module's text. Lives on the log shard.
///
/// Commands `append_*` and `seal` make groups; `poll_io` says what to do until it returns `None`;
/// every operation's end goes to `on_io_done`, after which `poll_io` may have more.
#[derive(Debug)]
pub struct Wal {
    options: WalOptions,
    metadata: Bytes,
    queue: Queue,
    /// Of everything that was started to be written.
    chain: u32,
    position: Position,
    /// `None` until a new log's first segment is begun.
    active: Option<Active>,
    flight: Option<Flight>,
    /// A step of the flight found no space and waits for a retry.
    is_flight_stuck: bool,
    /// A group waits for the next segment.
    needs_segment: bool,
    ahead: Ahead,
    beside: Option<(IoTicket, Beside)>,
    /// A segment that is complete and durable.
    to_close: VecDeque<FileNo>,
    durable: GroupNo,
    /// Every group up to this one is durable or in flight.
    started: GroupNo,
    /// The active segment is open and clean behind its end.
    is_ready: bool,
    has_failed: bool,
    next_ticket: u64,
    next_file: u32,
}

impl Wal {
    /// A new log in an empty directory. Its first group, number 1, is the head of the first segment:
    /// once that is durable the member exists.
    pub fn create(metadata: Bytes, options: WalOptions) -> Self {
        let mut wal = Self::new(metadata, options);
        wal.seal(Durability::Sync);
        wal
    }

    /// Goes on where recovery ended. What was cut is zeroed and synced before anything is appended.
    pub fn resume(recovered: &Recovered, options: WalOptions) -> Self {
        let mut wal = Self::new(recovered.metadata.clone(), options);
        let tail = &recovered.tail;
        wal.chain = tail.chain;
        wal.position = Position {
            last_index: tail.last_index,
            hard_state: recovered.hard_state,
        };
        wal.queue.position = wal.position;
        let file = wal.new_file();
        let active = Active::resume(file, tail, &wal.options);
        wal.flight = Some(Flight {
            steps: active.repair(tail, &wal.options),
            current: None,
            durable: GroupNo(0),
        });
        wal.active = Some(active);
        wal.is_ready = false;
        wal
    }

    fn new(metadata: Bytes, options: WalOptions) -> Self {
        for bytes in [options.segment_bytes, options.zero_piece_bytes] {
            assert!(
                bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES),
                "{options:?}"
            );
        }
        Self {
            options,
            metadata,
            queue: Queue::default(),
            chain: 0,
            position: Position::default(),
            active: None,
            flight: None,
            is_flight_stuck: false,
            needs_segment: false,
            ahead: Ahead::default(),
            beside: None,
            to_close: VecDeque::new(),
            durable: GroupNo(0),
            started: GroupNo(0),
            is_ready: true,
            has_failed: false,
            next_ticket: 0,
            next_file: 0,
        }
    }

    /// Command: an entry of the group being gathered. One with an index at or below a former entry's
    /// replaces that one and all behind it.
    pub fn append_entry(&mut self, entry: &raftpb::Entry) {
        self.queue.position.last_index = entry.index();
        self.append(RecordType::Entry, |data| record::put_entry(data, entry));
    }

    /// Command: the state from here on. An empty one is not written, as in etcd.
    pub fn append_state(&mut self, state: &raftpb::HardState) {
        if record::is_empty_state(state) {
            return;
        }
        self.queue.position.hard_state = *state;
        self.append(RecordType::State, |data| record::put_state(data, state));
    }

    /// Command: a snapshot exists. Readers expect its `conf_state`, `auto_leave` set in it, unless its index is 0, and pass
    /// the record over until a state with a commit at or behind it is in the log: append that first.
    pub fn append_snapshot(&mut self, snapshot: &walpb::Snapshot) {
        let position = &mut self.queue.position;
        position.last_index = position.last_index.max(snapshot.index());
        self.append(RecordType::Snapshot, |data| {
            record::put_snapshot(data, snapshot);
        });
    }

    fn append(&mut self, kind: RecordType, encode: impl FnOnce(&mut Vec<u8>)) {
        if !self.has_failed {
            self.queue.push(kind, encode);
        }
    }

    /// Command: ends the group; its records become durable in the order of their groups.
    pub fn seal(&mut self, durability: Durability) -> GroupNo {
        let group = self.queue.seal(durability);
        if self.has_failed {
            self.queue.clear();
        }
        group
    }

    /// Command: writes lazy groups too, as before closing: then drive the log until `is_settled`.
    pub fn flush(&mut self) {
        self.queue.flush();
    }

    /// Command: tries at once to claim space again, instead of after some ticks.
    pub fn retry_claim(&mut self) {
        self.ahead.retry();
        self.is_flight_stuck = false;
    }

    /// Input: time passed.
    pub fn on_tick(&mut self) {
        self.ahead.on_tick();
        self.is_flight_stuck = false;
    }

    /// Every group up to this one is on the disk. Moves in `on_io_done`, and for groups without a
    /// record in `poll_io`.
    pub fn durable(&self) -> GroupNo {
        self.durable
    }

    /// What recovery found is on the disk: a process that was killed leaves writes that were never synced.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The newest group sealed.
    pub fn last_sealed(&self) -> GroupNo {
        self.queue.last_no()
    }

    /// Everything sealed is durable, or never will be.
    pub fn is_settled(&self) -> bool {
        self.has_failed || (self.flight.is_none() && self.durable == self.queue.last_no())
    }

    /// Bytes appended that are not yet being written: the measure for pushing back.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    pub fn health(&self) -> Health {
        if self.has_failed {
            return Health::Failed;
        }
        let is_short = self.needs_segment || self.room() < self.reserve();
        if self.is_flight_stuck || (self.ahead.is_refused() && is_short) {
            return Health::ClaimFailed;
        }
        Health::Healthy
    }

    fn room(&self) -> u64 {
        let room = |active: &Active| active.capacity.saturating_sub(active.end);
        self.active.as_ref().map_or(0, room)
    }

    fn reserve(&self) -> u64 {
        RESERVE_BYTES.min(self.options.segment_bytes / 4)
    }

    /// Output: the next operation to start.
    pub fn poll_io(&mut self) -> Option<WalIo> {
        if self.has_failed {
            return None;
        }
        // A group without a record is durable without an operation, so there may be more behind it.
        while self.flight.is_none() && self.start_group() {}
        self.poll_flight().or_else(|| self.poll_beside())
    }

    fn poll_flight(&mut self) -> Option<WalIo> {
        let flight = self.flight.as_mut()?;
        if flight.current.is_some() || self.is_flight_stuck {
            return None;
        }
        let op = flight.steps.pop_front()?;
        let ticket = IoTicket(self.next_ticket);
        flight.current = Some((ticket, op.clone()));
        self.next_ticket += 1;
        Some(WalIo {
            ticket,
            pace: Pace::Urgent,
            op,
        })
    }

    /// True if the operation just handed out is a write and the next step of its group a sync of the same file. A
    /// shell may then perform both as one, report the write once both are done, and the sync as soon as it is asked
    /// for it.
    pub fn sync_follows(&self, ticket: IoTicket) -> bool {
        let Some(flight) = &self.flight else {
            return false;
        };
        match (&flight.current, flight.steps.front()) {
            (Some((current, WalOp::Write { file, .. })), Some(WalOp::Sync { file: synced })) => {
                *current == ticket && file == synced
            }
            _ => false,
        }
    }

    fn poll_beside(&mut self) -> Option<WalIo> {
        if self.beside.is_some() || !self.is_ready {
            return None;
        }
        let (beside, op) = self.next_beside()?;
        let ticket = IoTicket(self.next_ticket);
        self.beside = Some((ticket, beside));
        self.next_ticket += 1;
        let pace = match self.needs_segment {
            true => Pace::Urgent,
            false => Pace::Background,
        };
        Some(WalIo { ticket, pace, op })
    }

    fn next_beside(&mut self) -> Option<(Beside, WalOp)> {
        if let Some(file) = self.to_close.pop_front() {
            return Some((Beside::Close, WalOp::Close { file }));
        }
        if let Some(active) = &mut self.active
            && !self.needs_segment
            && let Some(op) = active.poll_zero(&self.options)
        {
            return Some((Beside::ZeroActive, op));
        }
        let next_file = &mut self.next_file;
        let new_file = || take_file(next_file);
        let op = self
            .ahead
            .poll(&self.options, self.needs_segment, new_file)?;
        Some((Beside::Ahead, op))
    }

    /// Makes the due groups the next flight, if there are any and there is room for them.
    fn start_group(&mut self) -> bool {
        self.needs_segment = false;
        if !self.queue.is_due() {
            return false;
        }
        let batch_len_max = self.queue.batch_len_max(self.options.write_bytes_max);
        let len_max = (batch_len_max + group::head_len_max(&self.metadata)) as u64;
        match &self.active {
            Some(active) if active.fits(len_max) => {
                if !active.is_free(len_max) {
                    return false;
                }
                let steps = self.take_write();
                self.start_flight(steps);
                true
            }
            _ => self.start_segment(len_max),
        }
    }

    /// Begins the next segment with the due groups: it gets its final name once they are durable in
    /// it, so that no segment of that name is ever seen without its head.
    fn start_segment(&mut self, len_max: u64) -> bool {
        let Some(claimed) = self.ahead.take(&self.options) else {
            self.needs_segment = true;
            return false;
        };
        let name = match &self.active {
            None => SegmentName {
                sequence: 0,
                first_index: 0,
            },
            Some(former) => SegmentName {
                sequence: former.name.sequence + 1,
                first_index: self.position.last_index.saturating_add(1),
            },
        };
        let (file, from) = (claimed.file, claimed.name);
        let mut next = Active::begin(claimed, name);
        let mut steps = VecDeque::new();
        if len_max > next.capacity {
            next.capacity = len_max.next_multiple_of(BLOCK_BYTES);
            steps.push_back(WalOp::Allocate {
                file,
                len: next.capacity,
            });
        }
        if let Some(former) = self.active.replace(next) {
            self.to_close.push_back(former.file);
        }
        steps.append(&mut self.take_write());
        let to = WalFile::Segment(name);
        steps.push_back(WalOp::Rename { file, from, to });
        steps.push_back(WalOp::SyncDirectory);
        self.start_flight(steps);
        true
    }

    fn start_flight(&mut self, steps: VecDeque<WalOp>) {
        assert!(self.flight.is_none(), "two groups in flight");
        self.flight = Some(Flight {
            steps,
            current: None,
            durable: self.started,
        });
        self.land();
    }

    /// Encodes the due groups for the active segment: one write and its sync.
    fn take_write(&mut self) -> VecDeque<WalOp> {
        let Some(active) = &mut self.active else {
            return VecDeque::new();
        };
        let Some(batch) = self.queue.take_batch(self.options.write_bytes_max) else {
            return VecDeque::new();
        };
        self.started = batch.last_no;
        if batch.is_empty() && active.end > 0 {
            return VecDeque::new();
        }
        let mut bytes = active.begin_write();
        if active.end == 0 {
            let is_first = active.name.sequence == 0;
            let position = (!is_first).then_some(&self.position);
            self.chain = group::encode_head(&self.metadata, position, self.chain, &mut bytes);
        }
        bytes.reserve(batch.frames_len_max());
        for records in &batch.records {
            self.chain = records.encode(self.chain, &mut bytes);
        }
        self.position = batch.position;
        VecDeque::from([active.end_write(bytes), WalOp::Sync { file: active.file }])
    }

    /// Input: an operation has ended.
    ///
    /// # Panics
    /// On a ticket that is not under way: the shell has lost count, and so would the log.
    pub fn on_io_done(&mut self, ticket: IoTicket, result: Result<(), IoFault>) {
        if self.has_failed {
            return;
        }
        match self.beside {
            Some((current, beside)) if current == ticket => {
                self.beside = None;
                self.on_beside_done(beside, result.is_ok());
            }
            _ => self.on_step_done(ticket, result.is_ok()),
        }
    }

    fn on_beside_done(&mut self, beside: Beside, is_ok: bool) {
        match beside {
            Beside::Close => {}
            Beside::Ahead => self.ahead.on_done(is_ok),
            Beside::ZeroActive => {
                if let Some(active) = &mut self.active {
                    active.on_zeroed();
                }
                if !is_ok {
                    self.fail();
                }
            }
        }
    }

    fn on_step_done(&mut self, ticket: IoTicket, is_ok: bool) {
        let flight = self.flight.as_mut();
        let current = flight.and_then(|flight| Some((flight.current.take()?, flight)));
        let Some(((current, op), flight)) = current else {
            panic!("{ticket:?} ended, but nothing is under way");
        };
        assert!(
            current == ticket,
            "{ticket:?} ended, {current:?} is under way"
        );
        match (is_ok, op) {
            (true, _) => self.land(),
            (false, op @ WalOp::Allocate { .. }) => {
                flight.steps.push_front(op);
                self.is_flight_stuck = true;
            }
            (false, _) => self.fail(),
        }
    }

    /// Ends the flight if no step is left.
    fn land(&mut self) {
        if let Some(flight) = self.flight.take_if(|flight| flight.steps.is_empty()) {
            let durable = flight.durable;
            assert!(durable >= self.durable, "durable moved back to {durable:?}");
            self.durable = durable;
            self.is_ready = true;
        }
    }

    /// Nothing after this is trusted, so nothing after this is done.
    fn fail(&mut self) {
        self.has_failed = true;
        self.flight = None;
        self.queue.clear();
    }

    fn new_file(&mut self) -> FileNo {
        take_file(&mut self.next_file)
    }
}

fn take_file(next_file: &mut u32) -> FileNo {
    let file = FileNo(*next_file);
    *next_file += 1;
    file
}
