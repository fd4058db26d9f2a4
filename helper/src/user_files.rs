//! A short-lived child, twice useful: as root in the session's network, ipc and pid namespaces it makes the kernel's
//! own file systems, and the session's link where it has one of its own; then, with all of its ids the user's, it opens
//! what the user has a hand in (on FUSE and root_squash NFS nothing less will do). It shares the descriptor table with
//! the guard, so that what it opens is simply there; only numbers go over the pipe.

use crate::agent::{self, Agent};
use crate::caller::Person;
use crate::error::{Error, OURS, call};
use crate::lan::Place;
use crate::plan::Isolation;
use crate::rootfs::KernelMounts;
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID};
use crate::sys::{Errno, process, standard_cwd};
use crate::{namespaces, network};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;

/// Places that the user opened.
#[derive(Debug)]
pub struct UserFiles {
    /// `None`: there is no home, or the user cannot enter it.
    pub home: Option<OwnedFd>,
    pub home_parent: Option<OwnedFd>,
    pub writable: Vec<(String, OwnedFd)>,
    pub agent: Option<(Agent, OwnedFd)>,
}

/// Runs the child. `session` is a pidfd of the process that holds the session's namespaces. The descriptor that comes
/// last is that of a link that was made in the session.
pub fn open(
    isolation: &Isolation,
    person: &Person,
    proc: &OwnedFd,
    session: &OwnedFd,
    relay: BorrowedFd<'_>,
    place: Option<&Place>,
    power_is_real: bool,
) -> Result<(KernelMounts, UserFiles, Option<OwnedFd>), Error> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(call("pipe"))?;
    let Some((pid, child_end)) = process::clone_into(libc::CLONE_FILES, false).map_err(call("clone3(CLONE_FILES)"))?
    else {
        let numbers = child(isolation, person, proc, session, place, power_is_real).unwrap_or_else(|error| {
            error.say();
            process::exit_now(OURS)
        });
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let sent = nix::unistd::write(&writer, &bytes).is_ok_and(|n| n == bytes.len());
        if !sent {
            Error::NotAsGranted("what was opened for it could not be told".into()).say();
        }
        // The table is shared: nothing may be closed here, so nothing is dropped.
        process::exit_now(if sent { 0 } else { OURS });
    };
    let expected = 8 + isolation.tree.writable.len();
    let numbers = wait_for(&reader, relay, (pid, &child_end), expected);
    drop(writer);
    let numbers = numbers?;
    let mut numbers = numbers.into_iter();
    let missing = || Error::NotAsGranted("a descriptor did not come back".into());
    let mut next = || numbers.next().and_then(process::adopt);
    let kernel = KernelMounts {
        proc: next().ok_or_else(missing)?,
        sys: next().ok_or_else(missing)?,
        mqueue: next().ok_or_else(missing)?,
    };
    let link = next();
    let (home, home_parent) = (next(), next());
    let mut writable = Vec::new();
    for path in &isolation.tree.writable {
        writable.push((path.clone(), next().ok_or_else(missing)?));
    }
    let connection = next();
    let agent = isolation.agent.clone().zip(next()).filter(|_| connection.is_some_and(agent::is_our_sshds));
    Ok((kernel, UserFiles { home, home_parent, writable, agent }, link))
}

/// Waits for the child's end. Gives up when the relay is gone, for a dead file server can hold the child for ever.
fn wait_for(
    reader: &OwnedFd,
    relay: BorrowedFd<'_>,
    (child, end): (i32, &OwnedFd),
    expected: usize,
) -> Result<Vec<i32>, Error> {
    let mut waits = [PollFd::new(end.as_fd(), PollFlags::POLLIN), PollFd::new(relay, PollFlags::POLLHUP)];
    while !matches!(poll(&mut waits, PollTimeout::NONE), Ok(n) if n > 0) {}
    let gone = waits[1].revents().is_some_and(|e| e.intersects(PollFlags::POLLHUP | PollFlags::POLLERR));
    if gone {
        let _ = process::kill(child, libc::SIGKILL);
        return Err(Error::Said(OURS));
    }
    namespaces::numbers_of(child, reader, expected)
}

