//! Turning results into the bytes of a response message.
//!
//! A range answer is written straight from the stored, already encoded pairs; everything else is small and goes
//! through the generated types.

use bytes::Bytes;
use engine::mvcc::RangeAnswer;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use proto::etcdserverpb::ResponseHeader;

/// Field numbers of `RangeResponse`.
mod range_field {
    pub(super) const HEADER: u32 = 1;
    pub(super) const KVS: u32 = 2;
    pub(super) const MORE: u32 = 3;
    pub(super) const COUNT: u32 = 4;
}

/// Encodes `RangeResponse { header, kvs, more, count }`.
pub(crate) fn range_response(header: &ResponseHeader, answer: &RangeAnswer) -> Bytes {
    let mut out = Vec::with_capacity(range_response_len(header, answer));
    prost::encoding::message::encode(range_field::HEADER, header, &mut out);
    for pair in &answer.kvs {
        encode_key(range_field::KVS, WireType::LengthDelimited, &mut out);
        encode_varint(pair.len() as u64, &mut out);
        out.extend_from_slice(pair);
    }
    if answer.more {
        prost::encoding::bool::encode(range_field::MORE, &true, &mut out);
    }
    if answer.count != 0 {
        prost::encoding::int64::encode(range_field::COUNT, &answer.count, &mut out);
    }
    out.into()
}

fn range_response_len(header: &ResponseHeader, answer: &RangeAnswer) -> usize {
    let pairs: usize = answer
        .kvs
        .iter()
        .map(|pair| key_len(range_field::KVS) + encoded_len_varint(pair.len() as u64) + pair.len())
        .sum();
    let more = if answer.more {
        key_len(range_field::MORE) + 1
    } else {
        0
    };
    let count = if answer.count == 0 {
        0
    } else {
        prost::encoding::int64::encoded_len(range_field::COUNT, &answer.count)
    };
    prost::encoding::message::encoded_len(range_field::HEADER, header) + pairs + more + count
}

/// Encodes a small message.
pub(crate) fn message(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::RangeResponse;
    use proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn a_range_answer_decodes_as_the_message_it_claims_to_be() {
        let pair = |key: &'static str, len: usize| KeyValue {
            key: key.into(),
            value: vec![7; len].into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: -5,
        };
        let pairs = vec![pair("a", 0), pair("b", 300)];
        let header = ResponseHeader {
            cluster_id: 1,
            member_id: u64::MAX,
            revision: 9,
            raft_term: 2,
        };
        for (more, count) in [(true, 77), (false, 0)] {
            let answer = RangeAnswer {
                kvs: pairs.iter().map(|p| p.encode_to_vec().into()).collect(),
                more,
                count,
                revision: 9,
            };
            let bytes = range_response(&header, &answer);
            assert_eq!(bytes.len(), range_response_len(&header, &answer));
            let decoded = RangeResponse::decode(bytes).expect("a RangeResponse");
            let expected = RangeResponse {
                header: Some(header),
                kvs: pairs.clone(),
                more,
                count,
            };
            assert_eq!(decoded, expected);
        }
    }
}
