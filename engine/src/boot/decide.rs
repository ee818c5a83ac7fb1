//! The decision itself.

use super::{Found, Position};
use crate::wal::Recovered;
use proto::raftpb;

/// What to do first.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Nothing that matters is there: the member starts the first time.
    Bootstrap,
    /// The database received for this snapshot was never swapped in: check it, rename `<index>.snap.db` over `db`, sync
    /// the directory, then gather the facts anew and decide again.
    SwapIn(Position),
    /// Go on where the last run ended.
    Resume(Box<StartPlan>),
}

/// How a member goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct StartPlan {
    /// Where the backend stands: its consistent index and that entry's term. Entries behind it up to `hard_state.commit`
    /// are committed and not yet applied.
    pub applied: Position,
    /// The last state record, with its commit raised to `applied.index` if the backend was ahead of it.
    pub hard_state: raftpb::HardState,
    /// The configuration at `applied`; configuration changes behind it are in the entries.
    pub conf_state: raftpb::ConfState,
    /// Raft's log begins behind this entry, whose term is known; at or below `applied`.
    pub offset: Position,
    /// The last entry of the log; `offset` if there is none.
    pub last: Position,
    /// The newest snapshot that the log vouches for, (0, 0) if none.
    pub snapshot: Position,
    /// For the log: what was unusual and harmless.
    pub notes: Vec<String>,
}

/// Why a member must not start from what is in its directory. Every case is damage or a mix-up of files; no retry cures it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    #[error("{0}")]
    Placeholder(String),
}

/// Decides how to start.
///
/// # Errors
/// [`BootError`]: files contradict each other.
pub fn decide(found: &Found<'_>) -> Result<Start, BootError> {
    let _ = found;
    Err(BootError::Placeholder("not decided yet".to_owned()))
}

impl StartPlan {
    /// Takes the entries of raft's log, those behind `offset`, out of what recovery found.
    pub fn take_log(&self, recovered: &mut Recovered) -> Vec<raftpb::Entry> {
        let entries = std::mem::take(&mut recovered.entries);
        let index = |entry: &raftpb::Entry| entry.index();
        entries
            .into_iter()
            .filter(|entry| index(entry) > self.offset.index)
            .collect()
    }
}
