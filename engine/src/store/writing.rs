//! The bytes of a sealed commit on their way to the disk.
//!
//! ```text
//!   Sync (first commit of a life) -> Grow (if needed) -> pages, up to two pieces at a time -> Sync -> meta page -> Sync
//!                                                                                      -> Cut, in steps (if asked for)
//! ```
//!
//! The meta page is written only when everything it names is durable, over the older meta page. A crash before it is
//! whole leaves the newer one as it is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::io::{StoreIo, StoreOp, StoreTicket};
use super::page::Meta;

/// A piece of a write: enough for a disk to be busy, not so much that others wait long behind it. The core copies it
/// twice on its way, which takes some ten microseconds each.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// What a file loses at once. While the kernel cuts it, whoever meets a page that is not mapped yet waits: a gibibyte
/// takes it some ten milliseconds.
const CUT_STEP_BYTES: u64 = 16 << 20;
/// Pieces under way at a time, so that the next one is there when one ends.
const PIECES_IN_FLIGHT_MAX: usize = 2;
/// How much room a growing file gets ahead of need, as etcd does it.
const GROW_STEP_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What a former life left may be in the kernel's memory only.
    SyncFound,
    Grow {
        len: u64,
    },
    Pages,
    SyncPages,
    Meta,
    SyncMeta,
    /// From one length to the other.
    Cut {
        from: u64,
        to: u64,
    },
    Done,
}

/// How an operation's end changes what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    GoOn,
    /// The file has this length now.
    Resized {
        len: u64,
    },
    Durable,
    /// Durable, and the file has this length now.
    Cut {
        len: u64,
    },
    NoRoom,
    Failed,
}

#[derive(Debug)]
pub(super) struct Writing {
    phase: Phase,
    /// What comes after [`Phase::SyncFound`].
    behind_found: Phase,
    meta: Meta,
    meta_offset: u64,
    meta_bytes: Bytes,
    /// The length that the file has, and the one that it is to be cut to.
    cut: Option<(u64, u64)>,
    /// Not handed out yet.
    pages: BTreeMap<u64, Vec<u8>>,
    /// The rest of a page with many overflow pages, and where it goes.
    rest: Option<(u64, Bytes)>,
    in_flight: BTreeSet<StoreTicket>,
    /// The phase's only operation was handed out.
    is_asked: bool,
}

impl Writing {
    /// `pages` by number; `meta_slots` are the meta pages to write: both in a new file, else one.
    pub(super) fn new(
        meta: Meta,
        meta_slots: std::ops::RangeInclusive<u64>,
        pages: BTreeMap<u64, Vec<u8>>,
        file_len: u64,
    ) -> Self {
        let page_size = u64::from(meta.page_size);
        let needed = meta.high_water * page_size;
        let phase = if needed > file_len {
            let len = needed + GROW_STEP_BYTES;
            Phase::Grow { len }
        } else {
            first_phase(&pages)
        };
        let meta_offset = meta_slots.start() * page_size;
        let meta_bytes = meta_slots.flat_map(|slot| meta_page(meta, slot)).collect();
        Writing {
            phase,
            behind_found: phase,
            meta,
            meta_offset,
            meta_bytes,
            cut: None,
            pages,
            rest: None,
            in_flight: BTreeSet::new(),
            is_asked: false,
        }
    }

    /// Command: first makes durable what the file held when it was opened. A process that was killed may have left a meta page
    /// in the kernel's memory only; pages that just the older one leads to are written over by this commit, and a power cut
    /// would go back to that one.
    pub(super) fn sync_found_first(&mut self) {
        self.phase = Phase::SyncFound;
    }

    /// Command: cuts the file, of `file_len` bytes, at the end; `former` is the commit that the other meta page leads to,
    /// which is the way back if this one cannot be read.
    pub(super) fn cut_behind(&mut self, former: &Meta, file_len: u64) {
        let high_water = self.meta.high_water.max(former.high_water);
        // Room for the next commits, or the file would be enlarged at once.
        let len = high_water * u64::from(self.meta.page_size) + GROW_STEP_BYTES;
        self.cut = (len < file_len).then_some((file_len, len));
    }

    /// The meta page that this ends with.
    pub(super) const fn meta(&self) -> Meta {
        self.meta
    }

    /// Command: ask for more room again.
    pub(super) fn retry(&mut self) {
        self.is_asked = false;
    }

