//! A cgroup of a session's own, where its profile has the table `cgroup` (cgroups(7), the kernel's cgroup-v2.rst). It
//! stands beside the caller's, so that what holds for all of a user (systemd's user-UID.slice) goes on holding, and below
//! folders that are root's alone: whoever would leave it needs to write where both ways meet.
//!
//! `caplet-ID` has the limits, and passes the controllers on to its only child, in which the processes are: nobody who
//! manages the folder above can then turn a controller off there (the kernel says EBUSY), and with it the limit.

use crate::error::{Error, call};
use crate::sys::{Errno, mount, standard_cwd};
use caplet_policy::document::Cgroup;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::poll::poll;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat, write};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Where sessions' cgroups stand whose callers are at the top of the tree. It stays.
const UNDER_TOP: &str = "caplet";
/// Where the processes are.
const CHILD: &str = "session";
/// How often it is waited until a killed session's folders can be removed, and how long each time, in milliseconds.
const PAUSES: u32 = 40;
const PAUSE: u16 = 5;
/// For all of others' that a process finds, together: what a user keeps from ending (a FUSE file system that never
/// answers) holds up nobody for long.
static FOR_OTHERS: AtomicU32 = AtomicU32::new(PAUSES);

fn none(why: impl Into<String>) -> Error {
    Error::NoLimits(why.into())
}

/// Where a session's cgroup can be made: every controller that it needs is on there.
#[derive(Debug)]
pub struct Place {
    parent: OwnedFd,
    /// From the top of the tree.
    path: String,
    limits: Cgroup,
}

