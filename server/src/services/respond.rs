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

/// The one field of `RangeStreamResponse`.
const RANGE_STREAM_RESPONSE: u32 = 1;

/// Encodes `RangeResponse { header, kvs, more, count }` if it takes at most `len_max` bytes.
pub(crate) fn small_range_response(
    header: &ResponseHeader,
    answer: &RangeAnswer,
    len_max: usize,
) -> Option<Bytes> {
    let len = range_response_len(header, answer);
    if len > len_max {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    put_range_head(header, &mut out);
    for pair in &answer.kvs {
        encode_key(range_field::KVS, WireType::LengthDelimited, &mut out);
        encode_varint(pair.len() as u64, &mut out);
        out.extend_from_slice(pair);
    }
    put_range_tail(answer.more, answer.count, &mut out);
    Some(out.into())
}

fn range_response_len(header: &ResponseHeader, answer: &RangeAnswer) -> usize {
    let pairs = answer.kvs.iter().map(|pair| pair_field_len(pair.len()));
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
    let head = prost::encoding::message::encoded_len(range_field::HEADER, header);
    head + pairs.sum::<usize>() + more + count
}

fn put_range_head(header: &ResponseHeader, out: &mut Vec<u8>) {
    prost::encoding::message::encode(range_field::HEADER, header, out);
}

fn put_range_tail(more: bool, count: i64, out: &mut Vec<u8>) {
    if more {
        prost::encoding::bool::encode(range_field::MORE, &true, out);
    }
    if count != 0 {
        prost::encoding::int64::encode(range_field::COUNT, &count, out);
    }
}

/// What stands before the pairs of a `RangeResponse`.
pub(super) fn range_head(header: &ResponseHeader) -> Vec<u8> {
    let mut out = Vec::new();
    put_range_head(header, &mut out);
    out
}

/// What stands behind them.
pub(super) fn range_tail(more: bool, count: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_range_tail(more, count, &mut out);
    out
}

/// The length of one `kvs` field around a pair.
pub(super) fn pair_field_len(pair_len: usize) -> usize {
    key_len(range_field::KVS) + encoded_len_varint(pair_len as u64) + pair_len
}

/// The tag and length of one `kvs` field, and how many bytes they take.
pub(super) fn pair_prefix(pair_len: usize) -> ([u8; PAIR_PREFIX_LEN_MAX], usize) {
    let mut prefix = [0; PAIR_PREFIX_LEN_MAX];
    let mut rest = &mut prefix[..];
    encode_key(range_field::KVS, WireType::LengthDelimited, &mut rest);
    encode_varint(pair_len as u64, &mut rest);
    let left = rest.len();
    (prefix, PAIR_PREFIX_LEN_MAX - left)
}

/// A tag of one byte and a varint.
const PAIR_PREFIX_LEN_MAX: usize = 1 + 10;

/// What stands before the `RangeResponse` of `len` bytes in a `RangeStreamResponse`.
pub(super) fn range_stream_prefix(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(RANGE_STREAM_RESPONSE, WireType::LengthDelimited, &mut out);
    encode_varint(len as u64, &mut out);
    out
}

/// Encodes a small message.
pub(crate) fn message(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{RangeResponse, RangeStreamResponse};
    use proto::mvccpb::KeyValue;

    use super::*;

    /// The same answer as a streamed one is put together.
    fn in_pieces(header: &ResponseHeader, answer: &RangeAnswer) -> Vec<u8> {
        let mut out = range_head(header);
        for pair in &answer.kvs {
            let (prefix, len) = pair_prefix(pair.len());
            out.extend_from_slice(&prefix[..len]);
            assert_eq!(len + pair.len(), pair_field_len(pair.len()));
            out.extend_from_slice(pair);
        }
        out.extend(range_tail(answer.more, answer.count));
        out
    }

    #[test]
    fn a_streamed_part_decodes_as_the_message_it_claims_to_be() {
        let part = RangeResponse {
            count: 5,
            ..RangeResponse::default()
        };
        let mut bytes = range_stream_prefix(part.encoded_len());
        bytes.extend(part.encode_to_vec());
        let decoded = RangeStreamResponse::decode(&bytes[..]).expect("a RangeStreamResponse");
        assert_eq!(decoded.range_response, Some(part));
    }

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
            let len = range_response_len(&header, &answer);
            assert_eq!(small_range_response(&header, &answer, len - 1), None);
            let bytes = small_range_response(&header, &answer, len).expect("small enough");
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes, in_pieces(&header, &answer));
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
