//! What the clients know: the state of each thread's keys, and the list of all acknowledged writes.

use std::collections::BTreeMap;

use bytes::Bytes;

/// How many keys a thread writes: few, so that they are deleted and made again often.
const KEYS: u64 = 12;

/// The key all threads raise.
pub(crate) const COUNTER: &str = "counter";

/// Keys that end with their lease begin with this.
pub(crate) const LEASED: &str = "lease/";

/// A living key, as a range shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) value: Bytes,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
}

/// What one write does, at one revision: values for some keys, the end of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put {
        key: String,
        value: Bytes,
    },
    /// Only ever of a key that lives, so that it takes a revision.
    Delete {
        key: String,
    },
    /// Both or none.
    PutTwo {
        keys: [String; 2],
        value: Bytes,
    },
    /// One put, one delete.
    Move {
        from: String,
        to: String,
        value: Bytes,
    },
    /// The shared counter goes to `to`, if it still is what was read.
    Count {
        to: u64,
    },
}

impl Change {
    /// Per key: its new value, or `None` for its end.
    pub(crate) fn effects(&self) -> Vec<(&str, Option<Bytes>)> {
        match self {
            Self::Put { key, value } => vec![(key, Some(value.clone()))],
            Self::Delete { key } => vec![(key, None)],
            Self::PutTwo { keys, value } => keys
                .iter()
                .map(|key| (&key[..], Some(value.clone())))
                .collect(),
            Self::Move { from, to, value } => vec![(from, None), (to, Some(value.clone()))],
            Self::Count { to } => vec![(COUNTER, Some(Bytes::from(to.to_string())))],
        }
    }
}

/// One thread's view of its keys.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) thread: usize,
    pub(crate) keys: BTreeMap<String, Pair>,
    /// Sent, and the connection broke before an answer came.
    pub(crate) unanswered: Option<Change>,
    /// Makes every value one of a kind.
    pub(crate) serial: u64,
}

impl Model {
    pub(crate) fn new(thread: usize) -> Self {
        Self {
            thread,
            keys: BTreeMap::new(),
            unanswered: None,
            serial: 0,
        }
    }

    pub(crate) fn key(&self, number: u64) -> String {
        format!("thread/{}/{:02}", self.thread, number % KEYS)
    }

    pub(crate) fn all_keys(&self) -> Vec<String> {
        (0..KEYS).map(|number| self.key(number)).collect()
    }

    /// The state after `change` at `revision`.
    pub(crate) fn apply(&mut self, change: &Change, revision: i64) {
        for (key, value) in change.effects() {
            // The counter belongs to no thread.
            if key == COUNTER {
                continue;
            }
            match value {
                Some(value) => self.put(key, value, revision),
                None => drop(self.keys.remove(key)),
            }
        }
    }

    fn put(&mut self, key: &str, value: Bytes, revision: i64) {
        let (create_revision, version) = match self.keys.get(key) {
            Some(pair) => (pair.create_revision, pair.version + 1),
            None => (revision, 1),
        };
        let pair = Pair {
            value,
            create_revision,
            mod_revision: revision,
            version,
        };
        self.keys.insert(key.to_owned(), pair);
    }
}

/// A write the server said it did.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) revision: i64,
    pub(crate) change: Change,
}

/// What all threads were told together.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) writes: Vec<Acknowledged>,
    /// Writes before this position were checked at their revision.
    pub(crate) checked: usize,
    /// The highest revision in any answer.
    pub(crate) revision_seen: i64,
    /// The counter when it was looked at last.
    pub(crate) count_seen: u64,
    /// The highest term, and who answered: neither may change for the worse.
    pub(crate) term: u64,
    /// The newest compaction that was acknowledged, and the newest that was asked for: it may have happened.
    pub(crate) compacted: i64,
    pub(crate) compaction_asked: i64,
    pub(crate) ids: Option<(u64, u64)>,
    /// Revisions that leases may make, or have made, by being put and by ending.
    pub(crate) of_leases: i64,
    /// Writes of all rounds that may have happened without an answer.
    pub(crate) unanswered_max: usize,
}

impl Ledger {
    pub(crate) fn acknowledge(&mut self, write: Acknowledged) {
        self.revision_seen = self.revision_seen.max(write.revision);
        self.writes.push(write);
    }
}
