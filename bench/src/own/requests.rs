//! The requests of a load, encoded, and what their answers must say.

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, ResponseHeader};

use crate::load::{LIMIT, Load, Op, Order};

/// The first byte of each key, so that a load's keys are one prefix.
const PREFIX: u8 = b'k';
/// Behind all of them.
const PREFIX_END: u8 = PREFIX + 1;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// Any; the same in each run, so that runs are alike.
const SEED: u64 = 0x5eed_0000_e7c0_4e00;

/// Prime, so that steps of it reach every key of any space that is no multiple of it.
const STRIDE: u64 = 1_000_003;

/// Makes the requests of one load.
#[derive(Debug)]
pub(super) struct Requests {
    load: Load,
    value: Bytes,
    random: SplitMix,
    made_count: u64,
}

/// The fields of any KV response that are looked at; prost passes over the others.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    /// Of a range: how many keys there are, whatever the limit.
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

/// How many keys of `key_size_bytes` there can be, as far as a load may ask.
pub fn key_space_max(key_size_bytes: usize) -> u64 {
    let digits = u32::try_from(key_size_bytes.saturating_sub(1)).unwrap_or(u32::MAX);
    10_u64.checked_pow(digits).unwrap_or(u64::MAX)
}

impl Requests {
    pub(super) fn new(load: &Load) -> Self {
        let mut random = SplitMix(SEED);
        // Letters that do not compress to nothing, as etcd's tool sends.
        let value = (0..load.value_size_bytes).map(|_| b'!' + (random.next() % 90) as u8);
        Self {
            load: *load,
            value: value.collect(),
            random,
            made_count: 0,
        }
    }

    /// The method that is called.
    pub(super) fn path(&self) -> &'static str {
        match self.load.op {
            Op::Put | Op::Null => PUT,
            Op::Get | Op::Count | Op::Limit => RANGE,
        }
    }

    /// The next request's message.
    pub(super) fn make(&mut self) -> Bytes {
        let key_no = self.next_key_no();
        let prefix = || RangeRequest {
            key: Bytes::from_static(&[PREFIX]),
            range_end: Bytes::from_static(&[PREFIX_END]),
            ..RangeRequest::default()
        };
        match self.load.op {
            Op::Put | Op::Null => self.put(key_no),
            Op::Get => self.get(key_no),
            Op::Count => encode(&RangeRequest {
                count_only: true,
                ..prefix()
            }),
            Op::Limit => encode(&RangeRequest {
                limit: LIMIT,
                ..prefix()
            }),
        }
    }

    /// The next put and a read of the same key, each with its path, whatever the load's kind of request.
    pub(super) fn make_pair(&mut self) -> [(&'static str, Bytes); 2] {
        let key_no = self.next_key_no();
        [(PUT, self.put(key_no)), (RANGE, self.get(key_no))]
    }

    fn next_key_no(&mut self) -> u64 {
        let key_no = match self.load.order {
            Order::Sequential => self.made_count % self.load.key_space.max(1),
            Order::Random => self.random.next() % self.load.key_space.max(1),
            Order::Scattered => self.made_count.wrapping_mul(STRIDE) % self.load.key_space.max(1),
        };
        self.made_count += 1;
        key_no
    }

    fn put(&self, key_no: u64) -> Bytes {
        encode(&PutRequest {
            key: key(key_no, self.load.key_size_bytes),
            value: self.value.clone(),
            ..PutRequest::default()
        })
    }

    fn get(&self, key_no: u64) -> Bytes {
        encode(&RangeRequest {
            key: key(key_no, self.load.key_size_bytes),
            ..RangeRequest::default()
        })
    }

    /// The count that each answer must give, if any.
    pub(super) fn wanted_count(&self) -> Option<i64> {
        match self.load.op {
            Op::Put | Op::Null => None,
            Op::Get => Some(1),
            Op::Count | Op::Limit => i64::try_from(self.load.key_space).ok(),
        }
    }
}

