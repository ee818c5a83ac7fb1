//! The tail for reading: by its owner, or by any thread under a pin.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

use super::chunk::CHUNK_LEN;
use super::directory::Directory;
use super::{Mutation, TailPosition};
use crate::types::Revision;

/// The mutations up to an end. Copied about; lives as long as a borrow of the tail or a guard of its directory.
#[derive(Clone, Copy, Debug)]
pub struct TailView<'a> {
    directory: &'a Directory,
    end: TailPosition,
}

/// A tail's newest directory, for readers on other threads.
///
/// It may be newer than the pinned state that a reader has. That does no harm: mutations are only added behind the
/// state's end, and forgotten only once no pin can reach them ([`super::Tail::forget`]).
#[derive(Clone, Debug)]
pub(crate) struct TailReader(pub(super) Arc<ArcSwap<Directory>>);

/// Keeps a directory, and with it all its chunks. As short-lived as a pin.
#[derive(Debug)]
pub(crate) struct TailGuard(Guard<Arc<Directory>>);

impl TailReader {
    /// Wait-free.
    pub(crate) fn load(&self) -> TailGuard {
        TailGuard(self.0.load())
    }
}

impl TailGuard {
    pub(crate) fn view(&self, end: TailPosition) -> TailView<'_> {
        TailView::new(&self.0, end)
    }
}

impl<'a> TailView<'a> {
    pub(super) fn new(directory: &'a Directory, end: TailPosition) -> Self {
        TailView { directory, end }
    }

    /// The mutation at `position`, unless it was forgotten.
    pub fn get(&self, position: TailPosition) -> Option<&'a Mutation> {
        let (chunk, slot) = self.directory.locate(position.0)?;
        chunk.get(slot)
    }

    /// The encoded `mvccpb.KeyValue` at `position`, if a pair stands there.
    pub fn pair(&self, position: TailPosition) -> Option<&'a Bytes> {
        match self.get(position)? {
            Mutation::Pair { pair, .. } => Some(pair),
            Mutation::Record(_) => None,
        }
    }

    /// The first mutation at or after `from` that was not forgotten.
    pub fn next_from(&self, from: TailPosition) -> Option<(TailPosition, &'a Mutation)> {
        let mut at = from.0.max(self.directory.first());
        while at < self.end.0 {
            let (chunk, slot) = self.directory.locate(at)?;
            let start = at - slot as u64;
            if let Some((slot, mutation)) = chunk.first_from(slot) {
                let found = TailPosition(start + slot as u64);
                return (found < self.end).then_some((found, mutation));
            }
            at = start + CHUNK_LEN as u64;
        }
        None
    }

    /// Where the first pair with a revision of at least `revision` stands, or the end. Feeds watches that catch up.
    pub fn seek(&self, revision: Revision) -> TailPosition {
        let (mut low, mut high) = (self.directory.first(), self.end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_pair(TailPosition(middle)) {
                Some((position, found)) if found < revision => low = position.0 + 1,
                _ => high = middle,
            }
        }
        TailPosition(low)
    }

    fn next_pair(&self, mut from: TailPosition) -> Option<(TailPosition, Revision)> {
        while let Some((position, mutation)) = self.next_from(from) {
            if let Mutation::Pair { revision, .. } = mutation {
                return Some((position, *revision));
            }
            from = TailPosition(position.0 + 1);
        }
        None
    }

    /// The position behind the last mutation.
    pub fn end(&self) -> TailPosition {
        self.end
    }
}
