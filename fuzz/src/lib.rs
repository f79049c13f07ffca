//! What the targets share: an allocator that counts, so that a target can say how much memory an input may cost, and what
//! a server answers with ([`server`]).

pub mod server;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting. libFuzzer itself is C++ and does not come by here.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let allocated = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(allocated, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work` and returns what it does, and the most bytes that it had allocated at once. A vector that grows counts
/// twice while it is copied.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

/// Runs `work`, and fails where it had more than `bytes_max` allocated at once.
pub fn within<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = measured(work);
    assert!(peak <= bytes_max, "{peak} bytes were allocated at once, and {bytes_max} are allowed");
    result
}
