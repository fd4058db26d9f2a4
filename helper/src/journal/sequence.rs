//! The number of each record since boot, counted up by all helpers together: a gap tells that records were lost.

use crate::registry;
use crate::sys::shared::Counter;
use crate::sys::{Errno, process};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{ftruncate, write};

const NAME: &str = ".sequence";

/// The counter of this boot, mapped: a guard that may open nothing any more still counts.
#[derive(Debug)]
pub struct Sequence(Counter);

impl Sequence {
    /// `None`: it cannot be had; records go without.
    pub fn open() -> Option<Self> {
        let folder = registry::folder().ok()?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&folder, NAME, flags, Mode::from_bits_truncate(0o600)).ok()?;
        let stat = fstat(&file).ok()?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
            return None;
        }
        if stat.st_size != Counter::SIZE as i64 {
            // Whoever makes it gives it the boot's name; one that comes at the same moment goes without.
            if !process::try_lock(&file).ok()? || fstat(&file).ok()?.st_size != 0 {
                return None;
            }
            let begin: Result<(), Errno> = (|| {
                let name: [u8; 4] = process::random()?;
                let mut bytes = [0; Counter::SIZE];
                bytes[8..12].copy_from_slice(&name);
                if write(&file, &bytes)? == Counter::SIZE { Ok(()) } else { ftruncate(&file, 0) }
            })();
            begin.ok()?;
        }
        Counter::map(&file).ok().map(Self)
    }

    /// The next number: `BOOT.N`.
    pub fn next(&self) -> String {
        format!("{:08x}.{}", self.0.name(), self.0.next())
    }
}
