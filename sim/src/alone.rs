//! A member by itself, aside from the world: its disk does at once what it is asked for, and nobody else is there.
//!
//! It is how a directory is looked at: what a member makes of it, up to a clean end.

use std::time::Duration;

use engine::node::{Node, NodeFailure};
use engine::state::View;
use engine::types::Budget;

use crate::disk::SimDisk;
use crate::member::{self, Birth, SEGMENTS_MAX};
use crate::plan::{Plan, Time};
use crate::random::Rng;

/// Turns until a member without any input has nothing to do.
const TURN_COUNT_MAX: usize = 10_000;

/// See the module text.
pub struct Alone {
    disk: SimDisk,
    node: Node,
    rng: Rng,
    now: Time,
}

impl Alone {
    /// Goes on with a member, all of whose work has ended.
    pub fn new(disk: SimDisk, node: Node, now: Time) -> Alone {
        Alone {
            disk,
            node,
            rng: Rng::new(now, 0),
            now,
        }
    }

    /// Starts from a directory.
    ///
    /// # Errors
    /// Why the member refuses to start.
    pub fn start(mut disk: SimDisk, plan: &Plan, birth: Birth) -> Result<Alone, String> {
        disk.close_all();
        disk.is_full = false;
        disk.fail_read = false;
        let segments = disk.read_segments().expect("no fault is asked for");
        let node = member::boot(&mut disk, segments, plan, birth)?;
        Ok(Alone::new(disk, node, birth.now))
    }

    pub fn view(&self) -> View<'_> {
        self.node.view()
    }

    /// Does all there is to do without others.
    ///
    /// # Errors
    /// The member stops.
    pub fn settle(&mut self) -> Result<(), NodeFailure> {
        for _ in 0..TURN_COUNT_MAX {
            if !self.turn()? {
                return Ok(());
            }
        }
        panic!("a member without input finds no end");
    }

    /// Ends it cleanly, everything being in the store then, and gives its directory.
    ///
    /// # Errors
    /// The member stops.
    pub fn close(mut self) -> Result<SimDisk, NodeFailure> {
        self.node.close();
        for _ in 0..TURN_COUNT_MAX {
            if !self.turn()? {
                if self.node.is_quiet() {
                    self.disk.close_all();
                    return Ok(self.disk);
                }
                self.node.on_tick(Duration::from_micros(self.now));
            }
        }
        panic!("a member that closes finds no end");
    }

    /// True if something was done.
    fn turn(&mut self) -> Result<bool, NodeFailure> {
        let now = Duration::from_micros(self.now);
        let Alone {
            disk, node, rng, ..
        } = self;
        node.on_time(now);
        let mut is_busy = node.work(&mut Budget::unlimited())?;
        while let Some(io) = node.poll_io() {
            node.on_io_done(io.ticket, disk.perform(&io.op, rng));
            is_busy = true;
        }
        while let Some(io) = node.poll_store_io() {
            node.on_store_io_done(io.ticket, disk.perform_store(&io.op, rng));
            is_busy = true;
        }
        while let Some(io) = node.poll_snap_io() {
            node.on_snap_io_done(io.ticket, disk.perform_snap(&io.op, SEGMENTS_MAX));
            is_busy = true;
        }
        while node.poll_message().is_some() {}
        while node.poll_event().is_some() {}
        Ok(is_busy)
    }
}
