//! What is wrong with a store's file.

use bytes::Bytes;

use crate::store::StoreDamage;
use crate::tail::Bucket;
use crate::types::Revision;

/// The file is not what was written to it: the disk's fault, or somebody else wrote to it. A retry cannot help; the member
/// stops, and its directory must come from a backup or from the other members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    #[error(transparent)]
    Store(#[from] StoreDamage),
    #[error("bucket key: the pair of revision {revision} is missing")]
    PairMissing { revision: Revision },
    #[error("bucket key: the pair of revision {revision} is malformed")]
    BadPair { revision: Revision },
    #[error("bucket {}: the key {key:?} is malformed", bucket.name())]
    BadKey {
        bucket: Bucket,
        /// The beginning of it.
        key: Bytes,
    },
    #[error("bucket {}: {what} is malformed", bucket.name())]
    BadValue { bucket: Bucket, what: &'static str },
}

/// Longer keys are told by their beginning: enough to find one, short enough for a line.
const TOLD_KEY_LEN_MAX: usize = 32;

impl Damage {
    pub(crate) fn bad_key(bucket: Bucket, key: &[u8]) -> Self {
        let told = key.get(..TOLD_KEY_LEN_MAX).unwrap_or(key);
        Damage::BadKey {
            bucket,
            key: Bytes::copy_from_slice(told),
        }
    }
}
