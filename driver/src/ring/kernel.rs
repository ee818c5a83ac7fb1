//! The ring itself and the table of operations under way. All `unsafe` of submitting lives here.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::thread::CpuSet;
use socket2::SockAddr;

use super::pool::{self, Pool};
use crate::memory::Blocks;

/// Entries of the submission queue. More operations than that are submitted in between.
const ENTRY_COUNT: u32 = 512;
/// Completions that fit before the kernel has to keep them elsewhere.
const COMPLETION_COUNT: u32 = 4096;
/// User data of cancellations, whose answers nobody waits for.
const NOBODY: u64 = u64::MAX;
/// Bit of the user data of a write that a sync is linked to: its completion is posted only if it failed.
const FAILED_WRITE: u64 = 1 << 63;
/// How long [`Kernel::drain`] waits for operations that were cancelled.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
const DRAIN_SLICE: Duration = Duration::from_millis(100);

/// An operation, with all that the kernel may touch while it is under way.
#[derive(Debug)]
pub(crate) enum Request {
    /// Answers when the eventfd was written to; resets it.
    Bell {
        eventfd: Arc<OwnedFd>,
        count: Box<u64>,
    },
    Accept {
        socket: Rc<OwnedFd>,
        /// The connection, once there is one.
        accepted: Option<OwnedFd>,
    },
    Connect {
        socket: Rc<OwnedFd>,
        address: Box<SockAddr>,
    },
    /// Appends what arrives to `bytes`, at most `len_max` and at most a pool buffer's length.
    Receive {
        socket: Rc<OwnedFd>,
        bytes: Vec<u8>,
        len_max: usize,
    },
    /// Sends `bytes[from..]`, possibly less.
    Send {
        socket: Rc<OwnedFd>,
        bytes: Vec<u8>,
        from: usize,
    },
    /// Fills `blocks`, possibly less.
    Read {
        file: Rc<OwnedFd>,
        blocks: Blocks,
        offset: u64,
    },
    /// Writes `blocks`, as durably as `sync` says.
    Write {
        file: Rc<OwnedFd>,
        blocks: Blocks,
        offset: u64,
        sync: WithSync,
    },
    /// fdatasync.
    Sync { file: Rc<OwnedFd> },
    /// Sends what is in the page cache of this range to the disk and waits for it. No barrier, no metadata.
    WriteBack {
        file: Rc<OwnedFd>,
        offset: u64,
        len: u32,
    },
}

/// Whether a write is on the disk when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithSync {
    No,
    /// fdatasync follows at once as an operation of its own; that less than all was written is an error then.
    Linked,
    /// The write itself ends only then (RWF_DSYNC). Says nothing about earlier writes.
    Within,
}

/// The place of an operation in the table.
#[derive(Debug)]
pub(crate) struct Key(usize);

enum Slot {
    Free,
    Busy {
        request: Request,
        waker: Option<Waker>,
        is_abandoned: bool,
    },
    Done {
        request: Request,
        result: io::Result<u32>,
    },
}

/// How long [`Kernel::enter`] waits for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    AtMost(Duration),
    ForEver,
}

/// A ring and the operations on it. Belongs to the thread that made it.
pub(crate) struct Kernel {
    // Dropped first: the kernel must let go before the memory below does.
    uring: IoUring,
    pool: Option<Pool>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    busy_count: usize,
    can_link_quietly: bool,
    /// Sends, which the kernel does on the spot. They are submitted behind all else, so that the disk has its work by
    /// then.
    late: VecDeque<Entry>,
    /// The queue holds work for the disk, which the kernel hands over at the end of a submission.
    has_disk_work: bool,
}

impl Kernel {
    /// Sets up a ring for the calling thread, with what the running kernel can do best.
    ///
    /// # Errors
    /// What io_uring_setup says.
    pub(crate) fn new() -> io::Result<Self> {
        let uring = setup()?;
        let mut submitter = uring.submitter();
        // Both only save time: the look-up of the descriptor (5.18), a receive buffer per connection (5.19).
        let _ = submitter.register_ring_fd();
        let pool = Pool::register(&submitter).ok();
        let can_link_quietly = uring.params().is_feature_skip_cqe_on_success();
        Ok(Kernel {
            uring,
            pool,
            slots: Vec::new(),
            free: Vec::new(),
            busy_count: 0,
            can_link_quietly,
            late: VecDeque::new(),
            has_disk_work: false,
        })
    }

