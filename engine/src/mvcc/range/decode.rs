//! From an answer to a message, in slices.

use bytes::Bytes;
use proto::etcdserverpb::{RangeResponse, ResponseHeader};

use super::RangeAnswer;
use crate::mvcc::pair::decode;
use crate::types::Budget;

/// Turns an answer into a message, in slices.
#[derive(Debug)]
pub(crate) struct DecodeRun {
    pairs: std::vec::IntoIter<Bytes>,
    response: RangeResponse,
}

impl DecodeRun {
    pub(crate) fn new(answer: RangeAnswer) -> Self {
        let RangeAnswer {
            kvs,
            more,
            count,
            revision,
        } = answer;
        let header = Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        });
        let room = Vec::with_capacity(kvs.len());
        let response = RangeResponse {
            header,
            kvs: room,
            more,
            count,
        };
        DecodeRun {
            pairs: kvs.into_iter(),
            response,
        }
    }

    /// Does a slice; gives the message once it is whole.
    pub(crate) fn step(&mut self, budget: &mut Budget) -> Option<RangeResponse> {
        for pair in self.pairs.by_ref() {
            self.response.kvs.push(decode(&pair));
            budget.spend(1);
            if budget.is_spent() {
                return None;
            }
        }
        Some(std::mem::take(&mut self.response))
    }
}