/// `k` and the number in as many digits as the key has room for.
pub(crate) fn key(key_no: u64, key_size_bytes: usize) -> Bytes {
    let mut key = BytesMut::zeroed(key_size_bytes.max(1));
    key[0] = PREFIX;
    let mut rest = key_no;
    for digit in key[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key.freeze()
}

/// Path and message of a linearizable read of one key.
pub(super) fn point_read() -> (&'static str, Bytes) {
    let read = RangeRequest {
        key: Bytes::from_static(&[PREFIX]),
        ..RangeRequest::default()
    };
    (RANGE, encode(&read))
}

/// Path and message of a read whose answer carries the revision and no key.
pub(super) fn any_read() -> (&'static str, Bytes) {
    let read = RangeRequest {
        key: Bytes::from_static(&[PREFIX]),
        range_end: Bytes::from_static(&[PREFIX_END]),
        count_only: true,
        ..RangeRequest::default()
    };
    (RANGE, encode(&read))
}

/// Path and message of a compaction that is answered when it has been done, not when it was decided.
pub(super) fn compaction(revision: i64) -> (&'static str, Bytes) {
    let physical = CompactionRequest {
        revision,
        physical: true,
    };
    (COMPACT, encode(&physical))
}

fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

/// Steele, Lea and Flood's SplitMix64: enough to spread keys, and no dependency.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Extent;

    fn requests(op: Op, order: Order) -> Requests {
        Requests::new(&Load {
            op,
            order,
            key_space: 3,
            key_size_bytes: 4,
            value_size_bytes: 20,
            conn_count: 1,
            client_count: 1,
            warm_up: Extent::requests(0),
            measured: Extent::requests(1),
        })
    }

    #[test]
    fn keys_in_order_begin_again() {
        let mut puts = requests(Op::Put, Order::Sequential);
        let made: Vec<PutRequest> = (0..4)
            .map(|_| PutRequest::decode(puts.make()).unwrap())
            .collect();
        let keys: Vec<&[u8]> = made.iter().map(|put| put.key.as_ref()).collect();
        assert_eq!(keys, [b"k000", b"k001", b"k002", b"k000"]);
        assert!(made.iter().all(|put| put.value.len() == 20));
        assert!(puts.wanted_count().is_none());
    }

    #[test]
    fn scattered_keys_come_once_each() {
        let mut puts = requests(Op::Put, Order::Scattered);
        let made = (0..3).map(|_| PutRequest::decode(puts.make()).unwrap().key);
        let mut keys: Vec<Bytes> = made.collect();
        keys.sort_unstable();
        assert_eq!(keys, ["k000", "k001", "k002"].map(Bytes::from));
    }

    #[test]
    fn random_keys_stay_in_the_space_and_repeat_with_the_seed() {
        let keys = || -> Vec<Bytes> {
            let mut gets = requests(Op::Get, Order::Random);
            (0..100)
                .map(|_| RangeRequest::decode(gets.make()).unwrap().key)
                .collect()
        };
        let (first, second) = (keys(), keys());
        assert_eq!(first, second);
        for key in [b"k000", b"k001", b"k002"] {
            assert!(first.iter().any(|k| k == key.as_slice()));
        }
        assert!(first.iter().all(|key| key.as_ref() < b"k003".as_slice()));
    }

    #[test]
    fn ranges_cover_the_prefix() {
        let mut counts = requests(Op::Count, Order::Random);
        let count = RangeRequest::decode(counts.make()).unwrap();
        assert!(count.count_only && count.key.as_ref() == b"k" && count.range_end.as_ref() == b"l");
        assert_eq!(counts.wanted_count(), Some(3));
        let limit = RangeRequest::decode(requests(Op::Limit, Order::Random).make()).unwrap();
        assert_eq!(limit.limit, LIMIT);
        assert!(!limit.count_only);
    }

    #[test]
    fn a_pair_is_of_one_key() {
        let mut pairs = requests(Op::Put, Order::Random);
        for _ in 0..20 {
            let [(put_path, put), (get_path, get)] = pairs.make_pair();
            assert_eq!((put_path, get_path), (PUT, RANGE));
            let put = PutRequest::decode(put).unwrap();
            let get = RangeRequest::decode(get).unwrap();
            assert_eq!(put.key, get.key);
            assert_eq!((put.value.len(), get.range_end.len()), (20, 0));
        }
    }

    #[test]
    fn a_compaction_waits_for_its_end() {
        let (path, request) = compaction(7);
        assert_eq!(path, COMPACT);
        let request = CompactionRequest::decode(request).unwrap();
        assert_eq!((request.revision, request.physical), (7, true));
    }

    #[test]
    fn an_answer_is_read_from_any_response() {
        use proto::etcdserverpb::{PutResponse, RangeResponse};
        let header = Some(ResponseHeader {
            revision: 7,
            ..ResponseHeader::default()
        });
        let put = PutResponse {
            header,
            ..PutResponse::default()
        };
        let answer = Answer::decode(encode(&put)).unwrap();
        assert_eq!((answer.header, answer.count), (header, 0));
        let range = RangeResponse {
            header,
            count: 9,
            more: true,
            ..RangeResponse::default()
        };
        let answer = Answer::decode(encode(&range)).unwrap();
        assert_eq!((answer.header, answer.count), (header, 9));
    }

    #[test]
    fn room_for_keys() {
        assert_eq!(key_space_max(1), 1);
        assert_eq!(key_space_max(8), 10_000_000);
        assert_eq!(key_space_max(1_000), u64::MAX);
    }
}
