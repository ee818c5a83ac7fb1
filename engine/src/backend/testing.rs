//! A store in memory whose disk is always done, for tests of the state.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::Seal;
use crate::state::{State, StateOptions};
use crate::store::{Extent, MemoryPages, Pages, Store, StoreIo, StoreOp};
use crate::types::Budget;
use crate::wal::IoFault;

/// The file of one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk(Arc<MemoryPages>);

impl TestDisk {
    /// An empty store.
    pub(crate) fn store(&self) -> Store {
        Store::create(Arc::clone(&self.0) as _)
    }

    /// True if anything was ever written.
    pub(crate) fn is_born(&self) -> bool {
        !self.0.is_empty()
    }

    /// The store that the file holds.
    pub(crate) fn reopen(&self) -> Store {
        let copy = Arc::new(MemoryPages::from_bytes(&self.0.to_bytes()));
        copy.grow(self.0.len());
        let mut store = Store::open(copy.clone() as _, copy.len()).unwrap();
        store.scan(&mut Budget::unlimited()).unwrap();
        store
    }

    pub(crate) fn state(&self, options: StateOptions) -> State {
        State::new(options, self.store())
    }

    pub(crate) fn perform(&self, io: &StoreIo) -> Result<(), IoFault> {
        match &io.op {
            StoreOp::Grow { len } => self.0.grow(*len),
            StoreOp::Write { offset, bytes } => self.0.write(*offset, bytes),
            StoreOp::Sync => {}
            StoreOp::Cut { len } => self.0.cut(*len),
        }
        Ok(())
    }

    /// Does what is left of the disk's work; true if there was any.
    pub(crate) fn serve(&self, state: &mut State) -> bool {
        let mut count = 0;
        while let Some(io) = state.poll_store_io() {
            let result = self.perform(&io);
            state.on_store_io_done(io.ticket, result);
            count += 1;
        }
        count > 0
    }

    /// Does everything that can wait, with slices of `units`, and the checkpoints that compactions ask for.
    pub(crate) fn settle(&self, state: &mut State, units: usize) {
        loop {
            let more = state.tend(&mut Budget::new(units)).unwrap();
            let served = self.serve(state);
            let begins = state.is_checkpoint_idle() && state.wants_checkpoint();
            if begins {
                state.begin_checkpoint(seal(state), false);
            }
            if !more && !served && !begins {
                return;
            }
        }
    }

    /// A little of everything that can wait: a slice, one operation of the disk, the beginning of a checkpoint.
    pub(crate) fn step(&self, state: &mut State, units: usize) {
        state.tend(&mut Budget::new(units)).unwrap();
        if let Some(io) = state.poll_store_io() {
            let result = self.perform(&io);
            state.on_store_io_done(io.ticket, result);
        }
        if state.is_checkpoint_idle() && (state.wants_checkpoint() || units.is_multiple_of(3)) {
            state.begin_checkpoint(seal(state), units.is_multiple_of(2));
        }
    }

    /// A checkpoint of all that there is, and what can wait.
    pub(crate) fn checkpoint(&self, state: &mut State) {
        self.settle(state, usize::MAX);
        state.begin_checkpoint(seal(state), true);
        self.settle(state, usize::MAX);
    }
}

/// The file of a [`TestDisk`], of which nothing is in memory but what was loaded, written, or waited for.
#[derive(Debug)]
pub(crate) struct ColdPages {
    file: Arc<MemoryPages>,
    warm: Mutex<BTreeSet<u64>>,
    waits: AtomicUsize,
}

impl ColdPages {
    const PAGE_LEN: u64 = 4096;

    pub(crate) fn of(disk: &TestDisk) -> Arc<Self> {
        Arc::new(ColdPages {
            file: Arc::clone(&disk.0),
            warm: Mutex::default(),
            waits: AtomicUsize::new(0),
        })
    }

    /// A store in it that is empty.
    pub(crate) fn state(self: &Arc<Self>, options: StateOptions) -> State {
        State::new(options, Store::create(Arc::clone(self) as _))
    }

    /// Takes everything out of memory.
    pub(crate) fn cool(&self) {
        self.warm.lock().unwrap().clear();
        self.waits.store(0, Ordering::Relaxed);
    }

    /// Pages that were read without being in memory.
    pub(crate) fn wait_count(&self) -> usize {
        self.waits.load(Ordering::Relaxed)
    }

    /// Brings pages into memory; returns how many were not there.
    pub(crate) fn load(&self, extent: Extent) -> usize {
        let mut warm = self.warm.lock().unwrap();
        let pages = Self::pages(extent.offset, extent.len);
        pages.filter(|page| warm.insert(*page)).count()
    }

    fn pages(offset: u64, len: u64) -> std::ops::Range<u64> {
        offset / Self::PAGE_LEN..(offset + len).div_ceil(Self::PAGE_LEN)
    }
}

impl Pages for ColdPages {
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let bytes = self.file.bytes(offset, len)?;
        let len = len as u64;
        let waited = self.load(Extent { offset, len });
        self.waits.fetch_add(waited, Ordering::Relaxed);
        Some(bytes)
    }

    fn is_loaded(&self, offset: u64, len: u64) -> bool {
        let warm = self.warm.lock().unwrap();
        Self::pages(offset, len).all(|page| warm.contains(&page))
    }
}

/// A seal of the state as it is.
pub(crate) fn seal(state: &State) -> Seal {
    Seal {
        index: state.applied_index(),
        term: state.applied_term(),
        conf_state: Bytes::from_static(b"{\"voters\":[1],\"auto_leave\":false}"),
        storage_version: None,
    }
}
