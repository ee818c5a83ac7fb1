//! Leases: what is replicated about them, and the leader's clock for them.
//!
//! [`Leases`] changes only when an entry is applied: a lease has a granted TTL, a checkpointed remaining TTL, and the
//! keys that hang on it. Nothing in it counts time. [`Expiry`] is volatile and belongs to the leader: deadlines, taken
//! from time handed in.
//!
//! Invariants:
//! - a key hangs on at most one lease, the one its newest version names;
//! - a lease may list a key that has left it for a moment (it is detached after its entry was published); whoever
//!   reads the list asks the index;
//! - revoking deletes the keys in sorted order, so that sub revisions are the same on all members.
//!
//! Stored in bucket `lease`; the keys are found again in the pairs. Owned by [`crate::state::State`].

mod expiry;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use prost::Message;
use proto::leasepb;

use crate::mvcc::RequestError;
use crate::tail::{Bucket, Mutation, Tail};
use crate::types::LeaseId;

pub use expiry::{Expiry, ExpiryOptions, RenewError, Renewed};

/// Longest TTL that can be granted, in seconds.
pub const TTL_MAX: i64 = 9_000_000_000;

/// Key sets larger than this are freed in slices.
const FREED_AT_ONCE_MAX: usize = 1000;

/// One lease.
#[derive(Debug, Default)]
pub struct Lease {
    /// Granted, in seconds.
    ttl: i64,
    /// Left at the last checkpoint, in seconds; 0 if none was made since the last renewal.
    remaining_ttl: i64,
    keys: BTreeSet<Box<[u8]>>,
}

impl Lease {
    /// Granted TTL in seconds.
    pub fn ttl(&self) -> i64 {
        self.ttl
    }

    /// What a new leader counts down from, in seconds.
    pub fn remaining_ttl(&self) -> i64 {
        if self.remaining_ttl > 0 {
            self.remaining_ttl
        } else {
            self.ttl
        }
    }

    /// True if a checkpoint stands that a renewal should clear.
    pub fn is_checkpointed(&self) -> bool {
        self.remaining_ttl > 0
    }

    /// Keys listed for this lease, ascending; see the module text for what the index has to confirm.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// How many keys are listed.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The first listed key after `after`.
    pub(crate) fn key_after(&self, after: Option<&[u8]>) -> Option<&[u8]> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range::<[u8], _>((from, Bound::Unbounded))
            .next()
            .map(AsRef::as_ref)
    }
}

/// All leases. See the module text.
#[derive(Debug, Default)]
pub struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    /// Key sets of revoked leases, to be freed.
    garbage: Vec<BTreeSet<Box<[u8]>>>,
}

impl Leases {
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// All leases by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(&id, lease)| (id, lease))
    }

    /// Grants; answers the TTL, which is at least `ttl_min`.
    pub(crate) fn grant(
        &mut self,
        id: LeaseId,
        ttl: i64,
        ttl_min: i64,
        tail: &mut Tail,
    ) -> Result<i64, RequestError> {
        if id.is_none() {
            return Err(RequestError::LeaseNotFound);
        }
        if ttl > TTL_MAX {
            return Err(RequestError::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(RequestError::LeaseExist);
        }
        let lease = Lease {
            ttl: ttl.max(ttl_min),
            ..Lease::default()
        };
        store(id, &lease, tail);
        let granted = lease.ttl;
        self.leases.insert(id, lease);
        Ok(granted)
    }

    /// A lease as the store has it; its keys are attached afterwards.
    pub(crate) fn restore(&mut self, id: LeaseId, ttl: i64, remaining_ttl: i64) {
        let lease = Lease {
            ttl,
            remaining_ttl,
            ..Lease::default()
        };
        self.leases.insert(id, lease);
    }

    /// Removes a lease whose keys are deleted.
    pub(crate) fn remove(&mut self, id: LeaseId, tail: &mut Tail) {
        let Some(lease) = self.leases.remove(&id) else {
            return;
        };
        tail.push(Mutation::delete(Bucket::Lease, bucket_key(id)));
        if lease.keys.len() > FREED_AT_ONCE_MAX {
            self.garbage.push(lease.keys);
        }
    }

    /// Notes the remaining TTL of a lease, and stores it if `persist`. An unknown lease is passed over.
    pub(crate) fn checkpoint(
        &mut self,
        id: LeaseId,
        remaining_ttl: i64,
        persist: bool,
        tail: &mut Tail,
    ) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        lease.remaining_ttl = remaining_ttl;
        if persist {
            store(id, lease, tail);
        }
    }

    /// A bug for the simulator to find: [`crate::view::Sabotage::ForgetLease`].
    #[cfg(feature = "sabotage")]
    pub(crate) fn forget_one(&mut self) {
        self.leases.pop_first();
    }

    /// Lists `key` for a lease; nothing happens without a lease.
    pub(crate) fn attach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.into());
        }
    }

    pub(crate) fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Frees some of what revoked leases left; true while there is more.
    pub(crate) fn collect_garbage(&mut self, keys_max: usize) -> bool {
        let Some(keys) = self.garbage.last_mut() else {
            return false;
        };
        for _ in 0..keys_max.max(1) {
            if keys.pop_first().is_none() {
                self.garbage.pop();
                break;
            }
        }
        !self.garbage.is_empty()
    }
}

