//! The key index: which versions a key has, and where their pairs stand.
//!
//! One entry per *(key, revision)*, ordered by key, then revision, in a copy-on-write tree of 2 KiB pages:
//!
//! ```text
//!   apple  2_0  put   create 2  version 1  -> position 0
//!          5_0  put   create 2  version 2  -> position 7
//!          9_1  tombstone                  -> position 12     newest
//!   pear   5_1  put   create 5  version 1  -> position 8      newest, live
//! ```
//!
//! A read names the main revision `at` and sees of each key its newest version at or below `at`. An entry that is being
//! applied inserts versions at the next main revision; readers at the published revision cannot see them, so it needs
//! no undo and no lock. Numbers that answers, filters and compares need (create, version, lease) stand in the index,
//! so that they cost no look at the pair.
//!
//! Branches know how many keys live below each child at the newest revision, so a count there costs two descents; at
//! an older revision it is a walk.
//!
//! Invariants:
//! - the versions of a key ascend strictly by revision;
//! - the newest version of a key is marked, and marked live unless it is a tombstone; no other is;
//! - compaction removes versions that no read at or above the compact revision or at a held one can see, and nothing else.
//!
//! The writer reads its own pages by borrowing. Readers on other threads pin what [`Index::publish`] published, through
//! [`Index::reader`]. `twin.rs` is the same in a `BTreeMap`, for property tests. Owned by [`crate::mvcc`].

mod build;
mod bulk;
mod chain;
mod compact;
mod gather;
mod key;
mod key_range;
mod overflow;
mod page;
#[cfg(test)]
mod properties;
mod read;
mod saved;
mod snapshot;
mod tree;
pub mod twin;
mod version;

pub use bulk::{Bulk, NotAscending};
pub use gather::Gather;
pub use key_range::KeyRange;
pub use read::Reading;
pub use saved::{Unusable, load, save};
pub use snapshot::{IndexReader, IndexReaders, IndexSnapshot, IndexStay, NOTE_LEN_MAX};
pub use version::Version;

use page::{LIVE, NEWEST};
use tree::{Former, Tree};

use crate::cow::Cursor;
use crate::types::Revision;

/// All versions of all keys. See the module text.
#[derive(Debug, Default)]
pub struct Index {
    tree: Tree,
    /// Keys with any version.
    len: usize,
    /// Newest main revision of any version ever inserted.
    newest: i64,
}

/// How far one slice of a walk got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Every key of the range was visited.
    All,
    /// The visitor asked to stop after the key it was just shown.
    Stopped,
}

/// What [`Index::bury`] does with a key.
#[derive(Clone, Debug)]
pub enum Buried {
    Tombstone(Version),
    Skipped,
    Stop,
}

impl Index {
    pub fn new() -> Self {
        Index::default()
    }

