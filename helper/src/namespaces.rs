//! The session's namespaces and its first process in them.
//!
//! Where the grant holds CAP_SYS_RESOURCE a user namespace stands around the session's, with room for one: who holds it
//! in its own namespace writes any limit of that one (`/proc/sys/user`, user_namespaces(7)), but every level counts, and
//! the level above is nobody's. Else a session with `ALL` could raise `max_user_namespaces` again, and undo `--cap-drop`
//! in a namespace below its own.

use crate::error::{Error, OURS, call};
use crate::plan::Isolation;
use crate::sys::{Errno, capability, process};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{getppid, pipe2, read, write};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

/// What `process::clone_into` gives: none in the new process.
pub type Made = Option<(i32, OwnedFd)>;

const LIMIT: &str = "sys/user/max_user_namespaces";

/// Makes the session's first process, a child of this one, with its maps written. `proc` is an open `/proc`.
pub fn first_process(isolation: &Isolation, proc: &OwnedFd) -> Result<Made, Error> {
    if isolation.ceiling {
        return below_a_ceiling(isolation, proc);
    }
    let made = process::clone_into(isolation.namespaces, false).map_err(|errno| refused(proc, errno))?;
    mapped(made, isolation, proc)
}

/// A short-lived process in the outer namespace does it: only from there can the inner maps be written. It shares the
/// descriptor table.
fn below_a_ceiling(isolation: &Isolation, proc: &OwnedFd) -> Result<Made, Error> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let (gate, opener) = pipe2(OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let guard = std::process::id() as i32;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_FILES;
    let Some((pid, _end)) = process::clone_into(flags, false).map_err(|errno| refused(proc, errno))? else {
        return match in_the_outer(isolation, proc, &gate, guard) {
            Ok(None) => Ok(None), // the session's first process, with a table of its own
            Ok(Some((pid, pidfd))) => {
                let numbers = [pid.to_ne_bytes(), pidfd.as_raw_fd().to_ne_bytes()].concat();
                let sent = write(&writer, &numbers).is_ok_and(|n| n == numbers.len());
                if !sent {
                    Error::NotAsGranted("a process could not be told".into()).say();
                }
                // The table is shared: nothing may be closed here, so nothing is dropped.
                process::exit_now(if sent { 0 } else { OURS })
            }
            Err(error) => {
                error.say();
                process::exit_now(OURS)
            }
        };
    };
    let maps = isolation.maps.outer().write(proc, pid);
    if let Err(error) = maps.and_then(|()| write(&opener, b"g").map(drop).map_err(call("write"))) {
        let _ = process::kill(pid, libc::SIGKILL);
        let _ = process::wait(Some(pid), libc::WEXITED);
        return Err(error);
    }
    let [pid, pidfd] = numbers_of(pid, &reader, 2)?[..] else {
        return Err(Error::NotAsGranted("a process did not come back".into()));
    };
    let pidfd = process::adopt(pidfd).ok_or_else(|| Error::NotAsGranted("a descriptor did not come back".into()))?;
    Ok(Some((pid, pidfd)))
}

fn in_the_outer(isolation: &Isolation, proc: &OwnedFd, gate: &OwnedFd, guard: i32) -> Result<Made, Error> {
    // The gate's other end is in the shared table: it would never hang up by itself when the guard is gone.
    capability::set_parent_death_signal(libc::SIGKILL).map_err(call("prctl(PR_SET_PDEATHSIG)"))?;
    let mut word = [0u8; 1];
    if getppid().as_raw() != guard || read(gate, &mut word).map_err(call("read"))? != 1 {
        return Err(Error::Said(OURS));
    }
    limit(proc, b"1")?;
    let made = process::clone_into(isolation.namespaces, true).map_err(call("clone3 into new namespaces"))?;
    mapped(made, isolation, proc)
}

/// Writes the maps of a process just made; without them it is none.
fn mapped(made: Made, isolation: &Isolation, proc: &OwnedFd) -> Result<Made, Error> {
    if let Some((pid, pidfd)) = &made {
        if let Err(error) = isolation.maps.write(proc, *pid) {
            let _ = process::pidfd_signal(pidfd, libc::SIGKILL);
            return Err(error);
        }
    }
    Ok(made)
}

/// The numbers that a short-lived child with the same descriptor table has left in a pipe. Its end is waited for: the
/// pipe has none, since the table is shared. A child that failed has said why.
pub fn numbers_of(child: i32, reader: &OwnedFd, count: usize) -> Result<Vec<i32>, Error> {
    match process::wait(Some(child), libc::WEXITED).map_err(call("waitid"))? {
        Some((_, process::Change::Exited(0))) => {}
        Some((_, process::Change::Signaled(signal))) => {
            return Err(Error::NotAsGranted(format!("signal {signal} ended a part of its making")));
        }
        _ => return Err(Error::Said(OURS)),
    }
    let mut bytes = vec![0u8; count * 4];
    let copy = reader.try_clone().map_err(|_| call("dup")(Errno::EMFILE))?;
    std::fs::File::from(copy).read_exact(&mut bytes).map_err(|e| crate::hygiene::io("read the descriptors", &e))?;
    Ok(bytes.chunks_exact(4).map(|c| i32::from_ne_bytes([c[0], c[1], c[2], c[3]])).collect())
}

/// How many user namespaces there may be below the current one. 0 in the session: a full capability set in one would
/// widen what programs reach in the kernel. The sysctl is the namespace's own (user_namespaces(7), `/proc/sys/user`).
pub fn limit(proc: &OwnedFd, number: &[u8; 1]) -> Result<(), Error> {
    let file = openat(proc, LIMIT, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(call(format!("open /proc/{LIMIT}")))?;
    write(&file, number).map(drop).map_err(call(format!("write to /proc/{LIMIT}")))
}

/// Isolation that was promised is never left out: says which switch stands in the way.
fn refused(proc: &OwnedFd, errno: Errno) -> Error {
    let file = openat(proc, LIMIT, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let value = file.ok().and_then(|file| std::io::read_to_string(std::fs::File::from(file)).ok());
    match (errno, value.as_deref().map(str::trim)) {
        (Errno::ENOSPC, Some("0")) => {
            Error::NoUserNamespace("user.max_user_namespaces is 0 on this machine: root allows them with sysctl")
        }
        (Errno::ENOSPC, _) => Error::NoUserNamespace(
            "as many namespaces as the machine allows are in use (user.max_*_namespaces): end a session",
        ),
        (errno, _) => call("clone3 into new namespaces")(errno),
    }
}