impl Place {
    /// Refuses before anything of a session is built.
    pub fn prepare(mut limits: Cgroup) -> Result<Self, Error> {
        let own =
            std::fs::read_to_string("/proc/self/cgroup").map_err(|e| crate::hygiene::io("read own cgroup", &e))?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let parent = top().map_err(|errno| none(format!("{} cannot be opened: {}", super::TREE, errno.desc())))?;
        let there = read(&parent, "cgroup.controllers").map_err(|errno| match errno {
            Errno::ENOENT => {
                none(format!("{} is no cgroup v2; root: boot with systemd.unified_cgroup_hierarchy=1", super::TREE))
            }
            errno => call(format!("read {}/cgroup.controllers", super::TREE))(errno),
        })?;
        let mut place = Self { parent, path: String::new(), limits };
        let (mut way, mut below) = (Vec::new(), String::new());
        let mut names = own.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if name == ".." {
                return Err(none("the caller's cgroup is outside of what is mounted on this machine"));
            }
            let next = folder(&place.parent, &format!("{below}{name}"))
                .map_err(call(format!("open cgroup {}/{below}{name}", place.path)))?;
            // Not where the caller is, and not what is delegated: a user moves processes there at will.
            if below.is_empty() && names.peek().is_some() && is_roots(&next)? {
                let next = Self { parent: next, path: format!("{}/{name}", place.path), limits };
                way.push(std::mem::replace(&mut place, next));
            } else {
                // What is left out on the way limits the session too.
                limits = no_more_than(limits, &next)?;
                below = format!("{below}{name}/");
            }
        }
        place.limits = limits;
        let needed = controllers(&limits);
        if let Some(missing) = needed.iter().find(|name| !has(&there, name)) {
            return Err(none(format!(
                "this machine's cgroup v2 has no controller \"{missing}\" (cgroup v1 may hold it)"
            )));
        }
        way.iter().chain([&place]).try_for_each(|place| place.turn_on(&needed))?;
        if !place.path.is_empty() {
            return Ok(place);
        }
        // Nobody may write to the top folder (its mode is 0555) but who overrides modes, which a guard does not.
        let made = mkdirat(&place.parent, UNDER_TOP, Mode::from_bits_truncate(0o755));
        let parent = match made {
            Ok(()) | Err(Errno::EEXIST) => folder(&place.parent, UNDER_TOP).map_err(call("open a cgroup"))?,
            Err(errno) => return Err(none(format!("none can be made in {}: {}", super::TREE, errno.desc()))),
        };
        if made.is_ok() {
            open_to_all(&parent)?;
        }
        if !is_roots(&parent)? {
            return Err(none(format!("{}/{UNDER_TOP} is not root's", super::TREE)));
        }
        place = Self { parent, path: format!("/{UNDER_TOP}"), ..place };
        place.turn_on(&needed)?;
        Ok(place)
    }

    /// The controllers, for what is below this folder.
    fn turn_on(&self, needed: &[&str]) -> Result<(), Error> {
        let on = read(&self.parent, "cgroup.subtree_control").map_err(call("read cgroup.subtree_control"))?;
        for name in needed.iter().filter(|name| !has(&on, name)) {
            put(&self.parent, "cgroup.subtree_control", &format!("+{name}")).map_err(|errno| {
                let folder = format!("{}{}", super::TREE, self.path);
                none(format!("controller \"{name}\" cannot be turned on in {folder}: {}", errno.desc()))
            })?;
        }
        Ok(())
    }

    /// Where the cgroup of a session of that id is going to be, for its record: made by [`Place::make`].
    pub fn path_of(&self, id: &str) -> String {
        format!("{}/{}", self.path, name_of(id))
    }

    /// Makes it, with its limits; nothing is left of one that failed.
    pub fn make(self, id: &str) -> Result<Own, Error> {
        let name = name_of(id);
        mkdirat(&self.parent, name.as_str(), Mode::from_bits_truncate(0o755))
            .map_err(|errno| none(format!("none can be made in {}{}: {}", super::TREE, self.path, errno.desc())))?;
        self.furnish(&name)
            .inspect_err(|_| {
                let _ = remove(&self.parent, &name, &AtomicU32::new(PAUSES));
            })
            .map(|(entrance, killer)| Own { parent: self.parent, name, entrance, killer })
    }

    fn furnish(&self, name: &str) -> Result<(OwnedFd, OwnedFd), Error> {
        let folder = folder(&self.parent, name).map_err(call("open a cgroup"))?;
        let set = |name: &str, value: String| {
            put(&folder, name, &value)
                .map_err(|errno| none(format!("{name} cannot be set to {value}: {}", errno.desc())))
        };
        let Cgroup { tasks, memory, cpu } = self.limits;
        tasks.map_or(Ok(()), |tasks| set("pids.max", tasks.to_string()))?;
        if let Some(bytes) = memory {
            set("memory.max", bytes.to_string())?;
            no_swap(&folder)?;
        }
        cpu.map_or(Ok(()), |percent| set("cpu.max", format!("{} {PERIOD}", u64::from(percent) * (PERIOD / 100))))?;
        for name in controllers(&self.limits) {
            set("cgroup.subtree_control", format!("+{name}"))?;
        }
        mkdirat(&folder, CHILD, Mode::from_bits_truncate(0o755)).map_err(call("make a cgroup"))?;
        let child = self::folder(&folder, CHILD).map_err(call("open a cgroup"))?;
        [&folder, &child].into_iter().try_for_each(open_to_all)?;
        let open = |folder: &OwnedFd, name: &str| {
            openat(folder, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(call(format!("open {name}")))
        };
        Ok((open(&child, "cgroup.procs")?, open(&folder, "cgroup.kill")?))
    }
}

/// cpu.max's period, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

/// The lesser of each, where that folder has limits of its own.
fn no_more_than(limits: Cgroup, folder: &OwnedFd) -> Result<Cgroup, Error> {
    let text = |name: &str| match read(folder, name) {
        Ok(text) => Ok(text),
        Err(Errno::ENOENT) => Ok(String::new()), // the controller is not on there
        Err(errno) => Err(call(format!("read {name} of the caller's cgroup"))(errno)),
    };
    Ok(least(limits, &text("pids.max")?, &text("memory.max")?, &text("cpu.max")?))
}

