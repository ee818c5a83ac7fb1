//! One change of the backend, as bucket, key and value.

use std::borrow::Cow;

use bytes::Bytes;

use crate::types::Revision;

/// The top-level buckets of the database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    Alarm,
    Auth,
    AuthRoles,
    AuthUsers,
    Cluster,
    Key,
    Lease,
    Members,
    MembersRemoved,
    Meta,
}

impl Bucket {
    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Bucket::Alarm => "alarm",
            Bucket::Auth => "auth",
            Bucket::AuthRoles => "authRoles",
            Bucket::AuthUsers => "authUsers",
            Bucket::Cluster => "cluster",
            Bucket::Key => "key",
            Bucket::Lease => "lease",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
            Bucket::Meta => "meta",
        }
    }
}

/// Keys of bucket `meta` and `cluster` that the state machine writes.
pub mod meta {
    pub const SCHEDULED_COMPACT_REV: &[u8] = b"scheduledCompactRev";
    pub const FINISHED_COMPACT_REV: &[u8] = b"finishedCompactRev";
    /// In bucket `cluster`.
    pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
    /// In bucket `cluster`.
    pub const DOWNGRADE: &[u8] = b"downgrade";
}

/// A change of the backend. Consistent index and term are no mutations: a checkpoint adds those of the entry it seals.
///
/// Nearly all are pairs, and each takes a slot of the tail, so the others are kept apart from their slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A put of bucket `key`; its key is `revision`, marked if it is a tombstone.
    Pair {
        revision: Revision,
        tombstone: bool,
        /// Encoded `mvccpb.KeyValue`; a tombstone's has only the key.
        pair: Bytes,
    },
    /// A change of any other bucket.
    Record(Box<Record>),
}

/// See [`Mutation::Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub bucket: Bucket,
    pub key: Bytes,
    /// `None` deletes the key.
    pub value: Option<Bytes>,
}

// A slot is not larger than a cache line.
const _: () = assert!(size_of::<std::sync::OnceLock<Mutation>>() <= 64);

impl Mutation {
    pub fn put(bucket: Bucket, key: Bytes, value: Bytes) -> Self {
        let value = Some(value);
        Mutation::Record(Box::new(Record { bucket, key, value }))
    }

    pub fn delete(bucket: Bucket, key: Bytes) -> Self {
        let value = None;
        Mutation::Record(Box::new(Record { bucket, key, value }))
    }

    pub fn bucket(&self) -> Bucket {
        match self {
            Mutation::Pair { .. } => Bucket::Key,
            Mutation::Record(record) => record.bucket,
        }
    }

    /// The key inside the bucket.
    pub fn key(&self) -> Cow<'_, [u8]> {
        match self {
            Mutation::Pair {
                revision,
                tombstone,
                ..
            } => Cow::Owned(revision.to_bucket_key(*tombstone).as_bytes().to_vec()),
            Mutation::Record(record) => Cow::Borrowed(&record.key),
        }
    }

    /// The value to put, or `None` for a delete.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Mutation::Pair { pair, .. } => Some(pair),
            Mutation::Record(record) => record.value.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_put_of_bucket_key() {
        let pair = Mutation::Pair {
            revision: Revision::new(2, 0),
            tombstone: true,
            pair: Bytes::from_static(b"v"),
        };
        assert_eq!(pair.bucket().name(), "key");
        assert_eq!(pair.key().as_ref(), b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0t");
        assert_eq!(pair.value().map(|v| v.as_ref()), Some(&b"v"[..]));
    }

    #[test]
    fn a_delete_has_no_value() {
        let delete = Mutation::delete(Bucket::Alarm, Bytes::from_static(b"k"));
        assert_eq!((delete.bucket(), delete.value()), (Bucket::Alarm, None));
        assert_eq!(delete.key().as_ref(), b"k");
    }
}
