//! What clients do to members: calls, answers, giving up.

use engine::mvcc::{self, RangeRun};
use engine::state::{RequestError, Response, View};
use proto::etcdserverpb::response_op;

use super::{Event, World};
use crate::history::{Call, Operation, Outcome};
use crate::member::Scan;
use crate::plan::{MILLISECOND, Plant, SECOND};
use crate::workload;

/// Patience of a client.
const GIVE_UP_AFTER: u64 = 4 * SECOND;
/// Rest after a member that is down, or refused.
const REFUSED_REST: u64 = 20 * MILLISECOND;

impl World {
    pub(super) fn call(&mut self, client_no: usize) {
        let client = &mut self.clients[client_no];
        if client.waiting.is_some() {
            return;
        }
        if client.rng.one_in(10) {
            client.member = client.rng.below(self.plan.node_count as u64) as usize;
        }
        let call = client.next_call(&self.plan);
        self.issue(client_no, call);
    }

    pub(super) fn issue(&mut self, client_no: usize, call: Call) {
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
        match workload::request_of(&call) {
            Some(request) => {
                let member = &mut self.members[member_no];
                let proposed = member.node.as_mut().and_then(|n| n.propose(request).ok());
                match proposed {
                    Some(id) => drop(member.writes.insert(id, operation)),
                    None => self.finish(operation, Outcome::Refused),
                }
            }
            None => self.begin_read(member_no, operation),
        }
        self.wake(member_no);
    }

    fn begin_read(&mut self, member_no: usize, operation: usize) {
        let is_serializable = self.operations[operation].call.is_serializable();
        let is_trusting = self.plan.plant == Some(Plant::StaleRead);
        let member = &mut self.members[member_no];
        let Some(node) = &mut member.node else {
            self.finish(operation, Outcome::Refused);
            return;
        };
        // Only a leader that was deposed without knowing is stale then.
        let is_current = node.leadership().is_leader && node.applied_index() == node.commit_index();
        if is_serializable || node.is_view_linearizable() || (is_trusting && is_current) {
            self.answer_read(member_no, operation);
            return;
        }
        let id = node.read_index();
        member.reads.insert(id, operation);
    }

    /// The read may use the newest View now.
    pub(super) fn answer_read(&mut self, member_no: usize, operation: usize) {
        let Some(node) = &self.members[member_no].node else {
            return;
        };
        let view = node.view();
        match &self.operations[operation].call {
            Call::Get { key, .. } => {
                let outcome = match view.range(&workload::point(key)) {
                    Ok(answer) => read(answer.revision, answer.kvs.iter().map(mvcc::decode)),
                    Err(error) => failed(&error),
                };
                self.finish(operation, outcome);
            }
            _ => self.begin_scan(member_no, operation),
        }
    }

    fn begin_scan(&mut self, member_no: usize, operation: usize) {
        let member = &mut self.members[member_no];
        let Some(node) = &member.node else { return };
        let view = node.view();
        let revision = view.revision();
        match RangeRun::new(&workload::everything(), view.reader()) {
            Ok(run) => member.scans.push(Scan {
                operation,
                revision,
                run,
            }),
            Err(error) => self.finish(operation, failed(&error)),
        }
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

/// A finished scan's answer, or etcd's error if its revision was compacted under it.
pub(super) fn step_scan(scan: &mut Scan, view: &View<'_>, units: usize) -> Option<Outcome> {
    let mut budget = engine::types::Budget::new(units);
    match scan.run.step(view.reader(), &mut budget) {
        Ok(answer) => {
            answer.map(|answer| read(answer.revision, answer.kvs.iter().map(mvcc::decode)))
        }
        Err(error) => Some(failed(&error)),
    }
}

fn read(revision: i64, kvs: impl Iterator<Item = proto::mvccpb::KeyValue>) -> Outcome {
    Outcome::Read {
        revision,
        kvs: kvs.collect(),
    }
}

fn failed(error: &RequestError) -> Outcome {
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
            read(revision(&txn.header), range.unwrap_or_default().into_iter())
        }
        _ => Outcome::Done,
    }
}
