//! A bit of the store flips between two lives: the member must not start, or answer as if nothing had happened until it
//! meets the damage, and then stop.
//!
//! ```text
//!   directory --copy--> flip --> start --> refused with a message                                  Refused
//!                                  \--> reads, close, start, reads --> an error, and it stops      Stopped
//!                                                     \--> all as published                        Unnoticed
//! ```
//!
//! The format has no checksums but those of the meta pages, so a flip in the middle of a value is served as it is, by
//! etcd too. What is flipped here is what readers do notice:
//!
//! - number, kind and overflow in the header of any page;
//! - place and length of the keys of bucket `key`;
//! - the older meta page, which must not matter.
//!
//! Most of these flips that go unnoticed are in pages that nobody reaches. Left out is what today is not always noticed:
//!
//! - the newer meta page. Without it the older one counts, as after a commit that was cut off; but pages of its tree may
//!   have been used again by a commit of a later life that was cut off, too (in bbolt as well);
//! - the number of a page's elements: one that is too low hides the last of them;
//! - the length of a value, which may end it between two of its fields;
//! - keys of the other buckets: one that is not there means "never set", as `consistent_index` in very old databases.

use engine::node::NodeFailure;

use super::Violation;
use super::agreement::summary;
use super::content::{self, Seen};
use crate::alone::Alone;
use crate::disk::{PAGE_BYTES, SimDisk};
use crate::history::Published;
use crate::member::Birth;
use crate::plan::Plan;
use crate::random::Rng;

const PAGE: usize = PAGE_BYTES as usize;
const HEADER: usize = 16;
const ELEMENT: usize = 16;
const META: usize = 64;
/// Where it stands in a meta page.
const TXID: usize = 48;
/// Of a page header: all but the number of elements.
const FIXED_BYTES: [usize; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15];
/// Where an element says where its key begins, and how long it is.
const PLACE: u64 = 4;
/// The pages before it are meta pages.
const FIRST_PAGE: usize = 2;

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// There was nothing to flip.
    Nothing,
    Refused,
    Stopped,
    Unnoticed,
}

/// How often each happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlipCounts {
    pub refused: usize,
    pub stopped: usize,
    pub unnoticed: usize,
}

impl FlipCounts {
    pub fn count(&mut self, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Refused => self.refused += 1,
            Told::Stopped => self.stopped += 1,
            Told::Unnoticed => self.unnoticed += 1,
        }
    }

    pub fn add(&mut self, other: &FlipCounts) {
        self.refused += other.refused;
        self.stopped += other.stopped;
        self.unnoticed += other.unnoticed;
    }
}

/// Flips a bit in a copy of the directory, and looks at what a member makes of it.
///
/// # Errors
/// A wrong answer, or another end than [`NodeFailure::Damaged`].
pub fn examine(
    disk: &SimDisk,
    plan: &Plan,
    birth: Birth,
    pick: u64,
    published: &Published,
) -> Result<Told, Violation> {
    let Some((byte, bit)) = draw_bit(disk.store_bytes(), &mut Rng::new(pick, 0)) else {
        return Ok(Told::Nothing);
    };
    let broken = |why: &dyn std::fmt::Display| {
        let (page, at) = (byte / PAGE, byte % PAGE);
        format!(
            "flip: member {}: bit {bit} of byte {at} of page {page}: {why}",
            birth.no
        )
    };
    let sound = Alone::start(disk.clone(), plan, birth);
    let sound = sound.map_err(|e| format!("recovery: member {}: {e}", birth.no))?;
    let mut expected = summary(0, &sound.view());
    let mut flipped = disk.clone();
    flipped.flip_store_bit(byte, bit);
    for _ in 0..2 {
        let Ok(mut member) = Alone::start(flipped, plan, birth) else {
            return Ok(Told::Refused);
        };
        let found = summary(0, &member.view());
        let seen = content::check(&member.view(), published).map_err(|e| broken(&e))?;
        if found != expected {
            return Err(broken(&format!("{found}, without it {expected}")));
        }
        let settled = member.settle();
        // By now it may have committed what nobody published.
        expected = summary(0, &member.view());
        if seen == Seen::Damage && settled.is_ok() {
            return Err(broken(&"the member goes on over damage"));
        }
        let closed = settled.and_then(|()| member.close());
        match closed {
            Ok(disk) => flipped = disk,
            Err(NodeFailure::Damaged(_)) => return Ok(Told::Stopped),
            Err(other) => return Err(broken(&other)),
        }
    }
    Ok(Told::Unnoticed)
}

/// A byte that gives the file its structure, and a bit of it; `None`: there is no store, or the page drawn has none.
fn draw_bit(file: &[u8], rng: &mut Rng) -> Option<(usize, u32)> {
    let pages = file.len() / PAGE;
    if pages <= FIRST_PAGE {
        return None;
    }
    let bit = rng.below(8) as u32;
    if rng.one_in(5) {
        let byte = rng.below((HEADER + META) as u64) as usize;
        return Some((older_meta(file) * PAGE + byte, bit));
    }
    let page = rng.between(FIRST_PAGE as u64, pages as u64) as usize;
    let bytes = &file[page * PAGE..(page + 1) * PAGE];
    // The middle of a value that takes several pages has no header.
    if bytes[..8] != (page as u64).to_le_bytes() {
        return None;
    }
    let in_page = match rng.one_in(3) {
        true => FIXED_BYTES[rng.below(FIXED_BYTES.len() as u64) as usize],
        false => {
            HEADER + draw_element(bytes, rng)? * ELEMENT + rng.between(PLACE, PLACE + 8) as usize
        }
    };
    Some((page * PAGE + in_page, bit))
}

/// An element of a leaf page of bucket `key`.
fn draw_element(page: &[u8], rng: &mut Rng) -> Option<usize> {
    let count = u64::from(u16::from_le_bytes([page[10], page[11]]));
    let is_leaf = page[8..10] == [2, 0];
    let place = u32::from_le_bytes(page[HEADER + 4..HEADER + 8].try_into().ok()?);
    let key = page.get(HEADER + place as usize..)?;
    let is_revision = key.len() > 17 && key[8] == b'_';
    // Elements of a page with overflow may reach beyond its first page.
    let count = count.min((PAGE / ELEMENT - 1) as u64);
    (is_leaf && is_revision && count > 0).then(|| rng.below(count) as usize)
}

/// The meta page with the lower transaction id.
fn older_meta(file: &[u8]) -> usize {
    let txid = |page: usize| {
        let at = page * PAGE + HEADER + TXID;
        u64::from_le_bytes(file[at..at + 8].try_into().expect("8 bytes"))
    };
    usize::from(txid(1) < txid(0))
}