    /// The next operation; `ticket` names it.
    pub(super) fn poll_io(&mut self, ticket: StoreTicket) -> Option<StoreIo> {
        let op = if self.phase == Phase::Pages {
            if self.in_flight.len() >= PIECES_IN_FLIGHT_MAX {
                return None;
            }
            let (offset, bytes) = self.next_piece()?;
            StoreOp::Write { offset, bytes }
        } else {
            if self.is_asked {
                return None;
            }
            self.is_asked = true;
            match self.phase {
                Phase::Grow { len } => StoreOp::Grow { len },
                Phase::SyncFound | Phase::SyncPages | Phase::SyncMeta => StoreOp::Sync,
                Phase::Cut { from, to } => StoreOp::Cut {
                    len: cut_step(from, to),
                },
                Phase::Meta => StoreOp::Write {
                    offset: self.meta_offset,
                    bytes: self.meta_bytes.clone(),
                },
                Phase::Pages | Phase::Done => return None,
            }
        };
        self.in_flight.insert(ticket);
        Some(StoreIo { ticket, op })
    }

    /// Input: an operation ended.
    pub(super) fn on_io_done(&mut self, ticket: StoreTicket, is_ok: bool) -> Outcome {
        assert!(
            self.in_flight.remove(&ticket),
            "{ticket:?} was not under way"
        );
        match (self.phase, is_ok) {
            (Phase::Grow { .. }, false) => Outcome::NoRoom,
            (Phase::Cut { .. }, false) => {
                self.go_to(Phase::Done);
                Outcome::Durable
            }
            (Phase::Cut { from, to }, true) => {
                let len = cut_step(from, to);
                if len > to {
                    self.go_to(Phase::Cut { from: len, to });
                    return Outcome::Resized { len };
                }
                self.go_to(Phase::Done);
                Outcome::Cut { len }
            }
            (_, false) => Outcome::Failed,
            (Phase::SyncFound, true) => {
                let next = self.behind_found;
                self.go_to(next);
                Outcome::GoOn
            }
            (Phase::Grow { len }, true) => {
                self.go_to(first_phase(&self.pages));
                Outcome::Resized { len }
            }
            (Phase::Pages, true) => {
                if self.in_flight.is_empty() && self.pages.is_empty() && self.rest.is_none() {
                    self.go_to(Phase::SyncPages);
                }
                Outcome::GoOn
            }
            (Phase::SyncPages, true) => {
                self.go_to(Phase::Meta);
                Outcome::GoOn
            }
            (Phase::Meta, true) => {
                self.go_to(Phase::SyncMeta);
                Outcome::GoOn
            }
            (Phase::SyncMeta | Phase::Done, true) => match self.cut.take() {
                Some((from, to)) => {
                    self.go_to(Phase::Cut { from, to });
                    Outcome::GoOn
                }
                None => {
                    self.go_to(Phase::Done);
                    Outcome::Durable
                }
            },
        }
    }

    fn go_to(&mut self, phase: Phase) {
        self.phase = phase;
        self.is_asked = false;
    }

    /// Pages that follow each other, as far as a piece goes.
    fn next_piece(&mut self) -> Option<(u64, Bytes)> {
        let page_size = u64::from(self.meta.page_size);
        let (offset, mut bytes) = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let (page, bytes) = self.pages.pop_first()?;
                (page * page_size, Bytes::from(bytes))
            }
        };
        if bytes.len() > PIECE_BYTES_MAX {
            let piece = bytes.split_to(PIECE_BYTES_MAX);
            self.rest = Some((offset + PIECE_BYTES_MAX as u64, bytes));
            return Some((offset, piece));
        }
        if self.follower(offset, bytes.len()).is_none() {
            return Some((offset, bytes));
        }
        let mut piece = BytesMut::with_capacity(PIECE_BYTES_MAX);
        piece.extend_from_slice(&bytes);
        while let Some(page) = self.follower(offset, piece.len())
            && let Some(more) = self.pages.remove(&page)
        {
            piece.extend_from_slice(&more);
        }
        Some((offset, piece.freeze()))
    }

    /// The page that comes next in the file, if it is to be written too and the piece has room for it.
    fn follower(&self, offset: u64, len: usize) -> Option<u64> {
        let page = (offset + len as u64) / u64::from(self.meta.page_size);
        let (first, bytes) = self.pages.first_key_value()?;
        (*first == page && len + bytes.len() <= PIECE_BYTES_MAX).then_some(page)
    }
}

/// What comes once there is room. A commit without changes has no pages.
fn first_phase(pages: &BTreeMap<u64, Vec<u8>>) -> Phase {
    if pages.is_empty() {
        return Phase::Meta;
    }
    Phase::Pages
}

/// The length after the next step of a cut.
fn cut_step(from: u64, to: u64) -> u64 {
    from.saturating_sub(CUT_STEP_BYTES).max(to)
}

fn meta_page(meta: Meta, slot: u64) -> Vec<u8> {
    let mut page = vec![0; meta.page_size as usize];
    // A new file's first meta page is older by one, so that the pages' numbers go with their places from the start.
    let txid = if meta.txid % 2 == slot {
        meta.txid
    } else {
        meta.txid - 1
    };
    Meta { txid, ..meta }.encode_page(slot, &mut page);
    page
}