fn bucket_key(id: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

fn store(id: LeaseId, lease: &Lease, tail: &mut Tail) {
    let stored = leasepb::Lease {
        id: id.0,
        ttl: lease.ttl,
        remaining_ttl: lease.remaining_ttl,
    };
    tail.push(Mutation::put(
        Bucket::Lease,
        bucket_key(id),
        stored.encode_to_vec().into(),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_checked_in_etcds_order() {
        let (mut leases, mut tail) = (Leases::default(), Tail::new());
        let mut grant = |id, ttl| leases.grant(LeaseId(id), ttl, 2, &mut tail);
        assert_eq!(grant(0, TTL_MAX + 1), Err(RequestError::LeaseNotFound));
        assert_eq!(grant(-7, TTL_MAX), Ok(TTL_MAX));
        assert_eq!(grant(-7, TTL_MAX + 1), Err(RequestError::LeaseTtlTooLarge));
        assert_eq!(grant(-7, 5), Err(RequestError::LeaseExist));
        assert_eq!(grant(1, -3), Ok(2));
        assert_eq!(leases.len(), 2);
        let stored = tail.get(tail.view().seek(crate::types::Revision::new(0, 0)));
        assert!(stored.is_none() || stored.is_some_and(|m| m.bucket() == Bucket::Lease));
    }

    #[test]
    fn checkpoints_change_what_remains() {
        let (mut leases, mut tail) = (Leases::default(), Tail::new());
        leases.grant(LeaseId(1), 100, 2, &mut tail).unwrap();
        leases.checkpoint(LeaseId(1), 30, false, &mut tail);
        assert_eq!(tail.end().0, 1);
        leases.checkpoint(LeaseId(1), 40, true, &mut tail);
        leases.checkpoint(LeaseId(9), 40, true, &mut tail);
        assert_eq!(tail.end().0, 2);
        let lease = leases.get(LeaseId(1)).unwrap();
        assert_eq!(
            (lease.ttl(), lease.remaining_ttl(), lease.is_checkpointed()),
            (100, 40, true)
        );
        leases.checkpoint(LeaseId(1), 0, true, &mut tail);
        assert_eq!(leases.get(LeaseId(1)).unwrap().remaining_ttl(), 100);
    }

    #[test]
    fn large_key_sets_are_freed_in_slices() {
        let (mut leases, mut tail) = (Leases::default(), Tail::new());
        leases.grant(LeaseId(1), 100, 2, &mut tail).unwrap();
        for n in 0..2500_u32 {
            leases.attach(LeaseId(1), &n.to_be_bytes());
        }
        assert_eq!(
            leases
                .get(LeaseId(1))
                .unwrap()
                .key_after(Some(&[0, 0, 0, 5])),
            Some(&[0, 0, 0, 6][..])
        );
        leases.remove(LeaseId(1), &mut tail);
        assert!(!leases.contains(LeaseId(1)));
        let slices = (1..).find(|_| !leases.collect_garbage(1000)).unwrap();
        assert_eq!(slices, 3);
    }
}
