//! The whole file as one commit left it, for those who read for long: a snapshot that is sent, a hash over everything.
//!
//! A View that is held for long would keep the tail in memory. An image keeps only pages of the file: what left the trees
//! since then is not used again while it lives. So the file may grow, and nothing else.
//!
//! ```text
//!   meta page 0 | meta page 1 | pages ....................... | end
//!   \__ made anew, both lead __/  \__ as they are in the file; those that no tree reaches hold anything
//!        to this commit
//! ```

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::StoreFile;
use crate::boot::meta as log_meta;
use crate::mvcc::RequestError;
use crate::store::{BUCKETS, Store, StoreDamage, Tree, TreeReader};
use crate::tail::Bucket;
use crate::types::Budget;

/// Which commits somebody keeps.
#[derive(Debug, Default)]
pub(super) struct Images {
    pins: Vec<(u64, Weak<()>)>,
}

impl Images {
    pub(super) fn pin(&mut self, txid: u64) -> Arc<()> {
        let pin = Arc::new(());
        self.pins.push((txid, Arc::downgrade(&pin)));
        pin
    }

    /// The oldest commit that is kept, or `newest`.
    pub(super) fn oldest(&mut self, newest: u64) -> u64 {
        self.pins.retain(|(_, pin)| pin.strong_count() > 0);
        self.pins
            .iter()
            .fold(newest, |oldest, (txid, _)| oldest.min(*txid))
    }
}

/// One commit of the store; see the module text. May be read on any thread.
#[derive(Clone, Debug)]
pub struct StoreImage {
    file: Arc<StoreFile>,
    meta_pages: Bytes,
    len: u64,
    trees: [Tree; BUCKETS.len()],
    storage_version: Option<Bytes>,
    _pin: Arc<()>,
}

impl StoreImage {
    pub(super) fn new(store: &Store, file: Arc<StoreFile>, pin: Arc<()>) -> Option<Self> {
        let version = store.reader(Bucket::Meta).get(log_meta::STORAGE_VERSION);
        Some(StoreImage {
            file,
            meta_pages: store.meta_pages()?,
            len: store.file_bytes(),
            trees: BUCKETS.map(|bucket| store.tree(bucket)),
            // Damage is found by whoever reads on.
            storage_version: version.ok().flatten().map(Bytes::copy_from_slice),
            _pin: pin,
        })
    }

    /// The beginning of the file that it makes; the rest is as it is in the database.
    pub fn meta_pages(&self) -> &Bytes {
        &self.meta_pages
    }

    /// Bytes of the file that it makes. The database may be cut below that meanwhile: nothing is there then.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Whose schema it has.
    pub fn storage_version(&self) -> Option<&str> {
        std::str::from_utf8(self.storage_version.as_deref()?).ok()
    }
}

/// CRC-32C over all buckets: each one's name, then its keys and values; but what says where the log stood.
#[derive(Debug)]
pub struct ImageHash {
    image: StoreImage,
    /// Position in [`BUCKETS`].
    bucket: usize,
    /// The last key that is in it.
    last: Option<Vec<u8>>,
    crc: u32,
}

impl ImageHash {
    pub fn new(image: StoreImage) -> Self {
        ImageHash {
            image,
            bucket: 0,
            last: None,
            crc: 0,
        }
    }

    /// Does a slice; the hash at the end.
    ///
    /// # Errors
    /// [`RequestError::Damaged`]: the file is, and the member will stop.
    pub fn step(&mut self, budget: &mut Budget) -> Result<Option<u32>, RequestError> {
        let step = self.go_on(budget);
        step.map_err(|damage| self.image.file.fail(damage))
    }

    fn go_on(&mut self, budget: &mut Budget) -> Result<Option<u32>, StoreDamage> {
        while let Some(&bucket) = BUCKETS.get(self.bucket) {
            if self.last.is_none() {
                self.crc = crc32c::crc32c_append(self.crc, bucket.name().as_bytes());
            }
            if !self.hash_pairs(bucket, budget)? {
                return Ok(None);
            }
            self.bucket += 1;
            self.last = None;
        }
        Ok(Some(self.crc))
    }

    /// True at the end of the bucket.
    fn hash_pairs(&mut self, bucket: Bucket, budget: &mut Budget) -> Result<bool, StoreDamage> {
        let tree = self.image.trees[bucket as usize];
        let reader: TreeReader<'_> = self.image.file.reader(tree);
        let mut cursor = reader.seek(self.last.as_deref().unwrap_or_default())?;
        while let Some((key, value)) = cursor.next()? {
            if self.last.as_deref() == Some(key) {
                continue;
            }
            if !is_about_the_log(bucket, key) {
                self.crc = crc32c::crc32c_append(self.crc, key);
                self.crc = crc32c::crc32c_append(self.crc, value);
            }
            budget.spend(1);
            if budget.is_spent() {
                self.last = Some(key.to_vec());
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Two members with the same content may differ in these.
fn is_about_the_log(bucket: Bucket, key: &[u8]) -> bool {
    let keys = [
        log_meta::CONSISTENT_INDEX,
        log_meta::TERM,
        log_meta::STORAGE_VERSION,
    ];
    bucket == Bucket::Meta && keys.contains(&key)
}
