//! The bench's only `unsafe`: what a child does between fork and exec, and lending a closure to another thread.

use nix::libc;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Who a child is and what it inherits.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Entered with the user's ids.
    pub directory: CString,
    /// The terminal on descriptor 0 becomes the controlling one.
    pub terminal: bool,
    /// (descriptor here, number there)
    pub descriptors: Vec<(RawFd, RawFd)>,
}

/// Makes the command start as that user in a session of its own, with every signal at its default and nothing
/// blocked, and with the descriptors at their numbers.
pub(crate) fn prepare(command: &mut Command, mut launch: Launch) {
    let body = move || {
        for signal in 1..=64 {
            // The kernel's call: glibc keeps 32 to itself, and cargo's posix_spawn leaves it ignored.
            let default = [0u64; 4];
            // SAFETY: an all-zero kernel sigaction is the default action; refusals (KILL, STOP) are of no interest.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize) };
        }
        // Whoever runs the tests may have left descriptors open: none of them is the machine's. 4: CLOSE_RANGE_CLOEXEC.
        // SAFETY: plain numbers; nothing is closed before exec.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 4) };
        // SAFETY: setsid(2) takes nothing; a fresh child is no group leader.
        check(unsafe { libc::setsid() })?;
        if launch.terminal {
            // SAFETY: TIOCSCTTY takes an integer argument.
            check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        // First far above every number wanted, so that no target overwrites a source.
        for (from, _) in &mut launch.descriptors {
            // SAFETY: fcntl(2) on numbers.
            *from = check(unsafe { libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, 600) })?;
        }
        for (from, to) in &launch.descriptors {
            // SAFETY: dup2(2) on numbers; whoever had the wanted one gives it up, std's own included.
            check(unsafe { libc::dup2(*from, *to) })?;
        }
        // SAFETY: the pointer and the length are those of one vector, which outlives the call.
        check(unsafe { libc::setgroups(launch.groups.len(), launch.groups.as_ptr()) })?;
        // SAFETY: plain numbers.
        check(unsafe { libc::setresgid(launch.gid, launch.gid, launch.gid) })?;
        // SAFETY: plain numbers. What is refused is reported, and the child ends.
        check(unsafe { libc::setresuid(launch.uid, launch.uid, launch.uid) })?;
        // SAFETY: a C string that outlives the call.
        check(unsafe { libc::chdir(launch.directory.as_ptr()) })?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only, allocates nothing, and takes no lock between fork and exec.
    unsafe { command.pre_exec(body) };
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A job for another thread that borrows from the caller's stack.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Forgets the lifetime of a job.
///
/// # Safety
/// The caller must not return (nor unwind) before the job has run or has been dropped.
pub(crate) unsafe fn lend<'a>(job: Box<dyn FnOnce() + Send + 'a>) -> Job {
    // SAFETY: only the lifetime changes; the caller keeps what is borrowed alive, as demanded above.
    unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + 'a>, Job>(job) }
}

/// Sets a terminal's size.
pub(crate) fn set_window_size(fd: RawFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }).map(drop)
}
