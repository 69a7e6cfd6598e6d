//! An allocator that counts. A test binary that declares this module has it as its global allocator.

#![allow(unsafe_code, dead_code, unreachable_pub)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// How often this thread has asked for memory.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn count(bytes: isize, asked: usize) {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
        // While the thread ends nothing is counted.
        let _ = ASKED.try_with(|count| count.set(count.get() + asked));
    }
}

// SAFETY: everything is the system's allocator's; beside it numbers are kept, in places that need no memory themselves.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as isize), 0);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size as isize - layout.size() as isize, 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that are allocated now, in the whole process.
pub fn live_bytes() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// How often this thread has asked for memory while `f` ran.
pub fn allocations(f: impl FnOnce()) -> usize {
    let before = ASKED.with(Cell::get);
    f();
    ASKED.with(Cell::get) - before
}
