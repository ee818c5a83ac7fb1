//! The state as a store gives it back at the start of a member.
//!
//! ```text
//!   meta           -> applied index and term, compact revision, a compaction to be finished
//!   key            -> the index: every stored version, in the order of revisions
//!   lease, alarm, cluster, members, members_removed
//! ```
//!
//! The file is not trusted: what cannot be is [`Damage`], which stops the start. What etcd would pass over (a lease of a
//! key that no bucket has) is passed over.

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::AlarmMember;
use proto::leasepb;
use proto::raftpb::ConfState;

use super::saved::Stored;
use super::{ClusterVersion, Parts, State, StateOptions, downgrade};
use crate::alarm::Alarms;
use crate::backend::{Backend, Checkpoint, Damage, revision_of};
use crate::boot::{DbFacts, meta as log_meta};
use crate::index::{Gather, Index, KeyRange, Version};
use crate::lease::Leases;
use crate::membership::Membership;
use crate::mvcc::{Compactor, Kv, Pair};
use crate::store::{Store, TreeReader};
use crate::tail::{Bucket, Tail, TailPosition, meta};
use crate::types::{LeaseId, LogIndex, Revision, Term};

/// Compact revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// Versions are out of order, or one is there twice.
const DISORDER: Damage = Damage::BadValue {
    bucket: Bucket::Key,
    what: "the order of versions",
};

/// Key of the revision of users and roles, and where it begins.
const AUTH_REVISION: &[u8] = b"authRevision";
/// Where the count begins in a store without users.
pub(super) const AUTH_REVISION_FIRST: u64 = 1;

/// How many pairs are read between two reports of progress.
const PROGRESS_COUNT: u64 = 100_000;

/// Why a store's content cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Serving it would let everybody read and write what only some may.
    #[error(
        "authentication is enabled in this database, which this version does not enforce: start it with etcd, or \
         disable authentication there first"
    )]
    AuthEnabled,
}

/// A state, and what of the store is for other parts of the member.
#[derive(Debug)]
pub struct Restored {
    pub state: State,
    /// Key and value of each element of bucket `members`.
    pub members: Vec<(Bytes, Bytes)>,
    /// Keys of bucket `members_removed`.
    pub removed_members: Vec<Bytes>,
    /// Text of the cluster version, if it was set.
    pub cluster_version: Option<String>,
    /// False: written by an etcore that did not count the revisions of users and roles.
    pub has_auth_revision: bool,
    /// The version that the cluster prepares to go back to.
    pub downgrade_target: Option<String>,
}

impl State {
    /// The state that `stored` holds, telling `progress` now and then how many pairs were read. It is published.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        options: StateOptions,
        stored: impl Into<Stored>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Restored, RestoreError> {
        let Stored { store, index } = stored.into();
        let source = Source { store: &store };
        source.check_auth()?;
        let checkpoint = source.checkpoint()?;
        let (finished, scheduled) = source.compactions()?;
        let (index, newest) = match index {
            Some(index) => (index, source.newest()?),
            None => source.index(progress)?,
        };
        let compact_revision = finished.max(scheduled).unwrap_or(NEVER_COMPACTED);
        let revision = newest.max(compact_revision);
        let mut compactor = Compactor::restored(finished);
        if let Some(scheduled) = scheduled.filter(|_| scheduled > finished) {
            compactor.resume(finished.unwrap_or(NEVER_COMPACTED), scheduled);
        }
        let leases = source.leases(&index)?;
        let alarms = source.alarms()?;
        let cluster_version = source.cluster_version()?;
        let downgrade_target = source.downgrade_target()?;
        let members = source.all(Bucket::Members)?;
        let removed_members = source.keys(Bucket::MembersRemoved)?;
        let auth_revision = source.auth_revision()?;
        let kv = Kv::restored(index, revision, compact_revision, compactor);
        let state = State::over(Parts {
            options,
            tail: Tail::behind_store(),
            backend: Backend::new(store, checkpoint, kv.revision()),
            kv,
            leases,
            alarms,
            cluster_version: cluster_version.as_deref().and_then(ClusterVersion::parse),
            auth_revision: auth_revision.unwrap_or(AUTH_REVISION_FIRST),
        });
        Ok(Restored {
            state,
            members,
            removed_members,
            cluster_version,
            has_auth_revision: auth_revision.is_some(),
            downgrade_target,
        })
    }
}

impl State {
    /// Writes the revision at which users and roles begin. Not an entry's work: etcd, too, does so by itself, when it opens a
    /// store without one; it counts for the hash of the store.
    pub(crate) fn begin_auth(&mut self) {
        let first = Bytes::copy_from_slice(&AUTH_REVISION_FIRST.to_be_bytes());
        self.record(Bucket::Auth, Bytes::from_static(AUTH_REVISION), Some(first));
    }
}

