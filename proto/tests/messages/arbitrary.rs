//! Bytes of peers, clients and disks may be anything: decoding answers or refuses, never panics.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost::bytes::Bytes;

use crate::{golden, types};

/// Far more levels than any message of etcd's own clients and members has.
const LEVELS: usize = 100_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn noise_is_answered_or_refused(noise in vec(any::<u8>(), 0..300)) {
        let noise = Bytes::from(noise);
        for recode in types::recoders().values() {
            let _ = recode(noise.clone());
        }
    }

    /// Valid messages with a few bytes changed and an end cut off get further than noise.
    #[test]
    fn damage_is_answered_or_refused(
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
        kept in any::<Index>(),
    ) {
        let recoders = types::recoders();
        for vector in golden::vectors("etcd-3.7.1.vectors") {
            let mut bytes = vector.bytes.to_vec();
            if bytes.is_empty() {
                continue;
            }
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = recoders[&vector.name](bytes.clone().into());
            bytes.truncate(kept.index(bytes.len()));
            let _ = recoders[&vector.name](bytes.into());
        }
    }
}

/// A length far above what follows is refused before anything of that length is allocated.
#[test]
fn lengths_beyond_the_end_are_refused() {
    let entry = proto::raftpb::Entry::decode(&b"\x22\xff\xff\xff\xff\xff\x7f\x00"[..]);
    assert!(entry.is_err());
    let packed = proto::raftpb::ConfState::decode(&b"\x0a\xff\xff\xff\xff\x7f\x00"[..]);
    assert!(packed.is_err());
}

/// Recursive messages are refused at a fixed depth instead of ending the stack.
#[test]
fn deep_nesting_is_refused() {
    // raftpb.Message.responses within itself, and TxnRequest.success.request_txn.
    assert!(proto::raftpb::Message::decode(nested(&[14], LEVELS).as_slice()).is_err());
    assert!(proto::etcdserverpb::TxnRequest::decode(nested(&[2, 4], LEVELS).as_slice()).is_err());
}

#[test]
fn moderate_nesting_is_read() {
    let message = proto::raftpb::Message::decode(nested(&[14], 90).as_slice());
    assert!(message.is_ok(), "{message:?}");
    let txn = proto::etcdserverpb::TxnRequest::decode(nested(&[2, 4], 45).as_slice());
    assert!(txn.is_ok(), "{txn:?}");
}

/// `levels` times the fields in `path` around an empty message.
fn nested(path: &[u32], levels: usize) -> Vec<u8> {
    // Built from the inside out, with each prefix reversed.
    let mut reversed: Vec<u8> = Vec::new();
    for _ in 0..levels {
        for number in path.iter().rev() {
            let mut prefix = Vec::new();
            prost::encoding::encode_key(
                *number,
                prost::encoding::WireType::LengthDelimited,
                &mut prefix,
            );
            prost::encoding::encode_varint(reversed.len() as u64, &mut prefix);
            reversed.extend(prefix.iter().rev());
        }
    }
    reversed.reverse();
    reversed
}
