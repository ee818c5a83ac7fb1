//! What readers must know of raft, which changes without any entry being applied.
//!
//! Words of their own beside the published state, written by the log shard alone.
//!
//! Why a read that finds *is linearizable* set, and then pins the newest state, is linearizable: the flag says that
//! this member is the sole voter and leads. While it is set nobody else can acknowledge a write: that would take this
//! member's vote, or a second voter that it told of its own configuration, and the flag is cleared before any message
//! leaves ([`crate::node::Node::work`] clears it, the shell polls the messages afterwards). What this member
//! acknowledged itself was published before (the same, in the same order). So everything that was acknowledged until
//! the flag was read, whoever acknowledged it, is in the state that is pinned afterwards. The order matters: the flag
//! of a later moment says nothing about a state that was pinned before it.

use std::sync::atomic::{AtomicU64, Ordering};

const LINEARIZABLE: u64 = 1;
const LEARNER: u64 = 2;

/// One moment's facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftFacts {
    /// 0 when none is known.
    pub leader_id: u64,
    pub term: u64,
    pub is_linearizable: bool,
    pub is_learner: bool,
}

/// The words that the log shard and readers share.
#[derive(Debug, Default)]
pub(super) struct SharedFacts {
    leader_id: AtomicU64,
    term: AtomicU64,
    flags: AtomicU64,
}

impl SharedFacts {
    /// The log shard's. The flags are cleared before the other words change, and set after.
    pub(super) fn store(&self, facts: &RaftFacts) {
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        let flags = flag(facts.is_linearizable, LINEARIZABLE) | flag(facts.is_learner, LEARNER);
        if !facts.is_linearizable {
            self.flags.store(flags, Ordering::SeqCst);
        }
        self.leader_id.store(facts.leader_id, Ordering::SeqCst);
        self.term.store(facts.term, Ordering::SeqCst);
        self.flags.store(flags, Ordering::SeqCst);
    }

    pub(super) fn load(&self) -> RaftFacts {
        let flags = self.flags.load(Ordering::SeqCst);
        RaftFacts {
            leader_id: self.leader_id.load(Ordering::SeqCst),
            term: self.term.load(Ordering::SeqCst),
            is_linearizable: flags & LINEARIZABLE != 0,
            is_learner: flags & LEARNER != 0,
        }
    }
}
