//! What a checkpoint puts into the store's commit, in slices.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ahead::Ahead;
use super::mover::Moves;
use super::{Damage, Seal};
use crate::boot::meta as log_meta;
use crate::index::Index;
use crate::mvcc::{StoreSweep, Swept, meta_revision};
use crate::store::Store;
use crate::tail::{Bucket, Mutation, TailPosition, TailView, meta};
use crate::types::Budget;

/// Pairs that a compaction looks at in one commit: enough to be done soon, few enough that the commit's pages, all of
/// which wait in memory to be written, take some megabytes.
const SWEPT_COUNT_MAX: usize = 20_000;

/// Leaves to be moved that are loaded at once.
const LOADED_AT_ONCE: usize = 128;

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    Some,
    /// Goes on when pages were loaded.
    Waits,
    All,
}

/// What happens to a key of a bucket other than `key`.
#[derive(Debug)]
enum Change {
    Put(Bytes),
    Delete,
    /// Its leaf is moved.
    Touch,
}

/// Changes of the buckets other than `key`: the last one of each key counts.
type Records = BTreeMap<(Bucket, Bytes), Change>;

/// What moving a leaf counts for: some ten elements are copied.
const TOUCH_COST: usize = 8;

#[derive(Debug)]
enum Stage {
    /// Deletions come first: their keys are before all that is new.
    Sweeping {
        left: usize,
    },
    /// So does what only moves.
    Moving {
        moves: Moves,
        /// So many of the next ones are in memory.
        loaded: usize,
    },
    Pairs {
        next: TailPosition,
    },
    Records(std::collections::btree_map::IntoIter<(Bucket, Bytes), Change>),
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Feed {
    stage: Stage,
    first: TailPosition,
    /// In bucket `key`.
    moves: Moves,
    records: Records,
    ends_sweep: bool,
    /// A bug for the simulator to find.
    #[cfg(feature = "sabotage")]
    loses_leases: bool,
}

impl Feed {
    /// Of the tail from `first` on, and of leaves to be moved.
    pub(super) fn new(seal: &Seal, first: TailPosition, moves: Moves) -> Self {
        let mut records = Records::new();
        let (moves, others): (Moves, Moves) = moves
            .into_iter()
            .partition(|(bucket, _)| *bucket == Bucket::Key);
        for (bucket, key) in others {
            records.insert((bucket, Bytes::from(key)), Change::Touch);
        }
        let mut put = |key: &'static [u8], value: Bytes| {
            records.insert((Bucket::Meta, Bytes::from_static(key)), Change::Put(value));
        };
        let number = |number| Bytes::copy_from_slice(&log_meta::encode_number(number));
        put(log_meta::CONSISTENT_INDEX, number(seal.index.0));
        put(log_meta::TERM, number(seal.term.0));
        put(log_meta::CONF_STATE, seal.conf_state.clone());
        if let Some(version) = &seal.storage_version {
            put(log_meta::STORAGE_VERSION, version.clone());
        }
        Feed {
            stage: Stage::Sweeping {
                left: SWEPT_COUNT_MAX,
            },
            first,
            moves,
            records,
            ends_sweep: false,
            #[cfg(feature = "sabotage")]
            loses_leases: false,
        }
    }

    /// Plants a bug: what is fed has no leases.
    #[cfg(feature = "sabotage")]
    pub(super) fn without_leases(self) -> Self {
        Feed {
            loses_leases: true,
            ..self
        }
    }

    /// True if the compaction in progress has nothing more to delete.
    pub(super) fn ends_sweep(&self) -> bool {
        self.ends_sweep
    }

    /// Does a slice of bringing everything up to `end` into the commit.
    pub(super) fn step(
        &mut self,
        store: &mut Store,
        ahead: &mut Ahead,
        sweep: Option<(&mut StoreSweep, &Index)>,
        tail: TailView<'_>,
        end: TailPosition,
        budget: &mut Budget,
    ) -> Result<Fed, Damage> {
        if let Stage::Sweeping { left } = &mut self.stage {
            if let Some((sweep, index)) = sweep
                && *left > 0
            {
                let mut own = budget.apart(budget.left().clamp(1, *left));
                let swept = sweep.step(index, store, ahead, &mut own)?;
                self.ends_sweep = swept == Swept::All;
                let spent = own.spent().min(*left);
                budget.spend(spent);
                *left -= spent;
                if self.ends_sweep {
                    let key = Bytes::from_static(meta::FINISHED_COMPACT_REV);
                    let value = meta_revision(sweep.revision());
                    self.records.insert((Bucket::Meta, key), Change::Put(value));
                } else if swept == Swept::Waits {
                    return Ok(Fed::Waits);
                } else if *left > 0 {
                    return Ok(Fed::Some);
                }
            }
            self.stage = Stage::Moving {
                moves: std::mem::take(&mut self.moves),
                loaded: 0,
            };
        }
        if let Stage::Moving { moves, loaded } = &mut self.stage {
            while !moves.is_empty() {
                if *loaded == 0 {
                    let keys = moves.iter().take(LOADED_AT_ONCE);
                    let keys = keys.map(|(_, key)| key.as_slice());
                    if !ahead.has_leaves(store, Bucket::Key, keys)? {
                        return Ok(Fed::Waits);
                    }
                    *loaded = LOADED_AT_ONCE;
                }
                let Some((bucket, key)) = moves.pop_front() else {
                    break;
                };
                store.touch(bucket, &key)?;
                *loaded -= 1;
                budget.spend(TOUCH_COST);
                if budget.is_spent() {
                    return Ok(Fed::Some);
                }
            }
            self.stage = Stage::Pairs { next: self.first };
        }
        if let Stage::Pairs { next } = &mut self.stage {
            while *next < end && !budget.is_spent() {
                // The tail forgets nothing that no checkpoint has.
                let mutation = tail.get(*next).expect("the tail has what is not stored");
                take(mutation, store, &mut self.records)?;
                *next = TailPosition(next.0 + 1);
                budget.spend(1);
            }
            if *next < end {
                return Ok(Fed::Some);
            }
            #[cfg(feature = "sabotage")]
            if self.loses_leases {
                self.records
                    .retain(|(bucket, _), _| *bucket != Bucket::Lease);
            }
            self.stage = Stage::Records(std::mem::take(&mut self.records).into_iter());
        }
        if let Stage::Records(records) = &mut self.stage {
            while !budget.is_spent() {
                let Some(((bucket, key), value)) = records.next() else {
                    return Ok(Fed::All);
                };
                match value {
                    Change::Put(value) => store.put(bucket, &key, &value)?,
                    Change::Delete => drop(store.delete(bucket, &key)?),
                    Change::Touch => store.touch(bucket, &key)?,
                }
                budget.spend(1);
            }
        }
        Ok(Fed::Some)
    }
}

fn take(mutation: &Mutation, store: &mut Store, records: &mut Records) -> Result<(), Damage> {
    match mutation {
        Mutation::Pair {
            revision,
            tombstone,
            pair,
        } => {
            let key = revision.to_bucket_key(*tombstone);
            store.put(Bucket::Key, key.as_bytes(), pair)?;
        }
        Mutation::Record(record) => {
            let key = (record.bucket, record.key.clone());
            let change = record.value.clone().map_or(Change::Delete, Change::Put);
            records.insert(key, change);
        }
    }
    Ok(())
}
