//! Why a request was refused, by the short names of etcd's error catalogue.
//!
//! The texts are for logs; a server maps each name to etcd's code and message at its own border.

use crate::backend::Damage;

/// The refusal of one request. It changed nothing, except [`RequestError::NoSpace`] of a request that itself passed
/// the quota, as in etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    #[error("key is not provided")]
    EmptyKey,
    #[error("key not found")]
    KeyNotFound,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("invalid sort option")]
    InvalidSortOption,
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRev,
    #[error("database space exceeded")]
    NoSpace,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExist,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("corrupt cluster")]
    Corrupt,
    /// An entry asks for what this version cannot apply. Passing over it would make this member diverge, so the
    /// caller must not treat it as an ordinary refusal.
    #[error("entry holds {what}, which this member cannot apply")]
    Unsupported { what: &'static str },
    /// The database file does not hold what was written to it. The member stops.
    #[error("database file: {0}")]
    Damaged(#[from] Damage),
    /// An entry holds a value that no etcd writes.
    #[error("entry holds a malformed {what}")]
    Malformed { what: &'static str },
}
