//! An allocator that counts for each thread: how often memory was claimed, how much lives, and how much lived at most.
//!
//! Tests run on threads of their own and the connections they drive do not leave them, so the figures are exact.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one thread claimed.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    claims: u64,
    live: usize,
    peak: usize,
}

thread_local! {
    // Constant and without a destructor, so that looking at it allocates nothing.
    static COUNT: Cell<Count> = const { Cell::new(Count { claims: 0, live: 0, peak: 0 }) };
}

/// The system's allocator, counted.
pub struct Counting;

impl Counting {
    fn on_claim(len: usize) {
        COUNT.with(|count| {
            let Count { claims, live, peak } = count.get();
            let live = live + len;
            count.set(Count {
                claims: claims + 1,
                live,
                peak: peak.max(live),
            });
        });
    }

    fn on_free(len: usize) {
        COUNT.with(|count| {
            let before = count.get();
            // What another thread claimed may be freed here.
            let live = before.live.saturating_sub(len);
            count.set(Count { live, ..before });
        });
    }
}

// SAFETY: each method hands its arguments to `System`, under the contract the caller of `GlobalAlloc` keeps, and returns
// what `System` returned. Counting touches a thread-local of plain integers: it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::on_claim(layout.size());
        // SAFETY: the caller's layout, unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::on_claim(layout.size());
        // SAFETY: the caller's layout, unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        Self::on_free(layout.size());
        // SAFETY: the caller got `place` from us with `layout`, so from `System`.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // While it moves, both places live.
        Self::on_claim(len);
        Self::on_free(layout.size());
        // SAFETY: the caller got `place` from us with `layout`, so from `System`; `len` is its own.
        unsafe { System.realloc(place, layout, len) }
    }
}

/// How often this thread claimed memory so far.
pub fn claims() -> u64 {
    COUNT.with(Cell::get).claims
}

/// Octets this thread holds.
pub fn live() -> usize {
    COUNT.with(Cell::get).live
}

/// Octets this thread held at most since the last call of `reset_peak`.
pub fn peak() -> usize {
    COUNT.with(Cell::get).peak
}

pub fn reset_peak() {
    COUNT.with(|count| {
        let before = count.get();
        count.set(Count {
            peak: before.live,
            ..before
        });
    });
}