/// What a start has to know of a database before its state is read.
///
/// # Errors
/// [`Damage`].
pub fn db_facts(store: &Store) -> Result<DbFacts, Damage> {
    let source = Source { store };
    fn meta<E>(what: &'static str) -> impl FnOnce(E) -> Damage {
        move |_| Damage::BadValue {
            bucket: Bucket::Meta,
            what,
        }
    }
    let at = source.checkpoint()?;
    if at.index == LogIndex(0) && source.bucket(Bucket::Key).last()?.is_some() {
        // Taking it for a new one would apply the whole log to it a second time.
        return Err(meta("consistent_index")(()));
    }
    let has_term = source.get(Bucket::Meta, log_meta::TERM)?.is_some();
    let conf_state = source.get(Bucket::Meta, log_meta::CONF_STATE)?;
    let conf_state = conf_state.map(log_meta::decode_conf_state).transpose();
    let version = source.get(Bucket::Meta, log_meta::STORAGE_VERSION)?;
    let version = version.map(log_meta::decode_storage_version).transpose();
    let members = source.all(Bucket::Members)?;
    let removed = source.keys(Bucket::MembersRemoved)?;
    let membership = Membership::restored(&members, &removed, None, None, 0)?;
    let (voters, learners) = membership.conf_state();
    Ok(DbFacts {
        consistent_index: at.index.0,
        term: has_term.then_some(at.term.0),
        conf_state: conf_state.map_err(meta("confState"))?,
        members: ConfState {
            voters,
            learners,
            ..ConfState::default()
        },
        removed_members: membership.removed().collect(),
        storage_version: version.map_err(meta("storageVersion"))?,
    })
}

/// The store, being read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) store: &'a Store,
}

