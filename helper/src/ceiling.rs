//! A user namespace around the session's, with room for one: who holds CAP_SYS_RESOURCE in its own namespace writes
//! any limit of that one (`/proc/sys/user`, user_namespaces(7)), but every level counts, and the level above is
//! nobody's. Without it a session with `ALL` could raise `max_user_namespaces` again, and undo `--cap-drop` in a
//! namespace below its own.

use crate::error::{Error, OURS, call};
use crate::idmap::Maps;
use crate::isolated::limit_namespaces;
use crate::sys::process;
use nix::unistd::{pipe2, read, write};
use std::os::fd::{AsRawFd, OwnedFd};

/// What `process::clone_into` gives: none in the new process.
type First = Option<(i32, OwnedFd)>;

/// Makes the session's first process in `namespaces` below a ceiling, and writes the maps. A short-lived process in
/// the outer namespace does it: only from there can the inner maps be written. It shares the descriptor table.
pub fn clone_below(namespaces: i32, maps: &Maps, proc: &OwnedFd) -> Result<First, Error> {
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let (gate, opener) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_FILES;
    let made = process::clone_into(flags, false).map_err(|errno| crate::isolated::refused_namespace(proc, errno))?;
    let Some((pid, _end)) = made else {
        return match make(namespaces, maps, proc, &gate) {
            Ok(None) => Ok(None), // the session's first process, with a table of its own
            Ok(Some((pid, pidfd))) => {
                let numbers = [pid.to_ne_bytes(), pidfd.as_raw_fd().to_ne_bytes()].concat();
                let sent = write(&writer, &numbers).is_ok_and(|n| n == numbers.len());
                // The table is shared: nothing may be closed here, so nothing is dropped.
                process::exit_now(if sent { 0 } else { OURS })
            }
            Err(error) => {
                error.say();
                process::exit_now(OURS)
            }
        };
    };
    let opened = maps.outer().write(proc, pid).and_then(|()| write(&opener, b"g").map(drop).map_err(call("write")));
    if let Err(error) = opened {
        let _ = process::kill(pid, libc::SIGKILL);
        let _ = process::wait(Some(pid), libc::WEXITED);
        return Err(error);
    }
    let ended = process::wait(Some(pid), libc::WEXITED).map_err(call("waitid"))?;
    let mut numbers = [0u8; 8];
    if !matches!(ended, Some((_, process::Change::Exited(0)))) || read(&reader, &mut numbers) != Ok(8) {
        return Err(Error::Said(OURS));
    }
    let [a, b, c, d, e, f, g, h] = numbers;
    let pidfd = process::adopt(i32::from_ne_bytes([e, f, g, h]));
    let pidfd = pidfd.ok_or_else(|| Error::NotAsGranted("a descriptor did not come back".into()))?;
    Ok(Some((i32::from_ne_bytes([a, b, c, d]), pidfd)))
}

/// In the outer namespace.
fn make(namespaces: i32, maps: &Maps, proc: &OwnedFd, gate: &OwnedFd) -> Result<First, Error> {
    let mut word = [0u8; 1];
    if read(gate, &mut word) != Ok(1) {
        return Err(Error::Said(OURS));
    }
    limit_namespaces(proc, b"1")?;
    let made = process::clone_into(namespaces, true).map_err(call("clone3 into new namespaces"))?;
    if let Some((pid, pidfd)) = &made {
        if let Err(error) = maps.write(proc, *pid) {
            let _ = process::pidfd_signal(pidfd, libc::SIGKILL);
            return Err(error);
        }
    }
    Ok(made)
}
