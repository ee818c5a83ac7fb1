//! Leases: what clients ask of the leader's clock. What goes through the log is in [`super::calls`].

use std::time::Duration;

use engine::node::Renewal;
use engine::types::LeaseId;

use super::World;
use crate::check::Violation;
use crate::history::{Call, Outcome};
use crate::member::Renewing;

impl World {
    /// A keep-alive, or a question for the time left. Who does not lead sends the client elsewhere.
    pub(super) fn ask_lease(&mut self, no: usize, operation: usize) -> Result<(), Violation> {
        let is_up = self.members[no].paused_until <= self.now;
        let leads = is_up && self.leads(no);
        let member = &mut self.members[no];
        let Some(node) = member.node.as_mut().filter(|_| leads) else {
            self.finish(operation, Outcome::Refused);
            return Ok(());
        };
        match self.operations[operation].call {
            Call::KeepAlive { id } => {
                let granted_by = node.commit_index();
                member.renewing.push(Renewing {
                    operation,
                    id,
                    granted_by,
                });
                self.renew(no)
            }
            Call::TimeToLive { id } => {
                let told = node.lease_time(LeaseId(id), true, Duration::from_micros(self.now));
                let (view, published) = (node.view(), &self.agreement.published);
                self.leases
                    .on_time_told(id, told.as_ref(), &view, self.now, published)?;
                self.finish(operation, Outcome::Done);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// True for the leader of the newest term: an older one may not know yet that it is deposed.
    pub(super) fn leads(&self, no: usize) -> bool {
        let nodes = || self.members.iter().filter_map(|m| m.node.as_ref());
        let newest = nodes().map(|node| node.term()).max();
        let node = self.members[no].node.as_ref();
        node.is_some_and(|node| node.leadership().is_leader && Some(node.term()) == newest)
    }

    /// It has applied an entry of its term, and so all older ones.
    fn is_in_own_term(&mut self, no: usize) -> bool {
        let member = &mut self.members[no];
        let term = member.node.as_ref().map(|node| node.term());
        let applied = member
            .handle
            .as_mut()
            .map(|handle| handle.pin().applied_term().0);
        applied.is_some() && applied == term
    }

    /// Answers the keep-alives that can be answered; the others are tried again with the next turn.
    pub(super) fn renew(&mut self, no: usize) -> Result<(), Violation> {
        let now = Duration::from_micros(self.now);
        let leads = self.leads(no) && self.is_in_own_term(no);
        let mut waiting = Vec::new();
        for renewing in std::mem::take(&mut self.members[no].renewing) {
            let Renewing {
                operation,
                id,
                granted_by,
            } = renewing;
            let Some(node) = &mut self.members[no].node else {
                continue;
            };
            match node.renew_lease(LeaseId(id), granted_by, now) {
                // What a deposed leader promises is nothing: the client learns in time that it must ask elsewhere. Nor does
                // one, as in etcd, that has older entries left to apply: a revocation may be among them.
                Renewal::Renewed(ttl) if leads => self.leases.on_renewed(id, ttl, self.now)?,
                Renewal::Unknown if leads => self.leases.on_unknown(id, node.applied_index())?,
                Renewal::Renewed(_) | Renewal::Unknown => {}
                Renewal::NotYet => {
                    waiting.push(renewing);
                    continue;
                }
            }
            self.finish(operation, Outcome::Done);
        }
        self.members[no].renewing = waiting;
        Ok(())
    }
}
