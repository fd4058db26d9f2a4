//! The session's namespaces and its first process in them.
//!
//! Where the grant holds CAP_SYS_RESOURCE a user namespace stands around the session's, with room for one, or for a part
//! of what its user has (`nested_userns`): who holds it in its own namespace writes any limit of that one (`/proc/sys/user`,
//! user_namespaces(7)), but every level counts, and the level above is nobody's. Else a session with `ALL` could raise
//! `max_user_namespaces` again, and undo `--cap-drop` in a namespace below its own, or take all that is counted as its user's.

use crate::cgroup;
use crate::error::{Error, OURS, call};
use crate::plan::Isolation;
use crate::sys::{Errno, capability, identity, process};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, getppid, pipe2, read, write};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

/// What `process::clone_into` gives: none in the new process.
pub type Made = Option<(i32, OwnedFd)>;

const LIMIT: &str = "max_user_namespaces";
/// What every user has a number of (user_namespaces(7), inotify(7), fanotify(7)). A session's are counted as those of
/// whoever made its namespace, its `owner`, beside those of that user's other sessions.
const COUNTED: [&str; 4] =
    ["max_inotify_instances", "max_inotify_watches", "max_fanotify_groups", "max_fanotify_marks"];
/// So many of them may one session have: a part of what there is.
const PART: u64 = 4;
/// And of the namespaces, where it may make some.
const NAMESPACES: [&str; 7] = [
    "max_mnt_namespaces",
    "max_net_namespaces",
    "max_pid_namespaces",
    "max_ipc_namespaces",
    "max_uts_namespaces",
    "max_cgroup_namespaces",
    "max_time_namespaces",
];

