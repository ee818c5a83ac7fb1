//! One entry on its way through the state.
//!
//! ```text
//!   begin    pick the request, ask the gate                -> refused: Done
//!   execute  in slices; versions of the next revision      -> invisible
//!   conclude revision + 1 (if anything changed), revoked lease gone
//!   settle   detach keys from the leases they left, in slices
//!   Done
//! ```

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::membershippb;

use super::op::Op;
use super::{Applied, ApplyEffect, ClusterVersion, RequestError, Response, State, downgrade, gate};
use crate::index::KeyRange;
use crate::mvcc::{Change, DecodeRun, DeleteRun, RangeRun, Reader, TxnRun, Writer};
use crate::tail::{Bucket, meta};
use crate::types::{Budget, LeaseId, LogIndex, Term};

/// From this cluster version on checkpointed TTLs are always stored.
const CHECKPOINTS_PERSIST_SINCE: ClusterVersion = ClusterVersion { major: 3, minor: 6 };

type Outcome = Result<Response, RequestError>;

/// An entry being applied.
#[derive(Debug)]
pub(super) struct Running {
    index: LogIndex,
    term: Term,
    change: Change,
    effects: Vec<ApplyEffect>,
    /// Verdict of the quota before the entry changed anything.
    has_room: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Executing(Execution),
    Settling {
        outcome: Outcome,
        detached: std::vec::IntoIter<(LeaseId, Bytes)>,
    },
}

/// Requests that proceed in slices, and those that are done at once.
#[derive(Debug)]
enum Execution {
    Refused(RequestError),
    Once(Op),
    Range(RangeRun),
    Decode(DecodeRun),
    Delete(DeleteRun),
    Txn(TxnRun),
    Revoke(RevokeRun),
}

/// A lease revocation in progress: its keys go one by one, in order.
#[derive(Debug)]
struct RevokeRun {
    id: LeaseId,
    after: Option<Box<[u8]>>,
}

