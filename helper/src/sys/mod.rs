//! The system calls that nix lacks, as safe functions. The only `unsafe` of the helper lives under here.
//!
//! Nothing in here decides anything: each function is one call, its arguments checked for what the call needs
//! to be memory-safe, its result the kernel's errno. Sources: the man page of each call, section 2.

pub mod alloc;
pub mod capability;
#[cfg(not(test))]
mod entry;
pub mod identity;
pub mod mount;
pub mod pam;
pub mod perf;
pub mod process;
pub mod shared;
pub mod terminal;
pub mod tun;

pub use nix::errno::Errno;
use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

/// A NUL-terminated copy; a NUL inside is `EINVAL`, as the kernel would never see what follows it.
pub fn c_string(text: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// The result of a raw call: -1 becomes errno.
fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}

/// Descriptor 0, 1 or 2.
pub fn standard(number: i32) -> BorrowedFd<'static> {
    // SAFETY: 0 to 2 are open for the life of the process: `entry` opens /dev/null where they were closed,
    // and nothing of ours ever closes them, only dup2(2)s over them.
    unsafe { BorrowedFd::borrow_raw(number.clamp(0, 2)) }
}

/// The current folder as a descriptor for calls with a path; absolute paths do not look at it.
pub fn standard_cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is no descriptor that anybody could close; the kernel reads it as the current folder.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}