    /// Lets the kernel's worker threads run on `cpus` even if this thread is pinned.
    pub(crate) fn free_workers(&self, cpus: &CpuSet) {
        // SAFETY: a set of CPUs is plain bits; all zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| cpus.is_set(cpu)) {
            // SAFETY: both kinds of set have room for the same number of CPUs.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        // Since 5.14; without it they share our CPU: slower, not wrong.
        let _ = self.uring.submitter().register_iowq_aff(&set);
    }

    /// Whether a write can carry its sync ([`WithSync::Linked`]).
    pub(crate) fn can_link(&self) -> bool {
        self.can_link_quietly
    }

    /// Queues an operation.
    ///
    /// # Errors
    /// If the queue is full and the kernel takes nothing; the request comes back.
    pub(crate) fn start(&mut self, mut request: Request) -> Result<Key, (io::Error, Request)> {
        let is_late = matches!(request, Request::Send { .. });
        let is_durable = matches!(&request, Request::Write { sync, .. } if *sync != WithSync::No);
        if !is_late && let Err(error) = self.make_room() {
            return Err((error, request));
        }
        let index = self.free.pop().unwrap_or(self.slots.len());
        let user_data = index as u64;
        let (entry, linked) = prepare(&mut request, self.pool.is_some());
        let entry = match linked {
            None => entry.user_data(user_data),
            Some(_) => entry
                .user_data(user_data | FAILED_WRITE)
                .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS),
        };
        let slot = Slot::Busy {
            request,
            waker: None,
            is_abandoned: false,
        };
        if index == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.slots[index] = slot;
        }
        self.busy_count += 1;
        if is_late {
            self.late.push_back(entry);
            return Ok(Key(index));
        }
        self.has_disk_work |= is_durable;
        let mut queue = self.uring.submission();
        // SAFETY: all pointers of the entries lead into heap memory that the request owns (moving the request moves
        // no heap memory), and its slot keeps the request until the last completion; descriptors likewise. The
        // queue has room for two entries, so neither push fails.
        unsafe {
            let _ = queue.push(&entry);
            if let Some(sync) = linked {
                let _ = queue.push(&sync.user_data(user_data));
            }
        }
        Ok(Key(index))
    }

    /// Makes room for two entries, since a link must not be cut by a submission.
    fn make_room(&mut self) -> io::Result<()> {
        let queue = self.uring.submission();
        if queue.capacity() - queue.len() >= 2 {
            return Ok(());
        }
        drop(queue);
        self.uring.submit().map(drop)
    }

    /// Moves the sends to the end of the submission queue; submits before if the disk waits, and in between if it is
    /// full.
    fn push_late(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_disk_work) && !self.late.is_empty() {
            self.uring.submit()?;
        }
        while !self.late.is_empty() {
            self.make_room()?;
            let mut queue = self.uring.submission();
            while !queue.is_full()
                && let Some(entry) = self.late.pop_front()
            {
                // SAFETY: as in `start`: the slot of the send owns what its entry points to.
                let _ = unsafe { queue.push(&entry) };
            }
        }
        Ok(())
    }

    /// The end of an operation, if it has come; else `waker` is told when it does.
    pub(crate) fn take(
        &mut self,
        key: Key,
        waker: &Waker,
    ) -> Result<(io::Result<u32>, Request), Key> {
        let slot = &mut self.slots[key.0];
        if let Slot::Busy { waker: known, .. } = slot {
            match known {
                Some(known) => known.clone_from(waker),
                None => *known = Some(waker.clone()),
            }
            return Err(key);
        }
        match std::mem::replace(slot, Slot::Free) {
            Slot::Done { request, result } => {
                self.free.push(key.0);
                Ok((result, request))
            }
            Slot::Free | Slot::Busy { .. } => unreachable!("a key belongs to one operation"),
        }
    }

    /// Asks the kernel to give an operation up; its memory stays until it has. Gives back what is over already.
    pub(crate) fn abandon(&mut self, key: Key) -> Option<Request> {
        match &mut self.slots[key.0] {
            Slot::Busy {
                waker,
                is_abandoned,
                ..
            } => {
                *is_abandoned = true;
                *waker = None;
                // One that the kernel has not seen yet must come before its cancellation.
                if self.push_late().and_then(|()| self.make_room()).is_ok() {
                    let cancel = opcode::AsyncCancel::new(key.0 as u64).build();
                    // SAFETY: a cancellation points to no memory.
                    let _ = unsafe { self.uring.submission().push(&cancel.user_data(NOBODY)) };
                }
                None
            }
            slot => {
                self.free.push(key.0);
                match std::mem::replace(slot, Slot::Free) {
                    Slot::Done { request, .. } => Some(request),
                    _ => None,
                }
            }
        }
    }

    /// One system call: submits what is queued, lets the kernel finish what is due, and waits.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if let Err(error) = self.push_late()
            && !is_passing(&error)
        {
            return Err(error);
        }
        let submitter = self.uring.submitter();
        let entered = match wait {
            Wait::No => submitter.submit(),
            Wait::ForEver => submitter.submit_and_wait(1),
            Wait::AtMost(time) => {
                let time = Timespec::new()
                    .sec(time.as_secs())
                    .nsec(time.subsec_nanos());
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether anything waits to be submitted or taken.
    pub(crate) fn has_work(&mut self) -> bool {
        let queue = self.uring.submission();
        if !self.late.is_empty() || !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
            return true;
        }
        drop(queue);
        !self.uring.completion().is_empty()
    }

    /// Moves what has ended into the table and its wakers to the end of `wakers`.
    pub(crate) fn reap(&mut self, wakers: &mut Vec<Waker>) {
        for completion in self.uring.completion() {
            let user_data = completion.user_data();
            if user_data == NOBODY {
                continue;
            }
            let index = (user_data & !FAILED_WRITE) as usize;
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            let Slot::Busy {
                request,
                waker,
                is_abandoned,
            } = std::mem::replace(slot, Slot::Free)
            else {
                continue;
            };
            self.busy_count -= 1;
            let is_failed_write = user_data & FAILED_WRITE != 0;
            let (result, request) =
                finish(&completion, is_failed_write, request, self.pool.as_mut());
            if is_abandoned {
                self.free.push(index);
                continue;
            }
            *slot = Slot::Done { request, result };
            wakers.extend(waker);
        }
    }

    /// Waits until the kernel has let go of all memory; the last thing before the end. What cannot be had back is
    /// never freed.
    pub(crate) fn drain(&mut self) {
        let mut waited = Duration::ZERO;
        while self.busy_count > 0 && waited < DRAIN_PATIENCE {
            if self.enter(Wait::AtMost(DRAIN_SLICE)).is_err() {
                break;
            }
            let before = self.busy_count;
            self.reap(&mut Vec::new());
            if self.busy_count == before {
                waited += DRAIN_SLICE;
            }
        }
        if self.busy_count > 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(self.pool.take());
        }
    }
}

