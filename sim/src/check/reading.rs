//! What a reader saw under a pin or over slices is what was published at the revision it read.

use std::ops::RangeInclusive;

use bytes::Bytes;
use engine::backend::{KeyChange, PairRef};
use engine::mvcc::{self, RangeSize, RequestError};
use engine::view::Changes;
use prost::Message as _;
use proto::etcdserverpb::range_request::SortOrder;
use proto::etcdserverpb::{RangeRequest, RangeResponse};
use proto::mvccpb::KeyValue;

use super::Violation;
use crate::history::{Change, Published};

/// Every key at `revision`, read one after the other.
///
/// # Errors
/// The first difference.
pub fn all(
    published: &Published,
    revision: i64,
    pairs: &[Bytes],
    count: i64,
) -> Result<(), Violation> {
    compare(revision, &published.all(revision), pairs)?;
    match count == pairs.len() as i64 {
        true => Ok(()),
        false => Err(format!(
            "{count} keys were promised at revision {revision}, {} came",
            pairs.len()
        )),
    }
}

/// The answer to a range over all keys; `size` is its count and whether there is more.
///
/// # Errors
/// The first difference.
pub fn range(
    published: &Published,
    request: &RangeRequest,
    pairs: &[Bytes],
    size: (i64, bool),
) -> Result<(), Violation> {
    let mut expected = published.all(request.revision);
    let count = expected.len();
    if request.sort_order == SortOrder::Descend as i32 {
        expected.reverse();
    }
    if request.limit > 0 {
        expected.truncate(request.limit as usize);
    }
    compare(request.revision, &expected, pairs)?;
    let expected_size = (count as i64, count > expected.len());
    match size == expected_size {
        true => Ok(()),
        false => Err(format!(
            "count and more of {request:?} are {size:?}, not {expected_size:?}"
        )),
    }
}

fn compare(revision: i64, expected: &[&KeyValue], pairs: &[Bytes]) -> Result<(), Violation> {
    let seen: Vec<KeyValue> = pairs.iter().map(mvcc::decode).collect();
    match seen.iter().eq(expected.iter().copied()) {
        true => Ok(()),
        false => Err(format!(
            "at revision {revision} a reader saw {seen:?}, published was {expected:?}"
        )),
    }
}

/// A stream's promise is kept to the byte.
///
/// # Errors
/// If it is not.
pub fn stream_size(size: &RangeSize, pairs: &[Bytes]) -> Result<(), Violation> {
    let kvs = pairs.iter().map(mvcc::decode).collect();
    let response = RangeResponse {
        kvs,
        ..RangeResponse::default()
    };
    match (size.kvs_len, size.kv_count) == (response.encoded_len(), pairs.len()) {
        true => Ok(()),
        false => Err(format!(
            "a stream promised {size:?} and sent {} pairs of {} bytes",
            pairs.len(),
            response.encoded_len()
        )),
    }
}

/// The number of keys that a state says it has.
///
/// # Errors
/// If it is another one.
pub fn key_count(published: &Published, revision: i64, count: usize) -> Result<(), Violation> {
    let expected = published.all(revision).len();
    match count == expected {
        true => Ok(()),
        false => Err(format!(
            "revision {revision} has {expected} keys, a reader was told {count}"
        )),
    }
}

/// Every key that ever was, with what stood there at `revision`.
pub fn points(
    published: &Published,
    revision: i64,
) -> impl Iterator<Item = (&Bytes, Option<&KeyValue>)> {
    let keys = published.keys();
    keys.map(move |key| (key, published.get(key, revision)))
}

/// One key, looked up by itself.
///
/// # Errors
/// If it differs.
pub fn pair(
    expected: Option<&KeyValue>,
    key: &Bytes,
    revision: i64,
    pair: Result<Option<PairRef<'_>>, RequestError>,
) -> Result<(), Violation> {
    let pair = pair.map_err(|e| format!("{key:?} at revision {revision}: {e}"))?;
    let seen = pair.map(|pair| mvcc::decode(&pair.to_bytes()));
    match seen.as_ref() == expected {
        true => Ok(()),
        false => Err(format!(
            "{key:?} at revision {revision} is {seen:?} for a reader, published was {expected:?}"
        )),
    }
}

