//! What a compaction takes out of the index, in slices.

use super::key;
use super::read::{Entry, Reading};

/// One slice's findings.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Index keys that nobody can read any more.
    pub(super) dead: Vec<Vec<u8>>,
    /// Of these, how many take their key with them.
    pub(super) emptied: usize,
    /// Where the next slice begins: after this key. `None`: this was the last slice.
    pub(super) after: Option<Box<[u8]>>,
}

/// The versions of one key at or below the compact revision.
#[derive(Debug, Default)]
struct Group {
    newest: Option<Candidate>,
    /// True if a version before the newest one stays for a held revision.
    keeps_older: bool,
}

/// The newest version so far.
#[derive(Debug)]
struct Candidate {
    index_key: Vec<u8>,
    main: i64,
    /// A tombstone below the compact revision.
    is_gone: bool,
}

impl Group {
    /// Goes on to the next version; gives the former one if nobody can read it any more.
    fn push(&mut self, next: Candidate, held: &[i64]) -> Option<Vec<u8>> {
        let main = next.main;
        let former = self.newest.replace(next)?;
        // A read at a held revision sees the former version if it stands between the two.
        let first = held.partition_point(|revision| *revision < former.main);
        if held.get(first).is_some_and(|revision| *revision < main) {
            self.keeps_older = true;
            return None;
        }
        Some(former.index_key)
    }

    /// Ends the group; gives its newest version if that is as good as none. A tombstone above a version that stays must
    /// stay too.
    fn end(&mut self) -> Option<Vec<u8>> {
        let group = std::mem::take(self);
        let newest = group.newest.filter(|newest| newest.is_gone)?;
        (!group.keeps_older).then_some(newest.index_key)
    }
}

/// Looks at up to `limit` entries of keys after `after`. A key whose history is longer is begun, and begun again by the
/// next slice, when what was found in the first one is gone.
pub(super) fn slice(
    reading: Reading<'_>,
    after: Option<&[u8]>,
    revision: i64,
    held: &[i64],
    limit: usize,
) -> Slice {
    let mut slice = Slice::default();
    let start = after.map_or_else(Vec::new, key::behind);
    let Some(mut cursor) = reading.seek(&start) else {
        return slice;
    };
    let (mut entry, mut buffer, mut group) = (Entry::default(), Vec::new(), Group::default());
    let mut last: Box<[u8]> = after.unwrap_or_default().into();
    let mut looked = 0;
    loop {
        reading.load(&cursor, &mut entry);
        let main = entry.revision().main;
        if main <= revision {
            let version = reading.version(&cursor, &entry);
            let candidate = Candidate {
                index_key: entry.key.clone(),
                main,
                is_gone: !version.is_live() && main < revision,
            };
            slice.dead.extend(group.push(candidate, held));
        }
        looked += 1;
        if entry.is_newest() {
            if let Some(key) = group.end() {
                slice.emptied += usize::from(key == entry.key);
                slice.dead.push(key);
            }
            last = entry.user_key(&mut buffer).into();
        }
        // Only a slice that found something, or ended a key, brings the next one further.
        if looked >= limit && (entry.is_newest() || !slice.dead.is_empty()) {
            slice.after = Some(last);
            return slice;
        }
        if main > revision && !entry.is_newest() {
            // All later versions stay too.
            let limit = key::behind(entry.user_key(&mut buffer));
            match reading.seek_before(&limit) {
                Some(newest) => cursor = newest,
                None => return slice,
            }
        } else if !reading.advance(&mut cursor) {
            return slice;
        }
    }
}
