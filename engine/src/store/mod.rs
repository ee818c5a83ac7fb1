//! The store: `member/snap/db`, in bbolt's layout and with etcd's buckets, so that etcd's own tools open it.
//!
//! ```text
//!   meta page 0 | meta page 1 | pages ...                        the file; page size 4096
//!        \______________/
//!          newer one wins
//!               |
//!          root bucket (a tree: bucket name -> where the bucket's tree begins)
//!            /     |     \
//!        alarm .. key .. meta        each a tree of branch and leaf pages, sorted by key
//!
//!   damage   what can be wrong with bytes, and where          node     one page, every access checked
//!   page     headers, meta pages, bucket values as bytes      read     get, seek, last: for readers on any core
//!   space    which pages are free, and when                   build    elements gathered into pages
//!   rewrite  one tree with ascending changes merged in        commit   a commit from begin to its last sync
//!   open     which meta page counts                           scan     the free pages, if no list of them is stored
//!   high     which pages lie too far behind in the file
//!   ahead    which pages a walk is about to read that are not in memory
//!   check    the whole file, for tests and tools              memory   a file in memory, for tests and the simulator
//! ```
//!
//! Two copy-on-write engines live side by side. This one and [`cow`](crate::cow) publish by the same rule: a page is
//! written only if no published root reaches it, and a page that left the tree is used again only once no pin is
//! older than the commit that dropped it. They differ in their pages: there they have one size, are heap memory and
//! are changed in place within a batch; here they may be any number of pages long, are bytes of a mapped file, and are
//! built once, in key order, from sorted changes. So nothing but the rule is shared.
//!
//! Invariants:
//! - pages that a commit writes are reachable neither from the trees of the two newest commits of this store (since it
//!   was opened) nor from a root that is as new as [`Store::release`] was told, or newer;
//! - the meta page is written after everything it names was synced, over the older of the two;
//! - no bytes of the file, whatever they are, cause a panic or a memory claim beyond the file's own size. They cause
//!   [`StoreDamage`], with the offset.
//!
//! [`Store`] is the writer and lives on the log shard. [`TreeReader`] runs anywhere. Nothing here opens a file: reading
//! goes through [`Pages`], writing is handed out as [`StoreIo`].
//!
//! A commit whose last pages are free ends before them. The file is cut to that when it was asked for
//! ([`Store::shrink`]), once no meta page leads behind the cut. `docs/format.md` has the bytes.

mod ahead;
mod build;
mod check;
mod commit;
mod damage;
mod high;
mod io;
mod memory;
mod node;
mod open;
mod page;
mod read;
mod rewrite;
mod scan;
mod space;
mod writing;

use crate::tail::Bucket;

pub use ahead::{Extent, Look};
pub use check::{CheckReport, check};
pub use commit::Store;
pub use damage::{DamageKind, OpenError, StoreDamage};
pub use high::HighPages;
pub use io::{CommitState, StoreIo, StoreOp, StoreTicket};
pub use memory::MemoryPages;
pub use page::{PageNo, Tree};
pub use read::{Cursor, Pair, TreeReader};

/// The buckets that a new store gets, in the order of their names and of the enum.
pub const BUCKETS: [Bucket; 10] = [
    Bucket::Alarm,
    Bucket::Auth,
    Bucket::AuthRoles,
    Bucket::AuthUsers,
    Bucket::Cluster,
    Bucket::Key,
    Bucket::Lease,
    Bucket::Members,
    Bucket::MembersRemoved,
    Bucket::Meta,
];

// A bucket is found by its number in tables of this order.
const _: () = {
    let mut index = 0;
    while index < BUCKETS.len() {
        assert!(BUCKETS[index] as usize == index);
        index += 1;
    }
};

/// The bytes of the file, as any thread may read them.
///
/// What a reader was given stays as it is while its pin holds the page: the writer does not write to such pages.
pub trait Pages: std::fmt::Debug + Send + Sync {
    /// `None`: not all of these bytes lie before the end of the file.
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]>;

    /// Whether reading these bytes waits for no disk, as far as can be told. Slow work has them loaded otherwise.
    fn is_loaded(&self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        true
    }
}