/// Time is up; a signal came; completions must be taken first, or memory is short for now.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
    )
}

/// The best ring that this kernel offers: completions on our own enters only (6.1), or without interrupting us
/// (5.19), or plain.
fn setup() -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .setup_cqsize(COMPLETION_COUNT)
        .setup_clamp()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(ENTRY_COUNT);
    let is_unknown = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    match deferred {
        Err(error) if is_unknown(&error) => {}
        other => return other,
    }
    let cooperative = IoUring::builder()
        .setup_cqsize(COMPLETION_COUNT)
        .setup_clamp()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(ENTRY_COUNT);
    match cooperative {
        Err(error) if is_unknown(&error) => {}
        other => return other,
    }
    IoUring::builder()
        .setup_cqsize(COMPLETION_COUNT)
        .setup_clamp()
        .build(ENTRY_COUNT)
}

fn fd(owner: &impl AsRawFd) -> Fd {
    Fd(owner.as_raw_fd())
}

/// The entry for a request, and the one linked to it.
fn prepare(request: &mut Request, has_pool: bool) -> (Entry, Option<Entry>) {
    let entry = match request {
        Request::Bell { eventfd, count } => {
            opcode::Read::new(fd(eventfd), (&raw mut **count).cast(), 8).build()
        }
        Request::Accept { socket, .. } => {
            opcode::Accept::new(fd(socket), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        }
        Request::Connect { socket, address } => {
            opcode::Connect::new(fd(socket), address.as_ptr().cast(), address.len()).build()
        }
        Request::Receive {
            socket,
            bytes,
            len_max,
        } => prepare_receive(socket, bytes, *len_max, has_pool),
        Request::Send {
            socket,
            bytes,
            from,
        } => {
            let rest = bytes.get(*from..).unwrap_or_default();
            opcode::Send::new(fd(socket), rest.as_ptr(), len(rest.len()))
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .build()
        }
        Request::Read {
            file,
            blocks,
            offset,
        } => opcode::Read::new(fd(file), blocks.as_ptr(), len(blocks.len()))
            .offset(*offset)
            .build(),
        Request::Write {
            file,
            blocks,
            offset,
            sync,
        } => {
            let flags = match sync {
                WithSync::No | WithSync::Linked => 0,
                WithSync::Within => libc::RWF_DSYNC,
            };
            let write = opcode::Write::new(fd(file), blocks.as_ptr(), len(blocks.len()))
                .offset(*offset)
                .rw_flags(flags)
                .build();
            let sync = (*sync == WithSync::Linked).then(|| prepare_sync(file));
            return (write, sync);
        }
        Request::Sync { file } => prepare_sync(file),
        Request::WriteBack {
            file,
            offset,
            len: count,
        } => opcode::SyncFileRange::new(fd(file), *count)
            .offset(*offset)
            .flags(libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER)
            .build(),
    };
    (entry, None)
}

fn prepare_sync(file: &Rc<OwnedFd>) -> Entry {
    opcode::Fsync::new(fd(file))
        .flags(FsyncFlags::DATASYNC)
        .build()
}

fn prepare_receive(
    socket: &Rc<OwnedFd>,
    bytes: &mut Vec<u8>,
    len_max: usize,
    has_pool: bool,
) -> Entry {
    let len_max = len_max.clamp(1, pool::BUFFER_SIZE_BYTES);
    if has_pool {
        return opcode::Recv::new(fd(socket), std::ptr::null_mut(), len(len_max))
            .buf_group(pool::GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT);
    }
    bytes.reserve(len_max);
    let spare = bytes.spare_capacity_mut();
    opcode::Recv::new(fd(socket), spare.as_mut_ptr().cast(), len(len_max)).build()
}

/// Operations are smaller than 4 GiB; a larger buffer is used in part, and the caller goes on.
fn len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Turns a completion into a result, and takes over what the kernel has left behind.
fn finish(
    completion: &cqueue::Entry,
    is_failed_write: bool,
    mut request: Request,
    pool: Option<&mut Pool>,
) -> (io::Result<u32>, Request) {
    let mut result = u32::try_from(completion.result())
        .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
    if is_failed_write && result.is_ok() {
        // Less than all was written, and the sync was given up.
        result = Err(io::ErrorKind::WriteZero.into());
    }
    match (&mut request, &result) {
        (Request::Accept { accepted, .. }, Ok(number)) => {
            // SAFETY: the kernel has just made this descriptor for us, and tells of it once.
            *accepted = Some(unsafe { OwnedFd::from_raw_fd(*number as RawFd) });
        }
        (Request::Receive { bytes, .. }, _) => match (pool, &result) {
            (Some(pool), _) => {
                if let Some(number) = cqueue::buffer_select(completion.flags()) {
                    let count = *result.as_ref().unwrap_or(&0) as usize;
                    bytes.extend_from_slice(pool.filled(number, count));
                    pool.give_back(number);
                }
            }
            (None, Ok(count)) => {
                let len = bytes.len() + *count as usize;
                // SAFETY: the kernel has written `count` bytes to the spare capacity, which was at least as
                // large as it was asked to fill.
                unsafe { bytes.set_len(len) };
            }
            (None, Err(_)) => {}
        },
        _ => {}
    }
    (result, request)
}
