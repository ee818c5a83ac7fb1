//! Readers that stand for other cores: each has a handle of its own and reads beside the turns of the node.
//!
//! ```text
//!   node     turn: apply, compact, sweep, publish      turn: ..          turn: ..
//!   reader        [pin   key   key ............ key ........... key, unpin]              walk.rs
//!   reader             [pin, slice, unpin]         [pin, slice, unpin]     ..            slices.rs
//! ```
//!
//! A real reader keeps a pin for a slice only. Here turns of the node fall into that slice, as they do when the slice
//! runs on another core, the slower one. What was read is compared with what members published ([`Agreement`]).
//!
//! Each step is an event of the world; a reader ends with its member's process.

mod slices;
mod walk;

use engine::view::ViewReader;

use crate::check::Violation;
use crate::check::agreement::Agreement;
use crate::plan::{MILLISECOND, Plan, Time};
use crate::random::Rng;
use slices::Slices;
use walk::Walk;

/// Longest rest between two reads.
const REST_MAX: Time = 120 * MILLISECOND;

/// What readers did: a run that never read over a turn of the node shows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Reads that came to their end.
    pub done: usize,
    /// Walks under one pin, during which the node published.
    pub overtaken: usize,
    /// The same, during which it was compacted.
    pub compacted: usize,
    /// Reads in slices whose revision was compacted on the way and that answered by virtue of a hold.
    pub held: usize,
}

impl ReadCounts {
    pub fn add(&mut self, other: &ReadCounts) {
        self.done += other.done;
        self.overtaken += other.overtaken;
        self.compacted += other.compacted;
        self.held += other.held;
    }
}

/// One simulated core that reads.
#[derive(Debug)]
pub struct Reader {
    member: usize,
    rng: Rng,
    read: Read,
    /// Mean time between two steps of the running read.
    pace: Time,
}

#[derive(Debug)]
enum Read {
    None(ViewReader),
    Walk(Box<Walk>),
    Slices(Box<Slices>),
}

/// A step's result: whether the read goes on, or what it gives back.
#[derive(Debug)]
enum Stepped<T> {
    GoesOn(T),
    Done(ViewReader),
}

impl Reader {
    /// The reader `no` of a member's life.
    pub fn new(member: usize, no: usize, life: u32, plan: &Plan, handle: ViewReader) -> Reader {
        let label = 10_000 + 100 * member as u64 + no as u64;
        Reader {
            member,
            rng: Rng::new(plan.seed ^ u64::from(life) << 48, label),
            read: Read::None(handle),
            pace: MILLISECOND,
        }
    }

    /// When it begins.
    pub fn rest(&mut self) -> Time {
        self.rng.below(REST_MAX)
    }

    pub fn is_resting(&self) -> bool {
        matches!(self.read, Read::None(_))
    }

    /// Does a step, or begins a read. Gives the reader back with the time until the next step.
    ///
    /// # Errors
    /// If what was read is not what was published.
    pub fn step(
        self,
        agreement: &mut Agreement,
        counts: &mut ReadCounts,
    ) -> Result<(Reader, Time), Violation> {
        let Reader {
            member,
            mut rng,
            read,
            mut pace,
        } = self;
        let read = match read {
            Read::None(handle) => {
                pace = draw_pace(&mut rng);
                begin(handle, &mut rng)
            }
            Read::Walk(walk) => match walk.step(&mut rng, &agreement.published, counts) {
                Ok(Stepped::GoesOn(walk)) => Ok(Read::Walk(Box::new(walk))),
                Ok(Stepped::Done(handle)) => Ok(Read::None(handle)),
                Err(why) => Err(why),
            },
            Read::Slices(slices) => match slices.step(&mut rng, member, agreement, counts) {
                Ok(Stepped::GoesOn(slices)) => Ok(Read::Slices(Box::new(slices))),
                Ok(Stepped::Done(handle)) => Ok(Read::None(handle)),
                Err(why) => Err(why),
            },
        };
        let read = read.map_err(|why| format!("reader: member {member}: {why}"))?;
        let mut reader = Reader {
            member,
            rng,
            read,
            pace,
        };
        let wait = match reader.is_resting() {
            true => reader.rest(),
            false => reader.rng.between(reader.pace / 2, reader.pace * 2),
        };
        Ok((reader, wait))
    }
}

/// Some are as fast as turns, some slower than clients and ticks.
fn draw_pace(rng: &mut Rng) -> Time {
    match rng.one_in(2) {
        true => rng.between(MILLISECOND / 10, 2 * MILLISECOND),
        false => rng.between(5 * MILLISECOND, 80 * MILLISECOND),
    }
}

fn begin(handle: ViewReader, rng: &mut Rng) -> Result<Read, Violation> {
    if rng.one_in(2) {
        return Ok(Read::Walk(Box::new(Walk::begin(handle, rng))));
    }
    Ok(Read::Slices(Box::new(Slices::begin(handle, rng)?)))
}

/// A revision that can be read: the newest one, or one of those before it that are not compacted.
fn draw_revision(newest: i64, compacted: i64, rng: &mut Rng) -> i64 {
    let oldest = compacted.max(1);
    let span = u64::try_from(newest - oldest).unwrap_or_default();
    match span {
        0 => newest,
        _ if rng.one_in(2) => newest,
        _ => newest - rng.below(span.min(30) + 1) as i64,
    }
}