/// "max" is no limit; cpu.max is a time and the period in which it may be used.
fn least(limits: Cgroup, tasks: &str, memory: &str, cpu: &str) -> Cgroup {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let cpu = cpu.trim().split_once(' ').and_then(|(time, period)| Some((number(time)?, number(period)?)));
    let cpu = cpu.map(|(time, period)| time.saturating_mul(100).checked_div(period).unwrap_or(u64::MAX).max(1));
    Cgroup {
        tasks: limits.tasks.into_iter().chain(number(tasks).map(narrow)).min(),
        memory: limits.memory.into_iter().chain(number(memory)).min(),
        cpu: limits.cpu.into_iter().chain(cpu.map(narrow)).min(),
    }
}

/// Memory that a limit drives out to disk is the whole machine's loss. A kernel without swap has no such file.
fn no_swap(folder: &OwnedFd) -> Result<(), Error> {
    match put(folder, "memory.swap.max", "0") {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT) if !std::path::Path::new("/proc/swaps").exists() => Ok(()),
        Err(Errno::ENOENT) => Err(none("this kernel does not count swap; root: boot with swapaccount=1")),
        Err(errno) => Err(none(format!("memory.swap.max cannot be set: {}", errno.desc()))),
    }
}

/// A session's cgroup. Whoever holds this is not in it.
#[derive(Debug)]
pub struct Own {
    parent: OwnedFd,
    name: String,
    /// cgroup.procs of where the processes are.
    entrance: OwnedFd,
    /// cgroup.kill of all of it.
    killer: OwnedFd,
}

impl Own {
    /// The way in: [`enter`].
    pub fn entrance(&self) -> &OwnedFd {
        &self.entrance
    }

    /// For [`kill_all`]; `None` where no descriptor is left.
    pub fn killer(&self) -> Option<OwnedFd> {
        self.killer.try_clone().ok()
    }

    /// A detached mount of the folder above stands for it from here on: `..` leads nowhere.
    pub fn enclose(&mut self) -> Result<(), Error> {
        self.parent = mount::clone_tree(&self.parent, "", false).map_err(call("open_tree a cgroup"))?;
        Ok(())
    }

    /// Kills whoever is left in it and takes it away; whether it is gone.
    pub fn remove(&self) -> bool {
        kill_all(&self.killer);
        remove(&self.parent, &self.name, &AtomicU32::new(PAUSES))
    }
}

/// This process moves there, with the rights of whoever opened the descriptor. Its children are born there.
pub fn enter(entrance: &OwnedFd) -> Result<(), Error> {
    write(entrance, b"0").map(drop).map_err(call("enter the session's cgroup"))
}

/// SIGKILL to everybody in it, also to those who are just being born. One that is gone has nobody in it.
pub fn kill_all(killer: &OwnedFd) {
    let _ = write(killer, b"1");
}

/// Takes the cgroup of a session away whose guard was killed, with whoever is left in it; whether it is gone.
pub fn bury(path: &str, id: &str) -> bool {
    let Some((above, name)) = path.rsplit_once('/').filter(|(_, name)| *name == name_of(id)) else { return true };
    let mut names = above.split('/').filter(|name| !name.is_empty());
    let parent = match top().and_then(|top| names.try_fold(top, |above, name| folder(&above, name))) {
        Ok(parent) => parent,
        Err(errno) => return errno == Errno::ENOENT, // else it may be there, and its record has to stay
    };
    if let Ok(own) = folder(&parent, name) {
        let killer = openat(&own, "cgroup.kill", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
        killer.iter().for_each(kill_all);
    }
    remove(&parent, name, &FOR_OTHERS)
}

fn remove(parent: &OwnedFd, name: &str, pauses: &AtomicU32) -> bool {
    let gone = |path: &str| match unlinkat(parent, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Some(true),
        // The last of it are still ending.
        Err(Errno::EBUSY | Errno::EINTR | Errno::EAGAIN) => None,
        Err(_) => Some(false),
    };
    loop {
        match (gone(&format!("{name}/{CHILD}")), gone(name)) {
            (Some(true), Some(true)) => return true,
            (Some(false), _) | (_, Some(false)) => return false,
            _ if pauses.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() => return false,
            _ => drop(poll(&mut [], PAUSE)),
        }
    }
}

fn name_of(id: &str) -> String {
    format!("caplet-{id}")
}

fn controllers(limits: &Cgroup) -> Vec<&'static str> {
    let of = [("pids", limits.tasks.is_some()), ("memory", limits.memory.is_some()), ("cpu", limits.cpu.is_some())];
    of.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name).collect()
}

