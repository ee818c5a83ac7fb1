//! What is wrong with a store's file.

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
    #[error("the pair of revision {revision} is missing")]
    PairMissing { revision: Revision },
    #[error("bucket {}: a key is malformed", bucket.name())]
    BadKey { bucket: Bucket },
    #[error("bucket {}: {what} is malformed", bucket.name())]
    BadValue { bucket: Bucket, what: &'static str },
}
