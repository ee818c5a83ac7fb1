//! Slow work does not read what is not in memory: it has that loaded, and goes on when it is.
//!
//! ```text
//!   reach(from)  all there: up to this key                            the work goes on until then
//!                not all: wanted -> poll -> the shell loads -> on_loaded       the work waits, and nobody else
//! ```
//!
//! A page that is taken out of memory again before it is read costs a wait, and nothing else. So after a few loads in a row
//! for the same place the work goes on.

use super::Damage;
use crate::store::{Extent, Look, Store};
use crate::tail::Bucket;

/// Loads in a row for the same place: two ways down, page by page, then the pages, then what these have beyond their first.
const LOADS_MAX: u32 = 16;

/// How far work may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Not at all: pages are being loaded.
    Loading,
    /// Up to this key; `None`: to the end.
    Until(Option<Vec<u8>>),
}

/// See the module text.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    reached: Option<Reached>,
    wanted: Vec<Extent>,
    is_loading: bool,
    /// In a row.
    load_count: u32,
}

#[derive(Debug)]
struct Reached {
    bucket: Bucket,
    height: usize,
    from: Vec<u8>,
    until: Option<Vec<u8>>,
}

impl Reached {
    fn has(&self, bucket: Bucket, height: usize, key: &[u8]) -> bool {
        (self.bucket, self.height) == (bucket, height)
            && self.from.as_slice() <= key
            && self.until.as_deref().is_none_or(|until| key < until)
    }
}

impl Ahead {
    /// How far pages of `height`, 0 for leaves, may be read from `key` on.
    ///
    /// # Errors
    /// [`Damage`] of the file.
    pub(crate) fn reach(
        &mut self,
        store: &Store,
        bucket: Bucket,
        height: usize,
        key: &[u8],
    ) -> Result<Reach, Damage> {
        if self.is_loading {
            return Ok(Reach::Loading);
        }
        if let Some(reached) = &self.reached
            && reached.has(bucket, height, key)
        {
            return Ok(Reach::Until(reached.until.clone()));
        }
        let Look { missing, until } = store.look_ahead(bucket, height, key)?;
        if self.wants(missing) {
            return Ok(Reach::Loading);
        }
        self.reached = Some(Reached {
            bucket,
            height,
            from: key.to_vec(),
            until: until.clone(),
        });
        Ok(Reach::Until(until))
    }

    /// True if the leaves that cover these keys may be read.
    ///
    /// # Errors
    /// [`Damage`] of the file.
    pub(crate) fn has_leaves<'k>(
        &mut self,
        store: &Store,
        bucket: Bucket,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<bool, Damage> {
        if self.is_loading {
            return Ok(false);
        }
        let missing = store.look_ahead_for(bucket, keys)?;
        Ok(!self.wants(missing))
    }

    /// True if these are to be loaded first.
    fn wants(&mut self, missing: Vec<Extent>) -> bool {
        if missing.is_empty() || self.load_count >= LOADS_MAX {
            self.load_count = 0;
            return false;
        }
        self.load_count += 1;
        self.wanted = missing;
        self.is_loading = true;
        true
    }

    pub(crate) fn is_loading(&self) -> bool {
        self.is_loading
    }

    /// Output: parts of the file to be brought into memory.
    pub(crate) fn poll(&mut self) -> Option<Vec<Extent>> {
        (!self.wanted.is_empty()).then(|| std::mem::take(&mut self.wanted))
    }

    /// Input: they are, or cannot be.
    pub(crate) fn on_loaded(&mut self) {
        self.is_loading = false;
    }
}
