//! How a member goes on.

use super::Position;
use crate::wal::Recovered;
use proto::raftpb;

/// How a member goes on.
///
/// ```text
///  offset ........ applied ........ hard_state.commit ........ last
///     └ raft's log begins behind it                 └ not committed as far as is known
///                     └ apply from here ┘
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StartPlan {
    /// Where the backend stands: its consistent index and that entry's term. Entries behind it up to `hard_state.commit`
    /// are committed and not yet in it.
    pub applied: Position,
    /// The last state record, raised to what the backend and the entries prove. At least `applied.index` is committed.
    pub hard_state: raftpb::HardState,
    /// The configuration at `applied`; changes behind it are among the entries. Empty at (0, 0).
    pub conf_state: raftpb::ConfState,
    /// Raft's log begins behind this entry, whose term is known; at or below `applied`.
    pub offset: Position,
    /// The last entry of the log; `offset` if there is none.
    pub last: Position,
    /// The newest snapshot that the log vouches for; (0, 0) if none.
    pub snapshot: Position,
    /// Unusual and harmless: for the server's log.
    pub notes: Vec<String>,
}

impl StartPlan {
    /// The entries of raft's log, those behind `offset`, taken out of what recovery found.
    pub fn take_log(&self, recovered: &mut Recovered) -> Vec<raftpb::Entry> {
        let mut entries = std::mem::take(&mut recovered.entries);
        let kept_from = entries.partition_point(|entry| entry.index() <= self.offset.index);
        entries.split_off(kept_from)
    }

    /// True if the member has an identity and nothing else: it crashed in its first start, before the first entries were
    /// durable, or it joins a cluster and has heard of nobody yet.
    pub fn is_blank(&self) -> bool {
        let state = &self.hard_state;
        self.last == Position::default() && state.term() == 0 && state.vote() == 0
    }
}
