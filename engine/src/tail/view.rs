//! The tail for reading: by its owner, or by any thread under a pin.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

use super::directory::Directory;
use super::{Mutation, TailPosition};
use crate::types::Revision;

/// The mutations from a first one up to an end. Copied about; lives as long as a borrow of the tail or a guard of its
/// directory.
#[derive(Clone, Copy, Debug)]
pub struct TailView<'a> {
    directory: &'a Directory,
    first: TailPosition,
    end: TailPosition,
}

/// A tail's newest directory, for readers on other threads.
///
/// It may be newer than the pinned state that a reader has. That does no harm: mutations are only added behind the
/// state's end, and forgotten only once no pin can reach them ([`super::Tail::forget_before`]).
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
    pub(crate) fn view(&self, first: TailPosition, end: TailPosition) -> TailView<'_> {
        TailView::new(&self.0, first, end)
    }
}

impl<'a> TailView<'a> {
    pub(super) fn new(directory: &'a Directory, first: TailPosition, end: TailPosition) -> Self {
        TailView {
            directory,
            first,
            end,
        }
    }

    /// The mutation at `position`; `None` before the first one, where the store has it.
    pub fn get(&self, position: TailPosition) -> Option<&'a Mutation> {
        if position < self.first || position >= self.end {
            return None;
        }
        self.directory.get(position.0)
    }

    /// The encoded `mvccpb.KeyValue` at `position`, if a pair stands there.
    pub fn pair(&self, position: TailPosition) -> Option<&'a Bytes> {
        match self.get(position)? {
            Mutation::Pair { pair, .. } => Some(pair),
            Mutation::Record(_) => None,
        }
    }

    /// Where the first pair with a revision of at least `revision` stands, or the end. Feeds watches that catch up.
    pub fn seek(&self, revision: Revision) -> TailPosition {
        let (mut low, mut high) = (self.first.0, self.end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_pair(TailPosition(middle)) {
                Some((position, found)) if found < revision => low = position.0 + 1,
                _ => high = middle,
            }
        }
        TailPosition(low)
    }

    /// The revision of the first pair that is here.
    pub fn first_revision(&self) -> Option<Revision> {
        Some(self.next_pair(self.first)?.1)
    }

    fn next_pair(&self, from: TailPosition) -> Option<(TailPosition, Revision)> {
        (from.0..self.end.0).find_map(|position| {
            let position = TailPosition(position);
            match self.get(position)? {
                Mutation::Pair { revision, .. } => Some((position, *revision)),
                Mutation::Record(_) => None,
            }
        })
    }

    /// The position of the first mutation that is here.
    pub fn first(&self) -> TailPosition {
        self.first
    }

    /// The position behind the last mutation.
    pub fn end(&self) -> TailPosition {
        self.end
    }
}
