//! Terminals: ioctl_tty(2), pts(4).

use super::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The slave of a pty master, by descriptor: no path, no name (TIOCGPTPEER, Linux 4.13).
pub fn open_slave(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes flags by value and returns a descriptor that nobody else knows.
    unsafe {
        let number = Errno::result(libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Unlocks the slave (TIOCSPTLCK).
pub fn unlock_slave(master: impl AsFd) -> Result<(), Errno> {
    let unlocked: libc::c_int = 0;
    // SAFETY: reads one int of this stack.
    Errno::result(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }).map(drop)
}

/// Makes a terminal the controlling terminal of this session leader (TIOCSCTTY).
pub fn make_controlling(terminal: impl AsFd) -> Result<(), Errno> {
    // SAFETY: plain numbers; 0: never steal it from another session.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Copies the window size from one terminal to another.
pub fn copy_window_size(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    // SAFETY: winsize is plain data on this stack.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        Errno::result(libc::ioctl(from.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size))?;
        Errno::result(libc::ioctl(to.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size)).map(drop)
    }
}

/// Whether a descriptor is a terminal. Only a character device is asked: an ioctl of ours on a socket of the caller's
/// could be more than a question (CVE-2023-2002).
pub fn is_terminal(fd: impl AsFd) -> bool {
    let stat = nix::sys::stat::fstat(&fd);
    stat.is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFCHR) && nix::unistd::isatty(&fd).unwrap_or(false)
}

/// Puts a descriptor in the place of 0, 1 or 2.
pub fn replace_standard(with: impl AsFd, number: i32) -> Result<(), Errno> {
    // SAFETY: 0 to 2 are never owned by a value of ours; dup2 replaces one atomically.
    Errno::result(unsafe { libc::dup2(with.as_fd().as_raw_fd(), number.clamp(0, 2)) }).map(drop)
}