/// The changes of these revisions, as a watch would read them.
///
/// # Errors
/// The first difference.
pub fn changes(
    published: &Published,
    revisions: RangeInclusive<i64>,
    seen: Changes<'_>,
) -> Result<(), Violation> {
    let expected = revisions.clone().flat_map(|revision| {
        let changes = published.changes(revision).unwrap_or_default();
        changes.iter().map(move |change| (revision, change.clone()))
    });
    let told = |change: KeyChange<'_>| {
        let told = Change {
            sub: change.revision.sub,
            tombstone: change.tombstone,
            pair: change.pair.to_bytes(),
        };
        (change.revision.main, told)
    };
    let seen: Result<Vec<_>, _> = seen.map(|change| change.map(told)).collect();
    let seen = seen.map_err(|e| format!("the changes of {revisions:?}: {e}"))?;
    match seen.into_iter().eq(expected) {
        true => Ok(()),
        false => Err(format!(
            "the changes of {revisions:?} are not those that were published"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: "v".into(),
            lease: 0,
        }
    }

    fn encoded(kvs: &[KeyValue]) -> Vec<Bytes> {
        kvs.iter().map(|kv| kv.encode_to_vec().into()).collect()
    }

    /// Revision 2 puts `a`, 3 puts `b`, 4 deletes `a`.
    fn published() -> Published {
        let mut published = Published::default();
        let deleted = KeyValue {
            key: "a".into(),
            ..KeyValue::default()
        };
        for (kv, tombstone) in [(kv("a", 2), false), (kv("b", 3), false), (deleted, true)] {
            published.push(vec![Change {
                sub: 0,
                tombstone,
                pair: kv.encode_to_vec().into(),
            }]);
        }
        published
    }

    #[test]
    fn a_list_is_of_its_revision_alone() {
        let published = published();
        let both = encoded(&[kv("a", 2), kv("b", 3)]);
        assert!(all(&published, 3, &both, 2).is_ok());
        assert!(all(&published, 4, &both, 2).is_err(), "too old");
        assert!(all(&published, 3, &both[..1], 1).is_err(), "one is missing");
        assert!(all(&published, 3, &both, 3).is_err(), "one was promised");
        let other = encoded(&[kv("a", 2), kv("b", 4)]);
        assert!(all(&published, 3, &other, 2).is_err(), "another version");
        assert!(key_count(&published, 4, 1).is_ok() && key_count(&published, 4, 2).is_err());
    }

    #[test]
    fn limits_and_orders_count() {
        let published = published();
        let request = RangeRequest {
            revision: 3,
            limit: 1,
            sort_order: SortOrder::Descend as i32,
            ..RangeRequest::default()
        };
        let (first, last) = (encoded(&[kv("a", 2)]), encoded(&[kv("b", 3)]));
        assert!(range(&published, &request, &last, (2, true)).is_ok());
        assert!(range(&published, &request, &first, (2, true)).is_err());
        assert!(range(&published, &request, &last, (1, true)).is_err());
        assert!(range(&published, &request, &last, (2, false)).is_err());
    }

    #[test]
    fn single_keys_and_promised_lengths_are_compared() {
        let published = published();
        let kept = encoded(&[kv("a", 2)]);
        let expected: Vec<_> = points(&published, 3)
            .map(|(key, kv)| (key, kv.is_some()))
            .collect();
        assert_eq!(expected, [(&"a".into(), true), (&"b".into(), true)]);
        let key = Bytes::from("a");
        assert!(
            pair(
                published.get(&key, 3),
                &key,
                3,
                Ok(kept.first().map(PairRef::Shared))
            )
            .is_ok()
        );
        assert!(
            pair(
                published.get(&key, 4),
                &key,
                4,
                Ok(kept.first().map(PairRef::Shared))
            )
            .is_err()
        );
        assert!(pair(published.get(&key, 3), &key, 3, Ok(None)).is_err());
        let size = RangeSize {
            kv_count: 1,
            kvs_len: 2 + kept[0].len(),
            ..RangeSize::default()
        };
        assert!(stream_size(&size, &kept).is_ok() && stream_size(&size, &[]).is_err());
    }
}
