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
    /// The newest so far: index key, and whether it is a tombstone below the compact revision.
    kept: Option<(Vec<u8>, bool)>,
}

/// Looks at up to `limit` entries of keys after `after`. A key whose history is longer is begun, and begun again by the
/// next slice, when what was found in the first one is gone.
pub(super) fn slice(
    reading: Reading<'_>,
    after: Option<&[u8]>,
    revision: i64,
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
            let gone = !version.is_live() && main < revision;
            let former = group.kept.replace((entry.key.clone(), gone));
            slice.dead.extend(former.map(|(key, _)| key));
        }
        looked += 1;
        if entry.is_newest() {
            if let Some((key, true)) = group.kept.take() {
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
