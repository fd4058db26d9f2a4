//! A tracepoint's records of one process and what descends from it, on one processor: perf_event_open(2), ring_buffer
//! layout of `linux/perf_event.h`.

use super::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// `PERF_ATTR_SIZE_VER5` of `linux/perf_event.h`: Linux 4.1 and newer know all of it.
const ATTR_SIZE: usize = 112;
const TRACEPOINT: u64 = 2;
/// PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_SAMPLE_RAW.
const SAMPLE: u64 = 1 << 1 | 1 << 2 | 1 << 10;
/// Of the attribute's flags: inherit, watermark, use_clockid.
const FLAGS: u64 = 1 << 1 | 1 << 14 | 1 << 25;
const CLOEXEC: u64 = 1 << 3;
const SET_FILTER: libc::c_ulong = 0x4008_2406;
/// `data_head` and `data_tail` of `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// One processor's records. Nothing of it outlives the value.
#[derive(Debug)]
pub struct Ring {
    pages: *mut u8,
    page: usize,
    /// Bytes of records: a power of two.
    size: usize,
    event: OwnedFd,
}

impl Ring {
    /// Has the tracepoint of that number record for a process, and for what it makes from here on, while it runs on that
    /// processor; with times of CLOCK_MONOTONIC_RAW. `pages` is a power of two.
    ///
    /// # Errors
    /// ENODEV where there is no such processor, EACCES or EPERM where the machine does not allow it, EMFILE.
    pub fn open(id: u64, pid: i32, processor: i32, pages: usize) -> Result<Self, Errno> {
        let mut attr = [0u64; ATTR_SIZE / 8];
        attr[0] = TRACEPOINT | (ATTR_SIZE as u64) << 32;
        attr[1] = id;
        attr[2] = 1; // every one
        attr[3] = SAMPLE;
        attr[5] = FLAGS;
        attr[6] = u64::from(u32::MAX); // wakes nobody: whoever reads it looks now and then
        attr[11] = (libc::CLOCK_MONOTONIC_RAW as u64) << 32;
        // SAFETY: the kernel reads as many bytes as the attribute says it has, which is what it has.
        let number = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), pid, processor, -1, CLOEXEC) };
        // SAFETY: the kernel has just opened it for this call.
        let event = unsafe { OwnedFd::from_raw_fd(super::checked(number)? as i32) };
        // SAFETY: a plain number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (protection, length) = (libc::PROT_READ | libc::PROT_WRITE, page * (pages + 1));
        // SAFETY: a new mapping at an address of the kernel's choice.
        let pages_at =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, event.as_raw_fd(), 0) };
        if pages_at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self { pages: pages_at.cast(), page, size: page * pages, event })
    }

    /// Records only what fits this filter of the tracepoint's fields.
    pub fn filter(&self, filter: &std::ffi::CStr) -> Result<(), Errno> {
        // SAFETY: the kernel reads the text up to its NUL.
        Errno::result(unsafe { libc::ioctl(self.event.as_raw_fd(), SET_FILTER as _, filter.as_ptr()) }).map(drop)
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: within the first page, aligned, mapped as long as `self`, and written by nobody but through atomics.
        unsafe { &*self.pages.add(at).cast::<AtomicU64>() }
    }

    /// What has been recorded since the last time; the place is free again.
    pub fn take(&mut self) -> Vec<u8> {
        let (head, tail) = (self.position(HEAD).load(Ordering::Acquire), self.position(TAIL).load(Ordering::Relaxed));
        let length = (head.wrapping_sub(tail) as usize).min(self.size);
        let from = tail as usize & (self.size - 1);
        let first = length.min(self.size - from);
        let mut bytes = vec![0u8; length];
        // SAFETY: both parts lie in the `size` bytes behind the first page, which the kernel does not write to before
        // the tail has moved on.
        unsafe {
            let records = self.pages.add(self.page);
            std::ptr::copy_nonoverlapping(records.add(from), bytes.as_mut_ptr(), first);
            std::ptr::copy_nonoverlapping(records, bytes.as_mut_ptr().add(first), length - first);
        }
        self.position(TAIL).store(head, Ordering::Release);
        bytes
    }
}

/// The processor that this thread runs on, at this moment.
pub fn processor() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::sched_getcpu() }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly what `open` has mapped; nothing points into it any more.
        unsafe { libc::munmap(self.pages.cast(), self.page + self.size) };
    }
}
