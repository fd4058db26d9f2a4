//! A number that several processes count up together, in a mapped file: mmap(2).

use super::Errno;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The mapped file: the number, and a name beside it.
#[derive(Debug)]
pub struct Counter(*const Layout);

#[repr(C)]
#[derive(Debug)]
struct Layout {
    number: AtomicU64,
    name: AtomicU32,
    spare: AtomicU32,
}

impl Counter {
    /// How long the file must be.
    pub const SIZE: usize = size_of::<Layout>();

    /// Maps a file of root's that is [`Self::SIZE`] bytes long and lies in memory (tmpfs), so that writing to it never
    /// fails. The mapping stays until the process ends.
    pub fn map(file: impl AsFd) -> Result<Self, Errno> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let file = file.as_fd().as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice; page-aligned, so aligned for `Layout`, and the file
        // holds all of it.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), Self::SIZE, protection, flags, file, 0) };
        if address == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Self(address.cast())) }
    }

    fn layout(&self) -> &Layout {
        // SAFETY: mapped for the life of the process, and never written but through atomics.
        unsafe { &*self.0 }
    }

    /// Counts up; the first is 1.
    pub fn next(&self) -> u64 {
        self.layout().number.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub fn name(&self) -> u32 {
        self.layout().name.load(Ordering::Relaxed)
    }
}
