//! The published state: what readers on every core see, without a lock and without a hop.
//!
//! ```text
//!   log shard:   State, Node --publish--> meta page (numbers + index root)     raft facts     holds
//!                                              |                                  |             |
//!   any core:    Views --reader--> ViewReader --pin--> PinnedView: range, txn, numbers          |
//!                                              \--hold(revision)--> Hold -----------------------/
//! ```
//!
//! A [`PinnedView`] is one whole state: index, tail up to the state's end, the store's tree, and plain numbers. It keeps the
//! pages it can reach, in memory and in the file, from being used again and the pairs it can reach from being forgotten, so it is held for a slice (a turn of an
//! executor), never across a wait. A read that takes longer keeps a revision and a key and pins anew for each slice; if
//! it has promised its length it takes a [`Hold`] on its revision besides.
//!
//! Invariants:
//! - what is published is the state after a whole entry, and it is published before any reply to that entry or to one
//!   before it can be polled;
//! - states come in order: a later pin never shows an older state than an earlier one, on any core;
//! - pinning waits for nobody and makes nobody wait but the freeing of memory.
//!
//! What is only of interest to the log shard (lists of alarms, leases, remembered hashes) is not published:
//! [`crate::state::View`] borrows it there. The model tests of `cow/publish.rs` and `mvcc/holds.rs` cover the
//! synchronization, `tests.rs` here and in [`crate::node`] the rest, with threads.

mod note;
mod pinned;
mod raft_facts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use note::AlarmFlags;
pub(crate) use note::Note;
pub use pinned::{Changes, PinnedView};
pub use raft_facts::RaftFacts;

pub use crate::mvcc::Hold;

use crate::backend::StoreFile;
use crate::index::{IndexReader, IndexReaders, IndexStay};
use crate::mvcc::HoldTable;
use crate::tail::TailReader;
use raft_facts::SharedFacts;

/// Where readers come from. Shared by all threads.
#[derive(Clone, Debug)]
pub struct Views {
    index: IndexReaders,
    shared: Arc<Shared>,
}

/// What all readers and the log shard share besides the pages.
#[derive(Debug)]
struct Shared {
    tail: TailReader,
    store: Arc<StoreFile>,
    facts: SharedFacts,
    holds: HoldTable,
}

impl Views {
    pub(crate) fn new(index: IndexReaders, tail: TailReader, store: Arc<StoreFile>) -> Self {
        let shared = Shared {
            tail,
            store,
            facts: SharedFacts::default(),
            holds: HoldTable::default(),
        };
        Views {
            index,
            shared: Arc::new(shared),
        }
    }

    /// A handle for one reader; `None` if there are too many.
    pub fn reader(&self) -> Option<ViewReader> {
        Some(ViewReader {
            index: self.index.reader()?,
            shared: Arc::clone(&self.shared),
        })
    }

    pub(crate) fn holds(&self) -> &HoldTable {
        &self.shared.holds
    }

    /// The log shard's: see [`RaftFacts`] for when.
    pub(crate) fn set_raft_facts(&self, facts: &RaftFacts) {
        self.shared.facts.store(facts);
    }
}

/// One reader's handle: one for each shard. It may move to another thread, and pins one state at a time.
#[derive(Debug)]
pub struct ViewReader {
    index: IndexReader,
    shared: Arc<Shared>,
}

impl ViewReader {
    /// Pins the newest published state. Held for a slice, never across a wait.
    pub fn pin(&mut self) -> PinnedView<'_> {
        // Before the pin: see `raft_facts.rs`.
        let facts = self.shared.facts.load();
        let pages = self.index.pin();
        let pages = pages.expect("a state publishes itself before it gives out readers");
        PinnedView::new(facts, pages, &self.shared.tail, &self.shared.store)
    }

    /// Pins the newest published state for as long as the answer lives, across waits. Only for what must read one state
    /// throughout, under a deadline: all memory that later states give up stays, and no compaction's sweep ends.
    pub fn stay(self) -> StayingView {
        let facts = self.shared.facts.load();
        let pages = self.index.stay();
        let pages = pages.expect("a state publishes itself before it gives out readers");
        StayingView {
            facts,
            pages,
            shared: self.shared,
        }
    }

    /// Keeps `revision` readable until the hold is dropped, for a run that goes on across waits. `None` if the revision
    /// is compacted already, or if there are too many holds: [`PinnedView::compact_revision`] of a later pin tells.
    pub fn hold(&self, revision: i64) -> Option<Hold> {
        self.shared.holds.hold(revision)
    }
}

/// A reader that stays in one state. See [`ViewReader::stay`].
#[derive(Debug)]
pub struct StayingView {
    facts: RaftFacts,
    pages: IndexStay,
    shared: Arc<Shared>,
}

impl StayingView {
    /// The state that was pinned.
    pub fn view(&self) -> PinnedView<'_> {
        PinnedView::new(
            self.facts,
            self.pages.snapshot(),
            &self.shared.tail,
            &self.shared.store,
        )
    }

    /// Ends the pin.
    pub fn leave(self) -> ViewReader {
        ViewReader {
            index: self.pages.leave(),
            shared: self.shared,
        }
    }
}

/// Bugs that the simulator plants, to show that it would find them.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Pages of the index are used again while a pin reaches them. Only for readers on the node's own thread.
    ReusePinnedPages,
    /// The same with pages of the store.
    ReuseStorePages,
    /// Checkpoints leave out the leases.
    LoseLeases,
    /// A lease is gone.
    ForgetLease,
    /// A watcher that has caught up misses the first revision at the frontier.
    WatchGap,
    /// A watcher that starts in the past does so a revision too early.
    WatchEarly,
    /// The same, too late.
    WatchLate,
}
