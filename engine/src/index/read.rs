//! One state of the index for reading: the writer's own, or a published one under a pin.

use bytes::Bytes;

use crate::cow::{Cursor, PageNo};
use crate::types::Revision;

use super::Walked;
use super::key;
use super::key_range::KeyRange;
use super::page::{IndexLayout, NEWEST, Node, PAGE_SIZE, Pages};
use super::tree::{rank, seek};
use super::version::{self, Version};

/// Versions of one key that a walk passes one by one before it descends anew to pass the rest at once.
const PATIENCE: usize = 32;

/// One state of the index. Copied about; lives as long as a borrow of the writer or a pin.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub(super) pages: &'a Pages,
    pub(super) root: PageNo,
    /// Newest main revision of any version.
    pub(super) newest: i64,
}

/// An entry of a leaf, with its index key.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    revision_len: usize,
    flags: u16,
}

impl Entry {
    pub(super) fn revision(&self) -> Revision {
        key::revision(&self.key, self.revision_len)
    }

    pub(super) fn revision_len(&self) -> usize {
        self.revision_len
    }

    pub(super) fn is_newest(&self) -> bool {
        self.flags & NEWEST != 0
    }

    pub(super) fn user_key<'b>(&'b self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        key::user_key(&self.key, self.revision_len, buffer)
    }
}