    /// The writer's own state, for reading: all that was inserted so far, published or not.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            pages: self.tree.space.arena(),
            root: self.tree.root,
            newest: self.newest,
        }
    }

    /// Inserts the version that `make` derives from the newest one of `key`, which it must be newer than.
    pub fn insert(&mut self, key: &[u8], make: impl FnOnce(Option<&Version>) -> Version) {
        // One way down serves both: whatever the version will be, it stands behind the others of its key.
        let mut index_key = key::behind(key);
        let path = self.tree.seek_mut(&index_key);
        index_key.pop();
        let newest = self.reading().newest_at(path.clone(), &index_key);
        let version = make(newest.as_ref());
        if let Some(newest) = &newest {
            assert!(
                version.revision > newest.revision,
                "a key's versions ascend: {} after {}",
                version.revision,
                newest.revision
            );
        }
        key::push_revision(&mut index_key, version.revision);
        self.put_at(path, key, &index_key, &version, newest.is_some());
    }

    /// Inserts a version that must be newer than those of its key, and need not be: it comes from a file.
    fn insert_newer(&mut self, key: &[u8], version: &Version) -> Result<(), NotAscending> {
        let newest = self.reading().newest_of(key);
        if newest.is_some_and(|newest| newest.revision >= version.revision) {
            return Err(NotAscending);
        }
        self.put(key, version, newest.is_some());
        Ok(())
    }

    fn put(&mut self, key: &[u8], version: &Version, supersedes: bool) {
        let index_key = key::at(key, version.revision);
        let path = self.tree.seek_mut(&index_key);
        self.put_at(path, key, &index_key, version, supersedes);
    }

    /// `path` leads to where `index_key`, made of `key` and the version's revision, is to stand.
    fn put_at(
        &mut self,
        path: Cursor,
        key: &[u8],
        index_key: &[u8],
        version: &Version,
        supersedes: bool,
    ) {
        let revision_len = index_key.len() - key::before_len(key);
        let record = version::encode(version, revision_len);
        let flags = NEWEST | if version.is_live() { LIVE } else { 0 };
        let former = if supersedes {
            Former::Superseded
        } else {
            self.len += 1;
            Former::Stranger
        };
        self.tree.insert(path, index_key, &record, flags, former);
        self.newest = self.newest.max(version.revision.main);
    }

    /// As [`Reading::get`].
    pub fn get(&self, key: &[u8], at: i64) -> Option<Version> {
        self.reading().get(key, at)
    }

    /// As [`Reading::get_live`].
    pub fn get_live(&self, key: &[u8], at: i64) -> Option<Version> {
        self.reading().get_live(key, at)
    }

    /// As [`Reading::walk`].
    pub fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        at: i64,
        visit: impl FnMut(&[u8], Option<&Version>) -> bool,
    ) -> Walked {
        self.reading().walk(range, after, at, visit)
    }

    /// Shows `kill` every key of `range` after `after` that lives at the newest revision, and adds the tombstone it
    /// answers. [`Buried::Stop`] stops the walk before that key. Dead keys are shown with no version.
    pub fn bury(
        &mut self,
        range: &KeyRange,
        after: Option<&[u8]>,
        mut kill: impl FnMut(&[u8], Option<&Version>) -> Buried,
    ) -> Walked {
        let mut after: Option<Vec<u8>> = after.map(Into::into);
        loop {
            let mut stop = None;
            let walked = self
                .reading()
                .walk(range, after.as_deref(), i64::MAX, |key, live| {
                    let buried = kill(key, live);
                    debug_assert!(live.is_some() || !matches!(buried, Buried::Tombstone(_)));
                    if matches!(buried, Buried::Skipped) {
                        return true;
                    }
                    stop = Some((key.to_vec(), buried));
                    false
                });
            match stop {
                Some((key, Buried::Tombstone(version))) => {
                    self.put(&key, &version, true);
                    after = Some(key);
                }
                Some(_) => return Walked::Stopped,
                None => return walked,
            }
        }
    }

    /// As [`Reading::count`].
    pub fn count(&self, range: &KeyRange, at: i64) -> u64 {
        self.reading().count(range, at)
    }

    /// As [`Reading::any_live`].
    pub fn any_live(&self, at: i64) -> bool {
        self.reading().any_live(at)
    }

    /// Keys with any version at all.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys that live at the newest revision.
    pub fn live_count(&self) -> usize {
        self.reading().live_count() as usize
    }

    /// Bytes of the pages in use.
    pub fn size_bytes(&self) -> usize {
        self.tree.space.used_count() * page::PAGE_SIZE
    }

    /// As [`Reading::holds`].
    pub fn holds(&self, key: &[u8], revision: Revision) -> bool {
        self.reading().holds(key, revision)
    }

    /// Removes what a compaction at `revision` makes unreachable, looking at about `limit` versions of keys after
    /// `after`.
    ///
    /// Of each key the newest version at or below `revision` stays, unless it is a tombstone below it; a tombstone at
    /// `revision` itself stays, as it does in etcd since 3.5.16. So does what a read at one of the revisions `held`
    /// (ascending) needs.
    ///
    /// Returns the key to go on after, which is empty while the first one is not done; `None` at the end.
    pub fn compact(
        &mut self,
        after: Option<&[u8]>,
        revision: i64,
        held: &[i64],
        limit: usize,
    ) -> Option<Box<[u8]>> {
        let slice = compact::slice(self.reading(), after, revision, held, limit.max(1));
        for index_key in &slice.dead {
            let removed = self.tree.remove(index_key);
            debug_assert!(removed, "a key that was just read is there");
        }
        self.len -= slice.emptied;
        slice.after
    }
}
