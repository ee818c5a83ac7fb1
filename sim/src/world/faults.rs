//! Faults begin, end, and at last all heal.

use super::{Ending, Event, World};
use crate::check::{Violation, flip};
use crate::member::Birth;
use crate::plan::{FaultKind, MILLISECOND, SECOND};

impl World {
    pub(super) fn begin_fault(&mut self, at: usize) -> Result<(), Violation> {
        if self.ending != Ending::Running {
            return Ok(());
        }
        let now = self.now;
        let mut ends = None;
        match self.plan.faults[at].kind {
            FaultKind::PowerCut { member } => self.crash(member, true),
            FaultKind::Kill { member } => self.crash(member, false),
            FaultKind::PowerCutAll => {
                (0..self.members.len()).for_each(|member| self.crash(member, true));
            }
            FaultKind::PowerCutAfterAnswer { member } => {
                self.members[member].cut_after_answer = true;
            }
            FaultKind::PowerCutInCommit { member, after } => {
                self.members[member].cut_in_commit = Some(after);
            }
            FaultKind::FlipBit { member, pick } => return self.flip_bit(member, pick),
            FaultKind::DiskFails { member, fail } => {
                self.members[member].disk.fail_next = Some(fail);
            }
            FaultKind::ReadFails { member } => self.members[member].disk.fail_read = true,
            FaultKind::DiskFull { member, for_ } => {
                self.members[member].disk.is_full = true;
                ends = Some(for_);
            }
            FaultKind::SlowDisk { member, for_, by } => {
                self.members[member].slow_until = now + for_;
                self.members[member].slow_by = by;
            }
            FaultKind::Pause { member, for_ } => {
                // Events were put off to the end of a longer pause already: another one does not shorten it.
                let until = &mut self.members[member].paused_until;
                *until = (*until).max(now + for_);
            }
            FaultKind::Isolate { member, for_ } => {
                self.isolate(member, true);
                ends = Some(for_);
            }
            FaultKind::IsolateLeader { for_ } => {
                let leads = |member: usize| self.leads(member);
                if let Some(member) = (0..self.members.len()).find(|no| leads(*no)) {
                    self.isolated_leaders.insert(at, member);
                    self.isolate(member, true);
                    ends = Some(for_);
                }
            }
            FaultKind::OneWay { from, to, for_ } => {
                self.network.block(from, to);
                ends = Some(for_);
            }
            FaultKind::Loss { per_mille, for_ } => {
                self.network.loss_per_mille = per_mille;
                ends = Some(for_);
            }
            FaultKind::SlowNetwork { for_, delay_max } => {
                self.network.delay_max = delay_max;
                ends = Some(for_);
            }
            FaultKind::Reconnect { member } => self.network.reconnect(member),
        }
        if let Some(for_) = ends {
            self.schedule(now + for_, Event::FaultEnds { at });
        }
        Ok(())
    }

    /// The member's process ends; what a copy of its directory with a flipped bit would do is looked at aside.
    fn flip_bit(&mut self, no: usize, pick: u64) -> Result<(), Violation> {
        if self.members[no].node.is_none() {
            return Ok(());
        }
        let is_power_cut = self.members[no].rng.one_in(2);
        self.crash(no, is_power_cut);
        let member = &self.members[no];
        let birth = Birth {
            no,
            life: member.life + 1,
            now: self.now,
        };
        let told = flip::examine(
            &member.disk,
            &self.plan,
            birth,
            pick,
            &self.agreement.published,
        )?;
        self.flips.count(told);
        self.tell(&format!("member {no}: {told:?}"));
        Ok(())
    }

    pub(super) fn end_fault(&mut self, at: usize) {
        match self.plan.faults[at].kind {
            FaultKind::DiskFull { member, .. } => self.members[member].disk.is_full = false,
            FaultKind::Isolate { member, .. } => self.isolate(member, false),
            FaultKind::IsolateLeader { .. } => {
                if let Some(member) = self.isolated_leaders.remove(&at) {
                    self.isolate(member, false);
                }
            }
            FaultKind::OneWay { from, to, .. } => self.network.unblock(from, to),
            FaultKind::Loss { .. } => self.network.loss_per_mille = 0,
            FaultKind::SlowNetwork { .. } => self.network.delay_max = 3 * MILLISECOND,
            _ => {}
        }
    }

    fn isolate(&mut self, member: usize, is_blocked: bool) {
        for other in (0..self.members.len()).filter(|other| *other != member) {
            for (from, to) in [(member, other), (other, member)] {
                match is_blocked {
                    true => self.network.block(from, to),
                    false => self.network.unblock(from, to),
                }
            }
        }
    }

    /// Nothing goes wrong any more, and no client calls.
    pub(super) fn heal(&mut self) {
        self.ending = Ending::Healed;
        self.network.heal();
        let mut free_at = self.now;
        for no in 0..self.members.len() {
            let member = &mut self.members[no];
            member.disk.is_full = false;
            member.disk.fail_read = false;
            member.disk.fail_next = None;
            member.cut_after_answer = false;
            member.cut_in_commit = None;
            member.slow_until = 0;
            free_at = free_at.max(member.paused_until);
            self.schedule(self.now, Event::Start { member: no });
        }
        // A claim that was refused is tried again within ten ticks.
        self.schedule(free_at + 2 * SECOND, Event::Settle);
    }
}
