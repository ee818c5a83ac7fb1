//! Reads: what clients ask the log shard for, and when readers of other cores step. All of them read through pins.

use engine::mvcc::{self, RangeRun, RequestError};
use engine::types::Budget;
use engine::view::PinnedView;

use super::calls::{failed, outcome};
use super::{Ending, Event, World};
use crate::check::Violation;
use crate::history::{Call, Outcome};
use crate::member::Scan;
use crate::plan::Plant;
use crate::workload;

/// What a scan may do in a turn.
const SCAN_UNITS: usize = 3;

impl World {
    /// A client's read: of the newest View if that is linearizable or need not be, else after a round.
    pub(super) fn begin_read(
        &mut self,
        member_no: usize,
        operation: usize,
    ) -> Result<(), Violation> {
        let is_serializable = self.operations[operation].call.is_serializable();
        let is_trusting = self.plan.plant == Some(Plant::StaleRead);
        let member = &mut self.members[member_no];
        let (Some(node), Some(handle)) = (&mut member.node, &mut member.handle) else {
            self.finish(operation, Outcome::Refused);
            return Ok(());
        };
        // Only a leader that was deposed without knowing is stale then.
        let is_current = node.leadership().is_leader && node.applied_index() == node.commit_index();
        if is_serializable || handle.pin().is_linearizable() || (is_trusting && is_current) {
            return self.answer_read(member_no, operation);
        }
        let id = node.read_index();
        member.reads.insert(id, operation);
        Ok(())
    }

    /// The read may use the newest View now.
    pub(super) fn answer_read(
        &mut self,
        member_no: usize,
        operation: usize,
    ) -> Result<(), Violation> {
        let Call::Get { key, .. } = &self.operations[operation].call else {
            return self.begin_scan(member_no, operation);
        };
        let Some(handle) = &mut self.members[member_no].handle else {
            return Ok(());
        };
        let answer = handle.pin().range(&workload::point(key));
        let seen = match answer {
            Ok(answer) => outcome(answer.revision, answer.kvs.iter().map(mvcc::decode)),
            Err(error) => failed(&error),
        };
        self.finish(operation, seen);
        Ok(())
    }

    fn begin_scan(&mut self, member_no: usize, operation: usize) -> Result<(), Violation> {
        let member = &mut self.members[member_no];
        let Some(handle) = &mut member.handle else {
            return Ok(());
        };
        let run = RangeRun::new(&workload::everything(), handle.pin().reader());
        let mut run = run.map_err(|e| format!("reader: member {member_no}: newest state: {e}"))?;
        let is_held = member.rng.one_in(2);
        if is_held {
            let hold = handle.hold(run.revision());
            run.hold(hold.ok_or("reader: the newest revision is not held")?);
        }
        member.scans.push(Scan {
            operation,
            is_held,
            run,
        });
        Ok(())
    }

    /// A slice of every client's scan, at the end of a turn.
    pub(super) fn step_scans(&mut self, no: usize) -> Result<(), Violation> {
        let member = &mut self.members[no];
        let Some(handle) = &mut member.handle else {
            return Ok(());
        };
        let mut ended = Vec::new();
        for scan in &mut member.scans {
            if let Some(outcome) = step_scan(scan, &handle.pin())? {
                ended.push((scan.operation, outcome));
            }
        }
        let is_ended = |scan: &Scan| ended.iter().any(|(done, _)| *done == scan.operation);
        member.scans.retain(|scan| !is_ended(scan));
        for (operation, outcome) in ended {
            self.finish(operation, outcome);
        }
        Ok(())
    }

    /// Every reader of a member that just started begins some time later.
    pub(super) fn seat_readers(&mut self, no: usize) {
        let life = self.members[no].life;
        let readers = self.members[no].readers.iter_mut();
        let waits: Vec<_> = readers.map(|(at, reader)| (*at, reader.rest())).collect();
        for (reader, wait) in waits {
            let event = Event::Read {
                member: no,
                life,
                reader,
            };
            self.schedule(self.now + wait, event);
        }
    }

    /// A step of one reader. After the end of the run it finishes what it reads, and begins nothing.
    pub(super) fn step_reader(&mut self, no: usize, life: u32, at: usize) -> Result<(), Violation> {
        let readers = &mut self.members[no].readers;
        let is_ending = self.ending != Ending::Running;
        if is_ending && readers.get(&at).is_some_and(|r| r.is_resting()) {
            return Ok(());
        }
        let Some(reader) = readers.remove(&at) else {
            return Ok(());
        };
        let (reader, wait) = reader.step(&mut self.agreement, &mut self.reads)?;
        readers.insert(at, reader);
        let event = Event::Read {
            member: no,
            life,
            reader: at,
        };
        self.schedule(self.now + wait, event);
        Ok(())
    }
}

/// A finished scan's answer, or etcd's error if its revision was compacted under it.
fn step_scan(scan: &mut Scan, view: &PinnedView<'_>) -> Result<Option<Outcome>, Violation> {
    let is_compacted = view.compact_revision() > scan.run.revision();
    match scan.run.step(view.reader(), &mut Budget::new(SCAN_UNITS)) {
        Ok(None) => Ok(None),
        Ok(Some(answer)) => {
            let kvs = answer.kvs.iter().map(mvcc::decode);
            Ok(Some(outcome(answer.revision, kvs)))
        }
        Err(error @ RequestError::Compacted) if is_compacted && !scan.is_held => {
            Ok(Some(failed(&error)))
        }
        Err(error) => Err(format!(
            "reader: a scan of revision {} (held: {}): {error}",
            scan.run.revision(),
            scan.is_held
        )),
    }
}