impl State {
    pub(super) fn reader(&self) -> Reader<'_> {
        self.kv.reader(&self.tail, self.backend.side())
    }

    fn writer<'a>(&'a mut self, change: &'a mut Change) -> Writer<'a> {
        Writer {
            kv: &mut self.kv,
            tail: &mut self.tail,
            store: self.backend.side(),
            leases: &mut self.leases,
            change,
        }
    }

    pub(super) fn begin(
        &self,
        index: LogIndex,
        term: Term,
        request: Option<pb::InternalRaftRequest>,
    ) -> Running {
        let (header, op) = match request {
            Some(mut request) => (request.header.take(), Op::new(request)),
            None => (None, Op::Nothing),
        };
        let has_room = self.has_room(gate::cost(&op));
        let execution = match self.admit(header.as_ref(), &op) {
            Ok(()) => self.execution(op),
            Err(error) => Execution::Refused(error),
        };
        Running {
            index,
            term,
            change: Change::new(self.kv.revision()),
            effects: Vec::new(),
            has_room,
            stage: Stage::Executing(execution),
        }
    }

    fn execution(&self, op: Op) -> Execution {
        match op {
            Op::Range(request) => match RangeRun::new(&request, self.reader()) {
                Ok(run) => Execution::Range(run),
                Err(error) => Execution::Refused(error),
            },
            Op::DeleteRange(request) => Execution::Delete(DeleteRun::new(&request)),
            Op::Txn(request) => Execution::Txn(TxnRun::new(request)),
            Op::LeaseRevoke(request) => {
                let id = LeaseId(request.id);
                match self.leases.contains(id) {
                    true => Execution::Revoke(RevokeRun { id, after: None }),
                    false => Execution::Refused(RequestError::LeaseNotFound),
                }
            }
            Op::Unsupported(what) => Execution::Refused(RequestError::Unsupported { what }),
            once => Execution::Once(once),
        }
    }

    /// Does a slice of the entry; answers when it is applied.
    pub(super) fn proceed(
        &mut self,
        running: &mut Running,
        budget: &mut Budget,
    ) -> Option<Applied> {
        if let Stage::Executing(execution) = &mut running.stage {
            let outcome = match execution {
                Execution::Once(op) => {
                    budget.spend(1);
                    self.once(op, &mut running.change, &mut running.effects)
                }
                sliced => self.slice(sliced, &mut running.change, &mut running.effects, budget)?,
            };
            let outcome = self.conclude(running, outcome);
            let detached = running.change.take_detached().into_iter();
            running.stage = Stage::Settling { outcome, detached };
        }
        self.settle(running, budget)
    }

    fn slice(
        &mut self,
        execution: &mut Execution,
        change: &mut Change,
        effects: &mut Vec<ApplyEffect>,
        budget: &mut Budget,
    ) -> Option<Outcome> {
        if let Execution::Range(run) = execution {
            match run.step(self.reader(), budget) {
                Ok(answer) => *execution = Execution::Decode(DecodeRun::new(answer?)),
                Err(error) => return Some(Err(error)),
            }
        }
        let writer = &mut self.writer(change);
        match execution {
            Execution::Delete(run) => run
                .step(writer, budget)
                .map(|done| done.map(Response::DeleteRange))
                .transpose(),
            Execution::Txn(run) => run.step(writer, budget).map(|r| r.map(Response::Txn)),
            Execution::Revoke(run) => {
                match run.step(writer, budget) {
                    Ok(done) => done?,
                    Err(error) => return Some(Err(error)),
                }
                writer.leases.remove(run.id, writer.tail);
                effects.push(ApplyEffect::LeaseRevoked { id: run.id });
                Some(Ok(
                    Response::LeaseRevoke(pb::LeaseRevokeResponse::default()),
                ))
            }
            Execution::Decode(run) => run.step(budget).map(|r| Ok(Response::Range(r))),
            Execution::Refused(error) => Some(Err(error.clone())),
            Execution::Range(_) | Execution::Once(_) => None,
        }
    }

    /// Makes the entry part of the state, and passes its outcome through the quota's verdict.
    fn conclude(&mut self, running: &mut Running, outcome: Outcome) -> Outcome {
        self.kv.publish(&running.change);
        self.applied = (running.index, running.term);
        match outcome {
            Ok(_) if !running.has_room => Err(RequestError::NoSpace),
            Ok(response) => Ok(with_revision(response, self.kv.revision())),
            refused => refused,
        }
    }

    fn settle(&mut self, running: &mut Running, budget: &mut Budget) -> Option<Applied> {
        let Stage::Settling { outcome, detached } = &mut running.stage else {
            return None;
        };
        for (id, key) in detached {
            // The same entry may have attached the key again.
            let newest = self.kv.index().get_live(&key, self.kv.revision());
            if newest.is_none_or(|version| version.lease != id) {
                self.leases.detach(id, &key);
            }
            budget.spend(1);
            if budget.is_spent() {
                return None;
            }
        }
        Some(Applied {
            index: running.index,
            term: running.term,
            result: std::mem::replace(outcome, Ok(Response::Empty)),
            effects: std::mem::take(&mut running.effects),
            revision: self.kv.revision(),
        })
    }

    fn once(
        &mut self,
        op: &mut Op,
        change: &mut Change,
        effects: &mut Vec<ApplyEffect>,
    ) -> Outcome {
        match op {
            Op::Put(request) => {
                let mut writer = self.writer(change);
                writer.check_put(request)?;
                Ok(Response::Put(writer.put(request)?))
            }
            Op::Compaction(request) => self.compact(request, effects),
            Op::LeaseGrant(request) => self.grant(request, effects),
            Op::LeaseCheckpoint(request) => Ok(self.note_remaining(request, effects)),
            Op::Alarm(request) => {
                let before = self.tail.end();
                let response = self.alarms.apply(request, &mut self.tail);
                if self.tail.end() != before {
                    effects.push(ApplyEffect::AlarmsChanged);
                }
                Ok(Response::Alarm(response))
            }
            Op::ClusterVersion(request) => self.set_cluster_version(request, effects),
            Op::MemberAttributes(request) => {
                let attributes = request.member_attributes.take().unwrap_or_default();
                let member_id = request.member_id;
                effects.push(ApplyEffect::MemberAttributesSet {
                    member_id,
                    attributes,
                });
                Ok(Response::Empty)
            }
            Op::Downgrade(request) => self.set_downgrade(request, effects),
            Op::Nothing => Ok(Response::Empty),
            Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::LeaseRevoke(_) => {
                Err(RequestError::Unsupported {
                    what: "a request that proceeds in slices",
                })
            }
            Op::Unsupported(what) => Err(RequestError::Unsupported { what }),
        }
    }

    fn compact(
        &mut self,
        request: &pb::CompactionRequest,
        effects: &mut Vec<ApplyEffect>,
    ) -> Outcome {
        let revision = request.revision;
        self.kv.compact(revision, &mut self.tail)?;
        effects.push(ApplyEffect::CompactionScheduled { revision });
        Ok(Response::Compaction(pb::CompactionResponse::default()))
    }

    fn grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
        effects: &mut Vec<ApplyEffect>,
    ) -> Outcome {
        let id = LeaseId(request.id);
        let ttl_min = self.options.lease_ttl_min;
        let ttl = self
            .leases
            .grant(id, request.ttl, ttl_min, &mut self.tail)?;
        effects.push(ApplyEffect::LeaseGranted { id, ttl });
        let response = pb::LeaseGrantResponse {
            id: id.0,
            ttl,
            ..Default::default()
        };
        Ok(Response::LeaseGrant(response))
    }

    fn note_remaining(
        &mut self,
        request: &pb::LeaseCheckpointRequest,
        effects: &mut Vec<ApplyEffect>,
    ) -> Response {
        let persist = self.options.lease_checkpoint_persist
            || self
                .cluster_version
                .is_some_and(|version| version >= CHECKPOINTS_PERSIST_SINCE);
        for checkpoint in &request.checkpoints {
            let (id, remaining_ttl) = (LeaseId(checkpoint.id), checkpoint.remaining_ttl);
            self.leases
                .checkpoint(id, remaining_ttl, persist, &mut self.tail);
            effects.push(ApplyEffect::LeaseCheckpointed { id, remaining_ttl });
        }
        Response::LeaseCheckpoint(pb::LeaseCheckpointResponse::default())
    }

    fn set_cluster_version(
        &mut self,
        request: &mut membershippb::ClusterVersionSetRequest,
        effects: &mut Vec<ApplyEffect>,
    ) -> Outcome {
        let Some(version) = ClusterVersion::parse(&request.ver) else {
            return Err(RequestError::Malformed {
                what: "cluster version",
            });
        };
        self.cluster_version = Some(version);
        let text = std::mem::take(&mut request.ver);
        let key = Bytes::from_static(meta::CLUSTER_VERSION);
        self.record(Bucket::Cluster, key, Some(Bytes::from(text.clone())));
        effects.push(ApplyEffect::ClusterVersionSet { version: text });
        Ok(Response::Empty)
    }

    fn set_downgrade(
        &mut self,
        request: &mut membershippb::DowngradeInfoSetRequest,
        effects: &mut Vec<ApplyEffect>,
    ) -> Outcome {
        let enabled = request.enabled;
        let target = if enabled {
            std::mem::take(&mut request.ver)
        } else {
            String::new()
        };
        let stored = downgrade::encode(enabled.then_some(&target));
        let key = Bytes::from_static(meta::DOWNGRADE);
        self.record(Bucket::Cluster, key, Some(stored));
        effects.push(ApplyEffect::DowngradeInfoSet { enabled, target });
        Ok(Response::Empty)
    }
}

