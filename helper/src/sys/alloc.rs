//! An allocator that wipes what it gives back: policy text, other users' names and the request must not lie in
//! the memory of the processes that stay (relay, guard, PID 1).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{Ordering, compiler_fence};

/// The system's allocator, with every block overwritten before it is freed.
pub struct Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

// SAFETY: every call is handed to `System` with the arguments it came with; `dealloc` writes only inside the
// block that its caller still owns. `realloc` is the default: alloc, copy, dealloc, so that it wipes as well.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` is a live block of `layout.size()` bytes, by `dealloc`'s contract.
        unsafe {
            std::ptr::write_bytes(block, 0, layout.size());
            // The write must not be seen as dead because the block is freed next.
            std::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags));
            compiler_fence(Ordering::SeqCst);
            System.dealloc(block, layout);
        }
    }
}
