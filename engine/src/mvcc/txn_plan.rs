//! Which branches a transaction takes, decided before anything is executed.
//!
//! All compares, those of nested transactions included, look at the state before the outer transaction. So the whole
//! tree can be flattened at once into the steps of the branches taken:
//!
//! ```text
//!   txn(ok){ put a, txn(not ok){ .. | delete b }, range c }
//!   => Begin(true) Put(a) Begin(false) Delete(b) End Range(c) End
//! ```

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::compare::CompareRun;
use super::{Reader, RequestError};
use crate::types::Budget;

/// One step of a flattened transaction.
#[derive(Debug)]
pub(super) enum Step {
    /// A transaction begins, with its compares holding or not.
    Begin(bool),
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    /// An operation that is not set; only an entry of a foreign proposer can hold one.
    Empty,
    /// The innermost transaction ends.
    End,
}

/// Builds the plan in slices.
#[derive(Debug)]
pub(super) struct Planner {
    frames: Vec<Frame>,
    plan: Vec<Step>,
}

#[derive(Debug)]
enum Frame {
    Deciding(Decision),
    Expanding(std::vec::IntoIter<RequestOp>),
}

/// The compares of one transaction in progress.
#[derive(Debug)]
struct Decision {
    compares: std::vec::IntoIter<Compare>,
    current: Option<(Compare, CompareRun)>,
    success: Vec<RequestOp>,
    failure: Vec<RequestOp>,
}

impl Decision {
    fn new(request: TxnRequest) -> Self {
        let mut compares = request.compare.into_iter();
        let current = compares
            .next()
            .map(|compare| (compare, CompareRun::default()));
        Decision {
            compares,
            current,
            success: request.success,
            failure: request.failure,
        }
    }

    /// Whether all compares hold; `None` while the budget does not suffice to tell.
    fn step(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Result<Option<bool>, RequestError> {
        while let Some((compare, run)) = &mut self.current {
            match run.step(compare, reader, budget)? {
                Some(true) => {}
                failed_or_more => return Ok(failed_or_more),
            }
            self.current = self
                .compares
                .next()
                .map(|compare| (compare, CompareRun::default()));
        }
        Ok(Some(true))
    }
}

impl Planner {
    pub(super) fn new(request: TxnRequest) -> Self {
        Planner {
            frames: vec![Frame::Deciding(Decision::new(request))],
            plan: Vec::new(),
        }
    }

    /// Does a slice on the state before the transaction; gives the plan once it is whole.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub(super) fn step(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Vec<Step>>, RequestError> {
        while let Some(frame) = self.frames.last_mut() {
            match frame {
                Frame::Deciding(decision) => {
                    let Some(succeeded) = decision.step(reader, budget)? else {
                        return Ok(None);
                    };
                    let ops = match succeeded {
                        true => std::mem::take(&mut decision.success),
                        false => std::mem::take(&mut decision.failure),
                    };
                    self.plan.push(Step::Begin(succeeded));
                    *frame = Frame::Expanding(ops.into_iter());
                }
                Frame::Expanding(ops) => match ops.next() {
                    Some(op) => self.expand(op),
                    None => {
                        self.plan.push(Step::End);
                        self.frames.pop();
                    }
                },
            }
        }
        Ok(Some(std::mem::take(&mut self.plan)))
    }

    fn expand(&mut self, op: RequestOp) {
        self.plan.push(match op.request {
            Some(Request::RequestTxn(txn)) => {
                self.frames.push(Frame::Deciding(Decision::new(txn)));
                return;
            }
            Some(Request::RequestRange(range)) => Step::Range(range),
            Some(Request::RequestPut(put)) => Step::Put(put),
            Some(Request::RequestDeleteRange(delete)) => Step::Delete(delete),
            None => Step::Empty,
        });
    }
}