impl RevokeRun {
    fn step(
        &mut self,
        writer: &mut Writer<'_>,
        budget: &mut Budget,
    ) -> Result<Option<()>, RequestError> {
        while let Some(lease) = writer.leases.get(self.id)
            && let Some(key) = lease.key_after(self.after.as_deref())
        {
            let key: Box<[u8]> = key.into();
            let attached = writer
                .reader()
                .get(&key)
                .is_some_and(|v| v.lease == self.id);
            if attached {
                let point = KeyRange::Point(Bytes::copy_from_slice(&key));
                writer.delete(&point, None, &mut Budget::new(1), |_, _| Ok(()))?;
            }
            self.after = Some(key);
            budget.spend(1);
            if budget.is_spent() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}

/// Fills the header of answers that have none yet with the revision after the entry.
fn with_revision(mut response: Response, revision: i64) -> Response {
    let header = || {
        Some(pb::ResponseHeader {
            revision,
            ..pb::ResponseHeader::default()
        })
    };
    match &mut response {
        Response::Compaction(r) => r.header = header(),
        Response::LeaseGrant(r) => r.header = header(),
        Response::LeaseRevoke(r) => r.header = header(),
        Response::LeaseCheckpoint(r) => r.header = header(),
        Response::Alarm(r) => r.header = header(),
        Response::Range(_)
        | Response::Put(_)
        | Response::DeleteRange(_)
        | Response::Txn(_)
        | Response::Empty => {}
    }
    response
}
