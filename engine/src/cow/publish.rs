//! Publish, pin, reclaim: how one writer and many readers agree on which pages may be used again.
//!
//! ```text
//!   writer, publish:  root = new;  version += 1;  fence;  oldest = least pin     (root before version)
//!   reader, pin:      v = version;  slot = v;  fence;  read root                 (slot before root)
//!   reader, unpin:    slot = idle
//! ```
//!
//! What left the tree with the batch published as version `v` may be used again once every pin is at `v` or later.
//! Why that is enough: if the writer's scan does not see a pin, the fences say that this reader reads the root after
//! the writer's store, hence the new root or a later one, from which nothing retired up to now can be reached. If the
//! scan does see it, the pin holds a version no newer than the root that the reader goes on to read, so everything
//! that this root can reach and that is retired later has a version above the pin and stays.
//!
//! Nothing here knows what a root is. No locks, no allocation after [`Registry::new`], no unsafe code; a model test
//! (`tests/publish_model.rs`) compiles this very file with shuttle's atomics.

use super::sync::{AtomicU64, Ordering, fence};

/// A slot that no reader owns.
const UNCLAIMED: u64 = u64::MAX;
/// A slot whose reader holds no pin.
const IDLE: u64 = u64::MAX - 1;

/// A slot has its cache line to itself, since its reader writes it at every pin.
#[derive(Debug)]
#[repr(align(128))]
struct Slot(AtomicU64);

/// The words that writer and readers share.
#[derive(Debug)]
pub struct Registry {
    root: AtomicU64,
    version: AtomicU64,
    /// Slots from here on were never claimed.
    claimed: AtomicU64,
    slots: Box<[Slot]>,
}

/// A reader's place in the registry; claimed once, given back with [`Registry::unregister`].
#[derive(Debug, PartialEq, Eq)]
pub struct SlotNo(usize);

impl Registry {
    /// Version 0 with `root`; at most `readers_max` readers at a time.
    pub fn new(root: u64, readers_max: usize) -> Self {
        let slots = (0..readers_max).map(|_| Slot(AtomicU64::new(UNCLAIMED)));
        Registry {
            root: AtomicU64::new(root),
            version: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            slots: slots.collect(),
        }
    }

    /// Claims a slot; `None` if all are taken.
    pub fn register(&self) -> Option<SlotNo> {
        let claimed = self.slots.iter().position(|slot| {
            slot.0
                .compare_exchange(UNCLAIMED, IDLE, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        });
        let slot = claimed?;
        self.claimed.fetch_max(slot as u64 + 1, Ordering::SeqCst);
        Some(SlotNo(slot))
    }

    pub fn unregister(&self, slot: SlotNo) {
        self.slots[slot.0].0.store(UNCLAIMED, Ordering::Release);
    }

    /// Pins the newest state and says its root. One pin for a slot at a time.
    pub fn pin(&self, slot: &mut SlotNo) -> u64 {
        let version = self.version.load(Ordering::Acquire);
        let former = self.slots[slot.0].0.swap(version, Ordering::SeqCst);
        assert_eq!(former, IDLE, "slot {} is pinned already", slot.0);
        fence(Ordering::SeqCst);
        self.root.load(Ordering::SeqCst)
    }

    /// What was read under the pin must not be looked at any more.
    pub fn unpin(&self, slot: &mut SlotNo) {
        self.slots[slot.0].0.store(IDLE, Ordering::Release);
    }

    /// The writer's: makes `root` the newest state. Returns its version.
    pub fn publish(&self, root: u64) -> u64 {
        let version = self.version.load(Ordering::Relaxed) + 1;
        self.root.store(root, Ordering::SeqCst);
        self.version.store(version, Ordering::SeqCst);
        version
    }

    /// The writer's: the least pin, or the newest version if there is none. What was retired with this version or a
    /// former one is out of every reader's reach.
    pub fn oldest(&self) -> u64 {
        fence(Ordering::SeqCst);
        let newest = self.version.load(Ordering::Relaxed);
        // A reader that is registered later pins later, too: it reads the newest root.
        let claimed = self.claimed.load(Ordering::SeqCst) as usize;
        let slots = self.slots.iter().take(claimed);
        let pins = slots.map(|slot| slot.0.load(Ordering::SeqCst));
        pins.fold(newest, u64::min)
    }
}