/// One session's part of what its owner has, by name.
#[derive(Debug)]
pub struct Share(Vec<(&'static str, String)>);

impl Share {
    /// In the namespace that counts. `proc` is an open `/proc`.
    pub fn of(isolation: &Isolation, proc: &OwnedFd) -> Result<Self, Error> {
        let namespaces = if isolation.makes_namespaces { &NAMESPACES[..] } else { &[] };
        // Else there are none below the session's: `limit`.
        let users = if isolation.nested { &[LIMIT][..] } else { &[] };
        let mut parts = Vec::with_capacity(COUNTED.len() + NAMESPACES.len() + 1);
        for name in COUNTED.iter().chain(namespaces).chain(users) {
            match read_limit(proc, name) {
                Ok(all) => parts.push((*name, (all / PART).max(1).to_string())),
                Err(Errno::ENOENT) => {} // a kernel without it
                Err(errno) => return Err(call(format!("read /proc/sys/user/{name}"))(errno)),
            }
        }
        Ok(Self(parts))
    }

    /// In the namespace that is to have no more.
    pub fn set(&self, proc: &OwnedFd) -> Result<(), Error> {
        self.0.iter().try_for_each(|(name, part)| write_limit(proc, name, part))
    }
}

fn file(name: &str) -> String {
    format!("sys/user/{name}")
}

fn read_limit(proc: &OwnedFd, name: &str) -> Result<u64, Errno> {
    let mut text = [0u8; 24];
    let file = openat(proc, file(name).as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let length = read(&file, &mut text)?;
    let text = std::str::from_utf8(text.get(..length).unwrap_or_default()).unwrap_or_default();
    text.trim().parse().map_err(|_| Errno::EINVAL)
}

fn write_limit(proc: &OwnedFd, name: &str, value: &str) -> Result<(), Error> {
    let file = openat(proc, file(name).as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(call(format!("open /proc/sys/user/{name}")))?;
    write(&file, value.as_bytes()).map(drop).map_err(call(format!("write to /proc/sys/user/{name}")))
}

/// Makes the session's first process, a child of this one, with its maps written. `proc` is an open `/proc`, `entrance`
/// that of the session's cgroup, if it has one.
pub fn first_process(
    isolation: &Isolation,
    proc: &OwnedFd,
    entrance: Option<&OwnedFd>,
    share: &Share,
) -> Result<Made, Error> {
    if isolation.ceiling || entrance.is_some() {
        return by_another(isolation, proc, entrance, share);
    }
    mapped(clone_owned(isolation, proc, isolation.namespaces, false)?, isolation, proc)
}

/// A process in a user namespace that is owned by, and counted for, an id of the user's own that is nobody's: whoever has the
/// owner's has every capability inside (user_namespaces(7)), as root's processes that hold few would have of root's.
fn clone_owned(isolation: &Isolation, proc: &OwnedFd, namespaces: i32, sibling: bool) -> Result<Made, Error> {
    let clone = || process::clone_into(namespaces, sibling).map_err(|errno| refused(proc, errno));
    let Some(owner) = isolation.owner else { return clone() };
    let made = become_owner(owner).and_then(|()| clone());
    if let Ok(None) = made {
        return made;
    }
    // Whatever has failed.
    become_root().inspect_err(|_| {
        if let Ok(Some((_, pidfd))) = &made {
            let _ = process::pidfd_signal(pidfd, libc::SIGKILL);
        }
    })?;
    made
}

/// In a user namespace that does not map that id they stay root's.
fn become_owner(owner: u32) -> Result<(), Error> {
    let sets = capability::get().map_err(call("capget"))?;
    match identity::set_users(0, owner, 0) {
        Err(Errno::EINVAL) if geteuid().is_root() => return Ok(()),
        done => done.map_err(call(format!("setresuid(0, {owner}, 0)")))?,
    }
    capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?; // which fs.suid_dumpable may have changed
    // The change has emptied the effective set.
    capability::set(sets).map_err(call("capset"))
}

/// Clears what a dying parent would send, as every change of ids does.
fn become_root() -> Result<(), Error> {
    identity::set_user(0).map_err(call("setresuid(0)"))?;
    capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))
}

/// A short-lived process does it: in the outer namespace, if there is one, since only from there can the inner maps be
/// written; and in the session's cgroup, if it has one, since what it makes is born there, and a cgroup namespace begins
/// where its maker is. It shares the descriptor table.
fn by_another(isolation: &Isolation, proc: &OwnedFd, entrance: Option<&OwnedFd>, share: &Share) -> Result<Made, Error> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let (gate, opener) = pipe2(OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let guard = std::process::id() as i32;
    let made = match isolation.ceiling {
        true => clone_owned(isolation, proc, libc::CLONE_NEWUSER | libc::CLONE_FILES, false)?,
        false => process::clone_into(libc::CLONE_FILES, false).map_err(call("clone3"))?,
    };
    let Some((pid, _end)) = made else {
        return match in_between(isolation, proc, entrance, share, (&gate, guard)) {
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
    let maps = if isolation.ceiling { isolation.maps.outer().write(proc, pid) } else { Ok(()) };
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

fn in_between(
    isolation: &Isolation,
    proc: &OwnedFd,
    entrance: Option<&OwnedFd>,
    share: &Share,
    (gate, guard): (&OwnedFd, i32),
) -> Result<Made, Error> {
    // The gate's other end is in the shared table: it would never hang up by itself when the guard is gone.
    capability::set_parent_death_signal(libc::SIGKILL).map_err(call("prctl(PR_SET_PDEATHSIG)"))?;
    let mut word = [0u8; 1];
    if getppid().as_raw() != guard || read(gate, &mut word).map_err(call("read"))? != 1 {
        return Err(Error::Said(OURS));
    }
    if isolation.ceiling {
        // Which is mapped; the inner one is owned by it, and counted here.
        become_root()?;
    }
    entrance.map_or(Ok(()), cgroup::enter)?;
    if isolation.ceiling {
        share.set(proc)?;
        if !isolation.nested {
            limit(proc, "1")?;
        }
    }
    let made = match isolation.ceiling {
        true => process::clone_into(isolation.namespaces, true).map_err(|errno| refused(proc, errno))?,
        false => clone_owned(isolation, proc, isolation.namespaces, true)?,
    };
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
pub fn limit(proc: &OwnedFd, number: &str) -> Result<(), Error> {
    write_limit(proc, LIMIT, number)
}

/// Isolation that was promised is never left out: says which switch stands in the way.
fn refused(proc: &OwnedFd, errno: Errno) -> Error {
    match (errno, read_limit(proc, LIMIT)) {
        (Errno::ENOSPC, Ok(0)) => {
            Error::NoUserNamespace("user.max_user_namespaces is 0 on this machine: root allows them with sysctl")
        }
        (Errno::ENOSPC, _) => Error::NoUserNamespace(
            "as many namespaces as the machine allows a user are in use (user.max_*_namespaces): end a session",
        ),
        (errno, _) => call("clone3 into new namespaces")(errno),
    }
}
