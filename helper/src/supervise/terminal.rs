//! The caller's terminal outside and the session's own pty inside. What is shared is bytes, never a descriptor.

use crate::error::{Error, call};
use crate::sys::mount::{self, NOEXEC, NOSUID};
use crate::sys::{standard, terminal};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, OwnedFd};

/// The terminal that the caller has on one of descriptors 0 to 2.
#[derive(Debug)]
pub struct Outer {
    pub input: OwnedFd,
    pub output: OwnedFd,
    /// Standard input and output both are it: a person sits there. Else the command is part of a pipeline.
    pub interactive: bool,
    original: Termios,
    raw: bool,
}

impl Outer {
    /// Finds it, and opens it anew, so that non-blocking mode is ours alone.
    pub fn find() -> Result<Option<Self>, Error> {
        let is_tty = |n: i32| terminal::is_terminal(standard(n));
        let Some(first) = (0..3).find(|n| is_tty(*n)) else {
            return Ok(None);
        };
        let last = (1..3).find(|n| is_tty(*n)).unwrap_or(first);
        let original = tcgetattr(standard(first)).map_err(call("tcgetattr"))?;
        let (input, output) = (reopen(first)?, reopen(last)?);
        Ok(Some(Self { input, output, interactive: is_tty(0) && is_tty(1), original, raw: false }))
    }

    /// Whether this process may touch the terminal now: it is in the foreground.
    pub fn is_ours(&self) -> bool {
        nix::unistd::tcgetpgrp(&self.input).is_ok_and(|group| group == nix::unistd::getpgrp())
    }

    /// Passes every key through.
    pub fn make_raw(&mut self) {
        let mut raw = self.original.clone();
        cfmakeraw(&mut raw);
        self.raw = tcsetattr(&self.input, SetArg::TCSADRAIN, &raw).is_ok();
    }

    /// Gives the terminal back as it was found.
    pub fn restore(&mut self) {
        if self.raw && self.is_ours() {
            let _ = tcsetattr(&self.input, SetArg::TCSADRAIN, &self.original);
        }
        self.raw = false;
    }

    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// What somebody else needs to give the terminal back, if the relay is killed before it can.
    pub fn keeper(&self) -> Option<Keeper> {
        Some(Keeper { terminal: self.input.try_clone().ok()?, original: self.original.clone() })
    }
}

/// A terminal and how it was found.
#[derive(Debug)]
pub struct Keeper {
    pub terminal: OwnedFd,
    original: Termios,
}

impl Keeper {
    /// Gives it back, if it is as the relay left it; a shell that has seen to it itself is not disturbed.
    pub fn restore(&self) {
        let mut raw = self.original.clone();
        cfmakeraw(&mut raw);
        let same = |a: &Termios, b: &Termios| {
            a.input_flags == b.input_flags && a.output_flags == b.output_flags && a.local_flags == b.local_flags
        };
        if tcgetattr(&self.terminal).is_ok_and(|now| same(&now, &raw) && !same(&now, &self.original)) {
            let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.original);
        }
    }
}

/// The same terminal under a description of our own, with the rights that the caller's descriptor has.
pub fn reopen(number: i32) -> Result<OwnedFd, Error> {
    let flags = fcntl(standard(number), FcntlArg::F_GETFL).map_err(call("fcntl(F_GETFL)"))?;
    let access = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match open(format!("/proc/self/fd/{number}").as_str(), flags, Mode::empty()) {
        Ok(fd) if !terminal::is_terminal(&fd) || terminal::is_terminal(standard(number)) => Ok(fd),
        // The device is not to be opened (another user's after su, or gone), or was hung up meanwhile, and may be another
        // user's by now: the caller's own description must do.
        _ => standard(number).try_clone_to_owned().map_err(|e| crate::hygiene::io("dup", &e)),
    }
}

/// A devpts instance of the session's own, detached.
pub fn new_devpts(power_is_real: bool) -> Result<OwnedFd, Error> {
    // The machine has some thousands of terminals in all (kernel.pty.max).
    let with_group = [("newinstance", ""), ("ptmxmode", "0666"), ("max", "64"), ("mode", "0620"), ("gid", "5")];
    let options = if power_is_real { &with_group[..] } else { &with_group[..3] };
    mount::new_filesystem("devpts", options, NOSUID | NOEXEC).map_err(call("new devpts"))
}

/// The session's pty.
#[derive(Debug)]
pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Pty {
    /// Made in the session's devpts for its user, with the size and the modes of the caller's terminal.
    pub fn new(devpts: &OwnedFd, outer: &Outer, owner: (u32, u32)) -> Result<Self, Error> {
        // A relay that waits for room in one direction could do nothing else: neither make room, nor see the end.
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK;
        let master = mount::openat2(devpts, "ptmx", flags, mount::RESOLVE_NO_SYMLINKS).map_err(call("open ptmx"))?;
        terminal::unlock_slave(&master).map_err(call("unlock the session's terminal"))?;
        let slave = terminal::open_slave(&master).map_err(call("open the session's terminal"))?;
        let uid = nix::unistd::Uid::from_raw(owner.0);
        nix::unistd::fchown(&slave, Some(uid), None).map_err(call("chown the session's terminal"))?;
        let mut modes = outer.original.clone();
        if !outer.interactive {
            // The caller's terminal keeps cooking: nothing is echoed or translated twice.
            modes.local_flags.remove(LocalFlags::ECHO);
            modes.output_flags.remove(OutputFlags::OPOST);
        }
        tcsetattr(&slave, SetArg::TCSANOW, &modes).map_err(call("tcsetattr"))?;
        let _ = terminal::copy_window_size(outer.input.as_fd(), slave.as_fd());
        Ok(Self { master, slave })
    }
}
