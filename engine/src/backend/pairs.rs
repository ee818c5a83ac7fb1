//! Where a pair is read: in the tail, or in the mapped store.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::Damage;
use crate::index::Version;
use crate::mvcc::{Pair, RequestError};
use crate::store::{Cursor, Pages, Tree, TreeReader};
use crate::tail::{Bucket, Mutation, TailPosition, TailView};
use crate::types::Revision;

/// An encoded `mvccpb.KeyValue`, where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairRef<'a> {
    /// In the tail, shared with whoever keeps it.
    Shared(&'a Bytes),
    /// In the mapped file: to be copied by whoever keeps it.
    Mapped(&'a [u8]),
}

impl<'a> PairRef<'a> {
    /// The bytes, for as long as the state is borrowed.
    pub fn get(self) -> &'a [u8] {
        match self {
            PairRef::Shared(bytes) => bytes,
            PairRef::Mapped(bytes) => bytes,
        }
    }

    /// The bytes, if whoever keeps them needs no copy.
    pub fn shared(self) -> Option<&'a Bytes> {
        match self {
            PairRef::Shared(bytes) => Some(bytes),
            PairRef::Mapped(_) => None,
        }
    }

    /// The bytes to keep.
    pub fn to_bytes(self) -> Bytes {
        match self {
            PairRef::Shared(bytes) => bytes.clone(),
            PairRef::Mapped(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

impl Deref for PairRef<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.get()
    }
}

/// The store's file as readers on all cores share it.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pages: Arc<dyn Pages>,
    page_size: u32,
    /// The first damage that anybody met: the member stops because of it.
    damage: OnceLock<Damage>,
}

impl StoreFile {
    pub(crate) fn new(pages: Arc<dyn Pages>, page_size: u32) -> Self {
        StoreFile {
            pages,
            page_size,
            damage: OnceLock::new(),
        }
    }

    pub(super) fn reader(&self, tree: Tree) -> TreeReader<'_> {
        TreeReader::new(&*self.pages, self.page_size, tree)
    }

    /// The first damage that anybody met.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.get()
    }

    /// Remembers a damage and makes it the reader's answer.
    pub(super) fn fail(&self, damage: impl Into<Damage>) -> RequestError {
        let first = self.damage.get_or_init(|| damage.into());
        RequestError::Damaged(first.clone())
    }
}

/// The pairs of one state: the tail, and before it the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs<'a> {
    tail: TailView<'a>,
    file: &'a StoreFile,
    /// Bucket `key`.
    tree: Tree,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(tail: TailView<'a>, file: &'a StoreFile, tree: Tree) -> Self {
        Pairs { tail, file, tree }
    }

    fn stored(&self) -> TreeReader<'a> {
        self.file.reader(self.tree)
    }

    /// The pair of a version that the index has.
    ///
    /// # Errors
    /// [`RequestError::Damaged`] if the file does not hold it.
    pub(crate) fn get(&self, version: &Version) -> Result<PairRef<'a>, RequestError> {
        if let Some(pair) = self.tail.pair(version.position) {
            return Ok(PairRef::Shared(pair));
        }
        assert!(
            version.position < self.tail.first(),
            "a version behind the tail's first position has its pair in the tail"
        );
        let key = version.revision.to_bucket_key(!version.is_live());
        let found = self.stored().get(key.as_bytes());
        let revision = version.revision;
        match found.map_err(|damage| self.file.fail(damage))? {
            Some(pair) if is_pair_of(pair, version) => Ok(PairRef::Mapped(pair)),
            Some(_) => Err(self.file.fail(Damage::BadPair { revision })),
            None => Err(self.file.fail(Damage::PairMissing { revision })),
        }
    }

    /// True if no pair from `revision` on can stand in the store, or have stood there.
    pub(crate) fn all_in_tail(&self, revision: Revision) -> bool {
        self.tail
            .first_revision()
            .is_some_and(|first| first <= revision)
    }

    /// All pairs from `revision` on, in order.
    pub(crate) fn walk(&self, revision: Revision) -> PairCursor<'a> {
        PairCursor {
            pairs: *self,
            from: revision,
            stored: self.all_in_tail(revision).then_some(Stored::Done),
            next: self.tail.seek(revision),
        }
    }
}