impl<'a> Reading<'a> {
    fn node(&self, no: PageNo) -> Node<'a> {
        Node(self.pages.page(no))
    }

    /// Keys that live at the newest revision.
    pub fn live_count(&self) -> u64 {
        self.node(self.root).live()
    }

    /// Newest main revision of any version.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// The first entry at or after `key`.
    pub(super) fn seek(&self, key: &[u8]) -> Option<Cursor> {
        let mut cursor = seek(self.pages, self.root, key);
        let leaf = cursor.leaf();
        let at_end = leaf.index >= self.node(leaf.page).count();
        (!at_end || cursor.next_leaf::<IndexLayout, PAGE_SIZE>(self.pages)).then_some(cursor)
    }

    /// The last entry before `key`.
    pub(super) fn seek_before(&self, key: &[u8]) -> Option<Cursor> {
        self.step_back(seek(self.pages, self.root, key))
    }

    fn step_back(&self, mut cursor: Cursor) -> Option<Cursor> {
        if let Some(index) = cursor.leaf().index.checked_sub(1) {
            cursor.set_index(index);
            return Some(cursor);
        }
        (cursor.former_leaf::<IndexLayout, PAGE_SIZE>(self.pages)).then_some(cursor)
    }

    pub(super) fn advance(&self, cursor: &mut Cursor) -> bool {
        let leaf = cursor.leaf();
        if leaf.index + 1 < self.node(leaf.page).count() {
            cursor.set_index(leaf.index + 1);
            return true;
        }
        cursor.next_leaf::<IndexLayout, PAGE_SIZE>(self.pages)
    }

    pub(super) fn load(&self, cursor: &Cursor, entry: &mut Entry) {
        let leaf = cursor.leaf();
        let node = self.node(leaf.page);
        node.key_into(self.pages, leaf.index, &mut entry.key);
        entry.revision_len = version::revision_len(node.value(leaf.index));
        entry.flags = node.flags(leaf.index);
    }

    pub(super) fn version(&self, cursor: &Cursor, entry: &Entry) -> Version {
        let leaf = cursor.leaf();
        version::decode(self.node(leaf.page).value(leaf.index), entry.revision())
    }

    fn version_before(&self, limit: &[u8], of: &[u8]) -> Option<Version> {
        let cursor = self.seek_before(limit)?;
        let mut entry = Entry::default();
        self.load(&cursor, &mut entry);
        key::is_of(&entry.key, of).then(|| self.version(&cursor, &entry))
    }

    /// The newest version of `key` at or below main revision `at`, tombstone or not.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Version> {
        if at >= self.newest {
            return self.newest_of(key);
        }
        let limit = key::at(key, Revision::new(at.max(0) + 1, 0));
        let found = self.version_before(&limit, &key::before(key))?;
        (found.revision.main <= at).then_some(found)
    }

    /// As [`Reading::get`], but only if the key lives then.
    pub fn get_live(&self, key: &[u8], at: i64) -> Option<Version> {
        self.get(key, at).filter(Version::is_live)
    }

    pub(super) fn newest_of(&self, key: &[u8]) -> Option<Version> {
        let mut limit = key::behind(key);
        let place = seek(self.pages, self.root, &limit);
        limit.pop();
        self.newest_at(place, &limit)
    }

    /// The newest version of the key that `before` was made of; `place` is the one behind all its versions.
    pub(super) fn newest_at(&self, place: Cursor, before: &[u8]) -> Option<Version> {
        let found = self.step_back(place)?;
        let mut entry = Entry::default();
        self.load(&found, &mut entry);
        key::is_of(&entry.key, before).then(|| self.version(&found, &entry))
    }

    /// True if `key` still has the version made at exactly `revision`.
    pub fn holds(&self, key: &[u8], revision: Revision) -> bool {
        let wanted = key::at(key, revision);
        let Some(cursor) = self.seek(&wanted) else {
            return false;
        };
        let mut entry = Entry::default();
        self.load(&cursor, &mut entry);
        entry.key == wanted
    }

    /// Index keys between which those of `range` after `after` lie; `None` if there are none.
    fn bounds(range: &KeyRange, after: Option<&[u8]>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        range.bounds_after(after)?;
        let (start, end) = match range {
            KeyRange::Point(point) => (key::before(point), Some(key::behind(point))),
            KeyRange::Span { start, end } => (key::before(start), end.as_deref().map(key::before)),
        };
        let after = after.map(key::behind);
        Some((after.map_or(start.clone(), |after| after.max(start)), end))
    }

    /// How many keys of `range` after `after` live at the newest revision. Costs two descents.
    fn count_after(&self, range: &KeyRange, after: Option<&[u8]>) -> u64 {
        let Some((start, end)) = Self::bounds(range, after) else {
            return 0;
        };
        let upto = end.map_or_else(
            || self.live_count(),
            |end| rank(self.pages, self.root, &end),
        );
        upto.saturating_sub(rank(self.pages, self.root, &start))
    }

    /// How many keys of `range` after `after` live at `at`, if that is not older than the newest version; `None`
    /// otherwise: it takes a walk.
    pub fn count_newest(&self, range: &KeyRange, after: Option<&[u8]>, at: i64) -> Option<u64> {
        self.counts_at(at).then(|| self.count_after(range, after))
    }

    /// True if [`Reading::count_newest`] answers at `at`.
    pub fn counts_at(&self, at: i64) -> bool {
        at >= self.newest
    }

    /// How many keys of `range` live at `at`. At the newest revision this costs two descents, else a walk.
    pub fn count(&self, range: &KeyRange, at: i64) -> u64 {
        self.count_newest(range, None, at).unwrap_or_else(|| {
            let mut count = 0;
            self.walk(range, None, at, |_, version| {
                count += u64::from(version.is_some());
                true
            });
            count
        })
    }

    /// True if any key at all lives at `at`.
    pub fn any_live(&self, at: i64) -> bool {
        let all = KeyRange::Span {
            start: Bytes::new(),
            end: None,
        };
        if self.counts_at(at) {
            return self.live_count() > 0;
        }
        self.walk(&all, None, at, |_, version| version.is_none()) == Walked::Stopped
    }

    /// Shows `visit` every key of `range` after `after`, ascending, with its version if it lives at `at`.
    ///
    /// Dead keys are shown too, so that a visitor can bound its work; it stops the walk by answering `false`.
    pub fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        at: i64,
        mut visit: impl FnMut(&[u8], Option<&Version>) -> bool,
    ) -> Walked {
        if let (KeyRange::Point(point), None) = (range, after) {
            if let Some(version) = self.newest_of(point) {
                let seen = if version.revision.main <= at {
                    Some(version)
                } else {
                    self.get(point, at)
                };
                visit(point, seen.filter(Version::is_live).as_ref());
            }
            return Walked::All;
        }
        let Some((start, end)) = Self::bounds(range, after) else {
            return Walked::All;
        };
        let Some(mut cursor) = self.seek(&start) else {
            return Walked::All;
        };
        let (mut entry, mut buffer) = (Entry::default(), Vec::new());
        let (mut seen, mut passed) = (None, 0);
        loop {
            self.load(&cursor, &mut entry);
            if end.as_ref().is_some_and(|end| entry.key >= *end) {
                return Walked::All;
            }
            if entry.revision().main <= at {
                seen = Some(self.version(&cursor, &entry));
            }
            if entry.is_newest() {
                let shown = seen.take().filter(Version::is_live);
                if !visit(entry.user_key(&mut buffer), shown.as_ref()) {
                    return Walked::Stopped;
                }
                passed = 0;
            } else {
                passed += 1;
                if passed == PATIENCE
                    && let Some(newest) = self.skip(&entry, at, &mut seen)
                {
                    cursor = newest;
                    continue;
                }
            }
            if !self.advance(&mut cursor) {
                return Walked::All;
            }
        }
    }

    /// Passes the history of a key: finds what is seen of it at `at` and goes to its newest version.
    fn skip(&self, entry: &Entry, at: i64, seen: &mut Option<Version>) -> Option<Cursor> {
        let mut buffer = Vec::new();
        let user_key = entry.user_key(&mut buffer);
        *seen = self.get(user_key, at);
        self.seek_before(&key::behind(user_key))
    }
}
