//! From a committed entry to the state: one entry at a time, in slices.

use prost::Message;
use proto::etcdserverpb::InternalRaftRequest;
use proto::raftpb;

use super::length::is_short;
use super::{Applying, Node, NodeEvent, NodeFailure};
use crate::consensus::{Committed, Payload};
use crate::lease::Lease;
use crate::membership::ConfChange;
use crate::state::{Applied, ApplyEffect, Progress, RequestError, Response};
use crate::types::{Budget, LogIndex, Term};

impl Node {
    /// Applies committed entries until the budget is used up; the entry in progress stays half applied and unseen.
    pub(super) fn apply_committed(&mut self, budget: &mut Budget) -> Result<(), NodeFailure> {
        loop {
            if let Some(applying) = self.applying {
                let Some(applied) = self.proceed(applying, budget) else {
                    return Ok(());
                };
                self.finish_request(applying, applied)?;
            }
            if budget.is_spent() {
                return Ok(());
            }
            let Some(committed) = self.committed.pop_front() else {
                return Ok(());
            };
            self.begin(committed)?;
        }
    }

    /// Goes on with the entry in progress. A short one is done at once, since what is whole is shown only when nothing is
    /// half applied.
    fn proceed(&mut self, applying: Applying, budget: &mut Budget) -> Option<Applied> {
        if !applying.is_short {
            return match self.state.work(budget) {
                Progress::Done(applied) => Some(applied),
                Progress::More => None,
            };
        }
        let mut own = Budget::unlimited();
        loop {
            if let Progress::Done(applied) = self.state.work(&mut own) {
                budget.spend(own.spent());
                return Some(applied);
            }
        }
    }

    fn begin(&mut self, committed: Committed) -> Result<(), NodeFailure> {
        let Committed {
            index,
            term,
            payload,
        } = committed;
        assert!(
            index == self.applied_index + 1,
            "entry {index} after {}",
            self.applied_index
        );
        match payload {
            Payload::Empty => {
                self.state.apply(LogIndex(index), Term(term), None);
                self.finish_entry(index, term);
                // Raft drops reads until its leader has committed in its term; now it has.
                self.retry_reads();
            }
            Payload::ConfChange(data) => {
                let raw = raftpb::ConfChange::decode(data).map_err(|e| bad_entry(index, &e))?;
                self.apply_conf_change(&raw)?;
                self.state.skip(LogIndex(index), Term(term));
                self.finish_entry(index, term);
            }
            Payload::Request(data) => {
                let request =
                    InternalRaftRequest::decode(data).map_err(|e| bad_entry(index, &e))?;
                let request_id = match (request.id, &request.header) {
                    (0, Some(header)) => header.id,
                    (id, _) => id,
                };
                let is_physical = request.compaction.as_ref().is_some_and(|c| c.physical);
                let leases = self.state.view().leases();
                let is_short = is_short(&request, |id| leases.get(id).map_or(0, Lease::key_count));
                if !is_short {
                    // It may stay half applied for a while, and what is whole must not wait for that.
                    self.state.publish();
                }
                self.state.start(LogIndex(index), Term(term), Some(request));
                self.applying = Some(Applying {
                    index,
                    term,
                    request_id,
                    is_physical,
                    is_short,
                });
            }
        }
        Ok(())
    }

    fn finish_request(&mut self, applying: Applying, applied: Applied) -> Result<(), NodeFailure> {
        self.applying = None;
        check_applicable(applying.index, &applied)?;
        let is_expiry = self.revoking.remove(&applying.request_id);
        self.expired_count += u64::from(is_expiry && applied.result.is_ok());
        let mut compacted = None;
        for effect in &applied.effects {
            if let ApplyEffect::CompactionScheduled { revision } = effect {
                compacted = Some(*revision);
            }
            self.consider_forced_snapshot(effect);
            self.membership.on_effect(effect, &mut self.state);
            self.on_lease_effect(effect);
            if matches!(effect, ApplyEffect::AlarmsChanged) {
                self.is_space_alarm_proposed = false;
            }
        }
        if matches!(applied.result, Ok(Response::Alarm(_))) {
            self.is_space_alarm_proposed = false;
        }
        let event = NodeEvent::Applied {
            id: applying.request_id,
            applied,
        };
        match compacted {
            Some(revision) if applying.is_physical => {
                let id = applying.request_id;
                self.events.push_back(NodeEvent::Sweeping { id });
                self.sweeping.push_back((revision, event));
            }
            _ => self.events.push_back(event),
        }
        self.finish_entry(applying.index, applying.term);
        Ok(())
    }

    /// Answers the physical compactions whose sweep is done.
    pub(super) fn answer_compactions(&mut self) {
        let Some(finished) = self.state.view().finished_compact_revision() else {
            return;
        };
        while let Some((_, event)) = self.sweeping.pop_front_if(|(to, _)| *to <= finished) {
            self.events.push_back(event);
        }
    }

    fn finish_entry(&mut self, index: u64, term: u64) {
        self.applied_index = index;
        self.applied_term = term;
        self.backlog.on_applied(index);
        self.consensus.on_applied(index);
    }

    /// Membership decides; raft is told the outcome either way.
    fn apply_conf_change(&mut self, raw: &raftpb::ConfChange) -> Result<(), NodeFailure> {
        let outcome = ConfChange::parse(raw).and_then(|change| {
            self.membership.apply(&change)?;
            self.membership.record(&change, true, &mut self.state);
            Ok(())
        });
        self.consensus
            .on_conf_change(outcome.is_ok().then_some(raw))?;
        let id = raw.id.unwrap_or(0);
        self.events.push_back(NodeEvent::ConfChanged {
            id,
            result: outcome,
        });
        Ok(())
    }
}

/// An entry that this version cannot apply ends the member: passing over it would make it diverge.
pub(super) fn check_applicable(index: u64, applied: &Applied) -> Result<(), NodeFailure> {
    match &applied.result {
        Err(reason @ (RequestError::Unsupported { .. } | RequestError::Malformed { .. })) => {
            Err(bad_entry(index, reason))
        }
        Err(RequestError::Damaged(damage)) => Err(damage.clone().into()),
        _ => Ok(()),
    }
}

pub(super) fn bad_entry(index: u64, reason: &dyn std::fmt::Display) -> NodeFailure {
    NodeFailure::BadEntry {
        index,
        reason: reason.to_string(),
    }
}