fn has(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|word| word == name)
}

fn top() -> Result<OwnedFd, Errno> {
    folder(standard_cwd(), super::TREE)
}

fn folder(above: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    mount::openat2(above, name, libc::O_RDONLY | libc::O_DIRECTORY, mount::RESOLVE_NO_SYMLINKS)
}

/// Everybody may look into it, as into all of the tree: the helper's umask took that away.
fn open_to_all(folder: &OwnedFd) -> Result<(), Error> {
    fchmod(folder, Mode::from_bits_truncate(0o755)).map_err(call("chmod a cgroup"))
}

/// Whether nobody but root makes folders in it or moves processes into it.
fn is_roots(folder: &OwnedFd) -> Result<bool, Error> {
    let sound = |stat: FileStat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0;
    let own = fstat(folder).map_err(call("fstat a cgroup"))?;
    let list = fstatat(folder, "cgroup.procs", AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fstat cgroup.procs"))?;
    Ok(sound(own) && sound(list))
}

fn read(folder: &OwnedFd, name: &str) -> Result<String, Errno> {
    let file = openat(folder, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    std::io::read_to_string(File::from(file)).map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// The kernel takes all of a value or none.
fn put(folder: &OwnedFd, name: &str, value: &str) -> Result<(), Errno> {
    let file = openat(folder, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(file.as_fd(), value.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_limited_needs_a_controller() {
        let limits = |tasks, memory, cpu| controllers(&Cgroup { tasks, memory, cpu });
        assert_eq!(limits(Some(9), None, None), ["pids"]);
        assert_eq!(limits(None, Some(1 << 30), Some(50)), ["memory", "cpu"]);
        assert!(has("cpuset cpu io memory\n", "cpu") && !has("cpuset io\n", "cpu"));
    }

    #[test]
    fn nobody_gets_more_than_where_they_came_from() {
        let limits = |tasks, memory, cpu| Cgroup { tasks, memory, cpu };
        let asked = limits(Some(100), None, Some(150));
        assert_eq!(least(asked, "max\n", "max\n", "max 100000\n"), asked);
        assert_eq!(least(asked, "", "", ""), asked);
        assert_eq!(least(asked, "40\n", "1048576\n", "50000 100000\n"), limits(Some(40), Some(1 << 20), Some(50)));
        assert_eq!(least(asked, "4000\n", "max\n", "200000 100000\n"), asked);
        assert_eq!(least(asked, "9999999999\n", "0\n", "1 1000000\n"), limits(Some(100), Some(0), Some(1)));
    }

    #[test]
    fn nothing_but_a_sessions_own_is_ever_removed() {
        let folder = std::env::temp_dir().join(format!("caplet-own-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("caplet-ab/session")).unwrap();
        let parent = OwnedFd::from(File::open(&folder).unwrap());
        let remove = |name: &str| remove(&parent, name, &AtomicU32::new(1));
        assert!(remove("caplet-ab") && remove("caplet-ab"));
        assert!(!folder.join("caplet-ab").exists());
        std::fs::create_dir_all(folder.join("caplet-cd/other")).unwrap();
        assert!(!remove("caplet-cd"), "somebody's folder is in it");
        std::fs::remove_dir_all(folder).unwrap();
        // A record's path that is not this session's names nothing.
        assert!(bury("/user.slice", "ab") && bury("", "ab"));
    }
}
