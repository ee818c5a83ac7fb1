//! The index of a member that stopped, for its next start.
//!
//! It belongs to one state of the database: the one with the same meta page (which changes with every commit, whoever
//! makes it), the same place in the log, and the same newest pair. With any other it is not used, and the index is read
//! from the pairs.

use crate::index::{self, Index, Unusable};
use crate::store::Store;
use crate::tail::Bucket;

use super::State;
use super::restore::Source;
use crate::backend::Damage;

/// A store to restore a state from, and its index if that is known.
#[derive(Debug)]
pub struct Stored {
    pub(super) store: Store,
    pub(super) index: Option<Index>,
}

impl From<Store> for Stored {
    fn from(store: Store) -> Self {
        Stored { store, index: None }
    }
}

impl Stored {
    /// Takes the index from what [`State::save_index`] gave when the member stopped, if it did so in this very state.
    ///
    /// # Errors
    /// Why not. The store is as good without.
    pub fn use_saved(&mut self, saved: &[u8]) -> Result<(), Unusable> {
        // Damage is found again by whoever reads the state, and told.
        let identity = identity(&self.store).map_err(|_| Unusable::Stranger)?;
        self.index = Some(index::load(saved, &identity)?);
        Ok(())
    }

    pub(crate) fn into_store(self) -> Store {
        self.store
    }
}

impl State {
    /// The index as bytes for the next start; `None` unless everything is in the store and no compaction under way, whose
    /// sweep would find an index that was swept before.
    pub fn save_index(&self) -> Option<Vec<u8>> {
        let is_stored = self.backend.is_idle() && self.applied_index() == self.checkpoint().index;
        let is_swept = !self.kv.compactor().is_pending();
        let identity = identity(self.backend.store()).ok()?;
        (is_stored && is_swept).then(|| index::save(self.kv.index(), &identity))
    }
}

/// What names a state of the database.
fn identity(store: &Store) -> Result<Vec<u8>, Damage> {
    let at = Source { store }.checkpoint()?;
    let mut identity = store.meta_page().to_vec();
    identity.extend_from_slice(&at.index.0.to_le_bytes());
    identity.extend_from_slice(&at.term.0.to_le_bytes());
    if let Some((key, pair)) = store.reader(Bucket::Key).last()? {
        identity.extend_from_slice(key);
        identity.extend_from_slice(&crc32c::crc32c(pair).to_le_bytes());
    }
    Ok(identity)
}
