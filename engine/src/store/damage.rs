//! What can be wrong with the bytes of a store, and at which byte.
//!
//! Offsets are those of the file. The shell adds the file's path when it reports one of these.

/// Bytes of the file contradict its format. The disk's or another program's fault; a retry does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {what}")]
pub struct StoreDamage {
    /// Where the page or element begins that cannot be.
    pub offset: u64,
    pub what: DamageKind,
}

/// See [`StoreDamage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    #[error("{len} bytes are expected here, but the file ends before")]
    PastEnd { len: u64 },
    #[error("page {page} is referred to, but pages here are 2 to {limit} (exclusive)")]
    PageOutside { page: u64, limit: u64 },
    #[error("the page says that it is page {found}")]
    WrongPage { found: u64 },
    #[error("page flags {found:#06x}, which is not the kind of page that belongs here")]
    WrongKind { found: u16 },
    #[error("{count} elements do not fit into the page")]
    TooManyElements { count: usize },
    #[error("element {index} reaches past the page")]
    ElementOutside { index: usize },
    #[error("element {index} has an empty key")]
    EmptyKey { index: usize },
    #[error("a branch page without children")]
    EmptyBranch,
    #[error(
        "the tree is deeper than {} levels, or goes in circles",
        super::node::DEPTH_MAX
    )]
    TooDeep,
    #[error("leaf pages at different depths of one tree")]
    Unbalanced,
    #[error("keys do not ascend here")]
    NotAscending,
    #[error("no end of empty leaf pages")]
    EmptyLeaves,
    #[error("page {page} is reached twice")]
    ReachedTwice { page: u64 },
    #[error("a bucket's value has {len} bytes, which is too short")]
    BucketValue { len: usize },
    #[error("a plain value under the name of a bucket")]
    NotABucket,
    #[error("a bucket where a plain value belongs")]
    UnexpectedBucket,
    #[error("an inline bucket that is no leaf page of plain values")]
    InlineBucket,
    #[error("a list of {count} free pages does not fit into its pages")]
    FreelistTooLong { count: u64 },
    #[error("free page {page} is out of order, out of range or in use")]
    FreelistEntry { page: u64 },
    #[error("page {page} is neither in use nor free")]
    Lost { page: u64 },
}

/// The file cannot be opened as a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A crash while it was made. Nothing was ever committed to it, so a new one may take its place.
    #[error(
        "byte 0: the file is empty or holds no commit: its creation was interrupted. Remove it"
    )]
    Unborn,
    #[error(
        "byte 0: the file has {len} bytes, too few for a bbolt database. Restore it from a snapshot or remove the member"
    )]
    TooShort { len: u64 },
    #[error(
        "byte 0: not a bbolt database: no meta page with its magic number at byte 0 or {second}. Is this the right file?"
    )]
    NotBbolt { second: u64 },
    #[error(
        "byte {offset}: version {found} of bbolt's format; this program knows version 2. Use the program that wrote it"
    )]
    Version { offset: u64, found: u32 },
    #[error(
        "byte {offset}: page size {found}; it must be a power of two from 1024 to 65536. Restore from a snapshot"
    )]
    PageSize { offset: u64, found: u32 },
    #[error(
        "byte 0 and byte {second}: both meta pages are damaged (checksum). Restore from a snapshot, or remove the \
         member and add it anew"
    )]
    BothMetasDamaged { second: u64 },
    #[error(
        "byte {offset}: the meta page counts {pages} pages, but the file ends at byte {len}: it was cut. Restore from \
         a snapshot, or remove the member and add it anew"
    )]
    Truncated { offset: u64, pages: u64, len: u64 },
    #[error(
        "byte {offset}: the meta page names page {page}, but pages are 2 to {limit} (exclusive). Restore from a \
         snapshot"
    )]
    PageOutside { offset: u64, page: u64, limit: u64 },
    #[error("{0}. Restore from a snapshot, or remove the member and add it anew")]
    Damage(#[from] StoreDamage),
}

impl StoreDamage {
    pub(super) const fn new(offset: u64, what: DamageKind) -> Self {
        StoreDamage { offset, what }
    }
}
