//! What clients do to members: calls, answers, giving up.

use engine::state::{RequestError, Response};
use proto::etcdserverpb::response_op;

use super::{Event, World};
use crate::check::Violation;
use crate::history::{Call, Operation, Outcome};
use crate::plan::{MILLISECOND, SECOND};
use crate::workload;

/// Patience of a client.
const GIVE_UP_AFTER: u64 = 4 * SECOND;
/// Rest after a member that is down, or refused.
const REFUSED_REST: u64 = 20 * MILLISECOND;

impl World {
    pub(super) fn call(&mut self, client_no: usize) -> Result<(), Violation> {
        let client = &mut self.clients[client_no];
        if client.waiting.is_some() {
            return Ok(());
        }
        if client.rng.one_in(10) {
            client.member = client.rng.below(self.plan.node_count as u64) as usize;
        }
        let call = client.next_call(&self.plan);
        self.issue(client_no, call)
    }

    pub(super) fn issue(&mut self, client_no: usize, call: Call) -> Result<(), Violation> {
        let member_no = self.clients[client_no].member;
        self.stamp += 1;
        let operation = self.operations.len();
        self.operations.push(Operation {
            client: client_no,
            member: member_no,
            call: call.clone(),
            called: self.stamp,
            returned: None,
            called_at: self.now,
            outcome: Outcome::Unknown,
        });
        self.clients[client_no].waiting = Some(operation);
        let at = self.now + GIVE_UP_AFTER;
        self.schedule(at, Event::GiveUp { operation });
        self.tell(&format!("operation {operation} at {member_no}: {call:?}"));
        if let Call::Revoke { id } = call {
            self.leases.on_given_back(id);
        }
        match workload::request_of(&call) {
            Some(request) => {
                let member = &mut self.members[member_no];
                let proposed = member.node.as_mut().and_then(|n| n.propose(request).ok());
                match proposed {
                    Some(id) => drop(member.writes.insert(id, operation)),
                    None => self.finish(operation, Outcome::Refused),
                }
            }
            None if call.is_of_lease() => self.ask_lease(member_no, operation)?,
            None => self.begin_read(member_no, operation)?,
        }
        self.wake(member_no);
        Ok(())
    }

    /// The log answered a write.
    pub(super) fn answer_write(
        &mut self,
        operation: usize,
        result: &Result<Response, RequestError>,
    ) {
        let outcome = match result {
            Ok(response) => outcome_of(response),
            Err(error) => failed(error),
        };
        self.finish(operation, outcome);
    }

    /// The client has its answer and rests.
    pub(super) fn finish(&mut self, operation: usize, outcome: Outcome) {
        self.stamp += 1;
        self.tell(&format!("operation {operation}: {outcome:?}"));
        let is_refused = outcome == Outcome::Refused;
        let done = &mut self.operations[operation];
        done.returned = Some(self.stamp);
        done.outcome = outcome;
        let client = &mut self.clients[done.client];
        client.on_answer(&done.call, &done.outcome);
        let no = done.client;
        self.release(no, is_refused);
    }

    /// The client hears nothing any more.
    pub(super) fn lose(&mut self, operation: usize) {
        let no = self.operations[operation].client;
        self.release(no, true);
    }

    fn release(&mut self, client_no: usize, is_refused: bool) {
        let client = &mut self.clients[client_no];
        client.waiting = None;
        let mut rest = client.rng.below(self.plan.think_max + 1);
        if is_refused {
            rest += REFUSED_REST;
            client.member = client.rng.below(self.plan.node_count as u64) as usize;
        }
        let at = self.now + rest;
        self.schedule(at, Event::Call { client: client_no });
    }

    pub(super) fn give_up(&mut self, operation: usize) {
        let Operation { client, member, .. } = self.operations[operation];
        if self.clients[client].waiting == Some(operation) {
            self.members[member].forget(operation);
            self.lose(operation);
        }
    }
}

pub(super) fn outcome(
    revision: i64,
    kvs: impl Iterator<Item = proto::mvccpb::KeyValue>,
) -> Outcome {
    Outcome::Read {
        revision,
        kvs: kvs.collect(),
    }
}

pub(super) fn failed(error: &RequestError) -> Outcome {
    Outcome::Failed {
        reason: error.to_string(),
    }
}

fn outcome_of(response: &Response) -> Outcome {
    let revision = |header: &Option<proto::etcdserverpb::ResponseHeader>| {
        header.as_ref().map_or(0, |h| h.revision)
    };
    match response {
        Response::Put(put) => Outcome::Written {
            revision: revision(&put.header),
            former: put.prev_kv.iter().cloned().collect(),
        },
        Response::DeleteRange(delete) => Outcome::Written {
            revision: revision(&delete.header),
            former: delete.prev_kvs.clone(),
        },
        Response::Txn(txn) if txn.succeeded => Outcome::Written {
            revision: revision(&txn.header),
            former: Vec::new(),
        },
        Response::Txn(txn) => {
            let range = txn.responses.iter().find_map(|op| match &op.response {
                Some(response_op::Response::ResponseRange(range)) => Some(range.kvs.clone()),
                _ => None,
            });
            outcome(revision(&txn.header), range.unwrap_or_default().into_iter())
        }
        _ => Outcome::Done,
    }
}
