//! Transactions: plan, check, execute.
//!
//! A failing check refuses the whole transaction before its first change; the checks look at the state before it, as
//! the compares do. What is executed sees the changes of earlier operations.

use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

use super::txn_plan::{Planner, Step};
use super::write::{DeleteRun, Writer};
use super::{DecodeRun, RangeRun, Reader, RequestError};
use crate::types::Budget;

/// A transaction in progress.
#[derive(Debug)]
pub(crate) struct TxnRun {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Planning(Planner),
    Checking { plan: Vec<Step>, next: usize },
    Executing(Execution),
}

impl TxnRun {
    pub(crate) fn new(request: TxnRequest) -> Self {
        TxnRun {
            stage: Stage::Planning(Planner::new(request)),
        }
    }

    /// Does a slice; gives the answer once the transaction is whole.
    pub(crate) fn step(
        &mut self,
        writer: &mut Writer<'_>,
        budget: &mut Budget,
    ) -> Option<Result<TxnResponse, RequestError>> {
        loop {
            match &mut self.stage {
                Stage::Planning(planner) => {
                    let plan = match planner.step(writer.reader(), budget) {
                        Ok(plan) => plan?,
                        Err(error) => return Some(Err(error)),
                    };
                    self.stage = Stage::Checking { plan, next: 0 };
                }
                Stage::Checking { plan, next } => {
                    while let Some(step) = plan.get(*next) {
                        if let Err(error) = check(step, writer) {
                            return Some(Err(error));
                        }
                        *next += 1;
                        budget.spend(1);
                        if budget.is_spent() {
                            return None;
                        }
                    }
                    self.stage = Stage::Executing(Execution::new(std::mem::take(plan)));
                }
                Stage::Executing(execution) => return execution.step(writer, budget).transpose(),
            }
        }
    }
}

fn check(step: &Step, writer: &Writer<'_>) -> Result<(), RequestError> {
    match step {
        Step::Range(request) => check_range(request, writer.reader()),
        Step::Put(request) => writer.check_put(request),
        Step::Begin(_) | Step::Delete(_) | Step::Empty | Step::End => Ok(()),
    }
}

/// As etcd checks ranges of transactions: a negative revision counts as older than the compact revision, although a
/// plain range takes it as the newest one.
fn check_range(request: &RangeRequest, reader: Reader<'_>) -> Result<(), RequestError> {
    match request.revision {
        0 => {}
        future if future > reader.revision => return Err(RequestError::FutureRev),
        old if old < reader.compact_revision => return Err(RequestError::Compacted),
        _ => {}
    }
    // Also finds sort options that only a foreign proposer's entry can hold.
    RangeRun::new(request, reader).map(|_| ())
}

#[derive(Debug)]
enum Running {
    Range(Box<RangeRun>),
    Decode(DecodeRun),
    Delete(DeleteRun),
}

/// The steps of a checked plan, being executed.
#[derive(Debug)]
struct Execution {
    plan: std::vec::IntoIter<Step>,
    /// Answers of the transactions that are open, the innermost last.
    open: Vec<TxnResponse>,
    running: Option<Running>,
}

impl Execution {
    fn new(plan: Vec<Step>) -> Self {
        Execution {
            plan: plan.into_iter(),
            open: Vec::new(),
            running: None,
        }
    }

    /// Only damage of the store ends it early; the entry is half applied then and the member stops.
    fn step(
        &mut self,
        writer: &mut Writer<'_>,
        budget: &mut Budget,
    ) -> Result<Option<TxnResponse>, RequestError> {
        loop {
            if let Some(running) = &mut self.running {
                let response = match running {
                    Running::Range(run) => {
                        if let Some(answer) = run.step(writer.reader(), budget)? {
                            *running = Running::Decode(DecodeRun::new(answer));
                            continue;
                        }
                        None
                    }
                    Running::Decode(run) => run.step(budget).map(Response::ResponseRange),
                    Running::Delete(run) => {
                        run.step(writer, budget)?.map(Response::ResponseDeleteRange)
                    }
                };
                if response.is_none() {
                    return Ok(None);
                }
                self.running = None;
                self.answer(response);
            }
            if let Some(response) = self.advance(writer, budget)? {
                return Ok(Some(response));
            }
            if budget.is_spent() {
                return Ok(None);
            }
        }
    }

    /// Executes or begins the next step; answers at the end of the outermost transaction.
    fn advance(
        &mut self,
        writer: &mut Writer<'_>,
        budget: &mut Budget,
    ) -> Result<Option<TxnResponse>, RequestError> {
        budget.spend(1);
        let Some(step) = self.plan.next() else {
            return Ok(None);
        };
        match step {
            Step::Begin(succeeded) => self.open.push(TxnResponse {
                header: Some(ResponseHeader::default()),
                succeeded,
                responses: Vec::new(),
            }),
            Step::Range(request) => {
                let run = RangeRun::new(&request, writer.reader())?;
                self.running = Some(Running::Range(Box::new(run)));
            }
            Step::Put(request) => {
                let response = writer.put(&request)?;
                self.answer(Some(Response::ResponsePut(response)));
            }
            Step::Delete(request) => self.running = Some(Running::Delete(DeleteRun::new(&request))),
            Step::Empty => self.answer(None),
            Step::End => return Ok(self.close(writer)),
        }
        Ok(None)
    }

    fn answer(&mut self, response: Option<Response>) {
        if let Some(txn) = self.open.last_mut() {
            txn.responses.push(ResponseOp { response });
        }
    }

    /// Closes the innermost transaction. Only the outermost one's header carries a revision.
    fn close(&mut self, writer: &Writer<'_>) -> Option<TxnResponse> {
        let mut response = self.open.pop()?;
        if self.open.is_empty() {
            response.header = writer.change.header();
            return Some(response);
        }
        self.answer(Some(Response::ResponseTxn(response)));
        None
    }
}

/// Answers a transaction that holds only ranges, from one revision. Nested ones count as writes.
pub(crate) fn read_only(
    request: &TxnRequest,
    reader: Reader<'_>,
) -> Result<TxnResponse, RequestError> {
    let mut budget = Budget::unlimited();
    let mut planner = Planner::new(request.clone());
    let plan = planner.step(reader, &mut budget)?.unwrap_or_default();
    let mut response = TxnResponse {
        header: Some(ResponseHeader {
            revision: reader.revision,
            ..ResponseHeader::default()
        }),
        succeeded: false,
        responses: Vec::new(),
    };
    for step in &plan {
        match step {
            Step::Range(request) => check_range(request, reader)?,
            Step::Begin(succeeded) => response.succeeded = *succeeded,
            Step::End => {}
            Step::Put(_) | Step::Delete(_) | Step::Empty => {
                return Err(RequestError::Unsupported {
                    what: "a write in a read-only txn",
                });
            }
        }
    }
    for step in plan {
        let Step::Range(request) = step else { continue };
        let answer: Option<RangeResponse> = RangeRun::new(&request, reader)?
            .step(reader, &mut budget)?
            .map(super::RangeAnswer::into_response);
        response.responses.push(ResponseOp {
            response: answer.map(Response::ResponseRange),
        });
    }
    Ok(response)
}
