//! The next revision while an entry is applied: puts and deletes.

use bytes::Bytes;
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
};
use proto::mvccpb::KeyValue;

use super::pair::{Pair, decode, key_of, value_of};
use super::{Kv, Reader, RequestError};
use crate::backend::{PairRef, Pairs, StoreSide};
use crate::index::{Buried, KeyRange, Version, Walked};
use crate::lease::Leases;
use crate::tail::{Mutation, Tail};
use crate::types::{Budget, LeaseId, Revision};

/// What the entry being applied has done so far. It outlives the slices.
#[derive(Debug)]
pub(crate) struct Change {
    begin: i64,
    /// Changes so far; also the next sub revision.
    count: i64,
    /// Keys that no longer hang on a lease. They are detached only once the entry is whole, since readers at the
    /// former revision still see them attached.
    detached: Vec<(LeaseId, Bytes)>,
}

impl Change {
    pub(crate) fn new(begin: i64) -> Self {
        Change {
            begin,
            count: 0,
            detached: Vec::new(),
        }
    }

    pub(crate) fn begin(&self) -> i64 {
        self.begin
    }

    /// The revision that the entry sees and that its answers carry: the next one as soon as something has changed.
    pub(crate) fn revision(&self) -> i64 {
        self.begin + i64::from(self.count > 0)
    }

    pub(crate) fn take_detached(&mut self) -> Vec<(LeaseId, Bytes)> {
        std::mem::take(&mut self.detached)
    }

    /// The header of an answer given now.
    pub(super) fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.revision(),
            ..ResponseHeader::default()
        })
    }
}

/// Borrows, for one slice, all that an entry may change.
pub(crate) struct Writer<'a> {
    pub(crate) kv: &'a mut Kv,
    pub(crate) tail: &'a mut Tail,
    pub(crate) store: StoreSide<'a>,
    pub(crate) leases: &'a mut Leases,
    pub(crate) change: &'a mut Change,
}

