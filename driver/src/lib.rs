//! Executors, sockets, files and timers: the one crate that knows io_uring.
//!
//! Everything is completion-style and neutral about the runtime below: buffers are owned, go in with the
//! call and come back with the result, and no type of the ring appears in a signature.
//!
//! ```text
//!  probe     can this machine run us? said before anything starts
//!  executor  run one executor on this thread; spawn, yield, sleep, now
//!  ring      the executor's io_uring: operations as futures
//!  notify    oneshot      between tasks of one executor
//!  mailbox                between executors, and from plain threads
//!  blocking               what the ring cannot do, on helper threads
//!  net       Listener, UnixListener, Stream
//!  file      File, AlignedBuf;  fs: directories;  lock: one owner per file
//!  map       MappedFile: a file read in place by any thread
//!  faults    tests make files fail (feature `faults`)
//! ```
//!
//! Invariants:
//! - futures here are `!Send` and belong to the executor that first polls them;
//! - dropping a future ends the wait, never corrupts: a write in flight may still reach the disk;
//! - no call blocks the executor's thread, except where its doc says so;
//! - `unsafe` lives in `sys`, `memory`, `map`, `ring/kernel` and `ring/pool` only.

#![deny(unsafe_code)]

mod blocking;
mod executor;
pub mod faults;
mod file;
pub mod fs;
mod load;
mod lock;
mod mailbox;
mod map;
mod memory;
mod net;
mod notify;
mod oneshot;
mod probe;
mod ring;
mod sys;
mod time;

pub use blocking::blocking;
pub use executor::{
    DriverError, ExecutorConfig, Task, expect_soon, need_yield, observe_turns, run, spawn,
    turn_cpu_time, yield_now,
};
pub use file::{AlignedBuf, Allocate, BLOCK_SIZE_BYTES, Caching, File};
pub use load::thread_cpu_time;
pub use lock::{FileLock, LockError};
pub use mailbox::{Mailbox, MailboxSender, SendError, mailbox};
pub use map::{MappedFile, MemoryFile};
pub use net::{DetachedStream, ListenOptions, Listener, Stream, UnixListener};
pub use notify::{Notified, Notify};
pub use oneshot::{Closed, Receiver, Sender, oneshot};
pub use probe::{ProbeError, probe};
pub use time::{Elapsed, Sleep, now, sleep, timeout};
