//! HashKV: a checksum over the key bucket, equal on members with equal history.
//!
//! CRC-32C over the bucket's name, then key and value of every pair up to the revision, in revision order. Pairs at or
//! below the compact revision count only if a compaction at the hashed revision would keep them, so that it does not
//! matter how far a member's sweep got. If it would keep nothing at all, etcd counts whatever is still stored; here
//! that is what the finished compaction leaves.

use super::pair::key_in;
use super::{Kv, Reader, RequestError};
use crate::tail::Bucket;
use crate::types::{Budget, Revision};

/// The checksum under construction.
#[derive(Clone, Debug)]
pub(super) struct KvHasher {
    crc: u32,
}

impl KvHasher {
    pub(super) fn new() -> Self {
        KvHasher {
            crc: crc32c::crc32c(Bucket::Key.name().as_bytes()),
        }
    }

    pub(super) fn write(&mut self, revision: Revision, tombstone: bool, pair: &[u8]) {
        let key = revision.to_bucket_key(tombstone);
        self.crc = crc32c::crc32c_append(self.crc, key.as_bytes());
        self.crc = crc32c::crc32c_append(self.crc, pair);
    }

    pub(super) fn finish(&self) -> u32 {
        self.crc
    }
}

/// An answer to HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The revision that was hashed.
    pub hash_revision: i64,
    /// Compact revision that the hash was made at.
    pub compact_revision: i64,
    /// Newest revision: the header's.
    pub revision: i64,
}

/// A HashKV in progress. It holds a revision, not a state: each slice takes the newest one.
#[derive(Debug)]
pub struct HashRun {
    revision: i64,
    /// Compact revision that the hash so far was made at; a later compaction begins it anew.
    compacted: i64,
    any_kept: bool,
    /// Everything before it is hashed.
    next: Revision,
    hasher: KvHasher,
}

impl HashRun {
    /// Begins the hash at `revision`, 0 meaning the newest.
    ///
    /// # Errors
    /// [`RequestError::Compacted`] below the compact revision, [`RequestError::FutureRev`] above the newest.
    pub fn new(revision: i64, reader: Reader<'_>) -> Result<Self, RequestError> {
        if revision > 0 && revision < reader.compact_revision {
            return Err(RequestError::Compacted);
        }
        if revision > reader.revision {
            return Err(RequestError::FutureRev);
        }
        let revision = if revision == 0 {
            reader.revision
        } else {
            revision
        };
        Ok(HashRun {
            revision,
            compacted: reader.compact_revision,
            any_kept: reader.index.any_live(revision),
            next: Revision::default(),
            hasher: KvHasher::new(),
        })
    }

    /// Does a slice; `None` while there is more to do.
    ///
    /// # Errors
    /// [`RequestError::Compacted`] if the revision was compacted meanwhile; [`RequestError::Damaged`].
    pub fn step(
        &mut self,
        reader: Reader<'_>,
        budget: &mut Budget,
    ) -> Result<Option<HashKv>, RequestError> {
        if reader.compact_revision != self.compacted {
            *self = HashRun::new(self.revision, reader)?;
        }
        let mut pairs = reader.walk(self.next);
        while let Some(found) = pairs.next()? {
            if found.revision.main > self.revision {
                break;
            }
            self.next = Revision::new(found.revision.main, found.revision.sub + 1);
            budget.spend(1);
            let pair = found.pair.get();
            if self.counts(reader, found.revision, found.tombstone, pair) {
                self.hasher.write(found.revision, found.tombstone, pair);
            }
            if budget.is_spent() {
                return Ok(None);
            }
        }
        Ok(Some(HashKv {
            hash: self.hasher.finish(),
            hash_revision: self.revision,
            compact_revision: self.compacted,
            revision: reader.revision,
        }))
    }

    fn counts(&self, reader: Reader<'_>, revision: Revision, tombstone: bool, pair: &[u8]) -> bool {
        if revision.main > self.compacted {
            return true;
        }
        // Kept is what is newest for its key: at the hashed revision, or at the compact one if that keeps nothing.
        let at = if self.any_kept {
            self.revision
        } else {
            self.compacted
        };
        let newest = reader.index.get(key_in(pair).unwrap_or_default(), at);
        !tombstone && newest.is_some_and(|newest| newest.revision == revision)
    }
}

impl Kv {
    /// The hash of a compaction to exactly `revision`, if it is still remembered; asked before a [`HashRun`].
    pub(crate) fn remembered_hash(&self, revision: i64) -> Option<HashKv> {
        let found = self
            .compactor
            .hashes()
            .find(|hash| hash.revision == revision)?;
        Some(HashKv {
            hash: found.hash,
            hash_revision: found.revision,
            compact_revision: found.compact_revision,
            revision: self.revision,
        })
    }
}