impl Writer<'_> {
    /// Reads with the entry's own changes.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            revision: self.change.revision(),
            ..self.kv.reader(self.tail, self.store)
        }
    }

    /// What a put needs, checked before anything changes: its lease, then the pair that `ignore_*` keeps.
    pub(crate) fn check_put(&self, request: &PutRequest) -> Result<(), RequestError> {
        if request.lease != 0 && !self.leases.contains(LeaseId(request.lease)) {
            return Err(RequestError::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.reader().get(&request.key).is_none() {
            return Err(RequestError::KeyNotFound);
        }
        Ok(())
    }

    /// The pair that a put supersedes, if its answer or its value needs it.
    fn former_pair(&self, request: &PutRequest) -> Result<Option<Bytes>, RequestError> {
        if !request.prev_kv && !request.ignore_value {
            return Ok(None);
        }
        let reader = self.reader();
        let former = reader.get(&request.key);
        let pair = former.map(|version| reader.pair(&version)).transpose()?;
        Ok(pair.map(PairRef::to_bytes))
    }

    /// Puts. The request was checked by [`Writer::check_put`].
    ///
    /// # Errors
    /// [`RequestError::Damaged`], before anything has changed.
    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, RequestError> {
        let former_pair = self.former_pair(request)?;
        let put_len = request.key.len() + request.value.len();
        self.kv.put_size_bytes = self.kv.put_size_bytes.saturating_add(put_len as u64);
        let (tail, change) = (&mut *self.tail, &mut *self.change);
        let revision = Revision::new(change.begin + 1, change.count);
        let mut former_lease = LeaseId::NONE;
        let mut lease = LeaseId(request.lease);
        let mut key = Bytes::new();
        self.kv.index.insert(&request.key, |newest| {
            let former = newest.filter(|version| version.is_live());
            former_lease = former.map_or(LeaseId::NONE, |version| version.lease);
            if request.ignore_lease {
                lease = former_lease;
            }
            let kept = former_pair
                .as_ref()
                .filter(|_| request.ignore_value)
                .map(value_of);
            let create_revision = former.map_or(revision.main, |version| version.create_revision);
            let version = former.map_or(1, |version| version.version + 1);
            let pair = Pair {
                key: &request.key,
                create_revision,
                mod_revision: revision.main,
                version,
                value: kept.as_ref().unwrap_or(&request.value),
                lease: lease.0,
            }
            .encode();
            if former_lease != lease {
                key = key_of(&pair);
            }
            let position = tail.push(Mutation::Pair {
                revision,
                tombstone: false,
                pair,
            });
            Version {
                revision,
                create_revision,
                version,
                lease,
                position,
            }
        });
        change.count += 1;
        if former_lease != lease {
            if !former_lease.is_none() {
                change.detached.push((former_lease, key.clone()));
            }
            self.leases.attach(lease, &key);
        }
        let prev_kv = former_pair
            .filter(|_| request.prev_kv)
            .map(|pair| decode(&pair));
        Ok(PutResponse {
            header: self.change.header(),
            prev_kv,
        })
    }

    /// Deletes keys of `range` after `after` while the budget lasts, telling `gone` the version of each before it goes.
    /// Returns the key to go on after, `None` when the range is done.
    ///
    /// # Errors
    /// Those of `gone`, which end it.
    pub(crate) fn delete(
        &mut self,
        range: &KeyRange,
        after: Option<&[u8]>,
        budget: &mut Budget,
        mut gone: impl FnMut(Pairs<'_>, &Version) -> Result<(), RequestError>,
    ) -> Result<Option<Box<[u8]>>, RequestError> {
        let (tail, change, store) = (&mut *self.tail, &mut *self.change, self.store);
        let mut failed = None;
        let mut last: Option<Box<[u8]>> = None;
        let mut seen = 0_usize;
        let allowed = budget.left().max(1);
        let walked = self.kv.index.bury(range, after, |key, live| {
            if seen == allowed {
                return Buried::Stop;
            }
            seen += 1;
            if seen == allowed {
                last = Some(key.into());
            }
            let Some(version) = live else {
                return Buried::Skipped;
            };
            if let Err(error) = gone(store.pairs(tail.view()), version) {
                failed = Some(error);
                return Buried::Stop;
            }
            let revision = Revision::new(change.begin + 1, change.count);
            let pair = Pair {
                key,
                ..Pair::default()
            }
            .encode();
            if !version.lease.is_none() {
                change.detached.push((version.lease, key_of(&pair)));
            }
            change.count += 1;
            Buried::Tombstone(Version::tombstone(
                revision,
                tail.push(Mutation::Pair {
                    revision,
                    tombstone: true,
                    pair,
                }),
            ))
        });
        budget.spend(seen);
        match (failed, walked) {
            (Some(error), _) => Err(error),
            (None, Walked::All) => Ok(None),
            (None, Walked::Stopped) => Ok(last),
        }
    }
}

/// A delete range in progress.
#[derive(Debug)]
pub(crate) struct DeleteRun {
    range: KeyRange,
    wants_prev: bool,
    after: Option<Box<[u8]>>,
    deleted: i64,
    prev_kvs: Vec<KeyValue>,
}

impl DeleteRun {
    pub(crate) fn new(request: &DeleteRangeRequest) -> Self {
        DeleteRun {
            range: KeyRange::new(&request.key, &request.range_end),
            wants_prev: request.prev_kv,
            after: None,
            deleted: 0,
            prev_kvs: Vec::new(),
        }
    }

    /// Does a slice; answers when the whole range is deleted.
    ///
    /// # Errors
    /// [`RequestError::Damaged`]: the entry is half applied then and the member stops.
    pub(crate) fn step(
        &mut self,
        writer: &mut Writer<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DeleteRangeResponse>, RequestError> {
        let after = self.after.take();
        self.after = writer.delete(&self.range, after.as_deref(), budget, |pairs, version| {
            self.deleted += 1;
            if self.wants_prev {
                let pair = pairs.get(version)?.to_bytes();
                self.prev_kvs.push(decode(&pair));
            }
            Ok(())
        })?;
        if self.after.is_some() {
            return Ok(None);
        }
        Ok(Some(DeleteRangeResponse {
            header: writer.change.header(),
            deleted: self.deleted,
            prev_kvs: std::mem::take(&mut self.prev_kvs),
        }))
    }
}