/// One stored pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyChange<'a> {
    pub revision: Revision,
    /// True if the key was deleted.
    pub tombstone: bool,
    /// Encoded `mvccpb.KeyValue`; a tombstone's has only the key.
    pub pair: PairRef<'a>,
}

/// A walk over pairs by revision: through the store, then through the tail.
#[derive(Debug)]
pub(crate) struct PairCursor<'a> {
    pairs: Pairs<'a>,
    from: Revision,
    /// `None`: not sought yet.
    stored: Option<Stored<'a>>,
    next: TailPosition,
}

#[derive(Debug)]
enum Stored<'a> {
    Walking(Cursor<'a>),
    Done,
}

impl<'a> PairCursor<'a> {
    /// The next pair.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub(crate) fn next(&mut self) -> Result<Option<KeyChange<'a>>, RequestError> {
        match self.next_stored() {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(damage) => return Err(self.pairs.file.fail(damage)),
        }
        while let Some(mutation) = self.pairs.tail.get(self.next) {
            self.next = TailPosition(self.next.0 + 1);
            if let Mutation::Pair {
                revision,
                tombstone,
                pair,
            } = mutation
            {
                return Ok(Some(KeyChange {
                    revision: *revision,
                    tombstone: *tombstone,
                    pair: PairRef::Shared(pair),
                }));
            }
        }
        Ok(None)
    }

    fn next_stored(&mut self) -> Result<Option<KeyChange<'a>>, Damage> {
        let stored = match &mut self.stored {
            Some(stored) => stored,
            none => {
                let key = self.from.to_bucket_key(false);
                let cursor = self.pairs.stored().seek(key.as_bytes())?;
                none.insert(Stored::Walking(cursor))
            }
        };
        let Stored::Walking(cursor) = stored else {
            return Ok(None);
        };
        let Some((key, pair)) = cursor.next()? else {
            *stored = Stored::Done;
            return Ok(None);
        };
        let (revision, tombstone) = revision_of(key)?;
        Ok(Some(KeyChange {
            revision,
            tombstone,
            pair: PairRef::Mapped(pair),
        }))
    }
}

/// Whether these bytes can be the version's pair. A start with a saved index has read none of them, and later nobody looks
/// again: they go to the client as they are.
fn is_pair_of(pair: &[u8], version: &Version) -> bool {
    let is_same = |found: Pair<'_>| {
        let (revision, count) = (found.mod_revision, found.version);
        !version.is_live() || (revision, count) == (version.revision.main, version.version)
    };
    Pair::parse(pair).is_some_and(is_same)
}

/// The revision that a key of bucket `key` says.
pub(crate) fn revision_of(key: &[u8]) -> Result<(Revision, bool), Damage> {
    Revision::from_bucket_key(key).ok_or_else(|| Damage::bad_key(Bucket::Key, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaseId;

    #[test]
    fn a_pair_is_its_versions_only_if_it_says_so() {
        let revision = Revision { main: 9, sub: 0 };
        let version = Version {
            revision,
            create_revision: 4,
            version: 3,
            lease: LeaseId(0),
            position: TailPosition::STORED,
        };
        let pair = Pair {
            key: b"key",
            create_revision: 4,
            mod_revision: 9,
            version: 3,
            value: b"value",
            lease: 0,
        };
        assert!(is_pair_of(&pair.encode(), &version));
        let other = Pair { version: 2, ..pair };
        assert!(!is_pair_of(&other.encode(), &version));
        let other = Pair {
            mod_revision: 8,
            ..pair
        };
        assert!(!is_pair_of(&other.encode(), &version));
        let encoded = pair.encode();
        assert!(!is_pair_of(&encoded[..encoded.len() - 1], &version));
        // A tombstone has a key and nothing else.
        let tombstone = Pair {
            key: b"key",
            ..Pair::default()
        };
        let version = Version::tombstone(revision, TailPosition::STORED);
        assert!(is_pair_of(&tombstone.encode(), &version));
        assert!(!is_pair_of(b"\0", &version));
    }
}
