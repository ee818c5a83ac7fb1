//! What clients called and saw, and what members published: the material of the checkers.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::mvcc;
use proto::mvccpb::KeyValue;

use crate::plan::Time;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
    },
    /// Every key.
    DeleteAll,
    /// Puts `value` if the key's value is `expected` (`None`: if there is no such key), else reads the key.
    Swap {
        key: Bytes,
        expected: Option<Bytes>,
        value: Bytes,
    },
    /// One transaction that puts `value` to both keys.
    PutPair {
        keys: [Bytes; 2],
        value: Bytes,
    },
    Get {
        key: Bytes,
        is_serializable: bool,
    },
    /// Every key, read in slices over several turns at the revision of its first.
    Scan,
    Compact {
        revision: i64,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    KeepAlive {
        id: i64,
    },
    TimeToLive {
        id: i64,
    },
}

impl Call {
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Call::Put { value, .. } | Call::Swap { value, .. } | Call::PutPair { value, .. } => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Answered from the leader's clock.
    pub fn is_of_lease(&self) -> bool {
        matches!(self, Call::KeepAlive { .. } | Call::TimeToLive { .. })
    }

    pub fn is_serializable(&self) -> bool {
        matches!(
            self,
            Call::Get {
                is_serializable: true,
                ..
            }
        )
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nobody answered: it may have happened, may happen still, or never.
    Unknown,
    /// It was refused before it was proposed: it never happens.
    Refused,
    /// It was applied and changed nothing.
    Failed { reason: String },
    /// A write; the pairs it replaced or deleted.
    Written {
        revision: i64,
        former: Vec<KeyValue>,
    },
    /// A read, or the reading branch of a swap.
    Read { revision: i64, kvs: Vec<KeyValue> },
    /// Neither: a compaction, a lease.
    Done,
}

impl Outcome {
    pub fn revision(&self) -> Option<i64> {
        match self {
            Outcome::Written { revision, .. } | Outcome::Read { revision, .. } => Some(*revision),
            _ => None,
        }
    }
}

/// One call from its beginning to its end, on the world's one order of events.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    pub member: usize,
    pub call: Call,
    pub called: u64,
    /// `None`: never answered.
    pub returned: Option<u64>,
    /// For the report.
    pub called_at: Time,
    pub outcome: Outcome,
}

/// One change as members publish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub sub: i64,
    pub tombstone: bool,
    pub pair: Bytes,
}

/// A key from one revision on; `None`: it was deleted.
type Version = (i64, Option<KeyValue>);

/// All revisions that any member ever published: what was committed, in order. The first change is revision 2.
#[derive(Debug, Default)]
pub struct Published {
    revisions: Vec<Vec<Change>>,
    keys: BTreeMap<Bytes, Vec<Version>>,
}

impl Published {
    pub fn newest(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    pub fn changes(&self, revision: i64) -> Option<&[Change]> {
        let at = usize::try_from(revision - 2).ok()?;
        self.revisions.get(at).map(Vec::as_slice)
    }

    /// Every revision with its changes, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[Change])> {
        (2..).zip(self.revisions.iter().map(Vec::as_slice))
    }

    /// Adds the next revision.
    pub fn push(&mut self, changes: Vec<Change>) {
        let revision = self.newest() + 1;
        for change in &changes {
            let kv = mvcc::decode(&change.pair);
            let key = kv.key.clone();
            let version = (!change.tombstone).then_some(kv);
            self.keys.entry(key).or_default().push((revision, version));
        }
        self.revisions.push(changes);
    }

    /// Every key that ever was.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.keys()
    }

    /// The key as it was at a revision.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let count = versions.partition_point(|(at, _)| *at <= revision);
        versions[..count].last()?.1.as_ref()
    }

    /// All keys as they were at a revision.
    pub fn all(&self, revision: i64) -> Vec<&KeyValue> {
        let keys = self.keys.keys();
        keys.filter_map(|key| self.get(key, revision)).collect()
    }
}
