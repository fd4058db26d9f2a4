//! The running sessions (the verbs `sessions` and `end`): root's are everybody's, a user's are the user's own.

use crate::error::{Error, call};
use crate::hygiene;
use crate::registry;
use crate::sys::process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Write as _;
use std::os::fd::AsFd;

/// How long an ended session is waited for, in milliseconds: a command has two seconds to go by itself.
const PATIENCE: u16 = 10_000;

/// One line a session: its `grant` line, and what the guard has added.
pub fn list() -> Result<(), Error> {
    let mut text = String::new();
    for live in registry::live(whose())? {
        for part in [live.grant(), " ", live.running(), "\n"] {
            text.push_str(part);
        }
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| hygiene::io("write to standard output", &e))
}

/// Asks a session's guard to end it, and waits until it has: nothing inside needs to answer.
pub fn end(id: &str) -> Result<(), Error> {
    let live = registry::live(whose())?;
    let found = live.iter().find(|live| registry::field(live.grant(), "id").as_deref() == Some(id));
    let found = found.ok_or_else(|| Error::NoSession(id.into()))?;
    let guard = found.process("guard").ok_or_else(|| Error::NotYetRunning(id.into()))?;
    process::pidfd_signal(&guard, libc::SIGTERM).map_err(call("pidfd_send_signal"))?;
    let _ = process::pidfd_signal(&guard, libc::SIGCONT);
    let mut over = [PollFd::new(guard.as_fd(), PollFlags::POLLIN)];
    if let Ok(1) = poll(&mut over, PollTimeout::from(PATIENCE)) {
        return Ok(());
    }
    // A frozen guard (cgroups(7), a subtree that is the user's) kills nobody: what it holds dies all the same.
    if let Some(main) = found.process("main") {
        let _ = process::pidfd_signal(&main, libc::SIGKILL);
        let _ = poll(&mut [PollFd::new(main.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE));
    }
    match poll(&mut over, PollTimeout::ZERO) {
        Ok(1) => Ok(()),
        _ => Err(Error::StillEnding(id.into())),
    }
}

fn whose() -> Option<u32> {
    let uid = nix::unistd::getuid();
    (!uid.is_root()).then(|| uid.as_raw())
}