fn child(
    isolation: &Isolation,
    person: &Person,
    proc: &OwnedFd,
    session: &OwnedFd,
    place: Option<&Place>,
    power_is_real: bool,
) -> Result<Vec<i32>, Error> {
    let mut namespaces = libc::CLONE_NEWIPC;
    if isolation.private_network {
        namespaces |= libc::CLONE_NEWNET;
    }
    process::setns(session, namespaces).map_err(|errno| match errno {
        Errno::ESRCH => Error::Said(OURS), // PID 1 has ended, and has said why
        errno => call("setns to the session")(errno),
    })?;
    let mut link = None;
    if isolation.private_network {
        network::prepare(proc, power_is_real)?;
        link = place.map_or(Ok(None), Place::settle)?;
    }
    let plain = NOSUID | NODEV | NOEXEC;
    let mut numbers = Vec::new();
    for kind in ["proc", "sysfs", "mqueue"] {
        let fs = mount::new_filesystem(kind, &[], plain).map_err(call(format!("new {kind}")))?;
        numbers.push(fs.into_raw_fd());
    }
    numbers.push(link.map_or(-1, IntoRawFd::into_raw_fd));
    if power_is_real {
        person.become_again(None)?;
    }
    let tree = &isolation.tree;
    numbers.push(open_home(&tree.home, person.uid).map_err(call("open the home"))?);
    let parent = tree.home_mask.as_deref().and_then(|mask| folder(mask, 0).ok());
    numbers.push(parent.map_or(-1, IntoRawFd::into_raw_fd));
    for path in &tree.writable {
        let opened = folder(Path::new(path), mount::RESOLVE_NO_SYMLINKS);
        let why = |errno: Errno| {
            Error::Unsupported(format!("the profile's writable path {path} cannot be opened as you: {}", errno.desc()))
        };
        numbers.push(opened.map_err(why)?.into_raw_fd());
    }
    let agent = isolation.agent.as_ref().and_then(|agent| agent.open(person.uid));
    let (socket, connection) =
        agent.map_or((-1, -1), |(socket, connection)| (socket.into_raw_fd(), connection.into_raw_fd()));
    numbers.extend([connection, socket]);
    Ok(numbers)
}

fn folder(path: &Path, resolve: u64) -> Result<OwnedFd, Errno> {
    mount::openat2(standard_cwd(), path, libc::O_PATH, resolve | mount::RESOLVE_NO_MAGICLINKS)
}

/// What says that there is no home which the user could enter. Anything else says that the kernel could not answer.
const NO_HOME: [Errno; 14] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::EACCES,
    Errno::ELOOP,
    Errno::ENAMETOOLONG,
    Errno::EXDEV,
    Errno::ESTALE,
    Errno::ENOTCONN,
    Errno::EIO,
    Errno::ENXIO,
    Errno::ENODEV,
    Errno::ETIMEDOUT,
    Errno::EHOSTDOWN,
    Errno::EHOSTUNREACH,
];

/// The home's descriptor, or -1. Through a symbolic link only where it leads to a folder of the user's own: a home
/// replaced by a link must not bring another's home in (CVE-2017-5180).
fn open_home(home: &Path, uid: u32) -> Result<i32, Errno> {
    let opened = match folder(home, mount::RESOLVE_NO_SYMLINKS) {
        Err(Errno::ELOOP) => folder(home, 0).and_then(|fd| {
            let stat = nix::sys::stat::fstat(&fd)?;
            if stat.st_uid == uid { Ok(fd) } else { Err(Errno::EACCES) }
        }),
        opened => opened,
    };
    let looked = opened.and_then(|fd| Ok((nix::sys::stat::fstat(&fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR, fd)));
    match looked {
        Ok((true, fd)) if crate::rootfs::is_laid_over(&fd)? => Ok(-1),
        Ok((true, fd)) => Ok(fd.into_raw_fd()),
        Ok((false, _)) => Ok(-1),
        Err(errno) if NO_HOME.contains(&errno) => Ok(-1),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// What is opened: a folder's inode, or none.
    fn home(path: &Path, uid: u32) -> Option<u64> {
        let opened = process::adopt(open_home(path, uid).expect("an answer"))?;
        Some(nix::sys::stat::fstat(opened).expect("fstat").st_ino)
    }

    #[test]
    fn a_home_is_a_folder_and_through_a_link_only_the_users_own() {
        let uid = nix::unistd::getuid().as_raw();
        let top = std::env::temp_dir().join(format!("caplet-unit-home-{}", std::process::id()));
        let real = top.join("real");
        std::fs::create_dir_all(&real).unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        symlink("real", top.join("link")).unwrap();
        symlink("file", top.join("to-file")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let found = |name: &str, uid| home(&top.join(name), uid);
        let own = nix::sys::stat::stat(&real).unwrap().st_ino;
        let seen = [found("real", uid), found("real", uid + 1), found("link", uid)];
        let unseen = [
            found("link", uid + 1),
            found("file", uid),
            found("to-file", uid),
            found("loop", uid),
            found("nothing", uid),
            found("file/below", uid),
            home(Path::new("/"), uid),
            home(Path::new("/tmp"), uid),
        ];
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(seen, [Some(own); 3]);
        assert_eq!(unseen, [None; 8]);
        let endless = "x".repeat(300);
        assert_eq!(home(&top.join(endless), uid), None, "a name that no kernel takes");
    }
}
