//! Files that fail on purpose, for tests.
//!
//! With the cargo feature `faults` every file operation asks here first. Without it, which is how releases are
//! built, the question is an empty function. A rule is one line:
//!
//! ```text
//! <operation>:<path pattern>[:after=N][:times=N]:<effect>
//!
//! operation  open read write sync allocate truncate rename remove mkdir syncdir, or *
//! pattern    of the whole path; * stands for any text, / included
//! after=N    the first N matching operations pass
//! times=N    only the next N are hit; without it, all
//! effect     an errno by name (ENOSPC, EIO, EDQUOT, EROFS, EACCES, EMFILE, EINTR, ENOMEM) or number;
//!            short=N: a read brings N bytes, a write puts N on the disk and fails;
//!            delay=N: N milliseconds pass first
//!
//! allocate:*.tmp:after=1:ENOSPC
//! sync:*.wal:times=1:EIO
//! ```
//!
//! Rules come from [`install`] or from the environment variable `ETCORE_FAULTS`: rules separated by
//! `;`, or `@<path>` of a control file with one rule a line. The control file is read again when it changes,
//! so that a fault can begin and end while a server runs; a changed file starts its counts anew, a missing or
//! empty one holds no rule. The first rule that hits is the one that acts.

use std::io;
use std::path::Path;

#[cfg(feature = "faults")]
mod rules;

#[cfg(feature = "faults")]
pub use rules::{BadRule, Guard, install};

/// What is about to be done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Open,
    Read,
    Write,
    Sync,
    Allocate,
    Truncate,
    Rename,
    Remove,
    CreateDir,
    SyncDir,
}

/// Fails, or waits, if a rule says so. `Some(len)`: only this much is to succeed.
#[cfg(feature = "faults")]
pub(crate) async fn inject(op: Op, path: &Path) -> io::Result<Option<usize>> {
    match rules::check(op, path) {
        None => Ok(None),
        Some(rules::Effect::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(rules::Effect::Short(len)) => Ok(Some(len)),
        Some(rules::Effect::Delay(time)) => {
            crate::sleep(time).await;
            Ok(None)
        }
    }
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) async fn inject(_op: Op, _path: &Path) -> io::Result<Option<usize>> {
    Ok(None)
}

/// [`inject`] for a write. `Some(len)`: write this much, then fail.
#[inline(always)]
pub(crate) async fn inject_write(path: &Path) -> io::Result<Option<usize>> {
    inject(Op::Write, path).await
}