impl<'a> Source<'a> {
    fn bucket(&self, bucket: Bucket) -> TreeReader<'a> {
        self.store.reader(bucket)
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<&'a [u8]>, Damage> {
        Ok(self.bucket(bucket).get(key)?)
    }

    fn all(&self, bucket: Bucket) -> Result<Vec<(Bytes, Bytes)>, Damage> {
        let mut all = Vec::new();
        let mut cursor = self.bucket(bucket).seek(b"")?;
        while let Some((key, value)) = cursor.next()? {
            all.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        }
        Ok(all)
    }

    fn keys(&self, bucket: Bucket) -> Result<Vec<Bytes>, Damage> {
        let all = self.all(bucket)?;
        Ok(all.into_iter().map(|(key, _)| key).collect())
    }

    fn check_auth(&self) -> Result<(), RestoreError> {
        match self.get(Bucket::Auth, b"authEnabled")? {
            Some([1]) => Err(RestoreError::AuthEnabled),
            _ => Ok(()),
        }
    }

    fn auth_revision(&self) -> Result<Option<u64>, Damage> {
        let Some(value) = self.get(Bucket::Auth, AUTH_REVISION)? else {
            return Ok(None);
        };
        let number = log_meta::decode_number(value).map_err(|_| Damage::BadValue {
            bucket: Bucket::Auth,
            what: "auth revision",
        })?;
        Ok(Some(number))
    }

    fn number(&self, key: &[u8], what: &'static str) -> Result<u64, Damage> {
        let Some(value) = self.get(Bucket::Meta, key)? else {
            return Ok(0);
        };
        log_meta::decode_number(value).map_err(|_| Damage::BadValue {
            bucket: Bucket::Meta,
            what,
        })
    }

    /// Where in the log the store stands; (0, 0) if it does not say.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint, Damage> {
        let index = self.number(log_meta::CONSISTENT_INDEX, "consistent_index")?;
        let term = self.number(log_meta::TERM, "term")?;
        Ok(Checkpoint {
            index: LogIndex(index),
            term: Term(term),
        })
    }

    /// The revisions of the last finished and the last scheduled compaction.
    fn compactions(&self) -> Result<(Option<i64>, Option<i64>), Damage> {
        let read = |key: &[u8], what| {
            let Some(value) = self.get(Bucket::Meta, key)? else {
                return Ok(None);
            };
            let revision = Revision::from_bucket_key(value).ok_or(Damage::BadValue {
                bucket: Bucket::Meta,
                what,
            })?;
            Ok::<_, Damage>(Some(revision.0.main))
        };
        let finished = read(meta::FINISHED_COMPACT_REV, "finishedCompactRev")?;
        let scheduled = read(meta::SCHEDULED_COMPACT_REV, "scheduledCompactRev")?;
        Ok((finished, scheduled))
    }

    /// The main revision of the newest pair.
    fn newest(&self) -> Result<i64, Damage> {
        let Some((key, _)) = self.bucket(Bucket::Key).last()? else {
            return Ok(0);
        };
        Ok(revision_of(key)?.0.main)
    }

    /// The index of all stored pairs, and the newest main revision of them.
    fn index(&self, progress: &mut dyn FnMut(u64)) -> Result<(Index, i64), Damage> {
        let (mut index, mut gathered) = (Index::new(), Gather::default());
        let (mut count, mut newest) = (0_u64, None);
        let disorder = |_| DISORDER;
        let mut cursor = self.bucket(Bucket::Key).seek(b"")?;
        while let Some((key, pair)) = cursor.next()? {
            let (revision, tombstone) = revision_of(key)?;
            let (key, version) = version_of(revision, tombstone, pair)?;
            // A revision may be there twice, as a put and as a tombstone.
            if newest
                .replace(revision)
                .is_some_and(|newest| newest >= revision)
            {
                return Err(DISORDER);
            }
            gathered.push(key, &version);
            if gathered.is_full() {
                gathered.pour(&mut index).map_err(disorder)?;
            }
            count += 1;
            if count.is_multiple_of(PROGRESS_COUNT) {
                progress(count);
            }
        }
        gathered.pour(&mut index).map_err(disorder)?;
        Ok((index, newest.map_or(0, |newest: Revision| newest.main)))
    }

    fn leases(&self, index: &Index) -> Result<Leases, Damage> {
        let mut leases = Leases::default();
        for (key, value) in self.all(Bucket::Lease)? {
            let malformed = |what| Damage::BadValue {
                bucket: Bucket::Lease,
                what,
            };
            let lease = leasepb::Lease::decode(value).map_err(|_| malformed("a lease"))?;
            if key != lease.id.to_be_bytes()[..] || lease.id == 0 {
                return Err(malformed("a lease's id"));
            }
            leases.restore(LeaseId(lease.id), lease.ttl, lease.remaining_ttl);
        }
        if !leases.is_empty() {
            let everything = KeyRange::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
            index.walk(&everything, None, i64::MAX, |key, version| {
                if let Some(version) = version {
                    leases.attach(version.lease, key);
                }
                true
            });
        }
        Ok(leases)
    }

    fn alarms(&self) -> Result<Alarms, Damage> {
        let mut alarms = Alarms::default();
        for (key, _) in self.all(Bucket::Alarm)? {
            let alarm = AlarmMember::decode(key.clone());
            let alarm = alarm.map_err(|_| Damage::bad_key(Bucket::Alarm, &key))?;
            alarms.restore(&alarm);
        }
        Ok(alarms)
    }

    fn downgrade_target(&self) -> Result<Option<String>, Damage> {
        let Some(value) = self.get(Bucket::Cluster, meta::DOWNGRADE)? else {
            return Ok(None);
        };
        downgrade::decode(value).ok_or(Damage::BadValue {
            bucket: Bucket::Cluster,
            what: "downgrade",
        })
    }

    fn cluster_version(&self) -> Result<Option<String>, Damage> {
        let Some(value) = self.get(Bucket::Cluster, meta::CLUSTER_VERSION)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value).ok();
        let text = text.filter(|text| ClusterVersion::parse(text).is_some());
        let text = text.ok_or(Damage::BadValue {
            bucket: Bucket::Cluster,
            what: "clusterVersion",
        })?;
        Ok(Some(text.to_owned()))
    }
}

/// What the index keeps of a stored pair, and the pair's key.
fn version_of(
    revision: Revision,
    tombstone: bool,
    pair: &[u8],
) -> Result<(&[u8], Version), Damage> {
    let malformed = Damage::BadPair { revision };
    let kv = Pair::parse(pair).ok_or(malformed.clone())?;
    if tombstone {
        return Ok((kv.key, Version::tombstone(revision, TailPosition::STORED)));
    }
    if kv.version < 1 || kv.mod_revision != revision.main {
        return Err(malformed);
    }
    let version = Version {
        revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: LeaseId(kv.lease),
        position: TailPosition::STORED,
    };
    Ok((kv.key, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::testing::TestDisk;

    /// A flipped bit in the name of `consistent_index` once made a full database look like one that no entry was applied
    /// to: the whole log was applied to it again (simulator, seed 784).
    #[test]
    fn pairs_without_a_consistent_index_are_refused() {
        let disk = TestDisk::default();
        let mut store = disk.store();
        store.begin();
        let key = Revision::new(2, 0).to_bucket_key(false);
        store.put(Bucket::Key, key.as_bytes(), b"pair").unwrap();
        store.seal(true).unwrap();
        while let Some(io) = store.poll_io() {
            let result = disk.perform(&io);
            store.on_io_done(io.ticket, result);
        }
        let refused = Damage::BadValue {
            bucket: Bucket::Meta,
            what: "consistent_index",
        };
        assert_eq!(db_facts(&disk.reopen()), Err(refused));
    }
}
